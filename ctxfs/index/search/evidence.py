"""Evidence for the verdict on a question: the raw signals of its hits and of its words.

The functions take the open view, under the lock of the searcher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ctxfs.index.extract.session_parts import KIND
from ctxfs.index.query import Query, strip_word
from ctxfs.index.search.cosine_background import measure_background
from ctxfs.index.search.date_words import match_days
from ctxfs.index.search.question_embedding import EmbeddedQuery
from ctxfs.index.search.rank_fusion import rank_last
from ctxfs.index.search.repetition import flag_repetitions
from ctxfs.index.search.results import Answer, Evidence, Hit, Verdict
from ctxfs.index.search.verdict import (
    estimate_hits,
    flag_relevant,
    judge,
    measure_author_margin,
    scale_cosines,
)
from ctxfs.model.path import Path, one_line

if TYPE_CHECKING:
    # Imported by the view: see `searcher`.
    from ctxfs.index.engines.catalog_schema import ChunkRow
    from ctxfs.index.engines.vectors import Vectors
    from ctxfs.index.search.rank_fusion import Column, Profile, Ranking
    from ctxfs.index.search.view import IndexView

# The words of a question are looked for in this many best hits, and in this many characters of them.
# Half as many change no verdict in the benchmark by more than one in a hundred.
_MAX_COVERED_HITS = 8
_MAX_COVERED_CHARS = 6000
# If a smaller share of the searched chunks has a vector, the meaning of the rest is not measured.
_MIN_EMBEDDED_SHARE = 0.9
_MAX_TURN_WORDS = 200
_MAX_NAMED_WORDS = 5
_CORRECTION_DISCOUNT = 0.8  # of a word that is found by its correction


@dataclass(frozen=True, slots=True)
class _Words:
    """The terms of a question: their IDF, and which of them the best hits contain."""

    ideal: float
    coverage: float
    missing: float
    missing_words: tuple[str, ...]


def judge_candidates(
    view: IndexView, embedded: EmbeddedQuery, below: Path, scored: Ranking, limit: int, *, has_failed: bool
) -> tuple[Answer, list[Hit]]:
    """Return the verdict on a question, and its best `limit` hits with their probabilities.

    `scored` are all ranked candidates; those that no longer exist are dropped.
    `has_failed`: an engine could not be searched.
    """
    query = embedded.hints.query
    count = max(limit, _MAX_COVERED_HITS)
    scored, rows, repeating = _rank_repetitions_last(view, query, scored, count)
    vector = embedded.vector if view.vectors is not None and view.vectors.model == embedded.model else None
    signals = _rescale(scored.signals, view, vector)
    if repeating:
        signals = {name: np.append(column[:-repeating], [np.nan] * repeating) for name, column in signals.items()}
    best_chunks = scored.chunks[: min(_MAX_COVERED_HITS, len(scored) - repeating)].tolist()
    best_rows = [rows[chunk] for chunk in best_chunks if chunk in rows]
    words = _measure_words(view, embedded, _limit_characters(best_rows))
    evidence = Evidence(
        _find_largest(signals.get("meaning")),
        words.coverage,
        words.missing,
        words.missing_words,
        measure_author_margin(signals, words.ideal),
        bool(np.any(signals.get("author", 0.0) > 0)),
        bool(query.phrases or query.must),
        2 * sum(profile_of(row) == "dialogue" for row in best_rows) > len(best_rows),
    )
    is_complete = not has_failed and (
        vector is None or (not _is_waiting(view, scored) and view.share_embedded(query, below) >= _MIN_EMBEDDED_SHARE)
    )
    hits = _estimate_hits(scored, signals, rows, count, words.ideal)
    others = len(scored) - repeating
    hits = [*hits[:others], *(replace(hit, p=0.0, is_relevant=False) for hit in hits[others:])]
    best_hit = max((hit.p or 0.0 for hit in hits[:_MAX_COVERED_HITS]), default=None) if vector is not None else None
    answer = judge(evidence, bool(best_rows), is_complete, best_hit)
    if repeating and not best_rows and answer.verdict is Verdict.UNKNOWN:
        answer = replace(answer, reasons=("only the same question was found",))
    return answer, hits[:limit]


def _rank_repetitions_last(
    view: IndexView, query: Query, scored: Ranking, count: int
) -> tuple[Ranking, dict[int, ChunkRow], int]:
    """Return (the ranking with the turns that repeat the question last, the rows of its first `count`, their number).

    The rows of those that were moved are among the returned ones, too.
    """
    rows: dict[int, ChunkRow] = {}
    repeating = 0
    while True:
        first = scored.chunks[: min(count, len(scored) - repeating)].tolist()
        new = [chunk for chunk in first if chunk not in rows]
        rows |= view.rows(new)
        texts = [_statement_of(rows[chunk]) if chunk in rows else "" for chunk in first]
        flags = np.zeros(len(scored), dtype=np.bool_)
        asks = scored.signals.get("asks", np.zeros(len(scored)))[: len(first)] > 0
        flags[: len(first)] = flag_repetitions(texts, asks, query, view.full_text.terms)
        moved = int(flags.sum())
        if not moved:
            return scored, rows, repeating
        flags[len(scored) - repeating :] = True
        scored, repeating = rank_last(scored, flags), repeating + moved


def _statement_of(row: ChunkRow) -> str:
    """Return the text of a turn without its speaker; empty for other rows."""
    return row.text.removeprefix(f"{row.author}: ") if profile_of(row) == "dialogue" else ""


def _estimate_hits(
    scored: Ranking, signals: Mapping[str, Column], rows: Mapping[int, ChunkRow], limit: int, ideal: float
) -> list[Hit]:
    """Return the best `limit` hits that exist, with their probabilities by the rescaled `signals`."""
    shown = [(index, item) for index, item in enumerate(scored[:limit]) if item.chunk in rows]
    indices = [index for index, _ in shown]
    existing = [rows[item.chunk] for _, item in shown]
    profiles = [profile_of(row) for row in existing]
    # Compared with all candidates, so that a probability does not depend on the number of hits that are wanted.
    largest = {name: _find_largest_filled(column) for name, column in signals.items() if len(column)}
    columns = {name: column[indices] for name, column in signals.items()}
    probabilities = estimate_hits(columns, profiles, ideal, largest)
    return [
        Hit(row, item.score, item.signals, item.shares, p, is_relevant)
        for row, (_, item), p, is_relevant in zip(
            existing, shown, probabilities, flag_relevant(probabilities, profiles), strict=True
        )
    ]


def profile_of(row: ChunkRow) -> Profile:
    """Return the profile by which the probability of a hit is estimated."""
    if row.author and row.text.count(" ") < _MAX_TURN_WORDS:
        return "dialogue"
    return "code" if row.kind == "code" else "prose"


def _find_largest(column: Column | None) -> float | None:
    """Return the largest measured value; None without one."""
    if column is None or (is_missing := np.isnan(column)).all():
        return None
    return float(column[~is_missing].max())


def _find_largest_filled(column: Column) -> float:
    """Return the largest value, where a missing one counts as 0."""
    largest = float(column.max())
    return largest if largest == largest else float(np.fmax.reduce(column, initial=0.0))  # NaN: a value is missing


def _limit_characters(rows: Sequence[ChunkRow]) -> list[ChunkRow]:
    """Return the first rows within a number of characters, at least one."""
    out: list[ChunkRow] = []
    characters = 0
    for row in rows:
        characters += len(row.text)
        if out and characters > _MAX_COVERED_CHARS:
            break
        out.append(row)
    return out


def _is_waiting(view: IndexView, scored: Ranking) -> bool:
    """Return True if one of the best candidates waits for its vector, so that its meaning is not measured."""
    cosines = scored.signals.get("meaning")
    chunks = scored.chunks[:_MAX_COVERED_HITS]
    chunks = chunks if cosines is None else chunks[np.isnan(cosines[:_MAX_COVERED_HITS])]
    if (chunks <= 0).any():
        return True  # chunks of the overlay have negative numbers and no row
    # Chunks that never get a vector do not wait.
    return len(chunks) > 0 and bool(view.columns.candidates(chunks.tolist()).is_waiting.any())


def _measure_words(view: IndexView, embedded: EmbeddedQuery, rows: Sequence[ChunkRow]) -> _Words:
    from ctxfs.index.engines.question_terms import corrected_terms
    from ctxfs.index.engines.term_statistics import inverse_document_frequency

    query = embedded.hints.query
    required = [(term,) for term in view.full_text.required_terms(query)]
    groups = list(dict.fromkeys([*view.full_text.question_terms(query), *required]))
    # The forms of a word are counted as its most frequent one.
    counts = [max(view.count_chunks_with(term, embedded.exact) for term in group) for group in groups]
    idfs = [inverse_document_frequency(total, count) for count, total in counts]
    ideal = sum(idfs)
    if not ideal:
        return _Words(0.0, 0.0, 0.0, ())
    # The day of a record is that of the message, and its text seldom names it; a file has its dates in its text.
    days = [row.day if row.kind == KIND else None for row in rows]
    is_dated = match_days(query.words, groups, view.full_text.terms, days)
    is_present = view.find_terms(rows, groups) | is_dated
    # A word that only headings, paths or unindexed files contain is not missing.
    found = {group for group, column in zip(groups, is_present.T, strict=True) if column.any()}
    missing = [not count and group not in found for group, (count, _) in zip(groups, counts, strict=True)]
    corrected = set(corrected_terms(query))
    weights = np.array(idfs) * [_CORRECTION_DISCOUNT if group in corrected else 1.0 for group in groups]
    coverage = float((is_present @ weights).max(initial=0.0)) / ideal
    share = sum(idf for idf, is_missing in zip(idfs, missing, strict=True) if is_missing) / ideal
    names = _spell(view, query, {group[0] for group, is_missing in zip(groups, missing, strict=True) if is_missing})
    return _Words(ideal, coverage, share, tuple(names[:_MAX_NAMED_WORDS]))


def _spell(view: IndexView, query: Query, terms: AbstractSet[str]) -> list[str]:
    """Return the words of a query that were indexed under `terms`, as the query spells them."""
    if not terms:
        return []
    words = [strip_word(word) for text in (*query.words, *query.phrases, *query.must) for word in text.split()]
    return [one_line(word) for word in dict.fromkeys(words) if not terms.isdisjoint(view.full_text.terms(word))]


def _rescale(signals: Mapping[str, Column], view: IndexView, vector: Vectors | None) -> Mapping[str, Column]:
    """Return the signals with the cosines on the scale of the built-in model."""
    background = measure_background(view, vector) if vector is not None else None
    if background is None:
        return signals
    return {
        name: scale_cosines(column, *background) if name in ("meaning", "nearby") else column
        for name, column in signals.items()
    }
