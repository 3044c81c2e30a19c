"""Figures of `benchmarks.evidence`: shares of questions whose whole evidence is in a context, with intervals. Pure.

Intervals are of 95 percent, by the bootstrap: `_RESAMPLES` times as many groups as there are (conversations of LoCoMo)
are drawn with replacement, and of each its questions likewise. All systems see the same draws, so that differences are
paired.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import numpy.typing as npt

from benchmarks.evidence_contexts import BuiltContext
from benchmarks.evidence_sets import Question, contains_text, normalise_text
from ctxfs.context.retrieval_metrics import Outcome, score_context

_RESAMPLES = 2000
_SEED = 29
_PERCENTILES = (2.5, 97.5)
BY_TURN, BY_TEXT = "by turn", "by text"
OWN_SYSTEM = "ctxfs"
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Share:
    """A mean with the bounds of its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        low, high = (f"{bound:.2f}".replace("0.", ".", 1) for bound in (self.low, self.high))
        return f"{self.value:.3f}".replace("0.", ".", 1) + f" ({low}–{high})"


@dataclass(slots=True)
class Scores:
    """The scores of one system, a question after the other: by way of comparison and budget, and tokens by budget."""

    system: str
    scores: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    tokens: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    missing: int = 0

    def add(self, question: Question, budget: int, built: BuiltContext | None) -> None:
        """Score a context; a question without one counts as not answered."""
        self.missing += built is None
        context = normalise_text(built.text) if built is not None else ""
        texts = [normalise_text(text) for text in question.texts]
        is_whole = built is not None and all(contains_text(context, text) for text in texts)
        self.scores[BY_TEXT, budget].append(float(is_whole))
        self.tokens[budget].append(built.tokens if built is not None else 0)
        if built is not None and built.lines is not None:
            outcome = Outcome(question.gold)
            score_context(outcome, budget, built.lines)
            self.scores[BY_TURN, budget].append(outcome.whole[budget])


def draw_weights(groups: Sequence[str]) -> Weights:
    """Return how often each question is drawn, a row a resample."""
    chance = np.random.default_rng(_SEED)
    members: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    names = list(members)
    weights = np.zeros((_RESAMPLES, len(groups)))
    for row in weights:
        for number in chance.integers(len(names), size=len(names)):
            drawn = members[names[number]]
            row[drawn] += np.bincount(chance.integers(len(drawn), size=len(drawn)), minlength=len(drawn))
    return weights


def estimate_share(values: Sequence[float], weights: Weights) -> Share:
    """Return the mean of values, and its interval by the draws."""
    means = weights @ np.array(values) / weights.sum(axis=1)
    low, high = np.percentile(means, _PERCENTILES)
    return Share(fmean(values), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of some questions: shares by (way, system, budget), and mean tokens by (system, budget)."""

    name: str
    questions: int
    shares: Mapping[tuple[str, str, int], Share]
    differences: Mapping[tuple[str, str, int], Share]
    tokens: Mapping[tuple[str, int], float]
    missing: Mapping[str, int]

    @property
    def budgets(self) -> list[int]:
        """Return the budgets, the smallest first."""
        return sorted({budget for _, _, budget in self.shares})

    def systems(self, way: str) -> list[str]:
        """Return the systems that were compared in a way, in the order of their figures."""
        return list(dict.fromkeys(system for other, system, _ in self.shares if other == way))

    def not_ahead(self) -> list[str]:
        """Return a line for each figure in which ctxfs is not surely ahead: the interval of the difference reaches 0."""
        return [
            f"{way}, {budget:,} tokens: {OWN_SYSTEM} − {system} {share.value:+.3f} ({share.low:+.3f} to {share.high:+.3f})"
            for (way, system, budget), share in self.differences.items()
            if share.low <= 0
        ]


def summarise_scores(name: str, questions: Sequence[Question], measured: Sequence[Scores]) -> Figures:
    """Return the figures of all systems, and the paired differences of ctxfs to each of the others."""
    weights = draw_weights([question.group for question in questions])
    shares: dict[tuple[str, str, int], Share] = {}
    differences: dict[tuple[str, str, int], Share] = {}
    tokens: dict[tuple[str, int], float] = {}
    own = next((scores for scores in measured if scores.system == OWN_SYSTEM), None)
    for way in (BY_TURN, BY_TEXT):
        for scores in measured:
            for (other, budget), values in sorted(scores.scores.items()):
                if other != way:
                    continue
                shares[way, scores.system, budget] = estimate_share(values, weights)
                if own is not None and own is not scores and (way, budget) in own.scores:
                    pairs = zip(own.scores[way, budget], values, strict=True)
                    differences[way, scores.system, budget] = estimate_share([a - b for a, b in pairs], weights)
    for scores in measured:
        tokens |= {(scores.system, budget): fmean(counts) for budget, counts in scores.tokens.items()}
    missing = {scores.system: scores.missing for scores in measured if scores.missing}
    return Figures(name, len(questions), shares, differences, tokens, missing)


def format_table(figures: Figures) -> str:
    """Return the figures as Markdown tables: shares in both ways, tokens used, and where ctxfs is not ahead."""
    budgets = figures.budgets
    head = " | ".join(f"{budget:,} tokens" for budget in budgets)
    lines = [f"### {figures.name}: {figures.questions} questions", "", f"| whole evidence | {head} |"]
    lines.append(f"|---{'|---' * len(budgets)}|")
    for way in (BY_TURN, BY_TEXT):
        for system in figures.systems(way):
            row = [str(figures.shares.get((way, system, budget), "–")) for budget in budgets]
            lines.append(f"| {system}, {way} | {' | '.join(row)} |")
    lines += ["", f"| mean tokens used | {head} |", f"|---{'|---' * len(budgets)}|"]
    for system in dict.fromkeys(system for system, _ in figures.tokens):
        used = [figures.tokens.get((system, budget)) for budget in budgets]
        lines.append(f"| {system} | {' | '.join('–' if mean is None else f'{mean:,.0f}' for mean in used)} |")
    for system, count in figures.missing.items():
        lines += ["", f"{system} has no context for {count} pairs of a question and a budget; they count as not found."]
    behind = figures.not_ahead()
    if behind:
        lines += ["", f"{OWN_SYSTEM} is not surely ahead:", "", *(f"- {line}" for line in behind)]
    return "\n".join(lines) + "\n"


def to_record(figures: Figures) -> dict[str, object]:
    """Return the figures as plain values for JSON."""

    def rows(shares: Mapping[tuple[str, str, int], Share]) -> list[dict[str, object]]:
        return [
            {"way": way, "system": system, "budget": budget, "share": share.value, "low": share.low, "high": share.high}
            for (way, system, budget), share in shares.items()
        ]

    return {
        "name": figures.name,
        "questions": figures.questions,
        "shares": rows(figures.shares),
        "differences": rows(figures.differences),
        "tokens": [
            {"system": system, "budget": budget, "mean": mean} for (system, budget), mean in figures.tokens.items()
        ],
        "missing": dict(figures.missing),
    }
