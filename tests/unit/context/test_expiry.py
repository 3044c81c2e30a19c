"""Test the expiry of contexts that calls made: only unused and unchanged ones are removed."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from ctxfs.context.build.request import parse_request
from ctxfs.context.delivery.delivery_store import DeliveryStore
from ctxfs.context.delivery.expiry import ContextExpiry, is_made_by_call, mark_request
from ctxfs.model.change import Change
from ctxfs.store.folder import Folder

REQUEST = b'query = "rotate keys"\nbudget = 300\n'
DAY = 86_400 * 10**9


class Tree:
    """A tree that only records removals. Implements `TreeWriter`."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    async def apply(self, changes: Sequence[Change], reason: str) -> None:
        self.removed += [str(change.path) for change in changes]


class Store:
    """Requests and deliveries in two folders, all of them eight days old unless they are written later."""

    def __init__(self, folder: Path) -> None:
        self.requests, self.deliveries, self.tree, self.days = folder / "requests", folder / "deliveries", Tree(), 7
        self.is_shared = False
        self.requests.mkdir()
        self.deliveries.mkdir()
        self.made("old")

    def made(self, task: str, data: bytes | None = None) -> Path:
        folder = self.requests / task
        folder.mkdir()
        (folder / "request.toml").write_bytes(mark_request(task, REQUEST) if data is None else data)
        self.age(folder / "request.toml")
        return folder

    def age(self, file: Path, days: int = 8) -> None:
        at = time.time_ns() - days * DAY
        os.utime(file, ns=(at, at))

    def sweep(self) -> list[str]:
        requests, records = Folder(str(self.requests), writable=True), Folder(str(self.deliveries), writable=True)
        deliveries = DeliveryStore(records, requests)
        expiry = ContextExpiry(requests, deliveries, self.tree, lambda: self.days, lambda: self.is_shared)
        removed: list[str] = trio.run(expiry.sweep, time.time_ns())
        assert self.tree.removed == [f"context/{task}" for task in removed]
        return removed


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_unused_context_of_a_call_is_removed(store: Store) -> None:
    assert store.sweep() == ["old"]


def test_context_of_another_node_stays_until_this_one_has_delivered_it(store: Store) -> None:
    store.is_shared = True
    assert store.sweep() == []
    (store.deliveries / "old").mkdir()
    (store.deliveries / "old/loads.jsonl").write_text("{}\n")
    store.age(store.deliveries / "old/loads.jsonl")
    assert store.sweep() == ["old"]


def test_marked_request_is_the_same_request() -> None:
    marked = mark_request("t", REQUEST)
    assert is_made_by_call("t", marked)
    assert parse_request(marked.decode(), 1) == parse_request(REQUEST.decode(), 1)


def test_used_context_stays(store: Store) -> None:
    folder = store.deliveries / "old"
    folder.mkdir()
    (folder / "loads.jsonl").write_text("{}\n")
    store.age(folder / "loads.jsonl", 6)
    assert store.sweep() == []
    store.age(folder / "loads.jsonl", 8)
    assert store.sweep() == ["old"]


def test_context_of_a_person_stays(store: Store) -> None:
    store.made("mine", REQUEST)
    store.made("copied", mark_request("other", REQUEST))
    store.made("edited", mark_request("edited", REQUEST) + b"fill = true\n")
    answered = store.made("answered")
    (answered / "response.md").write_text("an answer\n")
    pinned = store.made("pinned")
    os.setxattr(pinned / "request.toml", "user.ctx.pinned", b"true")
    store.age(pinned / "request.toml")
    store.made("named")
    store.made("naming", b'query = "x"\npins = ["context/named/context.md"]\n')
    assert store.sweep() == ["old"]


def test_zero_days_keep_every_context(store: Store) -> None:
    store.days = 0
    assert store.sweep() == []


def test_old_record_beside_the_request_keeps_nothing(store: Store) -> None:
    (store.requests / "old" / "loads.jsonl").write_text("{}\n")
    store.age(store.requests / "old" / "loads.jsonl")
    assert store.sweep() == ["old"]


def test_damaged_task_stays(store: Store) -> None:
    (store.requests / "empty").mkdir()
    (store.requests / "odd").mkdir()
    (store.requests / "odd" / "request.toml").mkdir()
    assert store.sweep() == ["old"]
