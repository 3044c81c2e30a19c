"""Test MCP servers as directories: real programs on a real mount, used from a shell, isolated from each other."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.rpc.client import Client
from tests.live import Live, eventually, mcp_call

SMALL = str(Path(__file__).parent / "small_server.py")


def command(**said: Any) -> list[str]:
    return [sys.executable, "-IS", SMALL, json.dumps(said)]


def add(live: Live, name: str, **said: Any) -> str:
    return live.run("tools", "add", name, "--yes", "--", *command(**said))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a daemon, a mount for its owner and one for alice, and the server `small`."""
    made = Live(tmp_path_factory.mktemp("servers"))
    made.run("init")
    made.run("mount", str(made.at))
    made.run("mount", str(made.at.parent / "mnt-alice"), "--as", "agent:alice")
    add(made, "small", state=str(made.at.parent / "about"))
    eventually(
        "its documents are there", lambda: (made.at / "knowledge" / "small" / "memo" / "a b" / "one.md").exists()
    )
    yield made
    made.close()


def run(live: Live, tool: str, *words: str, at: str = "mnt", stdin: str = "") -> subprocess.CompletedProcess[str]:
    program = live.at.parent / at / "tools" / tool
    return subprocess.run([program, *words], capture_output=True, text=True, input=stdin, timeout=60)


def status(live: Live, name: str = "small") -> str:
    return (live.at / "tools" / name / "status").read_text().strip()


def test_server_is_a_directory_with_a_description(live: Live) -> None:
    folder = live.at / "tools" / "small"
    assert {"status", "index.md", "instructions.md", "prompts", "echo", "drop"} <= set(os.listdir(folder))
    assert (folder / "status").read_text() == "ready\n"
    assert (folder / "instructions.md").read_text() == "Be careful.\n"
    assert "- echo: Say it again\n" in (folder / "index.md").read_text()
    assert "- small/: a server with 15 tools (ready)" in (live.at / "tools" / "index.md").read_text()
    assert set(os.listdir(folder / "echo")) == {"README.md", "tool.json", "run", "call", "calls"}
    assert set(os.listdir(folder / "prompts" / "greet")) == {"README.md", "tool.json", "render", "call"}
    assert os.getxattr(folder / "instructions.md", "user.ctx.trust") == b"untrusted"
    assert os.getxattr(folder / "echo" / "README.md", "user.ctx.trust") == b"untrusted"


def test_tools_of_a_server_are_programs(live: Live) -> None:
    done = run(live, "small/echo/run", "--word", "wörd")
    assert (done.returncode, done.stdout, done.stderr) == (0, "wörd\n", "")
    assert run(live, "small/echo/run", stdin='{"word": "in"}').stdout == "in\n"
    assert run(live, "small/prompts/greet/render", "Ada").stdout == "Greet Ada.\n"
    failed = run(live, "small/fail/run")
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "it went wrong\n", "small/fail: it went wrong\n")
    wrong = run(live, "small/echo/run", "--word", "a", "--colour", "red")
    assert wrong.returncode == 2
    kept = sorted((live.at / "tools" / "small" / "echo" / "calls").iterdir())
    assert json.loads((kept[-1] / "args.json").read_text()) in ({"word": "in"}, {"word": "wörd"})
    assert os.getxattr(kept[-1] / "result.md", "user.ctx.source") == b"tools/small/echo"
    text, failed_there = mcp_call(
        live, "ctx_exec", {"tool": "small/echo", "arguments": {"word": "x"}}, principal="agent:alice"
    )
    assert (text.strip(), failed_there) == ("x", False)
    assert '"tool":"small/echo"' in live.run("history", "show", "--json").replace(" ", "")


def test_documents_of_a_server_are_files(live: Live) -> None:
    folder = live.at / "knowledge" / "small" / "memo"
    assert (folder / "a b" / "one.md").read_text() == "about memo://a b/one.md\n"
    assert os.getxattr(folder / "a b" / "one.md", "user.ctx.trust") == b"untrusted"
    assert os.getxattr(folder / "a b" / "one.md", "user.ctx.source") == b"memo://a b/one.md"
    assert os.listdir(folder / "odd") == ["%2Fetc"]
    assert os.listdir(folder / "made") == []
    assert (folder / "made" / "7").read_text() == "about memo://made/7\n"
    for name in ("x", ".git", "7/8"):
        with pytest.raises(FileNotFoundError if name != "7/8" else NotADirectoryError):
            (folder / "made" / name).read_text()
    with pytest.raises(OSError, match="Read-only"):
        (folder / "a b" / "one.md").write_text("mine")


