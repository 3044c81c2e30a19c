"""How a context reads. Pure: pieces in, Markdown out; one header a source, a short citation at each piece."""

from collections.abc import Sequence
from itertools import groupby

from ctxfs.context.pack import Piece
from ctxfs.model.path import printable


def render_markdown(query: str, notes: Sequence[str], pieces: Sequence[Piece]) -> str:
    """The whole context; pieces of one source stand together in the order of their lines.

    Sources come in the order of their best piece. `[n]` numbers the sources; line ranges follow each piece.
    """
    lines: list[str] = []
    if query.strip():
        lines.append(f"# {' '.join(query.split())}")
    lines.extend(f"> {note}" for note in notes)
    for number, (path, inside) in enumerate(_by_source(pieces), 1):
        lines.append(f"\n## [{number}] {printable(path)}")
        for piece in inside:
            trail = f" {piece.heading}" if piece.heading else ""
            fence = _fence(piece.text)
            lines.append(f"\n[{number}:{piece.first}-{piece.last}]{printable(trail)}")
            lines.append(f"{fence}\n{printable(piece.text)}\n{fence}" if _is_code(path) else printable(piece.text))
    if not pieces:
        lines.append("\nNothing found." if not notes else "\nNothing to show.")
    return "\n".join(lines).lstrip("\n") + "\n"


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
