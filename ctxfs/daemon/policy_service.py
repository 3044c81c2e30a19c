"""The policy in force: rules, credentials and marks that change while the daemon runs, pushed to the mount processes."""

import contextlib
import logging
import math
import time
from collections.abc import Callable

import trio

from ctxfs.app import App
from ctxfs.daemon.watch import FolderWatch
from ctxfs.eventlog.spool import AuditActor

log = logging.getLogger(__name__)

_ACTIVE_SECONDS = 0.02  # between looks at the rules soon after a change in the store's folder
_SETTLE_SECONDS = 1.0  # rules, credentials and marks take effect within this time after they are written
# Marks of texts in sources change without a file of the store.
_IDLE_SECONDS = 0.5


class PolicyService:
    """Applies new rules, and the expiry of rules and credentials, within a tenth of a second."""

    def __init__(self, app: App, actor: AuditActor, changed: Callable[[], None]) -> None:
        """Call `changed` after each change of the policy; `actor` is recorded in the audit."""
        self._app = app
        self._actor = actor
        self._changed = changed
        self._active_until = 0.0  # of trio's clock

    async def run(self) -> None:
        """Follow the files of the policy until cancelled."""
        policy = self._app.policy
        epoch, ends, refusal = policy.epoch, policy.policy.next_change(time.time_ns()), policy.refusal
        with contextlib.closing(FolderWatch(str(self._app.layout.root))) as watch:
            while True:
                await self._wait(watch, ends)
                policy.reload()
                if policy.epoch == epoch and not (ends is not None and time.time_ns() >= ends):
                    continue
                reason = "rules" if policy.epoch != epoch else "a rule or token expired"
                if policy.refusal != refusal:
                    refusal = policy.refusal
                    reason = "agents are refused" if refusal else "agents are served again"
                    log.warning("%s", refusal or "the engine answers: agents are served again")
                self._app.spool.record_event(self._actor, "policy", reason)
                epoch, ends = policy.epoch, policy.policy.next_change(time.time_ns())
                self._changed()

    async def _wait(self, watch: FolderWatch, ends: int | None) -> None:
        """Return when the policy may have changed; `ends` is the next expiry, in nanoseconds since the epoch."""
        if not watch.is_active or trio.current_time() < self._active_until:
            await trio.sleep(_ACTIVE_SECONDS)
            return
        left = math.inf if ends is None else max(0.0, (ends - time.time_ns()) / 1e9)
        if await watch.wait(min(left, _IDLE_SECONDS)):
            self._active_until = trio.current_time() + _SETTLE_SECONDS