def test_a_document_that_changes_is_fetched_again(live: Live) -> None:
    add(live, "editor")
    file = live.at / "knowledge" / "editor" / "memo" / "a b" / "one.md"
    eventually("it is there", file.exists)
    for times in (1, 2):
        run(live, "editor/edit/run")
        eventually("it was fetched again", lambda times=times: f"edited {times} times" in file.read_text())
    live.run("tools", "remove", "editor")


def test_documents_are_searched_only_if_configured(live: Live) -> None:
    live.run("tools", "add", "open", "--searchable", "--yes", "--", *command())
    output = eventually("they are indexed", lambda: live.try_run("search", "about memo").stdout)
    assert "knowledge/open/memo/a b/one.md" in output
    assert "knowledge/small/" not in output
    run(live, "open/edit/run")
    eventually("so is a change", lambda: "edited" in live.try_run("search", "edited").stdout)
    live.run("tools", "remove", "open")
    eventually("they are gone", lambda: live.try_run("search", "about memo").returncode == 3)


def test_listing_calls_no_server(live: Live) -> None:
    before = live.run("calls", "--json") if live.try_run("calls").returncode == 0 else ""
    subprocess.run(
        ["find", str(live.at / "tools" / "small"), "-type", "f", "-exec", "cat", "{}", "+"],
        capture_output=True,
        check=True,
    )
    subprocess.run(["ls", "-lR", str(live.at / "tools")], capture_output=True, check=True)
    assert (live.run("calls", "--json") if before else "") == before


def test_changed_tool_is_refused_until_a_person_approves_the_change(live: Live) -> None:
    assert run(live, "small/changing/run").stdout == "as ever\n"
    (live.at.parent / "about").write_text("Now it deletes everything")
    run(live, "small/flood/run")  # it reports a change of its tools
    about = live.at / "tools/small/changing"
    eventually("it is noticed", lambda: "changed since it was approved" in (about / "README.md").read_text())
    for file in (about / "README.md", about / "tool.json", about.parent / "index.md"):
        assert "As it was" in file.read_text()
        assert "deletes" not in file.read_text()
    refused = run(live, "small/changing/run")
    assert refused.returncode == 126
    assert "changed since it was approved" in refused.stderr
    with pytest.raises(PermissionError):
        os.open(live.at / "tools" / "small" / "changing" / "call", os.O_RDWR)
    shown = live.run("tools", "approve", "small", "--yes")
    assert "-" in shown
    assert '+ "description": "Now it deletes everything"' in shown
    assert '- "description": "As it was"' in shown
    assert run(live, "small/changing/run").stdout == "as ever\n"
    assert (
        run(live, "small/echo/run", "x").returncode == 2
    )  # the other arguments are untouched: `word` is optional, so no value is sent for it


def test_destructive_tool_requires_exec_permission_or_a_person(live: Live) -> None:
    assert run(live, "small/drop/run", "--table", "users").returncode == 126
    assert run(live, "small/drop/run", "-y", "--table", "users").stdout == "drop was called\n"
    refused = run(live, "small/drop/run", "-y", "--table", "users", at="mnt-alice")
    assert refused.returncode == 126
    assert "human/review/" in refused.stderr
    name = refused.stderr.strip().rsplit("/", 1)[-1]
    assert "agent:alice wants to run tools/small/drop" in (live.at / "human" / "review" / name / "claim.md").read_text()
    again = run(live, "small/drop/run", "-y", "--table", "users", at="mnt-alice")
    assert name in again.stderr  # it gets no second request
    (live.at / "human" / "review" / name / "verdict").write_text("accept\n")
    assert run(live, "small/drop/run", "--table", "users", at="mnt-alice").stdout == "drop was called\n"
    once_more = run(live, "small/drop/run", "--table", "users", at="mnt-alice")
    assert once_more.returncode == 126  # a decision holds for one call
    other = once_more.stderr.strip().rsplit("/", 1)[-1]
    assert other != name
    (live.at / "human" / "review" / other / "verdict").write_text("reject\n")
    assert "refused this call" in run(live, "small/drop/run", "--table", "users", at="mnt-alice").stderr


def test_server_can_elicit_input_from_a_person(live: Live) -> None:
    reviews = live.at / "human" / "review"
    before = set(os.listdir(reviews)) if reviews.exists() else set()
    asking = subprocess.Popen([live.at / "tools/small/ask/run"], stdout=subprocess.PIPE, text=True)
    (name,) = eventually("the question waits", lambda: set(os.listdir(reviews)) - before if reviews.exists() else None)
    eventually("there is a verdict to write", (reviews / name / "verdict").exists)
    assert "Who are you?" in (reviews / name / "claim.md").read_text()
    (reviews / name / "verdict").write_text("edit Ada\n")
    stdout, _ = asking.communicate(timeout=20)
    assert json.loads(stdout) == {"action": "accept", "content": {"name": "Ada"}}


