"""Test that merged and archived files are left out of search unless their state is named, before and after indexing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.index.query import parse_query
from ctxfs.memory.states import ACTIVE
from ctxfs.model.path import ROOT
from tests.unit.index.test_freshness import Live

STATE = "user.ctx.state"


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    for state in ("generated", "active", "merged", "archived", "frozen", "none"):
        file = made.corpus / f"{state}.md"
        file.write_text("the keys of the otter\n")
        if state != "none":
            os.setxattr(file, STATE, state.encode())
    yield made
    made.close()


def names(live: Live, question: str) -> set[str]:
    return {path.removeprefix("knowledge/c/").removesuffix(".md") for path, _, _ in live.found(question)}


@pytest.mark.parametrize("is_indexed", [False, True], ids=["at once", "indexed"])
@pytest.mark.parametrize("words", ["otter", "mode:exact otter", "+keys", "", "mode:words path:knowledge"])
def test_states_select_files(live: Live, words: str, is_indexed: bool) -> None:
    files = [f"{path.stem}.md" for path in live.corpus.glob("*.md")]
    live.catch_up(*files) if is_indexed else live.told(*files)
    if words:
        assert names(live, words) == {"generated", "active", "frozen", "none"}
    assert names(live, f"state:archived {words}") == {"archived"}
    assert names(live, f"state:merged state:archived {words}") == {"merged", "archived"}
    assert names(live, f"state:active {words}") == {"active", "none"}
    assert names(live, f"state:active state:archived {words}") == {"active", "none", "archived"}
    assert names(live, f"state:frozen {words}") == {"frozen"}


def test_transition_takes_effect_before_the_index_has_seen_it(live: Live) -> None:
    live.catch_up("active.md", "archived.md")
    os.setxattr(live.corpus / "active.md", STATE, b"archived")
    os.removexattr(live.corpus / "archived.md", STATE)
    live.told("active.md", "archived.md")
    assert names(live, "otter") == {"archived"}
    assert names(live, "state:archived otter") == {"active"}


def test_older_spelling_of_frozen_is_the_same_state(live: Live) -> None:
    os.setxattr(live.corpus / "none.md", "user.ctx.frozen", b"true")
    for tell in (live.told, live.catch_up):
        tell("none.md", "frozen.md")
        assert names(live, "state:frozen") == {"none", "frozen"}
        assert names(live, "frozen:true") == {"none", "frozen"}


def test_unknown_state_is_a_word_with_a_remark() -> None:
    query = parse_query("state:asleep otter")
    assert query.words == ("state:asleep", "otter")
    assert "one of generated, active" in query.remarks[0]
    assert ACTIVE in parse_query("state:active").states


def test_confidence_decides_between_near_equals(live: Live) -> None:
    for name, value in (("active", b"0.2"), ("none", b"0.9")):
        os.setxattr(live.corpus / f"{name}.md", "user.ctx.confidence", value)
    live.catch_up("active.md", "none.md", "generated.md")
    for question in ("mode:words otter keys", "mode:words +otter"):
        hits = live.searcher.search(parse_query(question), ROOT, 10).hits
        assert [hit.path for hit in hits] == [f"knowledge/c/{name}.md" for name in ("none", "generated", "active")]
        shares = [hit.shares.get("confidence", 0.0) for hit in hits]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] > 0 > shares[-1]
