"""Memories that fit their kind have no remark; others have one that names the difference."""

import time

import pytest

from ctxfs.memory.kind_checks import MemoryText, check_kind, count_claims
from ctxfs.memory.kinds import BUILT_IN_KINDS, KindRules, kind_of


def faults(kind: str, text: str, attributes: tuple[str, ...] = (), front_matter: tuple[str, ...] = ()) -> list[str]:
    memory = MemoryText(attributes, front_matter, text.split("\n"), has_skill=False)
    return check_kind(BUILT_IN_KINDS[kind], memory)


@pytest.mark.parametrize(
    ("kind", "text", "attributes", "front_matter"),
    [
        ("fact", "The keys are rotated every ninety days.\n", ("source", "confidence"), ()),
        ("fact", "# Keys\n\nThey are rotated every ninety days.\n\nSource: a.md\nKept: now\n", ("confidence",), ()),
        ("fact", "- The keys are rotated by ops.\n", (), ("source", "confidence", "valid_from", "tags")),
        ("episodic", "# Session s1\n\n- time: 2026-11-01 10:00 UTC\n- principals: agent:a\n\n## Questions\n", (), ()),
        ("episodic", "we met\n", ("session",), ("date",)),
        ("experiential", "## Situation\n\nx\n\n## Action\n\ny\n\n## Outcome\n\nz\n", (), ()),
        ("experiential", "Situation: x\nAction: y\nResult: z\n", (), ()),
        ("user", "- **editor**: vim (history/by-session/s1:3)\n", (), ()),
        ("user", "| attribute | value |\n|---|---|\n| editor | vim |\n", ("source",), ()),
    ],
)
def test_whole_memory_has_no_remark(
    kind: str, text: str, attributes: tuple[str, ...], front_matter: tuple[str, ...]
) -> None:
    assert faults(kind, text, attributes, front_matter) == []


@pytest.mark.parametrize(
    ("kind", "text", "named"),
    [
        ("fact", "The keys are rotated.\n", ["no source", "no confidence"]),
        ("fact", "One.\n\nTwo.\n\nThree.\n", ["3 claims instead of one", "no source", "no confidence"]),
        ("fact", "- one\n- two\n", ["2 claims instead of one", "no source", "no confidence"]),
        ("fact", "", ["no claim", "no source", "no confidence"]),
        ("episodic", "something\n", ["no session", "no time"]),
        ("experiential", "Situation: x\n", ["no action", "no outcome"]),
        ("procedural", "how to\n", ["no SKILL.md in its folder"]),
        ("user", "She likes vim.\n", ["no line 'attribute: value'", "no evidence"]),
    ],
)
def test_difference_is_named(kind: str, text: str, named: list[str]) -> None:
    assert faults(kind, text) == named


def test_fields_that_a_kind_may_not_have_are_named() -> None:
    (fault,) = faults("fact", "One.\n", ("source", "confidence"), tuple("abcdefgh"))
    assert fault == "fields of no fact: a, b, c, d, e and 3 more"
    own = KindRules("decision", ("reason",))
    assert check_kind(own, MemoryText((), ("whatever",), ["Reason: because"])) == []


def test_kind_is_the_attribute_or_that_of_the_folder() -> None:
    parts = ("memory", "alice", "fact", "x.md")
    assert kind_of(parts, {}) == "fact"
    assert kind_of(parts, {"user.ctx.kind": b"decision"}) == "decision"
    assert kind_of(("memory", "alice", "decision", "x.md"), {}) == ""
    assert kind_of(("memory", "alice", "decision", "x.md"), {}, {"decision"}) == "decision"
    assert kind_of(("pad", "alice", "fact", "x.md"), {}) == ""


def test_long_hostile_text_is_checked_in_linear_time() -> None:
    for piece in ("a: ", "- ", "x. Y ", "**", "| ", "a-", "](", "/"):
        start = time.process_time()
        lines = [piece * 20_000] * 3
        for kind in BUILT_IN_KINDS.values():
            check_kind(kind, MemoryText((), (), lines))
        count_claims(lines)
        assert time.process_time() - start < 1, piece