def test_answers_that_cannot_be_used_are_failures_of_that_call_alone(live: Live) -> None:
    broken = run(live, "small/promise/run", "-y")
    assert broken.returncode == 1
    assert "schema" in broken.stderr
    assert run(live, "small/latin/run").returncode == 0
    for size in (20_000_000, 100_000_000):  # more than a call may print, more than a line may contain
        big = run(live, "small/big/run", "--bytes", str(size))
        assert (big.returncode, "more than" in big.stderr) == (1, True), big.stderr
    pid = run(live, "small/pid/run").stdout
    assert run(live, "small/flood/run").stdout == "told\n"
    assert run(live, "small/pid/run").stdout == pid  # the connection was never lost


def test_progress_is_shown_and_a_call_can_be_cancelled(live: Live) -> None:
    client = Client(live.store / "run", timeout=30)
    try:
        number = client.call("begin_call", name="small/steps", arguments={})["id"]
        seen = [client.call("wait_call", id=number, seconds=5, seen=0.0)]
        while seen[-1]["running"]:
            seen.append(client.call("wait_call", id=number, seconds=5, seen=seen[-1]["progress"]))
        assert seen[-1]["result"]["ok"]
        assert max(state["progress"] for state in seen) >= 0.25
        calls = live.at / "tools" / "small" / "hang" / "calls"
        handle = os.open(calls.parent / "call", os.O_RDWR)
        os.write(handle, b'{"$call": {"id": "given-up"}}')
        reading = threading.Thread(target=lambda: os.read(handle, 1000))
        reading.start()
        eventually("it runs", lambda: client.call("call_state", id="given-up")["running"])
        client.call("cancel_call", id="given-up")
        reading.join(20)
        os.close(handle)
        record = eventually("it was given up", lambda: live.try_run("tools", "calls", "small/hang", "given-up").stdout)
        assert "it was cancelled" in record
    finally:
        client.close()


def test_server_that_exits_is_reported_and_restarted(live: Live) -> None:
    gone = run(live, "small/exit/run")
    assert gone.returncode == 1
    assert "the server is not there" in gone.stderr
    assert (live.at / "knowledge" / "small" / "memo" / "a b" / "one.md").read_text() == "about memo://a b/one.md\n"
    eventually("it is there again", lambda: status(live) == "ready")
    assert run(live, "small/echo/run", "--word", "back").stdout == "back\n"


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("dead", "exit code 2 (no licence)"),
        ("only garbage", "prints what is no message"),
    ],
)
def test_invalid_server_is_reported_and_delays_no_other(mood: str, said: str, live: Live) -> None:
    name = mood.replace(" ", "-")
    done = live.try_run("tools", "add", name, "--yes", "--", *command(mood=mood))
    assert done.returncode == 1
    assert "down" in done.stdout
    assert "down" in status(live, name)
    assert said in status(live, name)
    assert run(live, "small/echo/run", "--word", "x").stdout == "x\n"
    live.run("tools", "remove", name)
    assert name not in os.listdir(live.at / "tools")


def test_garbage_between_messages_is_skipped_and_a_silent_server_delays_no_other(live: Live) -> None:
    begun = time.monotonic()
    silent = subprocess.Popen(
        live.command("tools", "add", "silent", "--yes", "--", *command(mood="silent")), stdout=subprocess.PIPE
    )
    eventually("it is there, and not yet", lambda: "silent" in os.listdir(live.at / "tools"))
    add(live, "noisy", mood="garbage")
    assert run(live, "noisy/echo/run", "--word", "x").stdout == "x\n"
    assert time.monotonic() - begun < 15
    assert status(live, "silent") == "connecting"
    live.run("tools", "remove", "silent")
    silent.communicate(timeout=60)
    live.run("tools", "remove", "noisy")


def test_illegal_file_names_are_encoded_and_invalid_tools_are_skipped(live: Live) -> None:
    plain = {"type": "object", "properties": {}}
    names = ["a/b", "..", ".hidden", "status", "prompts", "x" * 300, "line\nbreak", "twice", "twice", "ü"]
    tools: list[dict[str, Any]] = [{"name": name, "description": "d", "inputSchema": plain} for name in names]
    tools += [
        {"name": "no-schema", "inputSchema": {"type": "string"}},
        {"name": "bad-schema", "inputSchema": {"type": "object", "properties": {"x": {"type": "nonsense"}}}},
    ]
    added = live.try_run("tools", "add", "odd", "--yes", "--", *command(tools=tools))
    shown = set(os.listdir(live.at / "tools" / "odd"))
    assert {"a%2Fb", "%2E.", "%2Ehidden", "%73tatus", "%70rompts", "line%0Abreak", "twice", "ü"} <= shown
    assert all(len(name.encode()) <= 255 for name in shown)
    assert not {"no-schema", "bad-schema"} & shown
    assert "two so" in added.stderr
    assert "is none" in added.stderr
    for name, called in (("a%2Fb", "a/b"), ("%73tatus", "status"), ("line%0Abreak", "line\nbreak")):
        assert run(live, f"odd/{name}/run", "-y").stdout == f"{called} was called\n"
    live.run("tools", "remove", "odd")


