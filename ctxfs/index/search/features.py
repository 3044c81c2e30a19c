"""Ranking signals: the results of the engines as columns with one value a candidate. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date

import numpy as np
import numpy.typing as npt

from ctxfs.index.extract.text_features import TextFeature
from ctxfs.index.search.query_hints import QueryHints
from ctxfs.index.search.rank_fusion import Column, Flags, Profile

_TURN_WORDS = 200
_BEST_OF_FILE = 3

Scores = Mapping[int, float]  # chunk → score
Numbers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidate chunks in parallel columns [n], sorted by chunk number.

    `vectors` is -1 for a chunk without a vector, `days` is 0 for an unknown day.
    `folders` are equal for files in the same folder.
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

    @property
    def turns(self) -> Flags:
        """A mask of the dialogue turns: short chunks with an author."""
        found: Flags = (self.authors != "") & (self.words <= _TURN_WORDS)
        return found

    def profiles(self) -> dict[Profile, int]:
        """Return the number of candidates that are dialogue turns, code or prose."""
        turns = self.turns
        code = int(((self.kinds == "code") & ~turns).sum())
        return {"dialogue": int(turns.sum()), "code": code, "prose": len(self.chunks) - int(turns.sum()) - code}

    def before(self, others: Candidates) -> Candidates:
        """Return these candidates followed by `others`, whose chunk numbers are higher."""
        pairs = ((getattr(self, column.name), getattr(others, column.name)) for column in fields(self))
        return Candidates(*(np.concatenate(pair) for pair in pairs))


def columns(
    candidates: Candidates, found: Mapping[str, Scores], hints: QueryHints, complete: Iterable[str] = ()
) -> dict[str, Column]:
    """Return a column for each signal, with NaN for a candidate without a value.

    A signal in `complete` has found all matches, so that a missing value is 0.
    Without dialogue turns, only the signals of the engines are returned.
    """
    out = {name: _placed(candidates.chunks, scores) for name, scores in found.items()}
    turns = candidates.turns
    for name in complete:
        if found.get(name):
            out[name] = np.nan_to_num(out[name])
    if not turns.any():
        return out
    if "words" in out:
        out["file"] = _file_scores(candidates.files, np.nan_to_num(out["words"]))
    out["length"] = np.log1p(candidates.words)
    if hints.authors:
        named = np.array([author in hints.authors for author in candidates.authors], dtype=np.float64)
        out["author"] = named
        out["first_person"] = named * _flag(candidates, TextFeature.FIRST_PERSON)
    if hints.dates:
        out["date"] = np.array([_date_fit(day, hints) for day in candidates.days.tolist()], dtype=np.float64)
    if hints.asks_when:
        out["says_when"] = _flag(candidates, TextFeature.SAYS_WHEN)
    out["asks"] = _flag(candidates, TextFeature.ASKS)
    return out


def _placed(chunks: Numbers, scores: Scores) -> Column:
    """Return the scores as a column aligned with `chunks`, which are sorted; NaN where there is none."""
    out = np.full(len(chunks), np.nan)
    if scores and len(chunks):
        numbers = np.fromiter(scores.keys(), dtype=np.int64, count=len(scores))
        values = np.fromiter(scores.values(), dtype=np.float64, count=len(scores))
        at = np.minimum(np.searchsorted(chunks, numbers), len(chunks) - 1)
        here = chunks[at] == numbers
        out[at[here]] = values[here]
    return out


def _flag(candidates: Candidates, trait: TextFeature) -> Column:
    flags: Column = ((candidates.traits & int(trait)) != 0).astype(np.float64)
    return flags


def _date_fit(day: int, hints: QueryHints) -> int:
    if not 0 < day <= date.max.toordinal():
        return 0
    when = date.fromordinal(day)
    return max(mentioned.fits(when) for mentioned in hints.dates)


def nearby_means(candidates: Candidates, chunks: Numbers, files: Numbers, cosines: Column, reach: int) -> Column:
    """Return the mean cosine of each turn and its neighbours within `reach` chunks in the same file.

    The mean is NaN for a candidate that is no turn, or has no vector nearby.
    `chunks` [m] are the sorted neighbours, `files` [m] their files, `cosines` [m] their cosines to the query.
    """
    turns = candidates.turns
    total, count = np.zeros(len(turns)), np.zeros(len(turns))
    if len(chunks):
        for step in range(-reach, reach + 1):
            wanted = candidates.chunks + step
            at = np.minimum(np.searchsorted(chunks, wanted), len(chunks) - 1)
            same = (chunks[at] == wanted) & (files[at] == candidates.files) & ~np.isnan(cosines[at])
            same &= turns
            total[same] += cosines[at][same]
            count[same] += 1
    means: Column = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def _file_scores(files: Numbers, words: Column) -> Column:
    """Return for each candidate the sum of the three best word scores in its file."""
    out = np.empty(len(files))
    order = np.lexsort((-words, files))
    starts = np.flatnonzero(np.r_[True, np.diff(files[order]) != 0])
    for start, end in zip(starts, [*starts[1:], len(files)], strict=True):
        out[order[start:end]] = words[order[start : min(end, start + _BEST_OF_FILE)]].sum()
    return out
