"""Expiry of contexts that calls of `ctx_context` made: they are removed after some unused days.

The first line of such a request contains a digest of the task's name and of the rest. So a request that was edited, or
a task that was renamed, no longer counts as made by a call. A task stays, too, if it contains anything besides its
request, if its request has attributes such as `pinned`, or if another request names it.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from ctxfs.context.delivery.delivery_store import DeliveryStore
from ctxfs.model.change import Change, Remove
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.store.record_names import is_record
from ctxfs.supervise import repeat

log = logging.getLogger(__name__)

REQUEST = "request.toml"
_MARK = b"# Made by a call of ctx_context; removed when unused (context.expire_days), unless it changes: "
_FIRST_SWEEP_SECONDS = 2.0
_SWEEP_SECONDS = 3600.0
_DAY_NS = 86_400 * 10**9


def mark_request(task: str, request: bytes) -> bytes:
    """Return a request with the line that shows that a call made it."""
    return _MARK + _digest(task, request) + b"\n" + request


def is_made_by_call(task: str, request: bytes) -> bool:
    """Return True for a request that a call made for this task, and that nothing has changed since."""
    line, _, rest = request.partition(b"\n")
    return line == _MARK + _digest(task, rest)


def _digest(task: str, request: bytes) -> bytes:
    return hashlib.sha256(task.encode("utf-8", "surrogateescape") + b"\0" + request).hexdigest()[:16].encode()


class TreeWriter(Protocol):
    """The tree without access control, in sessions of a tool of ctxfs."""

    async def apply(self, changes: Sequence[Change], reason: str) -> None:
        """Apply changes in order."""
        ...


class ContextExpiry:
    """The removal of unused contexts of calls. `days` returns the setting `context.expire_days`; 0: nothing expires.

    With `is_shared` only contexts are removed that this node has delivered: those of others may be in use there.
    """

    def __init__(
        self,
        requests: Mount,
        deliveries: DeliveryStore,
        tree: TreeWriter,
        days: Callable[[], int],
        is_shared: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_shared = is_shared
        self._requests = requests
        self._deliveries = deliveries
        self._tree = tree
        self._days = days

    async def run(self) -> None:
        """Remove unused contexts now and then, forever."""
        failure = "unused contexts cannot be removed"
        await repeat(lambda: self.sweep(time.time_ns()), _SWEEP_SECONDS, log, failure, _FIRST_SWEEP_SECONDS)

    async def sweep(self, now_ns: int) -> list[str]:
        """Remove the contexts that are unused at `now_ns`; return their tasks."""
        days = self._days()
        tasks = [entry.name for entry in await self._requests.list(ROOT) if entry.is_dir] if days else []
        requests = {task: await self._read_request(task) for task in tasks}
        removed = []
        if self._is_shared():
            delivered = await self._deliveries.tasks()
            tasks = [task for task in tasks if task in delivered]
        for task in tasks:
            if not is_made_by_call(task, requests[task]) or await self._is_kept(task):
                continue
            name = f"context/{task}".encode("utf-8", "surrogateescape")
            is_named = any(name in request for other, request in requests.items() if other != task)
            if not is_named and now_ns - await self._last_use_ns(task) > days * _DAY_NS:
                await self._tree.apply([Remove(Path(("context", task)))], f"not used for {days} days")
                removed.append(task)
        return removed

    async def _read_request(self, task: str) -> bytes:
        with suppress(OSError):
            return await self._requests.read(Path((task, REQUEST)))
        return b""

    async def _is_kept(self, task: str) -> bool:
        """Return True if a task contains more than its request, or if the request has attributes."""
        names = [entry.name for entry in await self._requests.list(Path((task,)))]
        attributes = await self._requests.metadata(Path((task, REQUEST)))
        return any(name != REQUEST and not is_record(name) for name in names) or any(
            name.startswith(PREFIX) for name in attributes
        )

    async def _last_use_ns(self, task: str) -> int:
        last = (await self._requests.stat(Path((task, REQUEST)))).mtime_ns
        for name in await self._deliveries.names(task):
            with suppress(FileNotFoundError):
                last = max(last, (await self._deliveries.stat(task, name)).mtime_ns)
        return last
