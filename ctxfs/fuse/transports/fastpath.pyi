INTERFACE: int
"""The version of the interface between Python and the compiled module."""

class Loop:
    """A loop that reads requests from `fd` into `buffer` and answers those that need no decision.

    One thread uses it; other threads may call `wake`. A file that was opened for reading can stay open in the *cache*.
    The next open gets the same handle while the file's times, size and mode equal its recorded version, and reads are
    answered from its descriptor. A file can be *expected* to be opened: the next open for reading gets a handle that is
    cached from then on, and a read without an open is answered, too.
    """

    def __init__(
        self, *, fd: int, wake: int, buffer: bytearray, most: int, notes_reads: bool, attributes: bytes, flushes: bool
    ) -> None:
        """Create a loop with at most `most` cached files.

        `wake` is a descriptor that becomes readable on a wake-up. `notes_reads`: record the files that are opened.
        `attributes` is the prefix of attribute names that are never answered here; other attributes that the host does
        not store are refused. `flushes`: FLUSH is answered here while closes are not watched.
        """

    def next(self, once: bool = False, /) -> int:
        """Return the size of the next request for Python; 0 after a wake-up or a signal.

        With `once` read one request at most, and return 0 if there was none or it has been answered. Raise ENODEV when
        the file system has been unmounted.
        """

    def wake(self) -> None:
        """Make `next` return soon, at once if it waits. `fd` must still be open. Callable from any thread."""

    def admit(self, users: list[int], /) -> None:
        """Answer requests of these users only, and pass others to Python. To be called before the first `next`."""

    def keep(self, number: int, fd: int, version: tuple[int, int, int, int], /) -> int | None:
        """Cache the handle, a descriptor, of a reply to OPEN; `version` is (mtime_ns, ctime_ns, size, mode).

        Return the evicted handle, which the caller must close; None if nothing is evicted.
        """

    def expect(self, directory: int, files: list[tuple[int, int, int, bytes]], /) -> None:
        """Expect files, (number, device, inode, name), of `directory`, a descriptor, to be opened for reading.

        The files must be regular. A file is expected until another file takes its slot.
        """

    def unexpect(self, number: int, /) -> None:
        """Stop expecting a file."""

    def entries(
        self,
        directory: int,
        names: list[bytes],
        start: int,
        size: int,
        numbers: int,
        seconds: int,
        nanoseconds: int,
        below: int,
        /,
    ) -> tuple[bytearray, list[tuple[int, int, int, int, tuple[int, int, int, int]]]]:
        """Return the body of a reply to READDIRPLUS of at most `size` bytes, and a list of its files.

        The entries are `names` from index `start` on, as they are in `directory`, a descriptor; names that have
        vanished are left out. A file has the number `numbers | inode`, and the cookie of `directory_stream.cookie_of`.
        `seconds` and `nanoseconds` are the validity of names and attributes. Regular files of fewer than `below` bytes
        are expected from now on.

        The list has (index in `names`, offset in the reply, device, inode, version) for each file; the version is
        (mtime_ns, ctime_ns, size, mode).
        """

    def closed(self, directory: int, /) -> None:
        """Stop expecting files below a directory, because its descriptor has been closed and may be reused."""

    def ends(self, number: int, cookie: int, /) -> None:
        """Record the cookie at which a directory ends. The next READDIRPLUS from there gets an empty reply."""

    def end(self, number: int, /) -> int | None:
        """Stop expecting a file, and remove it from the cache.

        Return the handle that the caller must close now; None if it is still in use, or the file is not cached.
        """

    def end_all(self) -> list[int]:
        """Stop expecting all files, and clear the cache. Return the handles that the caller must close now."""

    def take_opened(self) -> list[tuple[int, int, tuple[int, int, int, int], int | None]]:
        """Return (number, descriptor, version, closes) of the files that `next` has opened since the last call.

        The descriptor is also the handle; `closes` is the evicted handle, or None. To be called after every `next`.
        """

    @property
    def has_opened(self) -> bool:
        """True if `take_opened` or `take_closed` would return anything."""

    def take_closed(self) -> list[tuple[int, int]]:
        """Return (number, handle) of a removed file of which a reader has closed a handle; empty if there is none.

        Other readers still have the file open. To be called after every `next`.
        """

    def bare(self, number: int, /) -> None:
        """Record that a file has no capability, until `end`: GETXATTR of it is answered with ENODATA."""

    def answer_acls(self) -> None:
        """Answer requests for an absent ACL with ENODATA from now on, instead of EOPNOTSUPP."""

    def watch_closes(self, watches: bool, /) -> None:
        """Pass each FLUSH to Python, because locks may end with it; or stop doing so."""

    def take_notes(self) -> list[tuple[int, int]]:
        """Return (number, time_ns) of files that were opened since the last call."""

    @property
    def noted(self) -> bool:
        """True if `take_notes` would return anything."""

    @property
    def answered(self) -> int:
        """The number of requests that this loop has answered."""
