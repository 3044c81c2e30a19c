"""Test proposals of a command: the question, the accepted form, and the reasons of refusals; nothing else is written."""

import json
from typing import Any

import pytest

from ctxfs.consolidation.command import command_question, parse_proposals
from ctxfs.consolidation.memories import Memory
from ctxfs.model.errors import CommandError
from tests.consolidation.conftest import Store

FACT = "memory/alice/fact"
ONE, TWO, NEW = f"{FACT}/one.md", f"{FACT}/two.md", f"{FACT}/new.md"
MEMORIES = [
    Memory(ONE, b"Keys are rotated every 90 days by the cron job.\n", {}, 2, 1),
    Memory(TWO, b"The cron job of the keys runs on host alpha.\n", {"user.ctx.trust": b"untrusted"}, 3, 1),
]
GOOD = {
    "title": "one memory about the cron job",
    "why": "both are about the same job",
    "changes": [
        {
            "path": NEW,
            "text": "Keys are rotated every 90 days by the cron job. The cron job of the keys runs on host alpha.",
            "covers": [ONE, TWO],
        },
        {"path": ONE, "state": "merged"},
        {"path": TWO, "state": "merged"},
    ],
}


def parse(*proposals: object) -> tuple[list[Any], list[str]]:
    drafts, refusals = parse_proposals(json.dumps({"proposals": proposals}), MEMORIES)
    return drafts, [reason for _, reason in refusals]


def changed(**values: object) -> dict[str, object]:
    return {**GOOD, "changes": [{"path": NEW, "covers": [ONE], **values}]}


def test_question_holds_memories_and_drafts() -> None:
    question = command_question(MEMORIES, [])
    assert [(item["path"], item["confidence"]) for item in question["memories"]] == [(TWO, 0.5), (ONE, 0.5)]


def test_merged_text_is_a_draft_that_keeps_the_distrust_of_its_sources() -> None:
    (draft,), reasons = parse(GOOD)
    assert reasons == [] and draft.paths == [NEW, ONE, TWO]
    labels = next(edit.attributes for edit in draft.edits if edit.path == NEW)
    assert labels["user.ctx.trust"] == b"untrusted" and labels["user.ctx.source"] == f"{ONE}:1".encode()


@pytest.mark.parametrize(
    ("proposal", "reason"),
    [
        (changed(text="Keys are rotated every 30 days by the cron job."), "no evidence for"),
        (changed(text="Ada prefers tea."), "no evidence for 'Ada prefers tea.'"),
        (changed(text="Keys are not rotated every 90 days by the cron job."), "no evidence for"),
        ({"changes": [{"path": ONE, "state": "archived"}, {"path": TWO, "state": "archived"}]}, "no memory that stays"),
        (
            {"changes": [{"path": ONE, "state": "archived"}, {"path": TWO, "covers": [ONE]}]},
            "no memory that stays is about 'Keys are rotated",
        ),
        ({"changes": [{"path": ONE, "text": ""}]}, ""),
        ({"changes": [{"path": "memory/bob/fact/x.md", "text": "x"}]}, "of the same agent"),
        ({"changes": [{"path": "knowledge/docs/x.md", "text": "x"}]}, "of the same agent"),
        ({"changes": [{"path": "../../etc/passwd", "text": "x"}]}, "no path"),
        ({"changes": [{"path": ONE, "state": "frozen"}]}, "archived or merged"),
        ({"changes": [{"path": ONE, "trust": "trusted"}]}, "members"),
        ({"changes": []}, "list of 1 to"),
        ({"changes": [{"path": ONE}, {"path": ONE}]}, "twice"),
        ({**GOOD, "evidence": ["memory/bob/fact/x.md"]}, "none of the memories"),
        ("delete everything", "members"),
        ({"rm": "-rf"}, "members"),
    ],
)
def test_unusable_proposal_is_refused_with_the_reason(proposal: object, reason: str) -> None:
    drafts, reasons = parse(proposal)
    if not reason:  # the law refuses it at the desk
        assert len(drafts) == 1
        return
    assert drafts == [] and len(reasons) == 1 and reason in reasons[0]


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"proposals": 3}', "[" * 100_000, '{"proposals": [1'])
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(CommandError):
        parse_proposals(text, MEMORIES)


SCRIPT = """
import json, os, sys
question = json.load(sys.stdin)
assert not os.path.exists({store!r}), "the store is visible"
print(json.dumps({{"proposals": {proposals}}}))
"""


def run_script(store: Store, text: str) -> dict[str, Any]:
    store.write(ONE, "Keys are rotated every 90 days by the cron job.\n")
    store.write(TWO, "The cron job of the keys runs on host alpha.\n")
    script = store.layout.root.parent / "propose.py"
    script.write_text(text)
    result: dict[str, Any] = store.call("consolidate", path=FACT, command=f"python3 {script}")
    return result


def test_command_proposes_from_its_sandbox_and_nothing_changes_before_the_verdict(store: Store) -> None:
    before = {path: (store.tree / path).exists() for path in (ONE, TWO, NEW)}
    result = run_script(store, SCRIPT.format(store=str(store.tree), proposals=json.dumps([GOOD])))
    assert result["refused"] == []
    (proposal,) = result["proposals"]
    assert proposal["rule"] == "command" and not (store.tree / NEW).exists() and not before[NEW]
    store.call("decide", id=proposal["id"], verdict="accept")
    assert store.label(ONE, "state") == "merged" and "host alpha" in (store.tree / NEW).read_text()


@pytest.mark.parametrize(
    "text",
    [
        "print('garbage')",
        "import sys; sys.exit('it broke')",
        "print('x' * 5_000_000)",
        'print(\'{"proposals": [{"changes": [{"path": "memory/alice/fact/one.md", "text": ""}]}]}\')',
    ],
)
def test_failing_command_changes_nothing_and_names_the_reason(store: Store, text: str) -> None:
    result = run_script(store, text)
    assert result["proposals"] == [] and len(result["refused"]) == 1
    assert (store.tree / ONE).read_text() == "Keys are rotated every 90 days by the cron job.\n"
    assert store.app.archive.proposals.names() == []
