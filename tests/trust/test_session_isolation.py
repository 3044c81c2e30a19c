"""Test that a session belongs to its creator, and that notifications concern visible files only."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ctxfs.mcp_server.resources import ResourceNotifications
from ctxfs.mcp_server.uris import uri_of
from ctxfs.model.entry import Entry
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.client import Client
from ctxfs.rpc.wire import entry_to_wire
from tests.live import Live, code_of, mcp_call

pytestmark = pytest.mark.fuse


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("sessions"))
    made.run("init")
    (made.store / "tree" / "memory" / "alice").mkdir(parents=True)
    made.run("mount", str(made.at))
    yield made
    made.close()


def asked(live: Live, principal: str, method: str, session: str = "", **arguments: object) -> Any:
    with contextlib.closing(Client(live.store / "run", timeout=30)) as client:
        client.call("join", principal=principal, session=session)
        return client.call(method, **arguments)


def said(text: str) -> list[dict[str, str]]:
    return [{"kind": "input", "text": text}]


def test_agent_cannot_write_to_the_session_of_another(live: Live) -> None:
    asked(live, "agent:alice", "record", said=said("mine"), session="work-1")
    for session in ("work-1", "alice"):  # an existing one, and one with the name of another agent
        refused = code_of(lambda s=session: asked(live, "agent:mallory", "record", said=said("forged"), session=s))
        assert refused == errno.EPERM
        told, failed = mcp_call(live, "ctx_record", {"text": "forged", "session": session}, principal="agent:mallory")
        assert failed, told
    asked(live, "agent:alice", "record", said=said("hers"), session="alice")
    asked(live, "agent:mallory", "record", said=said("its own"), session="mallory")
    texts = [
        (record["session"], record["text"]) for record in asked(live, "agent:alice", "history") if record.get("text")
    ]
    assert texts == [("work-1", "mine"), ("alice", "hers")]
    live.run("history", "verify")


def test_agent_cannot_join_the_session_of_another(live: Live) -> None:
    with contextlib.closing(Client(live.store / "run", timeout=30)) as alice:
        alice.call("join", principal="agent:alice", session="edit-1")
        assert code_of(lambda: asked(live, "agent:mallory", "whoami", session="edit-1")) == errno.EPERM
        assert alice.call("whoami")["session"] == "edit-1"
    assert asked(live, "agent:alice", "whoami", session="edit-1")["session"] == "edit-1"
    assert code_of(lambda: asked(live, "agent:mallory", "whoami", session="edit-1")) == errno.EPERM


def test_commands_of_each_agent_have_a_session_of_their_own(live: Live) -> None:
    for arguments in ([], ["--as", "agent:carol"], ["--as", "agent:dave"], []):
        live.run("record", *arguments, "said in a shell")
    records = [json.loads(line) for line in live.run("history", "show", "--json").splitlines()]
    assert {
        record["session"]: record["principal"].partition(":")[0] for record in records if "shell" in record["session"]
    } == {
        "shell": "human",
        "shell-carol": "agent",
        "shell-dave": "agent",
    }


@pytest.mark.parametrize(
    "path",
    ["memory/alice", "memory/alice/new.md", "memory/bob", "memory/bob/x/y.md", "human", "human/review", "nowhere/x"],
)
def test_client_cannot_subscribe_to_a_hidden_path(live: Live, path: str) -> None:
    import trio
    from mcp.shared.exceptions import MCPError

    async def check() -> None:
        async with trio.open_nursery() as nursery:
            news = ResourceNotifications(Sight({"memory", "pad"}, {"pad"}), nursery)  # type: ignore[arg-type]  # as far as it is used here
            with pytest.raises(MCPError):
                await news.subscribe(uri_of(TreePath.parse(path)), None)  # type: ignore[arg-type]  # it is refused before
            await news._check_visible(uri_of(TreePath.parse("pad/new.md")))  # an absent name, where it sees everything

    trio.run(check)


class Sight:
    """A client of the daemon that sees the paths in `visible`; in a directory in `whole` it sees all entries."""

    def __init__(self, visible: set[str], whole: set[str]) -> None:
        self.visible, self.whole = visible, whole

    async def call(self, method: str, **arguments: object) -> Any:
        path = str(arguments["path"])
        if path not in self.visible:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        made_ns = 17 if path in self.whole else 0
        return entry_to_wire(
            Entry(path.rpartition("/")[2], "file" if path.endswith(".md") else "dir", mtime_ns=made_ns)
        )


def test_notification_concerns_currently_visible_paths_only() -> None:
    import trio

    async def check() -> None:
        door = Sight({"memory", "memory/a.md", "pad"}, {"pad"})
        async with trio.open_nursery() as nursery:
            news = ResourceNotifications(door, nursery)  # type: ignore[arg-type]  # as far as it is used here
            memory, hidden, gone = (TreePath.parse(path) for path in ("memory", "memory/bob", "memory/a.md"))
            await news._check_visible(uri_of(memory))
            await news._check_visible(uri_of(gone))
            assert not await news._is_visible_change(uri_of(memory), {hidden}), "something came that it may not see"
            assert not await news._is_visible_change(uri_of(hidden), {hidden})
            assert await news._is_visible_change(uri_of(memory), {gone})
            assert await news._is_visible_change(uri_of(TreePath.parse("pad")), {TreePath.parse("pad/deleted.md")})
            door.visible.discard("memory/a.md")
            assert await news._is_visible_change(uri_of(gone), {gone}), "the visible file is gone"
            assert not await news._is_visible_change(uri_of(gone), {gone}), "and of what comes there it hears no more"

    trio.run(check)
