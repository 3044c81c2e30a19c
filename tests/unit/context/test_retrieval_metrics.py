"""Test the metrics of `ctxfs eval`, on cases small enough to count by hand."""

import math

import pytest

from ctxfs.context.retrieval_metrics import (
    Gold,
    LineRange,
    Outcome,
    by_category,
    parse_gold,
    regressions,
    score_context,
    score_hits,
    summarise,
)

TWO = Gold("q", (LineRange("a.md", 3, 5), LineRange("b.md", 1, 1)))


def test_gold_names_files_lines_and_ranges() -> None:
    (case,) = parse_gold('{"question": "q", "relevant": ["a.md", "b.md:7", "c:d.md:2-4"], "category": "x"}\n\n')
    assert [(p.path, p.first, min(p.last, 99)) for p in case.relevant] == [
        ("a.md", 1, 99),
        ("b.md", 7, 7),
        ("c:d.md", 2, 4),
    ]
    assert case.category == "x"


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"question": 1, "relevant": ["a"]}', '{"question": "q", "relevant": []}', ""]
)
def test_invalid_gold_file_names_the_line(line: str) -> None:
    with pytest.raises(OSError, match=r"line 2|no question"):
        parse_gold(f'{{"question": "q", "relevant": ["a"]}}\n{line}' if line else "\n")


def test_gold_range_counts_once_and_a_repeated_hit_gains_nothing() -> None:
    outcome = Outcome(TWO)
    score_hits(
        outcome, [LineRange("a.md", 1, 3), LineRange("a.md", 4, 9), LineRange("x", 1, 1), LineRange("b.md", 1, 2)]
    )
    assert outcome.recall == {1: 0.5, 5: 1.0, 10: 1.0}
    assert outcome.ndcg == pytest.approx((1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3)))


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        ([LineRange("a.md", 3, 4), LineRange("a.md", 5, 5), LineRange("b.md", 1, 9)], 1.0),
        ([LineRange("a.md", 3, 3), LineRange("a.md", 5, 5), LineRange("b.md", 1, 9)], 0.0),
        ([LineRange("a.md", 1, 9)], 0.0),
    ],
)
def test_evidence_is_complete_only_with_every_line_of_every_range(pieces: list[LineRange], whole: float) -> None:
    outcome = Outcome(TWO)
    score_context(outcome, 500, pieces)
    assert outcome.whole == {500: whole}


def test_metrics_are_means_and_a_worse_one_is_named() -> None:
    good, bad = Outcome(TWO), Outcome(Gold("r", (LineRange("z"),), "other"))
    score_hits(good, [LineRange("a.md", 3, 5), LineRange("b.md", 1, 1)])
    score_hits(bad, [])
    summary = summarise([good, bad])
    assert (summary["recall@5"], summary["ndcg@10"], summary["questions"]) == (0.5, 0.5, 2)
    assert list(by_category([good, bad])) == ["other"]
    assert regressions(summary, {"recall@5": 0.5, "p50_ms": 0.0}, 0.0) == []
    assert regressions(summary, {"recall@5": 0.6, "whole@500": 0.1}, 0.05) == [
        "recall@5: 0.6000 before, 0.5000 now",
        "whole@500: 0.1000 before, not measured now",
    ]
