"""The desk: stores drafts as proposals under human/review/, and carries out the verdicts about them.

human/review/<id>/change.diff     the change, attributes included
                  why.md          the reasons
                  evidence.jsonl  the passages that the change is based on
                  verdict         write `accept` or `reject`
                  outcome.json    the decision and its result

The change itself is a git branch (`ctxfs.versions.proposals`). Its merge and `outcome.json` are one version.
"""

import errno
import json
import logging
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from ctxfs.consolidation.draft import Draft, render_evidence, render_why
from ctxfs.consolidation.law import STATE, require_lawful
from ctxfs.context.grounding.review import REVIEWS, Decision, ReviewTree
from ctxfs.context.grounding.review_files import read_about, read_optional
from ctxfs.context.grounding.review_outcome import outcome_record
from ctxfs.memory.states import BUILT_IN_TRANSITIONS, Transition, check_transition
from ctxfs.model.change import Change, MakeDir, Put, Remove
from ctxfs.model.errors import invalid, not_permitted, path_error
from ctxfs.model.path import Path, printable
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.rules import Verb
from ctxfs.threads import in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.proposals import FileChange
from ctxfs.versions.recording.journal import new_session_name
from ctxfs.versions.recording.pathindex import CommitFilter
from ctxfs.versions.rollback import Outcome

log = logging.getLogger(__name__)

KIND = "proposal"
TOOL = "consolidate"
CHANGE, WHY, EVIDENCE, VERDICT, ABOUT, OUTCOME = (
    "change.diff", "why.md", "evidence.jsonl", "verdict", "about.json", "outcome.json",
)  # fmt: skip


class Rights(Protocol):
    """The rules of the store."""

    def is_allowed(self, principal: Principal | None, verb: Verb, path: Path) -> bool:
        """Return True if a principal has a permission at a path."""
        ...


@dataclass(frozen=True, slots=True)
class OpenedProposal:
    """A proposal that waits for a decision. `is_new` is False if it waited before."""

    id: str
    rule: str
    title: str
    paths: tuple[str, ...]
    is_new: bool


