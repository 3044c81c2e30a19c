"""Test that a tool runs as approved, with confirmed arguments, and without access to the rest of the machine."""

import contextlib
import json
import os
import py_compile
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ctxfs.daemon.session import LocalSession
from ctxfs.exec.definition import parse_tool
from ctxfs.exec.folder_provider import FolderProvider, digest_of
from ctxfs.exec.function_provider import FunctionProvider
from ctxfs.exec.outcome import Outcome
from ctxfs.exec.runner import run_tool
from ctxfs.exec.sandbox import Sandbox, find_bubblewrap
from ctxfs.exec.seccomp import filter_program
from ctxfs.model.errors import CommandError
from ctxfs.store.layout import Layout, create_store

PROBE = """
import ctypes, json, os, socket, sys
asked, found = json.load(sys.stdin), {}
def tried(name, act):
    try:
        act()
        found[name] = "done"
    except OSError as error:
        found[name] = error.strerror
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    if libc.syscall(*words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    for place in asked["sockets"]:
        tried(f"{kind} {place}", lambda: socket.socket(socket.AF_UNIX, kind).connect(place.replace("@", "\\0")))
tried("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
tried("packet", lambda: socket.socket(17, socket.SOCK_RAW))
tried("datagram pair", lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
tried("stream pair", lambda: socket.socketpair())
if os.uname().machine == "x86_64":
    for name, words in {"mount": (165, 0, b"/usr", 0, 32 | 4096, 0), "umount": (166, b"/usr", 2), "ptrace": (101, 0, 0, 0, 0),
            "keyctl": (250, 0, 0), "bpf": (321, 0, 0, 0), "userfaultfd": (323, 0), "io_uring": (425, 1, 0),
            "unshare": (272, 0x10000000), "setns": (308, 0, 0), "clone": (56, 0x10000011, 0, 0, 0, 0)}.items():
        tried(name, lambda: call(*words))
for place in asked["reads"]:
    tried(f"read {place}", lambda: os.listdir(place) if os.path.isdir(place) else open(place).read(1))
for place in asked["writes"]:
    tried(f"write {place}", lambda: open(place, "w"))
tried("own", lambda: open(os.environ["TMPDIR"] + "/x", "w"))
found["capabilities"] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")]
found["variables"] = sorted(os.environ)
found["processes"] = sum(name.isdigit() for name in os.listdir("/proc"))
print(json.dumps(found))
"""


def make_tool(folder: Path, script: str, *, open_world: bool = False) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.py").write_text(script)
    manifest = {"description": "d", "command": ["python3", "run.py"], "open_world": open_world, "timeout_seconds": 30}
    manifest["input"] = {"properties": {name: {} for name in ("sockets", "reads", "writes")}}
    return parse_tool("probe", str(folder), manifest)


def run(tool: Any, digest: str, walls: Sandbox | None = None, **arguments: Any) -> Outcome:
    async def go() -> Outcome:
        return await run_tool(tool, arguments, {}, lambda *_: None, walls or Sandbox(), digest)

    return trio.run(go)


@pytest.fixture(autouse=True)
def _shut_in() -> None:
    assert find_bubblewrap(), "bubblewrap is not installed, or does not work here: nothing of the walls is tested"


@pytest.mark.parametrize("open_world", [False, True])
def test_tool_has_no_capability_and_reaches_no_socket_of_the_machine(open_world: bool, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "secret").write_text("secret")
    socket_path, name = tmp_path / "daemon.sock", f"@ctxfs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        one.bind(str(socket_path))
        other.bind(name.replace("@", "\0"))
        one.listen()
        other.listen()
        tool = make_tool(tmp_path / "tool", PROBE, open_world=open_world)
        asked = {
            "sockets": [str(socket_path), name],
            "reads": [str(store / "secret"), "/etc/shadow", "/run", "/var", "/home", str(tmp_path / "daemon.sock")],
            "writes": [
                "/usr/x",
                "/tmp/x",
                "/x",
                str(tmp_path / "x"),
                str(tmp_path / "tool" / "run.py"),
                "run.py",
                "/etc/x",
            ],
        }
        done = run(tool, digest_of(Path(tool.folder)), Sandbox([str(store)]), **asked)
    assert not done.fault, (done.fault, done.stderr)
    report = json.loads(done.stdout)
    allowed = {key for key, value in report.items() if value == "done"}
    assert allowed == {"stream pair", "own"}
    assert set(report["capabilities"]) == {"0" * 16}
    assert not {
        variable for variable in report["variables"] if variable.startswith(("XDG", "SSH", "DBUS", "CTXFS_TOKEN"))
    }
    assert report["processes"] <= 4


