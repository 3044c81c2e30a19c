"""BM25 scores of candidates from the current content alone, independent of the history of the index. Pure.

The full-text index counts deleted chunks until their segments merge, and estimates lengths after a merge.
So its scores depend on the order of past commits, which the scores of a context must not.
Therefore the candidates are scored again, from their texts and from counts of the living chunks.

The formula is that of the full-text index: Robertson and Zaragoza 2009.
A term scores with its best field, plus a fifth of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.catalog import ChunkRow
from ctxfs.index.extract.batch_split import SplitTexts, split_texts
from ctxfs.index.extract.chunks import NEIGHBOURS
from ctxfs.index.extract.file_reader import SMALL_UNIT, ranks_with_neighbours
from ctxfs.index.search.chunk_columns import CorpusCounts
from ctxfs.model.path import printable

_K1, _B = 1.2, 0.75
_OTHERS = 0.2  # weight of a term in the fields other than its best
_PLACES = 9  # decimals: sums in another order differ only in later ones
# The usual length of a heading or symbol, and of a path, in words.
_NAME_WORDS = 3.0
_PATH_WORDS = 6.0
_MOST_WORDS = 200_000
_STEM_KEEPS = 2  # leading letters that stemming never changes

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Units:
    """The chunks to score, sorted by number, with their files and their lengths in words."""

    rows: Sequence[ChunkRow]
    files: npt.NDArray[np.int64]
    lengths: Counts


@dataclass(frozen=True, slots=True)
class Statistics:
    """Corpus statistics of the living chunks.

    `having` returns the number of chunks with a term in a field: `having(field, term)`.
    """

    makeup: CorpusCounts
    having: Callable[[str, str], int]


class Bm25:
    """A BM25 scorer with a cache of the stems of words. One thread at a time uses it."""

    def __init__(
        self,
        fields: Mapping[str, float],
        analyse: Callable[[str], Sequence[str]],
    ) -> None:
        """Take the boost of each field in `fields`; `text` is the chunk's own text, `symbol` the heading of code."""
        self._fields = fields
        self._analyse = analyse
        self._met: set[str] = set()
        self._words: dict[str, list[str]] = {}  # by stem

    def weigh(
        self,
        units: Units,
        own: Collection[int],
        near: Collection[int],
        terms: Sequence[str],
        known: Statistics,
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Return two maps from chunk to score.

        The first scores the chunks in `own` by their own words,
        the second those in `near` together with their neighbours.
        `units` contains all these chunks and the neighbours of those in `near`, sorted by number.
        """
        if not units.rows or not terms:
            return {}, {}
        text = self._counted(split_texts([row.text for row in units.rows]), terms)
        scores = self._own(units, text, terms, known)
        by_own = {row.id: score for row, score in zip(units.rows, scores.tolist(), strict=True) if row.id in own}
        if not near:
            return by_own, {}
        return by_own, self._near(units, text, near, terms, known)

    def _own(self, units: Units, text: Counts, terms: Sequence[str], known: Statistics) -> Counts:
        named, named_lengths = self._names([row.heading for row in units.rows], terms)
        places, place_lengths = self._names([printable(row.path) for row in units.rows], terms)
        is_code = np.array([row.kind == "code" for row in units.rows])[:, None]
        # As in the full-text index, the mean of a field is over all units: where code is rare, its names weigh little.
        code, other = _NAME_WORDS * known.makeup.code, _NAME_WORDS * (1 - known.makeup.code)
        parts = [
            self._part("text", text, units.lengths, known.makeup.mean_words, terms, known),
            self._part("heading", np.where(is_code, 0.0, named), named_lengths, other, terms, known),
            self._part("symbol", np.where(is_code, named, 0.0), named_lengths, code, terms, known),
            self._part("path", places, place_lengths, _PATH_WORDS, terms, known),
        ]
        best = np.maximum.reduce(parts)
        each = best + _OTHERS * (np.add.reduce(parts) - best)
        scores: Counts = np.round(each.sum(axis=1), _PLACES)
        return scores

    def _names(self, texts: Sequence[str], terms: Sequence[str]) -> tuple[Counts, Counts]:
        """Return (count of each term in each text [text, term], number of words of each text [text])."""
        split = split_texts(texts)
        return self._counted(split, terms), split.lengths

    def _near(
        self,
        units: Units,
        text: Counts,
        near: Collection[int],
        terms: Sequence[str],
        known: Statistics,
    ) -> dict[int, float]:
        large = [at for at, row in enumerate(units.rows) if len(row.text) > SMALL_UNIT]
        said, lengths = text.copy(), units.lengths.copy()
        if large:  # of a large neighbour only the start counts
            starts = [units.rows[at].text[:SMALL_UNIT] for at in large]
            said[large] = self._counted(split_texts(starts), terms)
            lengths[large] = [start.count(" ") + 1 for start in starts]
        chunks = np.array([row.id for row in units.rows], dtype=np.int64)
        files = units.files
        total, length = np.zeros_like(said), np.zeros(len(chunks))
        for step in range(-NEIGHBOURS, NEIGHBOURS + 1):
            at = np.minimum(np.searchsorted(chunks, chunks + step), len(chunks) - 1)
            same = (chunks[at] == chunks + step) & (files[at] == files)
            total[same] += said[at[same]]
            length[same] += lengths[at[same]]
        mean = known.makeup.mean_words * known.makeup.loose * (2 * NEIGHBOURS + 1)
        scores = np.round(self._part("around", total, length, mean, terms, known).sum(axis=1), _PLACES)
        small = np.ones(len(chunks), dtype=np.bool_)
        small[large] = False
        return {
            row.id: score
            for row, score, fits in zip(units.rows, scores.tolist(), small.tolist(), strict=True)
            if fits and row.id in near and ranks_with_neighbours(row.kind, (row.author,))
        }

    def _part(
        self, field: str, counts: Counts, lengths: Counts, mean: float, terms: Sequence[str], known: Statistics
    ) -> Counts:
        """Return the BM25 scores [unit, term] of a field, multiplied by the boost of the field."""
        having = np.array([known.having(field, term) for term in terms], dtype=np.float64)
        rarity = np.log1p((np.maximum(known.makeup.units - having, 0.0) + 0.5) / (having + 0.5))
        room = _K1 * (1 - _B + _B * lengths / max(mean, 0.1))[:, None]
        part: Counts = self._fields.get(field, 1.0) * rarity * counts * (_K1 + 1) / (counts + room)
        return part

    def _counted(self, texts: SplitTexts, terms: Sequence[str]) -> Counts:
        """Return the number of occurrences of each of `terms` in each text [text, term]."""
        found = texts.beginning_with({term[:_STEM_KEEPS] for term in terms})
        self._learn({word for _, word in found}, terms)
        columns = {word: column for column, term in enumerate(terms) for word in self._words.get(term, ())}
        counts = [[0.0] * len(terms) for _ in range(texts.count)]
        for text, word in found:
            if (column := columns.get(word)) is not None:
                counts[text][column] += 1
        return np.array(counts)

    def _learn(self, vocabulary: set[str], terms: Sequence[str]) -> None:
        """Cache the words of a vocabulary that stem to one of the terms; only words with the same first letters can."""
        starts = {term[:_STEM_KEEPS] for term in terms}
        new = [word for word in vocabulary if word[:_STEM_KEEPS] in starts and word not in self._met]
        if len(self._met) > _MOST_WORDS:
            self._met.clear()
            self._words.clear()
        if not new:
            return
        stems = self._analyse(" ".join(new))
        if len(stems) != len(new):  # the analyser drops overlong words
            stems = [(self._analyse(word) or ("",))[0] for word in new]
        self._met.update(new)
        for word, stem in zip(new, stems, strict=True):
            self._words.setdefault(stem, []).append(word)
