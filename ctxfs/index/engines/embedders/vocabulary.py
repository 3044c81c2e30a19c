"""Coverage of a question by the vocabulary of a model. Pure.

A model cuts a word that it does not know into pieces, down to single characters, and replaces the rest by one token.
The vector of such a question means little: MiniLM covers .07 of the characters of Russian questions with whole words,
.19 of Japanese ones, and .9 of English ones.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ctxfs.index.normal_form import unspaced_pattern

_PIECE_SHARE = 0.5
# Chosen by `benchmarks.languages`: at least as good as words alone, and as vectors alone, in each language.
_FULL_COVERAGE = 0.9
_EXPONENT = 2.0


class Token(NamedTuple):
    """A token of a question: its text, the number of its word (None for a mark), and if it is in the vocabulary."""

    text: str
    word: int | None
    is_known: bool


def trust_in(tokens: Sequence[Token]) -> float:
    """Return the share, 0 to 1, by which the vector of a question counts.

    Characters of whole words count, those of longer pieces by half, single characters of a longer word not at all.
    In scripts without spaces a longer piece counts as a word.
    """
    pieces = Counter(token.word for token in tokens)
    total = sum(len(token.text) for token in tokens)
    covered = 0.0
    for token in tokens:
        if not token.is_known:
            continue
        if pieces[token.word] == 1:
            covered += len(token.text)
        elif len(token.text) > 1:
            covered += len(token.text) * (1 if unspaced_pattern().match(token.text) else _PIECE_SHARE)
    return min(1.0, covered / total / _FULL_COVERAGE) ** _EXPONENT if total else 1.0
