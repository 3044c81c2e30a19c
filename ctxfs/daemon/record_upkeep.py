"""The upkeep of event log and audit: records are flushed, collected into the hash chain, and compressed when old."""

import itertools
import logging

import trio

from ctxfs.app import App
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.1
_FLUSHES_PER_COLLECTION = 10
_MAX_COLLECTED_RECORDS = 2000  # half a second, for which the end of the daemon waits
_PACK_AFTER_SECONDS = 10.0
_DAY_SECONDS = 86400.0


class RecordUpkeep:
    """Keeps the event log and the audit of a store. The methods run until they are cancelled."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def flush_audit(self) -> None:
        """Flush the audit spool often, and collect it into the audit's hash chain less often."""
        for turn in itertools.count():
            await trio.sleep(_FLUSH_SECONDS)
            self._app.spool.flush()
            if turn % _FLUSHES_PER_COLLECTION == 0:
                try:
                    await blocking(self._app.audit.collect, _MAX_COLLECTED_RECORDS)
                except OSError as error:
                    log.error("the audit cannot be written: %s", error)

    async def pack_history(self) -> None:
        """Compress old days of the event log and the audit, soon after the start and once a day."""
        while True:
            await trio.sleep(_PACK_AFTER_SECONDS)
            try:
                await blocking(self._app.records.pack, self._app.settings.history.pack_after_days)
            except OSError as error:
                log.error("the history cannot be compressed: %s", error)
            await trio.sleep(_DAY_SECONDS)
