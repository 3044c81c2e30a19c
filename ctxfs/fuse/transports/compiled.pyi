class Loop:
    """Reads requests from `fd` into `buffer` and answers those that need no decision. Used by one thread.

    A file or directory that was opened for reading can be *kept* open. Who opens it next gets the same handle, as long as its times,
    size and mode are those it was kept with; who reads it then is answered from its descriptor.
    """

    def __init__(self, *, fd: int, wake: int, signalled: int, buffer: bytearray, most: int, notes_reads: bool) -> None:
        """`wake`, `signalled`: descriptors that end a wait. At most `most` are kept. `notes_reads`: remember who is opened."""

    def next(self, once: bool = False, /) -> int:
        """The size of a request in the buffer. 0 if another descriptor is ready. OSError ENODEV when it is unmounted.

        With `once` one request is read at most; 0 if there is none or it has been answered.
        """

    def keep(
        self, number: int, fh: int, fd: int, flags: int, is_directory: bool, version: tuple[int, int, int, int], /
    ) -> tuple[int, bool] | None:
        """Keep a handle that has just been given out; `flags` are those of the answer to whoever opens it next, `version` is
        (mtime_ns, ctime_ns, size, mode). Returns (handle, is_directory) of what is to be closed, for which there is no room any more.
        """

    def end(self, number: int, /) -> tuple[int, bool] | None:
        """No longer keep what is open of a file. Returns what is to be closed now; what somebody uses is closed by them."""

    def end_all(self) -> list[tuple[int, bool]]:
        """The same of everything."""

    def take_notes(self) -> list[tuple[int, int]]:
        """(number, time_ns) of files that were opened since this was last asked."""

    @property
    def noted(self) -> bool:
        """True if there are any."""

    @property
    def answered(self) -> int:
        """How many requests have been answered here."""
