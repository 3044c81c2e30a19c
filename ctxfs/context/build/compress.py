"""Extractive compression of long texts to their relevant sentences. Every word is the source's. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from ctxfs.context.build.piece import Piece
from ctxfs.context.build.sentences import Sentence, sentences

Analyse = Callable[[str], Sequence[str]]  # text → its terms as search indexes them

_MIN_SENTENCES = 3
_MIN_SHARE_OF_BEST = 0.5
_GAP = " … "


def compress(pieces: Sequence[Piece], queries: Sequence[str], analyse: Analyse) -> list[Piece]:
    """Return the pieces; of prose only the sentences that score at least half as much as its best one.

    A sentence scores the sum of the weights of its query terms. The weight is BM25's IDF among the candidates. Code and
    short pieces are unchanged. A piece without a query term is unchanged, too: it was matched by embedding, and words
    cannot rank its sentences.
    """
    query_terms = {term for query in queries for term in analyse(query)}
    split = [list(sentences(piece.text)) if _is_prose(piece) else [] for piece in pieces]
    weights = _term_weights(query_terms, [set(analyse(piece.text)) for piece in pieces])
    return [_compress_piece(piece, parts, weights, analyse) for piece, parts in zip(pieces, split, strict=True)]


def _is_prose(piece: Piece) -> bool:
    return piece.kind != "code" and not piece.is_pinned and piece.first != piece.last


def _term_weights(query_terms: set[str], term_sets: Sequence[set[str]]) -> Mapping[str, float]:
    counts = Counter(term for bag in term_sets for term in bag & query_terms)
    return {term: math.log(1 + (len(term_sets) - count + 0.5) / (count + 0.5)) for term, count in counts.items()}


def _compress_piece(piece: Piece, parts: Sequence[Sentence], weights: Mapping[str, float], analyse: Analyse) -> Piece:
    if len(parts) < _MIN_SENTENCES:
        return piece
    scores = [sum(weights.get(term, 0.0) for term in set(analyse(part.text))) for part in parts]
    best = max(scores)
    if best <= 0:
        return piece
    indexes = [index for index, score in enumerate(scores) if score >= _MIN_SHARE_OF_BEST * best]
    if len(indexes) == len(parts):
        return piece
    text = parts[indexes[0]].text
    for previous, index in pairwise(indexes):
        text += (" " if index == previous + 1 else _GAP) + parts[index].text
    first, last = piece.first + parts[indexes[0]].first - 1, piece.first + parts[indexes[-1]].last - 1
    return replace(piece, text=text, first=first, last=min(last, piece.last), cut=True, above=0)
