"""Runs of programs as tools: a process group with limits, arguments as JSON on stdin, ended completely with the call.

A tool may report its progress by lines of JSON on descriptor 3: `{"progress": 0.4, "message": "…"}`. Where bubblewrap
is installed it runs in a sandbox (`sandbox.py`). If the tree is mounted for the caller, the tool sees that mount at
$CTXFS_TREE.
"""

import contextlib
import errno
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path as HostPath
from typing import Any

import trio

from ctxfs.exec.definition import REPOSITORY, Tool
from ctxfs.exec.folder_provider import copy_folder
from ctxfs.exec.outcome import Outcome, Progress
from ctxfs.exec.sandbox import Sandbox, SandboxView, find_bubblewrap, open_filter, sandboxed_command
from ctxfs.lifeline import Lifeline
from ctxfs.model.errors import CommandError, path_error
from ctxfs.process_group import LAST_WORDS_SECONDS, collect, collect_within, end_group, feed, start_group
from ctxfs.store import rooted_fs
from ctxfs.threads import blocking

_MAX_STDERR_BYTES = 100_000
_MAX_OPEN_FILES = 256
_MAX_PROGRESS_BYTES = 4096


async def run_tool(
    tool: Tool,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, bytes | str],
    progress: Progress,
    confinement: Sandbox,
    approved: str = "",
) -> Outcome:
    """Run a tool. Cancelling ends it.

    `inputs` holds the contents of file arguments, of which the tool gets copies, and host paths of folder arguments.
    `approved` is the digest of the tool's folder at its approval; the tool runs from a copy with this digest.

    Raise OSError EACCES for a folder with another digest, and for a folder argument that is absent or reached through a
    link.
    """
    with tempfile.TemporaryDirectory(prefix="ctxfs-tool-") as folder, contextlib.ExitStack() as stack:
        scratch = os.path.join(os.path.realpath(folder), "call")
        os.mkdir(scratch)
        if approved:
            tool = await blocking(_copy_tool, tool, os.path.join(os.path.realpath(folder), "tool"), approved)
        values, folders = dict(arguments), []
        for number, (name, data) in enumerate(inputs.items()):
            if isinstance(data, str):
                values[name] = data
                folders += _open_folders(tool, name, data, confinement, stack)
                continue
            copy = HostPath(scratch) / f"{number}-{plain_name(str(arguments[name]))}"
            copy.write_bytes(data)
            values[name] = str(copy)
        payload = json.dumps(values, ensure_ascii=False).encode("utf-8", "replace")
        return await _run(tool, payload, SandboxView(tool.folder, scratch, folders), progress, confinement)


def _copy_tool(tool: Tool, target: str, approved: str) -> Tool:
    """Return the tool with a private copy of its folder. Raise OSError EACCES if its digest is not the approved one."""
    try:
        digest = copy_folder(HostPath(tool.folder), HostPath(target))
    except CommandError as error:
        raise path_error(errno.EACCES, f"tools/{tool.name}", error.message) from error
    if digest != approved:
        raise path_error(errno.EACCES, f"tools/{tool.name}", "it has changed since it was approved")
    return replace(tool, folder=target)


def _open_folders(
    tool: Tool, name: str, folder: str, confinement: Sandbox, stack: contextlib.ExitStack
) -> list[tuple[int, str]]:
    """Return (descriptor, path) of the folders that a folder argument binds into the sandbox.

    These are the folder itself, and the `.git` of the repository that contains it if the argument requests it.
    """
    paths = [folder]
    if any(argument.name == name and argument.of == REPOSITORY for argument in tool.paths):
        paths += _git_folders(folder, ceiling_of(folder, confinement))
    folders = []
    for path in paths:
        try:
            fd = rooted_fs.open_directory("/", HostPath(path).parts[1:])
        except OSError as error:
            raise path_error(errno.EACCES, name, "it is no folder, or a link is in the way") from error
        stack.callback(os.close, fd)
        folders.append((fd, path))
    return folders


def _git_folders(start: str, ceiling: str) -> list[str]:
    """Return the `.git` of the nearest ancestor that has one.

    The result is empty if that is in the folder itself, or is no folder.
    """
    for folder in (HostPath(start), *HostPath(start).parents):
        if str(folder) == ceiling:
            break
        git = folder / ".git"
        if os.path.lexists(git):
            is_own = str(folder) == start or not git.is_dir() or git.is_symlink()
            return [] if is_own else [str(git)]
    return []


def ceiling_of(folder: str, confinement: Sandbox) -> str:
    """Return the path at which the search for a repository ends.

    It is the work tree of a store that contains the folder; empty if there is none.
    """
    for hidden in confinement.hidden:
        if folder.startswith(f"{hidden}/tree/"):
            return f"{hidden}/tree"
    return ""


