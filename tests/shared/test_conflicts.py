"""Test the reviews of conflict files: a person keeps this content, the other, or both."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.daemon.session import StoreSession, session
from tests.live import Live

THIS, OTHER = "by one\n", "by two\n"
Pair = tuple[StoreSession, StoreSession]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Yield sessions of two stores that share a file which both have created, with other contents."""
    (tmp_path / "engine").mkdir()
    stores = [Live(tmp_path / name) for name in ("one", "two")]
    for live, text in zip(stores, (THIS, OTHER), strict=True):
        live.run("init")
        (live.store / "tree/memory/shared/x.md").write_text(text)
    with session(str(stores[0].store)) as one, session(str(stores[1].store)) as two:
        one.call("share", url=f"file://{tmp_path}/engine", node="one")
        two.call("join_shared", url=f"file://{tmp_path}/engine", node="two")
        two.call("sync")
        one.call("sync")
        yield one, two


def tree_of(opened: StoreSession) -> dict[str, str]:
    names = [entry[0] for entry in opened.call("list", path="memory/shared")]
    return {name: opened.call("read", path=f"memory/shared/{name}").decode() for name in names if name[0] != "."}


def review_of(opened: StoreSession) -> dict[str, Any]:
    (review,) = opened.call("reviews")
    return dict(review)


@pytest.mark.long
@pytest.mark.parametrize("verdict", ["this", "other", "both"])
def test_verdict_on_two_contents_is_carried_out_and_taken_back_on_all_nodes(pair: Pair, verdict: str) -> None:
    one, two = pair
    before = tree_of(one)
    this = before["x.md"]
    (other,) = {THIS, OTHER} - {this}
    assert tree_of(two) == before and len(before) == 2
    review = review_of(one)
    assert review == review_of(two), "the review reaches the other node"
    assert review["kind"] == "conflict" and "memory/shared/x.md" in review["claim"] and not review["decision"]
    assert one.call("status")["shared"]["conflicts"]
    two.call("decide", id=review["id"], verdict=verdict)
    for opened in (two, one):
        opened.call("sync")
    expected = {"this": [this], "other": [other], "both": [this, other]}[verdict]
    for opened in (one, two):
        assert sorted(tree_of(opened).values()) == sorted(expected)
        assert tree_of(opened)["x.md"] == expected[0]
        assert review_of(opened)["decision"] == verdict
        assert opened.call("status")["shared"]["conflicts"] == []
        for name in tree_of(opened):
            assert "user.ctx.conflict_of" not in opened.call("metadata", path=f"memory/shared/{name}")
    with pytest.raises(PermissionError):
        one.call("decide", id=review["id"], verdict="this")
    two.call("undo_decision", id=review["id"])
    for opened in (two, one):
        opened.call("sync")
    assert tree_of(one) == tree_of(two) == before
    assert not review_of(one)["decision"] and one.call("status")["shared"]["conflicts"]


@pytest.mark.long
def test_conflict_that_a_person_removes_by_hand_is_withdrawn(pair: Pair) -> None:
    one, _ = pair
    review = review_of(one)
    with pytest.raises(OSError, match="this, other or both"):
        one.call("decide", id=review["id"], verdict="edit mine")
    (copy,) = one.call("status")["shared"]["conflicts"]
    one.call("apply", change=["remove", copy, ""])
    with pytest.raises(OSError, match="gone"):
        one.call("decide", id=review["id"], verdict="other")


@pytest.mark.long
def test_label_of_any_writer_proposes_no_replacement_of_a_file_elsewhere(pair: Pair) -> None:
    one, _ = pair
    (copy,) = one.call("status")["shared"]["conflicts"]
    root = Path(one.call("status")["store"]) / "tree/memory/shared"
    (root / "y.conflict-agent-12345678.md").write_text("evil\n")
    os.setxattr(root / "y.conflict-agent-12345678.md", "user.ctx.conflict_of", b"memory/alice/fact/key.md")
    one.call("sync")
    assert one.call("status")["shared"]["conflicts"] == [copy]
