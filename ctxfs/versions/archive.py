"""The archive of a store: its life cycle, its commits, and the parts that read, roll back, erase and transfer versions.

It serves the daemon, and commands without a daemon. Methods block and may be called from any thread; one operation runs
at a time. Paths are paths of the tree (`memory/a/x.md`) in the versioned areas, as texts with surrogateescape.
"""

import contextlib
import functools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path as HostPath

from ctxfs.eventlog.anchor import Anchors
from ctxfs.memory.states import BUILT_IN_TRANSITIONS, Transition
from ctxfs.store.layout import AREAS, Layout
from ctxfs.store.lock import StoreLock
from ctxfs.store.settings import DEFAULT_MAX_FILE_BYTES
from ctxfs.versions.archive_core import ArchiveCore, CoreSettings, open_core
from ctxfs.versions.branches import refs as branch_refs
from ctxfs.versions.branches.branches import Branches
from ctxfs.versions.branches.erasure import finish_deletions
from ctxfs.versions.branches.line import branch_changes
from ctxfs.versions.erasure_commands import ErasureCommands
from ctxfs.versions.marks import Marks
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.name_encoding import path_bytes
from ctxfs.versions.objects.trees import Parts
from ctxfs.versions.proposal_refs import drop_damaged
from ctxfs.versions.proposals import Proposals
from ctxfs.versions.recording import maintenance
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.changes_in_progress import ChangesInProgress
from ctxfs.versions.recording.committer import NO_TIME_LIMIT
from ctxfs.versions.recording.disk_reserve import DISK_FULL_ERRNOS
from ctxfs.versions.recording.journal import JournalReader, JournalWriter, new_session_name
from ctxfs.versions.recording.ledger import ABSENT
from ctxfs.versions.recording.recover import CheckpointFile
from ctxfs.versions.recording.unversioned import read_saved_reasons
from ctxfs.versions.remote_commands import RemoteCommands
from ctxfs.versions.remotes.shared_heads import SharedHeads
from ctxfs.versions.rollback_commands import RollbackCommands
from ctxfs.versions.shared_erasure import SharedErasure
from ctxfs.versions.snapshot_commands import SnapshotCommands
from ctxfs.versions.tree_files import TreeFiles
from ctxfs.versions.version_reader import VersionReader

log = logging.getLogger(__name__)

_TEMPORARY_SECONDS = 60.0
_STATUS_WAIT_SECONDS = 0.1
_MAX_UNVERIFIED_COMMITS = 500
_MAX_LARGE_ROUNDS = 3  # a file that is written all the time is captured later


