"""Test the weight of a question's vector by the vocabulary of the model."""

import numpy as np
import pytest

from ctxfs.index.engines.embedders.vocabulary import Token, trust_in
from ctxfs.index.search.rank_fusion import WEIGHTS, fuse, mixed_weights


def tokens(*words: str) -> list[Token]:
    """Return the tokens of words that are cut at `|`; `?` is the unknown token."""
    return [Token(piece, number, piece != "?") for number, word in enumerate(words) for piece in word.split("|")]


@pytest.mark.parametrize(
    ("question", "low", "high"),
    [
        (tokens("rotate", "the", "keys"), 1.0, 1.0),
        (tokens("猫", "很", "黒"), 1.0, 1.0),
        (tokens("まち|づくり", "です"), 1.0, 1.0),
        (tokens("ve|rz|ei|chni|sse", "der"), 0.2, 0.8),
        (tokens("о|т|к|р|о|й"), 0.0, 0.0),
        (tokens("?", "?", "a"), 0.1, 0.4),
        ([], 1.0, 1.0),
    ],
)
def test_trust_is_the_share_of_characters_in_known_words(question: list[Token], low: float, high: float) -> None:
    assert low <= trust_in(question) <= high


def test_trust_scales_the_weights_of_vectors_alone() -> None:
    weights = mixed_weights({"prose": 1}, 0.5)
    assert weights == {**WEIGHTS["prose"], "meaning": WEIGHTS["prose"]["meaning"] / 2}


def test_word_outweighs_length_among_few_candidates() -> None:
    signals = {"words": np.array([0.0, 1.0]), "length": np.array([5.0, 1.0])}
    assert [item.chunk for item in fuse([1, 2], signals, WEIGHTS["dialogue"])] == [2, 1]
