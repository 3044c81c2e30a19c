"""A store whose memories tests write as principals, and whose desk they use, without a daemon."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ctxfs.app import App
from ctxfs.consolidation.desk import OpenedProposal
from ctxfs.consolidation.draft import Draft, Evidence, digest_of
from ctxfs.daemon.api.methods import METHODS, run_method
from ctxfs.daemon.session import LocalSession
from ctxfs.model.change import Put
from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import create_store
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.proposals import FileEdit

AGENT = Principal("agent", "alice")


class Store:
    """A store with its app, and the methods of commands."""

    def __init__(self, folder: Path) -> None:
        self.layout = create_store(folder)
        config = self.layout.config
        config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
        self.session = LocalSession(self.layout)
        self.app: App = self.session.app
        self.tree = self.layout.tree

    def call(self, method: str, **arguments: object) -> Any:
        """Return the response to a request of the store's owner."""
        return self.session.call(method, **arguments)

    def call_as(self, principal: str, method: str, **arguments: object) -> Any:
        """Return the response to a request of another principal."""
        caller = self.app.session(parse_principal(principal))
        try:
            return trio.run(run_method, self.app, caller, METHODS[method], arguments)
        finally:
            caller.close()

    def write(self, path: str, text: str, by: str = "agent:alice", **labels: str) -> None:
        """Write a file and its labels as a principal, as one version."""
        file = self.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for name, value in labels.items():
            os.setxattr(file, f"user.ctx.{name}", value.encode())
        journal = self.app.archive.writer(Actor(by, "s-test", "test"))
        journal.record("write", path)
        journal.close()
        self.app.archive.commit()

    def put(self, path: str, data: bytes) -> None:
        """Write a file through the tree as the store's owner."""
        self.call("apply", change=change_to_wire(Put(TreePath.parse(path), data)))

    def label(self, path: str, name: str) -> str:
        """Return a label of a file; empty without it."""
        try:
            return os.getxattr(self.tree / path, f"user.ctx.{name}").decode()
        except OSError:
            return ""

    def open(self, draft: Draft, by: Principal = AGENT) -> OpenedProposal | None:
        """Store a draft of a principal at the desk."""
        base = self.app.archive.proposals.base()
        return self.run(lambda: self.app.memory.desk.open(draft, base, Actor(str(by), "s-test", "consolidate"), by))

    @staticmethod
    def run(action: Callable[[], Any]) -> Any:
        """Return the result of an asynchronous function."""
        return trio.run(action)

    def review(self, name: str, file: str) -> str:
        """Return a file of a review."""
        return (self.tree / "human" / "review" / name / file).read_text()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.session.close()


def merge_draft(store: Store, keeper: str, covered: str) -> Draft:
    """Return the draft that merges one file into another."""
    edits = (
        FileEdit(keeper, None, {"user.ctx.covers": covered.encode()}),
        FileEdit(covered, None, {"user.ctx.state": b"merged"}),
    )
    evidence = tuple(
        Evidence(path, 1, 1, (store.tree / path).read_text().strip(), role)
        for path, role in ((keeper, "kept"), (covered, "merged"))
    )
    base = tuple((path, digest_of((store.tree / path).read_bytes())) for path in (keeper, covered))
    return Draft("same", f"the same as {keeper}", edits, evidence, ("the same text",), base)
