"""One origin has a share of each context, also of one that is packed from the hits of a search."""

import contextlib
import json
import os
from collections.abc import Iterator

import pytest

from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import Layout

PLANTED, OWN = "https://example.com/planted", "notes"
LINES = ("", ":{0}", ":{0}-9{0}", "#L{0}", "#L{0}-L9{0}")  # the same origin, with and without lines


@pytest.fixture
def session(layout: Layout) -> Iterator[LocalSession]:
    """Yield a store in which most of the best hits are from one origin."""
    config = layout.config
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    for name, source, count in (("planted", PLANTED, 12), ("own", OWN, 4)):
        for number in range(count):
            file = layout.tree / "memory" / "alice" / f"{name}{number}.md"
            file.parent.mkdir(parents=True, exist_ok=True)
            times = "quokka " * (3 if source == PLANTED else 1)
            file.write_text(
                f"# {name} {number}\n\nThe {times} number {number * 37} eats leaf {number * 11} at hour {number}.\n"
            )
            if source == PLANTED:
                os.setxattr(
                    file, "user.ctx.source", f"{source}{LINES[number % len(LINES)].format(number + 1)}".encode()
                )
    with contextlib.closing(LocalSession(layout)) as opened:
        yield opened


def context(session: LocalSession, folder: str, budget: int) -> str:
    data: bytes = session.call("read", path=f"{folder}/quokka/context@{budget}.md")
    return data.decode()


@pytest.mark.parametrize("folder", ["search", "memory/.search", "memory/alice/.search"])
def test_context_of_hits_gives_one_origin_its_share(session: LocalSession, folder: str) -> None:
    session.call("search", question="quokka")  # without a daemon, a question brings the index up to date
    text = context(session, folder, 350)
    planted, own = (text.count(f"\n# {name} ") for name in ("planted", "own"))
    assert 0 < planted < 8, text
    assert own > 0, text
    assert f"more from '{PLANTED}' is left out: one origin has at most 50% of a context" in text


def test_context_of_hits_with_room_for_all_names_no_origin(session: LocalSession) -> None:
    session.call("search", question="quokka")
    text = context(session, "search", 3000)
    assert text.count("\n# planted ") == 12
    assert "left out" not in text


def test_manifest_names_the_origin_of_which_pieces_are_left_out(session: LocalSession) -> None:
    session.call("search", question="quokka")
    built = json.loads(session.call("context", request={"query": "quokka", "budget": 350})["manifest"])
    left_out = {item["path"]: item for item in built["excluded"] if item["reason"] == "origin"}
    assert left_out
    assert all(path.startswith("memory/alice/planted") for path in left_out)
    assert any("own" in item["path"] for item in built["items"]), built
