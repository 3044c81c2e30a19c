"""Open files of synthetic mounts: a reader keeps its snapshot, a writer edits a copy and puts it back as a whole."""

import errno
import itertools
from dataclasses import dataclass

import trio

from ctxfs.model.change import MAX_LINE, Append, Put
from ctxfs.model.errors import path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.model.tables import Table

MAX_CONTENT_BYTES = 64 * 1024 * 1024  # of a file that is generated in memory


@dataclass(slots=True)
class _Handle:
    path: Path
    data: bytearray
    is_writable: bool
    edits: int = 0
    committed: int = 0
    is_appending: bool = False  # `data` is not the content but the bytes to append

    @property
    def is_dirty(self) -> bool:
        return self.edits != self.committed


class Handles:
    """The open files of one adapter session, by number. Offsets and sizes are in bytes."""

    def __init__(self, tree: Mount) -> None:
        self._tree = tree
        self._open: Table[_Handle] = Table(errno.EBADF)
        self._numbers = itertools.count(1)
        self._committing = trio.Lock()

    def add(self, path: Path, data: bytes, *, writable: bool, dirty: bool = False) -> int:
        """Open `path` with the content that the caller has read; `dirty` if that is an edit. Return its number."""
        number = next(self._numbers)
        self._open[number] = _Handle(path, bytearray(data), writable, int(dirty))
        return number

    def add_appending(self, path: Path) -> int:
        """Open an append-only file: writes are appended to it line by line. Return its number."""
        number = next(self._numbers)
        self._open[number] = _Handle(path, bytearray(), True, is_appending=True)
        return number

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Return a slice of the snapshot, empty at its end. Raise EBADF for an append-only handle."""
        handle = self._open[number]
        if handle.is_appending:
            raise path_error(errno.EBADF, handle.path)
        return bytes(handle.data[offset : offset + size])

    def size(self, number: int) -> int:
        """Return the length of the handle's copy."""
        return len(self._open[number].data)

    def write(self, number: int, offset: int, data: bytes) -> int:
        """Write to the copy, and fill a gap with NULs. Return the number of bytes.

        Raise EBADF on a handle for reading, EFBIG for a line that is too long to append, and beyond MAX_CONTENT_BYTES.
        """
        handle = self._writable_handle(number)
        if handle.is_appending:
            offset = len(handle.data)
            line_length, line_end = offset - handle.data.rfind(b"\n") - 1, data.find(b"\n")
            if line_length + (line_end if line_end >= 0 else len(data)) > MAX_LINE:
                raise path_error(errno.EFBIG, handle.path, f"a line holds {MAX_LINE} bytes at most")
        check_size(handle.path, offset + len(data))
        if offset > len(handle.data):
            handle.data.extend(bytes(offset - len(handle.data)))
        handle.data[offset : offset + len(data)] = data
        handle.edits += 1
        return len(data)

    def append(self, number: int, data: bytes) -> int:
        """Write at the current end."""
        return self.write(number, self.size(number), data)

    def truncate(self, number: int, size: int) -> None:
        """Cut or extend the copy to `size` bytes. Raise EFBIG beyond MAX_CONTENT_BYTES."""
        handle = self._writable_handle(number)
        check_size(handle.path, size)
        if size <= len(handle.data):
            del handle.data[size:]
        else:
            handle.data.extend(bytes(size - len(handle.data)))
        handle.edits += 1

    async def commit(self, number: int, last: bool = True) -> None:
        """Put the edits into the tree, if there are any. On failure they stay pending and the error is raised.

        Appended data is committed in whole lines; `last` also commits an incomplete line, because no more data follows.

        A second commit waits for the first: when it returns, the tree has all data that was written before the call.
        """
        async with self._committing:
            handle = self._open.get(number)
            if handle is not None and handle.is_dirty and handle.is_appending:
                await self._commit_lines(handle, last)
            elif handle is not None and handle.is_dirty:
                edits, data = handle.edits, bytes(handle.data)
                await self._tree.apply(Put(handle.path, data))
                handle.committed = edits

    async def _commit_lines(self, handle: _Handle, last: bool) -> None:
        edits = handle.edits
        size = len(handle.data) if last else handle.data.rfind(b"\n") + 1
        if size:
            await self._tree.apply(Append(handle.path, bytes(handle.data[:size])))
            del handle.data[:size]
        if not handle.data:
            handle.committed = edits

    @property
    def pending(self) -> list[int]:
        """The numbers of handles with uncommitted edits, including those that are being committed."""
        return [number for number, handle in self._open.items() if handle.is_dirty]

    def discard_edits(self, number: int) -> None:
        """Discard edits that the tree refused."""
        handle = self._open[number]
        handle.committed = handle.edits
        if handle.is_appending:
            handle.data.clear()

    def path(self, number: int) -> Path:
        """Return the path that the handle was opened with."""
        return self._open[number].path

    def close(self, number: int) -> None:
        """Close the handle. Uncommitted edits are lost, so commit first."""
        self._open.take(number)

    def _writable_handle(self, number: int) -> _Handle:
        handle = self._open[number]
        if not handle.is_writable:
            raise path_error(errno.EBADF, handle.path)
        return handle


def check_size(path: Path, size: int) -> None:
    """Raise EFBIG for a size beyond MAX_CONTENT_BYTES.

    A write at a large offset would fill memory with NULs up to there.
    """
    if size > MAX_CONTENT_BYTES:
        raise path_error(errno.EFBIG, path, f"a file here holds {MAX_CONTENT_BYTES} bytes at most")
