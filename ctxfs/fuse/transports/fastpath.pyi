INTERFACE: int
"""Which interface the module was built with."""

class Loop:
    """Reads requests from `fd` into `buffer` and answers those that need no decision. Used by one thread; others may `wake` it.

    A file that was opened for reading can be *kept* open. Who opens it next gets the same handle, as long as its times,
    size and mode are those it was kept with; who reads it then is answered from its descriptor. A file can be *expected* to be opened:
    who opens it for reading gets a handle that is kept from then on, and who reads it without opening it is answered, too.
    """

    def __init__(
        self, *, fd: int, wake: int, buffer: bytearray, most: int, notes_reads: bool, attributes: bytes, flushes: bool
    ) -> None:
        """`wake`: a descriptor that is ready once it has been woken. At most `most` are kept. `notes_reads`: remember who is opened.
        `attributes`: how the names of attributes begin that are never answered here; others that the host does not keep are refused.
        `flushes`: FLUSH is answered, while closes are not watched.
        """

    def next(self, once: bool = False, /) -> int:
        """The size of a request in the buffer. 0 if it has been woken, or there was a signal. OSError ENODEV when it is unmounted.

        With `once` one request is read at most; 0 if there is none or it has been answered.
        """

    def wake(self) -> None:
        """`next` returns soon, and at once if it waits. `fd` may not have been closed. By any thread."""

    def admit(self, users: list[int], /) -> None:
        """Answer requests of these users only; others are handed to Python. Before the first `next`."""

    def keep(self, number: int, fd: int, version: tuple[int, int, int, int], /) -> int | None:
        """Keep a handle, a descriptor, that has just been given out; `version` is (mtime_ns, ctime_ns, size, mode).

        Returns the handle that is to be closed, for which there is no room any more.
        """

    def expect(self, directory: int, files: list[tuple[int, int, int, bytes]], /) -> None:
        """Regular files in a directory, a descriptor, that may be opened for reading without asking: (number, device, inode, name).
        They are expected until others take their places.
        """

    def unexpect(self, number: int, /) -> None:
        """This file is not expected any more."""

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
        """An answer to READDIRPLUS of `size` bytes at most: `names` from `start` on, as they are in a directory, a descriptor. What
        has vanished is left out. A file has the number `numbers | inode`; its place is as `listings.place_of` has it. So long the
        kernel may keep names and attributes. Regular files of fewer than `below` bytes are expected from now on.

        Returns it, and of each file (place in `names`, place in the answer, device, inode, version), the last as (mtime_ns, ctime_ns,
        size, mode).
        """

    def closed(self, directory: int, /) -> None:
        """This descriptor of a directory is another one's now: files below it are no longer expected."""

    def ends(self, number: int, place: int, /) -> None:
        """The listing of a directory that is being answered ends at `place`: who asks next from there has read it all."""

    def end(self, number: int, /) -> int | None:
        """No longer expect a file nor keep it open. Returns the handle that is to be closed now, if nobody uses it."""

    def end_all(self) -> list[int]:
        """The same of everything."""

    def take_opened(self) -> list[tuple[int, int, tuple[int, int, int, int], int | None]]:
        """(number, descriptor, version, closes) of what was opened since this was last asked. The descriptor is the handle, too;
        `closes` is the handle that there is no room for any more. To be asked after every `next`.
        """

    @property
    def has_opened(self) -> bool:
        """True if there is any, or something was closed."""

    def take_closed(self) -> list[tuple[int, int]]:
        """(number, handle) of a file that is no longer kept, but still open by others, if one was closed since this was last asked.
        To be asked after every `next`.
        """

    def bare(self, number: int, /) -> None:
        """This file has no capability, until it ends: who asks is answered."""

    def answer_acls(self) -> None:
        """An absent ACL is answered with ENODATA from now on, and not with EOPNOTSUPP."""

    def watch_closes(self, watches: bool, /) -> None:
        """Whether FLUSH is handed to Python: locks may end with it."""

    def take_notes(self) -> list[tuple[int, int]]:
        """(number, time_ns) of files that were opened since this was last asked."""

    @property
    def noted(self) -> bool:
        """True if there are any."""

    @property
    def answered(self) -> int:
        """How many requests have been answered here."""
