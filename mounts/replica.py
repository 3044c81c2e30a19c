"""The mount of an area of a read-only replica: its files come from the shared store, and changes are refused."""

import errno
from collections.abc import Callable
from dataclasses import replace

from ctxfs.model.change import Change
from ctxfs.model.errors import path_error
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import Path
from ctxfs.vfs.mount_wrapper import MountWrapper


class ReplicaMount(MountWrapper):
    """An area that is read-only while `reason` returns a text."""

    def __init__(self, area: Mount, reason: Callable[[], str]) -> None:
        super().__init__(area)
        self._reason = reason

    async def apply(self, change: Change) -> None:
        """Apply a change. Raise OSError EROFS with the reason while the area is read-only."""
        if reason := self._reason():
            raise path_error(errno.EROFS, change.path, reason)
        await self._tree.apply(change)

    def backing(self, path: Path) -> Backing | None:
        """Return the host path, which is not writable while the area is read-only."""
        backing = self._tree.backing(path)
        return replace(backing, writable=False) if backing is not None and self._reason() else backing
