"""Test daemons with kernel mounts, whose stores share one log."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.store.registry import check_confirmed, programs_of
from tests.live import Live, code_of, eventually
from tests.shared.engines import PASSWORD, Postgres, Proxy

pytestmark = [pytest.mark.fuse, pytest.mark.long]
VARIABLE = "CTXFS_TEST_ENGINE"
MakeNode = Callable[..., Live]
LOG = "memory/shared/log.jsonl"
CERTIFICATE = ("forget", "--certificate")


@pytest.fixture
def nodes(tmp_path: Path, store_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeNode]:
    """Return a function that starts a daemon with a mount, as a node of the test's shared store."""
    monkeypatch.setenv(VARIABLE, PASSWORD)
    lives: list[Live] = []

    def start(name: str, url: str, *options: str) -> Live:
        live = Live(tmp_path / name)
        live.at.mkdir(parents=True)
        live.run("init")
        live.run("mount", str(live.at))
        lives.append(live)
        verb = "share" if len(lives) == 1 else "join"
        live.run(verb, url, "--name", store_name, "--node", name, "--password-env", VARIABLE, *options)
        return live

    yield start
    for live in lives:
        live.close()


def shared(live: Live) -> dict[str, Any]:
    status: dict[str, Any] = live.status()["shared"]
    return status


def read(live: Live, path: str) -> str:
    try:
        return (live.at / path).read_text()
    except FileNotFoundError:
        return ""


def search(live: Live, question: str) -> list[Any]:
    hits: list[Any] = json.loads(live.try_run("search", question, "--json").stdout)["hits"]
    return hits


def append(live: Live, path: str, line: str) -> None:
    with (live.at / path).open("a") as file:
        file.write(f"{line}\n")


def settle(*lives: Live) -> None:
    """Exchange until all nodes have read the same entry, and nothing waits."""

    def is_settled() -> bool:
        for live in lives:
            live.run("sync", "--wait", "--timeout", "60")
        states = [shared(live) for live in lives]
        return len({state["entry"] for state in states}) == 1 and not any(state["waiting"] for state in states)

    eventually("the nodes have the same versions", is_settled, 60)


def tree_of(live: Live) -> dict[str, bytes]:
    files = (path for path in (live.at / "memory").rglob("*") if path.is_file())
    return {str(path.relative_to(live.at)): path.read_bytes() for path in files}


def test_write_at_one_mount_is_read_at_the_other(nodes: MakeNode, engine_url: str) -> None:
    one, two = nodes("one", engine_url), nodes("two", engine_url)
    (one.at / "memory/shared/x.md").write_text("first\n")
    eventually("the file arrives", lambda: read(two, "memory/shared/x.md") == "first\n")
    (one.at / "memory/shared/x.md").write_text("second, longer\n")
    eventually("caches of the kernel follow", lambda: read(two, "memory/shared/x.md") == "second, longer\n")
    (two.at / "memory/shared/y.md").write_text("from two\n")
    os.setxattr(two.at / "memory/shared/y.md", "user.ctx.kind", b"fact")
    eventually("the other direction", lambda: read(one, "memory/shared/y.md") == "from two\n")
    eventually("attributes follow", lambda: "user.ctx.kind" in os.listxattr(one.at / "memory/shared/y.md"))
    (two.at / "memory/shared/x.md").unlink()
    eventually("a removal follows", lambda: not (one.at / "memory/shared/x.md").exists())
    hits = eventually("it is searched", lambda: [*(one.at / "search/from two").iterdir()])
    assert hits
    settle(one, two)
    assert tree_of(one) == tree_of(two)
    assert not one.errors() and not two.errors()


