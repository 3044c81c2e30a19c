"""Sign hashes: upper bounds of the similarity of very many vectors, from the signs of their components alone. Pure.

Vectors at a small angle differ in few signs (Charikar 2002, with the axes in place of random hyperplanes).
Comparing the signs reads a thirtieth of the data.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_BLOCK = 16_384  # rows hashed at a time, because hashing copies them
_WORD_BITS = 64


class SignHashes:
    """The component signs of the vectors of a matrix, 64 to a word. Immutable."""

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        """Take `words` [words, vectors]: stored word by word, so that a comparison reads memory in order."""
        self._words = words

    @classmethod
    def from_matrix(cls, matrix: Matrix) -> SignHashes:
        """Hash a matrix [vectors, dimensions]. The matrix is read once and not referenced afterwards."""
        words = np.empty((-(-matrix.shape[1] // _WORD_BITS), len(matrix)), dtype=np.uint64)
        for start in range(0, len(matrix), _BLOCK):
            block = matrix[start : start + _BLOCK]
            words[:, start : start + len(block)] = _pack_signs(block).T
        return cls(words)

    def appended(self, matrix: Matrix) -> SignHashes:
        """Return these hashes, followed by those of another matrix."""
        return SignHashes(np.concatenate([self._words, SignHashes.from_matrix(matrix)._words], axis=1))

    def select(self, rows: npt.NDArray[np.bool_]) -> SignHashes:
        """Return the hashes of the rows for which the mask is True."""
        return SignHashes(self._words[:, rows])

    def count_differing(self, vector: Matrix) -> npt.NDArray[np.uint16]:
        """Return the number of signs in which each vector differs from `vector` [dimensions]."""
        counts = np.zeros(self._words.shape[1], dtype=np.uint16)
        for word, other in zip(self._words, _pack_signs(vector[None])[0], strict=True):
            counts += np.bitwise_count(word ^ other)
        return counts


def _pack_signs(rows: Matrix) -> npt.NDArray[np.uint64]:
    """Return the packed signs [rows, words]; zeros pad the last word."""
    bits = np.packbits(rows > 0, axis=1)
    padding = -bits.shape[1] % (_WORD_BITS // 8)
    return np.ascontiguousarray(np.pad(bits, ((0, 0), (0, padding)))).view(np.uint64)
