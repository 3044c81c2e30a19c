"""Test `run` and `call` on a real mount: tools as shell programs, and as transaction files."""

import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.exec.function_provider import FunctionProvider
from ctxfs.exec.sandbox import find_bubblewrap
from tests.live import Live, eventually
from tests.live import run_tool as run

ECHO = """description = "Say what it was asked"
command = ["cat"]
read_only = true
open_world = false
[input]
required = ["word"]
[input.properties.word]
type = "string"
[input.properties.maxRows]
type = "integer"
[input.properties.loud]
type = "boolean"
[input.properties.kinds]
type = "array"
items = { type = "string" }
[input.properties.yes]
type = "string"
[input.properties.deep]
type = "object"
"""
SIMPLE = 'description = "For a test"\ncommand = ["sh", "run.sh"]\nread_only = true\nopen_world = false\ntimeout_seconds = 20\n'
SELF = """#!/usr/bin/env python3
import json, sys
if "--schema" in sys.argv:
    print(json.dumps({"description": "Count the letters of a word", "read_only": True, "open_world": False,
        "inputSchema": {"properties": {"word": {"type": "string"}}, "required": ["word"]}}))
else:
    print(len(json.load(sys.stdin)["word"]))
"""
STEPS = """for n in 1 2 3; do printf '{"progress": 0.%s, "message": "step"}\\n' $n >&3; sleep 0.4; done; echo done"""
SIZE = """tr -d '{}"' | sed "s/.*file: //" | xargs wc -c | cut -d" " -f1"""
WALLS = """import json, os, socket, sys
asked = json.load(sys.stdin)
out = {"tree": os.environ.get("CTXFS_TREE", "")}
for name, place in asked["places"].items():
    try:
        out[name] = sorted(os.listdir(place))
    except OSError as error:
        out[name] = error.strerror
for name, place in asked["writes"].items():
    try:
        open(place, "w").write("mine")
        out[name] = "written"
    except OSError as error:
        out[name] = error.strerror
try:
    socket.create_connection(("127.0.0.1", asked["port"]), 2)
    out["network"] = "reached"
except OSError as error:
    out["network"] = "none"
print(json.dumps(out))
"""


def folder(live: Live, name: str, **files: str) -> Path:
    path = live.store / "tools" / name
    path.mkdir(parents=True)
    for file, text in files.items():
        (path / file.replace("__", ".")).write_text(text)
    return path


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("programs"))
    made.run("init")
    made.run("mount", str(made.at))
    made.run("mount", str(made.at.parent / "mnt-alice"), "--as", "agent:alice")
    for name, toml, script in (
        ("echo", ECHO, ""),
        ("fail", SIMPLE, "echo half; echo because >&2; exit 3"),
        ("hang", SIMPLE, "sleep 600"),
        ("quick", SIMPLE, "echo quick"),
        ("much", SIMPLE, "yes | head -c 1000000"),
        ("steps", SIMPLE, STEPS),
        ("size", SIMPLE + '[input.properties.file]\ntype = "string"\nx-ctx = "file"\n', SIZE),
        ("number", SIMPLE + '[output]\ntype = "object"\nrequired = ["n"]\n', "echo '{\"m\": 1}'"),
    ):
        folder(made, name, tool__toml=toml, run__sh=script + "\n")
        made.run("tools", "approve", name, "--yes")
    yield made
    made.close()


def shell(live: Live, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, cwd=live.at)


def test_arguments_are_flags_words_or_json(live: Live) -> None:
    def said(*words: str, stdin: str = "") -> Any:
        done = run(live, "echo", *words, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert said("--word", "a b") == {"word": "a b"}
    assert said("a b") == {"word": "a b"}
    assert said("a", "--maxRows", "3") == said("--max-rows", "3", "a") == {"word": "a", "maxRows": 3}
    assert said("a", "--loud") == {"word": "a", "loud": True}
    assert said("a", "--no-loud") == {"word": "a", "loud": False}
    assert said("a", "--kinds", "x", "--kinds", "y") == {"word": "a", "kinds": ["x", "y"]}
    assert said("a", "--deep", '{"b": [1]}') == {"word": "a", "deep": {"b": [1]}}
    assert said("a", "--yes", "of the tool") == {"word": "a", "yes": "of the tool"}
    assert said(stdin='{"word": "in"}') == {"word": "in"}
    assert said("--loud", "-", stdin='{"word": "in"}') == {"word": "in", "loud": True}
    assert said("--word", "--loud=") == {"word": "--loud="} if sys.version_info >= (3, 14) else True


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (("--word",), ""),
        (("--colour", "red", "a"), ""),
        (("a", "--maxRows", "many"), ""),
        (("a", "b"), ""),
        (("--loud",), ""),
        ((), "not json"),
        ((), "[1]"),
        ((), '{"word": 3}'),
        ((), "{}"),
    ],
)
def test_wrong_arguments_are_reported_and_nothing_starts(words: tuple[str, ...], stdin: str, live: Live) -> None:
    before = os.listdir(live.at / "tools" / "echo" / "calls")
    done = run(live, "echo", *words, stdin=stdin)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(live.at / "tools" / "echo" / "calls") == before


