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

MAX_CRASHES = 2
_LENGTH = struct.Struct("<I")
_MARK_BYTES = 8192  # twice PATH_MAX
_MAX_SUSPECTS = 1_000
_BATCH_DIVISOR = 20
_BATCH_PREFIX = "\0files "  # no path begins with it


class CrashRecords:
    """The crash records of one index. Only one thread may use it, except for `disarm`."""

    def __init__(self, folder: HostPath, max_batch_files: int) -> None:
        self._counts_path = folder / "suspects.json"
        self._max_batch_files = max_batch_files
        self._is_armed = True
        self._mark = _map_mark(folder / "at-work")
        self._crash_counts = self._read_counts()
        self.batch_files = max_batch_files
        last_mark = self._read_mark()
        if last_mark.startswith(_BATCH_PREFIX):
            self.batch_files = max(1, int(last_mark.removeprefix(_BATCH_PREFIX)) // _BATCH_DIVISOR)
        elif last_mark:
            self._crash_counts[last_mark] = self._crash_counts.get(last_mark, 0) + 1
            self._write_counts()
            self.batch_files = 1
        self.clear()

    def has_ended_indexers(self, path: str) -> bool:
        """Return True if the file has ended `MAX_CRASHES` indexer processes."""
        return self._crash_counts.get(path, 0) >= MAX_CRASHES

    def record_file(self, path: str) -> None:
        """Record the file as the cause if the process ends from now on."""
        self._write_mark(path)

    def record_batch(self, files: int) -> None:
        """Record a batch of so many files as the cause if the process ends from now on."""
        self._write_mark(f"{_BATCH_PREFIX}{files}")

    def clear(self) -> None:
        """Record no cause: the end of the process from now on is not counted."""
        self._write_mark("")

    def reset_count(self, path: str) -> None:
        """Reset the count of a file that was indexed, or that has been replaced."""
        if self._crash_counts.pop(path, None) is not None:
            self._write_counts()

    def reset_batch_size(self) -> None:
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

    def _write_mark(self, text: str) -> None:
        data = (text if self._is_armed else "").encode("utf-8", "surrogateescape")[: _MARK_BYTES - _LENGTH.size]
        _LENGTH.pack_into(self._mark, 0, 0)
        self._mark[_LENGTH.size : _LENGTH.size + len(data)] = data
        _LENGTH.pack_into(self._mark, 0, len(data))

    def _read_mark(self) -> str:
        (length,) = _LENGTH.unpack_from(self._mark)
        return self._mark[_LENGTH.size : _LENGTH.size + length].decode("utf-8", "surrogateescape")

    def _read_counts(self) -> dict[str, int]:
        try:
            counts = json.loads(rooted_fs.read_path(self._counts_path))
            return {str(path): int(count) for path, count in counts.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _write_counts(self) -> None:
        counts = dict(list(self._crash_counts.items())[-_MAX_SUSPECTS:])
        with suppress(OSError):  # the disk is full: the next crash is counted instead
            temporary = self._counts_path.with_suffix(".new")
            temporary.write_text(json.dumps(counts), encoding="ascii")
            os.replace(temporary, self._counts_path)


def _map_mark(file: HostPath) -> mmap.mmap:
    """Map the `at-work` file into memory. Its content survives a crash of the process, but not one of the machine."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Not ftruncate: on a full disk, a write to a hole of the map would raise SIGBUS.
        os.posix_fallocate(fd, 0, _MARK_BYTES)
        return mmap.mmap(fd, _MARK_BYTES)
    finally:
        os.close(fd)
