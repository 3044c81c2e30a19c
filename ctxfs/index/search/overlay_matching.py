"""Comparison of the chunks of the overlay with the terms of a query, and with chunks of an earlier time. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.extract.chunks import Chunk

_K1 = 1.2


@dataclass(frozen=True, slots=True)
class OverlayChunk:
    """A chunk of the overlay, with its terms."""

    row: ChunkRow
    file: int
    traits: int
    words: int
    fields: tuple[Sequence[str], Sequence[str], Sequence[str]]  # terms of text, heading and path
    counts: Mapping[str, int]
    neighbourhood: Mapping[str, int]  # of the chunk with its neighbours
    authors: Sequence[str]
    embeddable: bool = True


def score_alternatives(weights: Mapping[str, float], counts: Mapping[str, int]) -> float:
    """Return the BM25 score of the best of some terms, without length normalisation: the mean length is unknown."""
    return max(
        (
            weight * count * (_K1 + 1) / (count + _K1)
            for term, weight in weights.items()
            if (count := counts.get(term, 0))
        ),
        default=0.0,
    )


def count_equal_chunks(earlier: Iterable[ChunkRow], pieces: Sequence[Chunk]) -> int:
    """Return the number of leading chunks with the line, text and author of the pieces at their positions."""
    pairs = zip(earlier, pieces, strict=False)
    equal = ((row.first, row.text, row.author) == (piece.first, piece.text, piece.author) for row, piece in pairs)
    return sum(1 for _ in takewhile(bool, equal))


def has_phrase(fields: Iterable[Sequence[str]], phrase: Sequence[str]) -> bool:
    """Return True if a field, a list of terms, contains these terms consecutively."""
    length = len(phrase)
    return any(
        list(field[start : start + length]) == list(phrase)
        for field in fields
        for start in range(len(field) - length + 1)
    )


def iterate_ancestors(path: str) -> Iterator[str]:
    """Yield the directories above a path, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path
