"""The core of an open archive: the objects that read and write one store's versions, and the access of commands to it."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ctxfs.eventlog.anchor import Anchors
from ctxfs.store.layout import Layout
from ctxfs.versions.erase import Eraser
from ctxfs.versions.history import History
from ctxfs.versions.marks import Marks
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.git import Repository, create_repository
from ctxfs.versions.objects.large_objects import LargeStore
from ctxfs.versions.recording import recover
from ctxfs.versions.recording.committer import Committer
from ctxfs.versions.recording.disk_reserve import DiskReserve
from ctxfs.versions.recording.journal import JournalReader
from ctxfs.versions.recording.ledger import Ledger
from ctxfs.versions.recording.pathindex import PathIndex
from ctxfs.versions.recording.worktree import WorkTree
from ctxfs.versions.remotes.remote import Remotes
from ctxfs.versions.rollback import Outcome, Rollback
from ctxfs.versions.rollback_plan import Plan, RollbackPlanner
from ctxfs.versions.snapshot_reader import SnapshotReader


@dataclass(frozen=True, slots=True)
class ArchiveCore:
    """The objects on the ledger of an open archive. All of them are used under the archive's lock."""

    ledger: Ledger
    journal: JournalReader
    reserve: DiskReserve
    history: History
    snapshot_reader: SnapshotReader
    committer: Committer
    planner: RollbackPlanner
    rollback: Rollback
    remotes: Remotes
    eraser: Eraser

    @property
    def index(self) -> PathIndex:
        """The path index."""
        return self.ledger.index

    def close(self) -> None:
        """Close the path index and the repository."""
        self.ledger.index.close()
        self.ledger.repo.close()


class PlanExecutor(Protocol):
    """The execution of plans, with the writers of their files blocked."""

    def carry_out(self, make_plan: "Callable[[ArchiveCore], Plan]", actor: Actor) -> Outcome:
        """Carry out a plan; see `RollbackCommands.carry_out`."""
        ...


class ArchiveAccess(Protocol):
    """The part of the archive that its commands need: the locks, the core, and commits of pending changes."""

    @property
    def rollbacks(self) -> PlanExecutor:
        """The execution of plans."""
        ...

    @property
    def lock(self) -> AbstractContextManager[object]:
        """The lock of all operations. It is reentrant."""
        ...

    @property
    def maintenance_lock(self) -> AbstractContextManager[object]:
        """The lock of packing, transfers and erasure, during which commits continue. Lock order: before `lock`."""
        ...

    @property
    def core(self) -> ArchiveCore:
        """The core, without the lock. A closed archive has its last one."""
        ...

    def locked(self) -> AbstractContextManager[ArchiveCore]:
        """Hold the lock, with the archive open. Commits in the block read large files at once."""
        ...

    def commit(self, also: Iterable[bytes] = ()) -> list[Commit]:
        """Commit the journal's changes, then unjournalled changes at the paths `also`. Return the commits."""
        ...

    def commit_if_space(self) -> list[Commit]:
        """Commit, but ignore a full disk."""
        ...

    def checkpoint(self) -> bool:
        """Make the newest version durable; return False if it already is."""
        ...


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """The settings of an archive. Files of `large_from` bytes or more are stored outside of git."""

    large_from: int
    max_file_bytes: int
    anchors: Anchors | None


def open_core(
    layout: Layout,
    settings: CoreSettings,
    *,
    marks: Marks,
    journal: JournalReader,
    checkpoints: recover.CheckpointFile,
    outside: Actor,
) -> ArchiveCore:
    """Open the newest version, after repairing the repository as far as the checkpoint requires.

    `outside` is the author of changes that no session journalled.
    """
    layout.journal.mkdir(mode=0o700, exist_ok=True)
    create_repository(layout.repo)
    large = LargeStore(layout.large)
    large.clear_temporaries()
    repo = Repository(layout.repo)
    index = PathIndex(layout.index)
    try:
        work = WorkTree(str(layout.tree))
        ledger = Ledger(
            repo,
            index,
            work,
            large,
            settings.large_from,
            settings.max_file_bytes,
            marks=marks,
            anchors=settings.anchors,
        )
        _repair(ledger, checkpoints)
        return _make_core(layout, ledger, journal, outside)
    except BaseException:
        index.close()
        repo.close()
        raise


def _repair(ledger: Ledger, checkpoints: recover.CheckpointFile) -> None:
    checkpoint = checkpoints.read()
    if recover.repair(ledger, checkpoint):
        ledger.index.clear_file_records()
    ledger.repo.write("tree", b"")  # the empty directory
    ledger.open_head()
    row = ledger.index.by_oid(checkpoint.commit) if checkpoint is not None else None
    checkpoints.seq = row[0] if row is not None else 0


def _make_core(layout: Layout, ledger: Ledger, journal: JournalReader, outside: Actor) -> ArchiveCore:
    history, committer = History(ledger), Committer(ledger)
    rollback = Rollback(ledger, layout.journal / "rollback.json", outside)
    return ArchiveCore(
        ledger=ledger,
        journal=journal,
        reserve=DiskReserve(layout.journal / "reserve"),
        history=history,
        snapshot_reader=SnapshotReader(ledger),
        committer=committer,
        planner=RollbackPlanner(ledger, history),
        rollback=rollback,
        remotes=Remotes(ledger, rollback),
        eraser=Eraser(ledger, committer, layout.journal / "forget.json"),
    )