def test_a_thousand_appends_of_three_nodes_are_there_once_despite_a_kill(nodes: MakeNode, engine_url: str) -> None:
    lives = [nodes(f"n{number}", engine_url) for number in range(3)]
    killed = lives[2]
    append(lives[0], LOG, "first")
    settle(*lives)

    def work(live: Live, first: int, last: int) -> None:
        for number in range(first, last):
            append(live, LOG, f"{live.at.parent.name} {number}")

    writers = [threading.Thread(target=work, args=(live, 0, 333)) for live in lives[:2]]
    for writer in writers:
        writer.start()
    work(killed, 0, 100)
    os.kill(killed.daemon_pid(), signal.SIGKILL)
    subprocess.run(["fusermount3", "-u", "-z", str(killed.at)], check=False, capture_output=True)
    killed.run("mount", str(killed.at))
    work(killed, 100, 333)
    for writer in writers:
        writer.join()
    settle(*lives)
    expected = ["first", *(f"n{node} {number}" for node in range(3) for number in range(333))]
    for live in lives:
        assert sorted(read(live, LOG).splitlines()) == sorted(expected)
        assert [path.name for path in (live.at / "memory/shared").iterdir()] == ["log.jsonl"]
    for live in lives:
        live.run("history", "verify")


def test_node_without_its_engine_goes_on_and_sends_later(nodes: MakeNode, postgres: Postgres) -> None:
    proxy = Proxy(postgres.port)
    one, two = nodes("one", postgres.url()), nodes("two", postgres.url(proxy.port))
    settle(one, two)
    proxy.cut()
    try:
        (two.at / "memory/shared/alone.md").write_text("written alone\n")
        (one.at / "memory/shared/meanwhile.md").write_text("meanwhile\n")
        state = eventually("the silence is noticed", lambda: not shared(two)["reachable"] and shared(two), 30)
        assert state["since"]
        eventually("a version waits", lambda: shared(two)["waiting"])
        shown = two.run("status")
        assert "not reached since" in shown and "1 version waits" in shown
        assert read(two, "memory/shared/alone.md") == "written alone\n"
        assert two.try_run("sync").returncode == 1
        note = "shared: not reached since "
        (remark,) = json.loads(two.run("search", "written alone", "--json"))["remarks"]
        assert remark.startswith(note) and remark.endswith(", 1 version waits")
        assert remark in two.try_run("search", "written alone").stderr
        page = (two.at / "search/written alone/results.jsonl").read_text().splitlines()[0]
        assert remark in json.loads(page)["remarks"]
        (two.at / "context/apart").mkdir()
        (two.at / "context/apart/request.toml").write_text('query = "written alone"\n')
        assert note in (two.at / "context/apart/context.md").read_text()
        assert any(
            text.startswith(note) for text in json.loads((two.at / "context/apart/manifest.json").read_text())["notes"]
        )
    finally:
        proxy.heal()
    eventually("the version is sent", lambda: read(one, "memory/shared/alone.md") == "written alone\n", 30)
    eventually("the other is taken", lambda: read(two, "memory/shared/meanwhile.md") == "meanwhile\n", 30)
    assert shared(two)["reachable"]
    assert json.loads(two.run("search", "written alone", "--json"))["remarks"] == []
    proxy.close()


