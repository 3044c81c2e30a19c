"""The best parts of one text within a budget, as `ctxfs fit` prints them. Pure except for the embedder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctxfs.context.build.pack import Count, most_that_fit
from ctxfs.context.grounding.judge import Embed, Evidence, Sources
from ctxfs.model.errors import invalid

_GAP = "…"
_WORDS = 0.5
_UNIT_SHARE = 8  # a unit of several lines has at most an eighth of the budget
_LEAST_UNIT = 40  # tokens
_NOTHING = 4  # tokens too few for any content
_EMBEDDED = 1000  # units

Analyse = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit of the text: lines `first` to `last` (from 0, inclusive)."""

    first: int
    last: int
    text: str


def fit(data: bytes, query: str, budget: int, count: Count, analyse: Analyse, embed: Embed | None = None) -> str:
    """Return the paragraphs of a text that match `query` best, in their order, with `…` for omitted ones.

    A text that fits is returned whole. Without a query the first paragraphs are chosen. Raise EINVAL for binary data.
    """
    if b"\0" in data[:8192]:
        raise invalid("fit", "this is binary: a text is needed")
    whole = data.decode("utf-8", "replace")
    if count(whole) <= budget:
        return whole
    lines = whole.rstrip("\n").split("\n")
    units = _units(lines, max(_LEAST_UNIT, budget // _UNIT_SHARE), count)
    order = _ranked(units, query, analyse, embed) if query.strip() else list(range(len(units)))
    kept: set[int] = set()
    left = budget
    for at in order:
        if left < _NOTHING:
            break
        if count(units[at].text) <= left and (used := count(_joined(units, lines, kept | {at}))) <= budget:
            kept.add(at)
            left = budget - used
    return _joined(units, lines, kept) if kept or not order else _start(units[order[0]].text, budget, count)


def _units(lines: Sequence[str], most: int, count: Count) -> list[_Unit]:
    """Split lines into paragraphs, and paragraphs into units of at most `most` tokens."""
    units: list[_Unit] = []
    first, held, tokens = 0, list[str](), 0
    for at, line in enumerate([*lines, ""]):
        cost = count(line)
        if held and (not line.strip() or tokens + cost > most):
            units.append(_Unit(first, first + len(held) - 1, "\n".join(held)))
            held, tokens = [], 0
        if line.strip():
            first = first if held else at
            held.append(line)
            tokens += cost
    return units


def _ranked(units: Sequence[_Unit], query: str, analyse: Analyse, embed: Embed | None) -> list[int]:
    """Rank units, best first, by the IDF of the query terms that they contain and by their embedding."""
    sources = Sources([Evidence(unit.text, "", unit.first, unit.last) for unit in units], analyse)
    wanted = {term: sources.worth(term) for term in set(analyse(query))}
    total = sum(wanted.values()) or 1.0
    scores = [sum(weight for term, weight in wanted.items() if term in terms) / total for terms in sources.terms]
    order = sorted(range(len(units)), key=lambda at: (-scores[at], at))
    if embed is None:
        return order
    # Only the best `_EMBEDDED` units by words are compared by embedding, because more would take minutes.
    tried = order[:_EMBEDDED]
    vectors = embed([query, *(units[at].text for at in tried)])
    near = dict(zip(tried, (vectors[1:] @ vectors[0]).tolist(), strict=True))
    tried.sort(key=lambda at: (-_WORDS * scores[at] - (1 - _WORDS) * near[at], at))
    return [*tried, *order[_EMBEDDED:]]


def _joined(units: Sequence[_Unit], lines: Sequence[str], kept: set[int]) -> str:
    """Join the chosen units; lines between two neighbours stay between them."""
    out: list[str] = []
    before = -1
    for at in sorted(kept):
        if at == before + 1 and out:
            out += lines[units[before].last + 1 : units[at].first]
        elif at:
            out.append(_GAP)
        out.append(units[at].text)
        before = at
    if kept and before < len(units) - 1:
        out.append(_GAP)
    return "\n".join(out) + "\n" if out else ""


def _start(text: str, budget: int, count: Count) -> str:
    words = text.split(" ")
    length = most_that_fit(len(words), lambda most: count(" ".join(words[:most]) + f" {_GAP}\n") <= budget)
    return " ".join(words[:length]) + f" {_GAP}\n" if length else ""
