"""The archive: all operations on the versions of one store, for the daemon or for a command without a daemon.

Methods block and may be called from any thread; one operation runs at a time. Paths are paths of the tree
(`memory/a/x.md`) in the versioned areas, as texts with surrogateescape.
"""

import contextlib
import errno
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path as HostPath

from ctxfs.eventlog.anchor import Anchor, Anchors, parse_anchor
from ctxfs.model.credentials import without_passwords
from ctxfs.model.entry import Entry
from ctxfs.model.errors import CommandError, path_error
from ctxfs.model.path import printable
from ctxfs.store.config import DEFAULT_MAX_FILE_BYTES, MIN_LARGE_BYTES
from ctxfs.store.layout import AREAS, Layout
from ctxfs.store.lock import StoreLock
from ctxfs.versions.diff import Line, blame_lines, diff_trees
from ctxfs.versions.erase import Eraser, ErasurePlan, ErasureResult
from ctxfs.versions.history import History, Step, parse_moment
from ctxfs.versions.marks import Marks
from ctxfs.versions.objects.commits import Actor, Commit
from ctxfs.versions.objects.git import BRANCH, Repository, create_repository
from ctxfs.versions.objects.large_objects import LargeStore
from ctxfs.versions.objects.name_encoding import path_bytes, path_text
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_FILE, MODE_LINK, MODE_PROGRAM, Parts
from ctxfs.versions.phrases import Phrases
from ctxfs.versions.recording import maintenance, recover
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.committer import Committer
from ctxfs.versions.recording.disk_reserve import DISK_FULL_ERRNOS, DiskReserve
from ctxfs.versions.recording.journal import JournalReader, JournalWriter, new_session_name
from ctxfs.versions.recording.ledger import ABSENT, Ledger, state_of
from ctxfs.versions.recording.pathindex import ALL_COMMITS, CommitFilter, PathChange, PathIndex
from ctxfs.versions.recording.unversioned import read_saved_reasons
from ctxfs.versions.recording.worktree import WorkTree
from ctxfs.versions.remotes.remote import PullResult, Remotes
from ctxfs.versions.rollback import Outcome, Rollback
from ctxfs.versions.rollback_plan import Plan, RollbackPlanner
from ctxfs.versions.snapshot_reader import SnapshotEntry, SnapshotReader

log = logging.getLogger(__name__)

_SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TEMPORARY_SECONDS = 60.0
_STATUS_WAIT_SECONDS = 0.1
_MAX_UNVERIFIED_COMMITS = 500
_MAX_LARGE_ROUNDS = 3  # a file that is written all the time is captured later


@dataclass(frozen=True, slots=True)
class PathVersion:
    """A change of a path: its number in the path's history, the commit, and the state of the path after it."""

    number: int
    commit: Commit
    change: PathChange

    @property
    def is_file(self) -> bool:
        """True if the path has content after the change."""
        return self.change.mode in (MODE_FILE, MODE_PROGRAM, MODE_LINK)


