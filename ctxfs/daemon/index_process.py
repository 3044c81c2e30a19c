"""The indexer in a process of its own: orders on stdin, events on stdout, as frames of `rpc.wire`."""

import os
import sys
import threading
import time

from ctxfs import heap
from ctxfs.daemon.index_wire import options_from_wire, roots_from_wire
from ctxfs.index.events import Event
from ctxfs.index.indexer import Indexer, lower_priority
from ctxfs.rpc.wire import FrameReader, pack_frame

_END_SECONDS = 4.0


class _Outlet:
    """Writes events; ends the process when nobody reads them any more."""

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
            os._exit(1)  # begin again, with whatever was damaged repaired


def main() -> None:
    """Serve orders until stdin ends."""
    lower_priority()
    heap.give_back_early()
    events = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not end up among the frames
    outlet = _Outlet(events)
    reader = FrameReader()
    indexer: Indexer | None = None
    while data := os.read(0, 1 << 20):
        for order, value in reader.feed(data):
            if order == "start":
                indexer = Indexer(options_from_wire(value), outlet.send)
                indexer.start()
            elif indexer is None:
                continue
            elif order in ("roots", "rebuild"):
                (indexer.set_roots if order == "roots" else indexer.rebuild)(roots_from_wire(value))
            elif order == "purge":
                indexer.purge()
            elif order == "changed":
                indexer.changed([(prefix, tuple(parts)) for prefix, parts in value])
    if indexer is not None:
        # Whoever comes next waits for the lock of the words.
        threading.Thread(target=_end_within, args=(_END_SECONDS,), daemon=True).start()
        indexer.stop()


def _end_within(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(0)


if __name__ == "__main__":
    main()
