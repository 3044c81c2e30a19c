"""Extract the chunks of files in a process of its own: a file that is made to break a parser costs that file and no more.

The worker lives as long as there is work. It is bounded in memory, and a file in processor time, by the kernel; a file that is
over a limit ends the worker, and the next file gets another one.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import UnreadableFile, format_of, is_slow
from ctxfs.lifeline import TiedProcess
from ctxfs.rpc.wire import FrameReader, WireError, pack_frame

_PIECE = 1 << 20
_MEGABYTE = 1 << 20
_GOING_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may take: processor seconds, more by the megabyte, and seconds of the clock for each of these."""

    cpu_seconds: float = 2.0
    cpu_seconds_per_megabyte: float = 6.0
    slow_cpu_seconds: float = 30.0  # of a format that has a long way to its text
    clock_factor: float = 5.0
    least_clock_seconds: float = 30.0

    def cpu_of(self, name: str, size: int) -> float:
        """Processor seconds for a file."""
        least = self.slow_cpu_seconds if is_slow(name) else self.cpu_seconds
        return max(least, self.cpu_seconds + self.cpu_seconds_per_megabyte * size / _MEGABYTE)


# For what others wait for: a small file. One that takes longer waits for the indexer.
INTERACTIVE = Limits(1.0, 6.0, least_clock_seconds=20.0)
IN_BULK = Limits()
_PATIENCE_SECONDS = 2.0
_PATIENCE_SHARE = 0.05
_QUICK_SECONDS = 0.1

Extract = Callable[[str, bytes], list[Chunk]]  # Extractor.chunks_of


class TooSlow(UnreadableFile):
    """The file took more time than it may."""


class ExtractorDown(OSError):
    """No worker can be had; this says nothing about the file."""


class Patience:
    """How long slow files may hold up those who ask, in processor time: two seconds at once, and then a twentieth of the clock's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left, self._seen = _PATIENCE_SECONDS, clock()

    @property
    def is_used_up(self) -> bool:
        """True while slow files have taken what there was."""
        now = self._clock()
        self._left = min(_PATIENCE_SECONDS, self._left + _PATIENCE_SHARE * (now - self._seen))
        self._seen = now
        return self._left <= 0

    def charge(self, seconds: float) -> None:
        """A file took so long; most take next to nothing, and that is free."""
        self._left -= seconds if seconds > _QUICK_SECONDS else 0


class _Ended(Exception):
    """The worker has gone; `code` is its exit status, negative for a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Extractor:
    """A worker and the requests to it. Methods block; they may be called from several threads, one after another."""

    def __init__(self, limits: Limits = IN_BULK) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        # Alone in a list that outlives this object: a worker whose extractor is dropped is ended, and collected.
        self._slot: list[TiedProcess] = []
        weakref.finalize(self, _end, self._slot)
        self._frames = FrameReader()
        self._served = 0
        self._spent = 0.0  # processor seconds of the last file
        self._patience = Patience()

    def chunks_soon(self, name: str, data: bytes) -> list[Chunk]:
        """`chunks_of` for what others wait for; TooSlow at once when slow files have used up their patience."""
        if self._patience.is_used_up:
            raise TooSlow(f"{format_of(name)}: waits for the indexer")
        try:
            chunks = self.chunks_of(name, data)
        except TooSlow:
            self._patience.charge(self._limits.cpu_of(name, len(data)))
            raise
        self._patience.charge(self._spent)
        return chunks

    def chunks_of(self, name: str, data: bytes) -> list[Chunk]:
        """The chunks of a file called `name`. Unreadable if it has none to give, ExtractorDown if nothing could be asked."""
        cpu = self._limits.cpu_of(name, len(data))
        with self._lock:
            for attempt in range(3):
                was_used = self._ready()
                try:
                    kind, value, self._spent = self._ask(name, data, cpu)
                except _Ended as ended:
                    if ended.code == -signal.SIGPROF:
                        raise TooSlow(f"{format_of(name)}: takes too long to read") from None
                    # An idle worker may end just now, and one that has read others may have died of those.
                    if attempt == 2 or not (was_used or ended.code == 0):
                        raise UnreadableFile(f"{format_of(name)}: cannot be read (its reader died)") from None
                    continue
                if kind != "chunks":
                    raise UnreadableFile(str(value))
                return [Chunk(*row) for row in value]
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """End the worker; the next file starts another one."""
        with self._lock:
            _end(self._slot)

    def _ready(self) -> bool:
        """Have a worker; True if it has read files before."""
        if self._slot and self._slot[0].poll() is not None:
            _end(self._slot)
        if not self._slot:
            # -P: the folder that ctxfs was started in may hold anybody's modules. -B: it writes nothing at all.
            command = [sys.executable, "-B", "-P", "-m", "ctxfs.index.extract.extractor_process"]
            try:
                worker = TiedProcess(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
                )
            except OSError as error:
                raise ExtractorDown(error.errno, f"no process to read files in: {error.strerror}") from error
            self._slot.append(worker)
            assert worker.stdin is not None
            os.set_blocking(worker.stdin.fileno(), False)
            self._frames, self._served = FrameReader(), 0
        self._served += 1
        return self._served > 1

    def _ask(self, name: str, data: bytes, cpu: float) -> Any:
        """Send a request and return the answer; _Ended if the worker ends, TooSlow if it does neither in time."""
        worker = self._slot[0]
        assert worker.stdin is not None
        assert worker.stdout is not None
        end = time.monotonic() + max(self._limits.least_clock_seconds, self._limits.clock_factor * cpu)
        unsent = memoryview(pack_frame([name, data, cpu]))
        sink, source = worker.stdin.fileno(), worker.stdout.fileno()
        poll = select.poll()
        poll.register(source, select.POLLIN)
        poll.register(sink, select.POLLOUT)
        while (left := end - time.monotonic()) > 0:
            for fd, _ in poll.poll(left * 1000):
                if fd == sink and unsent:
                    try:
                        unsent = unsent[os.write(sink, unsent[:_PIECE]) :]
                    except BlockingIOError:
                        pass
                    except BrokenPipeError:
                        unsent = unsent[len(unsent) :]
                    if not unsent:
                        poll.unregister(sink)
                elif fd == source:
                    piece = os.read(source, _PIECE)
                    if not piece:
                        raise _Ended(_end(self._slot))
                    try:
                        for answer in self._frames.feed(piece):
                            return answer
                    except WireError as error:
                        _end(self._slot)
                        raise UnreadableFile(f"{format_of(name)}: cannot be read (its reader failed)") from error
        _end(self._slot)
        raise TooSlow(f"{format_of(name)}: takes too long to read")


def _end(slot: list[TiedProcess]) -> int:
    """End the worker, if there is one, at once; its exit status."""
    if not slot:
        return 0
    worker = slot.pop()
    if worker.stdin is not None:
        worker.stdin.close()  # an idle one ends by itself
    code = worker.poll()
    if code is None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its pipe ended first: it is about to go
            code = worker.wait(_GOING_SECONDS)
    if code is None:
        worker.kill()
        code = worker.wait()
    worker.release()
    if worker.stdout is not None:
        worker.stdout.close()
    return code


def rows_of(chunks: Sequence[Chunk]) -> list[list[Any]]:
    """Chunks as plain values."""
    return [[chunk.text, chunk.first, chunk.last, chunk.heading, chunk.author, chunk.day] for chunk in chunks]
