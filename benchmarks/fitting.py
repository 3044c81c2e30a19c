"""Fits of the weights of ranking, on numpy.

Dialogues (`locomo --fit`): gradient descent on the ranks of evidence. Code (`code_files --leave-one-out`): a grid.
"""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctxfs.context.retrieval_metrics import Gold, LineRange
from ctxfs.index.query import parse_query
from ctxfs.index.search.rank_fusion import WEIGHTS, fill_and_standardise, fuse
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


# The grid of `fit_code`: the share of meaning, the weight of `passages`, the weight of `beside`.
_CODE_GRID = tuple(itertools.product((0.5, 0.6, 0.65, 0.7, 0.75), (0.0, 0.5, 1.0, 1.5), (0.0, -0.4, -0.7)))
_NDCG_FILES = 10


@dataclass(slots=True)
class CodeCase:
    """A question's candidates in order of their numbers, and the files that answer it."""

    chunks: Matrix
    files: npt.NDArray[np.int64]
    signals: dict[str, Matrix]
    relevant: set[int]
    answers: int


@dataclass(slots=True)
class CodeSet:
    """The questions of a collection with their candidates."""

    name: str
    cases: list[CodeCase]

    @classmethod
    def collect(cls, name: str, searcher: Searcher, questions: Sequence[tuple[str, Collection[str]]]) -> "CodeSet":
        """Run each question and keep every candidate with its signals."""
        cases = []
        for text, paths in questions:
            hits = sorted(
                searcher.search(parse_query(text), Path.parse("knowledge"), 10_000).hits, key=lambda hit: hit.chunk.id
            )
            numbers = {path: number for number, path in enumerate(dict.fromkeys(hit.path for hit in hits))}
            names = {name for hit in hits for name in hit.signals}
            signals = {name: np.array([hit.signals.get(name, np.nan) for hit in hits]) for name in names}
            files = np.array([numbers[hit.path] for hit in hits], dtype=np.int64)
            relevant = {number for path, number in numbers.items() if path in paths}
            cases.append(CodeCase(np.array([hit.chunk.id for hit in hits]), files, signals, relevant, len(paths)))
        return cls(name, cases)

    def ndcg(self, weights: Mapping[str, float]) -> float:
        """Return the mean nDCG@10 over distinct files."""
        total = 0.0
        for case in self.cases:
            position = {int(chunk): row for row, chunk in enumerate(case.chunks)}
            ranking = fuse(case.chunks.astype(np.int64), case.signals, weights, files=case.files)
            files = list(dict.fromkeys(int(case.files[position[scored.chunk]]) for scored in ranking))[:_NDCG_FILES]
            gain = sum(1 / math.log2(rank + 1) for rank, file in enumerate(files, 1) if file in case.relevant)
            total += gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(case.answers, _NDCG_FILES) + 1))
        return total / max(len(self.cases), 1)


def _code_weights(meaning: float, passages: float, beside: float) -> dict[str, float]:
    return {"words": 1 - meaning, "meaning": meaning, "passages": passages, "beside": beside}


def fit_code(sets: Sequence[CodeSet]) -> None:
    """Print the weights of code fitted without each set, and the nDCG@10 of that set with them."""
    table = {point: [collection.ndcg(_code_weights(*point)) for collection in sets] for point in _CODE_GRID}
    for index, left_out in enumerate(sets):
        best = max(_CODE_GRID, key=lambda point: sum(table[point]) - table[point][index])
        words, shipped = left_out.ndcg({"words": 1.0}), left_out.ndcg(WEIGHTS["code"])
        print(
            f"without {left_out.name}: meaning {best[0]}, passages {best[1]}, beside {best[2]}: "
            f"{table[best][index]:.3f} (table {shipped:.3f}, full text {words:.3f})"
        )
    best = max(_CODE_GRID, key=lambda point: sum(table[point]))
    print(f"on all: meaning {best[0]}, passages {best[1]}, beside {best[2]}")