def test_read_only_node_refuses_writes_until_it_leaves(nodes: MakeNode, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    url = f"file://{tmp_path}/engine"
    one, two = nodes("one", url), nodes("two", url, "--read-only")
    (one.at / "memory/shared/x.md").write_text("x\n")
    eventually("the file arrives", lambda: read(two, "memory/shared/x.md") == "x\n")
    file = two.at / "memory/shared/x.md"
    for act in (
        lambda: file.write_text("mine\n"),
        lambda: file.unlink(),
        lambda: file.rename(file.with_name("y.md")),
        lambda: (two.at / "pad/task").mkdir(),
        lambda: os.setxattr(file, "user.ctx.kind", b"fact"),
    ):
        assert code_of(act) == errno.EROFS
    refused = two.try_run("undo", "memory/shared/x.md")
    assert refused.returncode == 1 and "follows" in refused.stderr and "ctxfs leave" in refused.stderr
    (two.at / "context/task").mkdir()
    assert "read only" in two.run("status")
    two.run("leave")
    file.write_text("mine\n")
    assert read(one, "memory/shared/x.md") == "x\n"


def test_fsync_waits_for_the_engine_if_that_is_wanted(nodes: MakeNode, postgres: Postgres) -> None:
    proxy = Proxy(postgres.port)
    one, two = nodes("one", postgres.url()), nodes("two", postgres.url(proxy.port), "--durable", "engine")
    settle(one, two)

    def write(name: str) -> None:
        with (two.at / "memory/shared" / name).open("w") as file:
            file.write(f"{name}\n")
            file.flush()
            os.fsync(file.fileno())

    write("first.md")
    assert not shared(two)["waiting"], "the engine has the version when fsync returns"
    proxy.cut()
    try:
        start = time.monotonic()
        assert code_of(lambda: write("second.md")) == errno.EIO
        assert time.monotonic() - start < 10
        assert any("second.md" in str(line) and "sent later" in str(line) for line in two.errors())
        assert read(two, "memory/shared/second.md") == "second.md\n"
    finally:
        proxy.heal()
    eventually("it is published later", lambda: read(one, "memory/shared/second.md") == "second.md\n", 30)
    write("third.md")
    proxy.close()


def test_secrets_are_looked_for_at_the_node_that_wrote_them(nodes: MakeNode, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    url = f"file://{tmp_path}/engine"
    one, two = nodes("one", url), nodes("two", url)
    (one.at / "memory/shared/key.md").write_text("aws_key = AKIAIOSFODNN7EXAMPLQ\n")
    eventually("it is found", lambda: "memory/shared/key.md" in one.status()["secrets"])
    eventually("it arrives", lambda: read(two, "memory/shared/key.md"))
    (two.at / "memory/shared/own.md").write_text("aws_key = AKIAIOSFODNN7EXAMPLZ\n")
    eventually("changes up to this one are scanned", lambda: "memory/shared/own.md" in two.status()["secrets"])
    assert "memory/shared/key.md" not in two.status()["secrets"]


def test_search_and_context_have_the_same_bytes_on_both_nodes(nodes: MakeNode, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    url = f"file://{tmp_path}/engine"
    one, two = nodes("one", url), nodes("two", url)
    for number, live in enumerate((one, two, one, two)):
        (live.at / f"memory/shared/keys{number}.md").write_text(f"Signing keys are rotated every {number} weeks.\n")
    (one.at / "memory/shared/old.md").write_text("Signing keys were rotated by hand.\n")
    os.utime(one.at / "memory/shared/old.md", (1_700_000_000, 1_700_000_000))
    (one.at / "context/keys").mkdir()
    (one.at / "context/keys/request.toml").write_text('query = "how are signing keys rotated"\n')
    settle(one, two)
    for live in (one, two):
        live.wait_idle()
    for question in ("signing keys", "signing keys since:2025-01-01", "signing keys until:2024-01-01"):
        answers = [json.loads(live.run("search", question, "--json")) for live in (one, two)]
        assert answers[0] == answers[1] and answers[0]["hits"]
    for name in ("context.md", "manifest.json"):
        assert (one.at / f"context/keys/{name}").read_bytes() == (two.at / f"context/keys/{name}").read_bytes()


def test_membership_begins_and_ends_by_commands(nodes: MakeNode, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    url = f"file://{tmp_path}/engine"
    one, two = nodes("one", url), nodes("two", url)
    (one.at / "memory/shared/x.md").write_text("x\n")
    settle(one, two)
    refused = one.try_run("join", url)
    assert refused.returncode == 1 and "ctxfs leave" in refused.stderr
    two.run("leave")
    assert shared(two) == {}
    assert read(two, "memory/shared/x.md") == "x\n"
    (two.at / "memory/shared/x.md").write_text("changed apart\n")
    assert two.try_run("sync").returncode == 1
    refused = two.try_run("join", url, "--name", "nothing")
    assert refused.returncode == 1 and "holds no shared store" in refused.stderr
    assert shared(two) == {}
    name = shared(one)["store"]
    refused = two.try_run("join", url, "--name", name, "--node", "one")
    assert refused.returncode == 1 and "another store has joined" in refused.stderr
    assert shared(two) == {}
    two.run("join", url, "--name", name, "--node", "two")
    settle(one, two)
    assert read(one, "memory/shared/x.md") == "changed apart\n", "both have the version before, so this is an edit"
    two.run("forget", "memory/shared/x.md", "--dry-run")


def test_forget_at_one_mount_erases_at_the_other(nodes: MakeNode, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    url = f"file://{tmp_path}/engine"
    one, two = nodes("one", url), nodes("two", url)
    secret = "the vault opens with seventeen turns of the brass wheel\n"
    (one.at / "memory/shared/x.md").write_text(secret)
    (one.at / "memory/shared/y.md").write_text("a harmless note\n")
    eventually("the file arrives", lambda: read(two, "memory/shared/x.md") == secret)
    eventually("it is searched", lambda: "brass" in json.dumps(search(two, "brass wheel")))
    erased = json.loads(one.run("forget", "memory/shared/x.md", "--yes", "--json"))
    assert erased["blobs"] == 1 and [change["path"] for change in erased["changes"]] == ["memory/shared/x.md"]
    eventually("a tombstone takes its place", lambda: (two.at / "memory/shared/x.md").is_symlink(), 30)
    settle(one, two)
    for live in (one, two):
        assert (live.at / "memory/shared/x.md").is_symlink()
        # Other notes may be weak hits.
        eventually("no search finds it", lambda live=live: "brass" not in json.dumps(search(live, "brass wheel")))
        assert "brass" not in live.run("log", "--json")
        listed = ["git", f"--git-dir={live.store}/repo.git", "cat-file", "--batch-all-objects", "--batch"]
        assert b"brass" not in subprocess.run(listed, capture_output=True, check=True).stdout
        live.run("history", "verify")
    assert not [file for file in (tmp_path / "engine").rglob("*") if file.is_file() and b"brass" in file.read_bytes()]
    (two.at / "memory/shared/y.md").write_text("another note\n")
    eventually(
        "both nodes certify it", lambda: all(json.loads(one.run(*CERTIFICATE, "--json"))[0]["nodes"].values()), 30
    )
    assert "index: erased" in two.run(*CERTIFICATE)
    eventually("versions are exchanged as before", lambda: read(one, "memory/shared/y.md") == "another note\n")


def test_commands_exchange_versions_without_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    lives = [Live(tmp_path / name) for name in ("one", "two")]
    for live, verb in zip(lives, ("share", "join"), strict=True):
        live.run("init")
        (live.store / f"tree/memory/shared/{verb}.md").write_text("x\n")
        live.run(verb, f"file://{tmp_path}/engine", "--node", verb)
    lives[0].run("sync")
    names = {path.name for path in (lives[0].store / "tree/memory/shared").iterdir()}
    assert names == {"share.md", "join.md"}


def test_engine_in_the_settings_of_a_store_from_elsewhere_is_shown_before_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    live = Live(tmp_path / "one")
    live.run("init")
    live.run("share", f"file://{tmp_path}/engine", "--node", "one")
    check_confirmed(live.store)
    assert programs_of(live.store) == [f"shared.url = 'file://{tmp_path}/engine'"]
    live.run("leave")
    check_confirmed(live.store)
    config = live.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[shared]", '[shared]\nurl = "postgresql://example.org/x"'))
    with pytest.raises(CommandError):
        check_confirmed(live.store)


def test_store_that_is_not_shared_loads_no_engine() -> None:
    code = (
        "import sys, ctxfs.app, ctxfs.daemon.server, ctxfs.cli.status;"
        "print([name for name in sys.modules if name.startswith(('ctxfs.shared', 'psycopg'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
