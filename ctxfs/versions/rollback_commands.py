"""Restore, undo and redo: commit the current changes, then plan and execute a rollback."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from ctxfs.memory.states import Transition
from ctxfs.model.errors import CommandError
from ctxfs.model.path import printable
from ctxfs.store.atomic_replace import UnchangedReason
from ctxfs.versions.archive_core import ArchiveAccess, ArchiveCore
from ctxfs.versions.diff import diff_trees
from ctxfs.versions.history import History, Step
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.name_encoding import path_bytes
from ctxfs.versions.recording.disk_reserve import DISK_FULL_ERRNOS
from ctxfs.versions.recording.pathindex import ALL_COMMITS, CommitFilter
from ctxfs.versions.rollback import Outcome
from ctxfs.versions.rollback_plan import ROLLBACKS, Plan
from ctxfs.versions.rollback_states import refuse_transitions

MakePlan: TypeAlias = Callable[[ArchiveCore], Plan]


class RollbackCommands:
    """The rollbacks of an archive. Paths are texts from the root of the tree, with surrogateescape."""

    def __init__(self, archive: ArchiveAccess, transitions: Callable[[], Sequence[Transition]]) -> None:
        """`transitions` are the rules on states in force."""
        self._archive = archive
        self._transitions = transitions

    def restore(self, path: str, to: str, actor: Actor, *, dry_run: bool = False) -> tuple[Outcome, bytes]:
        """Restore a path to a version. Return the outcome and, with `dry_run`, the diff."""

        def plan(core: ArchiveCore) -> Plan:
            return core.planner.plan_restore(path_bytes(path), _resolve_target(core.history, path, to))

        return self._roll_back(plan, actor, dry_run)

    def restore_from(self, path: str, source: str, actor: Actor, *, dry_run: bool = False) -> tuple[Outcome, bytes]:
        """Take back all files below a path that came from a source.

        Return the outcome and, with `dry_run`, the diff.
        """
        return self._roll_back(lambda core: core.planner.plan_restore_from(path_bytes(path), source), actor, dry_run)

    def undo(
        self, path: str, actor: Actor, criteria: CommitFilter = ALL_COMMITS, *, dry_run: bool = False
    ) -> tuple[Outcome, bytes]:
        """Undo the newest change of a path, or all changes by a principal or session below it.

        Return the outcome and, with `dry_run`, the diff. Raise `OSError` ENOENT for a path without history.
        """

        def plan(core: ArchiveCore) -> Plan:
            if criteria != ALL_COMMITS:
                return core.planner.plan_undo_of(path_bytes(path), criteria)
            core.history.require(path_bytes(path))
            return core.planner.plan_undo(path_bytes(path))

        return self._roll_back(plan, actor, dry_run)

    def redo(self, path: str, actor: Actor, *, dry_run: bool = False) -> tuple[Outcome, bytes]:
        """Redo the last undo of a path.

        Return the outcome and, with `dry_run`, the diff. Raise `OSError` ENOENT for a path without history.
        """

        def plan(core: ArchiveCore) -> Plan:
            core.history.require(path_bytes(path))
            return core.planner.plan_redo(path_bytes(path))

        return self._roll_back(plan, actor, dry_run)

    def carry_out(self, make_plan: MakePlan, actor: Actor) -> Outcome:
        """Carry out a plan with its writers blocked. `make_plan` is called again if that makes a version.

        Raise OSError if the disk refuses it, and the errors of `make_plan`: nothing has changed then.
        """
        return self._roll_back(make_plan, actor, dry_run=False)[0]

    def _roll_back(self, make_plan: MakePlan, actor: Actor, dry_run: bool) -> tuple[Outcome, bytes]:
        """Plan a rollback and carry it out with its writers blocked. Changes up to then are committed first.

        On a full disk uncommitted changes stay as they are, and the disk reserve is released for the rollback.
        """
        with self._archive.locked() as core:
            self._archive.commit_if_space()
            try:
                return self._plan_and_execute(core, make_plan, actor, dry_run)
            except OSError as error:
                if error.errno not in DISK_FULL_ERRNOS or not core.reserve.release():
                    raise
            return self._plan_and_execute(core, make_plan, actor, dry_run)

    def _plan_and_execute(
        self, core: ArchiveCore, make_plan: MakePlan, actor: Actor, dry_run: bool
    ) -> tuple[Outcome, bytes]:
        ledger = core.ledger

        def permitted() -> tuple[Plan, Mapping[bytes, UnchangedReason]]:
            plan = make_plan(core)
            is_rollback = plan.op in ROLLBACKS
            return refuse_transitions(core, plan, actor, self._transitions()) if is_rollback else (plan, {})

        (plan, refused), base = permitted(), ledger.tree
        if dry_run:
            diff = diff_trees(ledger, base, plan.tree, b"")
            return Outcome(None, ledger.compare_trees(base, plan.tree), refused), diff
        with core.rollback.holding(plan.tree) as blocked:
            try:
                if blocked and self._archive.commit(blocked):
                    plan, refused = permitted()
            except OSError as error:
                if error.errno not in DISK_FULL_ERRNOS:
                    raise
            outcome = core.rollback.carry_out(plan, actor)
            return replace(outcome, left={**outcome.left, **refused}), b""


def _resolve_target(history: History, path: str, to: str) -> Step:
    """Return the version `to`; `prev` is the one before the newest change of the path."""
    if to != "prev":
        return history.resolve(to)
    steps = history.log(path_bytes(path), limit=2)
    if len(steps) < 2:
        raise CommandError(f"'{printable(path)}' has no earlier version", f"see: ctxfs log '{printable(path)}'")
    return steps[1]
