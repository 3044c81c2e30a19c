""".ctxfs/: what the store says of itself: status, whoami, mounts, errors.jsonl. Read-only, reachable by name only."""

import errno
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path

Produce = Callable[[], Awaitable[bytes]]


class ControlMount(Mount):
    """A flat directory of files that are made when they are looked at."""

    def __init__(self, files: Mapping[str, Produce]) -> None:
        self._files = dict(files)

    async def stat(self, path: Path) -> Entry:
        """The size is that of a read at this moment."""
        return directory("") if path.is_root else snapshot(path.name, await self.read(path))

    async def list(self, path: Path) -> Sequence[Entry]:
        """Every file."""
        if not path.is_root:
            raise path_error(errno.ENOTDIR, path)
        return [await self.stat(path / name) for name in sorted(self._files)]

    async def read(self, path: Path) -> bytes:
        """Make the file now."""
        if path.is_root:
            raise path_error(errno.EISDIR, path)
        produce = self._files.get(str(path))
        if produce is None:
            raise not_found(path)
        return await produce()


def as_json(value: object) -> bytes:
    """Readable JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")
