"""Delivery records of tasks and of their responses, outside the tree: `<store>/deliveries/<task>/<record>`.

Records hold texts of sources. They are therefore no files of the work tree: they have no versions, no search and no
remote. Older stores have them beside the request. Such a record is read if there is no newer one, and is never listed.
"""

import contextlib
import os
import time
from collections.abc import Sequence

from ctxfs.model.change import MakeDir, Move, Put, Remove
from ctxfs.model.entry import Entry
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.threads import blocking

_USE_NS = 86_400 * 10**9

# (mtime in nanoseconds, size, inode) of each record, None for one that does not exist
Stamps = tuple[tuple[int, int, int] | None, ...]


class DeliveryStore:
    """The records of tasks in the folder `kept`; `before` is the folder of requests, with older stores' records."""

    def __init__(self, folder: Mount, requests: Mount) -> None:
        self._folder = folder
        self._requests = requests

    async def read(self, task: str, name: str) -> bytes | None:
        """Return a record; None if there is none."""
        for mount in (self._folder, self._requests):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return await mount.read(Path((task, name)))
        return None

    async def write(self, task: str, name: str, data: bytes) -> None:
        """Replace a record."""
        with contextlib.suppress(FileExistsError):
            await self._folder.apply(MakeDir(Path((task,))))
        await self._folder.apply(Put(Path((task, name)), data))

    async def record_use(self, task: str, name: str) -> None:
        """Write a record again if it is older than a day: its time is that of the last use (`expiry.py`)."""
        if time.time_ns() - (await self.stat(task, name)).mtime_ns > _USE_NS:
            data = await self.read(task, name)
            await self.write(task, name, data or b"")

    async def stat(self, task: str, name: str) -> Entry:
        """Return the entry of a record; raise ENOENT if there is none."""
        try:
            return await self._folder.stat(Path((task, name)))
        except FileNotFoundError:
            return await self._requests.stat(Path((task, name)))

    async def stamps(self, names: Sequence[str]) -> dict[str, Stamps]:
        """Return the stat values of these records of each task, for caches of their content."""
        tasks = await self.tasks()
        return await blocking(lambda: {task: tuple(self._stamp(task, name) for name in names) for task in tasks})

    def _stamp(self, task: str, name: str) -> tuple[int, int, int] | None:
        for mount in (self._folder, self._requests):
            backing = mount.backing(Path((task, name)))
            with contextlib.suppress(OSError):
                if backing is not None:
                    stat = os.lstat(os.path.join(backing.root, *backing.relative.parts))
                    return stat.st_mtime_ns, stat.st_size, stat.st_ino
        return None

    async def names(self, task: str) -> Sequence[str]:
        """Return the names of a task's records, sorted."""
        names = set[str]()
        for mount in (self._folder, self._requests):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                names |= {entry.name for entry in await mount.list(Path((task,))) if entry.kind == "file"}
        return sorted(names)

    async def tasks(self) -> Sequence[str]:
        """Return the tasks that have records in this folder."""
        with contextlib.suppress(FileNotFoundError):
            return [entry.name for entry in await self._folder.list(Path()) if entry.is_dir]
        return []

    async def drop(self, task: str) -> None:
        """Remove the records of a task, so that a later task of the same name starts without them."""
        with contextlib.suppress(FileNotFoundError):
            for entry in await self._folder.list(Path((task,))):
                await self._folder.apply(Remove(Path((task, entry.name))))
            await self._folder.apply(Remove(Path((task,))))

    async def move(self, task: str, to: str) -> None:
        """Rename a task; records under the new name are removed."""
        await self.drop(to)
        with contextlib.suppress(FileNotFoundError):
            await self._folder.apply(Move(Path((task,)), Path((to,))))
