"""Lanes of versions: a column for each session of a principal, drawn beside the rows of a table. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxfs.web.bars import colour

MAX_LANES = 12  # later sessions share the last one
LANE_WIDTH = 14


@dataclass(slots=True)
class Lane:
    """The versions of one session of a principal, or of all others in the last lane."""

    principal: str
    session: str
    css: str
    count: int = 0
    first: int = 0
    last: int = 0
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Stroke:
    """A lane in one row: the line from the row above (`up`) and to the row below (`down`), and the version (`is_here`)."""

    x: float
    css: str
    up: bool
    down: bool
    is_here: bool


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes of a table, the strokes of each row, and their common width."""

    lanes: Sequence[Lane]
    strokes: Sequence[Sequence[Stroke]]
    width: int


def lay_lanes(versions: Sequence[Mapping[str, Any]]) -> Lanes:
    """Return the lanes of versions, in the order of their rows."""
    lanes, by_name, numbers = list[Lane](), dict[tuple[str, str], int](), list[int]()
    for row, version in enumerate(versions):
        name = str(version["principal"]), str(version["session"])
        number = by_name.setdefault(name, min(len(by_name), MAX_LANES - 1))
        if number == len(lanes):
            lanes.append(Lane(*name, css=colour(number), first=row))
        lane = lanes[number]
        lane.is_shared = lane.is_shared or (lane.principal, lane.session) != name
        lane.count, lane.last = lane.count + 1, row
        numbers.append(number)
    strokes = [
        [
            Stroke((number + 0.5) * LANE_WIDTH, lane.css, lane.first < row, lane.last > row, numbers[row] == number)
            for number, lane in enumerate(lanes)
            if lane.first <= row <= lane.last
        ]
        for row in range(len(numbers))
    ]
    return Lanes(lanes, strokes, max(1, len(lanes)) * LANE_WIDTH)
