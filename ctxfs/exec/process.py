"""Running a tool: a process group with limits, arguments as JSON on its stdin; nothing of it is left when the call ends.

A tool may say how far it is by lines of JSON on descriptor 3: `{"progress": 0.4, "message": "…"}`. Where bubblewrap is installed a tool
sees the machine read-only and without the store, a temporary folder of its own, a network only if it says that it reaches out, and the
tree as its caller does, at $CTXFS_TREE, if that is mounted.
"""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path as HostPath
from typing import Any

import trio

from ctxfs.exec.definition import Tool
from ctxfs.exec.outcome import Outcome, Progress

_INSIDE = ("--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid")
_CHUNK = 65_536
_GRACE_SECONDS = 2.0
_LAST_WORDS_SECONDS = 0.2
_MOST_STDERR = 100_000
_MOST_FILES_OPEN = 256
_LONGEST_NEWS = 4096


@dataclass(frozen=True, slots=True)
class Walls:
    """What a tool that is shut in does not see (host folders), and where the tree is mounted for its caller; empty: nowhere.
    `settings`: variables that it is given besides; not `up`: it is not shut in.
    """

    hidden: Sequence[str] = ()
    tree: str = ""
    up: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)


def sandbox() -> str:
    """The program that shuts tools in; empty if it is not installed, or does not work here. Blocks for a moment the first time."""
    program = shutil.which("bwrap") or ""
    return program if program and _works(program) else ""


@functools.cache
def _works(program: str) -> bool:
    """False where the kernel, or a container, lets nobody make namespaces."""
    try:
        done = subprocess.run([program, *_INSIDE, "--unshare-net", "true"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


async def run_tool(
    tool: Tool, arguments: Mapping[str, Any], brought: Mapping[str, bytes | str], progress: Progress, walls: Walls
) -> Outcome:
    """Run a tool; `brought`: contents of the arguments that are files of the tree, of which it gets copies, and host paths of
    folders. Cancelling it ends it.
    """
    with tempfile.TemporaryDirectory(prefix="ctxfs-tool-") as scratch:
        given = dict(arguments)
        for number, (name, data) in enumerate(brought.items()):
            if isinstance(data, str):
                given[name] = data
                continue
            copy = HostPath(scratch) / f"{number}-{plain_name(str(arguments[name]))}"
            copy.write_bytes(data)
            given[name] = str(copy)
        return await _run(
            tool, json.dumps(given, ensure_ascii=False).encode("utf-8", "replace"), scratch, progress, walls
        )


def plain_name(path: str) -> str:
    """Return the name of a copy: the end of the file's own, of letters, digits, `.`, `_` and `-` alone.

    A name that others chose means nothing where a program takes it into an address, an option or a command.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(path))[-100:] or "file"


def command_of(tool: Tool, scratch: str, bwrap: str, walls: Walls) -> list[str]:
    """The whole command; a program in the tool's own folder goes before one on the PATH."""
    first, *rest = tool.command
    own = HostPath(tool.folder) / first
    program = str(own) if own.is_file() else sys.executable if tool.builtin and first == "python3" else first
    command = [program, *rest]
    if not bwrap:
        return command
    shut = list(_INSIDE)
    for place in walls.hidden:
        shut += ["--tmpfs", place]
    shut += ["--ro-bind", tool.folder, tool.folder, "--bind", scratch, scratch]
    if walls.tree:  # it is the caller's own mount, which lets nobody do more than its principal may
        shut += ["--ro-bind" if tool.read_only else "--bind", walls.tree, walls.tree]
    net = [] if tool.open_world else ["--unshare-net"]
    return [bwrap, *shut, *net, "--die-with-parent", "--chdir", tool.folder, "--", *command]


async def _run(tool: Tool, said: bytes, scratch: str, progress: Progress, walls: Walls) -> Outcome:
    begun = time.monotonic()
    news, theirs = os.pipe()
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    environment |= {"HOME": scratch, "TMPDIR": scratch, "CTXFS_PROGRESS": "3"}
    environment |= walls.settings
    if walls.tree:
        environment["CTXFS_TREE"] = walls.tree
    start = partial(
        trio.lowlevel.open_process,
        limited(tool, command_of(tool, scratch, sandbox() if walls.up else "", walls), theirs),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tool.folder,
        env=environment,
        start_new_session=True,
        pass_fds=(theirs,),
    )
    try:
        process = await start()
    except OSError as error:
        os.close(news)
        return Outcome(b"", b"", None, 0.0, f"it cannot be started: {error.strerror}")
    finally:
        os.close(theirs)
    out, err, over = bytearray(), bytearray(), list[str]()
    try:
        with trio.move_on_after(tool.timeout_seconds) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_feed, process, said)
                nursery.start_soon(_hear, news, progress)
                ended = trio.Event()
                nursery.start_soon(_complain, process, err, ended)
                await _collect(process.stdout, out, tool.output_bytes, over)
                if not over:
                    await process.wait()
                    with trio.move_on_after(_LAST_WORDS_SECONDS):  # a child may hold it open
                        await ended.wait()
                nursery.cancel_scope.cancel()
        fault = over[0] if over else f"it took more than {tool.timeout_seconds:g} s" if limit.cancelled_caught else ""
    finally:
        with trio.CancelScope(shield=True):
            await _end(process)
    return Outcome(bytes(out), bytes(err), process.returncode, time.monotonic() - begun, fault)


def limited(tool: Tool, command: list[str], news: int) -> list[str]:
    """The command with its limits, and with descriptor `news` as its third. A shell sets them: a process of many threads should run
    nothing of its own between fork and exec.
    """
    limits = f"ulimit -v {tool.memory_mb * 1024}; ulimit -t {int(tool.timeout_seconds) + 1}; ulimit -n {_MOST_FILES_OPEN}; ulimit -c 0"
    moved = "" if news == 3 else f"3>/dev/fd/{news}"  # some shells know numbers of one digit only
    return ["/bin/sh", "-c", f'{limits}; exec "$@" {moved}', tool.name, *command]


async def _feed(process: trio.Process, said: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(trio.BrokenResourceError):  # it reads no arguments
        await process.stdin.send_all(said)
    await process.stdin.aclose()


async def _complain(process: trio.Process, err: bytearray, ended: trio.Event) -> None:
    await _collect(process.stderr, err, _MOST_STDERR, None)
    ended.set()


async def _collect(stream: Any, into: bytearray, most: int, over: list[str] | None) -> None:
    """Read to the end; beyond `most` bytes what comes is thrown away, or ends the run (`over`)."""
    while data := await stream.receive_some(_CHUNK):
        into += data[: max(0, most - len(into))]
        if over is not None and len(data) > 0 and len(into) >= most:
            over.append(f"it said more than {most} bytes")
            return


async def _hear(news: int, progress: Progress) -> None:
    buffer = b""
    async with trio.lowlevel.FdStream(news) as stream:
        while data := await stream.receive_some(_LONGEST_NEWS):
            *lines, buffer = (buffer + data).split(b"\n")
            buffer = buffer[-_LONGEST_NEWS:]
            for line in lines:
                with contextlib.suppress(ValueError, TypeError, AttributeError):
                    told = json.loads(line)
                    progress(min(max(float(told["progress"]), 0.0), 1.0), str(told.get("message", ""))[:200])


async def _end(process: trio.Process) -> None:
    """Whatever is left of the group: asked to end, then ended."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with trio.move_on_after(seconds):
            await process.wait()
            if number == signal.SIGTERM:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # children that outlived it
            break
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            await stream.aclose()
