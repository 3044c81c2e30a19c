"""Impact: the files, contexts, responses and exports that were built on a file, an origin or a session.

A file is built on the paths that its attributes `source`, `cites`, `supersedes` and `covers` name. A context or a
response is built on the files in its manifest, in windows and in its log of deliveries. A path that
is built on an affected one is affected, too.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from ctxfs.context.delivery.delivery_store import DeliveryStore
from ctxfs.context.delivery.records import sources_of_answered, sources_of_window
from ctxfs.context.delivery.tasks import RESPONSE
from ctxfs.eventlog.audit import SESSION, Audit
from ctxfs.eventlog.rare_operations import RareOperations
from ctxfs.model.errors import EXIT_NOTHING_FOUND, CommandError
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from ctxfs.store.record_names import ANSWERED, LOADS
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.archive_core import ArchiveCore
from ctxfs.versions.marks import QUARANTINED
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.name_encoding import path_bytes, path_text, split_path
from ctxfs.versions.objects.trees import MODE_DIR, MODE_LINK, Parts
from ctxfs.versions.recording.ledger import State
from ctxfs.versions.recording.pathindex import CommitFilter
from ctxfs.versions.rollback import Outcome
from ctxfs.versions.rollback_plan import Plan

_RELATIONS = ("source", "cites", "supersedes", "covers")
_SPAN = re.compile(r"(?::\d[\d,-]*|#L\d+(?:-L?\d+)?)$")  # lines of a path
_MAX_COMMITS = 1_000_000
_MAX_EXPORTS = 10_000
_CONTEXT = "context"
_ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Affected:
    """A path that was built on another one: `relation` is how, `on` is the nearest one."""

    path: str
    relation: str
    on: str
    is_quarantined: bool = False


@dataclass(slots=True)
class ImpactReport:
    """The files of a question, the paths that were built on them, and the exports that contained any of these."""

    seeds: Sequence[str]
    files: list[Affected] = field(default_factory=list)
    contexts: list[Affected] = field(default_factory=list)
    answers: list[Affected] = field(default_factory=list)
    exports: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def versioned_paths(self) -> list[str]:
        """The files of the work tree among the seeds, the affected files and the responses."""
        areas = ("memory/", "pad/", "context/", "human/")
        paths = (*self.seeds, *(item.path for item in (*self.files, *self.answers)))
        return [path for path in dict.fromkeys(paths) if path.startswith(areas)]


@dataclass(frozen=True, slots=True)
class _Edge:
    path: str  # the file or task that was built on something
    relation: str


class _Graph:
    """The paths that were built on each path, and on each other text, such as a URL or the name of a tool."""

    def __init__(self) -> None:
        self._edges: dict[str, list[_Edge]] = {}

    def add(self, on: str, path: str, relation: str) -> None:
        """Add that `path` was built on `on`."""
        if on and on != path:
            self._edges.setdefault(on, []).append(_Edge(path, relation))

    @property
    def names(self) -> Iterable[str]:
        """The paths and other texts that something was built on."""
        return self._edges.keys()

    def answers_on(self, on: str) -> Iterator[str]:
        """Yield the tasks whose response answers a context with a text of `on`."""
        return (edge.path for edge in self._edges.get(on, ()) if edge.relation == _ANSWER)

    def follow(self, seeds: Iterable[str]) -> Iterator[tuple[str, _Edge]]:
        """Yield (nearest path, edge) for everything that was built on the seeds, once each, nearest first."""
        seen, pending = set(seeds), list(seeds)
        for on in pending:  # grows while it is read, and ends also for a cycle
            for edge in self._edges.get(on, ()):
                if edge.path not in seen:
                    seen.add(edge.path)
                    pending.append(edge.path)
                    yield on, edge


_Files = Mapping[str, Mapping[str, bytes]]


class Impact:
    """The impact of files of one store. People only: a report names files of every principal."""

    def __init__(self, archive: Archive, deliveries: DeliveryStore, audit: Audit) -> None:
        self._archive = archive
        self._deliveries = deliveries
        self._audit = audit
        self._exports = RareOperations(audit.log, SESSION, "export")

    async def of_path(self, path: Path) -> ImpactReport:
        """Return the impact of a file, or of all files below a directory, also of a source."""
        text = str(path)

        def choose(files: _Files, names: Iterable[str]) -> list[str]:
            return [text, *(name for name in (*files, *names) if name.startswith(text + "/"))]

        return await self._report(choose, text)

    async def of_origin(self, origin: str) -> ImpactReport:
        """Return the impact of all files with this `user.ctx.source`, with or without lines."""

        def choose(files: _Files, names: Iterable[str]) -> list[str]:
            sources = ((name, _text(values, "source")) for name, values in files.items())
            return [name for name, source in sources if origin in (source, _SPAN.sub("", source))]

        return await self._report(choose, f"the origin {origin}")

    async def of_session(self, session: str) -> ImpactReport:
        """Return the impact of all files that a session changed, and of its records."""
        changed = await in_turn(self._changed_by, session)
        records = f"/{session}.jsonl"

        def choose(files: _Files, names: Iterable[str]) -> list[str]:
            return [*sorted(changed & files.keys()), *sorted(name for name in names if name.endswith(records))]

        return await self._report(choose, f"the session {session}")

    async def quarantine(self, report: ImpactReport, actor: Actor) -> Outcome:
        """Quarantine the files of a report, which are not in quarantine yet, in one version."""
        paths = report.versioned_paths

        def make_plan(core: ArchiveCore) -> Plan:
            subject = f"quarantine {len(paths)} files that were built on {(report.seeds or ['nothing'])[0]}"
            return core.planner.plan_states(_quarantined_states(core, paths), "quarantine", subject, b"")

        return await in_turn(self._carry_out, make_plan, actor, paths)

    def _carry_out(self, make_plan: Callable[[ArchiveCore], Plan], actor: Actor, paths: Sequence[str]) -> Outcome:
        # The marks follow: earlier ones would put files into quarantine by a commit before the version of this plan.
        with self._archive.locked() as core:
            outcome = self._archive.rollbacks.carry_out(make_plan, actor)
            for path in paths:
                _record_marks(core, path)
            return outcome

    async def _report(self, choose: Callable[[_Files, Iterable[str]], list[str]], subject: str) -> ImpactReport:
        files = await in_turn(self._read_files)
        graph = _Graph()
        for path, values in files.items():
            for on, relation in _relations_of(values):
                graph.add(on, path, relation)
        async for on, task, relation in self._deliveries_of_tasks():
            graph.add(on, f"{_CONTEXT}/{task}", relation)
        seeds = list(dict.fromkeys(choose(files, graph.names)))
        if not seeds:
            raise CommandError(f"no file is of {subject}", "see: ctxfs meta get PATH source", EXIT_NOTHING_FOUND)
        report = ImpactReport([seed for seed in seeds if seed in files or "/" in seed])
        for on, edge in graph.follow(seeds):
            kind = report.contexts if edge.path.startswith(f"{_CONTEXT}/") else report.files
            kind.append(_affected(edge.path, edge.relation, on, files))
        for on in (*seeds, *(item.path for item in report.files)):
            for task in graph.answers_on(on):
                response = f"{task}/{RESPONSE}"
                if response in files and response not in {item.path for item in report.answers}:
                    report.answers.append(_affected(response, _ANSWER, on, files))
        affected = {*report.seeds, *(item.path for item in report.files)}
        report.exports = await blocking(self._find_exports, affected)
        return report

    def _read_files(self) -> dict[str, dict[str, bytes]]:
        """Return the attributes of every file of the newest version, by path."""
        self._archive.commit_if_space()
        with self._archive.locked() as core:
            ledger = core.ledger
            states = [
                (b"/".join(parts), state)
                for parts, state in ledger.walk(ledger.tree, ())
                if state.entry is not None and state.entry.mode not in (MODE_DIR, MODE_LINK)
            ]
            ledger.prefetch_sidecars(state.side for _, state in states)
            return {path_text(path): dict(ledger.read_sidecar(state.side).xattrs) for path, state in states}

    def _changed_by(self, session: str) -> set[str]:
        steps = self._archive.reader.log("", CommitFilter(session=session), _MAX_COMMITS)
        changes = self._archive.reader.changes_of([step.seq for step in steps], "")
        return {path_text(change.path) for part in changes for change in part if change.op != "remove"}

    async def _deliveries_of_tasks(self) -> AsyncIterator[tuple[str, str, str]]:
        """Yield (path, task, relation) for the files whose texts a task has delivered, or answered."""
        for task in await self._deliveries.tasks():
            for name in await self._deliveries.names(task):
                data = await self._deliveries.read(task, name) or b""
                relation = _ANSWER if name == ANSWERED else "delivery"
                for path in await blocking(_sources_of_record, name, data):
                    yield path, task, relation

    def _find_exports(self, paths: set[str]) -> list[Mapping[str, Any]]:
        parents = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 2)}
        self._audit.collect()
        exports = self._exports.records()[-_MAX_EXPORTS:]
        names = ("at", "principal", "session", "path")
        return [
            {name: record[name] for name in names if name in record}
            for record in exports
            if str(record.get("path", "")).strip("/") in parents
        ]


def _affected(path: str, relation: str, on: str, files: _Files) -> Affected:
    return Affected(path, relation, on, files.get(path, {}).get(QUARANTINED) == b"true")


def _text(values: Mapping[str, bytes], name: str) -> str:
    return values.get(f"{PREFIX}{name}", b"").decode("utf-8", "replace").strip()


def _relations_of(values: Mapping[str, bytes]) -> Iterator[tuple[str, str]]:
    """Yield (path or other origin, relation) of everything that a file is built on, by its attributes."""
    for relation in _RELATIONS:
        for line in _text(values, relation).splitlines():
            on = unquote(line.split(" ")[0]) if relation == "cites" else line.strip()
            yield _SPAN.sub("", on).strip("/"), relation
            if relation == "covers":
                for part in re.split(r"[,\s]+", line):
                    yield _SPAN.sub("", part).strip("/"), relation


def _sources_of_record(name: str, data: bytes) -> set[str]:
    """Return the files whose texts a delivery record holds. A damaged record holds none."""
    try:
        if name == ANSWERED:
            return {str(path) for path in sources_of_answered(data)}
        if name == LOADS:
            return set(_sources_of_loads(data))
        return {str(path) for path in sources_of_window(data)} if name.startswith("window-") else set()
    except OSError:
        return set()


def _sources_of_loads(data: bytes) -> Iterator[str]:
    for line in data.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # cut by a crash
        if isinstance(record, dict):
            loaded = record.get("loaded")
            for span in (*(loaded if isinstance(loaded, list) else ()), record.get("source"), record.get("old")):
                if isinstance(span, str):
                    yield _SPAN.sub("", span)


def _quarantined_states(core: ArchiveCore, paths: Iterable[str]) -> dict[Parts, State]:
    """Return the states of files with the mark. Used under the archive's lock."""
    ledger, states = core.ledger, dict[Parts, State]()
    for path in paths:
        parts = split_path(path_bytes(path))
        state = ledger.state(ledger.tree, parts)
        if state.entry is None or state.entry.mode in (MODE_DIR, MODE_LINK):
            continue
        side = ledger.read_sidecar(state.side)
        if side.xattrs.get(QUARANTINED) == b"true":
            continue
        xattrs = {**side.xattrs, QUARANTINED: b"true"}
        states[parts] = State(state.entry, ledger.write_sidecar(replace(side, xattrs=xattrs)))
    return states


def _record_marks(core: ArchiveCore, path: str) -> None:
    """Record the marks of a file and of its text, so that they follow copies. Used under the archive's lock."""
    ledger = core.ledger
    state = ledger.state(ledger.tree, split_path(path_bytes(path)))
    if state.entry is None or state.entry.mode in (MODE_DIR, MODE_LINK):
        return
    side = ledger.read_sidecar(state.side)
    data = ledger.repo.read(state.entry.oid) if side.large is None else None
    size = len(data) if data is not None else ledger.size(state)
    ledger.marks.settle(path_bytes(path), state.entry.oid, size, side.xattrs, data)
