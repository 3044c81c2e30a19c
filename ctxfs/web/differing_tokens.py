"""Lines with the tokens in which they differ marked. Pure."""

import re
from collections.abc import Iterable, Sequence

Piece = tuple[str, bool]  # a part of a line, and True if it is marked
_MAX_VALUES = 20
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*%?")
_QUOTED = re.compile(r"'([^']{1,200})' against '([^']{1,200})'")
_MAX_CHARACTERS = 20_000


def mark_values(text: str, values: Iterable[str]) -> Sequence[Piece]:
    """Return the parts of a text; those that are one of the values, in any case, are marked."""
    wanted = sorted({value for value in list(values)[:_MAX_VALUES] if value.strip()}, key=len, reverse=True)
    if not wanted:
        return [(text, False)]
    pattern = re.compile("|".join(map(_whole, wanted)), re.IGNORECASE)
    pieces, position = list[Piece](), 0
    for match in pattern.finditer(text):
        pieces += [(text[position : match.start()], False), (match[0], True)]
        position = match.end()
    return [piece for piece in (*pieces, (text[position:], False)) if piece[0]]


def _whole(value: str) -> str:
    """Return the pattern of a value that is no part of a longer word or number."""
    before, after = (r"(?<!\w)" if value[0].isalnum() else ""), (r"(?!\w)" if value[-1].isalnum() else "")
    return f"{before}{re.escape(value)}{after}"


def differing_values(
    conflicts: Sequence[tuple[str, str]], claim: str, source: str, why: str = ""
) -> tuple[Sequence[str], Sequence[str]]:
    """Return (values of a claim, values of its source) that differ.

    They are those of the recorded conflicts, else those that the reason `why` quotes: `number: '90 days' against '30
    days' at …`. Without any, they are the numbers that only one of the two texts has, if both have such numbers.
    """
    pairs = [*conflicts] or _QUOTED.findall(why[:_MAX_CHARACTERS])
    if pairs:
        return [claimed for claimed, _ in pairs], [known for _, known in pairs]
    ours, theirs = (dict.fromkeys(_NUMBER.findall(text[:_MAX_CHARACTERS])) for text in (claim, source))
    claimed, known = ([*ours.keys() - theirs.keys()], [*theirs.keys() - ours.keys()])
    return (claimed, known) if claimed and known else ((), ())


def conflicts_of(record: object) -> Sequence[tuple[str, str]]:
    """Return the (value of the claim, value of the source) of a list of conflicts as records have it."""
    entries = [entry for entry in record if isinstance(entry, dict)] if isinstance(record, list) else []
    return [(str(entry.get("claim", "")), str(entry.get("source", ""))) for entry in entries]
