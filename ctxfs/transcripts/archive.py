"""Exports of chat services: a zip file with conversations, or the unpacked JSON file. Nothing is unpacked to disk.

A zip file is untrusted: its directory, each member and the ratio of compression are bounded. Members are read by name,
so that a path in a name has no effect; names that lead outside and links are reported.
"""

import os
import re
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ctxfs.store import rooted_fs
from ctxfs.transcripts.chatgpt import ChatGptParser
from ctxfs.transcripts.claude_export import ClaudeExportParser
from ctxfs.transcripts.json_files import ByteFile, Item, read_elements, read_lines
from ctxfs.transcripts.json_lines import JsonLinesParser
from ctxfs.transcripts.message import LeftOut, Parser
from ctxfs.transcripts.sources import CountedFile, Progress, count_reads

_CONVERSATIONS = re.compile(r"conversations(?:[-_.]?\d{1,6})?\.json")
_MAX_DIRECTORY_BYTES = 16 << 20
_MAX_MEMBERS = 10_000
_MAX_MEMBER_BYTES = 4 << 30
_MAX_RATIO = 250  # of JSON texts; an archive that was made to exhaust a reader has 1000
_UNCHECKED_BYTES = 64 << 20
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\5\6"
_MAX_COMMENT_BYTES = 1 << 16
_ENCRYPTED = 1


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A JSON file with conversations: `member` of a zip file, or the whole file. `map_names` makes it JSON lines."""

    path: str
    client: str
    size: int
    changed_at: float
    member: str = ""
    map_names: dict[str, str] | None = None

    @property
    def name(self) -> str:
        """The file name, with the name of the member."""
        base = os.path.basename(self.path)
        return f"{base}/{self.member}" if self.member else base

    def make_parser(self, left_out: LeftOut) -> Parser:
        """Return a parser of the client's format."""
        stem = os.path.splitext(os.path.basename(self.path))[0]
        if self.map_names is not None:
            return JsonLinesParser(stem, left_out, self.map_names)
        parser = ChatGptParser if self.client == "chatgpt" else ClaudeExportParser
        return parser(stem, left_out)

    def read(self, progress: Progress) -> Iterator[Item]:
        """Yield the objects of the file. Raise OSError if it cannot be read, or is a trap."""
        with open_named(self.path) as file:
            if self.map_names is not None:
                yield from read_lines(count_reads(file, progress))
            elif not self.member:
                yield from read_elements(count_reads(file, progress))
            else:
                yield from self._read_member(file, progress)

    def _read_member(self, file: BinaryIO, progress: Progress) -> Iterator[Item]:
        try:
            with zipfile.ZipFile(file) as archive:
                info = archive.getinfo(self.member)
                with archive.open(info) as member:
                    yield from read_elements(CountedFile(_BoundedFile(member, info.compress_size), progress))
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise OSError(0, f"the member cannot be unpacked: {error}", self.path) from error


class _BoundedFile:
    """A member of a zip file that ends with an error beyond its limits."""

    def __init__(self, file: ByteFile, compressed_bytes: int) -> None:
        self._file = file
        self._limit = min(_MAX_MEMBER_BYTES, max(_UNCHECKED_BYTES, compressed_bytes * _MAX_RATIO))
        self._bytes = 0

    def readline(self, size: int, /) -> bytes:
        return self._count(self._file.readline(size))

    def read(self, size: int, /) -> bytes:
        return self._count(self._file.read(size))

    def _count(self, data: bytes) -> bytes:
        self._bytes += len(data)
        if self._bytes > self._limit:
            raise OSError(0, f"the member unpacks to more than {self._limit >> 20} MiB", "")
        return data


def open_named(path: str) -> BinaryIO:
    """Open a regular file that the user names; the last component may be a link."""
    return os.fdopen(rooted_fs.open_regular(os.path.realpath(path)), "rb")


def list_exports(client: str, path: str) -> tuple[list[ExportFile], list[tuple[str, str]]]:
    """Return the JSON files of an export in their order, and the (name, reason) of members that are not read.

    Raise OSError for a file that cannot be read, or is neither a zip file nor JSON.
    """
    status = os.stat(path)
    with open_named(path) as file:
        begin = file.read(4)
        if not begin.startswith(b"PK"):
            return [ExportFile(path, client, status.st_size, status.st_mtime)], []
        _check_directory(file, status.st_size)
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise OSError(0, f"it is no zip file, or it is damaged: {error}", path) from error
    exports, faults = list[ExportFile](), list[tuple[str, str]]()
    # Members may overlap, so that together they unpack to much more than each one.
    limit, total = max(_UNCHECKED_BYTES, status.st_size * _MAX_RATIO), 0
    for info in infos:
        reason = _find_fault(info)
        if _CONVERSATIONS.fullmatch(info.filename.rsplit("/", 1)[-1]) and not info.is_dir():
            total += min(
                info.file_size, limit
            )  # it ends there; one that is too large by itself is refused when it is read
            if total > limit:
                reason = reason or f"the members unpack to more than {limit >> 20} MiB"
            if reason or len(exports) >= _MAX_MEMBERS:
                faults.append((info.filename, reason or "there are too many members"))
            else:
                changed_at = _time_of(info) or status.st_mtime
                exports.append(ExportFile(path, client, info.file_size, changed_at, info.filename))
        elif reason:
            faults.append((info.filename, reason))
    return sorted(exports, key=lambda export: export.member), faults[:_MAX_MEMBERS]


def _check_directory(file: BinaryIO, size: int) -> None:
    """Raise OSError for a zip file whose directory would take too much memory."""
    file.seek(max(0, size - _MAX_COMMENT_BYTES - _END.size))
    tail = file.read(_MAX_COMMENT_BYTES + _END.size)
    position = tail.rfind(_END_SIGNATURE)
    if position < 0 or len(tail) - position < _END.size:
        raise OSError(0, "it is no zip file, or it is not complete", "")
    directory_bytes = _END.unpack_from(tail, position)[5]
    if directory_bytes > _MAX_DIRECTORY_BYTES:  # also in the newer form for large files, which has the largest number
        raise OSError(0, f"the directory of the zip file has more than {_MAX_DIRECTORY_BYTES >> 20} MiB", "")


def _find_fault(info: zipfile.ZipInfo) -> str:
    names = info.filename.replace("\\", "/").split("/")
    if info.filename.startswith(("/", "\\")) or ".." in names or ":" in names[0]:
        return "its path leads outside"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "it is a link"
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted"
    return ""


def _time_of(info: zipfile.ZipInfo) -> float:
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return 0.0
