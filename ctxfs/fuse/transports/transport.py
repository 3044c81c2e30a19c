"""What a mount process needs of whatever carries requests."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ctxfs.fuse.operations import Operations
from ctxfs.fuse.ports import Caches, Hands, Keeper, Loop

Background = Callable[[Callable[[], None]], Awaitable[None]]


class Transport(Loop, Caches, Protocol):
    """One mount point."""

    @property
    def hands(self) -> Hands | None:
        """Where open files are handed over to the kernel, if it takes any. Known once it is mounted."""
        ...

    @property
    def keeper(self) -> Keeper | None:
        """What keeps files open that were opened for reading, if anything does. Known once it is mounted."""
        ...

    @property
    def reads_by_number(self) -> bool:
        """True if a file can be read without being opened: reads come with handle 0 then."""
        ...

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """Start `background` under trio; when it calls its argument, call `start`, which mounts; then serve until unmounted."""
        ...

    def mount(self, operations: Operations, at: str, options: set[str]) -> None:
        """Begin. CommandError if it cannot be mounted there."""
        ...

    def stop(self) -> None:
        """From where handlers run: finish serving."""
        ...

    def unmount(self) -> None:
        """After serving: the mount point is a directory again."""
        ...
