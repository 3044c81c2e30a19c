"""Replacements in texts as models write them: with LF, in files with any line ends."""

from ctxfs.model.line_ends import CR, CRLF, LF, convert_line_ends, line_end_of

MAX_POSITIONS = 20  # listed in an error


def match_line_ends(content: str, old: str, new: str) -> tuple[str, str]:
    """Return `old` and `new` with the line ends that the content has at the place of `old`, if it contains `old` so."""
    if old in content:
        has_ends = LF in old or CR in old
        ends = (CRLF if CRLF in old else CR if LF not in old else LF) if has_ends else line_end_of(content)
        return old, new if ends == LF else convert_line_ends(new, ends)
    for ends in (CRLF, LF, CR):
        if (converted := convert_line_ends(old, ends)) in content:
            return converted, convert_line_ends(new, ends)
    return old, new


def find_positions(content: str, old: str) -> list[int]:
    """Return the offsets of the first `MAX_POSITIONS` occurrences, which may overlap; none for an empty text."""
    offsets: list[int] = []
    offset = content.find(old) if old else -1
    while offset >= 0 and len(offsets) < MAX_POSITIONS:
        offsets.append(offset)
        offset = content.find(old, offset + 1)
    return offsets


def describe_lines(content: str, offsets: list[int]) -> str:
    """Return the line numbers of offsets, as `3, 7, 12`; with an ellipsis if there may be more."""
    numbers = ", ".join(str(line_of(content, offset)) for offset in offsets)
    return f"{numbers}, …" if len(offsets) == MAX_POSITIONS else numbers


def line_of(content: str, offset: int) -> int:
    """Return the number of the line that contains an offset, from 1."""
    return content.count(CR if line_end_of(content) == CR else LF, 0, offset) + 1
