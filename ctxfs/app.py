"""The composition root: the only place that names concrete types."""

import contextlib
import errno
import functools
import hashlib
import itertools
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path as HostPath
from typing import Any

import trio

from ctxfs import __version__
from ctxfs.context.build.constructor import CANDIDATES, Constructor, Context, TreeView, from_answer
from ctxfs.context.build.copied_text import CopiedText, find_recalled, passed_on
from ctxfs.context.build.request import Request
from ctxfs.context.build.token_bound import upper_bound
from ctxfs.context.build.tokens import open_tokenizer
from ctxfs.context.build.tree_view import CurrentTree, SourceResolver, TreeAt
from ctxfs.context.delivery.delivery_store import DeliveryStore
from ctxfs.context.delivery.tasks import ANSWERED, RESPONSE, Tasks, is_record, sources_of_answered
from ctxfs.context.external_commands import CommandJudge, CommandSummariser
from ctxfs.context.grounding.evaluator import Evaluator
from ctxfs.context.grounding.review import Curator
from ctxfs.eventlog.anchor import Anchors, read_key
from ctxfs.eventlog.audit import Audit
from ctxfs.eventlog.log import EventLog, is_session
from ctxfs.exec.call_store import ARGS, RESULT, STDERR
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.options import EmbedderSpec, IndexedRoot, IndexerOptions
from ctxfs.index.query import Query, parse_query
from ctxfs.index.search.glob import glob_matcher
from ctxfs.index.search.grep import GrepResult, Matcher, Only, places_of
from ctxfs.index.search.grep_pool import GrepPool
from ctxfs.index.search.results import Generation, SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.change import Change, Put
from ctxfs.model.entry import Entry
from ctxfs.model.errors import not_permitted, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.model.principal import Principal, current_person, parse_principal
from ctxfs.policy.derived_access import may_read_derived
from ctxfs.policy.engine import PolicyEngine, Reader, is_of_calls
from ctxfs.policy.evaluate import judged
from ctxfs.policy.owners import NEVER, OWNED_AREAS, Owners
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.policy.rules import Verb
from ctxfs.store import rooted_fs
from ctxfs.store.config import Settings, read_settings
from ctxfs.store.credential_store import CredentialStore
from ctxfs.store.folder import Folder
from ctxfs.store.layout import AREAS, Layout
from ctxfs.store.lost_and_found import list_found
from ctxfs.store.policy_file import PolicyFile
from ctxfs.store.registry import confirmed_roots
from ctxfs.threads import blocking, in_turn
from ctxfs.toolbox import Toolbox
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.phrases import Phrases
from ctxfs.versions.recording.journal import new_session
from ctxfs.versions.recording.pathindex import Filter
from ctxfs.vfs.access_control import AccessControl
from ctxfs.vfs.caller_context import acting_principal, acting_session
from ctxfs.vfs.compare_and_put import CompareAndPut
from ctxfs.vfs.namespace import Namespace
from ctxfs.vfs.session import Session, SessionTree
from mounts import knowledge, memory, pad
from mounts.agents_guide import AgentsGuideMount
from mounts.audit import AuditMount
from mounts.context import ContextMount
from mounts.control import ControlMount, as_json
from mounts.history import HistoryMount
from mounts.mcp_documents import McpDocumentsMount
from mounts.review import ReviewMount
from mounts.search import KeptQuestions, SearchView
from mounts.tools import ToolsMount
from mounts.versions import SnapshotsMount, VersionsView

log = logging.getLogger(__name__)

_SETTERS_KEPT = 10_000
_SESSIONS_KEPT = 100_000
_ANSWERED_SECONDS = 0.3
_LONGEST_ARGUMENTS = 4000  # characters of them in the history


