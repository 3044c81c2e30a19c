"""Test tools: definitions, permissions to run them, resource limits, and cleanup after each call."""

import json
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from mcp.client import Client as McpClient
from mcp.types import ElicitResult

from ctxfs.exec.definition import parse_tool
from ctxfs.exec.folder_provider import digest_of
from ctxfs.exec.runner import program_of
from ctxfs.exec.sandbox import Sandbox, SandboxView, find_bubblewrap, sandboxed_command
from ctxfs.mcp_server.server import opened
from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client
from ctxfs.store.layout import Layout
from tests.live import Live, eventually, mcp_call

ECHO = 'description = "Say what it was asked"\ncommand = ["sh", "run.sh"]\nread_only = true\nopen_world = false\n'
RUN = 'description = "For a test"\ncommand = ["sh", "run.sh"]\ntimeout_seconds = 20\n[input.properties.word]\ntype = "string"\n'


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a daemon, mounts for its owner and for alice, and its own tools."""
    made = Live(tmp_path_factory.mktemp("tools"))
    made.run("init")
    made.run("mount", str(made.at))
    made.run("mount", str(made.at.parent / "mnt-alice"), "--as", "agent:alice")
    for name, manifest, script in (
        ("echo", ECHO, "cat"),
        ("loud", RUN + "", "head -c 300000 /dev/zero | tr '\\0' x"),
        (
            "slow",
            RUN,
            'printf \'{"progress": 0.25, "message": "begun"}\\n\' >&3; sleep 60 & echo $! > "$TMPDIR/child"; wait',
        ),
        ("failing", RUN, "echo half; echo why it failed >&2; exit 3"),
        ("hungry", RUN, "python3 -c 'x = bytearray(3 << 30)'"),
        ("burning", RUN.replace("= 20", "= 1"), "while :; do :; done"),
        ("steps", RUN, "for n in 1 2 3 4; do printf '{\"progress\": 0.%s}\\n' $n >&3; sleep 0.3; done; echo done"),
        ("final", RUN.replace("timeout", "destructive = true\ntimeout"), "echo gone"),
        ("plain", RUN.replace("timeout", "destructive = false\ntimeout"), "env; pwd"),
    ):
        folder = made.store / "tools" / name
        folder.mkdir(parents=True)
        (folder / "tool.toml").write_text(manifest)
        (folder / "run.sh").write_text(script + "\n")
        made.run("tools", "approve", name, "--yes")
    toml = (made.store / "tools" / "loud" / "tool.toml").read_text()
    (made.store / "tools" / "loud" / "tool.toml").write_text(
        toml.replace("timeout_seconds", "output_bytes = 100000\ntimeout_seconds")
    )
    made.run("tools", "approve", "loud", "--yes")
    config = made.store / "ctxfs.toml"
    rules = '\n[[rule]]\nprincipal = "agent:runner"\npath = "tools/**"\nverbs = "rx"\n'
    rules += '\n[[rule]]\nprincipal = "agent:alice"\npath = "tools/final"\nverbs = "lrx"\neffect = "deny"\n'
    config.write_text(config.read_text() + rules)
    yield made
    made.close()


def call(
    live: Live, name: str, principal: str = "human:root", confirmed: bool = True, **arguments: object
) -> dict[str, Any]:
    client = Client(live.store / "run", timeout=60)
    try:
        client.call("join", principal=principal)
        number = f"t-{os.urandom(4).hex()}"
        response: dict[str, Any] = client.call(
            "call_tool", name=name, arguments=arguments, id=number, confirmed=confirmed
        )
        return response
    finally:
        client.close()


def test_tool_receives_its_arguments_and_its_result_is_stored(live: Live) -> None:
    live.run("record", "--session", "before", "x")
    done = call(live, "plain", word="wörd")
    assert (done["ok"], done["exit_code"]) == (True, 0)
    call_folder = live.at / "tools" / "plain" / "calls" / done["id"]
    assert json.loads((call_folder / "args.json").read_text()) == {"word": "wörd"}
    assert (call_folder / "result.md").read_text() == done["text"]
    assert json.loads((call_folder / "result.json").read_text())["principal"] == "human:root"
    assert os.getxattr(call_folder / "result.md", "user.ctx.trust") == b"untrusted"
    assert os.getxattr(call_folder / "result.md", "user.ctx.source") == b"tools/plain"
    assert done["id"] in live.run("tools", "calls", "plain")
    history = live.run("history", "show", "--json")
    assert f'"call": "{done["id"]}"' in history or f'"call":"{done["id"]}"' in history
    assert "exec" in live.run("history", "audit", "plain")


def test_tool_environment_contains_required_variables_only(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    text = call(live, "plain")["text"]
    names = {line.partition("=")[0] for line in text.splitlines() if "=" in line}
    assert names <= {
        "PATH",
        "LANG",
        "LC_ALL",
        "HOME",
        "TMPDIR",
        "CTXFS_PROGRESS",
        "CTXFS_TREE",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }


def test_arguments_are_checked_before_anything_starts(live: Live) -> None:
    for wrong in ({"word": 7}, {"colour": "red"}):
        with pytest.raises(OSError, match=r"word|colour"):
            call(live, "plain", **wrong)
    with pytest.raises(FileNotFoundError):
        call(live, "nothing")
    with pytest.raises(OSError, match="cannot be"):
        call(live, "../plain")


def test_failed_call_reports_the_reason_and_keeps_its_output(live: Live) -> None:
    done = call(live, "failing")
    assert (done["ok"], done["exit_code"], done["fault"], done["text"]) == (False, 3, "why it failed", "half\n")
    ran = live.try_run("tools", "run", "failing", "--yes", "--json", "{}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "half\n", "why it failed\n")


def test_limits_of_time_memory_and_output_hold(live: Live) -> None:
    assert call(live, "burning")["fault"] == "it took more than 1 s"
    assert "MemoryError" in call(live, "hungry")["stderr"]
    loud = call(live, "loud")
    assert loud["fault"] == "it said more than 100000 bytes"
    assert len(loud["text"]) == 100_000


def test_abandoned_call_leaves_no_process(live: Live) -> None:
    client = Client(live.store / "run", timeout=60)
    thread = threading.Thread(
        target=lambda: _quietly(
            lambda: client.call("call_tool", name="slow", arguments={}, id="gone-1", confirmed=True)
        )
    )
    thread.start()

    def children() -> list[int]:
        pids = subprocess.run(["pgrep", "-f", "^sleep 60$"], capture_output=True, text=True).stdout
        return [int(pid) for pid in pids.split()]

    eventually("it runs", children)
    asked = Client(live.store / "run", timeout=20)
    assert not asked.call("call_state", id="other")["running"]
    client._socket.shutdown(2)
    eventually("the tool and its child are gone", lambda: not children())
    thread.join(20)
    asked.close()
    client.close()


def _quietly(act: Any) -> None:
    try:
        act()
    except (OSError, CommandError):
        return


def test_simultaneous_calls_do_not_wait_for_each_other(live: Live) -> None:
    done: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda n=n: done.append(call(live, "burning" if n < 3 else "failing" if n < 6 else "echo")["ok"])
        )
        for n in range(16)
    ]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (done.count(True), len(done)) == (10, 16)
    assert time.monotonic() - begun < 30


def test_a_changed_tool_does_not_run_until_it_is_approved_again(live: Live) -> None:
    script = live.store / "tools" / "plain" / "run.sh"
    before = script.read_text()
    script.write_text("echo changed\n")
    try:
        with pytest.raises(PermissionError, match="changed since it was approved"):
            call(live, "plain")
        assert "changed since it was approved" in live.run("tools", "list")
        assert "does not run" in (live.at / "tools" / "plain" / "README.md").read_text()
        live.run("tools", "approve", "plain", "--yes")
        assert call(live, "plain")["text"] == "changed\n"
    finally:
        script.write_text(before)
        live.run("tools", "approve", "plain", "--yes")


def test_agents_run_harmless_tools_only_unless_a_rule_permits_more(live: Live) -> None:
    assert call(live, "echo", "agent:alice")["text"] == "{}"
    with pytest.raises(PermissionError, match="no 'exec'"):
        call(live, "plain", "agent:alice")
    assert call(live, "plain", "agent:runner")["ok"]
    with pytest.raises(PermissionError, match=r"may not|people"):
        client = Client(live.store / "run", timeout=20)
        try:
            client.call("join", principal="agent:runner")
            client.call("approve_tool", name="plain")
        finally:
            client.close()


def test_hidden_tool_does_not_exist_for_an_agent(live: Live) -> None:
    at = live.at.parent / "mnt-alice" / "tools"
    assert "final" not in os.listdir(at)
    assert "final" not in (at / "index.md").read_text()
    assert "echo" in (at / "index.md").read_text()
    assert "final" in (live.at / "tools" / "index.md").read_text()
    with pytest.raises(FileNotFoundError):
        call(live, "final", "agent:alice")
    told, failed = mcp_call(live, "ctx_exec", {"tool": "final"}, principal="agent:alice")
    assert failed
    assert "there is no tool 'final'" in told
    assert "final," not in told.partition("Known:")[2]


def test_an_agent_sees_its_own_calls_only(live: Live) -> None:
    mine, theirs = call(live, "echo", "agent:alice"), call(live, "echo")
    at = live.at.parent / "mnt-alice" / "tools" / "echo" / "calls"
    assert mine["id"] in os.listdir(at)
    assert theirs["id"] not in os.listdir(at)
    assert not (at / theirs["id"]).exists()
    assert theirs["id"] in os.listdir(live.at / "tools" / "echo" / "calls")


def test_listing_tools_runs_nothing(live: Live) -> None:
    before = {name: os.listdir(live.at / "tools" / name / "calls") for name in ("echo", "final")}
    listed = subprocess.run(
        ["bash", "-c", "find . -type f | xargs cat; grep -r x . | head -1; ls -lR"],
        cwd=live.at / "tools",
        capture_output=True,
    )
    assert b"Say what it was asked" in listed.stdout
    assert {name: os.listdir(live.at / "tools" / name / "calls") for name in ("echo", "final")} == before
    index = (live.at / "tools" / "index.md").read_text()
    assert "- table: Ask a CSV" in index
    with pytest.raises(OSError):
        (live.at / "tools" / "index.md").write_text("x")


def test_destructive_call_is_confirmed_first(live: Live) -> None:
    with pytest.raises(PermissionError, match="confirmed"):
        call(live, "final", confirmed=False)
    assert live.try_run("tools", "run", "final", "--json", "{}").returncode == 1
    assert live.run("tools", "run", "final", "--json", "{}", "--yes") == "gone\n"


@pytest.mark.parametrize("era", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("says", [True, False, None])
def test_mcp_client_elicits_confirmation_before_a_destructive_call(era: Any, says: bool | None, live: Live) -> None:
    asked: list[str] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"confirm": bool(says)})

    async def use() -> tuple[str, bool]:
        callback = {"elicitation_callback": answer} if says is not None else {}
        async with opened(Layout(live.store)) as server, McpClient(server, mode=era, **callback) as client:
            done = await client.call_tool("ctx_exec", {"tool": "final", "arguments": {}})
            return done.content[0].text, bool(done.is_error)

    text, failed = anyio.run(use, backend="trio")
    assert failed is not bool(says)
    assert ("gone" in text) is bool(says)
    assert len(asked) == (says is not None)


def test_mcp_client_receives_progress_and_can_cancel_a_call(live: Live) -> None:
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async def use() -> None:
        async with opened(Layout(live.store), principal="agent:runner") as server, McpClient(server) as client:
            done = await client.call_tool("ctx_exec", {"tool": "echo"})
            assert done.content[0].text == "{}"
        config = live.store / "tools" / "steps" / "tool.toml"
        config.write_text(config.read_text().replace("timeout", "destructive = false\ntimeout"))
        live.run("tools", "approve", "steps", "--yes")
        async with opened(Layout(live.store), principal="agent:runner") as server, McpClient(server) as client:
            done = await client.call_tool("ctx_exec", {"tool": "steps"}, progress_callback=hear)
            assert done.content[0].text == "done\n"
            with trio.move_on_after(0.3):
                await client.call_tool("ctx_exec", {"tool": "steps"})

    anyio.run(use, backend="trio")
    assert heard == sorted(heard)
    assert len(heard) >= 2
    eventually(
        "it is not running", lambda: not subprocess.run(["pgrep", "-f", "sleep 0.3"], capture_output=True).stdout
    )


def test_tool_errors_over_mcp_name_the_remedy(live: Live) -> None:
    for arguments, expected in (
        ({"tool": "nope"}, "tools/index.md"),
        ({"tool": "echo", "arguments": {"x": 1}}, "Arguments: none"),
        ({"tool": "plain"}, "no 'exec'"),
    ):
        text, failed = mcp_call(live, "ctx_exec", arguments, principal="agent:alice")
        assert failed
        assert expected in text


# the built-in ones


def test_table_answers_sql_over_files_that_the_caller_may_read(live: Live) -> None:
    (live.at / "pad" / "t.csv").write_text("name,age\nAda,36\nBob,41\nCarl,9\n")
    done = call(
        live,
        "table",
        "agent:alice",
        file="pad/t.csv",
        sql="SELECT count(*) AS n, avg(age) FROM data WHERE age > 10",
        format="csv",
    )
    assert done["text"] == "n,avg(age)\n2,38.5\n"
    assert "## data: 3 rows" in call(live, "table", file="pad/t.csv")["text"]
    (live.at / "pad" / "t.jsonl").write_text('{"a": 1, "b": {"c": 2}}\n{"a": 2}\n')
    assert json.loads(call(live, "table", file="pad/t.jsonl", sql="SELECT a FROM data", format="json")["text"]) == [
        {"a": 1},
        {"a": 2},
    ]
    database = live.store / "tree" / "pad" / "t.db"
    with sqlite3.connect(database) as db:
        db.execute("CREATE TABLE x(y)")
        db.execute("INSERT INTO x VALUES (7)")
    db.close()
    assert "| 7 |" in call(live, "table", file="pad/t.db", sql="SELECT y FROM x")["text"]
    for sql in (
        "DELETE FROM x",
        "DROP TABLE x",
        "ATTACH '/etc/passwd' AS p",
        "PRAGMA writable_schema=1",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n",
    ):
        assert not call(live, "table", file="pad/t.db", sql=sql)["ok"], sql
    (live.at / "memory" / "bob").mkdir(exist_ok=True)
    (live.at / "memory" / "bob" / "secret.csv").write_text("a\n1\n")
    with pytest.raises(FileNotFoundError):
        call(live, "table", "agent:alice", file="memory/bob/secret.csv")
    with pytest.raises(OSError):
        call(live, "table", "agent:alice", file="../../etc/passwd")


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1", "utf-32"])
def test_tools_read_a_text_in_any_charset(live: Live, codec: str) -> None:
    table = live.store / "tree" / "pad" / f"{codec}.csv"
    table.write_bytes("name;ort\r\nMüller;Köln\r\nGroß;Gießen\r\n".encode(codec))
    done = call(live, "table", file=f"pad/{codec}.csv", sql="SELECT name, ort FROM data", format="csv")
    assert done["text"] == "name,ort\nMüller,Köln\nGroß,Gießen\n"
    (live.store / "tree" / "pad" / f"{codec}.txt").write_bytes("Größe: 5 kg\n".encode(codec))
    assert "fact\tGröße: 5 kg" in call(live, "extract", file=f"pad/{codec}.txt", kinds=["fact"])["text"]


def test_extract_finds_by_rules(live: Live) -> None:
    text = "On 2026-11-20 we met Ada Lovelace at https://example.org/x?a=1, see mail to bob@example.org.\nIt took 12.5 % longer.\n"
    lines = [line.split("\t") for line in call(live, "extract", text=text)["text"].splitlines()]
    assert ["1", "date", "2026-11-20"] in lines
    assert ["1", "link", "https://example.org/x?a=1"] in lines
    assert ["1", "mail", "bob@example.org"] in lines
    assert ["1", "name", "Ada Lovelace"] in lines
    assert ["2", "number", "12.5 %"] in lines
    assert call(live, "extract", text=text, kinds=["mail"])["text"] == "1\tmail\tbob@example.org\n"
    assert not call(live, "extract")["ok"]


# definitions


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, "description"),
        ({"description": "two\nlines", "command": ["x"]}, "one line"),
        ({"description": "d", "command": "rm -rf"}, "a list of texts"),
        ({"description": "d", "command": []}, "a list of texts"),
        ({"description": "d", "command": ["x"], "colour": 1}, "no key 'colour'"),
        ({"description": "d", "command": ["x"], "timeout_seconds": 0}, "timeout_seconds"),
        ({"description": "d", "command": ["x"], "read_only": "yes"}, "read_only"),
        ({"description": "d", "command": ["x"], "input": {"type": "array"}}, "an object"),
        ({"description": "d", "command": ["x"], "input": {"properties": {"a": {"type": "word"}}}}, "no JSON Schema"),
        ({"description": "d", "command": ["x"], "input": {"required": ["a"]}}, "required"),
    ],
)
def test_invalid_definition_is_refused(data: dict[str, Any], why: str) -> None:
    with pytest.raises(CommandError, match=why):
        parse_tool("x", "/nowhere", data)


def test_missing_hints_default_to_the_worst_case() -> None:
    tool = parse_tool("x", "/nowhere", {"description": "d", "command": ["x"]})
    assert (tool.read_only, tool.destructive, tool.open_world, tool.is_harmless) == (False, True, True, False)


def test_bubblewrap_that_does_not_work_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in (("broken", "exit 1"), ("good", "exit 0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'broken'}:/usr/bin:/bin")
    assert find_bubblewrap() == ""
    monkeypatch.setenv("PATH", f"{tmp_path / 'good'}:/usr/bin:/bin")
    assert find_bubblewrap() == str(tmp_path / "good" / "bwrap")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_bubblewrap() == ""


def test_tool_is_sandboxed_if_bubblewrap_works(tmp_path: Path) -> None:
    tool = parse_tool("x", str(tmp_path), {"description": "d", "command": ["sh", "run.sh"], "open_world": False})
    walls = Sandbox(["/store", "/mnt/other"], "/mnt/mine")
    shown = SandboxView(str(tmp_path), "/scratch")
    command = sandboxed_command(
        "/usr/bin/bwrap", program_of(tool), shown, walls, {"A": "b"}, reads_only=False, reaches_out=tool.open_world
    )
    assert command[0] == "/usr/bin/bwrap"
    joined = " ".join(command)
    for words in (
        "--ro-bind /usr /usr",
        "--cap-drop ALL",
        "--unshare-user",
        "--unshare-net",
        "--clearenv --unshare-net",
    ):
        assert words in joined
    assert " / / " not in joined
    assert command[command.index("--") + 1 :] == ["sh", "run.sh"]


def test_folder_digest_covers_every_file_that_affects_the_tool(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("tool.toml", "run.sh", "sub/more"):
        (tmp_path / name).write_text("x")
    seen = {digest_of(tmp_path)}
    for change in (
        lambda: (tmp_path / "sub" / "more").write_text("y"),
        lambda: (tmp_path / "run.sh").chmod(0o755),
        lambda: (tmp_path / "sub" / "more").rename(tmp_path / "more"),
        lambda: (tmp_path / "new").write_text(""),
    ):
        change()
        digest = digest_of(tmp_path)
        assert digest not in seen
        seen.add(digest)
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(CommandError, match="is a link"):
        digest_of(tmp_path)


def test_a_store_without_a_daemon_runs_tools_too(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    assert live.run("tools", "run", "extract", "--json", '{"text": "see 2026-01-02"}') == "1\tdate\t2026-01-02\n"


def test_servers_without_a_daemon_are_listed_and_removable_but_not_callable(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    config = live.store / "ctxfs.toml"
    config.write_text(config.read_text() + '\n[[server]]\nname = "wiki"\ncommand = ["true"]\n')
    state = live.store / "servers" / "wiki" / "state.json"
    state.parent.mkdir(parents=True)
    state.write_text(
        json.dumps({"tools": [{"name": "look", "inputSchema": {"type": "object"}, "description": "Look"}]})
    )
    assert "wiki/look" in live.run("tools", "list")
    live.run("tools", "approve", "wiki", "--yes")
    asked = live.try_run("tools", "run", "wiki/look", "--yes", "--json", "{}")
    assert (asked.returncode, "ctxfs mount" in asked.stderr) == (1, True)
    refused = live.try_run("tools", "add", "other", "--yes", "--", "true")
    assert (refused.returncode, "none runs" in refused.stderr) == (1, True)
    live.run("tools", "remove", "wiki")
    assert "wiki" not in live.run("tools", "list")
    assert not state.parent.exists()
    gone = live.try_run("tools", "remove", "wiki")
    assert (gone.returncode, "no server is called" in gone.stderr) == (1, True)
