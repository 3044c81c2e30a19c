"""Parts of many rows: a page has at most `MAX_ROWS` of them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_ROWS = 200


@dataclass(frozen=True, slots=True)
class Rows:
    """A part of many rows: those of `number`, and the numbers of the parts before and after it, 0 for none."""

    items: Sequence[Any]
    first: int
    total: int
    number: int
    before: int
    after: int


def cut_rows(items: Sequence[Any], number: int, size: int = MAX_ROWS) -> Rows:
    """Return the part `number` of many rows, from 1; the last one for a number beyond it."""
    count = max(1, -(-len(items) // size))
    number = min(number, count)
    start = (number - 1) * size
    return Rows(
        items[start : start + size], start + 1, len(items), number, number - 1, number + 1 if number < count else 0
    )
