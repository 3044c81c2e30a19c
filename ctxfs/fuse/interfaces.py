"""The interfaces between the FUSE handlers and the transport that carries requests."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias, TypeVar

from ctxfs.fuse.attributes import Attributes
from ctxfs.fuse.inodes import Version

Result = TypeVar("Result")
Answer: TypeAlias = Result | Coroutine[Any, Any, Result]  # a coroutine if the handler must wait
# an expected file: number, device, inode, name
ExpectedFile: TypeAlias = tuple[int, int, int, bytes]
# files in a packed reply: (index in the names, offset in the reply, device, inode, version)
PackedFiles: TypeAlias = list[tuple[int, int, int, int, Version]]


class DirectoryEntries(Protocol):
    """A reply to a listing of a directory, to which entries are added up to its size."""

    @property
    def is_empty(self) -> bool:
        """True if nothing has been added, which marks the end of the directory."""
        return False

    def add_dots(self, after: int, number: int, parent: int, /) -> None:
        """Add `.` and `..`, if their cookies follow the cookie `after`; before all other entries.

        `number` is the directory, `above` its parent.
        """
        return

    def add(self, name: bytes, attributes: Attributes, cookie: int, /) -> bool:
        """Add a name with its attributes and its cookie, after which the listing continues.

        Return False if it does not fit.
        """
        ...

    def add_on_disk(
        self, directory: int, names: list[bytes], start: int, numbers: int, seconds: float, below: int
    ) -> PackedFiles | None:
        """Add `names` from index `start` on that exist in `directory`, a descriptor, as many as fit.

        Attributes come from the host. A file has the number `numbers | inode`, unless it is renumbered. Regular files
        of fewer than `below` bytes become expected (`OpenCacheBackend.expect`). Return the added files, or None if the
        caller must add the names one by one.
        """
        return None

    def renumber(self, offset: int, number: int) -> None:
        """Change the number of a file that `add_on_disk` has added, at an offset in the reply."""
        return


class Loop(Protocol):
    """A loop that runs the handlers in one thread, and waiting work in others."""

    async def call(self, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Run an async function under trio and return its result. To be called by a handler."""
        ...

    async def in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        """Call a blocking function in a thread and return its result. To be called by a handler."""
        ...

    def run_soon(self, function: Callable[..., None], *args: object) -> None:
        """Call a function between two requests, in the thread of the handlers. Callable from any thread."""
        ...


class Caches(Protocol):
    """The kernel's caches of names, attributes and pages.

    A separate thread must call the methods, because the kernel may make it wait for the requests in flight; only the
    methods for names of a directory do not wait.
    """

    @property
    def can_expire(self) -> bool:
        """True if names can be expired: Linux 6.2 and newer. Valid after the mount."""
        ...

    def invalidate_inode(self, number: int) -> None:
        """Drop attributes and content of a file, names of a directory. Raise ENOENT if the kernel has no such inode."""
        ...

    def invalidate_attributes(self, number: int) -> None:
        """Drop only the attributes of a file, without waiting for requests. Raise ENOENT as above."""
        ...

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        """Drop a name, also a negative dentry. Raise ENOENT if the kernel has no such name.

        The dentry is unhashed: `getcwd` fails in that directory, and file systems mounted below it are unmounted.
        """
        ...

    def expire_entry(self, parent: int, name: bytes) -> None:
        """Make the kernel look a name up before its next use. Raise ENOENT as above.

        Working directories and mounts below stay.
        """
        ...


class OpenCacheBackend(Protocol):
    """The open file cache of a transport: the next open of a file that was opened for reading gets the same handle.

    `transports.fastpath` implements it.
    """

    def expect(self, directory: int, files: list[ExpectedFile], /) -> None:
        """Expect regular files of `directory`, a descriptor, to be opened for reading without a request to Python."""
        ...

    def unexpect(self, number: int, /) -> None:
        """Stop expecting a file."""
        ...

    def closed(self, directory: int, /) -> None:
        """Stop expecting files below a directory, because its descriptor may be reused."""
        ...

    def bare(self, number: int, /) -> None:
        """Record that a file has no capability, until `end`."""
        ...

    def answer_acls(self) -> None:
        """Answer requests for an absent ACL with ENODATA from now on, instead of EOPNOTSUPP."""
        ...

    def watch_closes(self, watches: bool, /) -> None:
        """Pass each FLUSH to the handlers while locks are held, because a close may release locks."""
        ...

    def ends(self, number: int, cookie: int, /) -> None:
        """Record the cookie at which a directory ends."""
        ...

    def end(self, number: int, /) -> int | None:
        """Remove a file from the cache, and stop expecting it.

        Return the handle that the caller must close now; None if it is still in use, or the file is not cached.
        """
        ...

    def end_all(self) -> list[int]:
        """Clear the cache, and stop expecting all files. Return the handles that the caller must close now."""
        ...

    def take_notes(self) -> list[tuple[int, int]]:
        """Return (number, time in nanoseconds) of files that were opened since the last call."""
        ...

    @property
    def noted(self) -> bool:
        """True if `take_notes` would return anything."""
        ...


class BackingFiles(Protocol):
    """The passthrough interface of a transport."""

    def open_backing(self, fd: int) -> int:
        """Register an open host file for passthrough. Return its backing id, 0 if the kernel refuses."""
        ...

    def close_backing(self, backing: int) -> None:
        """Unregister a backing id."""
        ...
