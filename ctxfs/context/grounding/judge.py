"""Rule-based comparison of a response with its sources: supporting and contradicting evidence for each claim.

Pure except for the embedder. Each claim is compared with the sentences of the sources that share most with it, by words
weighted with IDF and by embedding. A claim is contradicted by its best sentence if both make the same statement except
for a number, a date, a name or a negation. These are rules without understanding: inference from two sources,
arithmetic, and antonyms need a model, which may be configured as a judge.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ctxfs.context.build.piece import Piece
from ctxfs.context.build.sentences import sentences
from ctxfs.context.grounding.claims import MOST, Citation, Claim, claims_of
from ctxfs.context.grounding.sentence_values import SentenceValues, differing_dates, expanded, said
from ctxfs.model.path import printable

Verdict = Literal["supported", "contradicted", "unsupported", "unchecked"]
Kind = Literal["number", "date", "name", "negation", "memory"]
Analyse = Callable[[str], Sequence[str]]
Embed = Callable[[Sequence[str]], Any]  # texts → float32 [len, dimensions], rows of length one

NEEDS_A_MODEL = (
    "Told by rules: words, numbers, dates, names, and denial by words such as 'not'. What follows from several sources, arithmetic, and"
    " opposites in other words ('on' for 'off') need a model: set context.judge in ctxfs.toml."
)
_TRIED = 4  # sentences compared by embedding for a claim
_SUPPORTED = 0.62
_SAME_STATEMENT = 0.55  # share of the claim's other words that a sentence needs before it can contradict the claim
_NEARLY_ALL = 0.8
_LEXICAL = 0.7
_KEY_VALUE = re.compile(r"\s*+(?:[-*+]\s*+)?\**+([^:\n]{2,60}?)\**\s*(?::|=)\s+(\S.{0,200})")


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence of a source; `number` is the source's number in the context, 0 if it is not part of it."""

    text: str
    path: str
    first: int
    last: int
    number: int = 0


@dataclass(frozen=True, slots=True)
class Conflict:
    """A difference between a claim and a source, with the values of both."""

    kind: Kind
    claimed: str
    known: str
    at: str

    def record(self) -> dict[str, str]:
        """Return the conflict as plain values."""
        return {
            "kind": self.kind,
            "claim": printable(self.claimed),
            "source": printable(self.known),
            "at": printable(self.at),
        }


@dataclass(slots=True)
class JudgedClaim:
    """A claim with its evaluation; shares are from 0 to 1, None if they were not measured."""

    claim: Claim
    verdict: Verdict = "unchecked"
    support: float = 0.0
    lexical: float = 0.0
    meaning: float | None = None
    source: Evidence | None = None
    conflicts: list[Conflict] = field(default_factory=list)
    citations: list[dict[str, object]] = field(default_factory=list)
    judge: Mapping[str, object] | None = None


@dataclass(slots=True)
class Evaluation:
    """The judged claims of a response, and notes on the limits of the evaluation."""

    claims: list[JudgedClaim]
    notes: list[str]
    stale: list[str] = field(default_factory=list)

    @property
    def groundedness(self) -> float | None:
        """Return the share of checkable claims that the sources support; None if there are none."""
        checked = [each for each in self.claims if each.verdict != "unchecked"]
        return sum(each.verdict == "supported" for each in checked) / len(checked) if checked else None


