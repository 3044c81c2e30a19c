"""Pads without a change for the period of memory.toml are archived, and never deleted."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.consolidation.conftest import Store

DAY_NS = 86_400 * 10**9


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    for pad, name in (("old", "a.md"), ("old/deep", "b.md"), ("fresh", "c.md"), ("kept", "d.md")):
        made.write(f"pad/{pad}/{name}", "A note.\n", **({"pinned": "true"} if pad == "kept" else {}))
    made.write("pad/fresh/new.md", "A note of today.\n")
    past = time.time_ns() - 40 * DAY_NS
    for path in (made.tree / "pad").rglob("*"):
        if path.name not in ("fresh", "new.md"):
            os.utime(path, ns=(past, past))
    yield made
    made.session.close()


def sweep(store: Store) -> list[str]:
    return trio.run(store.app.memory.pad_expiry.sweep, time.time_ns())


def test_pads_do_not_expire_by_default(store: Store) -> None:
    assert sweep(store) == []


def test_unused_pad_is_archived_and_stays_readable(store: Store) -> None:
    store.layout.memory_rules.write_text('[pad]\nexpire = "30d"\n')
    os.utime(store.layout.memory_rules, (0, 0))  # a file takes effect when it has been unchanged for half a second
    assert sorted(sweep(store)) == ["pad/old/a.md", "pad/old/deep/b.md"]
    assert store.label("pad/old/a.md", "state") == "archived"
    assert (store.tree / "pad/old/a.md").read_text() == "A note.\n"
    assert [store.label(f"pad/{path}", "state") for path in ("fresh/c.md", "fresh/new.md", "kept/d.md")] == ["", "", ""]
    assert sweep(store) == []
