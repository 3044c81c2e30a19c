"""Merges of branches as reviews: a person reads the diff under human/review/, and accepts or rejects it.

human/review/<id>/change.diff     the change, attributes included
                  why.md          the branch, its versions and their reasons
                  verdict         write `accept` or `reject`
                  outcome.json    the decision and its result

An accepted merge is one version, which includes `outcome.json`. It merges the version that was proposed: later changes
of the branch need a proposal of their own.
"""

import errno
import json
from collections.abc import Callable, Mapping, Sequence

import trio

from ctxfs.context.grounding.review import REVIEWS, Decision, ReviewTree
from ctxfs.context.grounding.review_files import read_about, read_optional
from ctxfs.context.grounding.review_outcome import outcome_record
from ctxfs.memory.states import Transition, check_transition
from ctxfs.model.change import Change, MakeDir, Put, Remove
from ctxfs.model.errors import CommandError, invalid, not_permitted, path_error
from ctxfs.model.path import Path, one_line, printable
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb
from ctxfs.threads import in_turn
from ctxfs.versions.branches.branches import Branches
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.versions.proposals import FileChange

KIND = "branch"
TOOL = "branch"
_MAX_DIFF_BYTES = 1_000_000
_MAX_LISTED = 200
_STATE_NAMES = ("user.ctx.state", "user.ctx.frozen")


class BranchReviews:
    """The proposed merges of branches. Implements `context.grounding.review.Decider`."""

    def __init__(
        self,
        tree: ReviewTree,
        branches: Branches,
        policy: PolicyEngine,
        transitions: Callable[[], Sequence[Transition]],
    ) -> None:
        """`tree` writes below human/ without access control. `transitions` are the rules on states in force."""
        self._tree = tree
        self._branches = branches
        self._policy = policy
        self._transitions = transitions
        self._lock = trio.Lock()

    async def propose(self, name: str, actor: Actor) -> tuple[str, list[str]]:
        """Propose the merge of a branch as it is now. Return the id of the review, and the changed paths.

        Raise `CommandError` if the branch has no changes.
        """
        async with self._lock:
            head = await in_turn(self._branches.seal, name)
            changes = await in_turn(self._branches.changes, name)
            paths = [path_text(change.path) for change in changes]
            if not paths:
                raise CommandError(f"the branch '{name}' has no changes that main lacks", "nothing to merge")
            review = f"branch-{name.lower().replace('.', '-').replace('_', '-')}-{head.oid[:8]}"
            folder = REVIEWS / review
            if await read_optional(self._tree, folder / "verdict") is None:
                diff = await in_turn(self._branches.diff, name)
                versions = await in_turn(self._branches.versions, name)
                await self._tree.apply(_files(folder, name, head, paths, diff, versions, actor), f"merge branch {name}")
            return review, paths

    async def decide(self, name: str, decision: Decision, principal: str) -> Sequence[str]:
        """Merge or reject; return the paths that have changed.

        Raise OSError: ESTALE if the branch is gone, EACCES for a file that the principal may not write, EBUSY for one
        that is being written, EINVAL for another decision.
        """
        async with self._lock:
            folder = REVIEWS / name
            if await read_optional(self._tree, folder / "outcome.json") is not None:
                raise not_permitted(folder / "verdict", "this is decided; ctxfs undo takes it back")
            about = await read_about(self._tree, folder)
            outcome = outcome_record(decision, principal, "accept")
            if decision == "reject":
                files: list[Change] = [
                    Put(folder / "verdict", b"reject\n"),
                    Put(folder / "outcome.json", _dump(outcome)),
                ]
                await self._tree.apply(files, f"reject: {name}")
                return ()
            if decision != "accept":
                raise invalid(folder / "verdict", "write accept or reject; a change of the branch is a new proposal")
            return await self._merge(folder, about, outcome, principal)

    async def _merge(
        self, folder: Path, about: Mapping[str, object], outcome: Mapping[str, object], principal: str
    ) -> Sequence[str]:
        branch, revision = str(about.get("branch", "")), str(about.get("revision", ""))
        by = parse_principal(principal)

        def check(changes: Sequence[FileChange]) -> None:
            self._check(changes, by)

        records = {str(folder / "verdict"): b"accept\n", str(folder / "outcome.json"): _dump(outcome)}
        actor = Actor(principal, f"review-{folder.name}", TOOL, f"merge branch {branch}")
        try:
            result = await in_turn(
                lambda: self._branches.merge(branch, revision, actor, check, records, f"merge branch {branch}")
            )
        except FileNotFoundError:
            raise path_error(errno.ESTALE, folder, "the branch no longer has this version: it was dropped") from None
        return [printable(path_text(change.path)) for change in result.outcome.changes]

    def _check(self, changes: Sequence[FileChange], principal: Principal) -> None:
        """Raise OSError for a change that the policy or the rules on states forbid."""
        transitions = self._transitions()
        for change in changes:
            path = Path.parse(change.path)
            if not all(self._policy.is_allowed(principal, verb, path) for verb in (Verb.READ, Verb.WRITE)):
                raise path_error(errno.EACCES, change.path)
            if change.before is not None and change.after is not None:
                states = {name: change.after.attributes.get(name) for name in _STATE_NAMES}
                check_transition(change.path, change.before.attributes, states, transitions, principal)

    async def undo(self, name: str, principal: str) -> Sequence[str]:
        """Take a rejection back, so that the review waits again. Raise OSError EPERM for an accepted merge."""
        async with self._lock:
            folder = REVIEWS / name
            decided = json.loads(await read_optional(self._tree, folder / "outcome.json") or b"{}")
            if decided.get("decision") == "accept":
                raise not_permitted(folder, "a merge is taken back path by path: ctxfs undo PATH")
            await self._tree.apply([Remove(folder / "outcome.json"), Put(folder / "verdict", b"")], f"undo: {name}")
            return ()

    async def withdraw(self, branch: str) -> list[str]:
        """Withdraw the waiting proposals of a branch that is gone, and return their ids. Their diffs are removed."""
        withdrawn = []
        async with self._lock:
            for entry in await self._waiting():
                folder = REVIEWS / entry
                about = await read_about(self._tree, folder)
                if about.get("kind") == KIND and about.get("branch") == branch:
                    outcome = {**outcome_record("withdraw", "ctxfs", "withdraw"), "why": "the branch was dropped"}
                    files: list[Change] = [Remove(folder / "change.diff"), Put(folder / "outcome.json", _dump(outcome))]
                    await self._tree.apply(files, f"withdraw: {entry}")
                    withdrawn.append(entry)
        return withdrawn

    async def _waiting(self) -> list[str]:
        try:
            entries = await self._tree.list(REVIEWS)
        except FileNotFoundError:
            return []
        names = [entry.name for entry in entries if entry.is_dir and entry.name.startswith(f"{KIND}-")]
        return [name for name in names if await read_optional(self._tree, REVIEWS / name / "outcome.json") is None]


