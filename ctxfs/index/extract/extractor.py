"""Extractor: chunk files in a worker process, so that a file made to break a parser costs only that file.

The worker lives as long as there is work. The kernel limits its memory, and the processor time of each file. A file
that exceeds a limit ends the worker, and the next file starts another one.
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
from ctxfs.rpc.frames import FrameReader, WireError, pack_frame

_PIPE_BYTES = 1 << 20
_MEGABYTE = 1 << 20
_EXIT_GRACE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of one file.

    Processor seconds grow with the size in megabytes. The wall-clock limit is a multiple of them, with a minimum.
    """

    cpu_seconds: float = 2.0
    cpu_seconds_per_megabyte: float = 6.0
    slow_cpu_seconds: float = 30.0  # of a format with costly text extraction (`is_slow`)
    clock_factor: float = 5.0
    min_clock_seconds: float = 30.0

    def cpu_seconds_for(self, name: str, size: int) -> float:
        """Return the limit in processor seconds for a file of `size` bytes."""
        minimum = self.slow_cpu_seconds if is_slow(name) else self.cpu_seconds
        return max(minimum, self.cpu_seconds + self.cpu_seconds_per_megabyte * size / _MEGABYTE)


# For requests that block a caller: enough for a small file. A file that takes longer is left to the indexer.
INTERACTIVE = Limits(1.0, 6.0, min_clock_seconds=20.0)
BULK = Limits()
_MAX_BUDGET_SECONDS = 2.0
_BUDGET_REFILL_SHARE = 0.05
_MAX_FREE_SECONDS = 0.1

ExtractChunks = Callable[[str, bytes], list[Chunk]]  # (path, content) → chunks


class TooSlow(UnreadableFile):
    """The extraction of a file exceeded its time limit."""


class ExtractorUnavailable(OSError):
    """The worker process cannot be started; the file is not the cause."""


