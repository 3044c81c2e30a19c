"""What the handlers ask of whatever carries requests."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias

from ctxfs.fuse.attributes import Attributes
from ctxfs.fuse.inodes import Version

# of a file: number, device, inode, name
Found: TypeAlias = tuple[int, int, int, bytes]
# of files: place in the names, place in the answer, device, inode, version
Seen: TypeAlias = list[tuple[int, int, int, int, Version]]


class DirectoryEntries(Protocol):
    """Takes the entries of a directory, as many as there is room for."""

    @property
    def is_empty(self) -> bool:
        """True if nothing has been added: that is the end of the directory."""
        return False

    def add_dots(self, after: int, number: int, above: int, /) -> None:
        """`.` and `..` as far as they come after a place, by the numbers of the directory and of the one above; before all others."""
        return

    def add(self, name: bytes, found: Attributes, place: int, /) -> bool:
        """A name, its attributes and its place, after which the listing will go on; False if there is no room."""
        ...

    def add_on_disk(
        self, directory: int, names: list[bytes], start: int, numbers: int, seconds: float, below: int
    ) -> Seen | None:
        """All of `names` from `start` on that are in a directory, a descriptor, and that there is room for, with the attributes that
        they have there. A file has the number `numbers | inode`, if it is not renumbered. Regular files of fewer than `below` bytes are
        expected: see Keeper. None: they have to be added one by one.
        """
        return None

    def renumber(self, at: int, number: int) -> None:
        """The number of a file that was added on disk, at a place in the answer."""
        return


class Loop(Protocol):
    """Runs handlers in one place, whatever waits in another."""

    async def call(self, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """From a handler: run an async function under trio and return what it returns."""
        ...

    async def in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        """From a handler: call what blocks in a thread, and return what it returns."""
        ...

    def run_soon(self, function: Callable[..., None], *args: object) -> None:
        """From any thread: call a function between two requests, where the handlers run."""
        ...


class Caches(Protocol):
    """What the kernel keeps. To be called by a thread of its own: the kernel may make it wait for the requests in flight, but for the
    names of a directory.
    """

    @property
    def can_expire(self) -> bool:
        """True if names can be expired: Linux 6.2 and newer. Known once it is mounted."""
        ...

    def invalidate_inode(self, number: int) -> None:
        """Drop attributes and content of a file, names of a directory. OSError ENOENT if the kernel does not know it."""
        ...

    def invalidate_attributes(self, number: int) -> None:
        """Drop the attributes of a file alone, which waits for no request in flight. OSError ENOENT as above."""
        ...

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Drop a name, also one that is known to be absent. OSError ENOENT if the kernel does not know it.

        The dentry is unhashed: `getcwd` fails in that directory, and what is mounted below it is unmounted.
        """
        ...

    def expire_entry(self, parent: int, name: bytes) -> None:
        """Have the kernel look a name up before it uses it again. Working directories and mounts below stay. OSError as above."""
        ...


class OpenCacheBackend(Protocol):
    """Keeps what was opened for reading, and gives the same handle to whoever opens it next. See `transports.fastpath`."""

    def expect(self, directory: int, files: list[Found], /) -> None:
        """Regular files in a directory, a descriptor, that may be opened for reading without asking."""
        ...

    def unexpect(self, number: int, /) -> None:
        """Not this file."""
        ...

    def closed(self, directory: int, /) -> None:
        """This descriptor of a directory will be another one's."""
        ...

    def bare(self, number: int, /) -> None:
        """This file has no capability, until it ends."""
        ...

    def answer_acls(self) -> None:
        """An absent ACL is answered with ENODATA, no longer with EOPNOTSUPP."""
        ...

    def watch_closes(self, watches: bool, /) -> None:
        """Locks are held, or no longer: each close of a descriptor may end some."""
        ...

    def ends(self, number: int, place: int, /) -> None:
        """The listing of a directory that is being answered ends after this place."""
        ...

    def end(self, number: int, /) -> int | None:
        """Not of this file any longer. The handle that is to be closed now, if nobody uses it."""
        ...

    def end_all(self) -> list[int]:
        """Not of any."""
        ...

    def take_notes(self) -> list[tuple[int, int]]:
        """(number, time in nanoseconds) of files that were opened since this was last asked."""
        ...

    @property
    def noted(self) -> bool:
        """True if there are any."""
        ...


class BackingFiles(Protocol):
    """What a transport does for it."""

    def open_backing(self, fd: int) -> int:
        """The kernel's number for an open host file, or 0 if it does not take it."""
        ...

    def close_backing(self, backing: int) -> None:
        """Nobody opens it by this number any more."""
        ...
