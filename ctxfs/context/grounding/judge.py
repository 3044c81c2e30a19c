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
from ctxfs.context.grounding.alignment import Comparison, compare_quantities
from ctxfs.context.grounding.claims import MAX_CLAIMS, Citation, Claim, claims_of
from ctxfs.context.grounding.quantities import Match, Quantity, quantity_text
from ctxfs.context.grounding.sentence_values import SentenceValues, differing_dates, expand_contractions, extract_values
from ctxfs.index.extract.dates import DateMention
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
_CONFLICT_COST, _DOUBT_COST = 0.15, 0.1  # of support, in the choice between sentences
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
    doubt: str = ""  # why it is not supported although its words are


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

    def share(self, text: str, index: int, given: str) -> float:
        """Return the share (0 to 1) of the weight of a text's terms in a sentence; it also counts those of `given`."""
        terms = set(self._analyse(expand_contractions(text)))
        contained = self.terms[index] | set(self._analyse(given))
        total = sum(map(self.worth, terms))
        return sum(self.worth(term) for term in terms if term in contained) / total if total else 0.0

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
        compared = _compare_numbers(judged.claim.text, claimed, index, sources, analyse)
        if compared.equal:  # "1.5 seconds" is found in "1500 ms"
            given = " ".join(quantity_text(judged.claim.text, quantity) for quantity in compared.equal)
            lexical = sources.share(judged.claim.text, index, given)
        meaning = max(0.0, cosines[index]) if cosines is not None else None
        support = lexical if meaning is None else _LEXICAL_WEIGHT * lexical + (1 - _LEXICAL_WEIGHT) * meaning
        evidence = sources.evidence[index]
        conflicts, doubt = _find_conflicts(judged.claim.text, claimed, compared, index, sources, analyse)
        # Of two equally supporting sentences the one without a conflict wins: the other may be about something else.
        preference = support - (_CONFLICT_COST if conflicts else _DOUBT_COST if doubt else 0.0)
        if preference > best:
            best = preference
            judged.support, judged.lexical, judged.meaning, judged.source = support, lexical, meaning, evidence
            judged.conflicts, judged.doubt = conflicts, doubt
    if judged.conflicts:
        judged.verdict = "contradicted"
    elif judged.support >= _MIN_SUPPORT and not judged.doubt:
        judged.verdict = "supported"


@dataclass(slots=True)
class _Differences:
    """The values of a claim that differ from a sentence; `dates` and `names` are those that its neighbours lack, too."""

    conflicts: list[Conflict]
    dates: list[DateMention]
    names: set[str]
    other_names: set[str]


def _find_conflicts(
    text: str, claimed: SentenceValues, compared: Comparison, index: int, sources: Sources, analyse: Analyse
) -> tuple[list[Conflict], str]:
    """Return (differences of a claim and a sentence if both make the same statement, reason for doubt or empty).

    There is doubt if the claim has a value that the sentence and its neighbours lack, or that they give less exactly.
    """
    evidence, values = sources.evidence[index], sources.values_of(index)
    differences = _find_differences(text, claimed, compared, index, sources)
    doubt = compared.doubt or _describe_missing(differences.dates, differences.names)
    if not differences.conflicts:
        return [], doubt
    # The remaining words of both have to be one statement: otherwise they merely have the same topic.
    numbers = [quantity_text(text, one) for one in compared.differing]
    numbers += [quantity_text(evidence.text, one) for one in compared.known]
    ignored = _terms_of(numbers, differences.names | differences.other_names, claimed.dates + values.dates, analyse)
    claim_terms = set(analyse(expand_contractions(text))) - ignored - _NEGATIONS
    share = _shared_worth(claim_terms, index, sources)
    # Without a value in its place, or with a negation alone, nearly all remaining words have to be the same.
    is_sure = any(
        (conflict.kind == "number" and (compared.known or values.versions))
        or (conflict.kind == "name" and differences.other_names)
        or conflict.kind == "date"
        for conflict in differences.conflicts
    )
    if share >= (_MIN_SHARE_SURE if is_sure else _MIN_SHARE_UNSURE):
        return differences.conflicts, doubt
    return [], doubt or f"{differences.conflicts[0].kind}: the source gives {differences.conflicts[0].known}"


