"""Lines with the tokens in which they differ marked. Pure."""

import re
from collections.abc import Iterable, Sequence

Piece = tuple[str, bool]  # a part of a line, and True if it is marked
_MAX_VALUES = 20


def mark_values(text: str, values: Iterable[str]) -> Sequence[Piece]:
    """Return the parts of a text; those that are one of the values, in any case, are marked."""
    wanted = sorted({value for value in list(values)[:_MAX_VALUES] if value.strip()}, key=len, reverse=True)
    if not wanted:
        return [(text, False)]
    pattern = re.compile("|".join(map(re.escape, wanted)), re.IGNORECASE)
    pieces, position = list[Piece](), 0
    for match in pattern.finditer(text):
        pieces += [(text[position : match.start()], False), (match[0], True)]
        position = match.end()
    return [piece for piece in (*pieces, (text[position:], False)) if piece[0]]
