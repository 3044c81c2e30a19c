"""Worker processes of the daemon: they read orders from stdin and end when stdin is closed."""

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from ctxfs.lifeline import lifeline


@asynccontextmanager
async def worker(module: str, seconds: float) -> AsyncIterator[trio.Process]:
    """Run `python -m module` with pipes for stdin and stdout; at the end give it `seconds` to finish, then kill it."""
    with lifeline() as options:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
        )
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True):
                await _end_child(process, seconds)


async def _end_child(process: trio.Process, seconds: float) -> None:
    """Close stdin, so that the process finishes its current order, and kill it after `seconds`."""
    if process.stdin is not None:
        await process.stdin.aclose()
    with trio.move_on_after(seconds):
        await process.wait()
        return
    process.kill()
    await process.wait()