class App:
    """One opened store: its tree, its search, its contexts. Adapters and commands use nothing else."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.settings: Settings = read_settings(layout.config)
        self.principal: Principal = current_person()
        self.tokens = CredentialStore(layout.tokens)
        self.policy_file = PolicyFile(layout.rules)
        self.owners = Owners(layout.owners, lambda path: os.path.lexists(layout.tree.joinpath(*path.parts)))
        past = RuleHistory(layout.policy_past)
        self.history = EventLog(layout.history)
        self.audit = Audit(layout.audit, enabled=self.settings.history.audit)
        self.anchors = Anchors(self.history, self.audit.log, read_key(self.settings.history.key_file, layout.root))
        self.spool = self.audit.spool()
        self.archive = Archive(
            layout,
            str(self.principal),
            self.settings.versions.large_bytes,
            max_file_bytes=self.settings.versions.max_file_bytes,
            anchors=self.anchors,
        )
        marks = self.archive.marks
        files = (layout.config, layout.rules)
        self.policy = PolicyEngine(files, self.tokens, past, self.owners, lambda: marks.quarantine)
        self.searcher = Searcher(layout.index, embedder_of(self.settings), self._reader, self._binds)
        self._setters: dict[tuple[str, str], tuple[str, str]] = {}  # claim → (newest version of its file, who set it)
        self._sessions: dict[str, str] = {}  # whose each is, of those that were named
        self.grep_pool = GrepPool()
        self.progress: dict[str, object] = {}
        self.mountpoints: Callable[[], list[Mapping[str, object]]] = list
        self.secrets: Callable[[], Mapping[str, list[str]]] = dict
        self._opaque: frozenset[str] = frozenset({os.path.realpath(layout.root), *confirmed_roots()})
        self._view = SearchView(
            self.ask,
            self._pack,
            self._generation,
            self.settings.search.results,
            self.settings.search.budget,
            self._sight,
        )
        self.namespace = Namespace(
            {
                ".search": self._view,
                ".versions": VersionsView(self.archive, is_versioned, self.past_since, self.restricted_reader),
            }
        )
        self.tree: Mount = AccessControl(CompareAndPut(self.namespace), self.policy, marks)
        present = SourceResolver(self.tree, self.searcher, self.archive, self._has_past, self.past_since)
        context = self.settings.context
        self._constructor = Constructor(
            self._world, CommandSummariser(context.summariser) if context.summariser else None
        )
        self.evaluator = Evaluator(present, CommandJudge(context.judge) if context.judge else None)
        self.curator = Curator(_Book(self))
        self.tools = Toolbox(
            layout,
            lambda: self.settings,
            self.policy,
            self.searcher,
            self.curator,
            self.remember,
            lambda: self.mountpoints(),
        )
        requests = self._work_folder("context")
        layout.deliveries.mkdir(exist_ok=True, mode=0o700)
        self._deliveries = DeliveryStore(Folder(str(layout.deliveries), writable=True), requests)
        self.tasks = Tasks(
            requests,
            self._deliveries,
            self.build,
            self.evaluator,
            self.curator,
            present.reread,
            self._generation,
            context.budget,
            self.remember,
            self._sight,
            lambda folder: self.policy.may(acting_principal(), Verb.CREATE, folder),
            self.policy.is_for_all_agents,
        )
        self.present = present
        self._attach()

    def reload_settings(self) -> None:
        """Read ctxfs.toml again and show the sources that it names now."""
        self.settings = read_settings(self.layout.config)
        wanted: dict[Path, Mount] = {
            Path(("knowledge", source.name)): knowledge.provide(source, opaque_below(source.path, self._opaque))
            for source in self.settings.sources
        }
        for name, known in self.tools.shelf.shown().items():
            if known.documents or known.templates:
                wanted[Path(("knowledge", name))] = self._documents_of(name)
        for at in self.namespace.mountpoints:
            if len(at.parts) == 2 and at.parts[0] == "knowledge" and at not in wanted:
                self.namespace.detach(at)
        for at, mount in wanted.items():
            self.namespace.attach(at, mount)

    def _documents_of(self, server: str) -> Mount:
        async def fetch(uri: str, parts: tuple[str, ...]) -> bool:
            return await self.tools.servers.fetch(server, uri, parts)

        kept = Folder(str(self.tools.shelf.resources_of(server)), writable=False)
        return McpDocumentsMount(kept, lambda: self.tools.shelf.shown()[server], fetch)

    async def ask_for_server(self, server: str, kind: str, text: str, schema: Mapping[str, Any]) -> str | None:
        """What a person answers to a server that asks; None if they refuse."""
        what = "a text, as a model would write it" if kind == "model" else f"this form: {json.dumps(dict(schema))}"
        question = f"The server tools/{server} asks for {what}\n\n{text}"
        about = {"kind": "question", "server": server, "asked": datetime.now(UTC).isoformat(), "text": text[:10_000]}
        name = await self.curator.permission(question, about)
        while (answer := await self.curator.answer(name)) is None:
            await trio.sleep(_ANSWERED_SECONDS)
        return None if answer == "reject" else answer.removeprefix("edit").removeprefix("accept").strip()

    @property
    def opaque(self) -> frozenset[str]:
        """Host folders that no source shows, indexes or watches, although it may contain them: stores that were confirmed, mounts.

        A tree that contained itself would have no end, and a mount that asked itself would wait for ever.
        """
        return self._opaque

    def hide_mountpoint(self, at: str) -> bool:
        """Make a mount point opaque; to be called before the kernel knows of it. False if it was already.

        It stays so while this process lives: an unmounted directory is empty anyway.
        """
        if at in self._opaque:
            return False
        self._opaque |= {at}
        self.reload_settings()
        return True

    def indexed_roots(self) -> list[IndexedRoot]:
        """Every host folder whose files are searched."""
        tree = self.layout.tree
        own = [IndexedRoot("memory", str(tree / "memory"), gitignore=False), IndexedRoot("pad", str(tree / "pad"))]
        if self.settings.tools.searchable:
            self.layout.calls.mkdir(exist_ok=True, mode=0o700)
            own.append(IndexedRoot("tools", str(self.layout.calls), (ARGS, RESULT, STDERR), gitignore=False))
        searchable = [server.name for server in self.settings.servers if server.searchable]
        own += [
            IndexedRoot(f"knowledge/{name}", str(self.tools.shelf.resources_of(name)), gitignore=False)
            for name in searchable
        ]
        return own + [
            IndexedRoot(f"knowledge/{source.name}", source.path, source.exclude + self._ignored(source.path))
            for source in self.settings.sources
        ]

    def _ignored(self, root: str) -> tuple[str, ...]:
        """.gitignore patterns for the opaque folders below a source."""
        inside = opaque_below(root, self._opaque)
        return tuple("/" + "/".join(re.sub(r"([\\*?\[\]!# ])", r"\\\1", part) for part in parts) for parts in inside)

    def indexer_options(self) -> IndexerOptions:
        """What the indexer is started with."""
        index = self.settings.index
        return IndexerOptions(
            self.layout.index, embedder_of(self.settings), index.threads, index.max_file_bytes, index.exact_below
        )

    def _reader(self) -> Reader | None:
        return self.policy.reader(acting_principal())

    def _sight(self) -> Hashable:
        """What tells apart answers that are kept: who asks, as far as they may not see everything."""
        reader = self._reader()
        return None if reader is None else reader.key

    def _has_past(self, path: Path) -> bool:
        """True for a path whose versions whoever acts may read."""
        return is_versioned(path) and self.policy.may(acting_principal(), Verb.READ, path)

    def restricted_reader(self) -> str:
        """Whoever acts, if they may not see everything; else an empty text."""
        principal = acting_principal()
        return "" if self.policy.is_free(principal) else str(principal)

    def past_since(self, path: Path, *, below: bool = False) -> int:
        """From when on whoever acts may see the past of a path, in nanoseconds; 0: all of it. Blocks.

        It begins where the rules last kept the path from them, or where the file came from a place that they may not read.
        """
        principal = acting_principal()
        if principal is None or self.policy.may(principal, Verb.ADMIN, ROOT):
            return 0
        since = max(self.policy.readable_since(principal, path, below=below), self._owned_since(principal, path, below))
        for moved_ns, source in self.archive.moves_of(str(path)):
            place = Path.parse(source)
            if moved_ns <= since:
                break
            if not self.policy.may(principal, Verb.READ, place):
                return max(since, moved_ns)
            earlier = max(self.policy.readable_since(principal, place), self._owned_since(principal, place))
            if earlier > since:
                since = min(earlier, moved_ns)
        return since

    def _owned_since(self, principal: Principal, path: Path, below: bool = False) -> int:
        """From when on the past of a task or kept question is an agent's: since it owns it. Records have no past for agents."""
        place = judged(path)
        if principal.is_person or not place.parts or place.parts[0] not in OWNED_AREAS:
            return 0
        if len(place.parts) < 2:
            return NEVER if below else 0
        if len(place.parts) > 2 and is_record(place.parts[2]):
            return NEVER
        is_derived = len(place.parts) == 2 or place.parts[2] == RESPONSE
        if place.parts[0] == "context" and is_derived and not self._answer_is_for(principal, place):
            return NEVER
        return self.owners.since(principal, place)

    def _answer_is_for(self, principal: Principal, place: Path) -> bool:
        """True if an agent may read all that the response of a task was made from, as far as that is recorded. Blocks."""
        try:
            data = rooted_fs.read_file(str(self.layout.deliveries), (place.parts[1], ANSWERED))
            sources = sources_of_answered(data)
        except OSError:
            sources = None
        may_read = functools.partial(self.policy.may, principal, Verb.READ)
        return may_read_derived(principal, self.owners.of(place), sources, may_read)

    def is_withheld(self, path: Path, *texts: bytes) -> bool:
        """True for an agent that asks about the past of what is in quarantine, or of a directory with that in it, or for one of
        `texts` that holds something of it. Blocks.
        """
        principal, marks = acting_principal(), self.archive.marks
        if principal is None or principal.is_person or marks.quarantine.is_empty:
            return False
        quarantine = marks.quarantine
        return quarantine.covers(path) or quarantine.reaches_below(path) or any(map(marks.holds, texts))

    def _sees_history(self, path: Path) -> bool:
        return self.policy.may(acting_principal(), Verb.LIST, Path(("history", *path.parts)))

    def _sees_all(self) -> bool:
        return self.policy.is_free(acting_principal())

    async def ask(self, question: str, below: Path) -> SearchResults:
        """Answer a question typed by somebody; below tools/, which tools do it."""
        if below.parts[:1] == ("tools",) and not is_of_calls(below):
            return await self.tools.find(parse_query(question), below)
        return await self._search(parse_query(question), below, CANDIDATES)

    async def find(self, filters: str, below: Path, limit: int) -> list[str]:
        """Paths of the files whose attributes satisfy `filters`, newest first; EINVAL if there is no filter in it."""
        return await blocking(self.searcher.find, parse_query(filters), below, limit)

    async def grep(self, matcher: Matcher, below: Path, limit: int, only: Only, *, hidden: bool) -> GrepResult:
        """Lines that match, in the order of paths. Reads only files that the index says may hold one."""
        paths = await self._may_hold(matcher.needed, below)
        places = places_of(paths, self.indexed_roots(), hidden=hidden)
        principal = str(acting_principal() or self.principal)
        lines, faults = await self.grep_pool.scan(principal, places, matcher, only, limit)
        if behind := self.searcher.missing():
            faults = [*faults, behind]
        return GrepResult(lines[:limit], faults, more=len(lines) > limit)

    async def glob(self, pattern: str, below: Path, limit: int) -> list[str]:
        """Paths of indexed files that a pattern such as `**/*.md` names, in order. EINVAL for one that cannot be meant."""
        matches = glob_matcher(pattern)
        return list(itertools.islice(filter(matches, await self._may_hold((), below)), limit))

    async def _may_hold(self, needed: Sequence[Collection[str]], below: Path) -> Sequence[str]:
        paths = await blocking(self.searcher.may_hold, needed, below)
        if paths is None:
            raise path_error(errno.EAGAIN, below, "nothing has been indexed yet: try again in a moment")
        return paths

    def _world(self, as_of: str) -> TreeView:
        ports = self.tree, self.searcher, self.archive, self._has_past, self.past_since
        return TreeAt(as_of, *ports) if as_of else CurrentTree(*ports)

    async def build(self, request: Request, principal: str = "") -> Context:
        """Build a context for a request, for whoever acts if nobody is named."""
        return await self._constructor.build(request, principal or str(acting_principal() or self.principal))

    async def forget_derived(self, phrases: Phrases, by: str) -> dict[str, int]:
        """Erase what was made from erased texts outside of the work tree, and what is cached; how many of each kind.

        Versions are the archive's part, the index is purged by its indexer.
        """
        tasks = await self.tasks.forget_matching(phrases.is_in)
        records = await blocking(self.history.forget_matching, phrases.is_in, by)
        calls = await blocking(self.tools.calls.kept.forget_matching, phrases.is_in)
        self._view.evict()
        await blocking(self.searcher.forget)
        return {"deliveries": len(tasks), "records": records, "calls": calls}

    async def remember(self, principal: str, said: Sequence[Mapping[str, object]], session: str = "") -> None:
        """Add to the history of the session that acts what ctxfs itself did for it. Never fails: the deed is done."""
        bodies = [{"principal": principal, "origin": "ctxfs", **each} for each in said]
        try:
            await blocking(self.history.append, session or acting_session() or "ctxfs", bodies)
        except OSError as error:
            log.warning("the history could not be added to: %s", error.strerror or error)

    async def recalled(self, change: Put) -> tuple[Sequence[CopiedText], Mapping[str, bytes]]:
        """(what of a text that an agent writes the tree says already, which marks go over with it); people know what they write."""
        principal = acting_principal()
        if principal is None or principal.is_person or change.path.parts[:1] not in (("memory",), ("pad",)):
            return (), {}
        try:
            found = await blocking(
                find_recalled, self.searcher, str(change.path), change.data.decode("utf-8", "replace")
            )
        except OSError as error:
            log.warning("what is written could not be compared with what is there: %s", error)
            return (), {}
        doubtful = [await self.tree.metadata(Path.parse(each.path)) for each in found if each.untrusted]
        return found, passed_on(doubtful)

    def pack_history(self, days: int) -> int:
        """Compress what of the history and the audit is older than that; how many files. They read as before. Blocks."""
        before = datetime.now(UTC).date() - timedelta(days=days)
        return self.history.compress_before(before) + self.audit.log.compress_before(before)

    def _binds(self, new: str, old: str) -> bool:
        """True if a file takes the place of another one: if whoever said so may change that one, or asks. Blocks."""
        place = Path.parse(new)
        if not is_versioned(place):
            source = next((s for s in self.settings.sources if place.parts[:2] == ("knowledge", s.name)), None)
            same = Path.parse(old).parts[:2] == place.parts[:2]
            return same or (source is not None and not source.writable)  # then people keep it
        setter = self._setter(new, old)
        if not setter:
            return False
        principal = parse_principal(setter)
        asks = acting_principal()
        return (
            principal.is_person
            or (asks is not None and str(asks) == setter)
            or self.policy.may(principal, Verb.WRITE, Path.parse(old))
        )

    def _setter(self, path: str, old: str) -> str:
        """The principal that set `supersedes` of a file to what it is, by its versions; empty as long as it has none with that."""
        last = self.archive.last_change(path)
        if last is None:
            return ""
        known = self._setters.get((path, old))
        if known is not None and known[0] == last.oid:
            return known[1]
        setter = ""
        for shown in reversed(self.archive.versions(path)):
            said = self.archive.attributes(shown)[1].get(f"{PREFIX}supersedes", b"") if shown.is_file else b""
            if said.decode("utf-8", "replace").strip().strip("/") != old:
                break
            setter = shown.commit.actor.principal
        if len(self._setters) >= _SETTERS_KEPT:
            self._setters.clear()
        self._setters[path, old] = (last.oid, setter)
        return setter

    def check_session(self, principal: Principal, session: str) -> None:
        """EPERM for an agent that would act or speak in a session of somebody else. A session is whose who began it. Blocks."""
        me = str(principal)
        if not principal.is_person:
            others = self._session_principals(session) - {me}
            if others or (session in self._agent_names() and session != principal.name):
                raise not_permitted(session[:80], "this session belongs to another principal: name one of your own")
        if len(self._sessions) < _SESSIONS_KEPT:
            self._sessions.setdefault(session, me)

    def _session_principals(self, session: str) -> set[str]:
        """Who is known to have acted in a session: now, in the history, in versions."""
        found = {self._sessions[session]} if session in self._sessions else set()
        if is_session(session):
            for day in self.history.days():
                if session in self.history.sessions(day):
                    found |= self.history.principals(day, session)
        if self.archive.newest:
            steps = self.archive.log("", Filter(session=session), 1)
            found |= {step.commit.actor.principal for step in steps}
        return found

    def _agent_names(self) -> set[str]:
        """The names of agents that rules, memory or tokens name: their sessions of the same name are theirs."""
        members = itertools.chain.from_iterable(self.policy.groups.values())
        named = {who.removeprefix("agent:") for who in (*members, *(rule.principal for rule in self.policy.rules))}
        with contextlib.suppress(OSError):
            named.update(os.listdir(self.layout.tree / "memory"))
        return named

    def caller(self, principal: Principal, session: str = "", tool: str = "", reason: str = "") -> Session:
        """A session's own view of the store; to be closed with it. EPERM for a session of another principal."""
        if session:
            self.check_session(principal, session)
        actor = Actor(str(principal), session or new_session("s"), tool, reason)
        journal = self.archive.writer(actor)
        return Session(SessionTree(self.tree, principal, journal, is_versioned), actor, journal, principal)

    async def metadata(self, path: Path) -> dict[str, bytes]:
        """Every attribute of a path: those it was given, and `user.ctx.*` that are computed now."""
        entry = await self.tree.stat(path)
        found = dict(await self.tree.metadata(path))
        if self.namespace.is_view(path) or entry.kind not in ("file", "dir"):
            return found
        computed: dict[str, str] = {}
        if is_versioned(path):
            computed |= await in_turn(self._origin, str(path))
        if entry.kind == "file" and self.tree.backing(path) is not None:
            computed |= await self._content_facts(path, entry, computed.get("revision", ""))
        return {**found, **{f"{PREFIX}{name}": value.encode() for name, value in computed.items() if value}}

    def _origin(self, path: str) -> dict[str, str]:
        last, first = self.archive.last_change(path), self.archive.first_change(path)
        since = self.past_since(Path.parse(path))
        if last is None or last.time_ns < since:
            return {}
        if first is not None and first.time_ns < since:
            first = None
        made = {"revision": last.oid, "author": last.actor.principal, "session": last.actor.session}
        return {**made, "created_at": first.when} if first else made

    async def _content_facts(self, path: Path, entry: Entry, revision: str) -> dict[str, str]:
        if entry.size is None or entry.size > self.settings.index.max_file_bytes:
            return {}
        data = await self.tree.read(path)
        digest = hashlib.sha256(data).hexdigest()
        seen, note = await blocking(self.searcher.seen, str(path))
        indexed = note or ((revision or digest) if seen == digest else "pending")
        facts = {"sha256": digest, "indexed": indexed}
        return facts if b"\0" in data[:8192] else {**facts, "tokens": str(upper_bound(data.decode("utf-8", "replace")))}

    async def status(self) -> dict[str, object]:
        """Everything `ctxfs status` shows, as plain values."""
        index = await blocking(self.searcher.state)
        counts = index.counts
        return {
            "version": __version__,
            "store": str(self.layout.root),
            "pid": os.getpid(),
            "principal": str(self.principal),
            "mounts": list(self.mountpoints()),
            "sources": [self._source_status(root) for root in self.indexed_roots()],
            "index": {
                "files": counts.files if counts else 0,
                "searchable": counts.searchable if counts else 0,
                "skipped": dict(index.skipped),
                "skipped_files": self._skipped_seen(index.skipped_files),
                "behind": self.searcher.behind(),
                "chunks": counts.chunks if counts else 0,
                "waiting_for_meaning": counts.waiting if counts else 0,
                "vectors": index.vectors,
                "meaning": index.meaning or "ok",
                "model": index.model,
                "damaged": index.damaged,
                **self.progress,
            },
            "policy": {"rules": len(self.policy.rules), "fault": self.policy.fault},
            "tools": self.tools.status(),
            "found": [each.text for each in await blocking(list_found, self.layout.root)],
            "secrets": dict(sorted(self.secrets().items())),
            "versions": await blocking(self._versions_status),
            "review": await self.curator.status(),
        }

    def _skipped_seen(self, files: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Path → why it is not searched, of those that whoever acts may see."""
        who = acting_principal()
        return {printable(path): why for path, why in files if self.policy.may(who, Verb.READ, Path.parse(path))}

    def _versions_status(self) -> dict[str, object]:
        try:
            return self.archive.status()
        except OSError as error:
            return {"state": f"down: {error.strerror}"}

    def _source_status(self, root: IndexedRoot) -> dict[str, object]:
        there = os.path.isdir(root.root)
        return {"at": root.prefix, "path": root.root, "state": "ok" if there else "down: the folder does not exist"}

    def _generation(self) -> Generation:
        return self.searcher.generation

    async def _search(self, query: Query, below: Path, limit: int) -> SearchResults:
        return await blocking(self.searcher.search, query, below, limit)

    async def _pack(self, request: Request, answer: SearchResults) -> Context:
        standing = await blocking(self.searcher.standing, {hit.path for hit in answer.hits})
        return await blocking(from_answer, request, answer, open_tokenizer(request.tokenizer), standing)

    def _attach(self) -> None:
        tree, folders, owner = self.namespace, self.layout.tree, str(self.principal)
        tree.attach(ROOT, AgentsGuideMount(self._sources_seen))
        tree.attach(Path(("memory",)), memory.provide(folders))
        tree.attach(Path(("pad",)), pad.provide(folders))
        tree.attach(Path(("knowledge",)), _Nothing())
        tree.attach(Path(("search",)), self._view.root(self._work_folder("search"), KeptQuestions(self.owners, owner)))
        tree.attach(
            Path(("context",)),
            ContextMount(
                self._work_folder("context"),
                self.tasks,
                self.settings.context.budget,
                owner,
                self.owners,
                self._sees_all,
                lambda path: self.policy.may(acting_principal(), Verb.READ, path),
            ),
        )
        tree.attach(Path(("history",)), HistoryMount(self.history, owner, self._sees_history))
        tree.attach(Path(("history", "audit")), AuditMount(self.audit))
        tools_mount = ToolsMount(self.tools.calls, self.restricted_reader, self.tools.sees, self.tools.states)
        tree.attach(Path(("tools",)), tools_mount)
        tree.attach(Path(("human",)), ReviewMount(self._work_folder("human"), self.curator))
        tree.attach(Path((".ctxfs",)), self._control(), hidden=True)
        tree.attach(Path((".snapshots",)), SnapshotsMount(self.archive, self.past_since), hidden=True)
        self.reload_settings()

    def _sources_seen(self) -> list[tuple[str, bool]]:
        """(name, writable) of the sources that exist for whoever acts."""
        who = acting_principal()
        seen = [s for s in self.settings.sources if self.policy.rights(who, Path(("knowledge", s.name))).exists]
        return [(source.name, source.writable) for source in seen]

    def _work_folder(self, area: str) -> Mount:
        return Folder(str(self.layout.tree / area), writable=True)

    def _control(self) -> Mount:
        async def status() -> bytes:
            return as_json(await self.status())

        async def skipped() -> bytes:
            index = await blocking(self.searcher.state)
            seen = self._skipped_seen(index.skipped_files)
            lines = (json.dumps({"path": path, "why": why}, ensure_ascii=False) for path, why in seen.items())
            return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")

        async def whoami() -> bytes:
            return f"{acting_principal() or self.principal}\n".encode()

        async def mounted() -> bytes:
            return as_json([f"/{at}" for at in sorted(self.namespace.mountpoints)])

        async def errors() -> bytes:
            try:
                return await blocking(self.layout.errors.read_bytes)
            except FileNotFoundError:
                return b""

        async def rules() -> bytes:
            return await blocking(self.policy_file.read)

        async def take_rules(data: bytes) -> None:
            if not self.policy.may(acting_principal(), Verb.ADMIN, ROOT):
                raise path_error(errno.EACCES, "policy.toml", "only who administers everything writes rules")
            await blocking(self.policy_file.write, data)

        files = {"status": status, "whoami": whoami, "mounts": mounted, "errors.jsonl": errors, "policy.toml": rules}
        files["skipped.jsonl"] = skipped
        return ControlMount(files, {"policy.toml": take_rules})


class _Book:
    """The tree, written to by ctxfs itself: what it keeps and asks is versioned like everything else."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def list(self, path: Path) -> Sequence[Entry]:
        return await self._app.namespace.list(path)

    async def read(self, path: Path) -> bytes:
        return await self._app.namespace.read(path)

    async def apply(self, changes: Sequence[Change], reason: str) -> None:
        archive = self._app.archive
        journal = archive.writer(Actor(str(self._app.principal), new_session("e"), "evaluator", reason))
        try:
            tree = SessionTree(self._app.namespace, None, journal, is_versioned)
            for change in changes:
                with contextlib.suppress(FileExistsError):
                    await tree.apply(change)
        finally:
            journal.close()


def embedder_of(settings: Settings) -> EmbedderSpec | None:
    """Who embeds, by the settings; None when meaning is switched off."""
    if not settings.index.meaning:
        return None
    endpoint, named = settings.endpoint, settings.index.model
    if endpoint.url:
        return EmbedderSpec(url=endpoint.url, model=endpoint.model, key_env=endpoint.key_env)
    return EmbedderSpec(folder=str(HostPath(named).expanduser() if named else default_model_folder()))


def is_versioned(path: Path) -> bool:
    """True for what lies in the work tree; the past itself has no past."""
    return bool(path.parts) and path.parts[0] in AREAS and not {".versions", ".search"} & set(path.parts)


def opaque_below(root: str, opaque: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Those of the opaque folders that are below `root`, as names from there."""
    start = root.rstrip("/") + "/"
    return frozenset(tuple(place[len(start) :].split("/")) for place in opaque if place.startswith(start))


class _Nothing(ControlMount):
    """knowledge/ itself, so that it is there before the first source is."""

    def __init__(self) -> None:
        super().__init__({})
