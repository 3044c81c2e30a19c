"""By what a text is known again when it comes under another name: the id of its bytes, and hashes of runs of its words. Pure."""

import hashlib
import re
import zlib

RUN_WORDS = 8
MIN_RUN_WORDS = 3  # of a text shorter than a run
MIN_SHORT_BYTES = 12
MAX_TEXT_BYTES = 16_000_000
_SAMPLING = 4  # of a long text one run in so many is kept
_LONG_RUNS = 64
_MATCHING_RUNS = 6
_WORD = re.compile(rb"[0-9a-z\x80-\xff]+")


def blob_id(data: bytes) -> str:
    """The id that git has for a content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def words_of(data: bytes) -> list[bytes]:
    """The words of a text in lower case: what wrapping, quoting and markup leave."""
    return _WORD.findall(data[:MAX_TEXT_BYTES].lower())


def runs_of(words: list[bytes], length: int = RUN_WORDS) -> set[int]:
    """A hash of every run of `length` words."""
    return {zlib.crc32(b" ".join(words[at : at + length])) for at in range(len(words) - length + 1)}


def known_by(data: bytes, most: int) -> tuple[int, list[int]]:
    """(words in a run, hashes of runs) by which copies of a text are recognised; none for a text that says too little."""
    words = words_of(data)
    length = min(len(words), RUN_WORDS)
    if length < MIN_RUN_WORDS or (length < RUN_WORDS and sum(map(len, words)) < MIN_SHORT_BYTES):
        return 0, []
    runs = sorted(runs_of(words, length))
    if len(runs) > _LONG_RUNS:
        runs = [run for run in runs if run % _SAMPLING == 0]
    return length, runs[:most]


def is_copy(hits: int, known: int) -> bool:
    """True if a text has so many of the known runs of another one that it holds a part of it: half, or about thirty words in a row."""
    return hits >= min(_MATCHING_RUNS, max(1, (known + 1) // 2))
