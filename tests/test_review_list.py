"""Test the list of reviews: unchanged ones are read once, and each change of one is in the list at once."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.context.grounding.review import Curator
from tests.consolidation.conftest import Store

ADA = "human:ada"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.session.close()


def open_review(store: Store, name: str, claim: str) -> Path:
    """Write a review an hour ago."""
    folder = store.layout.tree / "human/review" / name
    folder.mkdir(parents=True)
    (folder / "claim.md").write_text(f"{claim}\n")
    (folder / "about.json").write_text(json.dumps({"task": "t", "why": "w", "suggested": "reject", "source": ""}))
    (folder / "verdict").write_text("")
    settle(folder)
    return folder


def settle(folder: Path) -> None:
    before = os.stat(folder).st_mtime - 3600
    os.utime(folder, (before, before))


def claims(store: Store) -> list[tuple[str, str]]:
    return [(review["claim"], review["decision"]) for review in store.call_as(ADA, "reviews")]


def test_unchanged_reviews_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        open_review(store, f"r{number}", f"Claim {number}.")
    reads, read = list[str](), Curator._read_review

    async def counted(curator: Curator, name: str) -> object:
        reads.append(name)
        return await read(curator, name)

    monkeypatch.setattr(Curator, "_read_review", counted)
    first = claims(store)
    assert claims(store) == first
    assert sorted(reads) == ["r0", "r1", "r2"]
    open_review(store, "r3", "Claim 3.")
    assert len(claims(store)) == 4
    assert reads.count("r0") == 1
    assert reads[-1] == "r3"


def test_each_change_of_a_review_is_in_the_list_at_once(store: Store) -> None:
    folder = open_review(store, "r0", "Ports are open.")
    other = open_review(store, "r1", "Ports are closed.")
    assert claims(store) == [("Ports are open.", ""), ("Ports are closed.", "")]
    store.call_as(ADA, "decide", id="r0", verdict="reject")
    assert claims(store) == [("Ports are closed.", ""), ("Ports are open.", "reject")]
    settle(folder)
    assert claims(store)[1] == ("Ports are open.", "reject")
    store.call_as(ADA, "undo_decision", id="r0")
    assert claims(store) == [("Ports are open.", ""), ("Ports are closed.", "")]
    settle(folder)
    claims(store)
    (folder / "new").write_text("Ports are shut.\n")
    (folder / "new").rename(folder / "claim.md")
    assert claims(store)[0] == ("Ports are shut.", "")
    for name in os.listdir(other):
        (other / name).unlink()
    other.rmdir()
    assert claims(store) == [("Ports are shut.", "")]
    (folder / "about.json").unlink()
    assert claims(store) == []
