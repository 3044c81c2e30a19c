"""The mount .ctxfs/: status, whoami, mounts and errors.jsonl of the store, and the files of rules that people write.

Reachable by name only.
"""

import errno
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ctxfs.model.change import Change, Move, Put, Remove
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, not_permitted, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path

Produce = Callable[[], Awaitable[bytes]]
Take = Callable[[bytes], Awaitable[None]]
_MAX_TEMPORARY_FILES = 20
_MAX_TEMPORARY_BYTES = 1_000_000
_MAX_TEMPORARY_SECONDS = 3600


class ControlMount(Mount):
    """A flat directory of files that are generated on read.

    Editors replace a file by a temporary one, or keep a copy of it. So a caller that `may_edit` can create other files
    here. They are in memory, are visible to such callers only, and are dropped after an hour.
    """

    def __init__(
        self,
        files: Mapping[str, Produce],
        writers: Mapping[str, Take] | None = None,
        may_edit: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take the producers of files; `writers` maps writable files to the consumers of their content."""
        self._files = dict(files)
        self._writers = dict(writers or {})
        self._may_edit = may_edit
        self._temporary: dict[str, tuple[bytes, float]] = {}  # content and time of the last write

    async def stat(self, path: Path) -> Entry:
        """Return an entry whose size is that of a read at this moment."""
        if path.is_root:
            return directory("", mode=0o755 if self._writers and self._may_edit() else 0o555)
        is_writable = str(path) in self._writers or str(path) in self._visible_temporary()
        return snapshot(path.name, await self.read(path), mode=0o644 if is_writable else 0o444)

    async def apply(self, change: Change) -> None:
        """Write a writable file, or change a temporary one; raise EPERM for other changes."""
        name = str(change.path)
        if isinstance(change, Put) and name in self._writers:
            await self._writers[name](change.data)
        elif not self._writers or not self._may_edit():
            await self.stat(change.path)
            raise not_permitted(change.path)
        elif isinstance(change, Put) and name not in self._files and len(change.path.parts) == 1:
            self._put_temporary(change.path, change.data)
        elif isinstance(change, Move) and len(change.to.parts) == 1:
            await self._move(change)
        elif isinstance(change, Remove) and name in self._visible_temporary():
            del self._temporary[name]
        else:
            await self.stat(change.path)
            raise not_permitted(change.path)

    async def _move(self, change: Move) -> None:
        """Write a temporary file to a writable one, or keep a copy of a writable one under another name."""
        name, to = str(change.path), str(change.to)
        data = await self.read(change.path)
        if name not in self._writers and name not in self._temporary:
            raise not_permitted(change.path)
        if to in self._writers:
            await self._writers[to](data)
        elif to in self._files:
            raise not_permitted(change.to)
        else:
            self._put_temporary(change.to, data)
        self._temporary.pop(name, None)

    def _put_temporary(self, path: Path, data: bytes) -> None:
        temporary = self._visible_temporary()
        if len(data) > _MAX_TEMPORARY_BYTES:
            raise path_error(errno.EFBIG, path)
        if str(path) not in temporary and len(temporary) >= _MAX_TEMPORARY_FILES:
            raise path_error(errno.ENOSPC, path)
        self._temporary[str(path)] = data, time.monotonic()

    def _visible_temporary(self) -> Mapping[str, tuple[bytes, float]]:
        """Return the temporary files, without those that are too old; empty for a caller that may not edit."""
        oldest = time.monotonic() - _MAX_TEMPORARY_SECONDS
        for name in [name for name, (_, written_at) in self._temporary.items() if written_at < oldest]:
            del self._temporary[name]
        return self._temporary if self._temporary and self._may_edit() else {}

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return all files."""
        if not path.is_root:
            raise path_error(errno.ENOTDIR, path)
        return [await self.stat(path / name) for name in sorted({*self._files, *self._visible_temporary()})]

    async def read(self, path: Path) -> bytes:
        """Return the generated content, or that of a temporary file."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        produce = self._files.get(str(path))
        if produce is not None:
            return await produce()
        temporary = self._visible_temporary().get(str(path))
        if temporary is None:
            raise not_found(path)
        return temporary[0]


def as_json(value: object) -> bytes:
    """Return indented JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")
