"""The composition root: the only module that constructs concrete parts of a store."""

import os

from ctxfs.composition.contexts import ContextParts
from ctxfs.composition.derived_memory import DerivedMemory
from ctxfs.composition.memory import MemoryParts
from ctxfs.composition.store_parts import StoreParts
from ctxfs.context.build.secrets import withhold_secrets
from ctxfs.context.build.tree_view import SourceResolver
from ctxfs.context.delivery.recall import Recall
from ctxfs.eventlog.anchor import Anchors, read_key
from ctxfs.eventlog.audit import Audit
from ctxfs.eventlog.captured_events import CaptureCollector
from ctxfs.eventlog.log import EventLog
from ctxfs.index.search.grep_pool import GrepPool
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.model.principal import Principal, current_person
from ctxfs.mounts.agents_guide import AgentsGuideMount
from ctxfs.mounts.audit import AuditMount
from ctxfs.mounts.branches import attach_branched_areas
from ctxfs.mounts.context import ContextMount
from ctxfs.mounts.control import ControlMount
from ctxfs.mounts.history import HistoryMount
from ctxfs.mounts.replica import ReplicaMount
from ctxfs.mounts.review import ReviewMount
from ctxfs.mounts.search import SearchView, StoredQueries
from ctxfs.mounts.tools import ToolsMount
from ctxfs.mounts.versions import SnapshotsMount, VersionsView
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.owners import Owners
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.services.branches import BranchService
from ctxfs.services.bundles import Bundles
from ctxfs.services.caller_scope import CallerScope
from ctxfs.services.capture import Capture
from ctxfs.services.doctor import Doctor
from ctxfs.services.erasure import DerivedErasure
from ctxfs.services.extraction import Extraction
from ctxfs.services.importing import Imports
from ctxfs.services.kind_folders import DeclaredKindFolders
from ctxfs.services.metadata import Metadata
from ctxfs.services.records import Records
from ctxfs.services.search import Search
from ctxfs.services.sharing import Sharing
from ctxfs.services.sources import SettingsFile, Sources, embedder_of
from ctxfs.services.status import DaemonState, Status, control_mount
from ctxfs.services.supersedes import Supersedes
from ctxfs.store.control_file import POLICY_EXAMPLE, ControlFile
from ctxfs.store.credential_store import CredentialStore
from ctxfs.store.folder import Folder
from ctxfs.store.layout import Layout
from ctxfs.store.memory_file import MemoryFile
from ctxfs.store.settings import Settings
from ctxfs.toolbox import Toolbox
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.journal import new_session_name
from ctxfs.vfs.access_control import AccessControl
from ctxfs.vfs.compare_and_put import CompareAndPut
from ctxfs.vfs.namespace import Namespace
from ctxfs.vfs.session import Session, SessionTree
from ctxfs.vfs.state_transitions import StateTransitions


