"""Replacements in texts as models write them: with LF, in files with any line ends."""

_CRLF, _LF = "\r\n", "\n"
MAX_POSITIONS = 20  # listed in an error


def match_line_ends(content: str, old: str, new: str) -> tuple[str, str]:
    """Return `old` and `new` with the line ends that the content has at the place of `old`, if it contains `old` so."""
    if old in content:
        ends = _CRLF if _CRLF in old or (_LF not in old and has_crlf(content)) else _LF
        return old, convert_line_ends(new, ends) if ends == _CRLF else new
    for ends in (_CRLF, _LF):
        if (converted := convert_line_ends(old, ends)) in content:
            return converted, convert_line_ends(new, ends)
    return old, new


def has_crlf(content: str) -> bool:
    """Return True if most lines of the content end with CRLF."""
    return 2 * content.count(_CRLF) > content.count(_LF)


def convert_line_ends(text: str, ends: str) -> str:
    """Return the text with each line end replaced by `ends`."""
    return text.replace(_CRLF, _LF).replace(_LF, ends)


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
    numbers = ", ".join(str(content.count(_LF, 0, offset) + 1) for offset in offsets)
    return f"{numbers}, …" if len(offsets) == MAX_POSITIONS else numbers
