"""Score fusion: one score from many signals. Pure: columns of numbers in, an order out.

Signals without a natural scale (word and vector scores, lengths) are standardised over the candidates.
The others are used unchanged. The score is the weighted sum of the signals.
Score fusion of this kind ranked better than reciprocal rank fusion on every measured set.
On SciFact nDCG@10 is .739 against .717.

Source of the weights:
`dialogue` was fitted by `python -m benchmarks.locomo --fit` on the LoCoMo conversations with an even number.
Its results are reported on the odd ones.
`folder` was set by hand with all conversations in one index, because a single conversation has only one folder.
`prose` uses the two standardised scores alone.
Its shares come from `python -m benchmarks.quality --sweep` on the questions with an even number.
Manual pages: .7 for meaning .798, .6 .787. SciFact was best between .6 and .7, so the share is .65.
`code` was fitted on several collections, each left out once (`python -m benchmarks.code_files --leave-one-out`):
questions → files of Python's library, and commits → files of two repositories, with docstrings → functions beside them.
Since the path is embedded with the chunk, meaning weighs more. nDCG@10 of each collection with the weights of the
others: .910, .648, .630; before .888, .650, .632. Docstrings → functions gain .02.
`passages` gains .02 of nDCG@10 there; functions lose .005 and prose loses.
`confidence` is set by hand, so small that it decides between near equals only (`python -m benchmarks.memory confidence`).
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

Profile = Literal["prose", "dialogue", "code"]
Column = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_STANDARDISED_SIGNALS = frozenset(("words", "around", "meaning", "nearby", "file", "folder", "length"))
_VECTOR_SIGNALS = frozenset(("meaning", "nearby"))
_WORD_SIGNALS = frozenset(("words", "around", "file"))
# The deviations over full pools: of cosines, and of scores by words as a share of the largest.
_USUAL_COSINE_DEVIATION = 0.1
_USUAL_WORDS_SHARE = 0.15
_UNRELATED_COSINE, _UNRELATED_WIDTH = 0.30, 0.03
_PRIOR_CANDIDATES = 16  # the usual deviation counts like so many candidates
_MAX_FOLDER_CHUNKS = 5
# The share of vectors among this many best candidates by words is one estimate of the confidence.
_CONFIDENCE_CHUNKS = 32
_PASSAGE_WEIGHTS = (0.3, 0.3, 0.3)  # of the second to fourth best chunk of a file
# Lengths are compared with those of the other candidates: of few candidates they mean little.
_LENGTH_CANDIDATES = 16
_RANK_STEP = 1e-5
_NOISE_FACTOR = 5
_CONFIDENCE_WEIGHT = 0.02
WEIGHTS: Mapping[Profile, Mapping[str, float]] = {
    "prose": {"words": 0.35, "meaning": 0.65, "aside": -0.5, "confidence": _CONFIDENCE_WEIGHT},
    "code": {"words": 0.25, "meaning": 0.75, "passages": 0.5, "beside": -0.5, "aside": -0.5, "confidence": _CONFIDENCE_WEIGHT},
    "dialogue": {
        "words": 0.17, "around": 0.50, "meaning": 0.84, "nearby": 0.79, "file": 0.37, "folder": 1.00,
        "author": 2.45, "first_person": 0.83, "date": 2.49, "says_when": 1.67, "asks": -1.26, "length": 0.64, "aside": -0.5,
        "confidence": _CONFIDENCE_WEIGHT,
    },
}  # fmt: skip

# For a question that is one identifier with a definition among the candidates.
IDENTIFIER_WEIGHTS: Mapping[str, float] = {"words": 0.75, "meaning": 0.25, "definition": 8.0, "beside": -0.4}


class Groups(NamedTuple):
    """The number of the folder and of the file of each candidate; None if they do not count."""

    folders: npt.NDArray[np.int64] | None = None
    files: npt.NDArray[np.int64] | None = None

    def among(self, flags: Flags) -> Groups:
        """Return the groups of the flagged candidates."""
        return Groups(*(None if group is None else group[flags] for group in self))


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate and its total score.

    `signals` are the measured values (absent: not found by that signal), `shares` the contribution of each signal.
    """

    chunk: int
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranking(Sequence[Scored]):
    """Candidates in parallel columns [n], best first; a sequence of `Scored`.

    `signals` and `shares` are as in `Scored`, NaN where the signal did not find a candidate.
    The columns cost the same for a few and for hundreds of candidates, rows some microseconds each.
    """

    chunks: npt.NDArray[np.int64]
    scores: Column
    signals: Mapping[str, Column]
    shares: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.chunks)

    @overload
    def __getitem__(self, index: int) -> Scored: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scored]: ...
    def __getitem__(self, index: int | slice) -> Scored | list[Scored]:
        if isinstance(index, int):
            return self[index : index + 1 or None][0]
        rows = (
            _split_rows({name: column[index] for name, column in columns.items()}, len(self.chunks[index]))
            for columns in (self.signals, self.shares)
        )
        return [
            Scored(*row) for row in zip(self.chunks[index].tolist(), self.scores[index].tolist(), *rows, strict=True)
        ]

    def __iter__(self) -> Iterator[Scored]:
        return iter(self[:])


