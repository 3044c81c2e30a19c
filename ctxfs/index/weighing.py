"""BM25 of candidates by what is there now, whatever was there before. Pure but for the statistics that it is given.

The word index goes on counting deleted units until their segments merge, and estimates lengths when they do: its scores depend on how
the files came to be what they are. A context must not, so its candidates are weighed again from their texts and from counts of
what lives. The formula is the word index's own: Robertson and Zaragoza 2009, the best field of a term and a fifth of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxfs.index.catalog import Unit
from ctxfs.index.chunks import NEIGHBOURS
from ctxfs.index.reading import SMALL_UNIT, ranks_with_neighbours

_K1, _B = 1.2, 0.75
_OTHERS = 0.2  # what a term counts in fields that are not its best
_PLACES = 9  # decimals: sums in another order differ only behind them
_NAME_WORDS = 6.0  # the usual length of a heading, a symbol or a path, in words
_MOST_STEMS = 200_000

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of what lives: how many units, their mean length in words, in how many a field has a term."""

    units: int
    mean_words: float
    having: Callable[[str, str], int]


class Weigher:
    """Remembers the stems of words it has met. One thread at a time uses it."""

    def __init__(
        self,
        fields: Mapping[str, float],
        analyse: Callable[[str], Sequence[str]],
        break_up: Callable[[str], str],
    ) -> None:
        """`fields`: what each counts; `text` is the unit's own, `symbol` the heading of code."""
        self._fields = fields
        self._analyse = analyse
        self._break_up = break_up
        self._stems: dict[str, str] = {}

    def weigh(
        self,
        units: Sequence[Unit],
        own: Collection[int],
        near: Collection[int],
        terms: Sequence[str],
        known: Statistics,
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Chunk → score by its own words, for those in `own`; with its neighbours', for those in `near`.

        `units`, in the order of their numbers, holds these chunks and the neighbours of those in `near`.
        """
        if not units or not terms:
            return {}, {}
        broken = [self._break_up(unit.text).lower() for unit in units]
        text = self._counted(broken, terms)
        scores = self._own(units, text, terms, known)
        by_own = {unit.chunk: score for unit, score in zip(units, scores.tolist(), strict=True) if unit.chunk in own}
        if not near:
            return by_own, {}
        return by_own, self._near(units, broken, text, near, terms, known)

    def _own(self, units: Sequence[Unit], text: Counts, terms: Sequence[str], known: Statistics) -> Counts:
        headings = self._counted([self._break_up(unit.heading).lower() for unit in units], terms)
        places = self._counted([self._break_up(unit.path).lower() for unit in units], terms)
        is_code = np.array([unit.kind == "code" for unit in units])[:, None]
        lengths = np.array([unit.words for unit in units], dtype=np.float64)
        heading_lengths = np.array([len(unit.heading.split()) for unit in units], dtype=np.float64)
        place_lengths = np.array([unit.path.count("/") + 1 for unit in units], dtype=np.float64)
        parts = [
            self._part("text", text, lengths, max(known.mean_words, 1.0), terms, known),
            self._part("heading", np.where(is_code, 0.0, headings), heading_lengths, _NAME_WORDS, terms, known),
            self._part("symbol", np.where(is_code, headings, 0.0), heading_lengths, _NAME_WORDS, terms, known),
            self._part("path", places, place_lengths, _NAME_WORDS, terms, known),
        ]
        best = np.maximum.reduce(parts)
        each = best + _OTHERS * (np.add.reduce(parts) - best)
        scores: Counts = np.round(each.sum(axis=1), _PLACES)
        return scores

    def _near(
        self,
        units: Sequence[Unit],
        broken: Sequence[str],
        text: Counts,
        near: Collection[int],
        terms: Sequence[str],
        known: Statistics,
    ) -> dict[int, float]:
        large = [at for at, words in enumerate(broken) if len(words) > SMALL_UNIT]
        said, lengths = text.copy(), np.array([unit.words for unit in units], dtype=np.float64)
        if large:  # of a large neighbour only the start is near
            starts = [broken[at][:SMALL_UNIT] for at in large]
            said[large] = self._counted(starts, terms)
            lengths[large] = [start.count(" ") + 1 for start in starts]
        chunks = np.array([unit.chunk for unit in units], dtype=np.int64)
        files = np.array([unit.file for unit in units], dtype=np.int64)
        total, length = np.zeros_like(said), np.zeros(len(units))
        for step in range(-NEIGHBOURS, NEIGHBOURS + 1):
            at = np.minimum(np.searchsorted(chunks, chunks + step), len(chunks) - 1)
            same = (chunks[at] == chunks + step) & (files[at] == files)
            total[same] += said[at[same]]
            length[same] += lengths[at[same]]
        mean = max(known.mean_words, 1.0) * (2 * NEIGHBOURS + 1)
        scores = np.round(self._part("around", total, length, mean, terms, known).sum(axis=1), _PLACES)
        small = np.ones(len(units), dtype=np.bool_)
        small[large] = False
        return {
            unit.chunk: score
            for unit, score, fits in zip(units, scores.tolist(), small.tolist(), strict=True)
            if fits and unit.chunk in near and ranks_with_neighbours(unit.kind, (unit.author,))
        }

    def _part(
        self, field: str, counts: Counts, lengths: Counts, mean: float, terms: Sequence[str], known: Statistics
    ) -> Counts:
        """BM25 [unit, term] of a field, times what the field counts."""
        having = np.array([known.having(field, term) for term in terms], dtype=np.float64)
        rarity = np.log1p((np.maximum(known.units - having, 0.0) + 0.5) / (having + 0.5))
        room = _K1 * (1 - _B + _B * lengths / mean)[:, None]
        part: Counts = self._fields.get(field, 1.0) * rarity * counts * (_K1 + 1) / (counts + room)
        return part

    def _counted(self, texts: Sequence[str], terms: Sequence[str]) -> Counts:
        """How often each of `texts` has each of `terms` [text, term]."""
        split = [text.split() for text in texts]
        vocabulary = set().union(*split)
        self._learn(vocabulary)
        wanted = {term: number for number, term in enumerate(terms)}
        stems = self._stems
        mine = {word: wanted[stem] for word in vocabulary if (stem := stems.get(word)) in wanted}
        counts = np.zeros((len(texts), len(terms)))
        for at, words in enumerate(split):
            for word in words:
                if word in mine:
                    counts[at, mine[word]] += 1
        return counts

    def _learn(self, vocabulary: Collection[str]) -> None:
        new = [word for word in vocabulary if word not in self._stems]
        if len(self._stems) > _MOST_STEMS:
            self._stems.clear()
            new = list(vocabulary)
        if not new:
            return
        found = self._analyse(" ".join(new))
        if len(found) != len(new):  # the analyser drops what is too long to be a word
            found = [(self._analyse(word) or ("",))[0] for word in new]
        self._stems.update(zip(new, found, strict=True))
