"""Weights of terms by the number of chunks that have them."""

import math


def inverse_document_frequency(total: int, document_frequency: int) -> float:
    """Return the inverse document frequency of BM25 for a term that `document_frequency` of `total` chunks have."""
    return math.log(1 + (max(total - document_frequency, 0) + 0.5) / (document_frequency + 0.5))
