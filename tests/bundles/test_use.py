"""Use: deliveries and supported responses of a file, as far as the reader may know of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.daemon.session import LocalSession
from ctxfs.model.change import MakeDir, Put, SetMeta
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import Layout, create_store

FACT = "memory/shared/keys.md"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = create_store(tmp_path / "store")
    made.config.write_text("[index]\nmeaning = false\n")
    (made.tree / FACT).write_text("The signing keys of the billing service rotate every 90 days.\n")
    return made


@contextlib.contextmanager
def session(layout: Layout, principal: str = "") -> Iterator[LocalSession]:
    opened = LocalSession(layout)
    try:
        if principal:
            opened.call("join", principal=principal)
        yield opened
    finally:
        opened.close()


def apply(opened: LocalSession, change: MakeDir | Put | SetMeta) -> None:
    opened.call("apply", change=change_to_wire(change))


def use(opened: LocalSession, path: str = FACT) -> tuple[str, str, bool]:
    attributes = {
        name.removeprefix("user.ctx."): value.decode() for name, value in opened.call("metadata", path=path).items()
    }
    return attributes.get("used", ""), attributes.get("helped", ""), "last_used" in attributes


def respond(opened: LocalSession, text: str) -> None:
    apply(opened, Put(TreePath.parse("context/task/response.md"), text.encode()))


def test_deliveries_and_supported_responses_are_counted_for_who_may_know(layout: Layout) -> None:
    answer = "The signing keys of the billing service rotate every 90 days [1].\n"
    with session(layout, "agent:alice") as alice:
        assert use(alice) == ("", "", False)
        apply(alice, MakeDir(TreePath.parse("context/task")))
        request = f'query = "rotation of signing keys"\nbudget = 500\npins = ["{FACT}"]\n'
        apply(alice, Put(TreePath.parse("context/task/request.toml"), request.encode()))
        for _ in range(2):
            assert b"90 days" in alice.call("read", path="context/task/context.md")
        assert use(alice) == ("1", "0", True), "an unchanged context is one delivery"
        respond(alice, answer)
        assert use(alice) == ("1", "1", True)
        respond(alice, "The signing keys rotate every 30 days [1].\n")
        assert use(alice)[1] == "0", "a claim that the file does not support is no help"
        respond(alice, answer)
    with session(layout) as person:
        assert use(person) == ("1", "1", True), "a person sees every delivery"
        with pytest.raises(PermissionError):
            apply(person, SetMeta(TreePath.parse(FACT), "user.ctx.used", b"1000"))
    with session(layout, "agent:bob") as bob:
        assert use(bob) == ("", "", False), "another agent learns nothing of it"
