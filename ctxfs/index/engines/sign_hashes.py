"""How near very many vectors may be to another, by the signs of their numbers alone: a thirtieth of the reading. Pure.

Vectors at a small angle differ in few signs (Charikar 2002, with the axes for the random planes).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_BLOCK = 16_384  # rows whose signs are taken at a time: a copy is made of them
_WORD_BITS = 64


class SignHashes:
    """The signs of the vectors of a matrix, 64 a word. Immutable."""

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        """`words` [words, vectors]: word by word, so that each step of a comparison runs through memory in order."""
        self._words = words

    @classmethod
    def of(cls, matrix: Matrix) -> SignHashes:
        """Of a matrix [vectors, dimensions], which is read once and not kept."""
        words = np.empty((-(-matrix.shape[1] // _WORD_BITS), len(matrix)), dtype=np.uint64)
        for start in range(0, len(matrix), _BLOCK):
            block = matrix[start : start + _BLOCK]
            words[:, start : start + len(block)] = _signs(block).T
        return cls(words)

    def and_of(self, matrix: Matrix) -> SignHashes:
        """These, and those of a matrix behind them."""
        return SignHashes(np.concatenate([self._words, SignHashes.of(matrix)._words], axis=1))

    def of_rows(self, rows: npt.NDArray[np.bool_]) -> SignHashes:
        """Those of some rows."""
        return SignHashes(self._words[:, rows])

    def differing(self, vector: Matrix) -> npt.NDArray[np.uint16]:
        """In how many signs each differs from `vector` [dimensions]."""
        differing = np.zeros(self._words.shape[1], dtype=np.uint16)
        for mine, its in zip(self._words, _signs(vector[None])[0], strict=True):
            differing += np.bitwise_count(mine ^ its)
        return differing


def _signs(rows: Matrix) -> npt.NDArray[np.uint64]:
    """[rows, words]; the last word is filled up."""
    bits = np.packbits(rows > 0, axis=1)
    missing = -bits.shape[1] % (_WORD_BITS // 8)
    return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, missing)))).view(np.uint64)
