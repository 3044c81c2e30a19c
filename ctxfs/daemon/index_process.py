"""The indexer process: it reads orders from stdin and writes events to stdout, as frames of `rpc.frames`."""

import fcntl
import os
import signal
import sys
import threading
import time
from pathlib import Path as HostPath

from ctxfs import heap
from ctxfs.daemon.index_orders import options_from_wire, roots_from_wire
from ctxfs.index.events import Event
from ctxfs.index.ingest.indexer import Indexer, lower_priority
from ctxfs.lifeline import hold_lifeline
from ctxfs.rpc.frames import FrameReader, pack_frame

_LOCK_SECONDS = 10.0
_POLL_SECONDS = 0.02

_END_SECONDS = 4.0


class _EventWriter:
    """A writer of events, which ends the process when the reading end is closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        frame = memoryview(pack_frame([event.kind, event.detail]))
        failed = event.kind == "failed"
        try:
            with self._lock:
                while frame:
                    frame = frame[os.write(self._fd, frame) :]
        except BrokenPipeError:
            os._exit(0)
        if failed:
            os._exit(1)  # the daemon starts a new process, which repairs the damage first


def _lock_index(folder: HostPath) -> int:
    """Lock the index for this process, after killing an indexer that outlived its daemon and still holds the lock.

    Return the descriptor that holds the lock. The lock file contains the holder's pid. Raise BlockingIOError after
    `_LOCK_SECONDS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / "indexer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            _kill_orphan(os.pread(fd, 32, 0))
            time.sleep(_POLL_SECONDS)
    text = f"{os.getpid()}\n".encode()
    os.pwrite(fd, text, 0)
    os.ftruncate(fd, len(text))
    return fd


def _kill_orphan(holder: bytes) -> None:
    """Kill the process with this pid if it is an indexer.

    The daemon that owns the store runs no other indexer, so such a process is an orphan.
    """
    try:
        pid = int(holder)
        arguments = HostPath(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"ctxfs.daemon.index_process" in arguments and pid != os.getpid():
            os.kill(pid, signal.SIGKILL)
    except (OSError, ValueError):
        return


def main() -> None:
    """Serve orders until stdin ends."""
    hold_lifeline()
    lower_priority()
    heap.give_back_early()
    events = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not end up among the frames
    writer = _EventWriter(events)
    reader = FrameReader()
    indexer: Indexer | None = None
    while data := os.read(0, 1 << 20):
        for order, value in reader.feed(data):
            if order == "start":
                options = options_from_wire(value)
                lock_fd = _lock_index(options.folder)  # noqa: F841 - the lock is held as long as it is open
                indexer = Indexer(options, writer.send)
                indexer.start()
            elif indexer is None:
                continue
            elif order in ("roots", "rebuild"):
                (indexer.set_roots if order == "roots" else indexer.rebuild)(roots_from_wire(value))
            elif order == "purge":
                indexer.purge()
            elif order == "changed":
                indexer.index_changes([(prefix, tuple(parts)) for prefix, parts in value])
    if indexer is not None:
        # Bound the time: the next indexer waits for the lock of the full-text index.
        threading.Thread(target=_exit_after, args=(_END_SECONDS,), daemon=True).start()
        indexer.stop()


def _exit_after(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(0)


if __name__ == "__main__":
    main()