class App:
    """One open store: its tree and its services. Adapters and commands use nothing else."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.principal: Principal = current_person()
        self.settings_file = SettingsFile(layout)
        self.daemon = DaemonState()
        self._open_records()
        self._open_policy()
        self._open_search()
        self._open_tree()
        self._open_contexts()
        self._attach_mounts()

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.settings_file.current

    def session(self, principal: Principal, session: str = "", tool: str = "", reason: str = "") -> Session:
        """Return a session with a journal of its own, to be closed with it. EPERM for a session of another principal."""
        if session:
            self.records.check_session(principal, session)
        actor = Actor(str(principal), session or new_session_name("s"), tool, reason)
        journal = self.archive.writer(actor)
        return Session(SessionTree(self.tree, principal, journal), actor, journal, principal)

    def _open_records(self) -> None:
        layout, settings = self.layout, self.settings
        self.history = EventLog(layout.history)
        self.collector = CaptureCollector(self.history, layout.history, str(self.principal), withhold_secrets)
        self.audit = Audit(layout.audit, enabled=settings.history.audit)
        self.anchors = Anchors(self.history, self.audit.log, read_key(settings.history.key_file, layout.root))
        self.spool = self.audit.spool()
        memory_file = self.memory_file = MemoryFile(layout.memory_rules)
        self.archive = Archive(
            layout,
            str(self.principal),
            settings.versions.large_bytes,
            max_file_bytes=settings.versions.max_file_bytes,
            anchors=self.anchors,
            transitions=lambda: memory_file.rules.transitions,
        )
        self._rule_history = RuleHistory(layout.policy_history)
        settings_file, owner = self.settings_file, str(self.principal)
        self.sharing = Sharing(layout, settings_file, self.archive, self._rule_history, owner, lambda: self.erasure)

    def _open_policy(self) -> None:
        layout = self.layout
        self.tokens = CredentialStore(layout.tokens)
        self.policy_file = ControlFile(layout.rules, POLICY_EXAMPLE)
        self.owners = Owners(layout.owners, lambda path: os.path.lexists(layout.tree.joinpath(*path.parts)))
        files = (layout.config, layout.rules)
        marks, refusal = self.archive.marks, self.sharing.grace.refusal
        self.policy = PolicyEngine(files, self.tokens, self._rule_history, self.owners, marks, refusal)
        self.scope = CallerScope(self.policy, self.owners, self.archive, str(layout.deliveries))
        self.records = Records(layout, self.history, self.audit, self.archive, self.policy)
        self.imports = Imports(layout, self.history, self.records)
        self.bundles = Bundles(layout, self.archive, self.policy, lambda: self.memory_file.rules.transitions)

    def _open_search(self) -> None:
        self.searcher = Searcher(
            self.layout.index,
            embedder_of(self.settings),
            self.scope.reader,
            Supersedes(self.settings_file, self.archive.reader, self.policy).binds,
            self.settings.index.question_seconds,
            DeclaredKindFolders(self.layout.tree, self.memory_file),
            lambda: self.sharing.is_on,
        )
        self.grep_pool = GrepPool()
        self.extraction = Extraction(self.settings_file)

    def _open_tree(self) -> None:
        settings = self.settings
        self.namespace = Namespace()
        changes = StateTransitions(CompareAndPut(self.namespace), lambda: self.memory_file.rules.transitions)
        self.tree: Mount = AccessControl(changes, self.policy, self.archive.marks)
        max_bytes = settings.index.max_file_bytes
        self.resolver = SourceResolver(self.tree, self.searcher, self.archive, self.scope, max_bytes)
        self._parts = StoreParts(
            self.layout, self.principal, self.archive, self.policy, self.scope, self.searcher, self.namespace
        )
        self.branches = BranchService(self.archive, self.policy, self.scope, self.searcher)
        self.memory = MemoryParts(self._parts, self.memory_file, self.resolver, self.tree, self.sharing.conflicts)
        get, curator = self.settings_file.get, self.memory.curator
        self.tools = Toolbox(self.layout, get, self.policy, self.searcher, curator, self.records, self.daemon)
        self.sources = Sources(self.layout, self.settings_file, self.namespace, self.policy, self.tools)
        self.search = Search(
            self.searcher,
            self.tools,
            self.sources,
            self.grep_pool,
            self.principal,
            self.memory.citations,
            lambda: self.settings_file.current.context.max_share_per_origin,
            self.branches.texts,
            self.sharing.note,
        )
        self.search_view = SearchView(self.search, self.scope, settings.search.results, settings.search.budget)
        self.namespace.attach_view(".search", self.search_view)
        self.namespace.attach_view(".versions", VersionsView(self.archive, self.scope))
        self._open_reports()

    def _open_reports(self) -> None:
        files = (self.settings_file, self.memory.citations, self.memory_file)
        self.metadata = Metadata(self.tree, self.namespace, self.archive.reader, self.searcher, self.scope, *files)
        self.status = Status(
            self.layout,
            self.principal,
            self.daemon,
            self.searcher,
            self.sources,
            self.policy,
            self.tools,
            self.archive,
            self.memory.curator,
            self.memory_file,
            self.memory.citations,
            self.memory.kind_remarks,
            self.collector,
            self.sharing,
        )
        self.doctor = Doctor(self.layout)

    def _open_contexts(self) -> None:
        self.contexts = ContextParts(
            self._parts,
            self.memory,
            self.tree,
            self.resolver,
            self.search,
            self.records,
            self.settings_file,
            self.sharing.note,
            lambda: self.sharing.is_on,
        )
        recall = Recall(self.contexts.builder, self.contexts.deliveries, self.records)
        self.capture = Capture(self.collector, recall, str(self.principal))
        self.derived_memory = DerivedMemory(
            self._parts, self.memory, self.contexts, self.audit, self.settings_file, self.daemon
        )
        self.erasure: DerivedErasure = DerivedErasure(
            self.contexts.tasks,
            self.history,
            self.capture,
            self.tools,
            self.search_view,
            self.searcher,
            self.derived_memory.sessions,
            self.memory.citations,
            self.extraction,
            self.derived_memory.table,
            self.layout.root,
        )

    def _attach_mounts(self) -> None:
        tree, owner = self.namespace, str(self.principal)
        tree.attach(ROOT, AgentsGuideMount(self.sources.visible))
        reason, branches = self.sharing.read_only_reason, self.archive.branches
        attach_branched_areas(tree, self.layout.tree, branches, self.scope, owner, reason)
        tree.attach(Path(("knowledge",)), ControlMount({}))  # exists before the first source does
        questions = self.search_view.root(self._work_folder("search"), StoredQueries(self.owners, owner))
        tree.attach(Path(("search",)), questions)
        parts, budget = self.contexts, self.settings.context.budget
        contexts = ContextMount(parts.requests, parts.tasks, budget, owner, self.owners, self.scope)
        tree.attach(Path(("context",)), contexts)
        tree.attach(Path(("history",)), HistoryMount(self.history, owner, self.scope, self.derived_memory.sessions))
        tree.attach(Path(("history", "audit")), AuditMount(self.audit))
        tree.attach(Path(("tools",)), ToolsMount(self.tools.calls, self.tools, self.scope))
        reviews = ReviewMount(self._work_folder("human"), self.memory.curator)
        tree.attach(Path(("human",)), ReplicaMount(reviews, reason))
        rules = (self.policy_file, self.memory_file)
        control = control_mount(self.layout, self.principal, self.status, tree, self.policy, rules)
        tree.attach(Path((".ctxfs",)), control, hidden=True)
        tree.attach(Path((".snapshots",)), SnapshotsMount(self.archive, self.scope), hidden=True)
        self.sources.reload()

    def _work_folder(self, area: str) -> Mount:
        return Folder(str(self.layout.tree / area), writable=True)
