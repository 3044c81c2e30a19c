"""Weight of a term that a question repeats: query term frequency in BM25 (Robertson and others 1995). Pure."""

_K3 = 8.0  # saturation: a term that occurs twice weighs 1.8, three times 2.5, ten times 5


def saturate_count(count: int) -> float:
    """Return the weight of a term that occurs `count` times in a question: 1 for once, below 9 for any number."""
    return (_K3 + 1) * count / (_K3 + count)