class Sources:
    """The sentences of sources, with an index of their terms."""

    def __init__(self, evidence: Sequence[Evidence], analyse: Analyse) -> None:
        self.evidence = evidence
        self._analyse = analyse
        self.terms = [frozenset(analyse(expanded(each.text))) for each in evidence]
        self._said: dict[int, SentenceValues] = {}
        self._places: dict[str, list[int]] = defaultdict(list)
        for at, terms in enumerate(self.terms):
            for term in terms:
                self._places[term].append(at)

    def said(self, at: int) -> SentenceValues:
        """Return the comparable values of a sentence; cached, because many claims are near the same sentences."""
        if at not in self._said:
            self._said[at] = said(self.evidence[at].text)
        return self._said[at]

    def near(self, at: int) -> list[int]:
        """Return the indexes of a sentence and of its neighbours in the same source."""
        path = self.evidence[at].path
        return [n for n in (at - 1, at, at + 1) if 0 <= n < len(self.evidence) and self.evidence[n].path == path]

    def worth(self, term: str) -> float:
        """Return the weight of a term, BM25's IDF; a term that no source contains has the highest."""
        seen = len(self._places.get(term, ()))
        return math.log(1 + (len(self.evidence) - seen + 0.5) / (seen + 0.5))

    def nearest(self, text: str, limit: int) -> list[tuple[float, int]]:
        """Return (share of the text's weight, index) of the best `limit` sentences."""
        weights = {term: self.worth(term) for term in set(self._analyse(expanded(text)))}
        total = sum(weights.values())
        if not total:
            return []
        scores: Counter[int] = Counter()
        for term, weight in weights.items():
            places = self._places.get(term, ())
            if len(places) <= max(50, len(self.evidence) // 3) or len(weights) < 4:
                for at in places:
                    scores[at] += weight  # type: ignore[assignment]  # a Counter adds floats as well
        best = sorted(scores, key=lambda at: (-scores[at], len(self.terms[at]), at))[: 4 * limit]
        exact = [(sum(weights[t] for t in weights if t in self.terms[at]) / total, at) for at in best]
        return sorted(exact, key=lambda item: (-item[0], len(self.terms[item[1]]), item[1]))[:limit]


def evidence_of(pieces: Sequence[Piece], numbers: Mapping[str, int]) -> list[Evidence]:
    """Return the sentences of pieces, with the lines of their files."""
    out = []
    for piece in pieces:
        shown = piece.heading and not piece.text.lstrip().startswith("#")
        found = list(sentences(piece.text, code=True)) if piece.kind != "code" else []
        if not found:
            found_lines = [(line, at) for at, line in enumerate(piece.text.split("\n")) if line.strip()]
            out += [
                Evidence(line.strip(), piece.path, piece.first + at, piece.first + at, numbers.get(piece.path, 0))
                for line, at in found_lines
            ]
        for sentence in found:
            first, last = piece.first + sentence.first - 1, piece.first + sentence.last - 1
            text = f"{piece.heading}: {sentence.text}" if shown and len(found) == 1 else sentence.text
            out.append(
                Evidence(text, piece.path, min(first, piece.last), min(last, piece.last), numbers.get(piece.path, 0))
            )
    return out


def evaluate(
    response: str,
    sources: Sources,
    analyse: Analyse,
    embed: Embed | None,
    lines: Mapping[int, Sequence[tuple[int, int]]],
    memory: Sources | None = None,
) -> Evaluation:
    """Judge every claim. Blocks.

    `lines`: number of a source → the (first, last) lines of it that are in the context.
    """
    claims: list[Claim] = []
    notes: list[str] = []
    for claim in claims_of(response):
        if len(claims) == MOST:
            notes.append(f"only the first {MOST} sentences were looked at")
            break
        claims.append(claim)
    judged = [JudgedClaim(claim) for claim in claims]
    checked = [each for each in judged if not each.claim.unchecked]
    tried = [sources.nearest(each.claim.text, _TRIED) for each in checked]
    cosines = _cosines(checked, tried, sources, embed) if embed is not None else None
    if embed is None:
        notes.append("there is no model of meaning: support is told by words alone")
    for at, each in enumerate(checked):
        _judge(each, tried[at], sources, cosines[at] if cosines is not None else None, analyse)
        if memory is not None:
            each.conflicts += _memory_conflicts(each.claim, memory, analyse)
            if each.conflicts:
                each.verdict = "contradicted"
    for each in judged:
        each.citations = [_resolved(citation, each, lines) for citation in each.claim.citations]
    return Evaluation(judged, [NEEDS_A_MODEL, *notes])


def _cosines(
    checked: Sequence[JudgedClaim], tried: Sequence[Sequence[tuple[float, int]]], sources: Sources, embed: Embed
) -> list[dict[int, float]]:
    places = sorted({at for each in tried for _, at in each})
    if not places:
        return [{} for _ in checked]
    known = dict(zip(places, embed([sources.evidence[at].text for at in places]), strict=True))
    mine = embed([each.claim.text for each in checked])
    return [{at: float(vector @ known[at]) for _, at in each} for vector, each in zip(mine, tried, strict=True)]


def _judge(
    each: JudgedClaim,
    tried: Sequence[tuple[float, int]],
    sources: Sources,
    cosines: Mapping[int, float] | None,
    analyse: Analyse,
) -> None:
    """Set the sentence that supports the claim best, and its conflicts with the claim."""
    each.verdict = "unsupported"
    claimed = said(each.claim.text)
    best = -1.0
    for lexical, at in tried:
        meaning = max(0.0, cosines[at]) if cosines is not None else None
        support = lexical if meaning is None else _LEXICAL * lexical + (1 - _LEXICAL) * meaning
        known = sources.evidence[at]
        conflicts = _conflicts(each.claim.text, claimed, at, sources, analyse)
        # Of two equally supporting sentences the one without a conflict wins: the other may be about something else.
        if support - (0.15 if conflicts else 0.0) > best:
            best = support - (0.15 if conflicts else 0.0)
            each.support, each.lexical, each.meaning, each.source = support, lexical, meaning, known
            each.conflicts = conflicts
    if each.conflicts:
        each.verdict = "contradicted"
    elif each.support >= _SUPPORTED:
        each.verdict = "supported"


def _conflicts(text: str, claimed: SentenceValues, at: int, sources: Sources, analyse: Analyse) -> list[Conflict]:
    """Return the differences of a claim and a sentence if both make the same statement."""
    known = sources.evidence[at]
    other = sources.said(at)
    near = sources.near(at)
    place = f"{known.path}:{known.first}" + (f"-{known.last}" if known.last != known.first else "")
    found: list[Conflict] = []
    # A claim with more values than one sentence may have the others from its neighbours.
    merged = len(claimed.numbers) > len(other.numbers)
    numbers = claimed.numbers - (
        other.numbers.union(*(sources.said(n).numbers for n in near)) if merged else other.numbers
    )
    instead = other.numbers - claimed.numbers
    if numbers and other.numbers:
        found.append(Conflict("number", _shown(numbers), _shown(instead or other.numbers), place))
    dates = differing_dates(claimed.dates, tuple(date for n in near for date in sources.said(n).dates))
    if dates and differing_dates(other.dates, claimed.dates):
        found.append(Conflict("date", "; ".join(map(_date, dates)), "; ".join(map(_date, other.dates)), place))
    known_words = {word for n in near for word in re.findall(r"\w+", sources.evidence[n].text.lower())}
    names = {name for name in claimed.names if not set(re.findall(r"\w+", name)) <= known_words}
    claim_words = set(re.findall(r"\w+", text.lower()))
    others = {name for name in other.names if not set(re.findall(r"\w+", name)) <= claim_words}
    if names:
        found.append(Conflict("name", ", ".join(sorted(names)), ", ".join(sorted(others)), place))
    if claimed.denies != other.denies:
        found.append(
            Conflict(
                "negation",
                "denies it" if claimed.denies else "says so",
                "denies it" if other.denies else "says so",
                place,
            )
        )
    if not found:
        return []
    # The remaining words of both have to be one statement: otherwise they merely have the same topic.
    apart = _terms_of(numbers | instead, names | others, claimed.dates + other.dates, analyse)
    mine = set(analyse(expanded(text))) - apart - _DENYING
    shared = sum(sources.worth(term) for term in mine if term in sources.terms[at])
    total = sum(sources.worth(term) for term in mine)
    share = shared / total if total else 0.0
    # Without a value in its place, or with a negation alone, nearly all remaining words have to be the same.
    sure = any(
        (each.kind == "number" and instead) or (each.kind == "name" and others) or each.kind == "date" for each in found
    )
    return found if share >= (_SAME_STATEMENT if sure else _NEARLY_ALL) else []


_DENYING = frozenset("not no never none neither nor without cannot n't don doesn didn isn aren wasn weren t".split())


def _terms_of(numbers: Iterable[object], names: Iterable[str], dates: Iterable[object], analyse: Analyse) -> set[str]:
    text = " ".join((*map(str, numbers), *names, *map(_date, dates)))
    return set(analyse(text))


def _shown(numbers: Iterable[Any]) -> str:
    return ", ".join(f"{float(number):g}" for number in sorted(numbers))


def _date(mentioned: Any) -> str:
    parts = (mentioned.year, mentioned.month, mentioned.day)
    return "-".join(f"{part:02}" for part in parts if part is not None)


def _memory_conflicts(claim: Claim, memory: Sources, analyse: Analyse) -> list[Conflict]:
    """Return the `key: value` lines of memory whose key the claim names with another value."""
    words = set(analyse(claim.text))
    found = []
    for _, at in memory.nearest(claim.text, _TRIED):
        line = memory.evidence[at]
        pair = _KEY_VALUE.fullmatch(line.text)
        if pair is None:
            continue
        key, value = set(analyse(pair[1])), set(analyse(pair[2]))
        if not key or not key <= words or not value or value <= words:
            continue
        claimed, known = said(claim.text), said(pair[2], starts_sentence=False)
        own = _KEY_VALUE.fullmatch(claim.text)
        differs = bool(
            (known.numbers and claimed.numbers - known.numbers)
            or (known.names and claimed.names - known.names - {pair[1].lower()})
            or (known.dates and differing_dates(claimed.dates, known.dates))
        )
        if differs or (own is not None and set(analyse(own[1])) == key and not value & words):
            found.append(Conflict("memory", claim.text[:200], line.text[:200], f"{line.path}:{line.first}"))
    return found


def _resolved(
    citation: Citation, each: JudgedClaim, lines: Mapping[int, Sequence[tuple[int, int]]]
) -> dict[str, object]:
    """Return a citation's record: if its lines are in the context, and if they contain the supporting sentence."""
    spans = lines.get(citation.number)
    inside = spans is not None and (
        not citation.first or any(first <= citation.first and citation.last <= last for first, last in spans)
    )
    said_there = each.source is not None and each.source.number == citation.number and each.verdict == "supported"
    return {"cite": str(citation), "resolves": bool(inside), "supports": bool(inside and said_there)}
