"""From what the engines found to columns of signals, one value a candidate. Pure."""

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

from ctxfs.index.catalog import Candidate
from ctxfs.index.fuse_ranks import Column, Profile
from ctxfs.index.hints import Hints
from ctxfs.index.traits import Trait

_TURN_WORDS = 200
_BEST_OF_FILE = 3

Scores = Mapping[int, float]  # chunk → score


def profile_of(candidate: Candidate) -> Profile:
    """Somebody's turn, code, or prose."""
    if is_turn(candidate):
        return "dialogue"
    return "code" if candidate.kind == "code" else "prose"


def is_turn(candidate: Candidate) -> bool:
    """A small unit that somebody says."""
    return bool(candidate.author) and candidate.words <= _TURN_WORDS


def columns(candidates: Sequence[Candidate], found: Mapping[str, Scores], hints: Hints) -> dict[str, Column]:
    """Signal → a value for each candidate, NaN where it has none. Where nobody speaks only what the engines found counts."""
    out = {
        name: np.array([scores.get(candidate.chunk, np.nan) for candidate in candidates], dtype=np.float64)
        for name, scores in found.items()
    }
    if not any(map(is_turn, candidates)):
        return out
    ways = np.array([candidate.traits for candidate in candidates], dtype=np.int64)
    out["file"] = _file_scores(candidates, found.get("words", {}))
    out["length"] = np.log1p(np.array([candidate.words for candidate in candidates], dtype=np.float64))
    named = np.array([candidate.author in hints.authors for candidate in candidates], dtype=np.float64)
    if hints.authors:
        out["author"] = named
        out["first_person"] = named * _flag(ways, Trait.FIRST_PERSON)
    if hints.dates:
        out["date"] = np.array([_date_fit(candidate.day, hints) for candidate in candidates], dtype=np.float64)
    if hints.asks_when:
        out["says_when"] = _flag(ways, Trait.SAYS_WHEN)
    out["asks"] = _flag(ways, Trait.ASKS)
    return out


def _flag(ways: npt.NDArray[np.int64], trait: Trait) -> Column:
    flags: Column = ((ways & int(trait)) != 0).astype(np.float64)
    return flags


def _date_fit(day: int | None, hints: Hints) -> int:
    if day is None or not 0 < day <= date.max.toordinal():
        return 0
    when = date.fromordinal(day)
    return max(mentioned.fits(when) for mentioned in hints.dates)


def nearby_means(candidates: Sequence[Candidate], places: npt.NDArray[np.int64], cosines: Column, reach: int) -> Column:
    """The mean cosine of each turn and its neighbours in the same file; NaN for what is no turn, or has no vector near.

    `places` holds (chunk, file) [n, 2] in the order of chunks, `cosines` their values [n].
    """
    total, count = np.zeros(len(candidates)), np.zeros(len(candidates))
    if len(places):
        chunks = np.array([item.chunk if is_turn(item) else -reach - 1 for item in candidates], dtype=np.int64)
        files = np.array([item.file for item in candidates], dtype=np.int64)
        for step in range(-reach, reach + 1):
            at = np.minimum(np.searchsorted(places[:, 0], chunks + step), len(places) - 1)
            same = (places[at, 0] == chunks + step) & (places[at, 1] == files) & ~np.isnan(cosines[at])
            total[same] += cosines[at][same]
            count[same] += 1
    means: Column = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return means


def _file_scores(candidates: Sequence[Candidate], words: Scores) -> Column:
    of_file: dict[int, list[float]] = {}
    for candidate in candidates:
        of_file.setdefault(candidate.file, []).append(words.get(candidate.chunk, 0.0))
    best = {file: sum(sorted(scores)[-_BEST_OF_FILE:]) for file, scores in of_file.items()}
    return np.array([best[candidate.file] for candidate in candidates], dtype=np.float64)
