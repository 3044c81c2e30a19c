"""Start of a daemon in the background."""

import subprocess
import sys
import time
from pathlib import Path as HostPath

from ctxfs.model.errors import EXIT_BUSY, CommandError
from ctxfs.rpc.client import Client, NoDaemon
from ctxfs.store.layout import Layout

_START_SECONDS = 30.0
_BUSY_SECONDS = 0.3


def connect_or_start(layout: Layout, *, linger: bool = False) -> Client:
    """Return a client of the store's daemon, and start a daemon if none runs.

    Raise CommandError if it does not start.
    """
    try:
        return Client(layout.run)
    except NoDaemon:
        pass
    command = [sys.executable, "-m", "ctxfs", "--store", str(layout.root), "daemon"]
    log = layout.run / "daemon.log"
    if log.exists() and log.stat().st_size > 1_000_000:
        log.replace(log.with_suffix(".log.1"))
    command += [] if linger else ["--until-unmounted"]
    process = _spawn(command, log)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            return Client(layout.run)
        except NoDaemon:
            if process.poll() not in (None, 0, EXIT_BUSY):
                break
            if process.poll() is not None:
                # Another process was first, and its daemon will answer; or an ending daemon still holds the lock.
                time.sleep(_BUSY_SECONDS)
                process = _spawn(command, log)
            time.sleep(0.01)
    lines = log.read_text(errors="replace").strip().splitlines()
    raise CommandError(f"the daemon did not start: {lines[-1] if lines else 'no output'}", f"see {log}")


def _spawn(command: list[str], log: HostPath) -> "subprocess.Popen[bytes]":
    with open(log, "ab") as out:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd="/"
        )