class Archive:
    """The versions of one store, which have a single writer.

    `open` recovers, and takes the store's lock unless the caller has it and has set `holds_lock`.
    """

    def __init__(
        self,
        layout: Layout,
        principal: str,
        large_from: int,
        *,
        max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
        anchors: Anchors | None = None,
    ) -> None:
        self.holds_lock = False
        # Recovery commits no changes after this time as unattributed: a mount process of the daemon may be about to
        # journal them.
        self.served_since_ns = 1 << 62
        self._store_lock = StoreLock(layout.run)
        self._layout = layout
        self._principal = principal
        self._large_from = large_from
        self._max_file_bytes = max_file_bytes
        self._anchors = anchors
        self._depth = 0  # nesting depth of operations; changed by the lock's holder
        self._lock = threading.RLock()
        self._upkeep_lock = threading.Lock()  # lock order: before `_lock`
        self._checkpoint_lock = threading.Lock()  # lock order: last
        self._journal = JournalReader(layout.journal)
        self.marks = Marks(layout.marks)
        self._is_open = False
        self._checkpoint_seq = 0
        self.session = new_session_name("d")
        self._unrecorded = ""
        self._reserve = DiskReserve(layout.journal / "reserve")

    # life cycle

    def open(self) -> list[Commit]:
        """Open the archive: recover, and commit the changes since it was last open.

        Return the commits that this makes.

        Idempotent.
        """
        with self._lock:
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
        layout = self._layout
        layout.journal.mkdir(mode=0o700, exist_ok=True)
        create_repository(layout.repo)
        large = LargeStore(layout.large)
        large.clear_temporaries()
        repo = Repository(layout.repo)
        self.index = PathIndex(layout.index)
        try:
            self._open_ledger(repo, large)
            self._open_services()
            return self._recover()
        except BaseException:
            self.index.close()
            repo.close()
            raise

    def _open_ledger(self, repo: Repository, large: LargeStore) -> None:
        """Open the ledger at the newest version, after repairing the repository as far as the checkpoint requires."""
        self.ledger = Ledger(
            repo,
            self.index,
            WorkTree(str(self._layout.tree)),
            large,
            self._large_from,
            self._max_file_bytes,
            marks=self.marks,
            anchors=self._anchors,
        )
        checkpoint = recover.read_checkpoint(self._checkpoint_file)
        if recover.repair(self.ledger, checkpoint):
            self.index.clear_file_records()
        repo.write("tree", b"")  # the empty directory
        self.ledger.open_head()
        row = self.index.by_oid(checkpoint.commit) if checkpoint is not None else None
        self._checkpoint_seq = row[0] if row is not None else 0

    def _open_services(self) -> None:
        """Create the objects that read and write the ledger."""
        self.history = History(self.ledger)
        self._snapshot_reader = SnapshotReader(self.ledger)
        self._committer = Committer(self.ledger)
        self._planner = RollbackPlanner(self.ledger, self.history)
        journal = self._layout.journal
        self._rollback = Rollback(self.ledger, journal / "rollback.json", self._actor("outside"))
        self._remotes = Remotes(self.ledger, self._rollback)
        self._eraser = Eraser(self.ledger, self._committer, journal / "forget.json")

    def _recover(self) -> list[Commit]:
        """Finish interrupted operations, and commit the changes since the last close; return the commits."""
        if not self._layout.marks.exists():
            self.marks.begin(self.ledger.marked_files())
        self._finish_erasure()
        finished = self._rollback.finish()
        self.ledger.work.clear_temporaries(time.time() - _TEMPORARY_SECONDS, self._is_recorded)
        commits = [finished] if finished else []
        if self.ledger.head is None:
            areas = {area.encode(): False for area in (*AREAS, "memory/shared")}
            first = self._committer.commit_paths(self._actor("ctxfs"), "begin", areas)
            commits += [first] if first else []
        self.ledger.large_capture.can_postpone = True
        commits += self._commit_journal(old=True)
        rest = self._committer.commit_everything(self._actor("recovered"), "recovered", self.served_since_ns)
        commits += [rest] if rest else []
        self.ledger.large_capture.can_postpone = False
        return commits

    def _is_recorded(self, parts: Parts, stat: os.stat_result) -> bool:
        """Return True if a version contains the content of a file of the work tree."""
        capture = Capture(self.ledger, keep=False)
        entry = capture.capture_path(parts, stat, ABSENT, moved=False).entry
        return entry is not None and self.ledger.repo.has(entry.oid)

    def _finish_erasure(self) -> None:
        try:
            if self._eraser.finish() is not None:
                log.warning("finished an interrupted erasure")
        except OSError as error:
            # The intent record stays, so that the next start tries again. Until then the store must be usable.
            log.error("cannot finish an interrupted erasure yet: %s", error.strerror)
            self.ledger.clear_caches()
            self.ledger.open_head()

    @property
    def is_open(self) -> bool:
        """True while the archive is open. It then holds the store's lock, unless its owner does."""
        return self._is_open

    def is_urgent(self) -> bool:
        """Return True if a client waits for a commit before the commit window ends, such as at an fsync."""
        with self._locked_open():
            return self._journal.has_urgent_record()

    def close(self) -> None:
        """Commit the remaining changes and close.

        It does not wait for the disk, because the next start verifies the commits after the checkpoint.
        """
        with self._lock:
            if not self._is_open:
                return
            try:
                self.commit()
                if self._unverified_commits > _MAX_UNVERIFIED_COMMITS:
                    self.checkpoint()
            except OSError as error:
                log.error("the last changes have no version yet; the next start commits them: %s", error)
            self._is_open = False
            self.ledger.unversioned.save(self._unversioned_file)
            self._rollback.close()
            self.index.close()
            self.ledger.repo.close()
            self._store_lock.release()

    def checkpoint(self) -> bool:
        """Make the newest version durable; return False if it already is. It waits for the disk."""
        with self._lock:
            if self._is_open:
                self._rollback.record_late()
                self._reserve.allocate()
            head, newest = self.ledger.head, self.ledger.seq
            started = time.time()
        with self._checkpoint_lock:
            last = recover.read_checkpoint(self._checkpoint_file)
            if head is None or (last is not None and last.commit == head.oid):
                return False
            recover.write_checkpoint(self._checkpoint_file, recover.Checkpoint(head.oid, started))
            self._checkpoint_seq = newest
            return True

    @property
    def _unverified_commits(self) -> int:
        """The number of commits that the next start has to verify."""
        return self.ledger.seq - self._checkpoint_seq

    @property
    def _checkpoint_file(self) -> HostPath:
        return self._layout.repo / "ctxfs-checkpoint"

    @property
    def _unversioned_file(self) -> HostPath:
        return self._layout.run / "unversioned.json"

    def _actor(self, tool: str, reason: str = "") -> Actor:
        return Actor(self._principal, self.session, tool, reason)

    def writer(self, actor: Actor) -> JournalWriter:
        """Return a journal writer for a session whose changes are made in this process."""
        return JournalWriter(self._layout.journal, actor)

    # committing

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
        return self.ledger.large_capture.seconds_until_due if self._is_open else math.inf

    def prepare_large(self) -> None:
        """Read the large files that a commit postponed, for the next commit. Slow, but it takes no lock."""
        if self._is_open:
            self.ledger.large_capture.copy_due()

    def commit_nowait(self, also: Iterable[bytes] = ()) -> list[Commit]:
        """Commit without reading large files; those that have not been read yet are left to the next commit."""
        with self._locked_open():
            capture, is_part = self.ledger.large_capture, self._depth > 1
            capture.can_postpone = not is_part
            try:
                commits = self._commit(also)
                self._unrecorded = ""
                for actor, paths in capture.pop_copied(everything=is_part).items():
                    commit = self._committer.commit_paths(actor, "write", dict.fromkeys(paths, False))
                    commits += [commit] if commit else []
                return commits
            except OSError as error:
                self._unrecorded = error.strerror or str(error)
                raise
            finally:
                capture.can_postpone = False

    def _commit(self, also: Iterable[bytes]) -> list[Commit]:
        with self._locked_open():
            commits = [*self._rollback.record_late(), *self._commit_journal()]
            outside = dict.fromkeys(also, True)
            if outside:
                commit = self._committer.commit_paths(self._actor("outside"), "outside", outside)
                commits += [commit] if commit else []
            return commits

    def _commit_journal(self, *, old: bool = False) -> list[Commit]:
        records = self._journal.read_new_records()
        try:
            commits = self._committer.commit_records(records, old=old) if records else []
        except BaseException:
            self._journal.return_records(records)
            raise
        self._journal.delete_committed()
        return commits

    def pack(self, *, full: bool = False, always: bool = False) -> bool:
        """Pack the repository if it is due, or with `full` or `always`; return True if it was packed.

        Commits continue meanwhile.
        """
        with self._locked_open():
            repo = self.ledger.repo
        full = full or (maintenance.is_packing_needed(repo) and maintenance.is_full_packing_due(repo.folder))
        if not (full or always or maintenance.is_packing_needed(repo)):
            return False
        with self._upkeep_lock:
            (maintenance.pack_fully if full else maintenance.pack)(repo)
        with self._lock:
            repo.close_readers()
            if full:
                self._collect_large()
        return True

    def _collect_large(self) -> None:
        """Delete large contents that no version refers to."""
        self.ledger.large.remove(set(self.ledger.large.names()) - self._used_large_contents())

    def _used_large_contents(self) -> set[str]:
        """Return the ids of the large contents that versions refer to."""
        sides = map(self.ledger.read_sidecar, self.index.sides_of(MIN_LARGE_BYTES))
        return {side.large.sha256 for side in sides if side.large is not None}

    def anchors(self, remote: str = "") -> tuple[str, list[Anchor]]:
        """Return the id of this store and the anchors in its versions, or in those of `remote`, oldest first."""
        with self._locked_open():
            remotes, repo = self._remotes, self.ledger.repo
            store, ref = self.ledger.store_id, BRANCH
        if remote:
            with self._upkeep_lock:
                remotes.fetch(remote)
                try:
                    return store, list(_read_anchors(repo, f"refs/remotes/{remote}/main"))
                finally:
                    remotes.drop_fetched_refs(remote)
        return store, list(_read_anchors(repo, ref))

    def status(self) -> dict[str, object]:
        """Return the totals for `ctxfs status`; the state is `busy` if the lock is taken for a tenth of a second."""
        if not self._lock.acquire(timeout=_STATUS_WAIT_SECONDS):
            return {"state": "busy"}
        try:
            if not self._is_open:
                # A status request must not open the archive.
                return {"state": "closed", "unversioned": read_saved_reasons(self._unversioned_file)}
            head = self.ledger.head
            return {
                "state": "ok",
                "unrecorded": self._unrecorded,
                "commits": self.index.count(),
                "newest": head.oid if head else "",
                "at": head.time_text if head else "",
                "snapshots": len(self.ledger.tags),
                "unversioned": self.ledger.unversioned.reasons(),
            }
        finally:
            self._lock.release()

    # history
    @property
    def newest(self) -> str:
        """The newest revision, read without the lock; empty before the archive is open."""
        head = self.ledger.head if self._is_open else None
        return head.oid if head else ""

    @property
    def head(self) -> Commit | None:
        """The newest version."""
        with self._locked_open():
            return self.ledger.head

    def resolve(self, text: str) -> Step:
        """Return the version for a revision, a snapshot's name or a time. Raise `OSError` ENOENT or EINVAL."""
        with self._locked_open():
            return self.history.resolve(text)

    def log(self, path: str, criteria: CommitFilter, limit: int) -> list[Step]:
        """Return the newest `limit` commits that changed a path. Raise `OSError` ENOENT for a path without history."""
        with self._locked_open():
            steps = self.history.log(path_bytes(path), criteria, limit)
            if not steps and criteria == ALL_COMMITS:
                self._require_history(path)
            return steps

    def changes_of(self, numbers: Iterable[int], path: str) -> list[list[PathChange]]:
        """Return, for each commit, its changes at a path and below it."""
        with self._locked_open():
            return [self.index.changes_of(number, path_bytes(path)) for number in numbers]

    def versions(self, path: str) -> list[PathVersion]:
        """Return all changes of exactly this path, oldest first, numbered from 1, removals included."""
        with self._locked_open():
            return [
                PathVersion(number, step.commit, version.change)
                for number, step, version in self.history.versions(path_bytes(path))
            ]

    def names_below(self, path: str) -> list[tuple[str, bool]]:
        """Return (name, is a directory) of all entries that a directory ever had."""
        with self._locked_open():
            return [(path_text(name), inside) for name, inside in self.index.names_below(path_bytes(path))]

    def changed_since(self, path: str, since_ns: int) -> bool:
        """Return True if a path, or anything below it, changed at or after a time."""
        with self._locked_open():
            return bool(self.index.commits_below(path_bytes(path), CommitFilter(since_ns=since_ns), 1 << 62, 1))

    def was_directory(self, path: str) -> bool:
        """Return True if a path ever was a directory."""
        with self._locked_open():
            return self.index.was_directory(path_bytes(path))

    def moves_of(self, path: str) -> list[tuple[int, str]]:
        """Return (time in nanoseconds, previous name) of each rename of a path, newest first."""
        with self._locked_open():
            return self.history.moves_of(path_bytes(path))

    def last_change(self, path: str) -> Commit | None:
        """Return the newest commit that changed exactly this path; for a directory, anything below it.

        None without one.
        """
        with self._locked_open():
            rows = self.index.commits_below(path_bytes(path), ALL_COMMITS, 1 << 62, 1)
            return rows[0][1] if rows else None

    def first_change(self, path: str) -> Commit | None:
        """Return the commit that created this path, followed through renames; None without one."""
        with self._locked_open():
            changes = self.index.versions(path_bytes(path))
            return self.index.commit(changes[0].seq) if changes else None

    def content_of(self, shown: PathVersion) -> bytes:
        """Return the content of a file after a change."""
        with self._locked_open():
            return self.ledger.read_content(state_of(shown.change))

    def attributes(self, shown: PathVersion) -> tuple[int, dict[str, bytes]]:
        """Return (permission bits, extended attributes) of a file after a change."""
        with self._locked_open():
            return self._snapshot_reader.attributes_of(state_of(shown.change))

    # the tree in a version
    def entry_in(self, commit: Commit, path: str, name: str) -> Entry:
        """Return the entry of a path in a version. Raise `OSError` ENOENT."""
        with self._locked_open():
            return self._snapshot_reader.entry(commit, path, name)

    def list_in(self, commit: Commit, path: str) -> list[Entry]:
        """Return the sorted entries of a directory in a version, without file sizes.

        Raise `OSError` ENOENT or ENOTDIR.
        """
        with self._locked_open():
            return self._snapshot_reader.entries(commit, path)

    def read_in(self, commit: Commit, path: str) -> bytes:
        """Return the content of a file in a version. Raise `OSError` ENOENT or EISDIR."""
        with self._locked_open():
            return self._snapshot_reader.read(commit, path)

    def attributes_in(self, commit: Commit, path: str) -> dict[str, bytes]:
        """Return the extended attributes of a path in a version. Raise `OSError` ENOENT."""
        with self._locked_open():
            return self._snapshot_reader.attributes(commit, path)

    def differences(self, commit: Commit, most_bytes: int) -> list[SnapshotEntry]:
        """Return the state in a version of each file that differs from the newest version.

        Files of more than `most_bytes` have no content.
        """
        with self._locked_open():
            newest = self.ledger.head
            return list(self._snapshot_reader.differences(commit, newest, most_bytes)) if newest else []

    def show(self, path: str, at: str) -> bytes:
        """Return a file's content in a version, under the name that it had then. Raise `OSError` ENOENT or EISDIR."""
        with self._locked_open():
            step = self.history.resolve(at)
            return self._snapshot_reader.read(step.commit, path_text(self.history.name_at(path_bytes(path), step.seq)))

    def snapshots(self) -> dict[str, str]:
        """Return the commit id of each snapshot, by its name."""
        with self._locked_open():
            return dict(self.ledger.tags)

    def diff(self, path: str, old: str, new: str) -> bytes:
        """Return a unified diff of a path between two versions, attributes included."""
        with self._locked_open():
            trees = [self._tree_at(name) for name in (old, new)]
            return diff_trees(self.ledger, trees[0], trees[1], path_bytes(path))

    def _tree_at(self, name: str) -> str:
        """Return the tree of a version; the empty tree for a time before the first version."""
        try:
            return self.history.resolve(name).commit.tree
        except FileNotFoundError:
            if parse_moment(name, datetime.now(UTC)) is None:
                raise
            return EMPTY_TREE

    def blame(self, path: str, at: str) -> list[Line]:
        """Return the lines of a file in a version, each with the version that added it."""
        with self._locked_open():
            step = self.history.resolve(at)
            old_name = self.history.name_at(path_bytes(path), step.seq)
            self._snapshot_reader.read(step.commit, path_text(old_name))  # for its errors, which are clearer than git's
            return blame_lines(self.ledger, step.commit.oid, old_name)

    # rollback, snapshots, erasure
    def restore(self, path: str, to: str, actor: Actor, *, dry_run: bool = False) -> tuple[Outcome, bytes]:
        """Restore a path to a version. Return the outcome and, with `dry_run`, the diff."""
        return self._roll_back(
            lambda: self._planner.plan_restore(path_bytes(path), self._resolve_target(path, to)), actor, dry_run
        )

    def restore_from(self, path: str, source: str, actor: Actor, *, dry_run: bool = False) -> tuple[Outcome, bytes]:
        """Take back all files below a path that came from a source.

        Return the outcome and, with `dry_run`, the diff.
        """
        return self._roll_back(lambda: self._planner.plan_restore_from(path_bytes(path), source), actor, dry_run)

    def undo(
        self, path: str, actor: Actor, criteria: CommitFilter = ALL_COMMITS, *, dry_run: bool = False
    ) -> tuple[Outcome, bytes]:
        """Undo the newest change of a path, or all changes by a principal or session below it.

        Return the outcome and, with `dry_run`, the diff.
        """

        def plan() -> Plan:
            if criteria != ALL_COMMITS:
                return self._planner.plan_undo_of(path_bytes(path), criteria)
            self._require_history(path)
            return self._planner.plan_undo(path_bytes(path))

        return self._roll_back(plan, actor, dry_run)

    def redo(self, path: str, actor: Actor, *, dry_run: bool = False) -> tuple[Outcome, bytes]:
        """Redo the last undo of a path. Return the outcome and, with `dry_run`, the diff."""

        def plan() -> Plan:
            self._require_history(path)
            return self._planner.plan_redo(path_bytes(path))

        return self._roll_back(plan, actor, dry_run)

    def snapshot(self, name: str) -> Commit:
        """Give the newest version a name, and return it. Raise `CommandError` for an invalid or existing name."""
        if not _SNAPSHOT_NAME.fullmatch(name) or name.endswith((".lock", ".")) or ".." in name:
            raise CommandError(
                f"'{printable(name)}' cannot name a snapshot", "use letters, digits, '.', '_' and '-'", 2
            )
        if re.fullmatch(r"[0-9a-f]{4,40}", name) or name in ("latest", "HEAD") or parse_moment(name, datetime.now(UTC)):
            raise CommandError(f"'{name}' reads as a revision or a time", "choose another name", 2)
        with self._locked_open():
            self.commit()
            head = self.ledger.head
            assert head is not None
            oid = self.ledger.tags.get(name)
            if oid is not None and oid != head.oid:
                raise CommandError(f"a snapshot '{name}' exists already", f"remove it: ctxfs snapshot --delete {name}")
            if oid is None:
                self.ledger.repo.update_ref(f"refs/tags/{name}", head.oid, None)
                self.ledger.read_tags()
            return head

    def delete_snapshot(self, name: str) -> None:
        """Delete a snapshot's name; the version itself stays. Raise `CommandError` if it does not exist."""
        with self._locked_open():
            oid = self.ledger.repo.read_ref(f"refs/tags/{name}") if _SNAPSHOT_NAME.fullmatch(name) else None
            if oid is None:
                raise CommandError(f"no snapshot is called '{printable(name)}'", "see: ctxfs snapshot")
            self.ledger.repo.delete_ref(f"refs/tags/{name}", oid)
            self.ledger.read_tags()

    def erase(self, path: str | None, principal: str, actor: Actor, *, dry_run: bool = False) -> ErasureResult:
        """Erase a path, or all contents that a principal wrote, with derived texts, from every version."""
        with self._upkeep_lock, self._locked_open():
            self.commit()
            plan, copies = self._plan_erasure_with_derived(path, principal)
            if not dry_run and self.commit(plan.contents.keys()):
                # The commit contained unjournalled changes at these paths. They may hold none of it, so plan anew.
                plan, copies = self._plan_erasure_with_derived(path, principal)
            if dry_run:
                paths = sorted(plan.places | plan.contents.keys())
                return ErasureResult(0, len(plan.blobs), tuple(paths), (), copies)
            self._rollback.close()  # because swapped-out files may hold it
            result = self._eraser.erase(plan, actor)
            self._journal.delete_committed()
        self.checkpoint()
        return replace(result, copies=tuple(path for path in copies if path not in result.elsewhere))

    def phrases_of(self, path: str | None, principal: str) -> Phrases:
        """Return the phrases of the contents that `erase` would erase. Call it before the erasure."""
        with self._locked_open():
            return self._eraser.phrases(self._plan_erasure(path, principal))

    def _plan_erasure_with_derived(self, path: str | None, principal: str) -> tuple[ErasurePlan, tuple[bytes, ...]]:
        """Return the plan with derived texts, and the files of other principals that hold phrases of them."""
        plan = self._plan_erasure(path, principal)
        phrases = self._eraser.phrases(plan)
        return self._eraser.with_derived(plan, phrases), self._eraser.copies(plan, phrases)

    def _plan_erasure(self, path: str | None, principal: str) -> ErasurePlan:
        return self._eraser.of_path(path_bytes(path)) if path is not None else self._eraser.of_principal(principal)

    def record_marked_text(self, path: str, attributes: Mapping[str, bytes], data: bytes) -> None:
        """Record the text of an unversioned file with its marks, for as long as it has marks."""
        with self._lock:
            self.marks.record_unversioned_text(path_bytes(path), attributes, data)

    # remotes
    def remotes(self) -> dict[str, str]:
        """Return the address of each remote, by its name. Passwords in addresses are removed."""
        with self._locked_open():
            return {name: without_passwords(url) for name, url in self._remotes.urls().items()}

    def trusted_remotes(self) -> list[str]:
        """Return the names of the remotes whose history is trusted like the store's own."""
        with self._locked_open():
            return self._remotes.trusted_names()

    def add_remote(self, name: str, url: str, *, is_trusted: bool = False) -> None:
        """Add a remote to push to and pull from."""
        with self._locked_open():
            self._remotes.add(name, url, is_trusted=is_trusted)

    def trust_remote(self, name: str, *, is_trusted: bool) -> None:
        """Trust a remote's history like the store's own, or stop trusting it."""
        with self._locked_open():
            self._remotes.set_trust(name, is_trusted=is_trusted)

    def remove_remote(self, name: str) -> None:
        """Remove a remote."""
        with self._locked_open():
            self._remotes.remove(name)

    def push(self, name: str, *, replace: bool = False) -> str:
        """Push every version to a remote; return the revision that it then has. Commits continue meanwhile."""
        with self._upkeep_lock:
            with self._locked_open():
                self.commit()
                pushing = self._remotes.prepare_push(name, replace=replace)
            try:
                self._remotes.push(pushing)
            finally:
                with self._lock:
                    self._remotes.finish_push(pushing)
        return pushing.head

    def pull(self, name: str, actor: Actor) -> tuple[PullResult, list[PathChange]]:
        """Fetch and merge a remote's versions. Return the result, and the changes in this store.

        Commits continue during the fetch.
        """
        with self._locked_open():
            remotes = self._remotes
        with self._upkeep_lock:
            with self._lock:
                erased = remotes.erased_blobs()
            remotes.fetch(name)
            with self._locked_open():
                self.commit()
                before = self.ledger.tree
                result = remotes.integrate(name, actor, erased, self.commit)
                return result, self.ledger.compare_trees(before, self.ledger.tree)

    def _resolve_target(self, path: str, to: str) -> Step:
        if to != "prev":
            return self.history.resolve(to)
        steps = self.history.log(path_bytes(path), limit=2)
        if len(steps) < 2:
            raise CommandError(f"'{printable(path)}' has no earlier version", f"see: ctxfs log '{printable(path)}'")
        return steps[1]

    def _roll_back(self, make_plan: Callable[[], Plan], actor: Actor, dry_run: bool) -> tuple[Outcome, bytes]:
        """Plan a rollback and carry it out with its writers blocked. Changes up to then are committed first.

        On a full disk uncommitted changes stay as they are, and the disk reserve is released for the rollback.
        """
        with self._locked_open():
            self.commit_if_space()
            try:
                return self._plan_and_execute(make_plan, actor, dry_run)
            except OSError as error:
                if error.errno not in DISK_FULL_ERRNOS or not self._reserve.release():
                    raise
            return self._plan_and_execute(make_plan, actor, dry_run)

    def _plan_and_execute(self, make_plan: Callable[[], Plan], actor: Actor, dry_run: bool) -> tuple[Outcome, bytes]:
        plan, base = make_plan(), self.ledger.tree
        if dry_run:
            return Outcome(None, self.ledger.compare_trees(base, plan.tree)), diff_trees(
                self.ledger, base, plan.tree, b""
            )
        with self._rollback.holding(plan.tree) as blocked:
            try:
                if blocked and self.commit(blocked):
                    plan = make_plan()
            except OSError as error:
                if error.errno not in DISK_FULL_ERRNOS:
                    raise
            return self._rollback.carry_out(plan, actor), b""

    def _require_history(self, path: str) -> None:
        """Raise `OSError` ENOENT for a path without history, since a misspelt path would look like an unchanged one."""
        if path and not self.index.commits_below(path_bytes(path), ALL_COMMITS, 1 << 62, 1):
            raise path_error(errno.ENOENT, path, "no version knows this path")

    @contextlib.contextmanager
    def _locked_open(self) -> Iterator[None]:
        """Hold the lock, with the archive open."""
        with self._lock:
            self.open()
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1


def _read_anchors(repo: Repository, ref: str) -> Iterator[Anchor]:
    """Yield the anchors in the versions that a ref reaches, oldest first."""
    form = "--format=%H%x09%ct%x09%(trailers:key=Ctxfs-Anchor,valueonly,separator=%x09)"
    for line in repo.run("log", "--reverse", "--topo-order", form, ref, "--").decode("utf-8", "replace").splitlines():
        oid, _, rest = line.partition("\t")
        seconds, _, text = rest.partition("\t")
        when = datetime.fromtimestamp(min(int(seconds), 1 << 33), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        anchor = parse_anchor(text.partition("\t")[0], oid, when)
        if anchor is not None:
            yield anchor
