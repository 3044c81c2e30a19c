"""The verdict on a question: the probability that the searched files answer it, and that a hit helps. Pure.

Both are logistic regressions on raw signals, which do not depend on the weights of the ranking.
`python -m benchmarks.abstention --fit` fits them and prints the tables below.

Source of the weights of a question (cosine, coverage, missing words):
LoCoMo's conversations with an even number, with their own questions, those of other conversations and of other topics;
Python's library, docstrings without their functions, manual pages and the documentation of ctxfs, half of each.
With one collection left out, at most 3.3 % of the answerable questions are below the threshold, and 88 % or more of
the others.

Source of the weights of a hit: `dialogue` is fitted on the evidence of LoCoMo's conversations with an even number,
`text` on the functions of docstrings, manual pages and files of Python's library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from ctxfs.index.search.rank_fusion import Profile, fill_gaps
from ctxfs.index.search.results import Answer, Evidence, Verdict

# Below the first threshold a question is unknown, from the second on it is known. False refusals are worse than weak
# answers: at 0.2, at most 2 % of the questions that a collection of texts answers are below. Of those about dialogues,
# 3 to 5 % would be, at 0.05 it is 1 %, and contexts keep the evidence of the others.
UNKNOWN_BELOW = 0.20
_UNKNOWN_BELOW_IN_DIALOGUE = 0.05
KNOWN_FROM = 0.70
# Without cosines the probabilities are less certain, so that fewer questions are refused.
_UNKNOWN_BELOW_BY_WORDS = 0.15
# An answer is known only if the probability of a hit is this large. The words of "ok do it" may be in some passage, and
# its meaning near another, although no passage answers it. Set by hand on thirty such prompts: prompts of which a word
# is a keyword of the files stay known, and some answerable questions become weak. No benchmark measures the shares.
_MIN_KNOWN_HIT = 0.02
_QUESTION_WEIGHTS = {"cosine": 16.6, "coverage": 7.2, "missing": -2.5, "bias": -8.9}
_WORD_QUESTION_WEIGHTS = {"cosine": 0.0, "coverage": 11.3, "missing": -4.0, "bias": -3.5}
# The probability that a named author is the right one, from the margin of the author's statements.
# It lowers the probability of an answer by half at most: a neighbour's question may be the evidence.
_AUTHOR_SLOPE, _AUTHOR_BIAS, _MAX_AUTHOR_LOSS = 7.6, 1.1, 0.5
_QUESTION_PENALTY = 0.6  # a turn that is a question is no statement
_AUTHOR_COSINE_WEIGHT = 0.5
_AUTHOR_STATEMENTS = 2
# A hit's own signals; `…_gap` is the signal less the largest of the question.
_TEXT_WEIGHTS = {"meaning": 9.83, "words": 1.42, "meaning_gap": 9.04, "words_gap": 2.49, "bias": -7.47}
_WORD_TEXT_WEIGHTS = {"words": 3.58, "words_gap": 2.17, "bias": -6.63}
_DIALOGUE_WEIGHTS = {
    "meaning": 6.42, "words": -0.10, "meaning_gap": 0.18, "words_gap": 1.45,
    "nearby": -3.31, "around": 3.66, "nearby_gap": 7.15, "around_gap": 2.40,
    "author": 3.64, "date": 1.22, "says_when": 0.77, "asks": -1.07, "bias": -7.28,
}  # fmt: skip
_WORD_DIALOGUE_WEIGHTS = {
    "words": 1.26, "words_gap": 2.22, "around": 5.17, "around_gap": 3.56,
    "author": 3.77, "date": 1.24, "says_when": 0.98, "asks": -0.96, "bias": -7.72,
}  # fmt: skip
# The author signal of a question that names no author: one of the speakers is the right one, but not known. It gives the
# hits of LoCoMo without their author signal the largest likelihood; without it, they are a fifteenth as probable.
_UNNAMED_AUTHOR = 0.78
_MAX_WORDS_RATIO = 1.5
# A context ends at hits whose probability is this share of the best one's. Of the fifth hit and behind, the share grows
# with the rank: a hit far behind others is rarely the answer that they are not. By `benchmarks.abstention --contexts`
# and `benchmarks.short_answers`, at 8,000 tokens: no evidence is lost that was found without the growth, in two thirds
# of the tokens; a share of prose of .015 loses one answer of 47.
_RELEVANT_SHARES: Mapping[Profile, float] = {"prose": 0.0085, "code": 0.0025, "dialogue": 0.002}
_RANK_EXPONENTS: Mapping[Profile, float] = {"prose": 0.8, "code": 0.8, "dialogue": 0.0}
_UNCHANGED_RANK = 5  # the rank at which the share counts as it is
_MIN_RELEVANT: Mapping[Profile, float] = {"prose": 0.001, "code": 0.0002, "dialogue": 0.0002}
# As code the share of code counts where these first hits are code; beside prose, code answers as seldom as prose.
_LEADING_HITS = 8
# A question about a dialogue needs several turns, each with a small probability: the first turns are relevant, however
# small it is. LoCoMo: with half the share and without this number, whole evidence in 4,000 tokens was .900 instead of
# .906, in contexts of 8,000 tokens that were longer (median 7,400 instead of 6,100).
_MIN_RELEVANT_TURNS = 100
# The cosines of the built-in model between questions and random chunks: mean and standard deviation.
_REFERENCE_MEAN, _REFERENCE_DEVIATION = 0.05, 0.075

_HIT_SIGNALS = frozenset(("meaning", "nearby", "words", "around", "author", "date", "says_when", "asks"))

Column = npt.NDArray[np.float64]


def estimate_answer(evidence: Evidence) -> float:
    """Return the probability (0 to 1) that the searched files answer a question."""
    p = _estimate_topic(evidence)
    if evidence.author_margin is None:
        return p
    is_right = _logistic(_AUTHOR_BIAS + _AUTHOR_SLOPE * evidence.author_margin)
    return p * (1 - _MAX_AUTHOR_LOSS + _MAX_AUTHOR_LOSS * is_right)


def _estimate_topic(evidence: Evidence) -> float:
    """Return the probability of an answer by any author."""
    weights = _QUESTION_WEIGHTS if evidence.cosine is not None else _WORD_QUESTION_WEIGHTS
    return _logistic(
        weights["bias"]
        + weights["cosine"] * (evidence.cosine or 0.0)
        + weights["coverage"] * evidence.coverage
        + weights["missing"] * evidence.missing
    )


def judge(evidence: Evidence, has_hits: bool, is_complete: bool, best_hit: float | None = None) -> Answer:
    """Return the verdict. It is unknown only if everything was searched, and no required word was found.

    `best_hit` is the largest probability of a hit, None if it was not measured by meaning.
    Doubts about the author alone, and about the hits one by one, do not make an answer unknown.
    """
    p = estimate_answer(evidence) if has_hits else 0.0
    topic = _estimate_topic(evidence) if has_hits else 0.0
    threshold = UNKNOWN_BELOW if evidence.cosine is not None else _UNKNOWN_BELOW_BY_WORDS
    if evidence.is_dialogue:
        threshold = min(threshold, _UNKNOWN_BELOW_IN_DIALOGUE)
    if p >= KNOWN_FROM and (best_hit is None or best_hit >= _MIN_KNOWN_HIT):
        return Answer(Verdict.KNOWN, p, evidence=evidence)
    if topic >= threshold or (has_hits and evidence.is_literal) or not is_complete:
        return Answer(Verdict.WEAK, p, evidence=evidence)
    return Answer(Verdict.UNKNOWN, p, tuple(_explain(evidence, has_hits)), evidence)


def _explain(evidence: Evidence, has_hits: bool) -> list[str]:
    if not has_hits:
        return ["no file contains any of its words"]
    reasons = [f"at most {evidence.coverage:.0%} of its words, by weight, are in one passage"]
    if evidence.missing_words:
        reasons.insert(0, f"no file contains {', '.join(evidence.missing_words)}")
    if evidence.cosine is not None:
        reasons.append(f"the nearest passage is far in meaning (cosine {evidence.cosine:.2f})")
    return reasons


def estimate_hits(
    signals: Mapping[str, Column],
    profiles: Sequence[Profile],
    ideal_words: float,
    largest: Mapping[str, float] | None = None,
) -> list[float]:
    """Return the probability (0 to 1) of each hit [n], best first, that it helps to answer the question.

    `signals` are columns [n], NaN where a signal was not measured. `profiles` [n] are the kinds of their texts,
    `ideal_words` the sum of the IDF of the question's words.
    `largest` are the largest values of the signals over all candidates, by default over these hits.
    A hit without a cosine is judged by words alone: a missing measurement is not a low one.
    """
    if not profiles:
        return []
    columns: dict[str, Column] = {}
    if "words" in signals and np.isnan(signals.get("around", np.nan)).all():
        signals = {**signals, "around": signals["words"]}  # no hit has neighbours: each is its own neighbourhood
    for name in signals.keys() & _HIT_SIGNALS:
        column = fill_gaps(signals[name])
        most = max(largest.get(name, 0.0), column.max()) if largest is not None else column.max()
        if name in ("words", "around"):
            unit = max(ideal_words, 1e-9)
            column, most = np.minimum(column / unit, _MAX_WORDS_RATIO), min(most / unit, _MAX_WORDS_RATIO)
        columns[name], columns[f"{name}_gap"] = column, column - most
    columns.setdefault("author", np.full(len(profiles), _UNNAMED_AUTHOR))
    is_turn = np.array([profile == "dialogue" for profile in profiles])
    has_cosine = ~np.isnan(signals["meaning"]) if "meaning" in signals else np.zeros(len(profiles), dtype=np.bool_)
    logits: Column = np.empty(len(profiles))
    for is_kind, weights in (
        (is_turn & has_cosine, _DIALOGUE_WEIGHTS),
        (is_turn & ~has_cosine, _WORD_DIALOGUE_WEIGHTS),
        (~is_turn & has_cosine, _TEXT_WEIGHTS),
        (~is_turn & ~has_cosine, _WORD_TEXT_WEIGHTS),
    ):
        if is_kind.any():  # most hits are of one kind
            logits[is_kind] = _weigh(columns, weights, len(profiles))[is_kind]
    probabilities: list[float] = (1 / (1 + np.exp(-np.clip(logits, -30, 30)))).tolist()
    return probabilities


def flag_relevant(probabilities: Sequence[float], profiles: Sequence[Profile]) -> list[bool]:
    """Return for each hit of a question, best first, whether a context should contain it, if there is room.

    A hit's flag depends on the largest probability, the leading hits and the hits before it, not on their number.
    """
    best = max(probabilities, default=0.0)
    shares = {**_RELEVANT_SHARES, "code": _share_of_code(probabilities[:_LEADING_HITS], profiles[:_LEADING_HITS])}
    turns = accumulate(int(profile == "dialogue") for profile in profiles)
    flags = []
    for rank, (p, profile, turn) in enumerate(zip(probabilities, profiles, turns, strict=True), 1):
        share = shares[profile] * (rank / _UNCHANGED_RANK) ** _RANK_EXPONENTS[profile]
        is_early_turn = profile == "dialogue" and turn <= _MIN_RELEVANT_TURNS
        flags.append(is_early_turn or p >= max(_MIN_RELEVANT[profile], min(share, 1.0) * best))
    return flags


def _share_of_code(probabilities: Sequence[float], profiles: Sequence[Profile]) -> float:
    """Return the share for code, between that of prose and its own, by the probabilities of leading hits of code."""
    of_code = sum(p for p, profile in zip(probabilities, profiles, strict=True) if profile == "code")
    weight = of_code / max(sum(probabilities), 1e-9)
    share: float = _RELEVANT_SHARES["prose"] ** (1 - weight) * _RELEVANT_SHARES["code"] ** weight
    return share


def _weigh(columns: Mapping[str, Column], weights: Mapping[str, float], count: int) -> Column:
    logits: Column = np.full(count, weights["bias"])
    for name, weight in weights.items():
        if name in columns:
            logits = logits + weight * columns[name]
    return logits


def measure_author_margin(signals: Mapping[str, Column], ideal_words: float) -> float | None:
    """Return the excess of the best statements of the named authors over those of others; None if none is named.

    `signals` are columns, NaN where a signal was not measured. Only turns have the signal `author`.
    A question is no statement.
    """
    if "author" not in signals:
        return None
    strengths: Column = np.zeros(len(signals["author"]))
    for name, weight in (
        ("words", 1 / max(ideal_words, 1e-9)), ("meaning", _AUTHOR_COSINE_WEIGHT), ("asks", -_QUESTION_PENALTY)
    ):  # fmt: skip
        if name in signals:
            strengths += weight * fill_gaps(signals[name])
    own = strengths[signals["author"] > 0]
    other = strengths[signals["author"] == 0]
    if not len(own) or not len(other):
        return None
    return _mean_of_best(own) - _mean_of_best(other)


def _mean_of_best(values: Column) -> float:
    return float(np.sort(values)[-_AUTHOR_STATEMENTS:].mean())


def scale_cosines(cosines: Column, mean: float, deviation: float) -> Column:
    """Return cosines of another model on the scale of the built-in one.

    `mean` and `deviation` are those of the question's cosines to random chunks.
    """
    return _REFERENCE_MEAN + _REFERENCE_DEVIATION * (cosines - mean) / max(deviation, 1e-6)


def _logistic(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -30, 30))))