class SlowFileBudget:
    """A budget of processor time for slow files that block callers: a token bucket.

    It holds at most two seconds (`_MAX_BUDGET_SECONDS`) and refills by a twentieth (`_BUDGET_REFILL_SHARE`) of the
    wall-clock time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._remaining_seconds, self._refilled_at = _MAX_BUDGET_SECONDS, clock()

    @property
    def is_exhausted(self) -> bool:
        """Return True while slow files have exhausted the budget."""
        self._refill()
        return self._remaining_seconds <= 0

    def charge(self, seconds: float) -> None:
        """Subtract the processor seconds of a file. Quick files, which are the most, are free."""
        self._refill()  # a full budget does not save up the time that the file took
        self._remaining_seconds -= seconds if seconds > _MAX_FREE_SECONDS else 0

    def _refill(self) -> None:
        now = self._clock()
        refilled = self._remaining_seconds + _BUDGET_REFILL_SHARE * (now - self._refilled_at)
        self._remaining_seconds, self._refilled_at = min(_MAX_BUDGET_SECONDS, refilled), now


class _WorkerExited(Exception):
    """The end of the worker process. `code` is its exit status, negative for a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Extractor:
    """A worker process and the requests to it. Methods block; a lock serialises calls from several threads."""

    def __init__(self, limits: Limits = BULK) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        # The list outlives this object: the finalizer ends and reaps the worker when the extractor is dropped.
        self._slot: list[TiedProcess] = []
        weakref.finalize(self, _end_worker, self._slot)
        self._frames = FrameReader()
        self._request_count = 0
        self._last_cpu_seconds = 0.0  # processor seconds of the last file
        self._slow_file_budget = SlowFileBudget()

    def extract_chunks_interactively(self, name: str, data: bytes) -> list[Chunk]:
        """Return the chunks of a file for a caller that waits.

        Raise the errors of `extract_chunks`, and `TooSlow` at once if slow files have exhausted their budget.
        """
        if self._slow_file_budget.is_exhausted:
            raise TooSlow(f"{format_of(name)}: waits for the indexer")
        try:
            chunks = self.extract_chunks(name, data)
        except TooSlow:
            self._slow_file_budget.charge(self._limits.cpu_seconds_for(name, len(data)))
            raise
        self._slow_file_budget.charge(self._last_cpu_seconds)
        return chunks

    def extract_chunks(self, name: str, data: bytes) -> list[Chunk]:
        """Return the chunks of a file called `name`. They contain no text of another file.

        Raise `UnreadableFile` if the file cannot be parsed, `TooSlow` if it exceeds its time limit, and
        `ExtractorUnavailable` if no worker can be started.
        """
        cpu = self._limits.cpu_seconds_for(name, len(data))
        with self._lock:
            for attempt in range(3):
                was_used = self._ensure_worker()
                try:
                    kind, value, self._last_cpu_seconds = self._send_request(name, [name, data, cpu], cpu)
                except _WorkerExited as exited:
                    if exited.code == -signal.SIGPROF:
                        raise TooSlow(f"{format_of(name)}: takes too long to read") from None
                    # An idle worker may have ended at this moment, and a used one may have died of an earlier file.
                    if attempt == 2 or not (was_used or exited.code == 0):
                        raise UnreadableFile(f"{format_of(name)}: cannot be read (its reader died)") from None
                    continue
                if kind != "chunks":
                    raise UnreadableFile(str(value))
                return [unpack_chunk(*row) for row in value]
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """End the worker. The next file starts another one."""
        with self._lock:
            _end_worker(self._slot)

    def _ensure_worker(self) -> bool:
        """Start a worker if none is running. Return True if the worker has served files before."""
        if self._slot and self._slot[0].poll() is not None:
            _end_worker(self._slot)
        if not self._slot:
            # -P: the working directory of ctxfs may contain untrusted modules. -B: the worker writes no files.
            command = [sys.executable, "-B", "-P", "-m", "ctxfs.index.extract.extractor_process"]
            try:
                worker = TiedProcess(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
                )
            except OSError as error:
                raise ExtractorUnavailable(error.errno, f"no process to read files in: {error.strerror}") from error
            self._slot.append(worker)
            assert worker.stdin is not None
            os.set_blocking(worker.stdin.fileno(), False)
            self._frames, self._request_count = FrameReader(), 0
        self._request_count += 1
        return self._request_count > 1

    def _send_request(self, name: str, request: list[Any], cpu: float) -> Any:
        """Send a request and return the response.

        Raise `_WorkerExited` if the worker ends, `TooSlow` after the wall-clock limit, and `UnreadableFile` for a
        malformed frame.
        """
        worker = self._slot[0]
        assert worker.stdin is not None
        assert worker.stdout is not None
        deadline = time.monotonic() + max(self._limits.min_clock_seconds, self._limits.clock_factor * cpu)
        unsent = memoryview(pack_frame(request))
        request_fd, response_fd = worker.stdin.fileno(), worker.stdout.fileno()
        poll = select.poll()
        poll.register(response_fd, select.POLLIN)
        poll.register(request_fd, select.POLLOUT)
        while (remaining := deadline - time.monotonic()) > 0:
            for fd, _ in poll.poll(remaining * 1000):
                if fd == request_fd and unsent:
                    try:
                        unsent = unsent[os.write(request_fd, unsent[:_PIPE_BYTES]) :]
                    except BlockingIOError:
                        pass
                    except BrokenPipeError:
                        unsent = unsent[len(unsent) :]
                    if not unsent:
                        poll.unregister(request_fd)
                elif fd == response_fd:
                    piece = os.read(response_fd, _PIPE_BYTES)
                    if not piece:
                        raise _WorkerExited(_end_worker(self._slot))
                    try:
                        for response in self._frames.feed(piece):
                            return response
                    except WireError as error:
                        _end_worker(self._slot)
                        raise UnreadableFile(f"{format_of(name)}: cannot be read (its reader failed)") from error
        _end_worker(self._slot)
        raise TooSlow(f"{format_of(name)}: takes too long to read")


def _end_worker(slot: list[TiedProcess]) -> int:
    """End the worker, if there is one, and return its exit status, or 0 without a worker."""
    if not slot:
        return 0
    worker = slot.pop()
    if worker.stdin is not None:
        worker.stdin.close()  # an idle worker exits at end of file
    code = worker.poll()
    if code is None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # the pipe closes shortly before the process exits
            code = worker.wait(_EXIT_GRACE_SECONDS)
    if code is None:
        worker.kill()
        code = worker.wait()
    worker.release()
    if worker.stdout is not None:
        worker.stdout.close()
    return code


def pack_chunks(chunks: Sequence[Chunk]) -> list[list[Any]]:
    """Return a list [text, first, last, heading, author, day, labels] for each chunk, for the wire."""
    return [
        [chunk.text, chunk.first, chunk.last, chunk.heading, chunk.author, chunk.day, chunk.labels] for chunk in chunks
    ]


def unpack_chunk(
    text: str, first: int, last: int, heading: str, author: str, day: int | None, labels: Sequence[tuple[str, str]]
) -> Chunk:
    """Return the chunk of a row of `pack_chunks`."""
    return Chunk(text, first, last, heading, author, day, tuple((name, value) for name, value in labels))