def _find_differences(
    text: str, claimed: SentenceValues, compared: Comparison, index: int, sources: Sources
) -> _Differences:
    evidence, values, neighbours = sources.evidence[index], sources.values_of(index), sources.neighbours(index)
    span = f"{evidence.path}:{evidence.first}" + (f"-{evidence.last}" if evidence.last != evidence.first else "")
    conflicts: list[Conflict] = []
    versions = claimed.versions - values.versions
    if compared.differing or (versions and values.versions):
        given = _format_quantities(text, compared.differing, versions)
        known = _format_quantities(evidence.text, compared.known, values.versions if versions else ())
        conflicts.append(Conflict("number", given, known, span))
    dates = differing_dates(claimed.dates, tuple(date for n in neighbours for date in sources.values_of(n).dates))
    if dates and differing_dates(values.dates, claimed.dates):
        given, known = ("; ".join(map(_format_date, days)) for days in (dates, values.dates))
        conflicts.append(Conflict("date", given, known, span))
    names = _names_without(claimed, (sources.evidence[n].text.lower() for n in neighbours))
    other_names = _names_without(values, (text.lower(),))
    if names:
        conflicts.append(Conflict("name", ", ".join(sorted(names)), ", ".join(sorted(other_names)), span))
    if claimed.denies != values.denies:
        conflicts.append(Conflict("negation", _format_negation(claimed), _format_negation(values), span))
    return _Differences(conflicts, dates, names, other_names)


def _compare_numbers(text: str, claimed: SentenceValues, index: int, sources: Sources, analyse: Analyse) -> Comparison:
    values = sources.values_of(index)
    # A claim with more values than one sentence may have the others from its neighbours.
    has_more = len(claimed.quantities) > len(values.quantities)
    nearby = [
        quantity
        for neighbour in (sources.neighbours(index) if has_more else ())
        for quantity in sources.values_of(neighbour).quantities
    ]
    sentence = sources.evidence[index].text
    return compare_quantities(
        text, claimed.quantities, sentence, values.quantities, nearby, lambda part: set(analyse(part))
    )


def _describe_missing(dates: Sequence[DateMention], names: Collection[str]) -> str:
    """Return the values of a claim that its source lacks, in words; empty if there are none."""
    missing = [*map(_format_date, dates), *sorted(names)]
    return f"no source gives {', '.join(missing)}" if missing else ""


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


def _terms_of(numbers: Iterable[str], names: Iterable[str], dates: Iterable[object], analyse: Analyse) -> set[str]:
    text = " ".join((*numbers, *names, *map(_format_date, dates)))
    return set(analyse(text))


def _format_quantities(text: str, quantities: Iterable[Quantity], versions: Iterable[str]) -> str:
    return ", ".join([*dict.fromkeys(quantity_text(text, quantity) for quantity in quantities), *sorted(versions)])


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
            (stored.quantities and _has_other_quantity(claimed, stored))
            or (stored.names and claimed.names - stored.names - {pair[1].lower()})
            or (stored.dates and differing_dates(claimed.dates, stored.dates))
        )
        if is_different or (claim_pair is not None and set(analyse(claim_pair[1])) == key and not value & words):
            conflicts.append(Conflict("memory", claim.text[:200], line.text[:200], f"{line.path}:{line.first}"))
    return conflicts


def _has_other_quantity(claimed: SentenceValues, stored: SentenceValues) -> bool:
    return any(
        all(quantity.compare(other) is Match.DIFFERENT for other in stored.quantities)
        for quantity in claimed.quantities
    )


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
