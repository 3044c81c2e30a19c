"""BM25 scores of candidates from the current content alone, independent of the history of the index. Pure.

The full-text index counts deleted chunks until their segments merge, and estimates lengths after a merge.
So its scores depend on the order of past commits, which the scores of a context must not.
Therefore the candidates are scored again, from their texts and from counts of the living chunks.

The formula is that of the full-text index: Robertson and Zaragoza 2009.
A term scores with its best field, plus a fifth of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.extract.batch_split import SplitTexts, split_texts
from ctxfs.index.extract.chunks import NEIGHBOUR_CHUNKS
from ctxfs.index.extract.file_reader import MAX_SMALL_CHUNK_CHARACTERS, ranks_with_neighbours
from ctxfs.index.search.chunk_columns import CorpusCounts
from ctxfs.model.path import printable

_K1, _B = 1.2, 0.75
_OTHER_FIELDS_WEIGHT = 0.2  # weight of a term in the fields other than its best
_SCORE_DECIMALS = 9  # decimals: sums in another order differ only in later ones
# The usual length of a heading or symbol, and of a path, in words.
_DEFAULT_NAME_WORDS = 3.0
_DEFAULT_PATH_WORDS = 6.0
_MAX_CACHED_WORDS = 200_000
_MIN_STEM_CHARS = 2  # leading letters that stemming never changes

Counts = npt.NDArray[np.float64]
Alternatives = Sequence[str]


@dataclass(frozen=True, slots=True)
class Units:
    """The chunks to score, sorted by number, with their files and their lengths in words."""

    rows: Sequence[ChunkRow]
    files: npt.NDArray[np.int64]
    lengths: Counts


@dataclass(frozen=True, slots=True)
class Statistics:
    """Corpus statistics of the living chunks.

    `document_frequency` returns the number of chunks with a term in a field: `document_frequency(field, term)`.
    `weights` are those of the terms that the question repeats; all others weigh 1.
    """

    corpus: CorpusCounts
    document_frequency: Callable[[str, str], int]
    weights: Mapping[str, float] = field(default_factory=dict)


class _Terms:
    """The distinct terms of a question, and the columns of those of which the best counts."""

    def __init__(self, groups: Sequence[Alternatives]) -> None:
        self.all = list(dict.fromkeys(term for group in groups for term in group))
        columns = {term: column for column, term in enumerate(self.all)}
        self._groups = [[columns[term] for term in group] for group in groups]
        self.has_alternatives = len(groups) < len(self.all)

    def combine(self, scores: Counts) -> Counts:
        """Return the sums over groups of scores [unit, term]: of each group the best, and a fifth of the others."""
        if not self.has_alternatives and len(self._groups) == len(self.all):
            total: Counts = scores.sum(axis=1)
            return total
        total = np.zeros(len(scores))
        for columns in self._groups:
            best = scores[:, columns].max(axis=1)
            total += best + _OTHER_FIELDS_WEIGHT * (scores[:, columns].sum(axis=1) - best)
        return total

    def find(self, counts: Counts) -> npt.NDArray[np.bool_]:
        """Return True for each text that contains a term of a group [text, group]."""
        is_present = [(counts[:, columns] > 0).any(axis=1) for columns in self._groups]
        return np.stack(is_present, axis=1)


class Bm25:
    """A BM25 scorer with a cache of the stems of words. One thread at a time uses it."""

    def __init__(
        self,
        fields: Mapping[str, float],
        analyse: Callable[[str], Sequence[str]],
        split: Callable[[str], str],
    ) -> None:
        """Take the boost of each field in `fields`; `text` is the chunk's own text, `symbol` the heading of code.

        `split` returns the words of a text, `analyse` the terms of split words.
        """
        self._fields = fields
        self._analyse = analyse
        self._split = split
        self._should_split_all = False
        self._cached_words: set[str] = set()
        self._words_by_stem: dict[str, list[str]] = {}

    def score(
        self,
        units: Units,
        own_chunks: Collection[int],
        near_chunks: Collection[int],
        groups: Sequence[Alternatives],
        statistics: Statistics,
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Return two maps from chunk to score by terms, of each of `groups` the best.

        The first scores the chunks in `own_chunks` by their own words,
        the second those in `near_chunks` together with their neighbours.
        `units` contains all these chunks and the neighbours of those in `near_chunks`, sorted by number.
        """
        if not units.rows or not groups:
            return {}, {}
        terms = _Terms(groups)
        self._should_split_all = terms.has_alternatives
        text = self._count_terms(self._split_texts([row.text for row in units.rows]), terms)
        scores = self._score_own(units, text, terms, statistics)
        by_own = {row.id: score for row, score in zip(units.rows, scores.tolist(), strict=True) if row.id in own_chunks}
        if not near_chunks:
            return by_own, {}
        return by_own, self._score_neighbourhoods(units, text, near_chunks, terms, statistics)

    def find_terms(self, texts: Sequence[str], groups: Sequence[Alternatives]) -> npt.NDArray[np.bool_]:
        """Return True for each text that contains a term of a group [text, group]."""
        if not texts or not groups:
            return np.zeros((len(texts), len(groups)), dtype=np.bool_)
        terms = _Terms(groups)
        self._should_split_all = terms.has_alternatives
        return terms.find(self._count_terms(self._split_texts(texts), terms))

    def _score_own(self, units: Units, text: Counts, terms: _Terms, statistics: Statistics) -> Counts:
        headings, heading_lengths = self._count_names([row.heading for row in units.rows], terms)
        paths, path_lengths = self._count_names([printable(row.path) for row in units.rows], terms)
        is_code = np.array([row.kind == "code" for row in units.rows])[:, None]
        # As in the full-text index, the mean of a field is over all units: where code is rare, its names weigh little.
        code, other = (
            _DEFAULT_NAME_WORDS * statistics.corpus.code_share,
            _DEFAULT_NAME_WORDS * (1 - statistics.corpus.code_share),
        )
        parts = [
            self._score_field("text", text, units.lengths, statistics.corpus.mean_words, terms, statistics),
            self._score_field("heading", np.where(is_code, 0.0, headings), heading_lengths, other, terms, statistics),
            self._score_field("symbol", np.where(is_code, headings, 0.0), heading_lengths, code, terms, statistics),
            self._score_field("path", paths, path_lengths, _DEFAULT_PATH_WORDS, terms, statistics),
        ]
        best = np.maximum.reduce(parts)
        term_scores = best + _OTHER_FIELDS_WEIGHT * (np.add.reduce(parts) - best)
        scores: Counts = np.round(terms.combine(term_scores), _SCORE_DECIMALS)
        return scores

    def _count_names(self, texts: Sequence[str], terms: _Terms) -> tuple[Counts, Counts]:
        """Return (count of each term in each text [text, term], number of words of each text [text])."""
        split = self._split_texts(texts)
        return self._count_terms(split, terms), split.lengths

    def _score_neighbourhoods(
        self,
        units: Units,
        text: Counts,
        near_chunks: Collection[int],
        terms: _Terms,
        statistics: Statistics,
    ) -> dict[int, float]:
        large = [index for index, row in enumerate(units.rows) if len(row.text) > MAX_SMALL_CHUNK_CHARACTERS]
        counts, lengths = text.copy(), units.lengths.copy()
        if large:  # of a large neighbour only the start counts
            starts = [units.rows[index].text[:MAX_SMALL_CHUNK_CHARACTERS] for index in large]
            counts[large] = self._count_terms(self._split_texts(starts), terms)
            lengths[large] = [start.count(" ") + 1 for start in starts]
        numbers = np.array([row.id for row in units.rows], dtype=np.int64)
        files = units.files
        total, length = np.zeros_like(counts), np.zeros(len(numbers))
        for step in range(-NEIGHBOUR_CHUNKS, NEIGHBOUR_CHUNKS + 1):
            index = np.minimum(np.searchsorted(numbers, numbers + step), len(numbers) - 1)
            is_neighbour = (numbers[index] == numbers + step) & (files[index] == files)
            total[is_neighbour] += counts[index[is_neighbour]]
            length[is_neighbour] += lengths[index[is_neighbour]]
        mean = statistics.corpus.mean_words * statistics.corpus.neighbour_share * (2 * NEIGHBOUR_CHUNKS + 1)
        scores = np.round(
            terms.combine(self._score_field("around", total, length, mean, terms, statistics)), _SCORE_DECIMALS
        )
        is_small = np.ones(len(numbers), dtype=np.bool_)
        is_small[large] = False
        return {
            row.id: score
            for row, score, is_ranked in zip(units.rows, scores.tolist(), is_small.tolist(), strict=True)
            if is_ranked and row.id in near_chunks and ranks_with_neighbours(row.kind, (row.author,))
        }

    def _score_field(
        self, field: str, counts: Counts, lengths: Counts, mean: float, terms: _Terms, statistics: Statistics
    ) -> Counts:
        """Return the BM25 scores [unit, term] of a field, multiplied by the boost of the field."""
        document_frequencies = np.array(
            [statistics.document_frequency(field, term) for term in terms.all], dtype=np.float64
        )
        idf = np.log1p(
            (np.maximum(statistics.corpus.units - document_frequencies, 0.0) + 0.5) / (document_frequencies + 0.5)
        )
        saturation = _K1 * (1 - _B + _B * lengths / max(mean, 0.1))[:, None]
        idf *= np.array([statistics.weights.get(term, 1.0) for term in terms.all], dtype=np.float64)
        part: Counts = self._fields.get(field, 1.0) * idf * counts * (_K1 + 1) / (counts + saturation)
        return part

    def _split_texts(self, texts: Sequence[str]) -> SplitTexts:
        return split_texts(texts, self._split, should_split_all=self._should_split_all)

    def _count_terms(self, texts: SplitTexts, terms: _Terms) -> Counts:
        """Return the number of occurrences of each of `terms` in each text [text, term]."""
        occurrences = texts.find_words_with_prefixes({term[:_MIN_STEM_CHARS] for term in terms.all})
        self._cache_stems({word for _, word in occurrences}, terms.all)
        columns = {word: column for column, term in enumerate(terms.all) for word in self._words_by_stem.get(term, ())}
        counts = [[0.0] * len(terms.all) for _ in range(texts.count)]
        for text, word in occurrences:
            if (column := columns.get(word)) is not None:
                counts[text][column] += 1
        return np.array(counts)

    def _cache_stems(self, vocabulary: set[str], terms: Sequence[str]) -> None:
        """Cache the words of a vocabulary that stem to one of the terms; only words with the same first letters can."""
        starts = {term[:_MIN_STEM_CHARS] for term in terms}
        new = [word for word in vocabulary if word[:_MIN_STEM_CHARS] in starts and word not in self._cached_words]
        if len(self._cached_words) > _MAX_CACHED_WORDS:
            self._cached_words.clear()
            self._words_by_stem.clear()
        if not new:
            return
        stems = self._analyse(" ".join(new))
        if len(stems) != len(new):  # the analyser drops overlong words
            stems = [(self._analyse(word) or ("",))[0] for word in new]
        self._cached_words.update(new)
        for word, stem in zip(new, stems, strict=True):
            self._words_by_stem.setdefault(stem, []).append(word)