def plain_name(path: str) -> str:
    """Return the name of a copy: the end of the file's own name, of letters, digits, `.`, `_` and `-` alone.

    Thus a name that others chose is harmless where a program puts it into an address, an option or a command.
    """
    return re.sub(r"[^A-Za-z0-9._-]", "_", os.path.basename(path))[-100:] or "file"


def program_of(tool: Tool) -> list[str]:
    """Return the command line. A program in the tool's folder takes precedence over the PATH.

    Python runs isolated (`-I`) for built-in tools, so that they import no modules of others.
    """
    first, *rest = tool.command
    own = HostPath(tool.folder) / first
    if own.is_file():
        return [str(own), *rest]
    return [sys.executable, "-I", "-B", *rest] if tool.builtin and first == "python3" else [first, *rest]


async def _run(tool: Tool, payload: bytes, view: SandboxView, progress: Progress, confinement: Sandbox) -> Outcome:
    started = time.monotonic()
    scratch, bwrap = view.scratch, find_bubblewrap() if confinement.is_enabled else ""
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    environment |= {"HOME": scratch, "TMPDIR": scratch, "CTXFS_PROGRESS": "3"}
    environment |= confinement.settings
    for _, folder in view.folders:
        if ceiling := ceiling_of(folder, confinement):
            environment["CTXFS_CEILING"] = ceiling
    if confinement.tree:
        environment["CTXFS_TREE"] = confinement.tree
    command, fds = program_of(tool), []
    if bwrap:
        if (seccomp := open_filter()) >= 0:
            fds.append(seccomp)
        view = replace(view, seccomp=seccomp)
        command = sandboxed_command(
            bwrap, command, view, confinement, environment, reads_only=tool.read_only, reaches_out=tool.open_world
        )
    progress_fd, write_fd = os.pipe()
    with Lifeline() as lifeline:
        try:
            process = await start_group(
                with_limits(tool, command, write_fd, is_parent=bool(bwrap)),
                lifeline,
                (write_fd, *fds, *(fd for fd, _ in view.folders if bwrap)),
                cwd=tool.folder,
                env=environment,
            )
        except OSError as error:
            os.close(progress_fd)
            return Outcome(b"", b"", None, 0.0, f"it cannot be started: {error.strerror}")
        finally:
            for fd in (write_fd, *fds):
                os.close(fd)
        return await _supervise(process, tool, payload, progress_fd, progress, started)


async def _supervise(
    process: trio.Process, tool: Tool, arguments: bytes, progress_fd: int, progress: Progress, started: float
) -> Outcome:
    """Feed a running tool, collect its output within its limits, and end its process group."""
    out, err, fault = bytearray(), bytearray(), ""
    try:
        with trio.move_on_after(tool.timeout_seconds) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(feed, process, arguments)
                nursery.start_soon(_read_progress, progress_fd, progress)
                ended = trio.Event()
                nursery.start_soon(collect, process.stderr, err, _MAX_STDERR_BYTES, ended)
                if not await collect_within(process.stdout, out, tool.output_bytes):
                    fault = f"it said more than {tool.output_bytes} bytes"
                else:
                    await process.wait()
                    with trio.move_on_after(LAST_WORDS_SECONDS):
                        await ended.wait()
                nursery.cancel_scope.cancel()
        if limit.cancelled_caught:
            fault = f"it took more than {tool.timeout_seconds:g} s"
    finally:
        with trio.CancelScope(shield=True):
            await end_group(process)
    return Outcome(bytes(out), bytes(err), process.returncode, time.monotonic() - started, fault)


def with_limits(tool: Tool, command: list[str], progress_fd: int, *, is_parent: bool) -> list[str]:
    """Return the command with its limits, and with descriptor `progress_fd` as descriptor 3.

    A shell sets the limits, because a process with several threads should run no code of its own between fork and exec.
    With `is_parent` the shell remains the parent: bubblewrap's `--die-with-parent` refers to the thread that started
    it, and threads of a pool end after some idle seconds.
    """
    limits = f"ulimit -v {tool.memory_mb * 1024}; ulimit -t {int(tool.timeout_seconds) + 1}; ulimit -n {_MAX_OPEN_FILES}; ulimit -c 0"
    moved = "" if progress_fd == 3 else f"3>/dev/fd/{progress_fd}"  # some shells support descriptors of one digit only
    run = f'"$@" {moved}; exit $?' if is_parent else f'exec "$@" {moved}'
    return ["/bin/sh", "-c", f"{limits}; {run}", tool.name, *command]


async def _read_progress(progress_fd: int, progress: Progress) -> None:
    buffer = b""
    async with trio.lowlevel.FdStream(progress_fd) as stream:
        while data := await stream.receive_some(_MAX_PROGRESS_BYTES):
            *lines, buffer = (buffer + data).split(b"\n")
            buffer = buffer[-_MAX_PROGRESS_BYTES:]
            for line in lines:
                with contextlib.suppress(ValueError, TypeError, AttributeError):
                    message = json.loads(line)
                    progress(min(max(float(message["progress"]), 0.0), 1.0), str(message.get("message", ""))[:200])