def test_tool_outlives_the_thread_that_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.05)  # ten seconds otherwise
    tool = make_tool(tmp_path / "tool", "import time\ntime.sleep(0.5)\nprint('whole')\n")
    done = run(tool, digest_of(Path(tool.folder)))
    assert (done.exit_code, done.stdout) == (0, b"whole\n"), done


def test_filter_is_there_for_the_machines_that_are_supported() -> None:
    for machine in ("x86_64", "aarch64"):
        program = filter_program(machine)
        assert len(program) % 8 == 0
        assert 0 < len(program) // 8 < 4096
    assert filter_program("vax") == b""


def test_compiled_file_that_was_planted_does_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "tool"
    tool = make_tool(folder, "import helper\n")
    (folder / "helper.py").write_text("print('approved')\n")
    digest = digest_of(folder)
    assert run(tool, digest).stdout == b"approved\n"
    assert not (folder / "__pycache__").exists(), "a run leaves nothing in the folder"
    evil = tmp_path / "evil.py"
    evil.write_text("print('planted')\n")
    os.utime(evil, ns=((folder / "helper.py").stat().st_mtime_ns,) * 2)
    (folder / "__pycache__").mkdir()
    target = folder / "__pycache__" / f"helper.{sys.implementation.cache_tag}.pyc"
    py_compile.compile(str(evil), str(target), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    assert digest_of(folder) != digest
    with pytest.raises(PermissionError, match="changed since it was approved"):
        run(tool, digest)


@pytest.mark.parametrize("plant", [lambda at: at.symlink_to("/etc/hostname"), os.mkfifo], ids=["link", "fifo"])
@pytest.mark.parametrize("place", ["x", "__pycache__/x", "sub/x"])
def test_link_or_special_file_in_a_folder_is_refused(plant: Callable[[Path], None], place: str, tmp_path: Path) -> None:
    tool = make_tool(tmp_path / "tool", "print(1)\n")
    digest = digest_of(tmp_path / "tool")
    at = tmp_path / "tool" / place
    at.parent.mkdir(exist_ok=True)
    plant(at)
    with pytest.raises(CommandError):
        digest_of(tmp_path / "tool")
    with pytest.raises(PermissionError):
        run(tool, digest)


def test_program_that_runs_is_the_digested_copy(tmp_path: Path) -> None:
    folder = tmp_path / "tool"
    script = "import time\nopen(r'{}', 'a')\nprint(open(__file__).read().count('approved'), __file__)\n"
    tool = make_tool(folder, script.replace("open(r'{}', 'a')\n", "# approved\n"))
    done = run(tool, digest_of(folder))
    assert b"tool/run.py" in done.stdout
    assert str(folder).encode() not in done.stdout, "it is a private copy that runs"


def test_module_of_a_function_runs_from_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "offered.py"
    source.write_text('def said() -> str:\n    """Say it."""\n    return "approved"\n')
    evil = tmp_path / "evil.py"
    evil.write_text('def said() -> str:\n    """Say it."""\n    return "planted"\n')
    cache = tmp_path / "__pycache__" / f"offered.{sys.implementation.cache_tag}.pyc"
    cache.parent.mkdir()
    py_compile.compile(str(evil), str(cache), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    monkeypatch.syspath_prepend(str(tmp_path))
    approved: dict[str, Any] = {}
    shelf = FunctionProvider(approved.get, lambda: {"said": "offered:said"})
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    tool = shelf.tools()[0]["said"]
    digest = shelf.digest(tool)
    for expected, code in ((digest, 0), ("0" * 64, 1)):
        done = subprocess.run(
            tool.command, input="{}", env={**environment, "CTXFS_APPROVED": expected}, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (code, "approved" if code == 0 else ""), done.stderr


def test_self_description_runs_in_the_sandbox(tmp_path: Path) -> None:
    folder, trace = tmp_path / "tools" / "mine", tmp_path / "trace"
    folder.mkdir(parents=True)
    (folder / "run").write_text(f'#!/bin/sh\ntouch {trace} {folder}/x\necho \'{{"description": "d"}}\'\n')
    (folder / "run").chmod(0o755)
    shelf = FolderProvider(tmp_path / "tools", lambda _: None)
    assert shelf.definition(shelf.tools()[0]["mine"]) == {"description": "d"}
    assert not trace.exists()
    assert os.listdir(folder) == ["run"]


@pytest.fixture
def session(tmp_path: Path) -> Iterator[tuple[LocalSession, Layout]]:
    """Yield a session in this process, of a store with a destructive tool that reads a file."""
    layout = create_store(tmp_path / "store")
    folder = layout.tools / "deploy"
    folder.mkdir(parents=True)
    (folder / "tool.toml").write_text(
        'description = "d"\ncommand = ["sh", "run.sh"]\nread_only = false\ndestructive = true\nopen_world = false\n'
        '[input.properties.plan]\ntype = "string"\nx-ctx = "file"\n'
    )
    (folder / "run.sh").write_text("echo ran\n")
    opened = LocalSession(layout)
    opened.call("approve_tool", name="deploy")
    with contextlib.closing(opened):
        yield opened, layout


def refusal(opened: LocalSession, **more: Any) -> str:
    with pytest.raises(PermissionError) as raised:
        opened.call("call_tool", name="deploy", arguments={"plan": "pad/plan.md"}, **more)
    return str(raised.value.strerror)


def test_acceptance_is_of_the_content_and_not_of_the_path(session: tuple[LocalSession, Layout]) -> None:
    opened, layout = session
    plan = layout.tree / "pad" / "plan.md"
    plan.write_text("harmless")
    opened.call("join", principal="agent:alice")
    first = refusal(opened).rsplit("/", 1)[-1]
    plan.write_text("harmful")
    second = refusal(opened).rsplit("/", 1)[-1]
    assert second != first, "it is another question"
    trio.run(opened.app.memory.curator.decide, first, b"accept\n", str(opened.app.principal))
    assert refusal(opened).rsplit("/", 1)[-1] == second, "the accepted content is not the current content"
    plan.write_text("harmless")
    assert opened.call("call_tool", name="deploy", arguments={"plan": "pad/plan.md"})["text"] == "ran\n"


def test_confirmation_holds_for_the_content_that_was_shown(session: tuple[LocalSession, Layout]) -> None:
    opened, layout = session
    plan = layout.tree / "pad" / "plan.md"
    plan.write_text("harmless")
    digest = refusal(opened).rsplit("[", 1)[-1].rstrip("]")
    assert len(digest) == 64
    plan.write_text("harmful")
    assert "has to be confirmed" in refusal(opened, confirmed=True, content=digest)
    plan.write_text("harmless")
    done = opened.call("call_tool", name="deploy", arguments={"plan": "pad/plan.md"}, confirmed=True, content=digest)
    assert done["text"] == "ran\n"


def test_folder_behind_a_link_is_not_given_to_a_tool(session: tuple[LocalSession, Layout]) -> None:
    opened, layout = session
    for name in ("bob", "alice"):
        (layout.tree / "memory" / name).mkdir()
    (layout.tree / "memory" / "alice" / "link").symlink_to("../bob")
    opened.call("join", principal="agent:alice")
    with pytest.raises(OSError, match="link is in the way"):
        opened.call("call_tool", name="git", arguments={"command": "log", "repo": "memory/alice/link"})
