"""The asynchronous store object of the library, under asyncio and trio.

Its methods are those of the blocking object, run in a worker thread.
"""

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar

import anyio.to_thread

from ctxfs.library.memory import Memory
from ctxfs.library.store import Store, open_store

Owner = TypeVar("Owner")
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_WATCH_SECONDS = 0.5  # after which a cancelled watch ends


def _in_thread(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate["_Asynchronous[Owner]", Arguments], Awaitable[Result]]:
    """Return the asynchronous form of a blocking method. Cancellation waits for the request that is being served."""

    async def call(self: "_Asynchronous[Owner]", /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return await anyio.to_thread.run_sync(lambda: method(self.blocking, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


class _Asynchronous(Generic[Owner]):
    """An object whose methods call those of a blocking one."""

    def __init__(self, blocking: Owner) -> None:
        self.blocking = blocking


class AsyncMemory(_Asynchronous[Memory]):
    """The methods of `Memory`, each to be awaited."""

    folder = _in_thread(Memory.folder)
    add = _in_thread(Memory.add)
    search = _in_thread(Memory.search)
    promote = _in_thread(Memory.promote)
    correct = _in_thread(Memory.correct)
    cite = _in_thread(Memory.cite)
    check = _in_thread(Memory.check)
    set_state = _in_thread(Memory.set_state)


class AsyncStore(_Asynchronous[Store]):
    """The methods of `Store`, each to be awaited. Requests of one object take turns; open several for parallel ones."""

    def __init__(self, blocking: Store) -> None:
        super().__init__(blocking)
        self.memory = AsyncMemory(blocking.memory)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()

    close = _in_thread(Store.close)
    whoami = _in_thread(Store.whoami)
    stat = _in_thread(Store.stat)
    exists = _in_thread(Store.exists)
    list = _in_thread(Store.list)
    read = _in_thread(Store.read)
    read_text = _in_thread(Store.read_text)
    read_extracted = _in_thread(Store.read_extracted)
    write = _in_thread(Store.write)
    append = _in_thread(Store.append)
    edit = _in_thread(Store.edit)
    remove = _in_thread(Store.remove)
    move = _in_thread(Store.move)
    make_directory = _in_thread(Store.make_directory)
    meta = _in_thread(Store.meta)
    set_meta = _in_thread(Store.set_meta)
    search = _in_thread(Store.search)
    find = _in_thread(Store.find)
    grep = _in_thread(Store.grep)
    glob = _in_thread(Store.glob)
    context = _in_thread(Store.context)
    verify_context = _in_thread(Store.verify_context)
    history = _in_thread(Store.history)
    record = _in_thread(Store.record)
    log = _in_thread(Store.log)
    show = _in_thread(Store.show)
    diff = _in_thread(Store.diff)
    undo = _in_thread(Store.undo)
    redo = _in_thread(Store.redo)
    restore = _in_thread(Store.restore)
    snapshot = _in_thread(Store.snapshot)

    async def watch(self, below: str = "") -> AsyncGenerator[Sequence[str], None]:
        """Yield the paths that have changed at and below a path, see `Store.watch`, until the caller stops."""
        changes = await anyio.to_thread.run_sync(lambda: self.blocking.watch(below, timeout=_WATCH_SECONDS))
        try:
            while True:
                if paths := await anyio.to_thread.run_sync(lambda: next(changes, ())):
                    yield paths
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(changes.close)


async def open_async(
    store: str | None = None, *, principal: str = "", token: str = "", session: str = "", reason: str = ""
) -> AsyncStore:
    """Open a store for `await`, with the arguments and errors of `open_store`: `async with await ctxfs.open_async(…)`."""
    return AsyncStore(
        await anyio.to_thread.run_sync(
            lambda: open_store(store, principal=principal, token=token, session=session, reason=reason)
        )
    )
