"""Branches for the calling principal: their list, their diffs, their creation and deletion."""

import errno
from dataclasses import dataclass

from ctxfs.index.search.searcher import Searcher
from ctxfs.model.errors import CommandError, path_error
from ctxfs.model.path import ROOT, Path
from ctxfs.mounts.branches import is_readable, is_shown
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb
from ctxfs.services.branch_texts import BranchTexts
from ctxfs.services.caller_scope import CallerScope
from ctxfs.threads import in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.branches.branches import Branch
from ctxfs.versions.branches.refs import own_branch_name
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.vfs.caller_context import BranchRef, acting_principal
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class BranchState:
    """A branch, and its changes that the calling principal may read."""

    branch: Branch
    changes: list[PathChange]


class BranchService:
    """The branches of a store. Every method acts for the calling principal."""

    def __init__(self, archive: Archive, policy: PolicyEngine, scope: CallerScope, searcher: Searcher) -> None:
        self.texts = BranchTexts(archive, searcher, scope)
        self._branches = archive.branches
        self._policy = policy
        self._scope = scope

    def acting_for(self, caller: Session) -> BranchRef | None:
        """Return the branch that a session works in now: the agent's own by the rules in force, or the one it named."""
        if self._policy.has_own_branch(caller.principal):
            return BranchRef(own_branch_name(caller.principal.name), is_own=True)
        return caller.branch

    async def listing(self) -> list[BranchState]:
        """Return all branches, sorted by name."""
        return await in_turn(lambda: [self._state(name) for name in self._branches.names() if is_shown(name)])

    async def state(self, name: str) -> BranchState:
        """Return one branch. Raise `CommandError` if there is none of this name."""
        return await in_turn(lambda: self._state(self._existing(name)))

    async def create(self, name: str, actor: Actor) -> BranchState:
        """Create a branch of the newest version. Raise `CommandError` for an invalid or existing name."""
        if not is_shown(name):
            raise CommandError("this agent works in a branch of its own", "propose its merge: ctxfs branch merge NAME")
        return BranchState(await in_turn(self._branches.create, name, actor), [])

    async def diff(self, name: str) -> bytes:
        """Return the diff of the files that the calling principal may read, without quarantined texts for agents."""
        return await in_turn(lambda: self._diff(self._existing(name)))

    async def versions(self, name: str) -> list[Commit]:
        """Return the versions of a branch, newest first."""
        return await in_turn(lambda: self._branches.versions(self._existing(name)))

    async def drop(self, name: str, *, dry_run: bool) -> BranchState:
        """Delete a branch with all that only it has, and return its last state.

        Raise OSError EACCES unless the calling principal is a person, or has created the branch.
        """
        return await in_turn(lambda: self._drop(self._existing(name), dry_run))

    async def check(self, name: str) -> str:
        """Return the name of an existing branch. Raise `CommandError` if there is none."""
        return await in_turn(lambda: self._existing(name))

    def _existing(self, name: str) -> str:
        if not is_shown(name) or not self._branches.exists(name):
            raise CommandError(f"there is no branch '{name[:80]}'", "see: ctxfs branch list")
        return name

    def _state(self, name: str) -> BranchState:
        changes = self._branches.changes(name)
        if not self._scope.sees_all():
            changes = [change for change in changes if self._may_read(name, path_text(change.path))]
        return BranchState(self._branches.get(name), changes)

    def _may_read(self, name: str, path: str) -> bool:
        tree_path = Path.parse(path)
        if not self._scope.may_read(tree_path) or self._scope.is_withheld(tree_path):
            return False
        return is_readable(self._branches, self._scope, name, tree_path)

    def _diff(self, name: str) -> bytes:
        if self._scope.sees_all():
            return self._branches.diff(name)
        return self._branches.diff(name, lambda path: self._may_read(name, path) and not self._is_withheld(name, path))

    def _is_withheld(self, name: str, path: str) -> bool:
        """Return True if the text of a file in the branch is in quarantine for the calling principal."""
        if not self._scope.has_quarantine():
            return False
        try:
            return self._scope.is_withheld(Path.parse(path), self._branches.read(name, path))
        except OSError:  # removed in the branch, or a directory
            return False

    def _drop(self, name: str, dry_run: bool) -> BranchState:
        state, principal = self._state(name), acting_principal()
        may_drop = self._scope.may(Verb.ADMIN, ROOT) or state.branch.start.actor.principal == str(principal)
        if not may_drop:
            raise path_error(errno.EACCES, f".branches/{name}", f"{principal} has not created this branch")
        self._branches.drop(name, dry_run=dry_run)
        return state