class ProposalDesk:
    """The proposals of a store."""

    def __init__(
        self,
        tree: ReviewTree,
        archive: Archive,
        rights: Rights,
        transitions: Callable[[], Sequence[Transition]] = lambda: BUILT_IN_TRANSITIONS,
    ) -> None:
        """`tree` writes below human/ without access control. `transitions` are the rules on states in force."""
        self._tree = tree
        self._archive = archive
        self._rights = rights
        self._transitions = transitions
        self._lock = trio.Lock()  # a branch without its files, or the reverse, is seen by no other task

    async def open(
        self, draft: Draft, base: Commit, actor: Actor, principal: Principal, scope: str = ""
    ) -> OpenedProposal | None:
        """Store a draft of a principal, made by a run of this scope; return None if it was decided before.

        Raise OSError EPERM for a change that the law forbids, and EACCES for one that the principal may not make.
        """
        self._check_rights(draft.paths, principal)
        async with self._lock:
            return await self._open(draft, base, actor, principal, scope)

    async def _open(
        self, draft: Draft, base: Commit, actor: Actor, principal: Principal, scope: str
    ) -> OpenedProposal | None:
        folder = REVIEWS / draft.id
        if await read_optional(self._tree, folder / OUTCOME) is not None:
            return None
        proposals = self._archive.proposals
        is_new = await in_turn(lambda: proposals.open(draft.id, base, draft.edits, actor, draft.title))
        try:
            self._check_change(await in_turn(proposals.changes, draft.id), principal)
        except OSError:
            if is_new:
                await in_turn(proposals.drop, draft.id)
            raise
        if is_new or await read_optional(self._tree, folder / VERDICT) is None:
            diff = await in_turn(proposals.diff, draft.id)
            await self._tree.apply(_new_files(folder, draft, diff, actor, scope), f"proposed: {draft.title[:80]}")
        return OpenedProposal(draft.id, draft.rule, draft.title, tuple(draft.paths), is_new)

    async def decide(self, name: str, decision: Decision, principal: str) -> Sequence[str]:
        """Accept or reject a proposal; return the paths that have changed.

        Raise OSError: EPERM for a change that the law forbids, ESTALE if a file has changed since the proposal, EACCES
        for a file that the principal may not write, EBUSY for one that is being written, EINVAL for another decision.
        """
        async with self._lock:
            return await self._decide(name, decision, principal)

    async def _decide(self, name: str, decision: Decision, principal: str) -> Sequence[str]:
        folder = REVIEWS / name
        if await read_optional(self._tree, folder / OUTCOME) is not None:
            raise not_permitted(folder / VERDICT, "this is decided; ctxfs undo takes it back")
        about = await read_about(self._tree, folder)
        suggested = str(about.get("suggested", "accept"))
        outcome = outcome_record(decision, principal, suggested)
        proposals = self._archive.proposals
        if decision == "reject":
            await in_turn(proposals.drop, name)
            files = [Put(folder / VERDICT, b"reject\n"), Put(folder / OUTCOME, _dump(outcome))]
            await self._tree.apply(files, f"reject: proposal {name}")
            return ()
        if decision != "accept":
            raise invalid(folder / VERDICT, "write accept or reject; a change of the proposal is a new one")

        def check(changes: Sequence[FileChange]) -> None:
            self._check_change(changes, parse_principal(principal))

        records = {str(folder / VERDICT): b"accept\n", str(folder / OUTCOME): _dump(outcome)}
        actor = Actor(principal, f"review-{name}", TOOL, str(about.get("title", "")))
        try:
            result: Outcome = await in_turn(
                lambda: proposals.accept(name, actor, check, records, f"accept proposal {name}")
            )
        except FileNotFoundError:
            remedy = "its branch is not here; ctxfs consolidate proposes anew"
            raise path_error(errno.ESTALE, folder, remedy) from None
        except OSError as error:
            if error.errno == errno.ESTALE:
                raise path_error(
                    errno.ESTALE, error.filename, f"{error.strerror}; ctxfs consolidate proposes anew"
                ) from None
            raise
        return [printable(change.path.decode("utf-8", "surrogateescape")) for change in result.changes]

    async def undo(self, name: str, principal: str) -> Sequence[str]:
        """Take a verdict back, so that the proposal waits again; return the paths that have changed.

        An accepted change is rolled back. The branch is gone: ctxfs consolidate proposes the change anew. Raise OSError:
        EACCES for a file that the principal may not write.
        """
        async with self._lock:
            folder = REVIEWS / name
            about = await read_about(self._tree, folder)
            decision = json.loads(await read_optional(self._tree, folder / OUTCOME) or b"{}").get("decision")
            changed = await self._roll_back(name, about, principal) if decision == "accept" else []
            await self._tree.apply([Remove(folder / OUTCOME), Put(folder / VERDICT, b"")], f"undo: proposal {name}")
            return changed

    async def _roll_back(self, name: str, about: Mapping[str, object], principal: str) -> list[str]:
        """Undo the change of an accepted proposal. Raise ESTALE if one of its files has changed since."""
        named = about.get("paths")
        paths = [str(path) for path in named] if isinstance(named, list) else []
        self._check_rights(paths, parse_principal(principal))
        for path in paths:
            last = await in_turn(self._archive.reader.last_change, path)
            if last is None or (last.subject, last.actor.principal) != (about.get("title"), about.get("by")):
                raise path_error(errno.ESTALE, path, "it has changed since; ctxfs undo takes that back first")
        actor = Actor(principal, new_session_name("u"), TOOL, f"undo: proposal {name}")
        changed = list[str]()
        for path in paths:
            outcome, _ = await in_turn(self._archive.rollbacks.undo, path, actor, CommitFilter())
            changed += [printable(change.path.decode("utf-8", "surrogateescape")) for change in outcome.changes]
        return changed

    async def withdraw(self, scopes: Container[str], by: str, current: Container[str]) -> list[str]:
        """Withdraw the open proposals of a principal in these scopes, except for `current` ones; return the ids.

        Those no longer apply, or are proposed anew. Stale proposals of any scope are withdrawn, too.
        """
        async with self._lock:
            withdrawn = await self._withdraw_stale()
            for name in await in_turn(self._archive.proposals.names):
                about = await read_about(self._tree, REVIEWS / name)
                if name not in current and about.get("by") == by and str(about.get("scope", "")) in scopes:
                    await self._withdraw(name, "it no longer applies, or is proposed anew")
                    withdrawn.append(name)
            return withdrawn

    async def withdraw_stale(self) -> list[str]:
        """Withdraw the open proposals that cannot be merged any more, and return their ids."""
        async with self._lock:
            return await self._withdraw_stale()

    async def _withdraw_stale(self) -> list[str]:
        withdrawn = []
        for name in await in_turn(self._archive.proposals.names):
            try:
                if await read_optional(self._tree, REVIEWS / name / VERDICT) is not None and await in_turn(
                    self._archive.proposals.is_current, name
                ):
                    continue
            except OSError as error:
                log.warning("the proposal %s cannot be read and is withdrawn: %s", name, error)
            await self._withdraw(name, "its files have changed since")
            withdrawn.append(name)
        return withdrawn

    async def _withdraw(self, name: str, why: str) -> None:
        await in_turn(self._archive.proposals.drop, name)
        if await read_optional(self._tree, REVIEWS / name / ABOUT) is not None:
            outcome = {**outcome_record("withdraw", "ctxfs", "withdraw"), "why": why}
            await self._tree.apply([Put(REVIEWS / name / OUTCOME, _dump(outcome))], f"withdraw: proposal {name}")

    def _check_rights(self, paths: Sequence[str], principal: Principal) -> None:
        for path in paths:
            tree_path = Path.parse(path)
            if not all(self._rights.is_allowed(principal, verb, tree_path) for verb in (Verb.READ, Verb.WRITE)):
                raise path_error(errno.EACCES, path)

    def _check_change(self, changes: Sequence[FileChange], principal: Principal) -> None:
        """Raise OSError for a change that the law, the policy or the rules on states forbid."""
        self._check_rights([change.path for change in changes], principal)
        require_lawful(changes)
        transitions = self._transitions()
        for change in changes:
            if change.before is not None and change.after is not None:
                state = {STATE: change.after.attributes.get(STATE)}
                check_transition(change.path, change.before.attributes, state, transitions, principal)


def _new_files(folder: Path, draft: Draft, diff: bytes, actor: Actor, scope: str) -> list[Change]:
    """Return the changes that show a proposal; its verdict comes last, so that a visible one is complete."""
    about = {
        "kind": KIND,
        "task": "",
        "title": draft.title,
        "why": draft.rule,
        "rule": draft.rule,
        "suggested": "accept" if draft.is_advised else "reject",
        "by": actor.principal,
        "scope": scope,
        "paths": [printable(path) for path in draft.paths],
    }
    return [
        MakeDir(REVIEWS),
        MakeDir(folder),
        Put(folder / CHANGE, diff),
        Put(folder / WHY, render_why(draft)),
        Put(folder / EVIDENCE, render_evidence(draft.evidence)),
        Put(folder / ABOUT, _dump(about)),
        Put(folder / VERDICT, b""),
    ]


def _dump(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
