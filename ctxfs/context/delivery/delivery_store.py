"""What was delivered of each task and what a response answered, kept outside the tree: `<store>/deliveries/<task>/<record>`.

Records hold texts of sources. So they are no files of the work tree: they have no versions, no search and no remote. Stores made
before had them beside the request; those are read where there is no newer one, and shown to nobody.
"""

import contextlib
from collections.abc import Sequence

from ctxfs.model.change import MakeDir, Move, Put, Remove
from ctxfs.model.entry import Entry
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path


class DeliveryStore:
    """The records of tasks, in the folder `kept`; `before` is the folder of requests."""

    def __init__(self, kept: Mount, before: Mount) -> None:
        self._kept = kept
        self._before = before

    async def read(self, task: str, name: str) -> bytes | None:
        """A record; None if there is none."""
        for mount in (self._kept, self._before):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return await mount.read(Path((task, name)))
        return None

    async def write(self, task: str, name: str, data: bytes) -> None:
        """Replace a record."""
        with contextlib.suppress(FileExistsError):
            await self._kept.apply(MakeDir(Path((task,))))
        await self._kept.apply(Put(Path((task, name)), data))

    async def stat(self, task: str, name: str) -> Entry:
        """The entry of a record; ENOENT if there is none."""
        try:
            return await self._kept.stat(Path((task, name)))
        except FileNotFoundError:
            return await self._before.stat(Path((task, name)))

    async def names(self, task: str) -> Sequence[str]:
        """The names of the records of a task, in order."""
        names = set[str]()
        for mount in (self._kept, self._before):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                names |= {entry.name for entry in await mount.list(Path((task,))) if entry.kind == "file"}
        return sorted(names)

    async def tasks(self) -> Sequence[str]:
        """The tasks that have records here."""
        with contextlib.suppress(FileNotFoundError):
            return [entry.name for entry in await self._kept.list(Path()) if entry.is_dir]
        return []

    async def drop(self, task: str) -> None:
        """Forget a task: what comes under its name next is another one."""
        with contextlib.suppress(FileNotFoundError):
            for entry in await self._kept.list(Path((task,))):
                await self._kept.apply(Remove(Path((task, entry.name))))
            await self._kept.apply(Remove(Path((task,))))

    async def move(self, task: str, to: str) -> None:
        """A task has another name."""
        await self.drop(to)
        with contextlib.suppress(FileNotFoundError):
            await self._kept.apply(Move(Path((task,)), Path((to,))))
