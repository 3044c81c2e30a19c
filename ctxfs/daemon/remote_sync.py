"""Remotes that the daemon keeps up by itself: it pushes new versions, and pulls now and then."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from ctxfs.app import App
from ctxfs.daemon.api.methods import METHODS, run_method
from ctxfs.model.errors import CommandError
from ctxfs.store.settings import RemoteSettings
from ctxfs.supervise import Backoff, Restarts
from ctxfs.versions.remotes.remote import RemoteIsAhead

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between looks for new versions, which gathers those of a second into one push
_BACKOFF = Backoff(first_seconds=5.0, max_seconds=600.0)
_MAX_ROUNDS = 5  # of pull and push, while others push at the same time


class RemoteSync:
    """One task for each remote with `auto`. An unreachable remote is tried again after growing pauses."""

    def __init__(
        self,
        app: App,
        catch_up: Callable[[], Awaitable[None]],
        push_rollback: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """`catch_up` commits earlier writes, `push_rollback` invalidates the kernel's caches after a pull."""
        self._app = app
        self._catch_up = catch_up
        self._push_rollback = push_rollback
        self._session = app.session(app.principal, tool="daemon")

    async def run(self) -> None:
        """Keep the remotes up until cancelled."""
        async with trio.open_nursery() as nursery:
            for remote in self._app.settings.remotes:
                if remote.auto:
                    nursery.start_soon(self._keep_up, remote)

    async def _keep_up(self, remote: RemoteSettings) -> None:
        restarts, pushed, pause = Restarts(_BACKOFF), "", _LOOK_SECONDS
        while True:
            await self._wait(pushed, pause)
            try:
                pushed = await self._exchange(remote.name)
            except (CommandError, OSError) as error:
                if not restarts.ends:
                    log.warning("the remote '%s' is not kept up: %s", remote.name, error)
                pause = restarts.record_end()
                pushed = self._app.archive.newest  # a new version does not shorten the pause
                self._report(remote.name, str(error))
            except Exception as error:  # no fault of an exchange ends the daemon
                log.exception("the remote '%s' is not kept up", remote.name)
                pause, pushed = restarts.record_end(), self._app.archive.newest
                self._report(remote.name, repr(error))
            else:
                restarts.reset()
                pause = float(remote.seconds)
                self._report(remote.name, "")

    async def _wait(self, pushed: str, seconds: float) -> None:
        """Wait for a version newer than `pushed`, at most `seconds`."""
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            await trio.sleep(min(_LOOK_SECONDS, max(end - trio.current_time(), 0.0)))
            if pushed and self._app.archive.newest != pushed:
                return

    async def _exchange(self, name: str) -> str:
        """Push, after a pull if the remote has other versions; return the newest version."""
        for _ in range(_MAX_ROUNDS):
            try:
                pushed: str = await self._call("push", name=name)
                return pushed
            except RemoteIsAhead:
                await self._push_rollback(await self._call("pull", name=name, reason="auto"))
        raise CommandError(f"others push to '{name}' all the time", "it is tried again")

    async def _call(self, method: str, **args: object) -> Any:
        return await run_method(self._app, self._session, METHODS[method], args, self._catch_up)

    def _report(self, name: str, fault: str) -> None:
        """Set the state for `ctxfs status`: the fault, and the time of the last success."""
        remotes = self._app.daemon.remotes
        at = time.time() if not fault else remotes.get(name, {}).get("at")
        remotes[name] = {"fault": fault, "at": at}
