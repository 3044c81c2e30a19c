"""Which tools there are: those that come with ctxfs, and folders of `<store>/tools` that a person has approved as they are.

`<store>/tools.json` keeps the sha256 of each approved folder, files and names. A folder that has changed since is refused until it is
approved again.
"""

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.exec.definition import MANIFEST, NAME, Tool, parse_tool
from ctxfs.model.errors import CommandError, not_found
from ctxfs.store.config import replace_file
from ctxfs.store.lock import held

_MOST_FILES = 1000
_MOST_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as it is offered; `refusal` says why it does not run, if it does not."""

    tool: Tool
    refusal: str = ""


class ToolCatalog:
    """Methods block for a moment; several processes may use the same folders."""

    def __init__(self, builtin: HostPath, own: HostPath, approvals: HostPath) -> None:
        self._builtin = builtin
        self._own = own
        self._approvals = approvals
        self._known: dict[HostPath, tuple[object, Tool | CommandError]] = {}

    def tools(self) -> tuple[dict[str, Tool], dict[str, str]]:
        """(tools by name, folder → why it is no tool), whether they run or not. The store's own stand for no built-in one."""
        found: dict[str, Tool] = {}
        faults: dict[str, str] = {}
        for root, builtin in ((self._builtin, True), (self._own, False)):
            for folder in _folders(root):
                try:
                    tool = self._read_once(folder, builtin=builtin)
                    if tool.name in found:
                        raise CommandError(
                            f"tool '{tool.name}': there is a built-in one of this name", "rename its folder"
                        )
                    found[tool.name] = tool
                except CommandError as error:
                    faults[folder.name] = error.message
        return dict(sorted(found.items())), faults

    def offered(self) -> tuple[list[Offered], dict[str, str]]:
        """The same, with what keeps each from running: every file of the store's own is read."""
        tools, faults = self.tools()
        approved = self._approved()
        return [Offered(tool, self._refusal(tool, approved)) for tool in tools.values()], faults

    def find(self, name: str) -> Offered:
        """One of them. ENOENT."""
        tool = self.tools()[0].get(name)
        if tool is None:
            raise not_found(f"tools/{name}")
        return Offered(tool, self._refusal(tool, self._approved()))

    def _read_once(self, folder: HostPath, *, builtin: bool) -> Tool:
        """A definition is read again when its file is another."""
        try:
            seen = (folder / MANIFEST).stat()
        except OSError as error:
            raise CommandError(f"tool '{folder.name}': {error.strerror}", f"mend its {MANIFEST}") from error
        stamp = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        known = self._known.get(folder)
        if known is None or known[0] != stamp:
            try:
                known = (stamp, _read(folder, builtin=builtin))
            except CommandError as error:
                known = (stamp, error)
            self._known[folder] = known
        if isinstance(known[1], CommandError):
            raise CommandError(known[1].message, known[1].remedy)
        return known[1]

    def approve(self, name: str) -> Tool:
        """From now on this tool runs as it is now. CommandError for a folder that is no tool."""
        folder = self._own / name
        if not NAME.fullmatch(name) or not (folder / MANIFEST).is_file():
            raise CommandError(f"there is no tool '{name}' in {self._own}", f"put a folder with a {MANIFEST} there")
        tool = _read(folder, builtin=False)
        digest = digest_of(folder)
        with held(self._approvals.parent):
            known = dict(self._approved())
            known[name] = digest
            replace_file(self._approvals, json.dumps(known, indent=1).encode(), mode=0o600)
        return tool

    def _refusal(self, tool: Tool, approved: Mapping[str, str]) -> str:
        if tool.builtin:
            return ""
        if tool.name not in approved:
            return "it has not been approved"
        try:
            return (
                ""
                if digest_of(HostPath(tool.folder)) == approved[tool.name]
                else "it has changed since it was approved"
            )
        except (OSError, CommandError) as error:
            return str(error)

    def _approved(self) -> Mapping[str, str]:
        try:
            found = json.loads(self._approvals.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise CommandError(
                f"'{self._approvals}' cannot be read: {error}", "delete it, and approve tools anew"
            ) from error
        return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def digest_of(folder: HostPath) -> str:
    """sha256 over the names, modes and contents of a folder's files. CommandError if there are too many, or links out of it."""
    total, digest = 0, hashlib.sha256()
    for number, file in enumerate(_files(folder)):
        if file.is_symlink():
            raise CommandError(f"'{file}' is a link: what it leads to could change unseen", "put the file itself there")
        data = file.read_bytes()
        total += len(data)
        if number >= _MOST_FILES or total > _MOST_BYTES:
            raise CommandError(
                f"'{folder}' holds more than {_MOST_FILES} files or {_MOST_BYTES} bytes", "make it smaller"
            )
        mode = file.stat().st_mode & 0o111
        digest.update(f"{file.relative_to(folder)}\0{mode:o}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
        digest.update(data)
    return digest.hexdigest()


def _files(folder: HostPath) -> Iterator[HostPath]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted([*names, *(each for each in folders if (HostPath(place) / each).is_symlink())]):
            yield HostPath(place) / name


def _folders(root: HostPath) -> list[HostPath]:
    try:
        names = sorted(os.listdir(root))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [root / name for name in names if (root / name / MANIFEST).is_file()]


def _read(folder: HostPath, *, builtin: bool) -> Tool:
    try:
        data = tomllib.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CommandError(f"tool '{folder.name}': {error}", f"mend its {MANIFEST}") from error
    return parse_tool(folder.name, str(folder), data, builtin=builtin)
