"""Test the comparison of quantities: units, signs, bounds, rates, notations and clauses."""

from fractions import Fraction

import pytest

from ctxfs.context.build.piece import Piece
from ctxfs.context.grounding.judge import Sources, evaluate, split_evidence
from ctxfs.context.grounding.quantities import Match, find_quantities
from ctxfs.index.engines.fulltext import analyse

API = "The public API allows 60 requests a minute per token; partners get 600."


def verdict(source: str, claim: str) -> str:
    sources = Sources(split_evidence([Piece("a.md", 1, 1, source, kind="markdown")], {"a.md": 1}), analyse)
    (judged,) = evaluate(claim, sources, analyse, None, {1: [(1, 1)]}).claims
    assert judged.verdict != "unsupported" or judged.doubt, "the reason is given"
    return judged.verdict


@pytest.mark.parametrize(
    ("source", "claim", "expected"),
    [
        (API, "The public API allows 60 requests a minute per token.", "supported"),
        (API, "The public API allows 600 requests a minute per token.", "contradicted"),
        (API, "Partners get 600 requests a minute per token.", "supported"),
        (API, "Partners get 60 requests a minute per token.", "contradicted"),
        (API, "The public API allows 60 requests an hour per token.", "contradicted"),
        (API, "The public API allows 1 request a second per token.", "supported"),
        ("The timeout of the proxy is 1500 ms.", "The timeout of the proxy is 1500 s.", "contradicted"),
        ("The timeout of the proxy is 1500 ms.", "The timeout of the proxy is 1.5 seconds.", "supported"),
        ("The timeout of the proxy is 1500ms.", "The timeout of the proxy is 1500 MB.", "unsupported"),
        ("The freezer is kept at -5 degrees.", "The freezer is kept at 5 degrees.", "contradicted"),
        ("The freezer is kept at -5 degrees.", "The freezer is kept at minus 5 degrees.", "supported"),
        ("The freezer is kept at 5 degrees below zero.", "The freezer is kept at \u22125 degrees.", "supported"),
        ("The archive holds 16 181 scanned files.", "The archive holds 16,181 scanned files.", "supported"),
        ("The archive holds 1,200,000 scanned files.", "The archive holds 1.2 million scanned files.", "supported"),
        ("The archive holds 1,200,000 scanned files.", "The archive holds 1.3 million scanned files.", "contradicted"),
        ("Logs are kept for at least 30 days in the vault.", "Logs are kept for at most 30 days in the vault.", "contradicted"),
        ("Logs are kept for at least 30 days in the vault.", "Logs are kept for 30 days in the vault.", "unsupported"),
        ("Logs are kept for at least 30 days in the vault.", "Logs are kept for 30 days or more in the vault.", "supported"),
        ("Logs are kept for 29 days in the vault.", "Logs are kept for about 30 days in the vault.", "supported"),
        ("Logs are kept in the vault of the bank.", "Logs are kept in the vault of the bank for 30 days.", "unsupported"),
        ("The API allows between 60 and 600 requests.", "The API allows 60 requests.", "unsupported"),
        ("The disk has 5 GiB of free space.", "The disk has 5 GB of free space.", "contradicted"),
        ("The fee is $5 for members of the club.", "The fee is 5 dollars for members of the club.", "supported"),
        ("The fee is $5 for members of the club.", "The fee is 5 euros for members of the club.", "unsupported"),
        ("Release 1.2.3 fixes the crash of the daemon.", "Release 1.2.4 fixes the crash of the daemon.", "contradicted"),
        ("The plan was approved on 2026-12-02.\n密钥每九十天轮换一次。", "The plan was approved on 2026-12-02.", "supported"),
    ],
)  # fmt: skip
def test_value_supports_only_the_same_value(source: str, claim: str, expected: str) -> None:
    assert verdict(source, claim) == expected


def test_two_claims_in_two_scripts_are_two_sentences() -> None:
    sources = Sources([], analyse)
    claims = evaluate("It ended on 2026-12-02.\n密钥每九十天轮换一次。", sources, analyse, None, {}).claims
    assert len(claims) == 2


def test_long_digits_are_no_quantity() -> None:
    assert list(find_quantities("9" * 100_000)) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [("90 s", 90), ("1.5 minutes", 90), ("2h", 7200), ("250 µs", Fraction(1, 4000)), ("3 GB", 3 * 10**9)],
)
def test_values_are_in_the_base_unit(text: str, value: Fraction) -> None:
    assert [quantity.value for quantity in find_quantities(text)] == [value]


def test_order_of_matches_ranks_equality_first() -> None:
    assert Match.EQUAL > Match.INEXACT > Match.DIFFERENT