def _files(
    folder: Path,
    name: str,
    head: Commit,
    paths: Sequence[str],
    diff: bytes,
    versions: Sequence[Commit],
    actor: Actor,
) -> list[Change]:
    """Return the changes that show a proposed merge; its verdict comes last, so that a visible one is complete."""
    about = {
        "kind": KIND,
        "task": "",
        "title": f"merge branch {name}: {len(paths)} changed",
        "why": KIND,
        "rule": KIND,
        "suggested": "accept",
        "by": actor.principal,
        "branch": name,
        "revision": head.oid,
        "paths": [printable(path) for path in paths[:_MAX_LISTED]],
    }
    if len(diff) > _MAX_DIFF_BYTES:
        diff = diff[:_MAX_DIFF_BYTES] + f"\n… cut: see ctxfs branch diff {name}\n".encode()
    lines = [f"# Merge of the branch {name}", ""]
    lines += [
        f"- {commit.time_text} {one_line(commit.actor.principal)}: {one_line(commit.subject)}"
        + (f" ({one_line(commit.actor.reason)})" if commit.actor.reason else "")
        for commit in versions[:_MAX_LISTED]
    ]
    return [
        MakeDir(REVIEWS),
        MakeDir(folder),
        Put(folder / "change.diff", diff),
        Put(folder / "why.md", ("\n".join(lines) + "\n").encode("utf-8", "replace")),
        Put(folder / "evidence.jsonl", b""),
        Put(folder / "about.json", _dump(about)),
        Put(folder / "verdict", b""),
    ]


def _dump(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
