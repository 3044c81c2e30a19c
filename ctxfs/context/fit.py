"""The best of one text within a budget: what `ctxfs fit` prints. Pure but for the embedder."""

from collections.abc import Callable, Sequence

from ctxfs.context.evaluate import Embed, Sources, evidence_of
from ctxfs.context.pack import Count
from ctxfs.context.piece import Piece
from ctxfs.index.formats import Unreadable, chunks_of
from ctxfs.model.errors import invalid

_GAP = "\n…\n"
_WORDS = 0.5


def fit(
    data: bytes,
    name: str,
    query: str,
    budget: int,
    count: Count,
    analyse: Callable[[str], Sequence[str]],
    embed: Embed | None = None,
) -> str:
    """The units of a text that answer `query` best, in their order, with `…` for what is left out; all of it if it fits.

    Without a question the beginning. EINVAL if `data` holds no text.
    """
    try:
        chunks = chunks_of(name, data)
    except Unreadable as error:
        raise invalid(name, f"cannot be cut into units: {error}") from error
    whole = data.decode("utf-8", "replace")
    if count(whole) <= budget:
        return whole
    pieces = [Piece(str(at), chunk.first, chunk.last, chunk.text, kind="text") for at, chunk in enumerate(chunks)]
    order = _ranked(pieces, query, analyse, embed) if query.strip() else list(range(len(pieces)))
    kept: set[int] = set()
    left = budget
    for at in order:
        cost = count(pieces[at].text)
        if cost <= left and count(_joined(pieces, kept | {at})) <= budget:
            kept.add(at)
            left = budget - count(_joined(pieces, kept)) if len(kept) % 16 == 0 else left - max(0, cost - 4)
            left = max(0, left)
    if not kept and order:
        return _start(pieces[order[0]].text, budget, count)
    return _joined(pieces, kept)


def _ranked(
    pieces: Sequence[Piece], query: str, analyse: Callable[[str], Sequence[str]], embed: Embed | None
) -> list[int]:
    """Best first: the rarer words of the question that a unit has, and how near it is in meaning."""
    sources = Sources(evidence_of(pieces, {}), analyse)
    wanted = {term: sources.worth(term) for term in set(analyse(query))}
    total = sum(wanted.values()) or 1.0
    scores = []
    for piece in pieces:
        terms = set(analyse(piece.text))
        scores.append(sum(weight for term, weight in wanted.items() if term in terms) / total)
    if embed is not None:
        vectors = embed([query, *(piece.text for piece in pieces)])
        near = vectors[1:] @ vectors[0]
        scores = [_WORDS * score + (1 - _WORDS) * float(cosine) for score, cosine in zip(scores, near, strict=True)]
    return sorted(range(len(pieces)), key=lambda at: (-scores[at], at))


def _joined(pieces: Sequence[Piece], kept: set[int]) -> str:
    out: list[str] = []
    before = -1
    for at in sorted(kept):
        out.append(("" if not out else "\n" if at == before + 1 else _GAP) + pieces[at].text)
        before = at
    gap = "\n…" if kept and max(kept) < len(pieces) - 1 else ""
    return "".join(out) + gap + "\n" if out else ""


def _start(text: str, budget: int, count: Count) -> str:
    words = text.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(" ".join(words[:middle]) + " …\n") <= budget else (low, middle - 1)
    return " ".join(words[:low]) + " …\n" if low else ""
