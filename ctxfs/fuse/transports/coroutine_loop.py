"""A minimal coroutine loop for FUSE handlers in the main thread, with trio in a second thread for waiting work.

A handler that is served from the host's files never waits, so a full scheduler under it is overhead: measured, trio's
loop costs half of every request. A handler that must wait is parked. Its work runs under trio or in a thread pool, and
its result returns to the main thread through an eventfd.
"""

import contextlib
import errno
import logging
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import coroutine
from typing import Any

import trio

from ctxfs.fuse.transports.transport import Background

log = logging.getLogger(__name__)

# About 0.15 ms. With 10,000 files on two processors: reading all of them takes 20 × native without, 8 × with.
_MAX_POLLS = 100
_MAX_THREADS = 8  # bounded, as in `ctxfs.threads`

Task = Coroutine[Any, Any, Any]
Resume = tuple[Task, Any, BaseException | None]


class SuspendedTask:
    """A request by which a parked coroutine names the event it waits for.

    `kind` is `trio` (run an async function) or `thread` (run a blocking function).
    """

    __slots__ = ("args", "function", "kind")

    def __init__(self, kind: str, function: Any = None, args: tuple[object, ...] = ()) -> None:
        self.kind = kind
        self.function = function
        self.args = args


@coroutine
def park(request: SuspendedTask) -> Generator[SuspendedTask, Any, Any]:
    """Suspend the calling coroutine until the loop resumes it, and return the value that it is resumed with."""
    return (yield request)


class CoroutineLoop:
    """A loop that steps handlers in the main thread, and runs trio in another.

    The main thread uses all methods; other threads may use only `call`, `run_soon` and `wake`.
    """

    def __init__(self) -> None:
        self.ready: deque[Resume] = deque()
        self._completed: deque[Resume] = deque()
        self._callbacks: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._signal_reader, self._signal_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._threads = ThreadPoolExecutor(_MAX_THREADS, "parked")
        self._scopes: dict[Task, trio.CancelScope] = {}
        self.poll = select.poll()
        self.poll.register(self.wake_fd, select.POLLIN)

    async def call(self, function: Callable[..., Any], *args: object) -> Any:
        """Run an async function under trio and return its result. The handler is parked; other handlers continue."""
        return await park(SuspendedTask("trio", function, args))

    async def in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        """Call a blocking function in a thread and return its result.

        This bypasses trio, which would take as long as the fsync of a fast disk.
        """
        return await park(SuspendedTask("thread", function, args))

    def run_soon(self, function: Callable[..., None], *args: object) -> None:
        """Implement `Loop.run_soon`."""
        self._callbacks.append((function, args))
        self.wake()

    def wake(self) -> None:
        """Make the main thread return from its wait for requests. Callable from any thread."""
        os.eventfd_write(self.wake_fd, 1)

    @contextlib.contextmanager
    def running(self, background: Background, stop: Callable[[], None]) -> Iterator[None]:
        """Run `background` under trio in a second thread while the context lasts; SIGINT and SIGTERM call `stop`.

        Enter after `background` has called its argument. Raise its error if it failed before.
        """
        started = threading.Event()
        failure: list[BaseException] = []
        thread = threading.Thread(target=self._run_trio, args=(background, started, failure), name="trio", daemon=True)
        thread.start()
        started.wait()
        if failure:
            raise failure[0]

        def on_signal(number: int, frame: object) -> None:
            self.run_soon(stop)

        previous_handlers = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.set_wakeup_fd(self._signal_writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in previous_handlers.items():
                signal.signal(number, handler)
            self._stop_trio()
            self._threads.shutdown(wait=False)
            thread.join(5)

    def wait_for_events(self) -> bool:
        """Wait for events. Return True if a descriptor is ready that a subclass has registered.

        Poll a few times before sleeping: a client's next request follows within microseconds of a reply, and waking a
        sleeping processor costs more than the request. Yielding lets a client on the same processor run first, though
        not always at once.
        """
        poll = self.poll
        for _ in range(_MAX_POLLS):
            if ready := poll.poll(0):
                break
            os.sched_yield()
        else:
            ready = poll.poll()
        return self.handle_own_events(ready)

    def handle_own_events(self, ready: list[tuple[int, int]]) -> bool:
        """Handle events of the loop's own descriptors. Return True if other descriptors are ready."""
        has_others = False
        for fd, _ in ready:
            if fd == self.wake_fd:
                self._handle_wake_up()
            else:
                has_others = True
        return has_others

    def step(self, task: Task, value: Any, error: BaseException | None) -> SuspendedTask | None:
        """Resume a coroutine until it parks or ends. Return its request, None if it has ended.

        Work for trio or for the thread pool is started.
        """
        try:
            suspended: SuspendedTask = task.send(value) if error is None else task.throw(error)
        except StopIteration:
            return None
        if suspended.kind == "trio" and self._token is not None:
            self._token.run_sync_soon(self._start_call, task, suspended)
        elif suspended.kind == "thread":
            self._threads.submit(self._run_in_thread, task, suspended)
        return suspended

    def cancel(self, task: Task) -> None:
        """Cancel the trio call that a parked coroutine waits for, unless it has ended. The coroutine gets EINTR."""

        def cancel() -> None:
            if scope := self._scopes.get(task):
                scope.cancel()

        if self._token is not None:
            self._token.run_sync_soon(cancel)

    # private

    def _handle_wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.wake_fd, 8)
        while self._completed:
            self.ready.append(self._completed.popleft())
        for _ in range(
            len(self._callbacks)
        ):  # a fixed count: callbacks that these schedule run after the waiting requests
            function, args = self._callbacks.popleft()
            try:
                function(*args)
            except Exception:  # a failed callback must not end the request loop
                log.exception("%s failed", getattr(function, "__qualname__", function))

    def _start_call(self, task: Task, suspended: SuspendedTask) -> None:
        if self._nursery is not None:
            self._scopes[task] = scope = trio.CancelScope()  # `give_up` may cancel it before it starts
            self._nursery.start_soon(self._run_call, task, suspended, scope)

    async def _run_call(self, task: Task, suspended: SuspendedTask, scope: trio.CancelScope) -> None:
        resume: Resume = (task, None, InterruptedError(errno.EINTR, os.strerror(errno.EINTR)))
        with scope:
            try:
                resume = (task, await suspended.function(*suspended.args), None)
            except Exception as error:
                resume = (task, None, error)
        self._scopes.pop(task, None)
        self._completed.append(resume)
        self.wake()

    def _run_in_thread(self, task: Task, suspended: SuspendedTask) -> None:
        try:
            resume: Resume = (task, suspended.function(*suspended.args), None)
        except Exception as error:
            resume = (task, None, error)
        self._completed.append(resume)
        self.wake()

    def _run_trio(self, background: Background, started: threading.Event, failure: list[BaseException]) -> None:
        async def run() -> None:
            self._token = trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._forward_signals)
                await background(started.set)

        try:
            trio.run(run)
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    async def _forward_signals(self) -> None:
        """Wake the main thread after each signal, so that Python runs its handler.

        A signal may arrive just before the main thread starts to wait; its handler would run only when that wait ends.
        """
        while True:
            await trio.lowlevel.wait_readable(self._signal_reader)
            os.read(self._signal_reader, 512)
            self.wake()

    def _stop_trio(self) -> None:
        def cancel() -> None:
            if self._nursery is not None:
                self._nursery.cancel_scope.cancel()

        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(cancel)
