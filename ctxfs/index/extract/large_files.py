"""The searched part of a file above the size limit: its head, and the tail of logs and records, whose newest lines it has.

The text between both is replaced by its line ends, so that the lines of the tail have their numbers. Memory is bounded by
the limit, time by `MAX_MEASURED_BYTES`.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import BinaryIO

from ctxfs.index.extract.formats import is_slow, size_limit
from ctxfs.index.extract.text_decoding import is_binary

MAX_MEASURED_BYTES = 256 << 20  # of a larger file the tail is not searched, and the digest is that of its head
_MAX_GAP_LINES = 4_000_000
_PIECE_BYTES = 1 << 20
_PROBE_BYTES = 8192
_GROWING_NAME = re.compile(
    r".*\.(?:log|jsonl|ndjson|out|err|trace|journal)(?:[._-][\w-]{1,20}){0,2}|syslog|messages|dmesg"
)


@dataclass(frozen=True, slots=True)
class SearchedContent:
    """The bytes of a file that are searched.

    `digest` is the SHA-256 of the whole file, `note` is empty, or states which part is searched.
    """

    data: bytes
    digest: bytes
    note: str = ""


def is_searched_in_part(name: str) -> bool:
    """Return True for formats whose head can be read. Office files, books and PDFs are read whole, or not at all."""
    return not is_slow(name)


def read_searched(file: BinaryIO, name: str, size: int, max_file_bytes: int) -> SearchedContent:
    """Return the searched part of a file of `size` bytes, opened at its begin; of a binary file its first bytes."""
    limit = size_limit(name, max_file_bytes)
    probe = file.read(_PROBE_BYTES)
    if size > limit and probe.strip(b"\0") and is_binary(probe):
        return SearchedContent(probe, hashlib.sha256(probe).digest(), _describe(len(probe), 0, size))
    head = probe + file.read(limit - len(probe)) if limit > len(probe) else probe[:limit]
    digest = hashlib.sha256(head)
    if size <= len(head):
        return SearchedContent(head, digest.digest())
    if size > MAX_MEASURED_BYTES:
        part = _cut_at_line(head)
        return SearchedContent(part, digest.digest(), _describe(len(part), 0, size))
    has_tail = _GROWING_NAME.fullmatch(name.lower()) is not None and b"\0" not in probe and b"\n" in head
    return _read_rest(file, head, digest, size, has_tail=has_tail)


def _read_rest(file: BinaryIO, head: bytes, digest: "hashlib._Hash", size: int, *, has_tail: bool) -> SearchedContent:
    """Read the rest of a file for its digest and its tail."""
    limit = len(head)
    part = _cut_at_line(head[: limit // 2] if has_tail else head)
    tail, gap_lines = bytearray(head[len(part) :]), 0
    read_bytes = limit
    while read_bytes < MAX_MEASURED_BYTES and (piece := file.read(_PIECE_BYTES)):
        digest.update(piece)
        read_bytes += len(piece)
        if has_tail:
            tail += piece
            if (excess := len(tail) - limit // 2) > _PIECE_BYTES:
                gap_lines += tail.count(b"\n", 0, excess)
                del tail[:excess]
    size = max(size, read_bytes)
    if not has_tail:
        return SearchedContent(part, digest.digest(), _describe(len(part), 0, size))
    start = tail.find(b"\n", max(0, len(tail) - limit // 2)) + 1
    gap_lines += tail.count(b"\n", 0, start)
    if not start or gap_lines > _MAX_GAP_LINES:
        part = _cut_at_line(head)
        return SearchedContent(part, digest.digest(), _describe(len(part), 0, size))
    data = b"".join((part, b"\n" * gap_lines, tail[start:]))
    return SearchedContent(data, digest.digest(), _describe(len(part), len(tail) - start, size))


def _cut_at_line(head: bytes) -> bytes:
    """Return the whole lines of a head; all of it if its last line is longer than half of it."""
    end = head.rfind(b"\n", len(head) // 2)
    if end < 0:
        end = len(head)
    elif b"\0" not in head[:_PROBE_BYTES]:
        return head[: end + 1]
    return head[: end - end % 4]  # characters of 16 and 32 bits stay whole


def _describe(head_bytes: int, tail_bytes: int, size: int) -> str:
    tail = f" and the last {tail_bytes:,}" if tail_bytes else ""
    return f"the first {head_bytes:,}{tail} of {size:,} bytes are searched"
