"""The durability of a shared store: with `shared.durable = "engine"` fsync waits until the engine has the version."""

from ctxfs.fuse.interfaces import Loop
from ctxfs.fuse.transaction_files import Call


class EngineDurability:
    """The wait of fsync for the engine. The daemon's mount table sets `is_required`."""

    def __init__(self, loop: Loop, call: Call) -> None:
        self._loop = loop
        self._call = call
        self.is_required = False

    async def wait(self, path: str) -> None:
        """Return once the engine has the journalled changes. Raise OSError EIO if it does not answer, or the daemon."""
        if self.is_required:
            await self._loop.call(self._await_engine, path)

    async def _await_engine(self, path: str) -> None:
        await self._call("await_engine", path=path)
