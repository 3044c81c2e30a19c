"""Test the verdicts on claims against sources: supported, contradicted, undecided."""

from fractions import Fraction

import pytest

from ctxfs.context.build.piece import Piece
from ctxfs.context.grounding.claims import claims_of
from ctxfs.context.grounding.evaluator import decode_response
from ctxfs.context.grounding.judge import Evaluation, Evidence, Sources, evaluate, split_evidence
from ctxfs.context.grounding.sentence_values import extract_values
from ctxfs.index.engines.fulltext import analyse

HANDBOOK = """The signing keys are rotated every ninety days by Ada Lovelace.
The cluster moved to Zurich on 4 March 2024, and Bob Martin approved the budget of 12,500 francs.
Deployments are not allowed on Fridays. Backups are kept for 30 days in the vault.
"""


def judged(response: str, memory: str = "") -> Evaluation:
    sources = Sources(
        split_evidence([Piece("handbook.md", 1, 4, HANDBOOK, kind="markdown")], {"handbook.md": 1}), analyse
    )
    lines = [line for line in memory.split("\n") if line]
    facts = (
        Sources([Evidence(line, "memory/m.md", at, at) for at, line in enumerate(lines, 1)], analyse) if lines else None
    )
    return evaluate(response, sources, analyse, None, {1: [(1, 4)]}, facts)


@pytest.mark.parametrize(
    ("claim", "verdict", "kind"),
    [
        ("The signing keys are rotated every ninety days.", "supported", ""),
        ("The signing keys are rotated every 90 days.", "supported", ""),
        ("The signing keys are rotated every thirty days.", "contradicted", "number"),
        ("The signing keys are rotated every ninety days by Grace Hopper.", "contradicted", "name"),
        ("The cluster moved to Zurich on March 4th, 2024.", "supported", ""),
        ("The cluster moved to Zurich on 5 March 2024.", "contradicted", "date"),
        ("The cluster moved to Zurich on 2023-03-04.", "contradicted", "date"),
        ("The cluster moved to Geneva on 4 March 2024.", "contradicted", "name"),
        ("Bob Martin approved the budget of 12500 francs.", "supported", ""),
        ("Bob Martin approved the budget of 15,200 francs.", "contradicted", "number"),
        ("Deployments are allowed on Fridays.", "contradicted", "negation"),
        ("Deployments aren't allowed on Fridays.", "supported", ""),
        ("Backups are never kept for 30 days in the vault.", "contradicted", "negation"),
        ("The moon is made of cheese and honey.", "unsupported", ""),
        ("Is the moon made of cheese?", "unchecked", ""),
        ("# The moon is made of cheese", "unchecked", ""),
        ("Here is what I found:", "unchecked", ""),
    ],
)
def test_claims_get_the_right_verdict(claim: str, verdict: str, kind: str) -> None:
    (result,) = judged(claim).claims
    assert (result.verdict, [conflict.kind for conflict in result.conflicts]) == (verdict, [kind] if kind else [])


def test_a_conflict_names_both_sides_and_the_line() -> None:
    (claim,) = judged("Backups are kept for 45 days in the vault.").claims
    (conflict,) = claim.conflicts
    assert (conflict.claimed, conflict.known, conflict.at) == ("45 days", "30 days", "handbook.md:3")


def test_citations_resolve_to_lines_of_the_context() -> None:
    claims = judged(
        "Backups are kept for 30 days in the vault [1:3]. Keys rotate [7]. The budget is 12,500 francs [1:9-12]."
    ).claims
    assert [citation for claim in claims for citation in claim.citations] == [
        {"cite": "[1:3]", "resolves": True, "supports": True},
        {"cite": "[7]", "resolves": False, "supports": False},
        {"cite": "[1:9-12]", "resolves": False, "supports": False},
    ]


def test_memory_with_another_value_contradicts() -> None:
    claims = judged("The release branch is called stable-2.", "release branch: main\nowner: Ada").claims
    assert not claims[0].conflicts, "without a value that can be compared nothing is claimed"
    (found_value,) = judged("The release interval is 30 days.", "release interval: 90 days\nowner: Ada").claims
    assert [(conflict.kind, conflict.at) for conflict in found_value.conflicts] == [("memory", "memory/m.md:1")]
    (same,) = judged("The release interval is 90 days.", "release interval: 90 days").claims
    assert not same.conflicts


def test_groundedness_counts_checkable_claims() -> None:
    evaluation = judged(
        "# Answer\n\nBackups are kept for 30 days in the vault. Cheese is what the moon is made of. Really?"
    )
    assert evaluation.groundedness == 0.5
    assert judged("Really?").groundedness is None
    assert any("need a model" in note for note in evaluation.notes)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("ninety-five of one hundred and twenty thousand", {95, 120_000}),
        ("3.50 and 1,250,000", {Fraction(7, 2), 1_250_000}),
        ("on 2024-03-04 at 17", {17}),
        ("one of them", set()),
        ("two and 2", {2}),
    ],
)
def test_numbers_are_values(text: str, numbers: set[object]) -> None:
    assert {quantity.number for quantity in extract_values(text).quantities} == numbers


def test_names_do_not_include_how_a_sentence_begins() -> None:
    assert extract_values("Keys are kept by Ada and by the SRE team in March.").names == {"ada", "sre"}


def test_long_response_is_bounded_and_reported() -> None:
    evaluation = judged("Backups are kept for 30 days in the vault. " * 2100)
    assert len(evaluation.claims) == 2000
    assert any("first 2000" in note for note in evaluation.notes)


@pytest.mark.parametrize(
    ("data", "why"), [(b"a\0b", "binary"), (b"caf\xe9", "not UTF-8"), (b"x" * 16_000_001, "at most")]
)
def test_binary_response_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(OSError, match=why):
        decode_response(data)


def test_marks_are_not_part_of_a_claim_and_identifiers_stay_whole() -> None:
    claims = list(claims_of("- **Use** `snake_case_name` and _care_ [1].\n> The quote says 5 things."))
    assert [claim.text for claim in claims] == ["Use snake_case_name and care.", "The quote says 5 things."]
