"""The best parts of one text within a budget, as `ctxfs fit` prints them. Pure except for the embedder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ctxfs.context.build.pack import Count, largest_fitting
from ctxfs.context.grounding.judge import Embed, Evidence, Sources
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.model.errors import invalid

_GAP = "…"
_WORD_WEIGHT = 0.5
_UNIT_SHARE = 8  # a unit of several lines has at most an eighth of the budget
_MIN_UNIT_TOKENS = 40  # tokens
_MIN_TOKENS = 4  # tokens too few for any content
_MAX_EMBEDDED_UNITS = 1000  # units

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
    text = read_text(data)
    if text is None:
        raise invalid("fit", "this is binary: a text is needed")
    if count(text) <= budget:
        return text
    lines = text.rstrip("\n").split("\n")
    units = _split_units(lines, max(_MIN_UNIT_TOKENS, budget // _UNIT_SHARE), count)
    order = _rank_units(units, query, analyse, embed) if query.strip() else list(range(len(units)))
    chosen: set[int] = set()
    remaining = budget
    for index in order:
        if remaining < _MIN_TOKENS:
            break
        if (
            count(units[index].text) <= remaining
            and (used := count(_join_units(units, lines, chosen | {index}))) <= budget
        ):
            chosen.add(index)
            remaining = budget - used
    return _join_units(units, lines, chosen) if chosen or not order else _truncate(units[order[0]].text, budget, count)


def _split_units(lines: Sequence[str], max_tokens: int, count: Count) -> list[_Unit]:
    """Split lines into paragraphs, and paragraphs into units of at most `max_tokens` tokens."""
    units: list[_Unit] = []
    first, paragraph, tokens = 0, list[str](), 0
    for number, line in enumerate([*lines, ""]):
        cost = count(line)
        if paragraph and (not line.strip() or tokens + cost > max_tokens):
            units.append(_Unit(first, first + len(paragraph) - 1, "\n".join(paragraph)))
            paragraph, tokens = [], 0
        if line.strip():
            first = first if paragraph else number
            paragraph.append(line)
            tokens += cost
    return units


def _rank_units(units: Sequence[_Unit], query: str, analyse: Analyse, embed: Embed | None) -> list[int]:
    """Rank units, best first, by the IDF of the query terms that they contain and by their embedding."""
    sources = Sources([Evidence(unit.text, "", unit.first, unit.last) for unit in units], analyse)
    weights = {term: sources.worth(term) for term in set(analyse(query))}
    total = sum(weights.values()) or 1.0
    scores = [sum(weight for term, weight in weights.items() if term in terms) / total for terms in sources.terms]
    order = sorted(range(len(units)), key=lambda index: (-scores[index], index))
    if embed is None:
        return order
    # Only the best `_MAX_EMBEDDED_UNITS` units by words are compared by embedding, because more would take minutes.
    candidates = order[:_MAX_EMBEDDED_UNITS]
    vectors = embed([query, *(units[index].text for index in candidates)])
    similarities = dict(zip(candidates, (vectors[1:] @ vectors[0]).tolist(), strict=True))
    candidates.sort(key=lambda index: (-_WORD_WEIGHT * scores[index] - (1 - _WORD_WEIGHT) * similarities[index], index))
    return [*candidates, *order[_MAX_EMBEDDED_UNITS:]]


def _join_units(units: Sequence[_Unit], lines: Sequence[str], chosen: set[int]) -> str:
    """Join the chosen units; lines between two neighbours stay between them."""
    out: list[str] = []
    previous = -1
    for index in sorted(chosen):
        if index == previous + 1 and out:
            out += lines[units[previous].last + 1 : units[index].first]
        elif index:
            out.append(_GAP)
        out.append(units[index].text)
        previous = index
    if chosen and previous < len(units) - 1:
        out.append(_GAP)
    return "\n".join(out) + "\n" if out else ""


def _truncate(text: str, budget: int, count: Count) -> str:
    words = text.split(" ")
    length = largest_fitting(len(words), lambda end: count(" ".join(words[:end]) + f" {_GAP}\n") <= budget)
    return " ".join(words[:length]) + f" {_GAP}\n" if length else ""
