"""Optimistic concurrency: a change may name the version of the content that it is for, and fails if it is another."""

import errno
import hashlib

from ctxfs.model.change import ABSENT, Change, Move, Put, Remove
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.vfs.mount_wrapper import MountWrapper
from ctxfs.vfs.path_locks import PathLocks

_MIN_DIGITS = 8


class CompareAndPut(MountWrapper):
    """A tree whose changes of contents compare the expected version.

    Changes of one path are serialised here, so no other one through this tree comes between comparison and change.
    """

    def __init__(self, tree: Mount) -> None:
        super().__init__(tree)
        self._locks = PathLocks()

    async def apply(self, change: Change) -> None:
        """Implement `Mount.apply`.

        Raise EEXIST if the change expects no file, ESTALE if the content is another version, EINVAL for a malformed
        version.
        """
        if not isinstance(change, Put | Remove | Move):
            await self._tree.apply(change)
            return
        async with self._locks.at(change.path):
            if change.expects:
                await self._check(change.path, change.expects)
            await self._tree.apply(change)

    async def _check(self, path: Path, expects: str) -> None:
        if expects != ABSENT and (len(expects) < _MIN_DIGITS or set(expects) - set("0123456789abcdef")):
            raise invalid(path, f"'{expects[:80]}' is not a revision: give at least {_MIN_DIGITS} hexadecimal digits")
        try:
            data = await self._tree.read(path)
        except FileNotFoundError as error:
            if expects == ABSENT:
                return
            raise path_error(errno.ESTALE, path, "it is not there any more") from error
        if expects == ABSENT:
            raise path_error(errno.EEXIST, path)
        if not hashlib.sha256(data).hexdigest().startswith(expects):
            raise path_error(errno.ESTALE, path, "it has changed since that revision")
