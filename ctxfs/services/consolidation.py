"""Consolidation of the memories that the calling principal may read and write: rules and a command make proposals.

A group are the memories of one agent in one folder, such as `memory/alice/fact`. Each group is one run: memories of
different agents are never compared. Everything is read from one version, on which the proposals are based.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctxfs.consolidation.desk import TOOL, OpenedProposal, ProposalDesk
from ctxfs.consolidation.draft import COMMAND, Draft, Evidence, digest_of
from ctxfs.index.search.searcher import Searcher
from ctxfs.memory.kinds import USER
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb
from ctxfs.services.citations import Citations
from ctxfs.services.memory_episodes import FOLDER as EPISODES
from ctxfs.services.memory_episodes import MemoryEpisodes
from ctxfs.services.use import Use
from ctxfs.services.user_records import UserRecords
from ctxfs.store.layout import Layout
from ctxfs.store.settings import MemorySettings
from ctxfs.supervise import repeat
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.proposals import FileEdit
from ctxfs.versions.recording.journal import new_session_name
from ctxfs.vfs.caller_context import acting

if TYPE_CHECKING:
    # They take a tenth of a second to import, so that a daemon imports them for the first run.
    from ctxfs.consolidation.memories import Memory

log = logging.getLogger(__name__)

CommandRun = Callable[[str, Mapping[str, Any]], Awaitable[str]]
MAX_PROPOSALS = 500  # of one group in one run; the next run proposes the rest
_MAX_FILE_BYTES = 64_000
_MAX_EMBEDDED_TEXTS = 600
_MAX_EPISODES = 50
_SWEEP_SECONDS = 60.0
_HOUR_SECONDS = 3600.0
_CITES = f"{PREFIX}cites"
_MEMORY = "memory"
_ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class ConsolidationRequest:
    """A run over one group: only memories since a time, a command besides the rules, and nothing stored if dry."""

    group: Path
    since_ns: int = 0
    command: str = ""
    is_dry: bool = False


@dataclass(slots=True)
class GroupReport:
    """The result of a run over one group: proposals, withdrawn ids, refusals and remarks as (subject, reason)."""

    memories: int = 0
    proposals: list[OpenedProposal] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    waiting: int = 0  # drafts beyond MAX_PROPOSALS


class Consolidation:
    """Makes proposals. It changes no memory."""

    def __init__(
        self,
        layout: Layout,
        archive: Archive,
        policy: PolicyEngine,
        desk: ProposalDesk,
        searcher: Searcher,
        episodes: MemoryEpisodes,
        records: UserRecords,
        use: Use,
        citations: Citations,
        command: CommandRun,
        settings: Callable[[], MemorySettings],
        owner: Principal,
    ) -> None:
        self._stamp = layout.run / "consolidated"
        self._archive = archive
        self._policy = policy
        self._desk = desk
        self._searcher = searcher
        self._episodes = episodes
        self._records = records
        self._use = use
        self._citations = citations
        self._command = command
        self._settings = settings
        self._owner = owner

    async def run_periodically(self) -> None:
        """Consolidate every `memory.consolidate_hours`, for the owner of the store, while that is set."""
        await repeat(self._run_if_due, _SWEEP_SECONDS, log, "memories cannot be consolidated", _SWEEP_SECONDS)

    async def _run_if_due(self) -> None:
        if self.is_due():
            self._stamp.touch()
            await self.run_all(self._owner)

    async def run_all(self, principal: Principal) -> list[GroupReport]:
        """Consolidate all groups, with the configured command."""
        actor = Actor(str(principal), new_session_name("c"), TOOL, "by timer")
        command = self._settings().consolidator
        return [
            await self.run(principal, actor, ConsolidationRequest(group, command=command))
            for group in await self.groups(principal, Path((_MEMORY,)))
        ]

    async def groups(self, principal: Principal, below: Path) -> list[Path]:
        """Return the groups at or below a path that have memories which the principal may read and write, sorted."""
        base = await in_turn(self._archive.proposals.base)
        paths = await blocking(self._archive.tree_files.list_below, base, str(below))
        may_use = self._usable(principal)
        groups = {_group_of(path) for path in paths if may_use(path)}
        owners = {group.parts[1] for group in groups} | ({principal.name} if principal.kind == "agent" else set())
        for owner in owners - {"shared"}:
            derived = [Path((_MEMORY, owner, kind)) for kind in (EPISODES, USER)]
            groups.update(
                group
                for group in derived
                if group.parts[: len(below.parts)] == below.parts and self._may_write(principal, group)
            )
        return sorted(group for group in groups if _ARCHIVE not in group.parts[2:3])

    def _may_write(self, principal: Principal, folder: Path) -> bool:
        file = folder / "x"
        return all(self._policy.is_allowed(principal, verb, file) for verb in (Verb.READ, Verb.WRITE, Verb.CREATE))

    async def run(self, principal: Principal, actor: Actor, request: ConsolidationRequest) -> GroupReport:
        """Make the proposals of one group."""
        with acting(principal, actor.session):
            return await self._run(principal, actor, request)

    async def _run(self, principal: Principal, actor: Actor, request: ConsolidationRequest) -> GroupReport:
        base = await in_turn(self._archive.proposals.base)
        last_used = await self._use.last_used()
        memories = await blocking(self._read, base, request.group, principal, last_used)
        report = GroupReport(memories=len(memories))
        drafts = await blocking(self._apply_rules, base, memories, request, report)
        drafts += await blocking(self._find_profile, memories, principal, request)
        drafts += await self._find_episodes(principal, request)
        if request.command and memories:
            drafts += await self._ask_command(request.command, memories, drafts, report)
        report.waiting = max(0, len(drafts) - MAX_PROPOSALS)
        if request.is_dry:
            report.proposals = [_preview(draft) for draft in drafts]
            return report
        if not request.since_ns and not report.waiting:
            scopes = {str(request.group), *([_scope_of(request)] if request.command else [])}
            current = {draft.id for draft in drafts}
            report.withdrawn = await self._desk.withdraw(scopes, str(principal), current)
        for draft in drafts[:MAX_PROPOSALS]:
            scope = _scope_of(request) if draft.rule == COMMAND else str(request.group)
            try:
                proposal = await self._desk.open(draft, base, actor, principal, scope)
            except OSError as error:
                report.refused.append((draft.title, f"{error.filename}: {error.strerror}"))
                continue
            if proposal is not None:
                report.proposals.append(proposal)
        return report

    def is_due(self) -> bool:
        """Return True if the timer is on, and the last run is longer ago than its interval."""
        hours = self._settings().consolidate_hours
        if hours <= 0:
            return False
        try:
            return time.time() - self._stamp.stat().st_mtime >= hours * _HOUR_SECONDS
        except FileNotFoundError:
            return True

    def _usable(self, principal: Principal) -> Callable[[str], bool]:
        """Return the test of a path: the principal may read and write the memory, and it is in no quarantine."""
        quarantine = self._archive.marks.quarantine

        def may_use(path: str) -> bool:
            tree_path = Path.parse(path)
            return (
                len(tree_path.parts) >= 3
                and "\n" not in path
                and not any(part.startswith(".") for part in tree_path.parts)
                and all(self._policy.is_allowed(principal, verb, tree_path) for verb in (Verb.READ, Verb.WRITE))
                and not quarantine.covers(tree_path)
            )

        return may_use

    def _read(self, base: Commit, group: Path, principal: Principal, last_used: Mapping[str, str]) -> list[Memory]:
        """Return the memories of a group in a version, with `last_used`, and `holds` where it is broken. Blocks."""
        from ctxfs.consolidation.memories import Memory

        may_use = self._usable(principal)

        def is_wanted(path: str) -> bool:
            return _group_of(path) == group and may_use(path)

        memories = []
        for batch in self._archive.tree_files.read_below(base, str(group), _MAX_FILE_BYTES, is_wanted):
            cites = {file.path: file.attributes[_CITES] for file in batch if _CITES in file.attributes}
            broken = self._citations.broken(cites) if cites else {}
            for file in batch:
                computed = {f"{PREFIX}last_used": last_used[file.path].encode()} if file.path in last_used else {}
                computed |= {f"{PREFIX}holds": b"changed"} if file.path in broken else {}
                if file.attributes.get(f"{PREFIX}quarantined") != b"true":
                    attributes = {**file.attributes, **computed}
                    memories.append(Memory(file.path, file.data, attributes, file.changed_ns, file.created_ns))
        return memories

    def _apply_rules(
        self, base: Commit, memories: Sequence[Memory], request: ConsolidationRequest, report: GroupReport
    ) -> list[Draft]:
        """Return the drafts of the rules. Blocks."""
        from ctxfs.consolidation.memories import drop_parsed
        from ctxfs.consolidation.procedures import find_procedures
        from ctxfs.consolidation.profile import PROFILE
        from ctxfs.consolidation.rules import RuleRun

        def exists(path: str) -> bool:
            return bool(self._archive.tree_files.list_below(base, path))

        run = RuleRun(
            [memory for memory in memories if memory.parts[-1] not in (PROFILE, "SKILL.md")],
            time.time_ns(),
            request.since_ns,
            self._settings().unused_days,
            _NearTexts(self._searcher).cosine,
        )
        drafts = [*run.drafts(), *find_procedures(memories, exists)]
        report.remarks += run.remarks
        drop_parsed()
        return drafts

    def _find_profile(
        self, memories: Sequence[Memory], principal: Principal, request: ConsolidationRequest
    ) -> list[Draft]:
        """Return the draft of a user's profile, if the group is the folder of a user. Blocks."""
        from ctxfs.consolidation.profile import find_profile

        parts = request.group.parts
        if len(parts) != 3 or parts[2] != USER or not self._may_write(principal, request.group):
            return list(find_profile(memories))
        statements = self._records.statements(principal, parts[1])
        return list(find_profile(memories, statements, parts[1]))

    async def _find_episodes(self, principal: Principal, request: ConsolidationRequest) -> list[Draft]:
        """Return the drafts of episodes of an agent's sessions, if the group is the folder of its episodes."""
        parts = request.group.parts
        if len(parts) != 3 or parts[2] != EPISODES or not self._may_write(principal, request.group):
            return []
        try:
            agent = parse_principal(f"agent:{parts[1]}")
        except CommandError:
            return []  # the folder is of no agent
        drafts = []
        for file, session in await self._episodes.missing(agent, request.since_ns, _MAX_EPISODES):
            source = f"history/by-session/{session}/summary.md"
            drafts.append(
                Draft(
                    "episode",
                    f"the episode of session {session}",
                    (FileEdit(str(file.path), file.data, file.attributes),),
                    (Evidence(source, 1, file.data.count(b"\n"), f"session {session}", "summed up"),),
                    ("the session has ended, and has no episode",),
                    ((source, digest_of(file.data)),),
                )
            )
        return drafts

    async def _ask_command(
        self, command: str, memories: Sequence[Memory], drafts: Sequence[Draft], report: GroupReport
    ) -> list[Draft]:
        """Return the drafts of a command; a proposal of it that cannot be used is refused with the reason."""
        from ctxfs.consolidation.command import command_question, parse_proposals

        try:
            text = await self._command(command, command_question(memories, drafts))
            proposals, refusals = await blocking(parse_proposals, text, memories)
        except CommandError as error:
            report.refused.append((command, error.message))
            return []
        report.refused += refusals
        return proposals


