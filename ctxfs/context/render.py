"""How a context reads. Pure: pieces in, Markdown out; one header a source, a short citation at each piece."""

from collections.abc import Sequence
from datetime import date
from itertools import groupby

from ctxfs.context.pack import Piece
from ctxfs.model.path import printable


def render_markdown(query: str, notes: Sequence[str], pieces: Sequence[Piece]) -> str:
    """The whole context; pieces of one source stand together in the order of their lines.

    Sources come in the order of their best piece, numbered `[n]`. A piece of several lines is preceded by `[n:first-last]`, a single
    line by its number as in `grep -n`: half of a dialogue's citations would otherwise be brackets. The directory that
    all sources share is named once, above them, and so is the date that all pieces of a source share.
    """
    lines: list[str] = []
    if query.strip():
        lines.append(f"# {' '.join(query.split())}")
    lines.extend(f"> {note}" for note in notes)
    sources = _by_source(pieces)
    shared = _shared_directory([path for path, _ in sources])
    if shared:
        lines.append(f"\nBelow {printable(shared)}")
    for number, (path, inside) in enumerate(sources, 1):
        days = {piece.day for piece in inside}
        day = next(iter(days)) if len(days) == 1 else None
        lines.append(f"\n## [{number}] {printable(path.removeprefix(shared))}{_dated(day)}")
        loose = True
        for piece in inside:
            own_day = "" if day is not None else _dated(piece.day)
            loose = _render_piece(lines, number, piece, own_day, loose)
    if not pieces:
        lines.append("\nNothing found." if not notes else "\nNothing to show.")
    return "\n".join(lines).lstrip("\n") + "\n"


def _render_piece(lines: list[str], number: int, piece: Piece, day: str, loose: bool) -> bool:
    """Append one piece; a single line stands beside its citation. True if the next one needs an empty line before it."""
    if piece.first == piece.last and not piece.heading and not _is_code(piece.path):
        lines.append(f"{chr(10) if loose else ''}{piece.first}:{day} {printable(piece.text)}")
        return False
    trail = f" {piece.heading}" if piece.heading else ""
    lines.append(f"\n[{number}:{piece.first}-{piece.last}]{day}{printable(trail)}")
    fence = _fence(piece.text)
    lines.append(f"{fence}\n{printable(piece.text)}\n{fence}" if _is_code(piece.path) else printable(piece.text))
    return True


def _dated(day: int | None) -> str:
    return f" {date.fromordinal(day).isoformat()}" if day and 0 < day <= date.max.toordinal() else ""


def _shared_directory(paths: Sequence[str]) -> str:
    """`a/b/` when two or more sources all lie in it; empty otherwise."""
    if len(paths) < 2:
        return ""
    first, last = min(paths), max(paths)
    length = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    return first[: first.rfind("/", 0, length) + 1]


def _by_source(pieces: Sequence[Piece]) -> list[tuple[str, list[Piece]]]:
    order: dict[str, int] = {}
    for piece in pieces:
        order.setdefault(piece.path, len(order))
    ordered = sorted(pieces, key=lambda piece: (order[piece.path], piece.first))
    return [(path, list(inside)) for path, inside in groupby(ordered, key=lambda piece: piece.path)]


def _is_code(path: str) -> bool:
    return not path.endswith((".md", ".txt", ".rst", ".markdown", ".jsonl")) and "." in path.rsplit("/", 1)[-1]


def _fence(text: str) -> str:
    """A fence longer than any in the text, so that a piece cannot end its own block."""
    longest = 2
    for line in text.splitlines():
        stripped = line.lstrip()
        longest = max(longest, len(stripped) - len(stripped.lstrip("`")))
    return "`" * (longest + 1)
