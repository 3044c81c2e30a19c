"""Test proposals as files under human/review/: their content, their verdicts, and who may give one."""

import json

import pytest

from ctxfs.consolidation.draft import Draft
from ctxfs.model.change import SetMeta
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.rpc.wire import change_to_wire
from ctxfs.versions.proposals import FileEdit
from tests.consolidation.conftest import Store, merge_draft

ONE, TWO = "memory/alice/fact/one.md", "memory/alice/fact/two.md"


@pytest.fixture
def pair(store: Store) -> Store:
    store.write(ONE, "Keys are rotated every 90 days.\n")
    store.write(TWO, "Keys are rotated every 90 days.\n")
    return store


def test_proposal_is_shown_with_its_change_reason_and_evidence(pair: Store) -> None:
    opened = pair.open(merge_draft(pair, ONE, TWO))
    assert opened is not None and opened.is_new
    assert "user.ctx.state: (none) → merged" in pair.review(opened.id, "change.diff")
    assert pair.review(opened.id, "why.md").startswith(f"# the same as {ONE}\n\n- the same text\n")
    evidence = [json.loads(line) for line in pair.review(opened.id, "evidence.jsonl").splitlines()]
    assert [(line["path"], line["role"]) for line in evidence] == [(ONE, "kept"), (TWO, "merged")]
    assert pair.review(opened.id, "verdict") == ""
    assert [(review["id"], review["kind"]) for review in pair.call("reviews")] == [(opened.id, "proposal")]
    assert pair.label(TWO, "state") == ""


def test_accepting_merges_and_is_done_once(pair: Store) -> None:
    opened = pair.open(merge_draft(pair, ONE, TWO))
    assert opened is not None
    result = pair.call("decide", id=opened.id, verdict="accept")
    assert {change["path"] for change in result["changes"]} >= {ONE, TWO}
    assert (pair.label(TWO, "state"), pair.label(ONE, "covers")) == ("merged", TWO)
    assert json.loads(pair.review(opened.id, "outcome.json"))["decision"] == "accept"
    with pytest.raises(PermissionError, match="decided"):
        pair.call("decide", id=opened.id, verdict="accept")
    pair.call("undo", path="memory/alice")
    assert (pair.label(TWO, "state"), pair.label(ONE, "covers")) == ("", "")


def test_rejected_proposal_is_dropped_and_not_made_again(pair: Store) -> None:
    draft = merge_draft(pair, ONE, TWO)
    opened = pair.open(draft)
    assert opened is not None
    pair.call("decide", id=opened.id, verdict="reject")
    assert pair.app.archive.proposals.names() == []
    assert pair.open(draft) is None
    assert pair.label(TWO, "state") == ""


def test_same_draft_is_one_proposal(pair: Store) -> None:
    first, second = (pair.open(merge_draft(pair, ONE, TWO)) for _ in range(2))
    assert first is not None and second is not None
    assert (first.id, first.is_new, second.is_new) == (second.id, True, False)


def test_proposal_whose_file_has_changed_is_refused_and_then_withdrawn(pair: Store) -> None:
    opened = pair.open(merge_draft(pair, ONE, TWO))
    assert opened is not None
    pair.write(TWO, "Keys are rotated every 30 days.\n")
    with pytest.raises(OSError, match=r"has changed since.*ctxfs consolidate proposes anew"):
        pair.call("decide", id=opened.id, verdict="accept")
    assert pair.run(pair.app.memory.desk.withdraw_stale) == [opened.id]
    assert json.loads(pair.review(opened.id, "outcome.json"))["decision"] == "withdraw"
    again = pair.open(merge_draft(pair, ONE, TWO))
    assert again is not None and again.id != opened.id


def test_agents_decide_nothing_and_propose_only_what_they_may_write(pair: Store) -> None:
    draft = merge_draft(pair, ONE, TWO)
    with pytest.raises(PermissionError):
        pair.open(draft, Principal("agent", "bob"))
    opened = pair.open(draft)
    assert opened is not None
    with pytest.raises(PermissionError):
        pair.call_as("agent:alice", "decide", id=opened.id, verdict="accept")


def test_files_of_a_proposal_cannot_be_rewritten(pair: Store) -> None:
    opened = pair.open(merge_draft(pair, ONE, TWO))
    assert opened is not None
    for name in ("change.diff", "why.md", "evidence.jsonl", "about.json"):
        with pytest.raises(PermissionError):
            pair.put(f"human/review/{opened.id}/{name}", b"other")


@pytest.mark.parametrize(
    "edit",
    [
        FileEdit(ONE, b""),
        FileEdit(ONE, None, {"user.ctx.state": b"archived"}),
        FileEdit("memory/alice/fact/new.md", b"x y.\n", {"user.ctx.trust": b"trusted"}),
    ],
)
def test_unlawful_draft_leaves_nothing_behind(pair: Store, edit: FileEdit) -> None:
    with pytest.raises(PermissionError):
        pair.open(Draft("command", "bad", (edit,), (), (), ()))
    assert pair.app.archive.proposals.names() == [] and pair.call("reviews") == []


def test_verdict_through_the_tree_merges(pair: Store) -> None:
    opened = pair.open(merge_draft(pair, ONE, TWO))
    assert opened is not None
    pair.put(f"human/review/{opened.id}/verdict", b"accept\n")
    assert pair.label(TWO, "state") == "merged"


def test_file_frozen_after_the_proposal_stays(pair: Store) -> None:
    opened = pair.open(merge_draft(pair, ONE, TWO))
    assert opened is not None
    pair.call("apply", change=change_to_wire(SetMeta(Path.parse(TWO), "user.ctx.frozen", b"true")))
    with pytest.raises(PermissionError, match="frozen"):
        pair.call("decide", id=opened.id, verdict="accept")
    assert pair.label(TWO, "state") == ""
