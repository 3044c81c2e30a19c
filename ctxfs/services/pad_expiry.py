"""Expiry of pads: a pad without a change for `[pad] expire` of memory.toml is archived, and never deleted.

A pad is a folder or a file directly below pad/. Its files stay readable by path, and leave search and contexts. Pinned
and frozen files keep their state. The sweep is bounded; reads do not start it.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from ctxfs.context.delivery.expiry import TreeWriter
from ctxfs.memory.states import ARCHIVED, FROZEN, RETIRED, STATE_ATTRIBUTE, state_of
from ctxfs.model.change import SetMeta
from ctxfs.model.entry import Entry
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.supervise import repeat

log = logging.getLogger(__name__)

PAD = Path(("pad",))
_FIRST_SWEEP_SECONDS = 60.0
_SWEEP_SECONDS = 86_400.0
_MAX_FILES = 20_000  # of one sweep; the next one continues, because archived files are skipped
_MAX_PAD_FILES = 2_000
_PINNED = f"{PREFIX}pinned"
_NS = 10**9


class PadExpiry:
    """The archiving of unused pads. `seconds` returns the period of memory.toml; 0: nothing expires."""

    def __init__(self, tree: Mount, writer: TreeWriter, seconds: Callable[[], int]) -> None:
        self._tree = tree
        self._writer = writer
        self._seconds = seconds

    async def run(self) -> None:
        """Archive unused pads once a day, forever."""
        failure = "unused pads cannot be archived"
        await repeat(lambda: self.sweep(time.time_ns()), _SWEEP_SECONDS, log, failure, _FIRST_SWEEP_SECONDS)

    async def sweep(self, now_ns: int) -> list[str]:
        """Archive the pads that are unused at `now_ns`; return the paths of their files."""
        seconds = self._seconds()
        if not seconds:
            return []
        archived: list[str] = []
        count = 0
        for entry in await self._tree.list(PAD):
            files, last_ns = await self._read_pad(PAD / entry.name, entry)
            count += len(files)
            if files and last_ns < now_ns - seconds * _NS:
                active = [path for path in files if await self._is_active(path)]
                changes = [SetMeta(path, STATE_ATTRIBUTE, ARCHIVED.encode()) for path in active]
                if changes:
                    await self._writer.apply(changes, f"pad/{entry.name} was not used for {seconds // 86_400} days")
                    archived += map(str, active)
            if count > _MAX_FILES:
                break
        return archived

    async def _read_pad(self, root: Path, entry: Entry) -> tuple[list[Path], int]:
        """Return the files of a pad, and the time of its last change in nanoseconds.

        Return no files for a pad with more than _MAX_PAD_FILES, because an unread file may be new.
        """
        if entry.kind == "file":
            return [root], (await self._tree.stat(root)).mtime_ns
        files, pending, last_ns = list[Path](), [root] if entry.is_dir else [], 0
        while pending:
            folder = pending.pop()
            with suppress(FileNotFoundError):
                last_ns = max(last_ns, (await self._tree.stat(folder)).mtime_ns)
                for child in await self._tree.list(folder):
                    path = folder / child.name
                    if child.is_dir:
                        pending.append(path)
                    elif child.kind == "file":
                        files.append(path)
                        last_ns = max(last_ns, (await self._tree.stat(path)).mtime_ns)
            if len(files) > _MAX_PAD_FILES:
                return [], 0
        return files, last_ns

    async def _is_active(self, path: Path) -> bool:
        try:
            attributes = await self._tree.metadata(path)
        except OSError:
            return False
        return state_of(attributes) not in (FROZEN, *RETIRED) and attributes.get(_PINNED) != b"true"
