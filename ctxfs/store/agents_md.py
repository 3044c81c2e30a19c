"""A block in a project's AGENTS.md with the mount point of the tree: added on request, removed at unmount."""

import contextlib
import json
import re
from pathlib import Path as HostPath

from ctxfs.model.errors import CommandError
from ctxfs.model.line_ends import convert_line_ends, line_end_of
from ctxfs.store import rooted_fs
from ctxfs.store.durable_file import replace_file

_BEGIN, _END = "<!-- ctxfs: begin -->", "<!-- ctxfs: end -->"
_BLOCK = re.compile(
    rf"(?:\n\n|\r\n\r\n|\r\r)?{re.escape(_BEGIN)}(?:(?!{re.escape(_BEGIN)}).)*?{re.escape(_END)}(?:\r?\n|\r)?",
    re.DOTALL,
)
_BLANKS = "\ufeff \t\r\n"  # with the byte order mark, which stays at the begin of the file
_RECORDS_NAME = "announced.json"
_MAX_BYTES = 4_000_000


class AgentsMdFiles:
    """The files with a block of each mount point, recorded in `<run>/announced.json` for removal by another process."""

    def __init__(self, run: HostPath) -> None:
        self._file = run / _RECORDS_NAME

    def add_block(self, file: HostPath, mount_point: str) -> None:
        """Add or replace the block for a mount point; raise CommandError if the file cannot be written."""
        try:
            before = _read(file) if file.exists() else ""
            line_end = line_end_of(before)
            block = (
                f"{_BEGIN}\nContext (knowledge, memory, search as paths) is mounted at `{mount_point}`; "
                f"read `{mount_point}/AGENTS.md` before you search or remember.\n{_END}\n"
            )
            rest = _BLOCK.sub("", before)
            after = f"{rest.rstrip()}{2 * line_end}" if rest.strip(_BLANKS) else rest.strip()
            _write(file, after + convert_line_ends(block, line_end))
            records = self._read_records()
            records[mount_point] = str(file.resolve())
            replace_file(self._file, json.dumps(records).encode())
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"'{file}' cannot be written: {error}", "the tree is mounted all the same") from error

    def remove_blocks(self, mount_point: str = "") -> list[str]:
        """Remove the blocks of a mount point, or of all, and return the changed files; the text around them stays."""
        records, changed = self._read_records(), []
        for recorded, name in list(records.items()):
            if mount_point and recorded != mount_point:
                continue
            file = HostPath(name)
            with contextlib.suppress(OSError, UnicodeDecodeError):  # deleted or replaced: no block is left
                before = _read(file)
                after = _BLOCK.sub("", before)
                if after != before:
                    changed.append(name)
                    _write(file, after.rstrip() + line_end_of(before)) if after.strip(_BLANKS) else file.unlink()
            del records[recorded]
        if records or self._file.exists():
            replace_file(self._file, json.dumps(records).encode())
        return changed

    def _read_records(self) -> dict[str, str]:
        try:
            records = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return (
            {str(mount_point): str(file) for mount_point, file in records.items()} if isinstance(records, dict) else {}
        )


def _read(file: HostPath) -> str:
    """Return the text of a project's file, which may be a link, but must be regular and bounded."""
    return rooted_fs.read_path(file.resolve(), _MAX_BYTES).decode("utf-8")


def _write(file: HostPath, text: str) -> None:
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o644
    replace_file(file.resolve(), text.encode("utf-8"), mode)
