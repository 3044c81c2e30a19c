"""Retrieval metrics against questions with known answers. Pure: gold and answers in, numbers out.

Gold is JSON lines: {"question": "…", "relevant": ["path", "path:12", "path:3-9"]}, optionally with "category" and
"below". `recall@k`: the share of a question's relevant ranges that the first k hits touch. `ndcg@10` (Järvelin and
Kekäläinen 2002): a hit gains 1 if it touches a relevant range that no earlier hit touched. `whole@B`: 1 if every line
of every relevant range is in the context of B tokens.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ctxfs.model.errors import invalid

CUTS = (1, 5, 10)
_LINE_SUFFIX = re.compile(r"(.+):(\d{1,9})(?:-(\d{1,9}))?")
_LAST_LINE = 10**9


@dataclass(frozen=True, slots=True)
class LineRange:
    """A range of lines in a file, by default the whole file."""

    path: str
    first: int = 1
    last: int = _LAST_LINE

    def touches(self, other: "LineRange") -> bool:
        """Return True if the two ranges share a line."""
        return self.path == other.path and self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Gold:
    """A question and the ranges that contain its answer."""

    question: str
    relevant: tuple[LineRange, ...]
    category: str = ""
    below: str = ""


@dataclass(slots=True)
class Outcome:
    """The measurements of one question; `whole` is by budget in tokens, `seconds` covers the search alone."""

    gold: Gold
    recall: dict[int, float] = field(default_factory=dict)
    ndcg: float = 0.0
    whole: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0


def parse_gold(text: str) -> list[Gold]:
    """Parse JSON lines of gold; EINVAL names the first invalid line."""
    questions = []
    # Only a line feed ends a record: a question may contain other line separators, such as U+2028.
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if not line.strip():
            continue
        try:
            questions.append(_parse_record(json.loads(line)))
        except (ValueError, TypeError, KeyError) as error:
            form = '{"question": "…", "relevant": ["path:3-9", …]}'
            raise invalid("gold", f"line {number}: {error or 'not a record'}; wanted: {form}") from error
    if not questions:
        raise invalid("gold", "there is no question in it")
    return questions


def add_gold(text: str, question: str, relevant: Sequence[str]) -> str:
    """Return JSON lines of gold with passages that answer a question, at its line if it has one. EINVAL for malformed ones."""
    line = json.dumps({"question": question, "relevant": list(relevant)}, ensure_ascii=False)
    if not question or not parse_gold(line):
        raise invalid("question", "a question and its passages are needed")
    lines = [line for line in text.split("\n") if line.strip()]
    for number, present in enumerate(lines):
        record = json.loads(present) if parse_gold(present) else {}
        if record["question"] == question and not record.get("below"):
            record["relevant"] = list(dict.fromkeys([*record["relevant"], *relevant]))
            lines[number] = json.dumps(record, ensure_ascii=False)
            break
    else:
        lines.append(line)
    return "".join(f"{line}\n" for line in lines)


def _parse_record(record: Any) -> Gold:
    if not isinstance(record, dict) or not isinstance(record.get("question"), str):
        raise ValueError("'question' is missing")
    relevant = record.get("relevant")
    if not isinstance(relevant, list) or not relevant or not all(isinstance(item, str) for item in relevant):
        raise ValueError("'relevant' is a list of one or more paths")
    ranges = tuple(map(parse_line_range, relevant))
    return Gold(record["question"], ranges, str(record.get("category", "")), str(record.get("below", "")))


def parse_line_range(text: str) -> LineRange:
    """Parse `path`, `path:12` or `path:3-9`."""
    match = _LINE_SUFFIX.fullmatch(text)
    if match is None:
        return LineRange(text)
    return LineRange(match[1], int(match[2]), int(match[3] or match[2]))


def score_hits(outcome: Outcome, hits: Sequence[LineRange]) -> None:
    """Set recall and nDCG; `hits` are ordered best first."""
    relevant = outcome.gold.relevant
    missing = set(range(len(relevant)))
    gains = []
    for hit in hits[: max(CUTS)]:
        new = {number for number in missing if relevant[number].touches(hit)}
        missing -= new
        gains.append(1.0 if new else 0.0)
        if len(gains) in CUTS:
            outcome.recall[len(gains)] = 1 - len(missing) / len(relevant)
    for cut in CUTS:
        outcome.recall.setdefault(cut, 1 - len(missing) / len(relevant))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(relevant), 10) + 1))
    outcome.ndcg = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:10], 1)) / ideal


def score_context(outcome: Outcome, budget: int, pieces: Iterable[LineRange]) -> None:
    """Set the share of evidence within a context of `budget` tokens: 1 if it is complete, else 0."""
    lines: dict[str, list[tuple[int, int]]] = {}
    for piece in pieces:
        lines.setdefault(piece.path, []).append((piece.first, piece.last))
    outcome.whole[budget] = float(
        all(_is_covered(line_range, lines.get(line_range.path, ())) for line_range in outcome.gold.relevant)
    )


def _is_covered(line_range: LineRange, ranges: Iterable[tuple[int, int]]) -> bool:
    next_line = line_range.first
    for first, last in sorted(ranges):
        if first > next_line:
            break
        next_line = max(next_line, last + 1)
    # A relevant whole file counts as covered as soon as one of its lines is, because the gold names no lines.
    return next_line > line_range.last or (line_range.last == _LAST_LINE and next_line > line_range.first)


def summarise(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Return means over questions, and the median and 95th percentile of search times in milliseconds."""
    times = sorted(outcome.seconds * 1000 for outcome in outcomes)
    summary: dict[str, float] = {"questions": len(outcomes)}
    for cut in CUTS:
        summary[f"recall@{cut}"] = fmean(outcome.recall[cut] for outcome in outcomes)
    summary["ndcg@10"] = fmean(outcome.ndcg for outcome in outcomes)
    for budget in sorted({budget for outcome in outcomes for budget in outcome.whole}):
        summary[f"whole@{budget}"] = fmean(outcome.whole.get(budget, 0.0) for outcome in outcomes)
    summary["p50_ms"] = times[len(times) // 2]
    summary["p95_ms"] = times[min(len(times) - 1, int(len(times) * 0.95))]
    return {name: round(value, 4) for name, value in summary.items()}


def by_category(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """Return a summary for each named category."""
    categories = sorted({outcome.gold.category for outcome in outcomes} - {""})
    return {name: summarise([item for item in outcomes if item.gold.category == name]) for name in categories}


def regressions(summary: Mapping[str, float], baseline: Mapping[str, Any], tolerance: float) -> list[str]:
    """Return the metrics that fell below the baseline by more than `tolerance`; times are not compared."""
    out = []
    for name, previous in baseline.items():
        if name.endswith("_ms") or name == "questions" or not isinstance(previous, int | float):
            continue
        current = summary.get(name)
        if current is None:
            out.append(f"{name}: {previous:.4f} before, not measured now")
        elif current < previous - tolerance:
            out.append(f"{name}: {previous:.4f} before, {current:.4f} now")
    return out
