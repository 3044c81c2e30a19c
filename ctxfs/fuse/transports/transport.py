"""What a mount process needs of whatever carries requests."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ctxfs.fuse.interfaces import BackingFiles, Caches, Loop, OpenCacheBackend
from ctxfs.fuse.mounting import Mounted
from ctxfs.fuse.operations import Operations

Background = Callable[[Callable[[], None]], Awaitable[None]]


class Transport(Loop, Caches, Protocol):
    """One mount point."""

    @property
    def hands(self) -> BackingFiles | None:
        """Where open files are handed over to the kernel, if it takes any. Known once it is attached."""
        ...

    @property
    def keeper(self) -> OpenCacheBackend | None:
        """What keeps files open that were opened for reading, if anything does. Known once it is attached."""
        ...

    @property
    def reads_by_number(self) -> bool:
        """True if a file can be read without being opened: reads come with handle 0 then."""
        ...

    @property
    def judges_acls(self) -> bool:
        """True if the kernel judges callers by the ACLs of files. Known once it is mounted."""
        ...

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """Start `background` under trio; when it calls its argument, call `start`, which attaches; then serve until unmounted."""
        ...

    def attach(self, operations: Operations, mounted: Mounted) -> None:
        """Answer requests of a mount from now on, and unmount it in the end. CommandError if the kernel is too old."""
        ...

    def stop(self) -> None:
        """From where handlers run: finish serving."""
        ...

    def unmount(self) -> None:
        """After serving: the mount point is a directory again."""
        ...
