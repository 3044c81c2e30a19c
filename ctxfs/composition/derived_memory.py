"""The parts for the life of memories that follow from sessions, deliveries and the memories themselves."""

import os

from ctxfs.composition.contexts import ContextParts
from ctxfs.composition.memory import MemoryParts
from ctxfs.composition.store_parts import StoreParts
from ctxfs.eventlog.audit import Audit
from ctxfs.services.consolidation import Consolidation
from ctxfs.services.consolidator import Consolidator
from ctxfs.services.impact import Impact
from ctxfs.services.memory_episodes import TOOL as EPISODES_TOOL
from ctxfs.services.memory_episodes import MemoryEpisodes
from ctxfs.services.memory_table import MemoryTable
from ctxfs.services.recent_activity import RecentActivity
from ctxfs.services.session_episodes import SessionEpisodes
from ctxfs.services.session_records import SessionRecords
from ctxfs.services.sources import SettingsFile
from ctxfs.services.status import DaemonState
from ctxfs.services.use import Use
from ctxfs.services.user_records import UserRecords
from ctxfs.store.settings import MemorySettings


class DerivedMemory:
    """Episodes of sessions, use, activity, impact and consolidation."""

    def __init__(
        self,
        store: StoreParts,
        memory: MemoryParts,
        contexts: ContextParts,
        audit: Audit,
        settings: SettingsFile,
        daemon: DaemonState,
    ) -> None:
        def memory_settings() -> MemorySettings:
            return settings.current.memory

        def hidden() -> list[str]:
            return [os.path.realpath(store.layout.root), *(str(mount["at"]) for mount in daemon.mountpoints())]

        self.use = Use(contexts.deliveries, contexts.tasks)
        self.table = MemoryTable(
            store.layout.tree, lambda: memory.rules.rules.kinds, memory.citations, self.use, store.scope
        )
        self.activity = RecentActivity(audit)
        self.impact = Impact(store.archive, contexts.deliveries, audit)
        self.sessions = SessionEpisodes(
            store.layout.history, store.archive, store.scope, contexts.summarise, memory_settings
        )
        self.session_records = SessionRecords(self.sessions.files, store.scope, store.layout.index)
        episode_tree = store.tree_of(EPISODES_TOOL)
        self.episodes = MemoryEpisodes(self.sessions, episode_tree, store.archive, store.policy, memory_settings)
        self.consolidation = Consolidation(
            store.layout,
            store.archive,
            store.policy,
            memory.desk,
            store.searcher,
            self.episodes,
            UserRecords(self.sessions.files, store.policy),
            self.use,
            memory.citations,
            Consolidator(settings.get, hidden),
            memory_settings,
            store.principal,
        )
