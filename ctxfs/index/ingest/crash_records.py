"""Crash records: find the files that crash the indexer. A file that has ended two indexer processes is skipped.

`<index>/at-work` is a memory-mapped file: a little-endian 32-bit length, then UTF-8 text. The text is the path of the
current file, or `\\0files ` and the number of files of the current batch, or empty. A process that dies leaves the text
there. If it is a path, the next process adds one to the count of the file, and indexes one file at a time. If it is a
number, the next batches have a twentieth of it, at least one file. A file that is processed without a crash is removed
from the counts. `<index>/suspects.json` is a JSON object of the counts by path.
"""

import json
import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path as HostPath

from ctxfs.store import rooted_fs

MAX_ENDS = 2
_LENGTH = struct.Struct("<I")
_ROOM_BYTES = 8192  # twice PATH_MAX
_MAX_SUSPECTS = 1_000
_SHRINK = 20
_FILES = "\0files "  # no path begins with it


class CrashRecords:
    """The crash records of one index. Only one thread may use it, except for `disarm`."""

    def __init__(self, folder: HostPath, max_batch_files: int) -> None:
        self._list = folder / "suspects.json"
        self._max_batch_files = max_batch_files
        self._is_armed = True
        self._mark = _open_mark(folder / "at-work")
        self._ends = self._read()
        self.batch_files = max_batch_files
        last = self._marked()
        if last.startswith(_FILES):
            self.batch_files = max(1, int(last.removeprefix(_FILES)) // _SHRINK)
        elif last:
            self._ends[last] = self._ends.get(last, 0) + 1
            self._write()
            self.batch_files = 1
        self.clear()

    def has_ended_indexers(self, path: str) -> bool:
        """Return True if the file has ended `MAX_ENDS` indexer processes."""
        return self._ends.get(path, 0) >= MAX_ENDS

    def accuse(self, path: str) -> None:
        """Record the file as the cause if the process ends from now on."""
        self._put(path)

    def accuse_batch(self, files: int) -> None:
        """Record a batch of so many files as the cause if the process ends from now on."""
        self._put(f"{_FILES}{files}")

    def clear(self) -> None:
        """Record no cause: the end of the process from now on is not counted."""
        self._put("")

    def acquit(self, path: str) -> None:
        """Reset the count of a file that was indexed, or that has been replaced."""
        if self._ends.pop(path, None) is not None:
            self._write()

    def acquit_batches(self) -> None:
        """Restore the full batch size, after all files have been indexed."""
        self.batch_files = self._max_batch_files

    def disarm(self) -> None:
        """Clear the record and ignore later ones, because the process is about to end on request. Thread-safe."""
        self._is_armed = False
        self.clear()

    def close(self) -> None:
        """Clear the record and close the memory map."""
        self.clear()
        self._mark.close()

    def _put(self, text: str) -> None:
        data = (text if self._is_armed else "").encode("utf-8", "surrogateescape")[: _ROOM_BYTES - _LENGTH.size]
        _LENGTH.pack_into(self._mark, 0, 0)
        self._mark[_LENGTH.size : _LENGTH.size + len(data)] = data
        _LENGTH.pack_into(self._mark, 0, len(data))

    def _marked(self) -> str:
        (length,) = _LENGTH.unpack_from(self._mark)
        return self._mark[_LENGTH.size : _LENGTH.size + length].decode("utf-8", "surrogateescape")

    def _read(self) -> dict[str, int]:
        try:
            found = json.loads(rooted_fs.read_path(self._list))
            return {str(path): int(ends) for path, ends in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _write(self) -> None:
        kept = dict(list(self._ends.items())[-_MAX_SUSPECTS:])
        with suppress(OSError):  # the disk is full: the next crash is counted instead
            temporary = self._list.with_suffix(".new")
            temporary.write_text(json.dumps(kept), encoding="ascii")
            os.replace(temporary, self._list)


def _open_mark(file: HostPath) -> mmap.mmap:
    """Map the `at-work` file into memory. Its content survives a crash of the process, but not one of the machine."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Not ftruncate: on a full disk, a write to a hole of the map would raise SIGBUS.
        os.posix_fallocate(fd, 0, _ROOM_BYTES)
        return mmap.mmap(fd, _ROOM_BYTES)
    finally:
        os.close(fd)
