"""Ranking signals: the results of the engines as columns with one value a candidate. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.catalog_schema import NOT_EMBEDDED
from ctxfs.index.extract.text_features import TextFeature
from ctxfs.index.search.file_roles import FileRole
from ctxfs.index.search.query_hints import QueryHints
from ctxfs.index.search.rank_fusion import Column, Flags, Profile, fill_gaps

_MAX_TURN_WORDS = 200
_MAX_FILE_CHUNKS = 3
_ROLE_VALUES = {
    FileRole.MAIN: 0.0,
    FileRole.TEST: 1.0,
    FileRole.DOCUMENT: 0.5,
    FileRole.CHANGELOG: 1.0,
    FileRole.LICENCE: 0.0,
    FileRole.SETTINGS: 0.0,
}
_ASIDE = (FileRole.LICENCE, FileRole.SETTINGS)
_SIGNED_KINDS = ("markdown", "code", "html", "pdf")

Scores = Mapping[int, float]  # chunk → score
Numbers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]


@dataclass(frozen=True)  # without slots, because masks are cached
class Candidates:
    """Candidate chunks in parallel columns [n], sorted by chunk number.

    `vectors` is -1 for a chunk that waits for a vector, -2 for one of noise, which never gets one. `days` is 0 for an unknown day.
    `folders` are equal for files in the same folder. `roles` are of `FileRole`.
    """

    chunks: Numbers
    files: Numbers
    folders: Numbers
    kinds: Texts
    authors: Texts
    days: Numbers
    traits: Numbers
    words: Numbers
    vectors: Numbers
    roles: Numbers

    @cached_property
    def turns(self) -> Flags:
        """A mask of the dialogue turns: short chunks with an author, outside of documents that are signed as a whole."""
        turns: Flags = (self.authors != "") & (self.words <= _MAX_TURN_WORDS)
        if turns.any():
            for kind in _SIGNED_KINDS:
                turns &= self.kinds != kind
        return turns

    @cached_property
    def is_code(self) -> Flags:
        """A mask of the chunks of source code."""
        is_code: Flags = self.kinds == "code"
        return is_code

    @property
    def is_waiting(self) -> Flags:
        """A mask of the chunks that wait for a vector."""
        waiting: Flags = self.vectors == -1
        return waiting

    @property
    def is_noise(self) -> Flags:
        """A mask of the chunks of noise, which rank behind the others."""
        noise: Flags = self.vectors == NOT_EMBEDDED
        return noise

    def profiles(self) -> dict[Profile, int]:
        """Return the number of candidates that are dialogue turns, code or prose."""
        turns = int(self.turns.sum())
        code = int((self.is_code & ~self.turns).sum())
        return {"dialogue": turns, "code": code, "prose": len(self.chunks) - turns - code}

    def followed_by(self, others: Candidates) -> Candidates:
        """Return these candidates followed by `others`, whose chunk numbers are higher."""
        pairs = ((getattr(self, column.name), getattr(others, column.name)) for column in fields(self))
        return Candidates(*(np.concatenate(pair) for pair in pairs))


def signal_columns(
    candidates: Candidates, scores_by_signal: Mapping[str, Scores], hints: QueryHints, complete: Iterable[str] = ()
) -> dict[str, Column]:
    """Return a column for each signal, with NaN for a candidate without a value.

    A signal in `complete` has found all matches, so that a missing value is 0.
    Without dialogue turns, only the signals of the engines, and of the roles of files, are returned.
    `aside` is 1 for licences and settings of tools, unless the query names them.
    """
    out = {name: align_scores(candidates.chunks, scores) for name, scores in scores_by_signal.items()}
    if candidates.is_code.any() and (candidates.roles != FileRole.MAIN).any():
        out["beside"] = _score_roles(hints.roles)[candidates.roles]
    aside = _flag_roles_aside(hints.roles)[candidates.roles]
    if aside.any():
        out["aside"] = aside.astype(np.float64)
    turns = candidates.turns
    if "words" in out and "around" in out:
        # A long turn, and the only one of its file, is its own neighbourhood: the index has no other for it.
        is_alone = turns & np.isnan(out["around"]) & ~np.isnan(out["words"])
        out["around"] = np.where(is_alone, out["words"], out["around"])
    for name in complete:
        if scores_by_signal.get(name):
            out[name] = fill_gaps(out[name])
    if not turns.any():
        return out
    if "words" in out:
        out["file"] = _sum_file_scores(candidates.files, fill_gaps(out["words"]))
    out["length"] = np.log1p(candidates.words)
    if hints.authors:
        is_named = np.array([author in hints.authors for author in candidates.authors], dtype=np.float64)
        out["author"] = is_named
        out["first_person"] = is_named * _flag_feature(candidates, TextFeature.FIRST_PERSON)
    if hints.dates:
        out["date"] = np.array([_score_date(day, hints) for day in candidates.days.tolist()], dtype=np.float64)
    if hints.asks_for_time:
        out["says_when"] = _flag_feature(candidates, TextFeature.MENTIONS_TIME)
    out["asks"] = _flag_feature(candidates, TextFeature.IS_QUESTION)
    return out


def align_scores(chunks: Numbers, scores: Scores, absent: float = np.nan) -> Column:
    """Return the scores as a column aligned with `chunks`, which are sorted; `absent` where there is none."""
    out = np.full(len(chunks), absent)
    if scores and len(chunks):
        numbers = np.fromiter(scores.keys(), dtype=np.int64, count=len(scores))
        values = np.fromiter(scores.values(), dtype=np.float64, count=len(scores))
        indices = np.minimum(np.searchsorted(chunks, numbers), len(chunks) - 1)
        is_match = chunks[indices] == numbers
        out[indices[is_match]] = values[is_match]
    return out


# Cached, because most questions name no role.
@lru_cache(maxsize=64)
def _score_roles(named: frozenset[FileRole]) -> Column:
    """Return by role: 1 for a test or changelog, 0.5 for another document, and 0 for code and for the named roles."""
    return np.array([0.0 if role in named else _ROLE_VALUES[role] for role in FileRole])


@lru_cache(maxsize=64)
def _flag_roles_aside(named: frozenset[FileRole]) -> Flags:
    """Return by role: True for a licence or setting that is not among the named roles."""
    return np.array([role in _ASIDE and role not in named for role in FileRole])


def _flag_feature(candidates: Candidates, trait: TextFeature) -> Column:
    flags: Column = ((candidates.traits & int(trait)) != 0).astype(np.float64)
    return flags


def _score_date(day: int, hints: QueryHints) -> int:
    if not 0 < day <= date.max.toordinal():
        return 0
    when = date.fromordinal(day)
    return max(mentioned.match_level(when) for mentioned in hints.dates)


def nearby_means(candidates: Candidates, chunks: Numbers, files: Numbers, cosines: Column, reach: int) -> Column:
    """Return the mean cosine of each turn and its neighbours within `reach` chunks in the same file.

    The mean is NaN for a candidate that is no turn, or has no vector nearby.
    `chunks` [m] are the sorted neighbours, `files` [m] their files, `cosines` [m] their cosines to the query.
    """
    turns = candidates.turns
    total, count = np.zeros(len(turns)), np.zeros(len(turns))
    if len(chunks):
        for step in range(-reach, reach + 1):
            neighbours = candidates.chunks + step
            indices = np.minimum(np.searchsorted(chunks, neighbours), len(chunks) - 1)
            is_neighbour = (
                (chunks[indices] == neighbours) & (files[indices] == candidates.files) & ~np.isnan(cosines[indices])
            )
            is_neighbour &= turns
            total[is_neighbour] += cosines[indices][is_neighbour]
            count[is_neighbour] += 1
    means: Column = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def _sum_file_scores(files: Numbers, words: Column) -> Column:
    """Return for each candidate the sum of the three best word scores in its file."""
    out = np.empty(len(files))
    order = np.lexsort((-words, files))
    starts = np.flatnonzero(np.r_[True, np.diff(files[order]) != 0])
    for start, end in zip(starts, [*starts[1:], len(files)], strict=True):
        out[order[start:end]] = words[order[start : min(end, start + _MAX_FILE_CHUNKS)]].sum()
    return out
