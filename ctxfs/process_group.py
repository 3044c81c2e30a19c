"""Process groups of foreign programs: tied to this process by a lifeline, and ended completely."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import trio

from ctxfs.lifeline import Lifeline

_CHUNK_BYTES = 65_536
_WAIT_SCRIPT = 'read -r _ && unset $CTXFS_UNSET CTXFS_UNSET && exec "$@"'
_SHELL_VARIABLES = ("PWD", "OLDPWD", "SHLVL")  # that a shell exports by itself
LAST_WORDS_SECONDS = 0.2  # for output just before the end; a child of the program may hold the pipe open
_GRACE_SECONDS = 2.0
_REAPED_SECONDS = 10.0
_MAX_ERROR_BYTES = 100_000


async def start_group(
    command: Sequence[str], lifeline: Lifeline, pass_fds: Sequence[int] = (), **options: Any
) -> trio.Process:
    """Start a program with pipes for its standard streams, as the leader of a group that ends with this process.

    Raise OSError if it cannot be started. A shell waits for a line on stdin before it becomes the program: if this process is
    killed before the group is tied, the shell reads the end of its stdin instead, and exits.
    """
    environment = dict(os.environ if options.get("env") is None else options["env"])
    _check_program(command[0], options.get("cwd"), environment)
    options["env"] = environment | {"CTXFS_UNSET": " ".join(set(_SHELL_VARIABLES) - environment.keys())}
    process = await trio.lowlevel.open_process(
        ["/bin/sh", "-c", _WAIT_SCRIPT, *command[:1], *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=(lifeline.fd, *pass_fds),
        **options,
    )
    lifeline.tie(-process.pid)
    assert process.stdin is not None
    with contextlib.suppress(trio.BrokenResourceError):
        await process.stdin.send_all(b"\n")
    return process


def _check_program(program: str, folder: Any, environment: Mapping[str, str]) -> None:
    """Raise FileNotFoundError or PermissionError as starting the program directly does."""
    if os.sep not in program:
        path = shutil.which(program, path=environment.get("PATH", os.defpath))
        code = 0 if path is not None else errno.ENOENT
    else:
        path = os.path.join(folder or "", program)
        code = 0 if os.access(path, os.X_OK) else errno.EACCES if os.path.exists(path) else errno.ENOENT
    if code:
        raise OSError(code, os.strerror(code), program)


async def feed(process: trio.Process, data: bytes) -> None:
    """Write `data` to the program's stdin and close it. A program that does not read it is no error."""
    assert process.stdin is not None
    with contextlib.suppress(trio.BrokenResourceError):
        await process.stdin.send_all(data)
    await process.stdin.aclose()


async def collect(stream: Any, into: bytearray, limit: int, ended: trio.Event) -> None:
    """Read to the end, and set `ended`. Bytes beyond `limit` are dropped."""
    while data := await stream.receive_some(_CHUNK_BYTES):
        into += data[: max(0, limit - len(into))]
    ended.set()


async def collect_within(stream: Any, into: bytearray, limit: int) -> bool:
    """Read to the end, or until there are `limit` bytes; return False in the second case."""
    while len(into) < limit and (data := await stream.receive_some(_CHUNK_BYTES)):
        into += data[: limit - len(into)]
    return len(into) < limit


async def end_group(process: trio.Process) -> None:
    """End the remaining processes of a group, first by SIGTERM, then by SIGKILL, and close the streams."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _REAPED_SECONDS)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        with trio.move_on_after(seconds):
            await process.wait()
            if number == signal.SIGTERM:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # children that outlived the program
            break
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            await stream.aclose()


async def run_program(command: Sequence[str], data: bytes, max_output_bytes: int) -> tuple[int, bytes, bytes]:
    """Run a program with `data` on stdin; return its exit code, its stdout and its stderr, each up to its size limit.

    A program that writes more to stdout is ended. Raise OSError if it cannot be started.
    """
    out, err = bytearray(), bytearray()
    with Lifeline() as lifeline:
        process = await start_group(command, lifeline)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(feed, process, data)
                ended = trio.Event()
                nursery.start_soon(collect, process.stderr, err, _MAX_ERROR_BYTES, ended)
                if await collect_within(process.stdout, out, max_output_bytes):
                    await process.wait()
                    with trio.move_on_after(LAST_WORDS_SECONDS):
                        await ended.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await end_group(process)
    return process.returncode or 0, bytes(out), bytes(err)