def test_only_configured_variables_reach_a_server(live: Live) -> None:
    variables = json.loads(run(live, "small/env/run").stdout)
    assert set(variables) <= {
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "USER",
        "LOGNAME",
        "SHELL",
        "TMPDIR",
        "TERM",
    }
    missing = live.try_run("tools", "add", "needy", "--yes", "--env", "CTXFS_NO_SUCH", "--", *command())
    assert missing.returncode == 1
    assert "$CTXFS_NO_SUCH is not set" in status(live, "needy")
    live.run("tools", "remove", "needy")


def test_server_is_listed_without_a_daemon_and_deleted_on_removal(live: Live) -> None:
    refused = live.try_run("tools", "add", "small", "--yes", "--", "true")
    assert "already" in refused.stderr
    assert live.try_run("tools", "add", "Bad Name", "--yes", "--", "true").returncode == 2
    add(live, "brief")
    assert "brief/echo" in live.run("tools", "list")
    live.run("tools", "remove", "brief")
    assert not (live.store / "servers" / "brief").exists()
    assert "brief" not in (live.store / "ctxfs.toml").read_text()
    assert "brief" not in (live.store / "tools.json").read_text()


def test_calls_are_listed_and_replayed(live: Live) -> None:
    run(live, "small/pid/run")
    lines = live.run("calls", "--tool", "small/pid").splitlines()
    number = lines[-1].split()[0]
    output = live.run("calls", "replay", number)
    assert output.strip().isdigit()
    assert live.run("calls", "replay", number) == output
    assert len(live.run("calls", "--tool", "small/pid").splitlines()) == len(lines)  # nothing ran
    assert live.run("calls", "replay", number, "--live").strip().isdigit()
    assert len(live.run("calls", "--tool", "small/pid").splitlines()) == len(lines) + 1
    assert live.try_run("calls", "replay", "c-nothing").returncode != 0


def test_another_store_is_mounted_over_stdio_and_over_http(live: Live, tmp_path: Path) -> None:
    """Mount ctxfs itself as a server of the later era: changed documents arrive, its templates lead to any file."""
    other = Live(tmp_path)
    other.run("init")
    other.run("mount", str(other.at))
    (other.at / "memory" / "shared" / "note.md").write_text("first\n")
    token = other.run("token", "issue", "agent:guest").strip()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    serving = subprocess.Popen(other.command("mcp", "--http", f"127.0.0.1:{port}"), stderr=subprocess.DEVNULL)
    third = Live(tmp_path / "third")
    third.store.parent.mkdir()
    third.run("init")
    try:
        os.environ["CTXFS_TEST_OTHER"] = token
        third.run("mount", str(third.at))
        url = f"http://127.0.0.1:{port}/mcp"
        added = ["tools", "add", "far", "--yes", "--url", url, "--token-env", "CTXFS_TEST_OTHER"]
        eventually("it is mounted over HTTP", lambda: _added(third, added, "far"))
        third.run("tools", "add", "near", "--yes", "--", *other.command("mcp"))
        for name in ("far", "near"):
            output = run(third, f"{name}/ctx_read/run", "--path", "memory/shared/note.md")
            assert "first" in output.stdout, output.stderr
            tree = third.at / "knowledge" / name / "ctx"
            assert (tree / "memory" / "shared" / "note.md").read_text() == "first\n"
            assert "AGENTS.md" in os.listdir(tree)
        assert "agent:guest" in run(third, "far/ctx_read/run", "--path", ".ctxfs/whoami").stdout
        assert run(third, "far/ctx_list/run", "--path", "memory").returncode == 0
        serving.terminate()
        serving.wait(20)
        gone = run(third, "far/ctx_list/run", "--path", "memory")
        assert gone.returncode == 1
        assert "not there" in gone.stderr
        eventually("it says so", lambda: status(third, "far").startswith(("down", "connecting")))
        assert (third.at / "knowledge/far/ctx/AGENTS.md").read_text()
    finally:
        os.environ.pop("CTXFS_TEST_OTHER", None)
        serving.kill()
        serving.wait()
        third.close()
        other.close()


def _added(live: Live, command: list[str], name: str) -> bool:
    if live.try_run(*command).returncode == 0:
        return True
    live.try_run("tools", "remove", name)
    return False
