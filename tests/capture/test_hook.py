"""The hook of each client, run as the client runs it; it never fails, never answers by accident, never holds up."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ctxfs.capture.client_events import MAX_TEXT_CHARS, parse_payload, records_of
from ctxfs.capture.client_hooks import HOOK_CLIENTS, HookCommand
from ctxfs.capture.hook import DEFAULT_RECALL_TOKENS, parse_arguments
from ctxfs.eventlog import capture_spool
from ctxfs.store.layout import Layout
from tests.capture.clients import ANSWER, EVENTS, SESSIONS
from tests.live import Live

PROGRAM = (sys.executable, "-m", "ctxfs")


@pytest.fixture
def store(layout: Layout) -> Path:
    return layout.root


def run_hook(
    store: Path, client: str, event: str, stdin: bytes, principal: str = "", **options: Any
) -> "subprocess.CompletedProcess[bytes]":
    """Run the installed command in a shell, as clients do."""
    command = HookCommand(PROGRAM, str(store), client, principal).line(event)
    return subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, timeout=30, **options)


def spooled(store: Path) -> list[dict[str, Any]]:
    file = store / "history" / "capture" / "spool.jsonl"
    return [json.loads(line) for line in file.read_bytes().splitlines() if line.strip()] if file.exists() else []


def record_lines(live: Live, session: str) -> list[dict[str, Any]]:
    output = live.try_run("history", "show", "--session", session, "--json").stdout
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("client", sorted(EVENTS))
def test_session_of_a_client_is_recorded(client: str, tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    assert set(EVENTS[client]) == set(HOOK_CLIENTS[client].events), "each event of the client is tried"
    for event, payload in EVENTS[client].items():
        done = run_hook(live.store, client, event, json.dumps(payload).encode())
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    records = record_lines(live, SESSIONS[client])
    kinds = [record["kind"] for record in records]
    assert kinds == ["session_start", "input", *_middle(client), "compaction", "session_end"]
    assert records[1]["text"].strip() == "Which port does the till use?"
    assert next(record for record in records if record["kind"] == "output")["text"] == ANSWER
    for record in records:
        assert record["client"] == ("gemini" if client == "gemini-cli" else client)
        assert record["client_session"] and record["origin"] == "capture" and record["project"] == "/home/ada/shop"
        assert record["said_at"].endswith("+00:00")
        assert record["principal"].startswith("human:")
    text = json.dumps(records)
    assert "quetzal-4711" not in text, "what is private is never recorded"
    assert "ada@example.org" not in text
    assert "quetzal-4711" not in "".join(path.read_text() for path in live.store.rglob("*.jsonl"))


def _middle(client: str) -> list[str]:
    tools = ["tool_call", "tool_result"]
    return ["output", *tools] if client == "cursor" else [*tools, "output"]


def test_principal_of_the_installation_is_that_of_the_records(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    payload = EVENTS["codex"]["prompt"]
    run_hook(live.store, "codex", "prompt", json.dumps(payload).encode(), "agent:coder")
    run_hook(live.store, "codex", "prompt", json.dumps({**payload, "turn_id": "8"}).encode(), "no principal")
    first, second = record_lines(live, SESSIONS["codex"])
    assert first["principal"] == "agent:coder"
    assert second["principal"].startswith("human:")


def test_cursor_with_hooks_of_claude_code_records_each_event_once(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    names = {"prompt": "UserPromptSubmit", "tool": "PostToolUse", "compact": "PreCompact", "session-end": "SessionEnd"}
    for event, payload in EVENTS["cursor"].items():
        run_hook(live.store, "cursor", event, json.dumps(payload).encode())
        if event in names:
            payload = {**payload, "hook_event_name": names[event], "session_id": payload["conversation_id"]}
            run_hook(live.store, "claude-code", event, json.dumps(payload).encode())
    kinds = [record["kind"] for record in record_lines(live, SESSIONS["cursor"])]
    assert kinds == ["session_start", "input", *_middle("cursor"), "compaction", "session_end"]
    assert live.try_run("history", "sessions", "--client", "claude-code", "--json").stdout.strip() in ("", "[]")


def test_status_names_the_events_that_wait_for_a_daemon(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    assert "capture" not in live.run("status")
    for text in ("one", "two"):
        run_hook(live.store, "codex", "prompt", json.dumps({"session_id": "s", "prompt": text}).encode())
    (live.store / "history" / "capture" / "dropped").write_text(f"{3:020} {1:020} {2:020}\n")
    lines = [line for line in live.run("status").splitlines() if line.startswith("capture")]
    assert lines[0].startswith("capture    2 events of clients waiting")
    assert lines[1].startswith("capture    3 events lost")
    assert json.loads(live.run("status", "--json"))["capture"] == {"waiting": 2, "dropped": 3}
    live.run("history", "show", "codex-s")
    assert json.loads(live.run("status", "--json"))["capture"] == {"waiting": 0, "dropped": 0}


BAD_INPUT = {
    "nothing": b"",
    "no JSON": b"hello",
    "a list": b"[1, 2]",
    "a text": b'"prompt"',
    "binary": bytes(range(256)) * 100,
    "null": b"null",
    "too deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no message": b'{"session_id": "s"}',
    "wrong types": b'{"session_id": 7, "prompt": {"a": 1}, "cwd": [], "workspace_roots": 3}',
}


@pytest.mark.parametrize("name", BAD_INPUT)
@pytest.mark.parametrize("event", ["prompt", "stop", "tool"])
def test_bad_input_is_no_answer_and_no_failure(store: Path, name: str, event: str) -> None:
    done = run_hook(store, "claude-code", event, BAD_INPUT[name])
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"\n") <= 1
    assert b"Traceback" not in done.stderr
    assert not spooled(store)


@pytest.mark.parametrize(
    "arguments",
    [
        ["capture", "hook"],
        ["capture", "hook", "explode", "--client", "codex", "-h-"],
        ["capture", "hook", "prompt", "--client"],
        ["capture", "hook", "prompt", "--unknown", "--recall=x"],
        ["--store", "/nowhere/at/all", "capture", "hook", "prompt", "--client", "codex"],
        ["--store=/nowhere/at/all", "capture", "hook", "prompt", "--client", "codex"],
    ],
)
def test_bad_arguments_are_no_failure(arguments: list[str], layout: Layout) -> None:
    environment = {**os.environ, "CTXFS_STORE": str(layout.root)}
    done = subprocess.run(
        [*PROGRAM, *arguments], input=b'{"prompt": "x"}', capture_output=True, timeout=30, env=environment
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"\n") <= 1


def test_options_are_parsed() -> None:
    words = ["--store", "/s", "capture", "hook", "prompt", "--client=cursor", "--as", "agent:a", "--recall"]
    assert parse_arguments(words) == ("prompt", "cursor", "/s", "agent:a", DEFAULT_RECALL_TOKENS)
    assert parse_arguments(["stop", "--recall=250"]).recall == 250
    assert parse_arguments(["stop", "--recall=-1"]).recall == 0


@pytest.mark.parametrize("client", sorted(EVENTS))
def test_event_and_client_are_recognised_without_options(client: str, store: Path) -> None:
    for payload in EVENTS[client].values():
        for words in ([], [payload["hook_event_name"]]):
            command = [*PROGRAM, "--store", str(store), "capture", "hook", *words]
            done = subprocess.run(command, input=json.dumps(payload).encode(), capture_output=True, timeout=30)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    clients = {
        event["client"] for event in spooled(store) if event["record"]["kind"] in ("input", "output", "compaction")
    }
    assert client in clients


def test_store_of_the_environment_is_used_without_an_option(layout: Layout, tmp_path: Path) -> None:
    for environment in ({"CTXFS_STORE": str(layout.root)}, {"XDG_DATA_HOME": str(tmp_path / "none")}):
        done = subprocess.run(
            [*PROGRAM, "capture", "hook", "prompt", "--client", "codex"],
            input=b'{"prompt": "x", "session_id": "s"}',
            capture_output=True,
            timeout=30,
            cwd="/",
            env={**{k: v for k, v in os.environ.items() if k != "CTXFS_STORE"}, **environment},
        )
        assert (done.returncode, done.stdout) == (0, b"")
    assert b"no store" in done.stderr
    assert len(spooled(layout.root)) == 1


def test_long_input_is_cut_and_the_record_has_the_sizes(store: Path) -> None:
    text = "<private>secret</private>" + "é" * 6_000_000
    stdin = json.dumps({"session_id": "s", "cwd": "/x", "prompt": text}, ensure_ascii=False).encode()
    done = run_hook(store, "claude-code", "prompt", stdin)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (event,) = spooled(store)
    record = event["record"]
    assert record["text"] == "é" * MAX_TEXT_CHARS
    assert record["client_session"] == "s"
    assert record["cut"]["input_bytes"] == len(stdin)
    assert record["cut"]["characters"] > MAX_TEXT_CHARS


def test_private_text_that_the_cut_leaves_open_is_removed(store: Path) -> None:
    stdin = json.dumps({"session_id": "s", "prompt": "a<private>" + "secret " * 2_000_000 + "</private>"}).encode()
    run_hook(store, "claude-code", "prompt", stdin)
    assert spooled(store)[0]["record"]["text"] == "a"


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_damaged_object_gives_its_members_before_the_damage(cut: int) -> None:
    whole = json.dumps({"session_id": "s\\1", "a": {"b": [1]}, "prompt": 'say "ä\u20ac\\" twice'})
    payload = parse_payload(whole[: len(whole) - cut].encode(), is_cut=True)
    assert payload["session_id"] == "s\\1"
    assert 'say "ä\u20ac\\" twice'.startswith(payload.get("prompt", ""))


def test_record_of_a_deep_value_is_bounded_and_clean() -> None:
    value: Any = "<private>x</private>"
    for _ in range(900):
        value = [value]
    records = records_of("tool", "codex", {"tool_name": "t", "tool_input": value}, time.time_ns())
    assert "x" not in json.dumps(records[0]["data"])


def test_stdin_that_stays_open_is_not_waited_for(store: Path) -> None:
    command = HookCommand(PROGRAM, str(store), "codex").line("prompt")
    process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(b'{"session_id": "s", "prompt": "x"}\n')
    process.stdin.flush()
    assert process.wait(timeout=10) == 0
    process.stdin.close()
    assert process.stdout is not None
    assert process.stdout.read() == b""
    process.stdout.close()
    assert len(spooled(store)) == 1


def test_hooks_at_once_lose_nothing(store: Path) -> None:
    def run(number: int) -> int:
        stdin = json.dumps({"session_id": "s", "prompt": f"prompt {number}"}).encode()
        return run_hook(store, "codex", "prompt", stdin).returncode

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, range(40))) == {0}
    texts = {event["record"]["text"] for event in spooled(store)}
    others = (store / "history" / "capture").glob("own-*.jsonl")
    texts |= {json.loads(path.read_bytes())["record"]["text"] for path in others}
    assert texts == {f"prompt {number}" for number in range(40)}


def test_full_disk_is_no_failure_and_leaves_no_part_of_a_line(store: Path) -> None:
    payload = json.dumps({"session_id": "s", "prompt": "x" * 3000}).encode()

    def limit() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    outcomes = [run_hook(store, "codex", "prompt", payload, preexec_fn=limit) for _ in range(3)]
    assert [(done.returncode, done.stdout) for done in outcomes] == [(0, b"")] * 3
    assert outcomes[-1].stderr.count(b"\n") == 1
    assert len(spooled(store)) == 1
    count, _, _ = capture_spool.parse_dropped((store / "history/capture/dropped").read_bytes())
    assert count == 2


@pytest.fixture
def read_only(store: Path) -> Iterator[Path]:
    (store / "history").mkdir(exist_ok=True)
    (store / "history" / "capture").write_text("a file where the folder should be")
    yield store


def test_store_that_cannot_be_written_is_no_failure(read_only: Path) -> None:
    done = run_hook(read_only, "codex", "prompt", b'{"session_id": "s", "prompt": "x"}')
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.count(b"\n") == 1
    assert "not recorded" in (read_only / "run" / "capture.log").read_text(), "it is logged"


def test_unexpected_exception_is_no_failure(store: Path) -> None:
    code = (
        "import sys, ctxfs.capture.hook as hook\n"
        "def fail(*_, **__): raise MemoryError('boom')\n"
        "hook.records_of = fail\n"
        f"sys.exit(hook.run_hook(['prompt', '--client', 'codex', '--store', {str(store)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=b'{"prompt": "x"}', capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"MemoryError" in done.stderr
    assert b"Traceback" not in done.stderr


def test_hook_imports_neither_the_command_line_nor_third_party_modules() -> None:
    code = "import sys; sys.argv[1:] = ['capture', 'hook']; import ctxfs.capture.hook; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    modules = set(done.stdout.split())
    assert not {"click", "msgpack", "trio", "dataclasses", "asyncio"} & modules
    assert not {name for name in modules if name.startswith(("ctxfs.cli", "ctxfs.store", "ctxfs.rpc"))}
