"""Captured events of clients: their collection into the event log, and answers to captured prompts."""

import logging
import time

import trio

from ctxfs.context.delivery.recall import Recall, RecallRequest
from ctxfs.eventlog.captured_events import CaptureCollector
from ctxfs.eventlog.client_sessions import session_of_client
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_principal

log = logging.getLogger(__name__)

_COLLECT_SECONDS = 0.3  # a record is found a second after its event
_DAY_SECONDS = 86_400.0


class Capture:
    """The capture spool of a store, and recall for the sessions of its clients."""

    def __init__(self, collector: CaptureCollector, recall: Recall, owner: str) -> None:
        self._collector = collector
        self._recall = recall
        self._owner = owner

    async def collect(self) -> int:
        """Append the spooled events to the event log; return the number of records. Failures are logged only."""
        try:
            collected = await blocking(self._collector.collect)
        except OSError as error:
            log.error("captured events cannot be recorded, and stay in the spool: %s", error.strerror or error)
            return 0
        except Exception:  # the daemon survives any fault of an event
            log.exception("captured events cannot be recorded")
            return 0
        for window in collected.ended:
            await self._recall.end_window(window.session)
        return collected.records

    async def end_session(self, session: str) -> None:
        """Drop the windows of a session that is erased."""
        await self._recall.end_window(session)

    async def run(self) -> None:
        """Collect events soon after they are captured, and remove unused windows once a day, forever."""
        expired_at = -_DAY_SECONDS
        while True:
            if self._collector.has_events():
                await self.collect()
            if trio.current_time() - expired_at > _DAY_SECONDS:
                expired_at = trio.current_time()
                await self._expire(time.time_ns())
            await trio.sleep(_COLLECT_SECONDS)

    async def answer(self, prompt: str, tokens: int, client: str, client_session: str) -> str:
        """Return an answer to a prompt of a client, of at most `tokens` tokens; empty if there is nothing new.

        Compactions that were captured before are taken into account.
        """
        await self.collect()
        request = RecallRequest(prompt, tokens, session_of_client(client, client_session))
        return await self._recall.answer(request, str(acting_principal() or self._owner))

    async def _expire(self, now_ns: int) -> None:
        try:
            await self._recall.expire(now_ns)
        except OSError as error:
            log.error("windows of recall cannot be removed: %s", error.strerror or error)