def standardise(column: Column, usual_deviation: float = 0.0) -> Column:
    """Return z-scores; all zero if the values do not differ.

    The deviation of few values is drawn towards the usual one: in a store of three files a z-score of 1.4 would
    otherwise stand for any difference, however small, and that of one signal would outweigh the certainty of another.
    """
    if not len(column):
        return column
    variance = float(column.var())
    if variance <= 1e-24:
        return np.zeros_like(column)
    count = len(column)
    deviation = math.sqrt((count * variance + _PRIOR_CANDIDATES * usual_deviation**2) / (count + _PRIOR_CANDIDATES))
    scores: Column = (column - column.mean()) / deviation
    return scores


def _usual_deviation(name: str, column: Column) -> float:
    """Return the deviation of a signal over a full pool of candidates; 0 if it has no usual one."""
    if name in _VECTOR_SIGNALS:
        return _USUAL_COSINE_DEVIATION
    return _USUAL_WORDS_SHARE * float(column.max()) if name in _WORD_SIGNALS else 0.0


def weigh_best_cosine(best: float) -> float:
    """Return the factor (0 to 1) of the weights of vectors for the largest cosine of a question.

    Texts that have nothing in common have cosines up to 0.3, and their order means nothing. The largest one is above
    0.36 for 19 of 20 questions about manual pages and code, and below 0.25 for most words without a context.
    """
    return 1 / (1 + math.exp((_UNRELATED_COSINE - best) / _UNRELATED_WIDTH))


def fill_gaps(column: Column) -> Column:
    """Return a column with 0 in the place of NaN. Faster than `nan_to_num`, which also looks for infinity."""
    filled: Column = np.where(np.isnan(column), 0.0, column)
    return filled


def mixed_weights(profiles: Mapping[Profile, int], trust: float = 1.0) -> dict[str, float]:
    """Return the weights of all profiles, averaged by the number of candidates of each profile.

    Those of vectors are multiplied by `trust`.
    """
    total = max(sum(profiles.values()), 1)
    mixed: dict[str, float] = {}
    for profile, count in profiles.items():
        for name, weight in WEIGHTS[profile].items():
            factor = trust if name in _VECTOR_SIGNALS else 1.0
            mixed[name] = mixed.get(name, 0.0) + factor * weight * count / total
    return mixed


def _average_folders(totals: Column, folders: npt.NDArray[np.int64]) -> Column:
    """Return for each candidate the mean of the best totals in its folder."""
    out = np.empty_like(totals)
    for folder in np.unique(folders):
        is_inside = folders == folder
        out[is_inside] = np.sort(totals[is_inside])[-_MAX_FOLDER_CHUNKS:].mean()
    return out


def _sum_passages(totals: Column, files: npt.NDArray[np.int64]) -> Column:
    """Return for each candidate the weighted sum of the second to fourth best totals of its file, if above average."""
    order = np.lexsort((-totals, files))
    is_first = np.r_[True, np.diff(files[order]) != 0]
    starts = np.flatnonzero(is_first)
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff([*starts, len(order)]))
    weights = np.array((0.0, *_PASSAGE_WEIGHTS, 0.0))[np.minimum(ranks, len(_PASSAGE_WEIGHTS) + 1)]
    sums = np.add.reduceat(weights * np.maximum(totals[order], 0.0), starts)
    out: Column = np.empty_like(totals)
    out[order] = sums[np.cumsum(is_first) - 1]
    return out


