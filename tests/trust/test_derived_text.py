"""Test that derived text is readable only for principals that may read all its sources.

It covers contexts, windows, responses, evaluations and their versions.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.model.change import MakeDir, Move, Put, Remove
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.client import Client
from tests.live import Live, code_of, eventually
from tests.trust.principal import PrincipalClient

pytestmark = pytest.mark.fuse

SECRET = "zebra-4711"
PLAN = f"# Plan\n\nThe merger with Initech closes on 3 March, code {SECRET}.\n"
TASK = "merger-price"
FILES = (
    "request.toml",
    "context.md",
    "manifest.json",
    "stream",
    "stream@0",
    "delta.md",
    "response.md",
    "evaluation.json",
)
RECORDS = ("loads.jsonl", "window-agent-alice.json", "response.context.json")
QUESTION = "when does the merger close"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("derived"))
    made.run("init")
    file = made.store / "tree" / "memory" / "alice" / "plan.md"
    file.parent.mkdir(parents=True)
    file.write_text(PLAN)
    made.run("mount", str(made.at))
    made.wait_idle()
    yield made
    made.close()


@pytest.fixture(scope="module")
def alice(live: Live) -> Iterator[PrincipalClient]:
    """Yield an agent that received a context from its own memory in every form, and has answered it."""
    agent = PrincipalClient(live, "agent:alice")
    task = agent.at / "context" / TASK
    task.mkdir()
    (task / "request.toml").write_text(f'query = "{QUESTION}"\nbudget = 400\n')
    for name in ("context.md", "stream", "delta.md"):
        assert SECRET in (task / name).read_text()
    (task / "response.md").write_text(f"The merger closes on 3 March, code {SECRET} [1].\n")
    assert SECRET in (task / "evaluation.json").read_text()
    os.mkdir(agent.at / "context" / "draft-merger")
    agent.change(MakeDir(TreePath.parse(f"search/{QUESTION}")))
    live.run("commit")
    with contextlib.closing(agent.client):
        yield agent


@pytest.fixture(scope="module")
def mallory(live: Live, alice: PrincipalClient) -> Iterator[PrincipalClient]:
    agent = PrincipalClient(live, "agent:mallory")
    with contextlib.closing(agent.client):
        yield agent


def test_an_agent_has_all_of_its_own_task(alice: PrincipalClient) -> None:
    names = set(os.listdir(alice.at / "context" / TASK))
    assert names >= {"request.toml", "context.md", "manifest.json", "response.md", "evaluation.json", *RECORDS}
    for name in (*FILES, *RECORDS):
        assert (alice.at / "context" / TASK / name).read_bytes() or name == "stream"
    assert TASK in os.listdir(alice.at / "context")
    assert QUESTION in os.listdir(alice.at / "search")
    assert alice.call("log", path=f"context/{TASK}")
    assert SECRET in alice.call("show", path=f"context/{TASK}/response.md", at="latest").decode()


def test_contexts_of_one_agent_do_not_exist_for_another(alice: PrincipalClient, mallory: PrincipalClient) -> None:
    assert os.listdir(mallory.at / "context") == []
    assert mallory.call("list", path="context") == []
    assert "merger" not in mallory.mcp("ctx_list", path="context", depth=3)
    task = mallory.at / "context" / TASK
    for name in ("", *FILES, *RECORDS):
        assert code_of(lambda name=name: os.lstat(task / name)) == errno.ENOENT
        assert code_of(lambda name=name: mallory.call("read", path=f"context/{TASK}/{name}")) == errno.ENOENT
        assert SECRET not in mallory.mcp("ctx_read", path=f"context/{TASK}/{name}")


def test_versions_of_a_context_are_readable_by_its_owner_only(alice: PrincipalClient, mallory: PrincipalClient) -> None:
    for below in (f"context/{TASK}/.versions", f"context/.versions/{TASK}", f".snapshots/latest/context/{TASK}"):
        names = []
        for name in ("", *FILES, *RECORDS):
            with contextlib.suppress(OSError):
                names += mallory.call("list", path=f"{below}/{name}".rstrip("/"))
        assert names == [], below
    assert mallory.call("list", path="context/.versions") == []
    assert mallory.call("list", path=".snapshots/latest/context") == []
    for name in ("", "/request.toml", "/response.md"):
        for method, extra in (
            ("log", {}),
            ("show", {"at": "latest"}),
            ("diff", {"old": "first", "new": "latest"}),
            ("blame", {}),
            ("restore", {"to": "first", "dry_run": True}),
            ("undo", {"dry_run": True}),
        ):
            assert code_of(lambda m=method, e=extra, n=name: mallory.call(m, path=f"context/{TASK}{n}", **e)) in (
                errno.ENOENT,
                errno.EACCES,
            )
    assert code_of(lambda: mallory.call("log", path="context", changes=True)) == errno.EACCES
    assert code_of(lambda: mallory.call("undo", path="context", dry_run=True)) == errno.EACCES


def test_deliveries_have_no_versions(live: Live, alice: PrincipalClient) -> None:
    client = Client(live.store / "run")
    paths = [
        change["path"] for commit in client.call("log", path="context", changes=True) for change in commit["changes"]
    ]
    client.close()
    assert f"context/{TASK}/request.toml" in paths
    assert [path for path in paths if path.rpartition("/")[2] in RECORDS] == []


def test_an_agent_cannot_delete_write_or_take_a_context_of_another(
    alice: PrincipalClient, mallory: PrincipalClient
) -> None:
    task = TreePath.parse(f"context/{TASK}")
    for change in (
        Put(task / "response.md", b"forged"),
        Put(task / "new.md", b"forged"),
        Remove(task / "response.context.json"),
        Remove(task / "response.md"),
        Remove(task),
        Move(task, TreePath.parse("context/mine")),
        MakeDir(task),
    ):
        assert code_of(lambda change=change: mallory.change(change)) in (errno.ENOENT, errno.EACCES)
    assert code_of(lambda: mallory.call("curate", task=TASK)) == errno.ENOENT
    assert SECRET in (alice.at / "context" / TASK / "response.md").read_text()


def test_saved_query_is_visible_to_its_owner_only(alice: PrincipalClient, mallory: PrincipalClient) -> None:
    query = TreePath.parse(f"search/{QUESTION}")
    assert os.listdir(mallory.at / "search") == []
    assert mallory.call("list", path="search/.versions") == []
    assert mallory.call("list", path=".snapshots/latest/search") == []
    assert code_of(lambda: mallory.change(Remove(query))) == errno.ENOENT
    mallory.change(MakeDir(query))  # as if it did not exist
    assert QUESTION in os.listdir(mallory.at / "search")
    mallory.change(Remove(query))
    assert os.listdir(mallory.at / "search") == []
    assert QUESTION in os.listdir(alice.at / "search")


def test_equal_queries_of_two_agents_make_two_contexts(alice: PrincipalClient, mallory: PrincipalClient) -> None:
    handles = [
        agent.mcp("ctx_context", task="who met whom").rpartition("handle: ")[2].partition(";")[0]
        for agent in (alice, mallory)
    ]
    assert handles[0] != handles[1]
    assert "[handle" not in mallory.mcp("ctx_context", task="x", handle=TASK)


def test_lost_source_record_opens_a_response_to_no_other_agent(
    live: Live, alice: PrincipalClient, mallory: PrincipalClient
) -> None:
    record = live.store / "deliveries" / TASK / "response.context.json"
    data = record.read_bytes()
    record.unlink()
    try:
        assert code_of(lambda: os.lstat(mallory.at / "context" / TASK / "response.md")) == errno.ENOENT
        assert SECRET in (alice.at / "context" / TASK / "response.md").read_text()
    finally:
        record.write_bytes(data)


def test_a_task_without_an_owner_is_for_people(live: Live, alice: PrincipalClient) -> None:
    folder = live.store / "tree" / "context" / "of-before"
    folder.mkdir()
    (folder / "request.toml").write_text('query = "merger"\n')
    assert (live.at / "context" / "of-before" / "request.toml").exists()
    assert not (alice.at / "context" / "of-before").exists()
    assert "of-before" not in os.listdir(alice.at / "context")


def test_people_see_every_context(live: Live, alice: PrincipalClient) -> None:
    task = live.at / "context" / TASK
    assert TASK in os.listdir(live.at / "context")
    assert SECRET in (task / "response.md").read_text()
    assert SECRET in (task / "window-agent-alice.json").read_text()
    lines = [json.loads(line) for line in (task / "loads.jsonl").read_text().splitlines()]
    assert {line["principal"] for line in lines} == {"agent:alice"}


def test_rule_opens_a_context_but_no_text_from_hidden_files(
    live: Live, alice: PrincipalClient, mallory: PrincipalClient
) -> None:
    config = live.store / "policy.toml"
    task = mallory.at / "context" / TASK
    config.write_text(f'[[rule]]\nprincipal = "agent:mallory"\npath = "context/{TASK}/**"\nverbs = "r"\n')
    try:
        eventually("the rule holds", task.exists)
        assert "merger" in (task / "request.toml").read_text()
        assert SECRET not in (task / "context.md").read_text(), "it is built for its reader"
        for name in ("response.md", "evaluation.json", "response.context.json", "window-agent-alice.json"):
            assert not (task / name).exists()
            assert name not in os.listdir(task)
        assert "alice" not in (task / "loads.jsonl").read_text()
        assert mallory.call("list", path=f"context/{TASK}/.versions") == []
    finally:
        config.unlink()
        eventually("the rule is gone", lambda: not task.exists())


def test_owner_that_loses_a_permission_loses_the_derived_text(live: Live, alice: PrincipalClient) -> None:
    config = live.store / "policy.toml"
    task = alice.at / "context" / TASK
    config.write_text(
        '[[rule]]\nprincipal = "agent:alice"\npath = "memory/alice/plan.md"\nverbs = "lrw"\neffect = "deny"\n'
    )
    try:
        eventually("the rule holds", lambda: not (alice.at / "memory" / "alice" / "plan.md").exists())
        for name in ("response.md", "evaluation.json", "window-agent-alice.json"):
            assert not (task / name).exists()
        assert code_of(lambda: alice.call("show", path=f"context/{TASK}/response.md", at="latest")) == errno.ENOENT
        assert SECRET not in (task / "context.md").read_text()
    finally:
        config.unlink()
        eventually("the rule is gone", lambda: (task / "response.md").exists())


def test_reused_context_name_starts_empty(live: Live, alice: PrincipalClient, mallory: PrincipalClient) -> None:
    context = TreePath.parse("context/passed-on")
    alice.change(MakeDir(context))
    alice.change(Put(context / "request.toml", f'query = "{SECRET}"\n'.encode()))
    alice.change(Put(context / "response.md", SECRET.encode()))
    live.run("commit")
    alice.change(Remove(context))
    live.run("commit")
    mallory.change(MakeDir(context))
    live.run("commit")
    assert set(os.listdir(mallory.at / str(context))) == {"request.toml", "context.md", "manifest.json"}
    past = [entry[0] for entry in mallory.call("list", path="context/passed-on/.versions/request.toml")]
    told = [
        mallory.call("read", path=f"context/passed-on/.versions/request.toml/{name}") for name in past if name[0] == "0"
    ]
    assert told and not any(SECRET.encode() in data for data in told)
    assert code_of(lambda: alice.call("list", path=str(context))) == errno.ENOENT
    mallory.change(Move(context, TreePath.parse("context/passed-on-2")))
    assert code_of(lambda: mallory.call("read", path="context/passed-on-2/response.md")) == errno.ENOENT


def test_owners_survive_a_restart_and_a_line_cut_off(tmp_path: Path) -> None:
    from ctxfs.model.principal import Principal
    from ctxfs.policy.owners import NEVER, Owners

    file, alice, bob = tmp_path / "owners.jsonl", Principal("agent", "alice"), Principal("agent", "bob")
    task = TreePath.parse("context/t")
    Owners(file, lambda _: True).set_owners(task, ("agent:alice",))
    with file.open("a") as out:
        out.write('[17, "context", "t", ["agent:b')
    again = Owners(file, lambda _: True)
    assert again.may_use(alice, task / "x")
    assert not again.may_use(bob, task)
    again.set_owners(TreePath.parse("context/u"), ("agent:bob",))
    third = Owners(file, lambda _: True)
    assert third.may_use(bob, TreePath.parse("context/u"))
    assert third.owned_since(bob, task) == NEVER
    assert third.owned_since(alice, task) < NEVER
