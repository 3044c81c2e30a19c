"""Which file an indexer was at when it ended: one that has ended two of them is left out.

`<index>/at-work` holds the path of the file that is being worked on, or a number of files, or nothing. A process that dies leaves
it there. The next one counts that against the file, in `<index>/suspects.json`, or takes fewer files at once, until one is left.
What an indexer survives acquits the file.
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
_ROOM_BYTES = 8192  # the longest path that the kernel takes, twice
_MAX_SUSPECTS = 1_000
_SHRINK = 20
_FILES = "\0files "  # begins no path


class CrashRecords:
    """The record of one index. One thread uses it."""

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
        """True for a file that has ended as many indexers as it may."""
        return self._ends.get(path, 0) >= MAX_ENDS

    def accuse(self, path: str) -> None:
        """From now on the end of the process is the doing of this file."""
        self._put(path)

    def accuse_batch(self, files: int) -> None:
        """From now on the end of the process is the doing of one of so many files."""
        self._put(f"{_FILES}{files}")

    def clear(self) -> None:
        """From now on the end of the process is nobody's doing."""
        self._put("")

    def acquit(self, path: str) -> None:
        """The file was taken in, or is another one now."""
        if self._ends.pop(path, None) is not None:
            self._write()

    def acquit_batches(self) -> None:
        """Everything was taken in: many files may be taken at once again."""
        self.batch_files = self._max_batch_files

    def disarm(self) -> None:
        """From now on nothing is accused: the process is asked to end. Any thread may call it."""
        self._is_armed = False
        self.clear()

    def close(self) -> None:
        """Let go of the mark."""
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
        with suppress(OSError):  # a full disk: counted again at the next end
            temporary = self._list.with_suffix(".new")
            temporary.write_text(json.dumps(kept), encoding="ascii")
            os.replace(temporary, self._list)


def _open_mark(file: HostPath) -> mmap.mmap:
    """The mark in memory that outlives the process, though not the machine."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Not only made longer: on a full disk writing to a hole of the map would be the end.
        os.posix_fallocate(fd, 0, _ROOM_BYTES)
        return mmap.mmap(fd, _ROOM_BYTES)
    finally:
        os.close(fd)
