"""Verdicts that a person takes back: the review waits again, and what it changed is as before."""

import json

import pytest

from tests.consolidation.conftest import Store, merge_draft

ONE, TWO = "memory/alice/fact/one.md", "memory/alice/fact/two.md"


def waiting(store: Store) -> list[str]:
    return [review["id"] for review in store.call("reviews") if not review["decision"]]


@pytest.mark.parametrize("verdict", ["accept", "reject"])
def test_decided_proposal_waits_again_and_its_change_is_rolled_back(store: Store, verdict: str) -> None:
    for path in (ONE, TWO):
        store.write(path, "Keys are rotated every 90 days.\n")
    opened = store.open(merge_draft(store, ONE, TWO))
    assert opened is not None
    store.call("decide", id=opened.id, verdict=verdict)
    assert waiting(store) == []
    store.call("undo_decision", id=opened.id)
    assert waiting(store) == [opened.id]
    assert (store.label(TWO, "state"), store.label(ONE, "covers")) == ("", "")
    with pytest.raises(FileNotFoundError):
        store.call("undo_decision", id=opened.id)


@pytest.mark.parametrize("verdict", ["accept", "edit Keys last 90 days.", "reject"])
def test_fact_of_a_claim_goes_with_its_verdict(store: Store, verdict: str) -> None:
    folder = store.tree / "human/review/abcdef"
    folder.mkdir(parents=True)
    (folder / "claim.md").write_text("Keys last 30 days.\n")
    (folder / "about.json").write_text(json.dumps({"task": "t", "why": "w", "suggested": "accept", "source": ""}))
    (folder / "verdict").write_text("")
    store.call("decide", id="abcdef", verdict=verdict)
    facts = store.tree / "memory/shared/fact"
    assert len(list(facts.glob("*.md")) if facts.exists() else []) == (verdict != "reject")
    with pytest.raises(PermissionError, match="decided"):
        store.call("decide", id="abcdef", verdict="accept")
    store.call("undo_decision", id="abcdef")
    assert waiting(store) == ["abcdef"]
    assert not facts.exists() or not list(facts.glob("*.md"))
    store.call("decide", id="abcdef", verdict="accept")
    (fact,) = facts.glob("*.md")
    fact.write_text("A person has changed it.\n")
    store.call("undo_decision", id="abcdef")
    assert fact.exists(), "a fact that has changed since stays"


def test_agent_takes_no_verdict_back(store: Store) -> None:
    with pytest.raises(PermissionError):
        store.call_as("agent:alice", "undo_decision", id="abcdef")
