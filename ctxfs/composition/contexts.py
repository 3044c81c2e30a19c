"""The parts for contexts: construction, tasks, delivery, evaluation and expiry."""

from collections.abc import Callable

from ctxfs.composition.memory import MemoryParts
from ctxfs.composition.store_parts import StoreParts
from ctxfs.context.build.tree_view import SourceResolver
from ctxfs.context.delivery.delivery_store import DeliveryStore
from ctxfs.context.delivery.expiry import ContextExpiry
from ctxfs.context.delivery.tasks import Tasks
from ctxfs.context.external_commands import CommandJudge, CommandSummariser
from ctxfs.context.grounding.evaluator import Evaluator
from ctxfs.model.mount import Mount
from ctxfs.services.records import Records
from ctxfs.services.search import ContextBuilder, Search
from ctxfs.services.sources import SettingsFile
from ctxfs.store.folder import Folder


class ContextParts:
    """Construction, tasks, delivery, evaluation and expiry of contexts."""

    def __init__(
        self,
        store: StoreParts,
        memory: MemoryParts,
        tree: Mount,
        resolver: SourceResolver,
        search: Search,
        records: Records,
        settings: SettingsFile,
        sharing_note: Callable[[], str],
        is_shared: Callable[[], bool],
    ) -> None:
        layout, now = store.layout, settings.current.context
        self.summarise = CommandSummariser(now.summariser) if now.summariser else None
        self.builder = ContextBuilder(
            tree,
            store.searcher,
            store.archive,
            store.scope,
            search.texts,
            store.principal,
            self.summarise,
            lambda: settings.current.context.max_share_per_origin,
            memory.citations,
            sharing_note,
        )
        self.evaluator = Evaluator(resolver, CommandJudge(now.judge) if now.judge else None)
        layout.deliveries.mkdir(exist_ok=True, mode=0o700)
        self.requests: Mount = Folder(str(layout.tree / "context"), writable=True)
        self.deliveries = DeliveryStore(Folder(str(layout.deliveries), writable=True), self.requests)
        self.tasks = Tasks(
            self.requests,
            self.deliveries,
            self.builder,
            self.evaluator,
            memory.curator,
            resolver,
            search,
            records,
            store.scope,
            now.budget,
        )
        self.expiry = ContextExpiry(
            self.requests,
            self.deliveries,
            store.tree_of("expiry"),
            lambda: settings.current.context.expire_days,
            is_shared,
        )
