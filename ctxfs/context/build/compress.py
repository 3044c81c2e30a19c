"""Extractive compression of long texts to their relevant sentences. Every word is the source's. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from ctxfs.context.build.piece import Piece
from ctxfs.context.build.sentences import Sentence, sentences

Analyse = Callable[[str], Sequence[str]]  # text → its terms as search indexes them

_LEAST_SENTENCES = 3
_SHARE_OF_BEST = 0.5
_GAP = " … "


def compress(pieces: Sequence[Piece], queries: Sequence[str], analyse: Analyse) -> list[Piece]:
    """Return the pieces; of prose only the sentences that score at least half as much as its best one.

    A sentence scores the sum of the weights of its query terms. The weight is BM25's IDF among the candidates. Code and
    short pieces are unchanged. A piece without a query term is unchanged, too: it was matched by embedding, and words
    cannot rank its sentences.
    """
    wanted = {term for query in queries for term in analyse(query)}
    split = [list(sentences(piece.text)) if _is_prose(piece) else [] for piece in pieces]
    worth = _worth(wanted, [set(analyse(piece.text)) for piece in pieces])
    return [_compressed(piece, parts, worth, analyse) for piece, parts in zip(pieces, split, strict=True)]


def _is_prose(piece: Piece) -> bool:
    return piece.kind != "code" and not piece.pinned and piece.first != piece.last


def _worth(wanted: set[str], bags: Sequence[set[str]]) -> Mapping[str, float]:
    seen = Counter(term for bag in bags for term in bag & wanted)
    return {term: math.log(1 + (len(bags) - count + 0.5) / (count + 0.5)) for term, count in seen.items()}


def _compressed(piece: Piece, parts: Sequence[Sentence], worth: Mapping[str, float], analyse: Analyse) -> Piece:
    if len(parts) < _LEAST_SENTENCES:
        return piece
    scores = [sum(worth.get(term, 0.0) for term in set(analyse(part.text))) for part in parts]
    best = max(scores)
    if best <= 0:
        return piece
    kept = [at for at, score in enumerate(scores) if score >= _SHARE_OF_BEST * best]
    if len(kept) == len(parts):
        return piece
    text = parts[kept[0]].text
    for before, at in pairwise(kept):
        text += (" " if at == before + 1 else _GAP) + parts[at].text
    first, last = piece.first + parts[kept[0]].first - 1, piece.first + parts[kept[-1]].last - 1
    return replace(piece, text=text, first=first, last=min(last, piece.last), cut=True)
