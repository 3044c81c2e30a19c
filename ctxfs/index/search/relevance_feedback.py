"""Relevance feedback for dialogues: a second search by the subjects of the best hits of the first one. Pure.

The evidence of a question may be spread over turns that share no word with it, but a name or a subject with another
turn. So each turn after the tenth hit gains by the rare words of the best five hits, by its nearness in meaning to one
of them, and beside one of the best ten. The first ten hits stay where they are.

Words are compared by their first letters, and rare among the candidates: that costs a tenth of stemming them, and
depends only on texts that the reader may see.

Source of the weights: a grid on the LoCoMo conversations with an even number (`python -m benchmarks.locomo`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxfs.index.extract.batch_split import split_texts
from ctxfs.index.search.rank_fusion import Column, Flags, Ranking, standardise

_FEEDBACK_HITS = 5
_KEPT_HITS = 10
_NEIGHBOUR_TURNS = 2
_MAX_TERMS = 20
_MIN_TERM_TURNS = 2  # a word of a single turn finds no other
_MIN_WORD_BYTES = 3
# The letters by which words are compared: 5 of ASCII, about 4 of other scripts.
_ASCII_BYTES, _WORD_BYTES = 5, 8
_WORDS_WEIGHT, _MEANING_WEIGHT, _NEIGHBOUR_WEIGHT = 0.1, 0.15, 0.25
_K1, _B = 1.2, 0.75
_SCORE_DECIMALS = 9

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Turns:
    """The ranked candidates as columns [n], best first.

    `texts` are empty for candidates that are no turns. `cosines` are those to the nearest of the best hits, NaN where
    unknown.
    """

    texts: Sequence[str]
    files: Numbers
    is_turn: Flags
    cosines: Column


def count_feedback_hits(scores: Column) -> int:
    """Return the number of best hits that the second search starts from, with all that tie with the last of them."""
    return _count_best(scores, _FEEDBACK_HITS)


def feed_back(ranking: Ranking, turns: Turns, known_words: str, split: Callable[[str], str]) -> Ranking:
    """Return the ranking with the turns after the tenth hit in the order of both searches.

    `known_words` are those of the question and the names of authors, by which turns are found without this.
    `split` returns the words of a text as the full-text index has them.
    The ranking is unchanged unless most of the best hits are turns.
    """
    best, kept = count_feedback_hits(ranking.scores), _count_best(ranking.scores, _KEPT_HITS)
    if len(ranking) <= kept or 2 * int(turns.is_turn[:best].sum()) <= best:
        return ranking
    gain = _WORDS_WEIGHT * _standardise_among(_score_rare_words(turns, best, known_words, split), turns.is_turn)
    gain += _MEANING_WEIGHT * _standardise_among(turns.cosines, turns.is_turn)
    gain += _NEIGHBOUR_WEIGHT * _flag_neighbours(ranking.chunks, turns.files, kept)
    gain = np.where(turns.is_turn, gain * float(ranking.scores.std()), 0.0)
    # At most the score of the last hit that stays, so that the order of scores is that of the hits.
    scores = np.minimum(np.round(ranking.scores + gain, _SCORE_DECIMALS), ranking.scores[kept - 1])
    scores[:kept] = ranking.scores[:kept]
    rest = np.lexsort((ranking.chunks[kept:], -scores[kept:])) + kept
    order = np.concatenate([np.arange(kept), rest])
    shares = {**ranking.shares, "feedback": np.where(scores == ranking.scores, np.nan, scores - ranking.scores)}
    signals, shares = ({name: column[order] for name, column in c.items()} for c in (ranking.signals, shares))
    return Ranking(ranking.chunks[order], scores[order], signals, shares)


def _count_best(scores: Column, limit: int) -> int:
    """Return `limit`, or more if scores tie: the order of ties depends on the numbers of chunks, so on the index."""
    return int(np.count_nonzero(scores >= scores[min(limit, len(scores)) - 1])) if len(scores) else 0


def _standardise_among(column: Column, is_turn: Flags) -> Column:
    """Return the z-scores of the known values of turns, and 0 for the rest."""
    is_known = is_turn & ~np.isnan(column)
    out = np.zeros(len(column))
    out[is_known] = standardise(column[is_known])
    return out


def _flag_neighbours(chunks: Numbers, files: Numbers, kept: int) -> Column:
    """Return 1 for each turn within two turns of one of the first `kept`."""
    distances = np.abs(chunks[:, None] - chunks[:kept])
    is_near = (distances <= _NEIGHBOUR_TURNS) & (files[:, None] == files[:kept])
    flags: Column = is_near.any(axis=1).astype(np.float64)
    return flags


def _score_rare_words(turns: Turns, best: int, known_words: str, split: Callable[[str], str]) -> Column:
    """Return the BM25 score of each turn by the rarest words of the `best` first that `known_words` lack."""
    count = len(turns.texts)
    words = split_texts([*turns.texts, known_words], split)
    is_long = words.ends - words.begins >= _MIN_WORD_BYTES
    stems = _cut_words(words.lowered, words.begins[is_long], words.ends[is_long])
    texts = words.texts[is_long]
    # The few words of the best hits first, because sorting all words would take most of the time.
    wanted = np.setdiff1d(stems[texts < best], stems[texts == count])
    if not len(wanted):
        return np.zeros(count)
    terms = np.minimum(np.searchsorted(wanted, stems), len(wanted) - 1)
    is_wanted = (wanted[terms] == stems) & (texts < count)
    occurrences, counts = np.unique(terms[is_wanted] * count + texts[is_wanted], return_counts=True)
    terms, owners = np.divmod(occurrences, count)
    frequencies = np.bincount(terms, minlength=len(wanted))
    rarest = np.argsort(np.where(frequencies >= _MIN_TERM_TURNS, frequencies, count + 1), kind="stable")[:_MAX_TERMS]
    is_chosen = np.isin(terms, rarest[frequencies[rarest] >= _MIN_TERM_TURNS])
    terms, owners, counts = terms[is_chosen], owners[is_chosen], counts[is_chosen]
    lengths = np.bincount(texts, minlength=count + 1)[:count].astype(np.float64)
    saturation = _K1 * (1 - _B + _B * lengths / max(lengths.mean(), 1.0))
    turn_count = int(turns.is_turn.sum())
    idf = np.log1p((np.maximum(turn_count - frequencies[terms], 0) + 0.5) / (frequencies[terms] + 0.5))
    gains = idf * counts * (_K1 + 1) / (counts + saturation[owners])
    return np.bincount(owners, weights=gains, minlength=count).astype(np.float64)


def _cut_words(lowered: bytes, begins: Numbers, ends: Numbers) -> npt.NDArray[np.uint64]:
    """Return the first letters of each word as a number."""
    text = np.frombuffer(lowered, dtype=np.uint8)
    offsets = begins[:, None] + np.arange(_WORD_BYTES)
    letters = np.where(offsets < ends[:, None], text[np.minimum(offsets, len(text) - 1)], 0).astype(np.uint8)
    is_ascii = (letters < 0x80).all(axis=1)
    letters[is_ascii, _ASCII_BYTES:] = 0
    # Big-endian, so that the order of the numbers is that of the words.
    stems: npt.NDArray[np.uint64] = np.ascontiguousarray(letters).view(">u8").ravel().astype(np.uint64)
    return stems
