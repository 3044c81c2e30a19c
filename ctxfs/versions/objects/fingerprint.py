"""Fingerprints that recognise copies of a text under other names: the blob id, and hashes of runs of words (shingles).

This module is pure: it reads no files.
"""

import hashlib
import re
import zlib

RUN_WORDS = 8
MIN_RUN_WORDS = 3  # for a text shorter than a run
MIN_SHORT_BYTES = 12
MAX_TEXT_BYTES = 16_000_000
_SAMPLING_INTERVAL = 4  # one run in so many of a long text is kept
_MAX_UNSAMPLED_RUNS = 64
_MIN_MATCHING_RUNS = 6
_WORD = re.compile(rb"[0-9a-z\x80-\xff]+")


def blob_id(data: bytes) -> str:
    """Return the id that git gives a blob with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def split_words(data: bytes) -> list[bytes]:
    """Return the words of a text in lower case; they survive wrapping, quoting and markup."""
    return _WORD.findall(data[:MAX_TEXT_BYTES].lower())


def hash_runs(words: list[bytes], length: int = RUN_WORDS) -> set[int]:
    """Return a CRC-32 of every run of `length` words."""
    return {zlib.crc32(b" ".join(words[start : start + length])) for start in range(len(words) - length + 1)}


def copy_fingerprint(data: bytes, max_runs: int) -> tuple[int, list[int]]:
    """Return (words in a run, at most `max_runs` hashes of runs), by which copies of a text are recognised.

    A text that is too short to be recognised has (0, []).
    """
    words = split_words(data)
    length = min(len(words), RUN_WORDS)
    if length < MIN_RUN_WORDS or (length < RUN_WORDS and sum(map(len, words)) < MIN_SHORT_BYTES):
        return 0, []
    runs = sorted(hash_runs(words, length))
    if len(runs) > _MAX_UNSAMPLED_RUNS:
        runs = [run for run in runs if run % _SAMPLING_INTERVAL == 0]
    return length, runs[:max_runs]


def is_copy(hits: int, total_runs: int) -> bool:
    """Return True if a text has enough hits among another text's run hashes to contain a part of it.

    Half of them, or six, suffice. In a long text, whose runs are sampled, six are about thirty words in a row.
    """
    return hits >= min(_MIN_MATCHING_RUNS, max(1, (total_runs + 1) // 2))
