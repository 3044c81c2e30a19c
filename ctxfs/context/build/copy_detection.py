"""What was recalled and written back says nothing new. Pure.

A unit is a sentence, a list item or a row, told by its words alone: not by case, marks, line breaks or the citations of a context.
A text is an echo of others if most of what it says is in units that they have too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from ctxfs.context.build.piece import Piece

_LEAST = 24  # bytes of a unit: shorter ones are said by everybody
_SHARE = 0.8
_WRITABLE = ("memory/", "pad/")
# A unit ends at a stop, a row's bar, an empty line, a new item. All that is no letter or digit is space; what cuts a number or
# a shortened word cuts it in every text.
_TABLE = bytes(
    byte if byte >= 128 or bytes((byte,)).isalnum() else 0x00 if byte in b".!?|" else 0x20 for byte in range(256)
)
_ENDS = ("\n\n", "\n- ", "\n* ", "\n#", "\n>", "。", "！", "？", "…")
_CITED = re.compile(r"\[\d{1,4}(?::\d+(?:-\d+)?)?\]")
_ADDED = re.compile(
    r"^(?:Source: \[|Kept: |Revision: ).*$", re.MULTILINE
)  # what ctxfs writes below a fact that it keeps


def units(text: str) -> dict[bytes, int]:
    """Every unit of a text, as it is compared → its length in bytes."""
    if "[" in text:
        text = _CITED.sub(" ", _ADDED.sub("", text))
    for end in _ENDS:
        text = text.replace(end, ".")
    plain = text.lower().encode("utf-8", "replace").translate(_TABLE)
    parts = b" ".join(plain.split()).split(b"\0")
    return {unit: len(unit) for part in parts if len(unit := part.strip()) >= _LEAST}


class CopyDetector:
    """Which of some pieces only repeat others. Sources come before what was written here, and older before younger."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._first: dict[bytes, Piece] = {}
        self._units: dict[int, Mapping[bytes, int]] = {}
        ranked = sorted(pieces, key=_rank)
        if not any(map(_is_written, ranked)):
            return
        for piece in ranked:
            self._units[id(piece)] = mine = units(piece.text)
            for unit in mine:
                self._first.setdefault(unit, piece)

    def original_of(self, piece: Piece) -> Piece | None:
        """The piece of another file that says most of what this one repeats; None for one that says something itself."""
        if not _is_written(piece) or piece.pinned:
            return None
        mine = self._units.get(id(piece), {})
        found: dict[int, tuple[int, Piece]] = {}
        for length, other in self._said_before(piece, mine):
            found[id(other)] = (found.get(id(other), (0, other))[0] + length, other)
        if not mine or sum(length for length, _ in found.values()) < _SHARE * sum(mine.values()):
            return None
        return max(found.values(), key=lambda each: (each[0], each[1].path))[1]

    def _said_before(self, piece: Piece, mine: Mapping[bytes, int]) -> Iterator[tuple[int, Piece]]:
        rank = _rank(piece)
        for unit, length in mine.items():
            other = self._first[unit]
            if other.path != piece.path and _rank(other) < rank:
                yield length, other


def _is_written(piece: Piece) -> bool:
    return piece.path.startswith(_WRITABLE)


def _rank(piece: Piece) -> tuple[bool, int, str]:
    return _is_written(piece), piece.mtime_ns, piece.path
