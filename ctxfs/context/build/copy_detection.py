"""Detection of recalled text: a memory or a record that only repeats other files is no new evidence. Pure.

A unit is a sentence, a list item or a row. Units are compared by their words alone, without case, punctuation, line
breaks and the citations of a context. A text is a copy if most of its bytes are in units that other texts have, too.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from ctxfs.context.build.piece import Piece
from ctxfs.eventlog.record_marks import RECORDS, is_record_path

_MIN_UNIT_BYTES = 24  # bytes of a unit: shorter ones are common phrases
_MIN_SHARE = 0.8
_WRITABLE = ("memory/", "pad/", RECORDS)
# A unit ends at a stop, a row's bar, an empty line or a new item. Every ASCII character except letters and digits is a
# space. A number or an abbreviation that is cut is cut in the same way in every text.
_BYTE_CLASSES = bytes(
    byte if byte >= 128 or bytes((byte,)).isalnum() else 0x00 if byte in b".!?|" else 0x20 for byte in range(256)
)
_ENDS = ("\n\n", "\n- ", "\n* ", "\n#", "\n>", "。", "！", "？", "…")
_CITATION = re.compile(r"\[\d{1,4}(?::\d+(?:-\d+)?)?\]")
_SPEAKER = re.compile(r"\A[^:\n]{1,80}: ")
_ADDED_LINES = re.compile(
    r"^(?:Source: \[|Kept: |Revision: ).*$", re.MULTILINE
)  # lines that ctxfs writes below a stored fact


def units(text: str) -> dict[bytes, int]:
    """Return the normalised units of a text → length in bytes."""
    if "[" in text:
        text = _CITATION.sub(" ", _ADDED_LINES.sub("", text))
    for end in _ENDS:
        text = text.replace(end, ".")
    plain = text.lower().encode("utf-8", "replace").translate(_BYTE_CLASSES)
    parts = b" ".join(plain.split()).split(b"\0")
    return {unit: len(unit) for part in parts if len(unit := part.strip()) >= _MIN_UNIT_BYTES}


class CopyDetector:
    """A detector of pieces that only repeat others.

    Sources rank before written files, these before records of the event log, and older pieces before newer. Records do
    not represent each other: people repeat themselves, and each time has its date.
    """

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._first: dict[bytes, Piece] = {}
        self._units: dict[int, Mapping[bytes, int]] = {}
        ranked = sorted(pieces, key=_rank)
        if not any(map(_is_written, ranked)):
            return
        for piece in ranked:
            self._units[id(piece)] = piece_units = units(_message_of(piece))
            for unit in piece_units:
                self._first.setdefault(unit, piece)

    def original_of(self, piece: Piece) -> Piece | None:
        """Return the piece of another file with most of the repeated units; None for a piece with new text."""
        if not _is_written(piece) or piece.is_pinned:
            return None
        piece_units = self._units.get(id(piece), {})
        matches: dict[int, tuple[int, Piece]] = {}
        for length, original in self._earlier_units(piece, piece_units):
            matches[id(original)] = (matches.get(id(original), (0, original))[0] + length, original)
        if not piece_units or sum(length for length, _ in matches.values()) < _MIN_SHARE * sum(piece_units.values()):
            return None
        return max(matches.values(), key=lambda match: (match[0], match[1].path))[1]

    def _earlier_units(self, piece: Piece, piece_units: Mapping[bytes, int]) -> Iterator[tuple[int, Piece]]:
        rank = _rank(piece)
        for unit, length in piece_units.items():
            earlier = self._first[unit]
            is_talk = is_record_path(earlier.path) and is_record_path(piece.path)
            if earlier.path != piece.path and not is_talk and _rank(earlier) < rank:
                yield length, earlier


def _message_of(piece: Piece) -> str:
    """Return the text of a piece, that of a record without the name of its speaker in front."""
    return _SPEAKER.sub("", piece.text, count=1) if is_record_path(piece.path) else piece.text


def _is_written(piece: Piece) -> bool:
    return piece.path.startswith(_WRITABLE)


def _rank(piece: Piece) -> tuple[bool, bool, int, str]:
    return _is_written(piece), is_record_path(piece.path), piece.mtime_ns, piece.path