class Archive:
    """The versions of one store, which have a single writer.

    `open` recovers, and takes the store's lock unless the caller has it and has set `holds_lock`. Operations open
    the archive, except for `newest`, `status`, `checkpoint`, `large_delay`, `prepare_large` and `record_marked_text`.
    """

    def __init__(
        self,
        layout: Layout,
        principal: str,
        large_from: int,
        *,
        max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
        anchors: Anchors | None = None,
        transitions: Callable[[], Sequence[Transition]] = lambda: BUILT_IN_TRANSITIONS,
    ) -> None:
        """`transitions` are the rules on states in force, which rollbacks obey."""
        self.holds_lock = False
        # Recovery commits no changes after this time as unattributed: a mount process of the daemon may be about to
        # journal them.
        self.served_since_ns = 1 << 62
        self._store_lock = StoreLock(layout.run)
        self._layout = layout
        self._principal = principal
        self._settings = CoreSettings(large_from, max_file_bytes, anchors)
        self.core: ArchiveCore  # set by `open`, and kept after `close`
        self.lock = threading.RLock()
        self.maintenance_lock = threading.Lock()  # lock order: before `lock`
        self._depth = 0  # nesting depth of operations; changed by the lock's holder
        self._journal = JournalReader(layout.journal)
        self._checkpoints = CheckpointFile(layout.repo / "ctxfs-checkpoint")
        self.changes = ChangesInProgress()
        self.marks = Marks(layout.marks)
        self._is_open = False
        self.session = new_session_name("d")
        self._unrecorded = ""
        self.reader = VersionReader(self)
        self.rollbacks = RollbackCommands(self, transitions)
        self.proposals = Proposals(self)
        self.branches = Branches(self)
        self.tree_files = TreeFiles(self)
        self.snapshots = SnapshotCommands(self)
        self.erasure = ErasureCommands(self)
        self.remotes = RemoteCommands(self)
        self.shared = SharedHeads(self)
        self.shared_erasure = SharedErasure(self)

    def open(self) -> list[Commit]:
        """Open the archive: recover, and commit the changes since it was last open. Idempotent.

        Return the commits that this makes.
        """
        with self.lock:
            if self._is_open:
                return []
            if not self.holds_lock:
                self._store_lock.acquire()
            try:
                commits = self._open()
            except BaseException:
                self._store_lock.release()
                raise
            self._is_open = True
            return commits

    def _open(self) -> list[Commit]:
        core = self.core = open_core(
            self._layout,
            self._settings,
            marks=self.marks,
            journal=self._journal,
            checkpoints=self._checkpoints,
            outside=self._actor("outside"),
        )
        try:
            return self._recover(core)
        except BaseException:
            core.close()
            raise

    def _recover(self, core: ArchiveCore) -> list[Commit]:
        """Finish interrupted operations, and commit the changes since the last close; return the commits."""
        ledger, committer = core.ledger, core.committer
        if not self._layout.marks.exists():
            self.marks.begin(ledger.marked_files())
        _finish_erasure(core)
        finished = core.rollback.finish()
        drop_damaged(ledger)
        branch_refs.repair(ledger)
        finish_deletions(ledger)
        ledger.work.clear_temporaries(time.time() - _TEMPORARY_SECONDS, functools.partial(_is_recorded, core))
        commits = [finished] if finished else []
        if ledger.head is None:
            areas = {area.encode(): False for area in (*AREAS, "memory/shared")}
            first = committer.commit_paths(self._actor("ctxfs"), "begin", areas)
            commits += [first] if first else []
        ledger.large_capture.can_postpone = True
        commits += self._commit_journal(core, old=True)
        rest = committer.commit_everything(self._actor("recovered"), "recovered", self.served_since_ns)
        commits += [rest] if rest else []
        ledger.large_capture.can_postpone = False
        return commits

    @property
    def is_open(self) -> bool:
        """True while the archive is open. It then holds the store's lock, unless its owner does."""
        return self._is_open

    def is_urgent(self) -> bool:
        """Return True if a client waits for a commit before the commit window ends, such as at an fsync."""
        with self.locked() as core:
            return core.journal.has_urgent_record()

    def close(self) -> None:
        """Commit the remaining changes and close.

        It does not wait for the disk, because the next start verifies the commits after the checkpoint.
        """
        with self.lock:
            if not self._is_open:
                return
            try:
                self.commit()
                if self._unverified_commits > _MAX_UNVERIFIED_COMMITS:
                    self.checkpoint()
            except OSError as error:
                log.error("the last changes have no version yet; the next start commits them: %s", error)
            self._is_open = False
            self.core.ledger.unversioned.save(self._unversioned_file)
            self.core.rollback.close()
            self.core.close()
            self._store_lock.release()

    def checkpoint(self) -> bool:
        """Make the newest version durable; return False if it already is. It waits for the disk."""
        with self.lock:
            core = self.core
            if self._is_open:
                core.rollback.record_late()
                core.reserve.allocate()
            head, seq = core.ledger.head, core.ledger.seq
            branches = branch_refs.list_heads(core.ledger.repo) if self._is_open else None
            started = time.time()
        is_durable = head is not None and self._checkpoints.write(head.oid, seq, started)
        if branches is not None:
            branch_refs.make_durable(core.ledger.repo, branches, is_synced=is_durable)
        return is_durable

    @property
    def _unverified_commits(self) -> int:
        """The number of commits that the next start has to verify."""
        return self.core.ledger.seq - self._checkpoints.seq

    @property
    def _unversioned_file(self) -> HostPath:
        return self._layout.run / "unversioned.json"

    def _actor(self, tool: str, reason: str = "") -> Actor:
        return Actor(self._principal, self.session, tool, reason)

    def writer(self, actor: Actor) -> JournalWriter:
        """Return a journal writer for a session whose changes are made in this process."""
        return JournalWriter(self._layout.journal, actor, self.changes)

    @contextlib.contextmanager
    def locked(self) -> Iterator[ArchiveCore]:
        """Hold the lock, with the archive open, and yield its core. Commits in the block read large files at once."""
        with self.lock:
            self.open()
            self._depth += 1
            try:
                yield self.core
            finally:
                self._depth -= 1

    def commit_if_space(self) -> list[Commit]:
        """Commit, but ignore a full disk, so that versions stay readable. `unrecorded` then has the reason."""
        try:
            return self.commit()
        except OSError as error:
            if error.errno not in DISK_FULL_ERRNOS:
                raise
            return []

    @property
    def unrecorded(self) -> str:
        """The reason why the newest changes have no version; empty if they only wait for the commit window."""
        return self._unrecorded

    def commit(self, also: Iterable[bytes] = ()) -> list[Commit]:
        """Commit the journal's changes, then unjournalled changes at the paths `also`. Return the commits.

        Large files are read between two commits without the lock, unless this call is a part of another operation.
        """
        commits = self.commit_nowait(also)
        for _ in range(_MAX_LARGE_ROUNDS):
            if self._depth or self.large_delay > 0:
                break
            self.prepare_large()
            commits += self.commit_nowait()
        return commits

    @property
    def large_delay(self) -> float:
        """The seconds until a large file is to be read for its version; infinite without such a file."""
        return self.core.ledger.large_capture.seconds_until_due if self._is_open else math.inf

    def prepare_large(self) -> None:
        """Read the large files that a commit postponed, for the next commit. Slow, but it takes no lock."""
        if self._is_open:
            self.core.ledger.large_capture.copy_due()

    def commit_nowait(self, also: Iterable[bytes] = (), before_ns: int = NO_TIME_LIMIT) -> list[Commit]:
        """Commit without reading large files; those that have not been read yet are left to the next commit.

        Of `also`, those that changed at or after `before_ns` are left out: their writers may not have journalled them yet.
        """
        with self.locked() as core:
            capture, is_part = core.ledger.large_capture, self._depth > 1
            capture.can_postpone = not is_part
            try:
                commits = [
                    *core.rollback.record_late(),
                    *self._commit_journal(core),
                    *self._commit_outside(core, also, before_ns),
                ]
                self._unrecorded = ""
                for actor, paths in capture.pop_copied(everything=is_part).items():
                    commit = core.committer.commit_paths(actor, "write", dict.fromkeys(paths, False))
                    commits += [commit] if commit else []
                return commits
            except OSError as error:
                self._unrecorded = error.strerror or str(error)
                raise
            finally:
                capture.can_postpone = False

    def _commit_journal(self, core: ArchiveCore, *, old: bool = False) -> list[Commit]:
        records = core.journal.read_new_records()
        try:
            commits = core.committer.commit_records(records, old=old) if records else []
        except BaseException:
            core.journal.return_records(records)
            raise
        core.journal.delete_committed()
        return commits

    def _commit_outside(self, core: ArchiveCore, paths: Iterable[bytes], before_ns: int) -> list[Commit]:
        """Commit the changes at `paths` that no session has journalled."""
        selection = dict.fromkeys(paths, True)
        if not selection:
            return []
        commit = core.committer.commit_paths(self._actor("outside"), "outside", selection, before_ns=before_ns)
        return [commit] if commit else []

    def pack(self, *, full: bool = False, always: bool = False) -> bool:
        """Pack the repository if it is due, or with `full` or `always`; return True if it was packed.

        Commits continue meanwhile.
        """
        with self.locked() as core:
            repo = core.ledger.repo
        full = full or (maintenance.is_packing_needed(repo) and maintenance.is_full_packing_due(repo.folder))
        if not (full or always or maintenance.is_packing_needed(repo)):
            return False
        with self.maintenance_lock:
            (maintenance.pack_fully if full else maintenance.pack)(repo)
        with self.lock:
            repo.close_readers()
            if full:
                ledger = self.core.ledger
                maintenance.delete_unused_large(ledger, [change.side for _, change in branch_changes(ledger)])
        return True

    def status(self) -> dict[str, object]:
        """Return the totals for `ctxfs status`; the state is `busy` if the lock is taken for a tenth of a second."""
        if not self.lock.acquire(timeout=_STATUS_WAIT_SECONDS):
            return {"state": "busy"}
        try:
            if not self._is_open:
                # A status request must not open the archive.
                return {"state": "closed", "unversioned": read_saved_reasons(self._unversioned_file)}
            ledger = self.core.ledger
            head = ledger.head
            return {
                "state": "ok",
                "unrecorded": self._unrecorded,
                "commits": ledger.index.count(),
                "newest": head.oid if head else "",
                "at": head.time_text if head else "",
                "snapshots": len(ledger.tags),
                "branches": len(branch_refs.list_heads(ledger.repo)),
                "unversioned": ledger.unversioned.reasons(),
                "scratch": ledger.scratch.counts(),
            }
        finally:
            self.lock.release()

    @property
    def newest(self) -> str:
        """The newest revision, read without the lock; empty before the archive is open."""
        head = self.core.ledger.head if self._is_open else None
        return head.oid if head else ""

    @property
    def head(self) -> Commit | None:
        """The newest version."""
        with self.locked() as core:
            return core.ledger.head

    def record_marked_text(self, path: str, attributes: Mapping[str, bytes], data: bytes) -> None:
        """Record the text of an unversioned file with its marks, for as long as it has marks."""
        with self.lock:
            self.marks.record_unversioned_text(path_bytes(path), attributes, data)


def _is_recorded(core: ArchiveCore, parts: Parts, stat: os.stat_result) -> bool:
    """Return True if a version contains the content of a file of the work tree."""
    capture = Capture(core.ledger, keep=False)
    entry = capture.capture_path(parts, stat, ABSENT, moved=False).entry
    return entry is not None and core.ledger.repo.has(entry.oid)


def _finish_erasure(core: ArchiveCore) -> None:
    try:
        if core.eraser.finish() is not None:
            log.warning("finished an interrupted erasure")
    except OSError as error:
        # The intent record stays, so that the next start tries again. Until then the store must be usable.
        log.error("cannot finish an interrupted erasure yet: %s", error.strerror)
        core.ledger.clear_caches()
        core.ledger.open_head()
