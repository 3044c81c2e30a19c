"""Session trees: each change is journalled for its session, after a check of the attributes that it sets."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import assert_never

from ctxfs.model.change import Append, Change, MakeDir, Move, Put, Remove, SetMeta
from ctxfs.model.entry import Entry
from ctxfs.model.metadata import check_attribute
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.versions.marks import MARK_OP, MARKS
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.journal import JournalWriter
from ctxfs.vfs.branch_paths import recorded_change
from ctxfs.vfs.caller_context import BranchRef, acting, recorded_for
from ctxfs.vfs.mount_wrapper import MountWrapper


class SessionTree(MountWrapper):
    """The tree as one session changes it; `principal` None is ctxfs itself. Changes of versioned paths are journalled.

    An adapter that works on the files of `backing` directly has a journal of its own.
    """

    def __init__(self, tree: Mount, principal: Principal | None, journal: JournalWriter) -> None:
        super().__init__(tree)
        self._principal = principal
        self._journal = journal

    async def stat(self, path: Path) -> Entry:
        """Implement `Mount.stat`."""
        with acting(self._principal, self._journal.actor.session):
            return await self._tree.stat(path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Implement `Mount.list`."""
        with acting(self._principal, self._journal.actor.session):
            return await self._tree.list(path)

    async def read(self, path: Path) -> bytes:
        """Implement `Mount.read`."""
        with acting(self._principal, self._journal.actor.session):
            return await self._tree.read(path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Implement `Mount.metadata`."""
        with acting(self._principal, self._journal.actor.session):
            return await self._tree.metadata(path)

    async def apply(self, change: Change) -> None:
        """Check attributes, apply the change, and record it in the journal."""
        if isinstance(change, SetMeta):
            check_attribute(change.path, change.name, change.value, self._principal)
        if isinstance(change, Put):
            for name, value in change.attributes.items():
                check_attribute(change.path, name, value, self._principal)
        actor, recorded = self._journal.actor, recorded_change(change)
        progress = self._journal.changes.change() if recorded is not None else nullcontext()
        with progress, acting(self._principal, actor.session), recorded_for(actor):
            await self._tree.apply(change)
            if recorded is not None:
                self._record(recorded)

    def _record(self, change: Change) -> None:
        match change:
            case SetMeta(path, name):
                self._journal.record(MARK_OP if name in MARKS else "write", str(path))
            case Put(path, _, attributes) if MARKS.keys() & attributes.keys():
                self._journal.record(MARK_OP, str(path))
            case Put(path) | Append(path):
                self._journal.record("write", str(path))
            case MakeDir(path):
                self._journal.record("tree", str(path))  # a mount may create files in the new directory
            case Remove(path):
                self._journal.record("remove", str(path))
            case Move(path, to):
                self._journal.record("move", str(path), str(to))
            case _:
                assert_never(change)


@dataclass(frozen=True, slots=True)
class Session:
    """One session: its tree, its actor, its journal, its principal, and the branch that it is bound to."""

    tree: Mount
    actor: Actor
    journal: JournalWriter
    principal: Principal
    branch: BranchRef | None = None

    def on(self, branch: str) -> "Session":
        """Return the session bound to a branch; an empty name is main."""
        return replace(self, branch=BranchRef(branch) if branch else None)

    def close(self) -> None:
        """End the session: its changes are committed without waiting."""
        self.journal.close()
