"""Pool of grep processes, which match untrusted patterns.

A process starts on demand, and ends when a search takes too long or when it is idle.
"""

import errno
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from ctxfs.index.options import IndexedRoot
from ctxfs.index.search.grep import GrepOutput, Line, Matcher
from ctxfs.lifeline import TiedProcess
from ctxfs.threads import blocking

MAX_PROCESSES = 4
MAX_SECONDS = 30.0  # per search, over all of its files
BATCH_FILES = 200
_PIECE_BYTES = 1 << 20

Files = Sequence[tuple[IndexedRoot, tuple[str, ...]]]


class GrepProcess:
    """One grep process. Methods block; one thread at a time, except for `kill`."""

    def __init__(self) -> None:
        self._process = TiedProcess(
            [sys.executable, "-m", "ctxfs.index.search.grep_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    @property
    def is_alive(self) -> bool:
        """False once the process was killed, or ended because it was idle."""
        return self._process.poll() is None

    def scan(self, files: Files, matcher: Matcher, only: GrepOutput, deadline: float) -> tuple[list[Line], list[str]]:
        """Return `grep.scan` of the files.

        Kill the process and raise TimeoutError past `deadline` (`time.monotonic`), or ChildProcessError if it ends early.
        """
        paths = [(root.prefix, root.root, root.holds_records, parts) for root, parts in files]
        request = {**matcher.options, "only": only, "files": paths}
        try:
            response = self._exchange_lines(json.dumps(request).encode() + b"\n", deadline)
        except TimeoutError:
            self.kill()
            raise
        except (OSError, ValueError) as error:
            self.kill()
            raise ChildProcessError(errno.EIO, "the process of a search ended") from error
        return [Line(*line) for line in response["lines"]], response["faults"]

    def _exchange_lines(self, request: bytes, deadline: float) -> dict[str, list[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        writing, reading = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(writing, False)
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(reading, selectors.EVENT_READ)
            selector.register(writing, selectors.EVENT_WRITE)
            while not received.endswith(b"\n"):
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fd == writing:
                        request = request[os.write(writing, request[:_PIECE_BYTES]) :]
                        if not request:
                            selector.unregister(writing)
                    elif piece := os.read(reading, _PIECE_BYTES):
                        received += piece
                    else:
                        raise BrokenPipeError
        response: dict[str, list[str]] = json.loads(received)
        return response

    def kill(self) -> None:
        """Kill the process and close its pipes."""
        self._process.kill()
        self._process.wait()
        self._process.release()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class GrepPool:
    """At most `MAX_PROCESSES` grep processes, shared among principals.

    Each principal has one search at a time, so that none occupies all processes.
    """

    def __init__(self) -> None:
        self._idle: list[GrepProcess] = []
        self._lock = threading.Lock()
        self._slots = trio.Semaphore(MAX_PROCESSES)
        self._principal_locks: defaultdict[Hashable, trio.Lock] = defaultdict(trio.Lock)

    async def scan(
        self, principal: Hashable, files: Files, matcher: Matcher, only: GrepOutput, limit: int
    ) -> tuple[list[Line], list[str]]:
        """Return the matching lines, and the files that were unreadable or took too long, with reasons.

        Stop after the batch of files in which the lines exceed `limit`.
        """
        lines: list[Line] = []
        faults: list[str] = []
        if not files:
            return lines, faults
        async with self._lock_principal(principal), self._slots:
            deadline = time.monotonic() + MAX_SECONDS
            process = self._acquire_process()
            try:
                for start in range(0, len(files), BATCH_FILES):
                    batch = files[start : start + BATCH_FILES]
                    batch_lines, batch_faults = await _scan_cancellable(process, batch, matcher, only, deadline)
                    lines += batch_lines
                    faults += batch_faults
                    if len(lines) > limit:
                        break
            except TimeoutError:
                faults.append(f"the search was ended after {MAX_SECONDS:g} s: narrow the pattern, or name a folder")
            except ChildProcessError:
                faults.append(
                    "the process of the search ended before all files were read: search again, or name a folder"
                )
            finally:
                self._release_process(process)
        return lines, faults

    @asynccontextmanager
    async def _lock_principal(self, principal: Hashable) -> AsyncIterator[None]:
        turn = self._principal_locks[principal]
        try:
            async with turn:
                yield
        finally:
            if not turn.locked():
                self._principal_locks.pop(principal, None)

    def _acquire_process(self) -> GrepProcess:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.is_alive:
                    return process
                process.kill()
        return GrepProcess()

    def _release_process(self, process: GrepProcess) -> None:
        with self._lock:
            if process.is_alive:
                self._idle.append(process)

    def close(self) -> None:
        """Kill every idle process; a busy one ends with its search."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.kill()


async def _scan_cancellable(
    process: GrepProcess, batch: Files, matcher: Matcher, only: GrepOutput, deadline: float
) -> tuple[list[Line], list[str]]:
    """Run `process.scan` in a thread. A cancellation kills the process, which ends the thread."""
    result: list[tuple[list[Line], list[str]]] = []

    async def watch() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if not result:
                process.kill()

    failure: TimeoutError | ChildProcessError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            result.append(await blocking(process.scan, batch, matcher, only, deadline))
        except (TimeoutError, ChildProcessError) as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result[0]