def fill_and_standardise(
    signals: Mapping[str, Column], partial: Container[str] = (), unseen: Flags | None = None
) -> dict[str, Column]:
    """Return the columns ready for weighting: gaps filled, and columns without a natural scale standardised.

    Omit a column without any value. A gap is filled with the minimum of its column.
    For `partial` signals, and for the candidates flagged in `unseen`, which no engine has seen,
    it is filled with the mean.
    """
    out = {}
    for name, column in signals.items():
        is_missing = np.isnan(column)
        if is_missing.all():
            continue
        filled = column
        if is_missing.any():
            known = column[~is_missing]
            mean, minimum = known.mean(), known.min()
            absent = mean if name in partial else minimum if unseen is None else np.where(unseen, mean, minimum)
            filled = np.where(is_missing, absent, column)
        is_standardised = name in _STANDARDISED_SIGNALS
        out[name] = standardise(filled, _usual_deviation(name, filled)) if is_standardised else filled
    return out


def fuse(
    chunks: Sequence[int] | npt.NDArray[np.int64],
    signals: Mapping[str, Column],
    weights: Mapping[str, float] = WEIGHTS["prose"],
    partial: Container[str] = (),
    limit: int | None = None,
    folders: Sequence[int] | npt.NDArray[np.int64] | None = None,
    waiting: Flags | None = None,
    share: float = 1.0,
    noise: Flags | None = None,
    files: Sequence[int] | npt.NDArray[np.int64] | None = None,
) -> Ranking:
    """Return the best `limit` of the candidates `chunks`, best first; ties go to the lower number.

    `signals` maps each name to one value a candidate, NaN if the signal did not find it.
    A gap counts as the lowest value of the signal.
    If the signal is `partial` (it does not cover every chunk yet), it counts as the mean, because the value is unknown.
    The same holds for chunks below zero, which no engine has seen yet (`overlay`), and for noise, which has no vector.
    `folders` and `files` number the folder and the file of each candidate, for the signals `folder` and `passages`,
    which aggregate the totals of the others.

    `waiting` flags candidates without a vector, `share` (0 to 1) is the share of the searched chunks that have one.
    A missing vector is unknown, not low: such candidates are ranked without the signals of vectors (`_merge_ranks`).
    `noise` flags candidates that rank behind others (`_rank_behind`).
    """
    numbers = np.asarray(chunks, dtype=np.int64)
    groups = Groups(*(None if group is None else np.asarray(group, dtype=np.int64) for group in (folders, files)))
    unseen: Flags = numbers < 0 if noise is None else (numbers < 0) | noise
    if waiting is not None and waiting.any() and any(weights.get(name) and name in signals for name in _VECTOR_SIGNALS):
        totals, shares = _merge_ranks(numbers, signals, weights, partial, groups, waiting, unseen, share)
    else:
        totals, shares = _weigh_signals(numbers, signals, weights, partial, groups, unseen)
    if noise is not None and noise.any():
        ranked = _rank_behind(totals, numbers, noise)
        shares["noise"], totals = np.where(noise, ranked - totals, np.nan), ranked
    order = np.lexsort((numbers, -totals))[:limit]
    signals, shares = ({name: column[order] for name, column in columns.items()} for columns in (signals, shares))
    return Ranking(numbers[order], totals[order], signals, shares)


def _weigh_signals(
    numbers: npt.NDArray[np.int64],
    signals: Mapping[str, Column],
    weights: Mapping[str, float],
    partial: Container[str],
    groups: Groups,
    unseen: Flags,
) -> tuple[Column, dict[str, Column]]:
    """Return (total of each candidate, contribution of each signal to it)."""
    totals = np.zeros(len(numbers))
    shares: dict[str, Column] = {}
    weighted = {name: column for name, column in signals.items() if weights.get(name)}
    for name, column in fill_and_standardise(weighted, partial, unseen).items():
        certainty = len(numbers) / (len(numbers) + _LENGTH_CANDIDATES) if name == "length" else 1.0
        shares[name] = certainty * weights[name] * column
        totals += shares[name]
    if groups.files is not None and weights.get("passages") and len(numbers):
        shares["passages"] = weights["passages"] * _sum_passages(totals, groups.files)
        totals = totals + shares["passages"]
    if groups.folders is not None and weights.get("folder") and len(numbers):
        shares["folder"] = weights["folder"] * standardise(_average_folders(totals, groups.folders))
        totals = totals + shares["folder"]
    return totals, shares


