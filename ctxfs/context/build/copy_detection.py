"""Detection of recalled text: written text that only repeats other files is no new evidence. Pure.

A unit is a sentence, a list item or a row. Units are compared by their words alone, without case, punctuation, line
breaks and the citations of a context. A text is a copy if most of its bytes are in units that other texts have, too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from ctxfs.context.build.piece import Piece

_LEAST = 24  # bytes of a unit: shorter ones are common phrases
_SHARE = 0.8
_WRITABLE = ("memory/", "pad/")
# A unit ends at a stop, a row's bar, an empty line or a new item. Every ASCII character except letters and digits is a
# space. A number or an abbreviation that is cut is cut in the same way in every text.
_TABLE = bytes(
    byte if byte >= 128 or bytes((byte,)).isalnum() else 0x00 if byte in b".!?|" else 0x20 for byte in range(256)
)
_ENDS = ("\n\n", "\n- ", "\n* ", "\n#", "\n>", "。", "！", "？", "…")
_CITED = re.compile(r"\[\d{1,4}(?::\d+(?:-\d+)?)?\]")
_ADDED = re.compile(
    r"^(?:Source: \[|Kept: |Revision: ).*$", re.MULTILINE
)  # lines that ctxfs writes below a stored fact


def units(text: str) -> dict[bytes, int]:
    """Return the normalised units of a text → length in bytes."""
    if "[" in text:
        text = _CITED.sub(" ", _ADDED.sub("", text))
    for end in _ENDS:
        text = text.replace(end, ".")
    plain = text.lower().encode("utf-8", "replace").translate(_TABLE)
    parts = b" ".join(plain.split()).split(b"\0")
    return {unit: len(unit) for part in parts if len(unit := part.strip()) >= _LEAST}


class CopyDetector:
    """A detector of pieces that only repeat others; sources rank before written files, older pieces before newer."""

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
        """Return the piece of another file with most of the repeated units; None for a piece with new text."""
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
