"""Layout of a treemap: nested rectangles whose areas are amounts, as square as possible. Pure.

The rectangles of a row are laid out along the shorter side while that makes them squarer (Bruls, Huizing and van Wijk,
2000).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

WIDTH, HEIGHT = 1000.0, 560.0
HEADER = 20.0  # height of the name of an agent
_CHARACTER_WIDTH = 8.0
_LINE_HEIGHT = 18.0


class Box(NamedTuple):
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part of a treemap: its name, its amount, the class that colours it, its description and its address."""

    name: str
    amount: float
    css: str
    label: str
    href: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A leaf in its rectangle; `text` is its name if that fits, else empty: a part of it would not be in its label."""

    leaf: Leaf
    box: Box
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """The tiles below one name."""

    name: str
    box: Box
    tiles: Sequence[Tile]


def lay_out(groups: Mapping[str, Mapping[str, Sequence[Leaf]]]) -> Sequence[Group]:
    """Return leaves as rectangles within WIDTH and HEIGHT, by group and by kind in it; the largest come first."""
    sized = sorted(groups.items(), key=lambda group: -_amount_of(group[1]))
    boxes = squarify([_amount_of(kinds) for _, kinds in sized], Box(0, 0, WIDTH, HEIGHT))
    result = list[Group]()
    for (name, kinds), box in zip(sized, boxes, strict=True):
        header = min(HEADER, box.height / 2)
        inner = Box(box.x, box.y + header, box.width, box.height - header)
        shown = _fit(name, Box(box.x, box.y, box.width, HEADER))
        result.append(Group(shown, _rounded(box), _tiles_of(list(kinds.values()), inner)))
    return result


def _tiles_of(kinds: Sequence[Sequence[Leaf]], box: Box) -> list[Tile]:
    kinds = sorted(kinds, key=lambda leaves: -sum(leaf.amount for leaf in leaves))
    tiles = list[Tile]()
    for leaves, part in zip(
        kinds, squarify([sum(leaf.amount for leaf in leaves) for leaves in kinds], box), strict=True
    ):
        leaves = sorted(leaves, key=lambda leaf: -leaf.amount)
        for leaf, tile in zip(leaves, squarify([leaf.amount for leaf in leaves], part), strict=True):
            text = _fit(leaf.name, tile)
            tiles.append(Tile(leaf, _rounded(tile), text if text == leaf.name else ""))
    return tiles


def _amount_of(kinds: Mapping[str, Sequence[Leaf]]) -> float:
    return sum(leaf.amount for leaves in kinds.values() for leaf in leaves)


def squarify(amounts: Sequence[float], box: Box) -> Sequence[Box]:
    """Return a rectangle for each amount, largest first, that fill the box; amounts count as at least a thousandth."""
    total = sum(amounts)
    if not amounts:
        return []
    amounts = [max(amount, total / 1000, 1e-9) for amount in amounts]
    scale = box.width * box.height / sum(amounts)
    areas, boxes, start = [amount * scale for amount in amounts], list[Box](), 0
    while start < len(areas):
        side = max(min(box.width, box.height), 1e-9)
        end = start + 1
        while end < len(areas) and _worst(areas[start : end + 1], side) <= _worst(areas[start:end], side):
            end += 1
        row, box = _place_row(areas[start:end], box)
        boxes += row
        start = end
    return boxes


def _worst(areas: Sequence[float], side: float) -> float:
    """Return the largest ratio of the sides of rectangles that share a row along `side`."""
    total = sum(areas)
    return max(side * side * max(areas) / (total * total), total * total / (side * side * min(areas)))


def _place_row(areas: Sequence[float], box: Box) -> tuple[Sequence[Box], Box]:
    """Return the rectangles of a row along the shorter side of a box, and the rest of the box."""
    total, row, position = sum(areas), list[Box](), 0.0
    if box.width >= box.height:
        depth = total / max(box.height, 1e-9)
        for area in areas:
            length = area / max(depth, 1e-9)
            row.append(Box(box.x, box.y + position, depth, length))
            position += length
        return row, Box(box.x + depth, box.y, max(0.0, box.width - depth), box.height)
    depth = total / max(box.width, 1e-9)
    for area in areas:
        length = area / max(depth, 1e-9)
        row.append(Box(box.x + position, box.y, length, depth))
        position += length
    return row, Box(box.x, box.y + depth, box.width, max(0.0, box.height - depth))


def _rounded(box: Box) -> Box:
    return Box(*(round(value, 1) for value in box))


def _fit(name: str, box: Box) -> str:
    """Return the part of a name that fits into a rectangle."""
    if box.height < _LINE_HEIGHT:
        return ""
    count = int((box.width - _CHARACTER_WIDTH) / _CHARACTER_WIDTH)
    return name if len(name) <= count else f"{name[: count - 1]}…" if count > 3 else ""
