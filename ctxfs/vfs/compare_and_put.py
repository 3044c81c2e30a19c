"""A tree in which a Put may say what it is meant to replace: of two who edit the same version the second is refused."""

import errno
import hashlib
from collections.abc import Mapping, Sequence

from ctxfs.model.change import ABSENT, Change, Put
from ctxfs.model.entry import Entry
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import Path
from ctxfs.vfs.path_locks import PathLocks

_LEAST_DIGITS = 8


class CompareAndPut(Mount):
    """Puts to one path take turns here, so between the look and the change nobody else who comes this way changes it."""

    def __init__(self, tree: Mount) -> None:
        self._tree = tree
        self._turns = PathLocks()

    async def stat(self, path: Path) -> Entry:
        """The tree's."""
        return await self._tree.stat(path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """The tree's."""
        return await self._tree.list(path)

    async def read(self, path: Path) -> bytes:
        """The tree's."""
        return await self._tree.read(path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """The tree's."""
        return await self._tree.metadata(path)

    def backing(self, path: Path) -> Backing | None:
        """The tree's."""
        return self._tree.backing(path)

    async def apply(self, change: Change) -> None:
        """EEXIST where nothing should have been, ESTALE where the content is another than the one named, EINVAL for what names none."""
        if not isinstance(change, Put):
            await self._tree.apply(change)
            return
        async with self._turns.at(change.path):
            if change.expects:
                await self._check(change.path, change.expects)
            await self._tree.apply(change)

    async def _check(self, path: Path, expects: str) -> None:
        if expects != ABSENT and (len(expects) < _LEAST_DIGITS or set(expects) - set("0123456789abcdef")):
            raise invalid(path, f"'{expects[:80]}' is not a revision: give at least {_LEAST_DIGITS} hexadecimal digits")
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
