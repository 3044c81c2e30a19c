"""Bars as SVG: widths of their parts in a view box of 1000 units. Pure."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ctxfs.context.build.breakdown import COLOURS

WIDTH = 1000.0


class Segment(NamedTuple):
    """A part of a bar. `css` is its class, `label` its description, `amount` its value."""

    x: float
    width: float
    css: str
    label: str
    amount: float


def stack(parts: Iterable[tuple[str, float, str]], whole: float) -> Sequence[Segment]:
    """Return the segments of (label, amount, class), side by side in a bar whose full width is `whole`."""
    segments, x = list[Segment](), 0.0
    for label, amount, css in parts:
        width = max(0.0, min(WIDTH - x, WIDTH * amount / whole)) if whole > 0 else 0.0
        segments.append(Segment(round(x, 2), round(width, 2), css, label, amount))
        x += width
    return segments


def colour(number: int) -> str:
    """Return the class of a part, by its number."""
    return f"part{number % COLOURS}"