class _NearTexts:
    """Cosines of texts by the embedding model, for a bounded number of texts; None without a model."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._vectors: dict[str, object] = {}
        self._can_embed: bool | None = None

    def cosine(self, one: str, other: str) -> float | None:
        """Return the cosine of two texts. Blocks."""
        if self._can_embed is None:
            self._can_embed = self._searcher.can_embed()
        missing = [text for text in dict.fromkeys((one, other)) if text not in self._vectors]
        if not self._can_embed or len(self._vectors) + len(missing) > _MAX_EMBEDDED_TEXTS:
            return None
        if missing:
            try:
                self._vectors.update(zip(missing, self._searcher.embed(missing), strict=True))
            except CommandError:
                self._can_embed = False
                return None
        return float(self._vectors[one] @ self._vectors[other])  # type: ignore[operator]  # vectors of numpy


def _group_of(path: str) -> Path:
    """Return the group of a memory: `memory/<agent>/<folder>`, or `memory/<agent>` for a file directly in it."""
    parts = path.split("/")
    return Path(tuple(parts[:3] if len(parts) > 3 else parts[:2]))


def _scope_of(request: ConsolidationRequest) -> str:
    return f"{request.group}: {request.command}"


def _preview(draft: Draft) -> OpenedProposal:
    return OpenedProposal(draft.id, draft.rule, draft.title, tuple(draft.paths), is_new=True)
