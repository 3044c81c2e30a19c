"""Texts to which both sides have appended lines: the lines of both are kept, those of the log's order first. Pure."""

from dataclasses import dataclass

_RECORD_SUFFIXES = (b".jsonl", b".ndjson", b".log")


@dataclass(frozen=True, slots=True)
class AppendedTexts:
    """Three texts without the appended lines, and `tail`, which are those lines: first theirs, then mine."""

    base: bytes
    mine: bytes
    theirs: bytes
    tail: bytes


def split_appended(base: bytes | None, mine: bytes, theirs: bytes, name: bytes) -> AppendedTexts | None:
    """Return the texts without the lines that both sides appended; None unless both have appended lines.

    A side has appended if lines follow the last line of `base`. `base` is None if both sides created the file: that is
    an append only in a file of records, by its name.
    """
    if base is None:
        is_records = name.lower().endswith(_RECORD_SUFFIXES)
        return AppendedTexts(b"", b"", b"", _join(theirs, mine)) if is_records and mine and theirs else None
    my_end, their_end = _end_of_last_line(base, mine), _end_of_last_line(base, theirs)
    if not 0 <= my_end < len(mine) or not 0 <= their_end < len(theirs):
        return None
    ended = _with_end(base)
    return AppendedTexts(ended, mine[:my_end], theirs[:their_end], _join(theirs[their_end:], mine[my_end:]))


def _end_of_last_line(base: bytes, text: bytes) -> int:
    """Return the end of the last line of `base` in a text, or -1. The last of several equal lines counts."""
    ended = _with_end(base)
    if text.startswith(ended):
        return len(ended)
    last = ended[ended.rfind(b"\n", 0, -1) + 1 :]
    if not last.strip():
        return -1  # an empty line is at any place
    start = text.rfind(b"\n" + last)
    if start >= 0:
        return start + 1 + len(last)
    return len(last) if text.startswith(last) else -1


def _with_end(text: bytes) -> bytes:
    return text if not text or text.endswith(b"\n") else text + b"\n"


def _join(first: bytes, second: bytes) -> bytes:
    return _with_end(first) + second
