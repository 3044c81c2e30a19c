"""The interface between a mount process and the transport that carries its FUSE requests."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ctxfs.fuse.interfaces import BackingFiles, Caches, Loop, OpenCacheBackend
from ctxfs.fuse.mounting import KernelMount
from ctxfs.fuse.operations import Operations

Background = Callable[[Callable[[], None]], Awaitable[None]]


class Transport(Loop, Caches, Protocol):
    """One mount point."""

    @property
    def backing_files(self) -> BackingFiles | None:
        """The passthrough interface of the kernel, None if it has none. Set by `attach`."""
        ...

    @property
    def open_cache_backend(self) -> OpenCacheBackend | None:
        """The open file cache of the transport, None if it has none. Set by `attach`."""
        ...

    @property
    def reads_by_number(self) -> bool:
        """True if a file can be read without being opened; such reads come with handle 0."""
        ...

    @property
    def checks_acls(self) -> bool:
        """True if the kernel enforces the ACLs of files. Set by `attach`."""
        ...

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """Start `background` under trio, and serve until unmounted.

        When `background` calls its argument, call `start`, which attaches.
        """
        ...

    def attach(self, operations: Operations, mounted: KernelMount) -> None:
        """Begin to answer the requests of a mount, and unmount it in the end.

        Raise CommandError if the kernel is too old.
        """
        ...

    def stop(self) -> None:
        """Finish serving. To be called where handlers run."""
        ...

    def unmount(self) -> None:
        """Unmount after serving: the mount point becomes a plain directory again."""
        ...
