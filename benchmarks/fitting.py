"""Fit of the weights of dialogues, for `locomo --fit`: gradient descent on the ranks of evidence, on numpy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxfs.context.retrieval_metrics import Gold, LineRange
from ctxfs.index.query import parse_query
from ctxfs.index.search.rank_fusion import WEIGHTS, fill_and_standardise
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.path import Path

NAMES = tuple(name for name in WEIGHTS["dialogue"] if name != "folder")  # a conversation has one folder
_RANK_DEPTH = 15.0  # log(depth + rank) is nearly linear up to about this rank
_DEFAULT_STEPS = 250
Matrix = npt.NDArray[np.float64]


@dataclass(slots=True)
class Case:
    """The candidates of a question as columns of prepared signals [n, signals], and the rows that contain evidence."""

    signals: Matrix
    evidence: list[int]


def collect(searcher: Searcher, gold: list[Gold]) -> list[Case]:
    """Run each question and return every candidate with its signals."""
    cases = []
    for question in gold:
        hits = searcher.search(parse_query(question.question), Path.parse(question.below), 10_000).hits
        raw = {name: np.array([hit.signals.get(name, np.nan) for hit in hits]) for name in NAMES}
        columns = fill_and_standardise(raw)
        matrix = np.stack([columns.get(name, np.zeros(len(hits))) for name in NAMES], axis=1)
        positions = [LineRange(hit.chunk.path, hit.chunk.first, hit.chunk.last) for hit in hits]
        evidence = [
            n for n, position in enumerate(positions) if any(item.touches(position) for item in question.relevant)
        ]
        if evidence:
            cases.append(Case(matrix, evidence))
    return cases


def fit(cases: list[Case], start: Matrix, steps: int = _DEFAULT_STEPS, rate: float = 0.05) -> Matrix:
    """Return weights that minimise the mean log(depth + rank of evidence), ranks smoothed by a sigmoid (Adam)."""
    weights, mean, square = start.copy(), np.zeros(len(start)), np.zeros(len(start))
    for step in range(1, steps + 1):
        slope = np.zeros(len(start))
        for case in cases:
            scores = case.signals @ weights
            above = 1 / (1 + np.exp(-np.clip(scores[None] - scores[case.evidence][:, None], -30, 30)))
            ranks = above.sum(axis=1)
            # All evidence is needed, so the one that ranks last counts most.
            push = (ranks / ranks.sum() / (_RANK_DEPTH + ranks))[:, None] * above * (1 - above)
            slope += push.sum(axis=0) @ case.signals - push.sum(axis=1) @ case.signals[case.evidence]
        slope = slope / len(cases) + 2e-5 * weights
        mean, square = 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
        fall = rate / (4 if step > steps * 2 // 3 else 1)
        weights -= fall * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-9)
    return weights


def fit_dialogue(conversations: list[tuple[Searcher, list[Gold]]]) -> None:
    """Fit on the conversations with an even position and print the table."""
    even = [case for searcher, gold in conversations[0::2] for case in collect(searcher, gold)]
    start = np.array([WEIGHTS["dialogue"][name] for name in NAMES])
    weights = fit(even, start)
    weights /= np.abs(weights).mean()
    for name, weight in zip(NAMES, weights, strict=True):
        print(f'"{name}": {weight:.2f},')
