"""Who drives the request handlers: a plain loop in the main thread (fast), or trio (pyfuse3's own way).

A handler that answers from the host's files never waits, so a full scheduler under it is overhead: measured, trio's
loop costs half of every request. The plain loop polls the kernel's descriptor and steps the coroutines itself; what
must wait goes to a trio loop in a second thread and comes back through an eventfd. It stands in for the `trio` module that
pyfuse3 uses, as that library's own asyncio support does, and relies on internals of the pinned version.
"""

import contextlib
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType, coroutine
from typing import Any, Protocol, Self

import pyfuse3
import trio

Background = Callable[[Callable[[], None]], Awaitable[None]]


_LOOKS = (
    100  # about 0.15 ms; measured over 10,000 files on two processors: reading everything 20 × native without, 8 × with
)


class Loop(Protocol):
    """Runs a mount: handlers in one place, whatever waits in another."""

    async def call(self, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """From a handler: run an async function under trio and return what it returns."""
        ...

    def run_soon(self, function: Callable[..., None], *args: object) -> None:
        """From any thread: call a function between two requests, where the handlers run."""
        ...

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """Start `background` under trio; when it calls its argument, call `start`, then serve until unmounted."""
        ...

    def stop(self) -> None:
        """From where handlers run: finish the session."""
        ...


class TrioLoop:
    """Everything under one trio loop."""

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None

    async def call(self, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Just awaits."""
        return await function(*args)

    def run_soon(self, function: Callable[..., None], *args: object) -> None:
        """Through trio's own door."""
        assert self._token is not None
        self._token.run_sync_soon(function, *args)

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """See Loop."""
        trio.run(self._run, background, start)

    def stop(self) -> None:
        """See Loop."""
        pyfuse3.terminate()

    async def _run(self, background: Background, start: Callable[[], None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        started = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(background, started.set)
            await started.wait()
            start()
            nursery.start_soon(self._stop_on_signal)
            await pyfuse3.main()
            nursery.cancel_scope.cancel()

    async def _stop_on_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.stop()


class _Request:
    """What a stepped coroutine waits for."""

    __slots__ = ("args", "function", "kind")

    def __init__(self, kind: str, function: Any = None, args: tuple[object, ...] = ()) -> None:
        self.kind = kind
        self.function = function
        self.args = args


@coroutine
def _wait(request: _Request) -> Generator[_Request, Any, Any]:
    return (yield request)


_READABLE = _Request("readable")


class PlainLoop:
    """Steps coroutines by hand; see the module. `run` must be called in the main thread."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Coroutine[Any, Any, Any], Any, BaseException | None]] = deque()
        self._done: deque[tuple[Coroutine[Any, Any, Any], Any, BaseException | None]] = deque()
        self._soon: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._signalled, self._signals = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._reader: Coroutine[Any, Any, Any] | None = None
        self._closing = False
        self._tasks = 0
        self._joining: Coroutine[Any, Any, Any] | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None

    # for handlers

    async def call(self, function: Callable[..., Awaitable[Any]], *args: object) -> Any:
        """Parks the handler; others go on."""
        return await _wait(_Request("trio", function, args))

    def run_soon(self, function: Callable[..., None], *args: object) -> None:
        """See Loop."""
        self._soon.append((function, args))
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """See Loop."""
        pyfuse3.terminate()

    # for pyfuse3, which takes this object for the trio module

    ClosedResourceError = trio.ClosedResourceError

    @property
    def lowlevel(self) -> "PlainLoop":
        """`trio.lowlevel`."""
        return self

    def current_trio_token(self) -> str:
        """Only has to be something."""
        return "plain"

    def current_task(self) -> "PlainLoop":
        """Only its name is used, for log lines."""
        return self

    name = "plain"

    def open_nursery(self) -> "_PlainNursery":
        """`trio.open_nursery`."""
        return _PlainNursery(self)

    def Lock(self) -> "_PlainLock":  # noqa: N802 - the name that pyfuse3 looks up
        """`trio.Lock`."""
        return _PlainLock(self)

    async def wait_readable(self, fd: int) -> None:
        """`trio.lowlevel.wait_readable`; the session's descriptor is the only one ever asked for."""
        self._fd = fd
        await _wait(_READABLE)

    def notify_closing(self, fd: int) -> None:
        """`trio.lowlevel.notify_closing`."""
        self._closing = True
        os.eventfd_write(self._wake, 1)

    # the loop itself

    def run(self, background: Background, start: Callable[[], None]) -> None:
        """See Loop."""
        started = threading.Event()
        failure: list[BaseException] = []
        thread = threading.Thread(target=self._run_trio, args=(background, started, failure), name="trio", daemon=True)
        thread.start()
        started.wait()
        if failure:
            raise failure[0]
        pyfuse3.trio = self  # type: ignore[attr-defined]  # the seam that pyfuse3.asyncio uses too
        start()
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.set_wakeup_fd(self._signals, warn_on_full_buffer=False)
        try:
            self._drive(pyfuse3.main())
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            pyfuse3.trio = trio  # type: ignore[attr-defined]
            self._stop_trio()
            thread.join(5)

    def _drive(self, main: Coroutine[Any, Any, Any]) -> None:
        self._ready.append((main, None, None))
        self._tasks += 1
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._signalled, select.POLLIN)
        registered = False
        ready = self._ready
        while True:
            while ready:
                self._step(*ready.popleft())
            if not self._tasks:
                return
            if self._reader is not None and not registered:
                poll.register(self._fd, select.POLLIN)
                registered = True
            for fd, _ in self._next_events(poll):
                if fd == self._wake:
                    self._take_wake()
                elif fd == self._signalled:
                    os.read(fd, 512)  # Python's own handler has run by now
                elif self._reader is not None:
                    reader, self._reader = self._reader, None
                    ready.append((reader, None, None))
                    # The kernel has more while we answer: step before polling again.
            if self._closing and self._reader is not None:
                reader, self._reader = self._reader, None
                ready.append((reader, None, trio.ClosedResourceError()))

    @staticmethod
    def _next_events(poll: select.poll) -> list[tuple[int, int]]:
        """Wait for the kernel, but look again a few times before going to sleep.

        A client's next request follows within microseconds of our answer, and waking a sleeping processor costs more
        than the request. Yielding lets a client on the same processor go first, so nothing is lost there.
        """
        for _ in range(_LOOKS):
            events = poll.poll(0)
            if events:
                return events
            os.sched_yield()
        return poll.poll()

    def _take_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 8)
        while self._done:
            self._ready.append(self._done.popleft())
        for _ in range(len(self._soon)):  # what these put off comes after the requests that wait
            function, args = self._soon.popleft()
            function(*args)

    def _step(self, task: Coroutine[Any, Any, Any], value: Any, error: BaseException | None) -> None:
        try:
            request = task.send(value) if error is None else task.throw(error)
        except StopIteration:
            self._tasks -= 1
            if self._joining is not None and self._tasks == 1:
                joiner, self._joining = self._joining, None
                self._ready.append((joiner, None, None))
            return
        if request is _READABLE:
            self._reader = task
        elif request.kind == "trio":
            assert self._token is not None
            self._token.run_sync_soon(self._start_call, task, request)
        elif request.kind == "lock":
            request.function.append(task)
        else:
            self._joining = task

    def _start_call(self, task: Coroutine[Any, Any, Any], request: _Request) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._answer_call, task, request)

    async def _answer_call(self, task: Coroutine[Any, Any, Any], request: _Request) -> None:
        try:
            self._done.append((task, await request.function(*request.args), None))
        except Exception as error:
            self._done.append((task, None, error))
        os.eventfd_write(self._wake, 1)

    def _run_trio(self, background: Background, started: threading.Event, failure: list[BaseException]) -> None:
        async def run() -> None:
            self._token = trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await background(started.set)

        try:
            trio.run(run)
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    def _stop_trio(self) -> None:
        def cancel() -> None:
            if self._nursery is not None:
                self._nursery.cancel_scope.cancel()

        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(cancel)

    def _on_signal(self, number: int, frame: object) -> None:
        self._soon.append((self.stop, ()))
        os.eventfd_write(self._wake, 1)


class _PlainNursery:
    """As much of a nursery as pyfuse3 uses: one, never cancelled, joined at its end."""

    def __init__(self, loop: PlainLoop) -> None:
        self._loop = loop

    async def __aenter__(self) -> Self:
        return self

    def start_soon(self, function: Callable[..., Any], *args: object, name: object = None) -> None:
        self._loop._tasks += 1
        self._loop._ready.append((function(*args), None, None))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop._tasks > 1:
            await _wait(_Request("join"))


class _PlainLock:
    """A first-come lock between coroutines of one loop."""

    def __init__(self, loop: PlainLoop) -> None:
        self._loop = loop
        self._held = False
        self._waiting: deque[Coroutine[Any, Any, Any]] = deque()

    async def __aenter__(self) -> None:
        if self._held:
            await _wait(_Request("lock", self._waiting))
        self._held = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = False
        if self._waiting:
            # atomic: nobody else can take it before the first in line runs
            self._held = True
            self._loop._ready.append((self._waiting.popleft(), None, None))


def make_loop(name: str) -> Loop:
    """`plain` or `trio`."""
    return TrioLoop() if name == "trio" else PlainLoop()