def test_tool_output_goes_to_stdout_and_stderr(live: Live) -> None:
    failed = run(live, "fail")
    assert (failed.returncode, failed.stdout, failed.stderr) == (1, "half\n", "because\n")
    whole = json.loads(run(live, "fail", "-o", "json").stdout)
    assert (whole["ok"], whole["fault"], whole["exit_code"], whole["text"]) == (False, "because", 3, "half\n")
    broken = run(live, "number")
    assert broken.returncode == 1
    assert "breaks its output schema" in broken.stderr


def test_tool_runs_from_xargs_make_and_pipes(live: Live) -> None:
    assert shell(live, "printf 'a\\nb\\n' | xargs -n1 tools/echo/run --word").stdout == '{"word": "a"}{"word": "b"}'
    (live.at.parent / "Makefile").write_text("all:\n\t@mnt/tools/quick/run\n")
    made = subprocess.run(
        ["make", "-C", live.at.parent, "-s"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert made.stdout.endswith("quick\n"), made.stderr
    assert shell(live, "set -o pipefail; tools/much/run | head -n1; echo ${PIPESTATUS[0]}").stdout == "y\n141\n"
    assert shell(live, "cd tools/quick && ./run && PATH=.:$PATH run").stdout == "quick\nquick\n"
    assert shell(live, "'tools/.search/say what it was asked/01 echo/run' --word found").stdout == '{"word": "found"}'
    (live.at.parent / "copy").write_bytes((live.at / "tools" / "quick" / "run").read_bytes())
    lost = subprocess.run([sys.executable, live.at.parent / "copy"], capture_output=True, text=True, input="")
    assert (lost.returncode, "tool.json cannot be read" in lost.stderr) == (127, True)


def test_files_are_named_as_the_shell_names_them(live: Live) -> None:
    (live.at / "pad" / "five.txt").write_text("12345")
    (live.at.parent / "seven.txt").write_text("1234567")
    assert run(live, "size", "--file", "mnt/pad/five.txt").stdout == "5\n"
    assert run(live, "size", "--file", "pad/five.txt").stdout == "5\n"
    assert run(live, "size", "--file", str(live.at / "pad" / "five.txt")).stdout == "5\n"
    assert (
        run(live, "size", "--file", "seven.txt").stdout == "7\n"
    )  # it is outside the tree, so its content is sent along
    missing = run(live, "size", "--file", "pad/six.txt")
    assert (missing.returncode, "No such file" in missing.stderr) == (127, True)
    (live.at / "memory" / "bob").mkdir(exist_ok=True)
    (live.at / "memory" / "bob" / "x.md").write_text("secret")
    assert run(live, "size", "--file", "memory/bob/x.md", at="mnt-alice").returncode == 127


def test_progress_shows_on_a_terminal_only(live: Live) -> None:
    assert "step" not in run(live, "steps").stderr
    main, terminal = pty.openpty()
    done = subprocess.run(
        [live.at / "tools/steps/run"], stdout=subprocess.PIPE, stderr=terminal, stdin=subprocess.DEVNULL, timeout=30
    )
    os.close(terminal)
    shown = os.read(main, 10_000).decode()
    os.close(main)
    assert done.stdout == b"done\n"
    assert "step" in shown
    assert "%" in shown


def test_ctrl_c_cancels_the_call(live: Live) -> None:
    # Background jobs of a shell ignore SIGINT, and this test may be part of one.
    command = ["env", "--default-signal=INT", str(live.at / "tools/hang/run")]
    hanging = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually("it runs", lambda: _children("sleep 600"))
    hanging.send_signal(2)
    stdout, complained = hanging.communicate(timeout=10)
    assert (hanging.returncode, stdout, complained) == (130, "", "")
    eventually("nothing is left of it", lambda: not _children("sleep 600"))


def _children(command: str) -> list[str]:
    return subprocess.run(["pgrep", "-f", f"^{command}$"], capture_output=True, text=True).stdout.split()


def test_call_is_written_to_and_read_on_one_handle(live: Live) -> None:
    output = shell(live, """cd tools/echo; exec 3<>call; echo '{"word": "x"}' >&3; cat <&3""").stdout
    answer = json.loads(output)
    assert (answer["ok"], answer["text"]) == (True, '{"word": "x"}')
    with open(live.at / "tools/echo/call", "r+b", buffering=0) as call:
        for piece in (b'{"wo', b'rd": ', b'"in pieces"}'):
            call.write(piece)
        call.seek(0)
        assert json.loads(call.read())["text"] == '{"word": "in pieces"}'
        with pytest.raises(OSError, match="busy"):
            call.write(b"{}")
    wrong = json.loads(shell(live, """cd tools/echo; exec 3<>call; echo '{"word": 1}' >&3; cat <&3""").stdout)
    assert (wrong["ok"], wrong["errno"]) == (False, "EINVAL")
    assert "word" in wrong["fault"]
    assert (live.at / "tools/echo/call").read_text().startswith("Write the arguments here")


def test_call_is_written_to_and_read_elsewhere(live: Live) -> None:
    calls = live.at / "tools" / "echo" / "calls"
    (live.at / "tools/echo/call").write_text('{"word": "elsewhere", "$call": {"id": "mine-1"}}')
    eventually("its result is there", (calls / "mine-1" / "result.json").exists)
    assert json.loads((calls / "mine-1" / "result.json").read_text())["ok"]
    assert (calls / "mine-1" / "result.md").read_text() == '{"word": "elsewhere"}'
    (live.at / "tools/echo/call").write_bytes(b"\xff{ never whole")
    refused = eventually("it is in the log", lambda: [line for line in live.errors() if "tools/echo/call" in str(line)])
    assert "no JSON object" in str(refused[-1])
    for wrong in ('{"word": 1}', '{"word": "again", "$call": {"id": "mine-1"}}', '{"word": "a", "$call": 3}'):
        with pytest.raises(OSError, match="Invalid argument"):
            (live.at / "tools/echo/call").write_text(wrong)


def test_closing_a_handle_before_its_response_cancels_the_call(live: Live) -> None:
    calls = live.at / "tools" / "hang" / "calls"
    before = set(os.listdir(calls))
    call = os.open(live.at / "tools/hang/call", os.O_RDWR)
    os.write(call, b"{}")
    with pytest.raises(InterruptedError):
        _read_once(call)
    eventually("it runs", lambda: _children("sleep 600"))
    os.close(call)
    (number,) = eventually("it is over", lambda: set(os.listdir(calls)) - before)
    assert json.loads((calls / number / "result.json").read_text())["fault"] == "it was cancelled"


def _read_once(descriptor: int) -> bytes:
    """Read once by the system call, because Python retries an interrupted read."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(100)
    got = libc.read(descriptor, buffer, 100)
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw[:got]


def test_fifty_simultaneous_calls_finish_independently(live: Live) -> None:
    done: dict[int, subprocess.CompletedProcess[str]] = {}
    hanging = [subprocess.Popen([live.at / "tools/hang/run"], stderr=subprocess.DEVNULL) for _ in range(5)]

    def one(number: int) -> None:
        done[number] = run(live, "fail") if number < 10 else run(live, "echo", f"w{number}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(45)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert time.monotonic() - begun < 30
    assert all(done[number].returncode == 1 for number in range(10))
    assert all(done[number].stdout == f'{{"word": "w{number}"}}' for number in range(10, 45))
    assert all(process.poll() is None for process in hanging)
    for process in hanging:
        process.send_signal(2)
        process.wait(10)
    eventually("nothing is left of them", lambda: not _children("sleep 600"))


def test_self_describing_program_is_queried_on_approval(live: Live) -> None:
    tool_folder = folder(live, "letters", run=SELF)
    (tool_folder / "run").chmod(0o755)
    assert "Not approved yet" in (live.at / "tools/letters/README.md").read_text()
    assert run(live, "letters", "abc").returncode == 2  # its arguments are undeclared
    assert '+ "description": "Count the letters of a word"' in live.run("tools", "approve", "letters", "--yes")
    assert run(live, "letters", "abc").stdout == "3\n"
    assert run(live, "letters", "abc", at="mnt-alice").stdout == "3\n"
    (tool_folder / "run").write_text(SELF.replace("letters of a word", "characters"))
    changed = run(live, "letters", "abc")
    assert (changed.returncode, "changed since it was approved" in changed.stderr) == (126, True)
    shown = live.run("tools", "approve", "letters", "--yes")
    assert '- "description": "Count the letters of a word"' in shown
    (tool_folder / "run").write_text("#!/bin/sh\necho nonsense\n")
    silent = live.try_run("tools", "approve", "letters", "--yes")
    assert (silent.returncode, "prints no JSON" in silent.stderr) == (1, True)


def test_tools_of_a_source_are_offered_after_permission_by_a_person(live: Live, tmp_path: Path) -> None:
    source = tmp_path / "project"
    (source / "tools" / "greet").mkdir(parents=True)
    (source / "tools" / "greet" / "tool.toml").write_text(SIMPLE)
    (source / "tools" / "greet" / "run.sh").write_text("echo hello\n")
    live.run("add", str(source), "--name", "plain")
    assert "greet" not in os.listdir(live.at / "tools")
    live.run("remove", "plain")
    live.run("add", str(source), "--name", "allowed", "--tools")
    refused = run(live, "greet")
    assert (refused.returncode, "not been approved" in refused.stderr) == (126, True)
    live.run("tools", "approve", "greet", "--yes")
    assert run(live, "greet").stdout == "hello\n"
    (source / "tools" / "greet" / "run.sh").write_text("echo changed\n")
    assert run(live, "greet").returncode == 126
    live.run("remove", "allowed")
    assert "greet" not in os.listdir(live.at / "tools")


def test_a_python_function_is_a_tool_by_its_hints() -> None:
    approved: dict[str, Any] = {}
    shelf = FunctionProvider(
        approved.get, lambda: {"printable": "ctxfs.model.path:printable", "gone": "no_such_module:x"}
    )
    unasked = shelf.tools()[0]["printable"]
    assert "Not approved yet" in unasked.description
    approved["printable"] = shelf.definition(unasked)
    tool = shelf.tools()[0]["printable"]
    assert tool.schema["required"] == ["text"]
    assert tool.destructive  # no hint declares it harmless
    assert len(shelf.digest(tool)) == 64
    done = subprocess.run(tool.command, input='{"text": "w\\u00f6rd"}', capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "wörd")
    wrong = subprocess.run(tool.command, input='{"text": 3}', capture_output=True, text=True)
    assert (wrong.returncode, "ValidationError" in wrong.stderr) == (1, True)
    with pytest.raises(Exception, match="prints no JSON"):
        shelf.definition(shelf.tools()[0]["gone"])


def test_a_tool_that_is_shut_in_sees_the_tree_as_its_caller_and_no_other_way(live: Live) -> None:
    assert find_bubblewrap(), (
        "bubblewrap is not installed: make system-test installs it, and without it nothing is tested here"
    )
    import socket

    for name, marks in (("reader", "read_only = true"), ("writer", "read_only = false\ndestructive = false")):
        toml = f'description = "d"\ncommand = ["python3", "run.py"]\n{marks}\nopen_world = false\n[input.properties.places]\n'
        toml += "[input.properties.writes]\n[input.properties.port]\n"
        folder(live, name, tool__toml=toml, run__py=WALLS)
        live.run("tools", "approve", name, "--yes")
    config = live.store / "ctxfs.toml"
    config.write_text(
        config.read_text() + '\n[[rule]]\nprincipal = "agent:alice"\npath = "tools/writer"\nverbs = "rx"\n'
    )
    eventually(
        "the rule is in force", lambda: "you may not" not in run(live, "writer", "--help", at="mnt-alice").stderr
    )
    alice = live.at.parent / "mnt-alice"
    (live.at / "memory" / "bob").mkdir(exist_ok=True)
    (live.at / "memory" / "bob" / "x.md").write_text("bob's")
    (alice / "memory" / "alice").mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        memory = alice / "memory"
        asked = {
            "places": {"store": live.store, "owner": live.at, "memory": memory, "bob": memory / "bob"},
            "writes": {
                "host": live.at.parent / "host.txt",
                "own": memory / "alice" / "new.md",
                "others": memory / "bob" / "x.md",
            },
            "port": server.getsockname()[1],
        }
        for name in ("reader", "writer"):
            done = run(live, name, stdin=json.dumps(asked, default=str), at="mnt-alice")
            assert done.returncode == 0, done.stderr
            result = json.loads(done.stdout)
            assert result["tree"] == str(alice)
            assert result["store"] in ([], ["tools"])  # but for the tool itself
            assert result["owner"] == []
            assert result["memory"] == ["alice", "shared"]
            assert "No such" in result["bob"]
            assert result["network"] == "none"
            assert result["host"] == "Read-only file system"
            assert result["others"] != "written"
            assert result["own"] == ("written" if name == "writer" else "Read-only file system")
    assert (live.at / "memory" / "alice" / "new.md").read_text() == "mine"
    assert (live.at / "memory" / "bob" / "x.md").read_text() == "bob's"
