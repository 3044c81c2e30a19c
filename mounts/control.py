"""The mount .ctxfs/: status, whoami, mounts and errors.jsonl of the store, and policy.toml, which people write.

Reachable by name only.
"""

import errno
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ctxfs.model.change import Change, Put
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, not_permitted, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path

Produce = Callable[[], Awaitable[bytes]]
Take = Callable[[bytes], Awaitable[None]]


class ControlMount(Mount):
    """A flat directory of files that are generated on read."""

    def __init__(self, files: Mapping[str, Produce], writers: Mapping[str, Take] | None = None) -> None:
        """Take the producers of files; `writers` maps writable files to the consumers of their content."""
        self._files = dict(files)
        self._writers = dict(writers or {})

    async def stat(self, path: Path) -> Entry:
        """Return an entry whose size is that of a read at this moment."""
        if path.is_root:
            return directory("")
        return snapshot(path.name, await self.read(path), mode=0o644 if str(path) in self._writers else 0o444)

    async def apply(self, change: Change) -> None:
        """Write a writable file; raise EPERM for other changes."""
        await self.stat(change.path)
        take = self._writers.get(str(change.path))
        if take is None or not isinstance(change, Put):
            raise not_permitted(change.path)
        await take(change.data)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return all files."""
        if not path.is_root:
            raise path_error(errno.ENOTDIR, path)
        return [await self.stat(path / name) for name in sorted(self._files)]

    async def read(self, path: Path) -> bytes:
        """Return the generated content."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        produce = self._files.get(str(path))
        if produce is None:
            raise not_found(path)
        return await produce()


def as_json(value: object) -> bytes:
    """Return indented JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")
