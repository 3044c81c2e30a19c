"""Erasure of texts that were derived from erased content, outside of the work tree."""

from pathlib import Path as HostPath

from ctxfs.context.delivery.tasks import Tasks
from ctxfs.eventlog.log import EventLog
from ctxfs.index.search.searcher import Searcher
from ctxfs.mounts.search import SearchView
from ctxfs.services.capture import Capture
from ctxfs.services.citations import Citations
from ctxfs.services.extraction import Extraction
from ctxfs.services.memory_table import MemoryTable
from ctxfs.services.session_episodes import SessionEpisodes
from ctxfs.store.migration import drop_snapshots
from ctxfs.threads import blocking
from ctxfs.toolbox import Toolbox
from ctxfs.versions.phrases import Phrases


class DerivedErasure:
    """Erases deliveries, event records, results of calls, and snapshots of earlier formats.

    The archive erases versions, the indexer purges the index.
    """

    def __init__(
        self,
        tasks: Tasks,
        events: EventLog,
        capture: Capture,
        tools: Toolbox,
        search_view: SearchView,
        searcher: Searcher,
        episodes: SessionEpisodes,
        citations: Citations,
        extraction: Extraction,
        table: MemoryTable,
        store: HostPath,
    ) -> None:
        self._table = table
        self._store = store
        self._citations = citations
        self._tasks = tasks
        self._events = events
        self._capture = capture
        self._tools = tools
        self._search_view = search_view
        self._searcher = searcher
        self._episodes = episodes
        self._extraction = extraction

    async def erase_session(self, session: str, by: str) -> int:
        """Erase the records of a session, which search no longer finds; return their number. OSError ENOENT without any."""
        count = await blocking(self._events.erase_session, session, by)
        await blocking(drop_snapshots, self._store)
        self._search_view.evict()
        self._citations.forget()
        await blocking(self._searcher.drop_memory)
        return count

    async def erase(self, phrases: Phrases, by: str) -> dict[str, int]:
        """Erase every derived text with one of the phrases, and empty the caches; return the counts by kind."""
        await self._capture.collect()  # a spooled event is erased as a record
        tasks = await self._tasks.drop_matching(phrases.is_in)
        records = await blocking(self._events.erase_matching, phrases.is_in, by)
        calls = await blocking(self._tools.calls.store.erase_matching, phrases.is_in)
        await blocking(drop_snapshots, self._store)
        self._search_view.evict()
        self._episodes.evict()
        self._citations.forget()
        self._extraction.evict()
        self._table.forget()
        await blocking(self._searcher.drop_memory)
        return {"deliveries": len(tasks), "records": records, "calls": calls}
