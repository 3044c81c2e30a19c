"""Search of files and of the event log together: two rankings, merged so that transcripts do not displace files.

Records are ranked as dialogue, among themselves, and files as if there were no records. A transcript repeats the files
that it is about, and has more of them than anything else, so that one ranking of both would lose the file itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING

from ctxfs.index.extract.session_parts import KIND, SESSION_LABEL
from ctxfs.index.query import Query
from ctxfs.index.search import ranking
from ctxfs.index.search.results import Answer, Hit, SearchResults, Verdict
from ctxfs.index.search.validity_order import rank_ended_last
from ctxfs.model.path import Path

if TYPE_CHECKING:
    # Imported by the view: see `searcher`.
    from ctxfs.index.search.question_embedding import EmbeddedQuery
    from ctxfs.index.search.view import IndexView

# While files answer a question, at most every third hit is a record; and the reverse if records answer it better.
_LEADERS_PER_FOLLOWER = 2
_MIN_LEAD = 0.25  # in the probability of an answer
_VERDICTS = (Verdict.UNKNOWN, Verdict.WEAK, Verdict.KNOWN)
_RANK_STEP = 1e-5
_MAX_JUDGED_HITS = 400
_MAX_LISTED_CHUNKS = 1_000_000
_AREA = "history"


def search_ranked(
    view: IndexView, query: Query, embedded: EmbeddedQuery, below: Path, limit: int, executor: Executor
) -> SearchResults:
    """Return the best `limit` hits of a query with words, with the verdict. `embedded` is the query with its hints."""
    hints = embedded.hints
    if not _may_mix(view, query, below):
        results = replace(_search_one(view, embedded, below, limit, executor), query=query)
        return rank_ended_last(view, query, results)
    of_files = replace(hints, query=replace(hints.query, without_kinds=(KIND,)))
    by_authors = replace(of_files.query, authors=tuple(hints.authors))
    if hints.authors and not view.full_text.count_passing(by_authors, below):
        # The named speakers wrote no file: in files, their names are words.
        of_files = replace(of_files, query=_restore_names(of_files.query, query), authors=frozenset())
    of_records = replace(hints, query=replace(hints.query, kinds=(KIND,)), identifier="")
    files, records = (
        _search_one(view, replace(embedded, hints=part), below, limit, executor) for part in (of_files, of_records)
    )
    return rank_ended_last(view, query, replace(_merge(files, records, limit), query=query))


def search_filters(view: IndexView, query: Query, below: Path, limit: int) -> list[Hit]:
    """Return a hit for each file that passes the filters of a query without words, newest first.

    Of the event log, return the newest records, and only if the query or `below` restricts it.
    """
    if query.kinds == (KIND,) or below.parts[:1] == (_AREA,):
        return _list_records(view, query, below, limit)
    names_records = query.authors or query.said != (None, None) or SESSION_LABEL in dict(query.attributes)
    names_records = names_records or any(path.split("/")[0] == _AREA for path in query.paths)
    if query.kinds or not names_records:
        query = replace(query, without_kinds=(*query.without_kinds, KIND))
        return ranking.search_filters(view, query, below, limit)
    files = ranking.search_filters(view, replace(query, without_kinds=(KIND,)), below, limit)
    return [*files, *_list_records(view, replace(query, kinds=(KIND,)), below, limit)][:limit]


def _restore_names(reduced: Query, query: Query) -> Query:
    """Return a query with the names of authors that its hints have taken out of it."""
    typos = {typo for typo, _ in reduced.corrections}
    names = (word for word in query.words if word not in reduced.words and word not in typos)
    return replace(reduced, words=(*reduced.words, *names))


def _may_mix(view: IndexView, query: Query, below: Path) -> bool:
    return below.is_root and not query.kinds and not query.without_kinds and view.has_kind(KIND)


def _search_one(view: IndexView, embedded: EmbeddedQuery, below: Path, limit: int, executor: Executor) -> SearchResults:
    from ctxfs.index.search.evidence import judge_candidates  # imports an engine

    # The verdict depends on all candidates, however few hits are wanted.
    count = max(limit, _MAX_JUDGED_HITS)
    scored, notes = ranking.search_ranked(view, embedded, below, count, executor)
    answer, hits = judge_candidates(view, embedded, below, scored, limit, has_failed=bool(notes))
    return SearchResults(embedded.hints.query, hits, tuple(notes), answer=answer)


def _merge(files: SearchResults, records: SearchResults, limit: int) -> SearchResults:
    """Return the hits of both in one order, with the better verdict."""
    from ctxfs.index.search.evidence import profile_of
    from ctxfs.index.search.verdict import flag_relevant

    answer = max((files, records), key=_merit).answer
    notes = tuple(dict.fromkeys((*files.notes, *records.notes)))
    if not files.hits or not records.hits:
        hits = files.hits or records.hits
        return replace(files, hits=hits, notes=notes, answer=answer)
    distinct = list({hit.chunk.text: hit for hit in reversed(records.hits)}.values())[::-1]
    both = [*files.hits, *distinct]
    flags = flag_relevant([hit.p or 0.0 for hit in both], [profile_of(hit.chunk) for hit in both])
    flagged = [replace(hit, is_relevant=is_relevant) for hit, is_relevant in zip(both, flags, strict=True)]
    groups = flagged[: len(files.hits)], flagged[len(files.hits) :]
    ordered = _interleave(*(groups[::-1] if _lead(records.answer, files.answer) else groups))
    scores = sorted((hit.score for hit in both), reverse=True)
    return replace(files, hits=_rescore(ordered, scores)[:limit], notes=notes, answer=answer)


def _lead(records: Answer, files: Answer) -> bool:
    """Return True if records answer a question clearly better than files."""
    return (records.p or 0.0) > (files.p or 0.0) + _MIN_LEAD


def _merit(results: SearchResults) -> tuple[int, float, bool]:
    return _VERDICTS.index(results.answer.verdict), results.answer.p or 0.0, bool(results.hits)


def _interleave(leaders: Sequence[Hit], followers: Sequence[Hit]) -> list[Hit]:
    """Return the hits of both, each in its order: those that are relevant first, two leaders for each follower."""
    ordered: list[Hit] = []
    leader, follower = 0, 0
    while leader < len(leaders) and follower < len(followers):
        takes_follower = leader >= _LEADERS_PER_FOLLOWER * (follower + 1)
        if leaders[leader].is_relevant != followers[follower].is_relevant:
            takes_follower = followers[follower].is_relevant
        ordered.append(followers[follower] if takes_follower else leaders[leader])
        follower, leader = follower + takes_follower, leader + (not takes_follower)
    return [*ordered, *leaders[leader:], *followers[follower:]]


def _rescore(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    """Return the hits with descending scores; the difference is the share `merge`."""
    out = []
    for rank, (hit, value) in enumerate(zip(hits, scores, strict=True)):
        score = value - _RANK_STEP * rank
        out.append(replace(hit, score=score, shares={**hit.shares, "merge": score - hit.score}))
    return out


def _list_records(view: IndexView, query: Query, below: Path, limit: int) -> list[Hit]:
    """Return a hit for each of the newest `limit` records that pass the filters, by the time of the message."""
    overlay = list(view.overlay.newest_passing(query, below, _MAX_LISTED_CHUNKS))
    wanted = limit
    while True:
        numbers = view.full_text.newest_passing(query, below, wanted)
        living = set(view.columns.candidates(numbers, view.hidden).chunks.tolist())
        if len(living) >= limit or len(numbers) < wanted or wanted >= _MAX_LISTED_CHUNKS:
            break
        wanted *= 4  # parts of them are hidden
    rows = view.rows([*overlay, *(number for number in numbers if number in living)])
    newest = sorted(
        (rows[number] for number in (*overlay, *numbers) if number in rows and (number < 0 or number in living)),
        key=lambda row: (-(row.said or 0), row.path, row.first, -abs(row.id)),
    )
    best = {(row.path, row.first): row for row in reversed(newest)}
    return [Hit(row, 1.0, {"filter": 1.0}) for row in newest if best[row.path, row.first] is row][:limit]
