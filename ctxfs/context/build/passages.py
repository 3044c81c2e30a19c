"""Passages: the pieces of a source as a context shows them. Pure.

Adjacent pieces are one passage. Of the headings above a passage only those remain that its text, or the passage before
it, does not show. Records of the event log stay apart, because each has its own speaker, and their active characters are
escaped: a record may contain any text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ctxfs.context.build.piece import Piece
from ctxfs.eventlog.record_marks import is_record_path
from ctxfs.model.path import lines_of

_MAX_SHOWN_LINES = 12  # of a text, searched for its headings
_SEPARATOR = " > "
_WORD = re.compile(r"\w+")
_DOCUMENTS = (".md", ".txt", ".rst", ".markdown", ".jsonl")


@dataclass(frozen=True, slots=True)
class Passage:
    """Lines `first` to `last` of a source; `heading` is the part of the trail that is not shown elsewhere.

    A line is cited by its number alone. A derived passage has no lines.
    """

    first: int
    last: int
    text: str
    heading: str
    day: int | None
    is_line: bool
    is_derived: bool = False

    @property
    def span(self) -> str:
        """Return the lines as they are cited."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def passages_of(pieces: Sequence[Piece]) -> list[Passage]:
    """Return the passages of one source; `pieces` are in the order of their lines."""
    passages: list[Passage] = []
    trail: list[str] = []
    previous: Piece | None = None
    for piece in pieces:
        parts = _split_heading(piece)
        heading = _unseen_heading(piece, parts, trail)
        trail = parts
        is_record = is_record_path(piece.path)
        text = lines_of(piece.text) if is_record else piece.text
        is_line = piece.first == piece.last and not is_code(piece.path) and bool(piece.path)
        is_line = is_line and not (is_record and "\n" in text)
        is_continued = previous is not None and not is_record and _is_continued(previous, piece)
        if is_continued and (piece.heading or not is_line):
            last = passages[-1]
            text = last.text + "\n" * (piece.first - last.last) + piece.text
            passages[-1] = replace(last, last=piece.last, text=text, is_line=False)
        else:
            passages.append(
                Passage(piece.first, piece.last, text, heading, piece.day, is_line and not heading, not piece.path)
            )
        previous = piece
    return passages


def _is_continued(previous: Piece, piece: Piece) -> bool:
    """Return True if no other text is between two pieces, and neither is cut there."""
    is_adjacent = bool(previous.last) and piece.above == previous.last
    return is_adjacent and piece.day == previous.day and bool(previous.heading or previous.first != previous.last)


def is_code(path: str) -> bool:
    """Return True if a file's line breaks and indentation have to be kept."""
    return not path.endswith(_DOCUMENTS) and "." in path.rsplit("/", 1)[-1]


def _split_heading(piece: Piece) -> list[str]:
    if not piece.heading:
        return []
    is_name = is_code(piece.path) and _SEPARATOR not in piece.heading and " " not in piece.heading
    return piece.heading.split("." if is_name else _SEPARATOR)


def _unseen_heading(piece: Piece, parts: Sequence[str], trail: Sequence[str]) -> str:
    """Return the headings of a piece without those above the last passage, and those in its own first lines."""
    shared = next(
        (n for n, (a, b) in enumerate(zip(parts, trail, strict=False)) if a != b), min(len(parts), len(trail))
    )
    rest = parts[shared:]
    if not rest:
        return ""
    lines = [line for line in piece.text.split("\n", 4 * _MAX_SHOWN_LINES) if line.strip()][:_MAX_SHOWN_LINES]
    shown = {_letters_of(line) for line in lines}
    if is_code(piece.path):
        shown.update(map(_letters_of, _WORD.findall("\n".join(lines))))
    name = piece.path.rpartition("/")[2].casefold()
    rest = [part for part in rest if not all(word in name for word in _WORD.findall(part.casefold()))]
    separator = _SEPARATOR if _SEPARATOR in piece.heading or not is_code(piece.path) else "."
    return separator.join(part for part in rest if _letters_of(part) not in shown)


def _letters_of(text: str) -> str:
    return "".join(filter(str.isalnum, text))
