"""Rule-based comparison of a response with its sources: supporting and contradicting evidence for each claim.

Pure except for the embedder. Each claim is compared with the sentences of the sources that share most with it, by words
weighted with IDF and by embedding. A claim is contradicted by its best sentence if both make the same statement except
for a number, a date, a name or a negation. These are rules without understanding: inference from two sources,
arithmetic, and antonyms need a model, which may be configured as a judge.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ctxfs.context.build.piece import Piece
from ctxfs.context.build.sentences import sentences
from ctxfs.context.grounding.claims import MAX_CLAIMS, Citation, Claim, claims_of
from ctxfs.context.grounding.sentence_values import SentenceValues, differing_dates, expand_contractions, extract_values
from ctxfs.model.path import printable

Verdict = Literal["supported", "contradicted", "unsupported", "unchecked"]
Kind = Literal["number", "date", "name", "negation", "memory"]
Analyse = Callable[[str], Sequence[str]]
Embed = Callable[[Sequence[str]], Any]  # texts → float32 [len, dimensions], rows of length one

NEEDS_A_MODEL = (
    "Told by rules: words, numbers, dates, names, and denial by words such as 'not'. What follows from several sources, arithmetic, and"
    " opposites in other words ('on' for 'off') need a model: set context.judge in ctxfs.toml."
)
_MAX_CANDIDATES = 4  # sentences compared by embedding for a claim
_MIN_SUPPORT = 0.62
_MIN_SHARE_SURE = 0.55  # share of the claim's other words that a sentence needs before it can contradict the claim
_MIN_SHARE_UNSURE = 0.8
_LEXICAL_WEIGHT = 0.7
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
        checked = [claim for claim in self.claims if claim.verdict != "unchecked"]
        return sum(claim.verdict == "supported" for claim in checked) / len(checked) if checked else None


class Sources:
    """The sentences of sources, with an index of their terms."""

    def __init__(self, evidence: Sequence[Evidence], analyse: Analyse) -> None:
        self.evidence = evidence
        self._analyse = analyse
        self.terms = [frozenset(analyse(expand_contractions(item.text))) for item in evidence]
        self._values: dict[int, SentenceValues] = {}
        self._postings: dict[str, list[int]] = defaultdict(list)
        for index, terms in enumerate(self.terms):
            for term in terms:
                self._postings[term].append(index)

    def values_of(self, index: int) -> SentenceValues:
        """Return the comparable values of a sentence; cached, because many claims are near the same sentences."""
        if index not in self._values:
            self._values[index] = extract_values(self.evidence[index].text)
        return self._values[index]

    def neighbours(self, index: int) -> list[int]:
        """Return the indexes of a sentence and of its neighbours in the same source."""
        path = self.evidence[index].path
        return [
            n for n in (index - 1, index, index + 1) if 0 <= n < len(self.evidence) and self.evidence[n].path == path
        ]

    def worth(self, term: str) -> float:
        """Return the weight of a term, BM25's IDF; a term that no source contains has the highest."""
        frequency = len(self._postings.get(term, ()))
        return math.log(1 + (len(self.evidence) - frequency + 0.5) / (frequency + 0.5))

    def nearest(self, text: str, limit: int) -> list[tuple[float, int]]:
        """Return (share of the text's weight, index) of the best `limit` sentences."""
        weights = {term: self.worth(term) for term in set(self._analyse(expand_contractions(text)))}
        total = sum(weights.values())
        if not total:
            return []
        scores: Counter[int] = Counter()
        for term, weight in weights.items():
            postings = self._postings.get(term, ())
            if len(postings) <= max(50, len(self.evidence) // 3) or len(weights) < 4:
                for index in postings:
                    scores[index] += weight  # type: ignore[assignment]  # a Counter adds floats as well
        best = sorted(scores, key=lambda index: (-scores[index], len(self.terms[index]), index))[: 4 * limit]
        exact = [(sum(weights[t] for t in weights if t in self.terms[index]) / total, index) for index in best]
        return sorted(exact, key=lambda item: (-item[0], len(self.terms[item[1]]), item[1]))[:limit]


def split_evidence(pieces: Sequence[Piece], numbers: Mapping[str, int]) -> list[Evidence]:
    """Return the sentences of pieces, with the lines of their files."""
    evidence = []
    for piece in pieces:
        has_heading = piece.heading and not piece.text.lstrip().startswith("#")
        parts = list(sentences(piece.text, code=True)) if piece.kind != "code" else []
        if not parts:
            lines = [(line, offset) for offset, line in enumerate(piece.text.split("\n")) if line.strip()]
            evidence += [
                Evidence(
                    line.strip(), piece.path, piece.first + offset, piece.first + offset, numbers.get(piece.path, 0)
                )
                for line, offset in lines
            ]
        for sentence in parts:
            first, last = piece.first + sentence.first - 1, piece.first + sentence.last - 1
            text = f"{piece.heading}: {sentence.text}" if has_heading and len(parts) == 1 else sentence.text
            evidence.append(
                Evidence(text, piece.path, min(first, piece.last), min(last, piece.last), numbers.get(piece.path, 0))
            )
    return evidence


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
        if len(claims) == MAX_CLAIMS:
            notes.append(f"only the first {MAX_CLAIMS} sentences were looked at")
            break
        claims.append(claim)
    judged = [JudgedClaim(claim) for claim in claims]
    checked = [item for item in judged if not item.claim.unchecked]
    tried = [sources.nearest(item.claim.text, _MAX_CANDIDATES) for item in checked]
    cosines = _compute_cosines(checked, tried, sources, embed) if embed is not None else None
    if embed is None:
        notes.append("no embedding model is installed: support is judged by words only")
    for number, item in enumerate(checked):
        _judge_claim(item, tried[number], sources, cosines[number] if cosines is not None else None, analyse)
        if memory is not None:
            item.conflicts += _find_memory_conflicts(item.claim, memory, analyse)
            if item.conflicts:
                item.verdict = "contradicted"
    for item in judged:
        item.citations = [_resolve_citation(citation, item, lines) for citation in item.claim.citations]
    return Evaluation(judged, [NEEDS_A_MODEL, *notes])


def _compute_cosines(
    checked: Sequence[JudgedClaim], tried: Sequence[Sequence[tuple[float, int]]], sources: Sources, embed: Embed
) -> list[dict[int, float]]:
    places = sorted({index for item in tried for _, index in item})
    if not places:
        return [{} for _ in checked]
    vectors = dict(zip(places, embed([sources.evidence[index].text for index in places]), strict=True))
    claim_vectors = embed([item.claim.text for item in checked])
    return [
        {index: float(vector @ vectors[index]) for _, index in item}
        for vector, item in zip(claim_vectors, tried, strict=True)
    ]


def _judge_claim(
    judged: JudgedClaim,
    tried: Sequence[tuple[float, int]],
    sources: Sources,
    cosines: Mapping[int, float] | None,
    analyse: Analyse,
) -> None:
    """Set the sentence that supports the claim best, and its conflicts with the claim."""
    judged.verdict = "unsupported"
    claimed = extract_values(judged.claim.text)
    best = -1.0
    for lexical, index in tried:
        meaning = max(0.0, cosines[index]) if cosines is not None else None
        support = lexical if meaning is None else _LEXICAL_WEIGHT * lexical + (1 - _LEXICAL_WEIGHT) * meaning
        evidence = sources.evidence[index]
        conflicts = _find_conflicts(judged.claim.text, claimed, index, sources, analyse)
        # Of two equally supporting sentences the one without a conflict wins: the other may be about something else.
        if support - (0.15 if conflicts else 0.0) > best:
            best = support - (0.15 if conflicts else 0.0)
            judged.support, judged.lexical, judged.meaning, judged.source = support, lexical, meaning, evidence
            judged.conflicts = conflicts
    if judged.conflicts:
        judged.verdict = "contradicted"
    elif judged.support >= _MIN_SUPPORT:
        judged.verdict = "supported"


def _find_conflicts(
    text: str, claimed: SentenceValues, index: int, sources: Sources, analyse: Analyse
) -> list[Conflict]:
    """Return the differences of a claim and a sentence if both make the same statement."""
    evidence = sources.evidence[index]
    values = sources.values_of(index)
    neighbours = sources.neighbours(index)
    span = f"{evidence.path}:{evidence.first}" + (f"-{evidence.last}" if evidence.last != evidence.first else "")
    conflicts: list[Conflict] = []
    # A claim with more values than one sentence may have the others from its neighbours.
    has_more_numbers = len(claimed.numbers) > len(values.numbers)
    numbers = claimed.numbers - (
        values.numbers.union(*(sources.values_of(n).numbers for n in neighbours))
        if has_more_numbers
        else values.numbers
    )
    replacements = values.numbers - claimed.numbers
    if numbers and values.numbers:
        conflicts.append(
            Conflict("number", _format_numbers(numbers), _format_numbers(replacements or values.numbers), span)
        )
    dates = differing_dates(claimed.dates, tuple(date for n in neighbours for date in sources.values_of(n).dates))
    if dates and differing_dates(values.dates, claimed.dates):
        conflicts.append(
            Conflict("date", "; ".join(map(_format_date, dates)), "; ".join(map(_format_date, values.dates)), span)
        )
    names = _names_without(claimed, (sources.evidence[n].text.lower() for n in neighbours))
    other_names = _names_without(values, (text.lower(),))
    if names:
        conflicts.append(Conflict("name", ", ".join(sorted(names)), ", ".join(sorted(other_names)), span))
    if claimed.denies != values.denies:
        conflicts.append(Conflict("negation", _format_negation(claimed), _format_negation(values), span))
    if not conflicts:
        return []
    # The remaining words of both have to be one statement: otherwise they merely have the same topic.
    differing = _terms_of(numbers | replacements, names | other_names, claimed.dates + values.dates, analyse)
    claim_terms = set(analyse(expand_contractions(text))) - differing - _NEGATIONS
    share = _shared_worth(claim_terms, index, sources)
    # Without a value in its place, or with a negation alone, nearly all remaining words have to be the same.
    is_sure = any(
        (conflict.kind == "number" and replacements)
        or (conflict.kind == "name" and other_names)
        or conflict.kind == "date"
        for conflict in conflicts
    )
    return conflicts if share >= (_MIN_SHARE_SURE if is_sure else _MIN_SHARE_UNSURE) else []


def _names_without(values: SentenceValues, texts: Iterable[str]) -> set[str]:
    """Return the names of a sentence with a word that none of `texts` (in lower case) contains."""
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    return {name for name in values.names if not set(re.findall(r"\w+", name)) <= words}


def _shared_worth(terms: Collection[str], index: int, sources: Sources) -> float:
    """Return the share (0 to 1) of the worth of `terms` that the sentence `index` contains."""
    shared = sum(sources.worth(term) for term in terms if term in sources.terms[index])
    total = sum(sources.worth(term) for term in terms)
    return shared / total if total else 0.0


def _format_negation(values: SentenceValues) -> str:
    return "denies it" if values.denies else "says so"


_NEGATIONS = frozenset("not no never none neither nor without cannot n't don doesn didn isn aren wasn weren t".split())


def _terms_of(numbers: Iterable[object], names: Iterable[str], dates: Iterable[object], analyse: Analyse) -> set[str]:
    text = " ".join((*map(str, numbers), *names, *map(_format_date, dates)))
    return set(analyse(text))


def _format_numbers(numbers: Iterable[Any]) -> str:
    return ", ".join(f"{float(number):g}" for number in sorted(numbers))


def _format_date(mentioned: Any) -> str:
    parts = (mentioned.year, mentioned.month, mentioned.day)
    return "-".join(f"{part:02}" for part in parts if part is not None)


def _find_memory_conflicts(claim: Claim, memory: Sources, analyse: Analyse) -> list[Conflict]:
    """Return the `key: value` lines of memory whose key the claim names with another value."""
    words = set(analyse(claim.text))
    conflicts = []
    for _, index in memory.nearest(claim.text, _MAX_CANDIDATES):
        line = memory.evidence[index]
        pair = _KEY_VALUE.fullmatch(line.text)
        if pair is None:
            continue
        key, value = set(analyse(pair[1])), set(analyse(pair[2]))
        if not key or not key <= words or not value or value <= words:
            continue
        claimed, stored = extract_values(claim.text), extract_values(pair[2], starts_sentence=False)
        claim_pair = _KEY_VALUE.fullmatch(claim.text)
        is_different = bool(
            (stored.numbers and claimed.numbers - stored.numbers)
            or (stored.names and claimed.names - stored.names - {pair[1].lower()})
            or (stored.dates and differing_dates(claimed.dates, stored.dates))
        )
        if is_different or (claim_pair is not None and set(analyse(claim_pair[1])) == key and not value & words):
            conflicts.append(Conflict("memory", claim.text[:200], line.text[:200], f"{line.path}:{line.first}"))
    return conflicts


def _resolve_citation(
    citation: Citation, judged: JudgedClaim, lines: Mapping[int, Sequence[tuple[int, int]]]
) -> dict[str, object]:
    """Return a citation's record: if its lines are in the context, and if they contain the supporting sentence."""
    spans = lines.get(citation.number)
    is_inside = spans is not None and (
        not citation.first or any(first <= citation.first and citation.last <= last for first, last in spans)
    )
    is_support = judged.source is not None and judged.source.number == citation.number and judged.verdict == "supported"
    return {"cite": str(citation), "resolves": bool(is_inside), "supports": bool(is_inside and is_support)}
