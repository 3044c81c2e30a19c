"""Ranking of a query's candidates: by filters, by exact keywords, or by the fusion of full-text and vector signals.

Every function takes the open view, under the lock of the searcher.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor
from dataclasses import replace
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING

from ctxfs.index.extract.chunks import NEIGHBOUR_CHUNKS
from ctxfs.index.extract.session_parts import KIND
from ctxfs.index.normal_form import fold_literal
from ctxfs.index.query import Query
from ctxfs.index.search.query_hints import QueryHints
from ctxfs.index.search.question_embedding import EmbeddedQuery
from ctxfs.index.search.regex_literals import MIN_LITERAL_CHARS
from ctxfs.index.search.results import Hit
from ctxfs.model.path import ROOT, Path

if TYPE_CHECKING:
    # Imported by the view: see `searcher`.
    from ctxfs.index.engines.catalog_schema import ChunkRow
    from ctxfs.index.engines.vectors import Neighbours, Vectors
    from ctxfs.index.search.features import Candidates, Numbers
    from ctxfs.index.search.rank_fusion import Column, Ranking
    from ctxfs.index.search.view import IndexView

DEFAULT_POOL_CHUNKS = 400
# Few chunks that pass a filter are compared one by one. For many, the graph returns so many that some of them pass.
_MAX_COMPARED_CHUNKS = 6000
_MAX_WIDENED_POOL = 4 * DEFAULT_POOL_CHUNKS
_MIN_PASSING = 50
_MIN_FILTERED_HITS = 25
_CHUNKS_PER_HIDDEN_FILE = 4
_MAX_HIDDEN_CHUNKS = 10_000
# The size of a full pool after cutting, if the result must not depend on the history of the index.
_MAX_EXACT_POOL = 300
_MAX_EXACT_PROSE_POOL = 200
_MAX_FILTERED_CHUNKS = 1_000_000
_MAX_OPERATOR_CHUNKS = 5000
# Of the best chunks by words, so many of those without a vector are embedded within a query, if its time allows.
_MAX_WAITING = 32
_MAX_SEARCHED_WAITING = 64
_WHITE_SPACE = re.compile(r"\s")


def search_filters(view: IndexView, query: Query, below: Path, limit: int) -> list[Hit]:
    """Return a hit for each file that passes the filters of a query without words, newest first."""
    # The files in the overlay are newer than those in the index.
    overlay_chunks = view.overlay.first_passing(query, below)
    indexed_chunks = view.catalog.first_chunks(
        view.full_text.chunks_passing(query, below, _MAX_FILTERED_CHUNKS), limit, view.hidden
    )
    chunks = [*overlay_chunks, *indexed_chunks][:limit]
    rows = view.rows(chunks)
    return [Hit(rows[chunk], 1.0, {"filter": 1.0}) for chunk in chunks if chunk in rows]


def search_exact(view: IndexView, query: Query, below: Path, limit: int) -> list[Hit]:
    """Return a hit for each file that matches the keywords: its chunk with the most occurrences.

    The file with the most occurrences comes first, after those that have the accents of the query.
    """
    keywords = query.keywords
    keyword_sets = [{word} for word in keywords.every] or [set(keywords.some)]
    # Trigrams are looked up chunk by chunk, but the keywords of a file may be in different chunks.
    literal_sets = [{fold_literal(word) for word in words} for words in keyword_sets]
    lookups = [
        [literals]
        for literals in literal_sets
        if all(len(literal) >= MIN_LITERAL_CHARS and not _WHITE_SPACE.search(literal) for literal in literals)
    ]
    file_sets = [set(view.full_text.files_with_literals(needed, below)) for needed in lookups or [[]]]
    files = sorted(set.intersection(*file_sets) - view.hidden)
    texts = view.catalog.texts_of(files)
    if query.has_filters or view.full_text.count_passing(query, ROOT) is not None:
        passing = set(view.full_text.chunks_passing(query, below, _MAX_FILTERED_CHUNKS))
        texts = (row for row in texts if row[1] in passing)
    ranked: list[tuple[int, int, int]] = []
    for _, rows in groupby(chain(view.overlay.passing_texts(query, below), texts), key=lambda row: row[0]):
        chunks = list(rows)
        chunk_texts = [text for _, _, text in chunks]
        counts = keywords.count(chunk_texts)
        if any(counts):
            accented = keywords.count_accented(chunk_texts)
            ranked.append((accented, sum(counts), chunks[counts.index(max(counts))][1]))
    ranked.sort(key=lambda item: (-item[0], -item[1], item[2]))
    rows_by_chunk = view.rows([chunk for _, _, chunk in ranked[:limit]])
    return [
        Hit(rows_by_chunk[chunk], float(n), {"exact": float(n)}, {"exact": float(n)})
        for _, n, chunk in ranked[:limit]
        if chunk in rows_by_chunk
    ]


def search_ranked(
    view: IndexView, embedded: EmbeddedQuery, below: Path, limit: int, executor: Executor
) -> tuple[Ranking, list[str]]:
    """Return the best `limit` candidates of all engines, and the reasons why engines could not be searched."""
    hints, notes = embedded.hints, [embedded.note] if embedded.note else []
    query = hints.query
    # Hidden chunks must not displace visible ones from the pool.
    pool = DEFAULT_POOL_CHUNKS + min(_CHUNKS_PER_HIDDEN_FILE * _count_hidden(view, query), _MAX_HIDDEN_CHUNKS)
    # A named author is one of many, so that the author's chunks get a pool of their own.
    has_named_authors = hints.authors and not query.authors
    queries = [query, replace(query, authors=tuple(hints.authors))] if has_named_authors else [query]
    # Before the vector search starts, because it shares the cache of filters with this thread.
    indexed = _omit_idle_filters(view, queries, below)
    # The model may have changed since the query was embedded.
    vector = embedded.vector if embedded.model == (view.model.id if view.model is not None else 0) else None
    # Few vectors have few near ones: a full pool would contain all of them, regardless of distance.
    share = view.share_embedded(query, below) if vector is not None else 1.0
    vector_limit = max(1, pool - DEFAULT_POOL_CHUNKS + round(DEFAULT_POOL_CHUNKS * share))
    # Both engines release the interpreter lock while they search, so that they run in parallel.
    vector_scores = (
        executor.submit(_merge_nearest, view, vector, queries, below, vector_limit, embedded.exact)
        if vector is not None and view.vectors is not None
        else None
    )
    scores_by_signal = _search_words(view, indexed, pool) if query.mode != "meaning" else {}
    full_signals = {name for name, scores in scores_by_signal.items() if len(scores) >= pool}
    if embedded.exact:
        scores_by_signal |= _score_again(view, query, scores_by_signal, full_signals)
    if query.mode != "words":
        scores_by_signal["meaning"] = vector_scores.result() if vector_scores is not None else {}
        if view.behind and vector is not None:
            notes.append(view.behind)
    candidates = _collect_candidates(view, query, below, scores_by_signal, embedded.candidate_vectors)
    scored = _fuse_signals(view, embedded, vector, candidates, scores_by_signal, full_signals, limit, share)
    if embedded.has_feedback and candidates.turns.any():
        scored = _feed_back(view, hints, vector is not None, candidates, scored)
    return scored, notes


def _count_hidden(view: IndexView, query: Query) -> int:
    """Return the number of hidden files that pass the kinds of a query."""
    if query.kinds == (KIND,) or KIND in query.without_kinds:
        return view.count_hidden(of_history=query.kinds == (KIND,))
    return len(view.hidden)


def find_waiting(view: IndexView, hints: QueryHints, below: Path, executor: Executor) -> list[ChunkRow]:
    """Return the best chunks by words that have no vector, at most 32 of the best 64, best first.

    If there are fewer, the chunks that were written last follow, because their words may differ from the query's.
    """
    scored, _ = search_ranked(view, EmbeddedQuery(hints), below, _MAX_SEARCHED_WAITING, executor)
    chunks = dict.fromkeys(scored.chunks.tolist())
    if not (hints.query.must or hints.query.phrases or hints.query.must_not):
        chunks |= dict.fromkeys(view.overlay.newest_passing(hints.query, below, _MAX_WAITING))
    unindexed = view.overlay.candidates((chunk for chunk in chunks if chunk < 0), view.columns.folder_number)
    candidates = unindexed.followed_by(view.columns.candidates(chunks))
    waiting = set(candidates.chunks[candidates.is_waiting].tolist())
    numbers = [chunk for chunk in chunks if chunk in waiting][:_MAX_WAITING]
    # Without names: vectors are kept for all readers.
    rows = view.rows(numbers, has_names=False)
    return [rows[chunk] for chunk in numbers if chunk in rows]


def _omit_idle_filters(view: IndexView, queries: Sequence[Query], below: Path) -> list[tuple[Query, Path]]:
    """Return (query, folder) for the full-text index, without filters that every chunk passes.

    Such a filter costs the full-text index as much as one that excludes chunks.
    """
    return [
        (query, below) if view.filtered_chunks(query, below) is not None else (query.without_filters(), ROOT)
        for query in queries
    ]


def _search_words(view: IndexView, indexed: Sequence[tuple[Query, Path]], pool: int) -> dict[str, dict[int, float]]:
    """Return the scores of the signals `words` and `around` by chunk, merged over queries with different filters."""
    full_text = view.full_text
    return {
        "words": {chunk: score for query, folder in indexed for chunk, score in full_text.search(query, folder, pool)},
        "around": {
            chunk: score for query, folder in indexed for chunk, score in full_text.search_around(query, folder, pool)
        },
    }


def _collect_candidates(
    view: IndexView,
    query: Query,
    below: Path,
    scores_by_signal: Mapping[str, dict[int, float]],
    candidate_vectors: Mapping[int, Vectors],
) -> Candidates:
    """Return the chunks of all signals, with those of the overlay. Add the scores of the overlay to the signals.

    Chunks of the overlay with a vector are candidates even without a word of the query.
    """
    chunks = set().union(*scores_by_signal.values())
    if query.must or query.phrases or query.must_not:
        # Operators apply to words: a chunk that the full-text index does not return does not satisfy them.
        chunks &= {chunk for chunk, _ in view.full_text.search(query, below, _MAX_OPERATOR_CHUNKS)}
    candidates = view.columns.candidates(chunks, view.hidden)
    if not view.overlay or query.mode == "meaning":
        return candidates
    repeated = view.full_text.repetitions(query)

    def weigh_term(term: str) -> float:
        return view.idf(term) * repeated.get(term, 1.0)

    own_scores, neighbour_scores = view.overlay.search(query, below, view.full_text.question_terms(query), weigh_term)
    scores_by_signal["words"].update(own_scores)
    scores_by_signal["around"].update(neighbour_scores)
    unindexed = view.overlay.candidates(
        {*own_scores, *neighbour_scores, *(chunk for chunk in candidate_vectors if chunk < 0)},
        view.columns.folder_number,
    )
    return unindexed.followed_by(candidates)


def _fuse_signals(
    view: IndexView,
    embedded: EmbeddedQuery,
    vector: Vectors | None,
    candidates: Candidates,
    scores_by_signal: Mapping[str, Mapping[int, float]],
    full_signals: AbstractSet[str],
    limit: int,
    share: float,
) -> Ranking:
    """Return the best `limit` candidates by the fusion of their signals; `full_signals` are cut off at the pool."""
    from ctxfs.index.search.confidence import confidence_column
    from ctxfs.index.search.definitions import score_definitions
    from ctxfs.index.search.features import align_scores, signal_columns
    from ctxfs.index.search.rank_fusion import IDENTIFIER_WEIGHTS, fuse, mixed_weights

    # A chunk that is absent from all matches has none of the words; absent from a full pool, it may have some.
    complete = {name for name in ("words", "around") if name in scores_by_signal and name not in full_signals}
    signals = signal_columns(candidates, scores_by_signal, embedded.hints, complete)
    if embedded.hints.dates and "file" in signals:
        signals["file"] = signals["file"] + _score_days(view, embedded.hints.query, candidates)
    waiting = candidates.is_waiting.copy()
    if vector is not None and (scores_by_signal["meaning"] or embedded.candidate_vectors):
        indices, cosines = _compare_waiting(candidates, vector, embedded.candidate_vectors)
        waiting[indices] = False
        signals["meaning"][indices] = cosines
        signals |= _compute_cosines(view, vector, candidates, signals["meaning"], indices)
    trust = embedded.trust * _weigh_meaning(view, vector, signals.get("meaning"))
    weights: Mapping[str, float] = mixed_weights(candidates.profiles(), trust)
    if (confidence := confidence_column(view, candidates.files)) is not None:
        signals["confidence"] = confidence
    identifier = embedded.hints.identifier
    if identifier and (definitions := score_definitions(view, identifier, scores_by_signal.get("words", {}))):
        signals["definition"] = align_scores(candidates.chunks, definitions, 0.0)
        weights = IDENTIFIER_WEIGHTS
    return fuse(
        candidates.chunks,
        signals,
        weights,
        ("meaning", "nearby") if view.behind else (),
        limit,
        candidates.folders if candidates.turns.any() else None,
        waiting,
        share,
        candidates.is_noise,
        candidates.files,
    )


def _score_days(view: IndexView, query: Query, candidates: Candidates) -> Column:
    """Return the IDF of the words that name the day of each turn: a record has its time beside the text."""
    from ctxfs.index.search.date_words import score_days

    weights = {group: max(map(view.idf, group)) for group in view.full_text.question_terms(query)}
    scores = score_days(query.words, weights, view.full_text.terms, candidates.days)
    return scores * candidates.turns


def _feed_back(
    view: IndexView, hints: QueryHints, has_meaning: bool, candidates: Candidates, scored: Ranking
) -> Ranking:
    """Return the ranking after a second search of its turns (`relevance_feedback`)."""
    import numpy as np

    from ctxfs.index.engines.word_split import split_words
    from ctxfs.index.search.relevance_feedback import Turns, count_feedback_hits, feed_back

    indices = np.searchsorted(candidates.chunks, scored.chunks)
    is_turn, vectors = candidates.turns[indices], candidates.vectors[indices]
    rows = view.rows(scored.chunks.tolist(), keep=True)
    texts = [
        rows[chunk].text if is_own and chunk in rows else ""
        for chunk, is_own in zip(scored.chunks.tolist(), is_turn.tolist(), strict=True)
    ]
    cosines = np.full(len(texts), np.nan)
    if has_meaning and view.vectors is not None:
        best = vectors[: count_feedback_hits(scored.scores)]
        for vector in (row for row in view.vectors.rows(best) if row is not None):
            cosines = np.fmax(cosines, view.vectors.cosines(vector, vectors))
    known = " ".join((*hints.query.words, *hints.query.phrases, *set(candidates.authors[indices].tolist())))
    return feed_back(scored, Turns(texts, candidates.files[indices], is_turn, cosines), known, split_words)


def _weigh_meaning(view: IndexView, vector: Vectors | None, cosines: Column | None) -> float:
    """Return the factor of the weights of vectors, from the largest cosine on the scale of the built-in model."""
    import numpy as np

    from ctxfs.index.search.cosine_background import measure_background
    from ctxfs.index.search.rank_fusion import weigh_best_cosine
    from ctxfs.index.search.verdict import scale_cosines

    if vector is None or cosines is None or np.isnan(cosines).all():
        return 1.0
    best = np.array([np.nanmax(cosines)])
    background = measure_background(view, vector)
    return weigh_best_cosine(float((best if background is None else scale_cosines(best, *background))[0]))


def _score_again(
    view: IndexView, query: Query, scores_by_signal: Mapping[str, Mapping[int, float]], full_signals: set[str]
) -> dict[str, dict[int, float]]:
    """Score the results of the word search again, from the current content alone.

    Cut the last results of a full pool, because another index might have others in their place.
    Add the signals that are cut here to `full_signals`.
    """
    if "words" not in scores_by_signal:
        return {}
    required = ((term,) for term in view.full_text.required_terms(query))
    terms = list(dict.fromkeys((*view.full_text.question_terms(query), *required)))
    has_turns = bool(view.columns.candidates(scores_by_signal["around"]).turns.any())
    max_candidates, pool_limit = (
        (len(scores_by_signal["words"]), _MAX_EXACT_POOL) if has_turns else (_MAX_EXACT_POOL, _MAX_EXACT_PROSE_POOL)
    )
    # Without dialogue, neighbours do not count, and chunks are large, so that fewer of them are useful.
    words = dict(islice(scores_by_signal["words"].items(), max_candidates))
    if len(words) < len(scores_by_signal["words"]):
        full_signals.add("words")
    own_scores, neighbour_scores = view.score_candidates(
        words, scores_by_signal["around"] if has_turns else {}, terms, view.full_text.repetitions(query)
    )
    scored = {"words": own_scores, "around": neighbour_scores}
    return {
        name: _select_best(scores, pool_limit) if name in full_signals else scores for name, scores in scored.items()
    }


def _select_best(scores: Mapping[int, float], limit: int) -> dict[int, float]:
    """Return the best `limit` scores, and all that tie with the last of them."""
    threshold = sorted(scores.values(), reverse=True)[:limit][-1:] or [0.0]
    return {chunk: score for chunk, score in scores.items() if score >= threshold[0]}


def _merge_nearest(
    view: IndexView, vector: Vectors, queries: Sequence[Query], below: Path, pool: int, exact: bool
) -> dict[int, float]:
    """Return the cosines by chunk, merged over queries with the same words and different filters."""
    return {
        chunk: cosine for query in queries for chunk, cosine in _find_nearest(view, vector, query, below, pool, exact)
    }


def _find_nearest(
    view: IndexView, vector: Vectors, query: Query, below: Path, pool: int, exact: bool
) -> list[tuple[int, float]]:
    """Return (chunk, cosine) of the nearest chunks that pass the filters."""
    import numpy as np

    assert view.vectors is not None

    def nearest(limit: int) -> list[tuple[int, float]]:
        assert view.vectors is not None
        if exact:
            return _map_to_chunks(view, view.vectors.search_among(vector, view.living_vectors(), limit))
        return _map_to_chunks(view, view.vectors.search(vector, round(limit * view.vectors_per_chunk)))

    passing = view.filtered_chunks(query, below)
    if passing is None:
        return nearest(pool)[:pool]
    if passing.count > _MAX_COMPARED_CHUNKS:
        widened = nearest(max(pool, min(_MAX_WIDENED_POOL, _MIN_PASSING * len(view.columns) // passing.count)))
        passing_chunks = passing.among([chunk for chunk, _ in widened])
        scored = [pair for pair in widened if pair[0] in passing_chunks]
        if len(scored) >= _MIN_FILTERED_HITS or passing.listed is None:
            return scored[:pool]
    assert passing.listed is not None
    _, _, vectors = view.columns.vectors_of(passing.listed)
    among = _map_to_chunks(view, view.vectors.search_among(vector, np.unique(vectors), pool))
    # Chunks that do not pass may share a vector with chunks that do.
    passing_chunks = passing.among([chunk for chunk, _ in among])
    return [pair for pair in among if pair[0] in passing_chunks][:pool]


def _map_to_chunks(view: IndexView, neighbours: Neighbours) -> list[tuple[int, float]]:
    """Return (chunk, cosine), nearest first, for each chunk that has one of the found vectors."""
    chunks, positions = view.columns.chunks_with(neighbours[0])
    return list(zip(chunks.tolist(), neighbours[1][positions].tolist(), strict=True))


def _compare_waiting(
    candidates: Candidates, vector: Vectors, candidate_vectors: Mapping[int, Vectors]
) -> tuple[Numbers, Column]:
    """Return (index, cosine) of the candidates that have no vector in the index and one in `candidate_vectors`."""
    import numpy as np

    if not candidate_vectors:
        return np.empty(0, dtype=np.int64), np.empty(0)
    is_known = (candidates.vectors < 0) & np.isin(candidates.chunks, np.fromiter(candidate_vectors, dtype=np.int64))
    indices = np.flatnonzero(is_known)
    rows = [candidate_vectors[chunk] for chunk in candidates.chunks[indices].tolist()]
    return indices, np.array([float(row @ vector) for row in rows])


def _compute_cosines(
    view: IndexView, vector: Vectors, candidates: Candidates, found_cosines: Column, waiting: Numbers
) -> dict[str, Column]:
    """Return the cosine of each candidate, and the mean cosine of each turn and its neighbours.

    `found_cosines` contains the known cosines, NaN for the other candidates.
    `waiting` are the indices of the candidates with a known cosine that have no vector in the index.
    """
    import numpy as np

    from ctxfs.index.search.features import nearby_means

    def indexed_cosines(vectors: Numbers) -> Column:
        return np.full(len(vectors), np.nan) if view.vectors is None else view.vectors.cosines(vector, vectors)

    meaning = found_cosines.copy()
    is_missing = np.isnan(found_cosines)
    meaning[is_missing] = indexed_cosines(candidates.vectors[is_missing])
    out = {"meaning": meaning}
    turns = candidates.chunks[candidates.turns]
    if len(turns):
        around = np.unique(np.concatenate([turns + step for step in range(-NEIGHBOUR_CHUNKS, NEIGHBOUR_CHUNKS + 1)]))
        chunks, files, vectors = view.columns.vectors_of(around)
        numbers = np.concatenate([candidates.chunks[waiting], chunks])
        order = np.argsort(numbers)
        all_files = np.concatenate([candidates.files[waiting], files])[order]
        all_cosines = np.concatenate([meaning[waiting], indexed_cosines(vectors)])[order]
        out["nearby"] = nearby_means(candidates, numbers[order], all_files, all_cosines, NEIGHBOUR_CHUNKS)
    return out
