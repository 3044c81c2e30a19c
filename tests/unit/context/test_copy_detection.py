"""Test that copies of other texts are detected by their words, in any format."""

import pytest

from ctxfs.context.build.candidate_filter import FilterCriteria, filter_candidates
from ctxfs.context.build.copy_detection import CopyDetector, units
from ctxfs.context.build.piece import Piece
from ctxfs.index.search.file_status import FileStatus

SAID = "The signing keys rotate every ninety days. The runbook is kept in the wiki of the platform team."


def piece(path: str, text: str, mtime_ns: int = 1) -> Piece:
    return Piece(path, 1, text.count("\n") + 1, text, mtime_ns=mtime_ns)


@pytest.mark.parametrize(
    "text",
    [
        SAID,
        "- the *signing keys* rotate\n  every ninety days [1:2-3]\n- The runbook is kept in the wiki of the platform team",
        "THE SIGNING KEYS ROTATE EVERY NINETY DAYS! The runbook is kept in the wiki of the platform team\n\n"
        "Source: [knowledge/a.md](/knowledge/a.md) lines 1-1\nKept: 2026-11-25, from context/t\n",
    ],
)
def test_copy_in_another_format_is_recognised(text: str) -> None:
    original, echo = piece("knowledge/a.md", SAID, 9), piece("memory/alice/x.md", text, 3)
    assert CopyDetector([echo, original]).original_of(echo) is original
    kept, out = filter_candidates((), [echo, original], FilterCriteria(0))
    assert [item.path for item in kept] == ["knowledge/a.md"]
    assert [(item.piece.path, item.reason, item.other) for item in out] == [
        ("memory/alice/x.md", "recalled", "knowledge/a.md")
    ]


def test_text_with_new_content_is_no_copy() -> None:
    original = piece("knowledge/a.md", SAID)
    more = piece(
        "memory/alice/x.md", SAID + " Alice holds the second half of each key, Bob the first half, since March."
    )
    assert CopyDetector([original, more]).original_of(more) is None
    other = piece("memory/alice/y.md", "Yes.")
    assert CopyDetector([original, other]).original_of(other) is None


def test_younger_of_two_notes_is_the_copy_and_a_source_never_is() -> None:
    old, young = piece("memory/a/1.md", SAID, 1), piece("memory/b/2.md", SAID, 2)
    copy = piece("knowledge/copy.md", SAID, 3)
    detector = CopyDetector([young, old])
    assert (detector.original_of(young), detector.original_of(old)) == (old, None)
    assert CopyDetector([copy, old]).original_of(copy) is None
    assert CopyDetector([copy, old]).original_of(old) is copy


def test_verdict_on_the_original_applies_to_its_copy() -> None:
    original, echo = piece("memory/a/page.md", SAID, 1), piece("memory/a/own.md", SAID, 2)
    rules = FilterCriteria(0, statuses={"memory/a/page.md": FileStatus(untrusted=True)}, should_drop_untrusted=True)
    kept, out = filter_candidates((), [echo, original], rules)
    assert not kept
    assert {item.reason for item in out} == {"untrusted"}


def test_common_short_sentences_are_no_unit() -> None:
    assert not units("Thanks! Any time. Yes, please.")
