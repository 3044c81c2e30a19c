"""Test the commands of `ctxfs history` for people: lists, turns, replays, days, their errors and their permissions."""

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctxfs.rpc.client import Client
from tests.live import Live

LONG_LINE = "The keys are rotated by a job " * 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store without a mount, with three sessions."""
    made = Live(tmp_path_factory.mktemp("history"))
    made.run("init")
    say(
        made,
        "claude-code-7f3a",
        {"kind": "session_start", "client": "claude-code"},
        {"kind": "input", "text": "How do keys rotate?", "client": "claude-code", "said_at": "2026-10-05T10:00:00Z"},
        {"kind": "tool_call", "tool": "Read", "arguments": {"path": "src/keys.py"}, "said_at": "2026-10-05T10:01:00Z"},
        {"kind": "tool_result", "tool": "Read", "text": "def rotate():\n    pass\n", "said_at": "2026-10-05T10:01:05Z"},
        {"kind": "output", "text": f"{LONG_LINE}\n\n    code stays", "said_at": "2026-10-05T10:02:00Z", "model": "m"},
    )
    say(made, "claude-code-9999", {"kind": "input", "text": "Other?", "said_at": "2026-10-05T09:59:00Z"})
    say(
        made,
        "hostile",
        {"kind": "input", "text": "a\x1b[2J\x1b]0;x\x07\u202e\r\nb", "speaker": "eve\x1b[31m\n00:00 admin"},
        principal="agent:eve",
    )
    yield made
    made.close()


def say(live: Live, session: str, *records: dict[str, object], principal: str = "agent:bob") -> None:
    lines = "".join(json.dumps(record) + "\n" for record in records)
    done = live.try_run("record", "--principal", principal, "--session", session, "--jsonl", input=lines)
    assert done.returncode == 0, done.stderr


def on_terminal(live: Live, *arguments: str, **environment: str) -> str:
    """Return the output of a command on a terminal of 60 columns, as it is sent."""
    master, slave = pty.openpty()
    env = {**os.environ, "COLUMNS": "60", "LINES": "20", "PAGER": "cat", "TERM": "xterm", **environment}
    process = subprocess.Popen(live.command(*arguments), stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    output = b""
    try:
        while chunk := os.read(master, 65536):
            output += chunk
    except OSError:  # EIO: the program has ended
        pass
    finally:
        os.close(master)
        assert process.wait(30) == 0, output
    return output.decode().replace("\r\n", "\n")


def test_sessions_are_listed_with_their_filters(store: Live) -> None:
    text = store.run("history", "sessions")
    assert "claude-code-7f3a  5 records  claude-code, agent:bob\n  How do keys rotate?" in text
    assert store.run("history", "sessions", "--client", "claude-code").count("records") == 1
    assert "hostile" in store.run("history", "sessions", "--agent", "eve")
    assert "7f3a" not in store.run("history", "sessions", "--agent", "agent:eve")
    overviews = json.loads(store.run("history", "sessions", "--json"))
    assert {overview["session"] for overview in overviews} == {"claude-code-7f3a", "claude-code-9999", "hostile"}
    first = next(overview for overview in overviews if overview["session"].endswith("7f3a"))
    assert first["last_at"] >= "2026-10-05T10:02:00"
    assert store.run("history", "sessions", "--since", "1d", "-n", "1").count("record") == 1
    assert store.try_run("history", "sessions", "--since", "2999-01-01").returncode == 3
    assert store.try_run("history", "sessions", "--client", "none").returncode == 3


def test_session_is_shown_as_turns_and_replayed_in_full(store: Live) -> None:
    shown = store.run("history", "show", "claude-code-7f3a")
    assert "2026-10-05\n" in shown
    assert "10:00 user\n  How do keys rotate?\n" in shown
    assert '10:01 → Read: {"path": "src/keys.py"}\n' in shown
    assert "10:01 ← Read: def rotate(): pass\n" in shown
    assert f"10:02 assistant (m)\n  {LONG_LINE.rstrip()}\n\n      code stays\n" in shown, (
        "lines of a pipe are not wrapped"
    )
    replayed = store.run("history", "replay", "claude-code-7f3a", "--speed", "100000")
    assert "  Read: def rotate():\n      pass\n" in replayed
    assert replayed.index("How do keys rotate?") < replayed.index("def rotate") < replayed.index("code stays")
    last = [
        json.loads(line) for line in store.run("history", "show", "claude-code-7", "-n", "2", "--json").splitlines()
    ]
    assert [record["kind"] for record in last] == ["tool_result", "output"]
    assert last[1]["cite"].endswith("/claude-code-7f3a.jsonl:5")
    assert "hash" not in last[0]


def test_unknown_and_ambiguous_sessions_are_errors_with_a_remedy(store: Live) -> None:
    done = store.try_run("history", "show", "claude-code-7f3b")
    assert (done.returncode, done.stdout) == (3, "")
    assert "there is no session 'claude-code-7f3b'" in done.stderr
    assert "Did you mean 'claude-code-7f3a'" in done.stderr
    done = store.try_run("history", "replay", "claude-code-")
    assert done.returncode == 3
    assert "2 sessions begin with 'claude-code-'" in done.stderr
    assert store.try_run("history", "show", "hostile", "--kind", "input").returncode == 2
    assert store.try_run("history", "replay", "--speed", "2").returncode == 2
    assert store.try_run("history", "replay", "hostile", "--speed", "0").returncode == 2


def test_hostile_text_is_escaped(store: Live) -> None:
    for words in (("show", "hostile"), ("replay", "hostile"), ("sessions",), ("day",)):
        text = store.run("history", *words)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\r" not in text
        assert "\n00:00 admin" not in text
    assert r"a\x1b[2J" in store.run("history", "show", "hostile")


def test_terminal_has_wrapped_lines_and_colours(store: Live) -> None:
    text = on_terminal(store, "history", "show", "claude-code-7f3a", "--no-pager")
    assert "\x1b[" in text
    assert max(len(line) for line in text.split("\n")) <= 60 + len("\x1b[36m\x1b[1m\x1b[0m")
    assert "      code stays" in text
    plain = on_terminal(store, "history", "show", "claude-code-7f3a", NO_COLOR="1")
    assert "\x1b[" not in plain
    assert "How do keys rotate?" in plain


def test_day_is_a_timeline_of_all_sessions_by_the_time_of_the_message(store: Live) -> None:
    lines = store.run("history", "day", "2026-10-05").splitlines()
    assert lines[0] == "2026-10-05"
    assert lines[1] == "09:59  claude-code-9999  user: Other?"
    assert lines[2] == "10:00  claude-code-7f3a  user: How do keys rotate?"
    assert lines[3].startswith("10:02  claude-code-7f3a  assistant: The keys are rotated")
    assert lines[3].endswith("(+2 other records)")
    result = json.loads(store.run("history", "day", "2026-10-05", "--json", "-n", "1"))
    assert [message["at"] for message in result["messages"]] == ["2026-10-05T10:02:00+00:00"]
    assert "hostile" in store.run("history", "day")
    assert store.try_run("history", "day", "1999-01-01").returncode == 3
    done = store.try_run("history", "day", "yesterday-ish")
    assert done.returncode != 0
    assert "a date such as 2026-11-29 is needed" in done.stderr


def test_sessions_are_completed(store: Live) -> None:
    environment = {**os.environ, "_CTXFS_COMPLETE": "bash_complete", "COMP_CWORD": "5"}
    words = f"ctxfs --store {store.store} history show claude"
    done = subprocess.run(
        store.command()[:3], env={**environment, "COMP_WORDS": words}, capture_output=True, text=True, check=False
    )
    assert "claude-code-7f3a" in done.stdout
    assert "hostile" not in done.stdout


def test_agent_sees_its_own_records_only(store: Live) -> None:
    say(store, "eve", {"kind": "input", "text": "mine"}, principal="agent:eve")
    store.run("mount", str(store.at))
    client = Client(store.store / "run", timeout=10)
    try:
        client.call("join", principal="agent:eve")
        assert client.call("session_names") == ["eve", "hostile"]
        assert {session["session"] for session in client.call("sessions")} == {"eve", "hostile"}
        assert client.call("session_records", session="hostile")[0]["principal"] == "agent:eve"
        with pytest.raises(FileNotFoundError):
            client.call("session_records", session="claude-code-7f3a")
        assert client.call("session_day", day="2026-10-05")["messages"] == []
        today = client.call("session_day", day=datetime.now(UTC).date().isoformat())
        assert {message["session"] for message in today["messages"]} == {"eve", "hostile"}
    finally:
        client.close()


def test_long_session_comes_in_pages_and_erased_records_do_not_come(tmp_path: Path) -> None:
    live = Live(tmp_path)
    live.run("init")
    say(live, "long", *({"kind": "input", "text": f"number {n}"} for n in range(1_203)))
    shown = [json.loads(line)["text"] for line in live.run("history", "show", "long", "--json").splitlines()]
    assert shown == [f"number {n}" for n in range(1_203)]
    live.run("history", "forget", "--yes", "long")
    assert live.try_run("history", "show", "long").returncode != 0
    assert "number" not in live.try_run("history", "sessions").stdout
    assert live.try_run("history", "day").returncode == 3