def _merge_ranks(
    numbers: npt.NDArray[np.int64],
    signals: Mapping[str, Column],
    weights: Mapping[str, float],
    partial: Container[str],
    groups: Groups,
    waiting: Flags,
    unseen: Flags,
    share: float,
) -> tuple[Column, dict[str, Column]]:
    """Return `_weigh_signals`'s columns for candidates of which some have no vector.

    r is the rank of a candidate by all signals except those of vectors.
    k is its rank by all signals among the candidates with a vector.
    A candidate without a vector has the key r.
    One with a vector has the weighted harmonic mean of k and r: 1 / (c/k + (1−c)/r).
    c is the confidence in k: the share of vectors among the searched chunks or among the best by r,
    the larger of the two.
    So at c = 0 the order is that of r, at c = 1 that of k.
    The totals are reassigned in that order, so that they decrease with it; the difference is the share `rank_merge`.
    """
    has_vector = ~waiting
    word_signals = {name: column for name, column in signals.items() if name not in _VECTOR_SIGNALS}
    by_words, word_shares = _weigh_signals(numbers, word_signals, weights, partial, groups, unseen)
    hybrid, hybrid_shares = _weigh_signals(
        numbers[has_vector],
        {name: column[has_vector] for name, column in signals.items()},
        weights,
        partial,
        groups.among(has_vector),
        unseen[has_vector],
    )
    word_ranks = _rank_totals(by_words)
    best = np.lexsort((numbers, word_ranks))[:_CONFIDENCE_CHUNKS]
    confidence = max(min(share, 1.0), float(has_vector[best].mean()))
    keys = word_ranks.copy()
    keys[has_vector] = 1 / (confidence / _rank_totals(hybrid) + (1 - confidence) / word_ranks[has_vector])
    totals = by_words.copy()
    totals[has_vector] = hybrid
    shares = {name: np.where(waiting, column, np.nan) for name, column in word_shares.items()}
    for name, column in hybrid_shares.items():
        shares.setdefault(name, np.full(len(numbers), np.nan))[has_vector] = column
    merged = _reassign(totals, keys, numbers)
    shares["rank_merge"] = merged - totals
    return merged, shares


def _rank_behind(totals: Column, numbers: npt.NDArray[np.int64], noise: Flags) -> Column:
    """Return the totals, reassigned so that noise at rank n is at rank `_NOISE_FACTOR` × (n + 1) or at the end.

    So noise that alone contains a rare word is still found, behind the best of the other candidates.
    """
    order = np.lexsort((numbers, -totals))
    ranks = np.empty(len(totals))
    ranks[order] = np.arange(1, len(totals) + 1)
    return _reassign(totals, np.where(noise, _NOISE_FACTOR * (ranks + 1) - 0.5, ranks), numbers)


def rank_last(ranking: Ranking, flags: Flags) -> Ranking:
    """Return the ranking with the flagged candidates [n] behind all others."""
    keys = np.arange(float(len(flags))) + np.where(flags, len(flags), 0)
    scores = _reassign(ranking.scores, keys, ranking.chunks)
    shares = {**ranking.shares, "repeats": np.where(flags, scores - ranking.scores, np.nan)}
    order = np.argsort(keys)
    signals, shares = ({name: column[order] for name, column in c.items()} for c in (ranking.signals, shares))
    return Ranking(ranking.chunks[order], scores[order], signals, shares)


def _reassign(totals: Column, keys: Column, numbers: npt.NDArray[np.int64]) -> Column:
    """Return the totals in the order of `keys`, the largest for the smallest key; ties go to the lower number."""
    reassigned = np.empty_like(totals)
    # The step keeps equal totals in the new order, even if they are rounded later.
    reassigned[np.lexsort((numbers, keys))] = np.sort(totals)[::-1] - _RANK_STEP * np.arange(len(totals))
    return reassigned


def _rank_totals(totals: Column) -> Column:
    """Return the rank of each total, the largest 1.0; equal totals share the smallest of their ranks."""
    ranks: Column = np.searchsorted(np.sort(-totals), -totals, "left").astype(np.float64) + 1
    return ranks


def _split_rows(columns: Mapping[str, Column], count: int) -> list[dict[str, float]]:
    """Return the values by name of each of `count` rows, without NaN."""
    if not columns:
        return [{} for _ in range(count)]
    matrix = np.stack(list(columns.values()), axis=1).tolist()
    return [{name: value for name, value in zip(columns, row, strict=True) if value == value} for row in matrix]
