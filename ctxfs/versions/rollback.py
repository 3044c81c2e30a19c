"""Rollback: restore, undo and redo, carried out in the work tree (`rollback_plan.py` computes the target trees).

Each is a new commit with the content, attributes, modes and links of older versions. First the work tree is changed,
file by file, with the writers of each file blocked (`store/atomic_replace.py`); then the commit is made. A path that
differs from the newest version, or stays open for writing, is not changed. An intent record is written before, so that
an interrupted rollback is finished at the next start, except at paths that have changed since.
"""

import contextlib
import errno
import json
import logging
import os
import stat as st
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as HostPath

from ctxfs.memory.states import IS_FROZEN, is_frozen, without_frozen
from ctxfs.model.errors import path_error
from ctxfs.store.atomic_replace import SwapResult, UnchangedReason, WriterTimeout
from ctxfs.versions.follow_intent import FollowIntent
from ctxfs.versions.objects.commits import Actor, Commit, describe_paths
from ctxfs.versions.objects.name_encoding import display_path, path_bytes, split_path
from ctxfs.versions.objects.sidecar import default_mode
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_LINK, Parts, TreeEntry
from ctxfs.versions.orphans import Orphans, Rescue
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.file_times import ContentKey, mtimes_of
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.versions.recording.worktree import WorkTree
from ctxfs.versions.replacement import Contents, Target
from ctxfs.versions.rollback_plan import Plan, are_alike, replaced_paths, write_intent

log = logging.getLogger(__name__)

_MAX_BLOCKED_FILES = 64  # files whose writers are blocked together
_WAIT_SECONDS = 2.0  # for the writers of all files of a rollback


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a rollback: its commit (None without changes), and the skipped paths with the reasons."""

    commit: Commit | None
    changes: Sequence[PathChange]
    left: Mapping[bytes, UnchangedReason] = field(default_factory=dict)

    @property
    def kept(self) -> Sequence[bytes]:
        """The skipped paths."""
        return list(self.left)


@dataclass(slots=True)
class ApplyResult:
    """The result of a change of the work tree: the skipped paths, and swapped-out contents without a version."""

    left: dict[bytes, UnchangedReason] = field(default_factory=dict)
    rescued: list[Rescue] = field(default_factory=list)
    stat_keys: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)  # of verified and of written states
    new_mtimes: Mapping[ContentKey, int] = field(default_factory=dict)  # of files to be written


class Rollback:
    """The execution of rollbacks in one store.

    Used under the archive's lock, after all journalled changes have been committed. `outside` is the author of late
    writes to files that were swapped out.
    """

    def __init__(self, ledger: Ledger, intent: HostPath, outside: Actor) -> None:
        self._ledger = ledger
        self._intent = intent
        self.follow_intent = FollowIntent(ledger.repo.folder)
        self._outside = outside
        self._orphans = Orphans(ledger)
        self._is_pull = False  # a pull keeps both the replaced and the new content

    @property
    def work(self) -> WorkTree:
        """The work tree."""
        return self._ledger.work

    # execution

    @contextlib.contextmanager
    def holding(self, tree: str) -> Iterator[list[bytes]]:
        """Block the writers of the files that a change to `tree` replaces; yield their paths.

        A commit in this block contains exactly the contents that will be replaced. Writers of more than
        `_MAX_BLOCKED_FILES` files are not blocked.
        """
        paths = replaced_paths(self._ledger, tree)
        with self.work.block_writers(paths if len(paths) <= _MAX_BLOCKED_FILES else ()) as blocked:
            yield [b"/".join(parts) for parts in blocked]

    def find_open(self, tree: str) -> bytes | None:
        """Return a file that a change to `tree` replaces and that stays open for writing; None if there is none."""
        open_files = self.work.files_open_for_writing(replaced_paths(self._ledger, tree), WriterTimeout(_WAIT_SECONDS))
        return next((b"/".join(parts) for parts in open_files), None)

    def carry_out(self, plan: Plan, actor: Actor) -> Outcome:
        """Change the work tree and commit. On `OSError` the work tree is changed back, as far as the disk permits.

        Of a merge every path is changed: `OSError` EBUSY is raised if a path cannot be replaced.
        """
        ledger = self._ledger
        base = ledger.tree
        lifted = plan.source if actor.is_person else ""
        self._check_changeable(base, ledger.compare_trees(base, plan.tree))
        plan = replace(plan, tree=self._with_marks(base, plan.tree, lifted, is_person=actor.is_person))
        changes = ledger.compare_trees(base, plan.tree)
        if plan.tree == base:
            return Outcome(None, ())
        write_intent(self._intent, plan, actor, base)
        applied = ApplyResult()
        try:
            self._apply(base, plan.tree, changes, applied, is_pull=bool(plan.merged))
            if plan.merged:
                _check_whole(applied)
            if applied.rescued:
                self._commit_rescued(applied)
                write_intent(self._intent, plan, actor, ledger.tree)
            commit = self._commit(plan, actor, base, changes, applied)
        except OSError as error:
            self._revert(base, plan.tree)
            if plan.merged:
                self.commit_rescued(applied)
            verb = "merged" if plan.merged else "rolled back"
            raise path_error(
                error.errno or errno.EIO, error.filename or "", f"nothing was {verb}: {error.strerror}"
            ) from error
        if lifted:
            self._lift_marks(changes, applied)
        self._record_written(changes, applied)
        self._intent.unlink(missing_ok=True)
        return Outcome(commit, [change for change in changes if change.path not in applied.left], applied.left)

    def _check_changeable(self, base: str, changes: Sequence[PathChange]) -> None:
        """Raise OSError EPERM if all files that a rollback changes are frozen. Others are skipped one by one."""
        files = [change.path for change in changes if change.mode != MODE_DIR]
        frozen = [path for path in files if self._ledger.is_frozen(self._ledger.state(base, split_path(path)))]
        if frozen and len(frozen) == len(files):
            raise path_error(errno.EPERM, display_path(frozen[0]), IS_FROZEN)

    def _commit(
        self, plan: Plan, actor: Actor, base: str, changes: Sequence[PathChange], applied: ApplyResult
    ) -> Commit | None:
        """Make the version of a rollback; skipped paths are in it with their old state."""
        ledger = self._ledger
        tree, known_changes = plan.tree, None if applied.left or applied.rescued else changes
        if applied.left:
            skipped = map(split_path, sorted(applied.left))
            tree = ledger.edit_tree(
                plan.tree, {parts: self._skipped_state(base, plan.tree, parts) for parts in skipped}
            )
        if tree == ledger.tree:
            return None
        if plan.merged:
            ledger.index_commits(ledger.list_unmerged(plan.merged))
            return ledger.merge(
                tree, ledger.read_commit(plan.merged), actor, plan.subject, mtimes_of(applied.stat_keys)
            )
        scope, undoes, mtimes = plan.scope, plan.undoes, mtimes_of(applied.stat_keys)
        return ledger.advance(
            tree, actor, plan.op, plan.subject, scope=scope, undoes=undoes, changes=known_changes, mtimes=mtimes
        )

    def _skipped_state(self, base: str, tree: str, parts: Parts) -> State:
        """Return the state of a path in `base`; for a directory without its entries, which may have been removed."""
        state = self._ledger.state(base, parts)
        if state.entry is None or state.entry.mode != MODE_DIR:
            return state
        planned = self._ledger.state(tree, parts).entry
        is_directory = planned is not None and planned.mode == MODE_DIR
        return State(planned if is_directory else TreeEntry(MODE_DIR, EMPTY_TREE), state.side)

    def _commit_rescued(self, applied: ApplyResult) -> None:
        """Commit the late writes to files that were swapped out."""
        if applied.rescued:
            states = {split_path(rescue.path): rescue.new for rescue in applied.rescued}
            tree = self._ledger.edit_tree(self._ledger.tree, states)
            if tree != self._ledger.tree:
                subject = describe_paths("outside", sorted({rescue.path for rescue in applied.rescued}))
                self._ledger.advance(tree, self._outside, "outside", subject)

    def record_late(self) -> list[Commit]:
        """Make versions of late writes to swapped-out files; after each, commit the previous tree again."""
        commits = []
        for rescue in self._orphans.collect_rescues():
            before = self._ledger.tree
            self.commit_rescued(ApplyResult(rescued=[rescue]))
            if self._ledger.tree != before:
                subject = describe_paths("back from what was replaced", [rescue.path])
                commits.append(self._ledger.advance(before, self._outside, "outside", subject))
        return commits

    def close(self) -> None:
        """Release the swapped-out files."""
        self._orphans.close()

    def follow(self, tree: str, placed: dict[bytes, State], mtimes: Mapping[ContentKey, int]) -> ApplyResult:
        """Bring the work tree to `tree`, which the caller then commits if no path was skipped and nothing was rescued.

        `placed` are states that earlier calls have put into the work tree, to be replaced like those of the newest version.
        """
        base, applied = self._ledger.tree, ApplyResult(new_mtimes=mtimes)
        changes = self._ledger.compare_trees(base, tree)
        self.follow_intent.add(tree)
        try:
            self._apply(base, tree, changes, applied, placed, is_pull=True)
        except OSError:
            self.revert_follow()
            raise
        if not applied.left:
            self._record_written(changes, applied)
        return applied

    def commit_rescued(self, applied: ApplyResult) -> None:
        """Commit the rescued contents on top of the newest version; after a pull, also apply them to the files."""
        self._commit_rescued(applied)
        for rescue in applied.rescued:
            if rescue.is_merged:
                self._repeat_late_write(rescue)

    def _repeat_late_write(self, rescue: Rescue) -> None:
        """Repeat a late append on the file at the path; write any other late change to a new file beside it."""
        ledger, parts = self._ledger, split_path(rescue.path)
        if rescue.new.entry is None or rescue.new.entry.mode == MODE_LINK:
            return
        old = ledger.read_content(rescue.old) if rescue.old.entry is not None else b""
        new = ledger.read_content(rescue.new)
        try:
            if not (new.startswith(old) and ledger.work.append(parts, new[len(old) :])):
                ledger.work.put_beside(parts, new)
        except OSError as error:
            log.error(
                "'%s' lacks the late writes that its last version contains: %s",
                display_path(rescue.path),
                error.strerror,
            )

    def revert_follow(self) -> bool:
        """Bring files in a followed state to the newest version; return False if that fails. Newer changes stay."""
        ledger = self._ledger
        trees = [tree for tree in self.follow_intent.trees() if ledger.repo.has(tree)]
        is_reverted = all(self._revert(ledger.tree, tree, is_pull=True) for tree in trees)
        if is_reverted:
            self.follow_intent.remove()
        return is_reverted

    def finish(self) -> Commit | None:
        """Finish an interrupted rollback.

        Paths that are neither in their old state nor in the planned one stay as they are; with such a path a merge is
        reverted. An interrupted follow is reverted.
        """
        self.revert_follow()
        try:
            record = json.loads(self._intent.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("the intent record of an interrupted rollback cannot be read; it is abandoned: %s", error)
            self._intent.unlink(missing_ok=True)
            return None
        commit = None
        ledger, base = self._ledger, record["base"]
        scope, merged = path_bytes(record["scope"]), record.get("merged", "")
        plan = Plan(record["tree"], record["op"], record["subject"], scope, record["undoes"], merged=merged)
        try:
            if ledger.tree == base and ledger.repo.has(plan.tree):
                changes, applied = ledger.compare_trees(base, plan.tree), ApplyResult()
                self._apply(base, plan.tree, changes, applied, is_pull=bool(merged))
                if merged and (applied.left or applied.rescued):
                    self._revert(base, plan.tree)
                    self.commit_rescued(applied)
                else:
                    self._commit_rescued(applied)
                    commit = self._commit(plan, Actor(**record["actor"]), base, changes, applied)
        except OSError as error:
            log.error("cannot finish an interrupted rollback; the files stay as they are: %s", error)
        self._intent.unlink(missing_ok=True)
        return commit

    def _with_marks(self, base: str, tree: str, lifted: str, *, is_person: bool) -> str:
        """Return the tree with the marks that its files must have. Only marks of the source `lifted` are lifted.

        A version of a time when a file was frozen freezes it again for a person only.
        """
        ledger, states = self._ledger, dict[Parts, State]()
        for change in ledger.compare_trees(base, tree):
            if change.op == "remove" or change.mode in (MODE_DIR, MODE_LINK):
                continue
            side = ledger.read_sidecar(change.side)
            owed_side = side if is_person else replace(side, xattrs=without_frozen(side.xattrs))
            if not ledger.marks.is_empty:
                data = ledger.repo.read(change.oid) if side.large is None else None
                owed_side = ledger.marks.with_owed_marks(change.path, change.oid, owed_side, data, lifted)
            if owed_side != side:
                states[split_path(change.path)] = State(
                    TreeEntry(change.mode, change.oid), ledger.write_sidecar(owed_side)
                )
        return ledger.edit_tree(tree, states) if states else tree

    def _lift_marks(self, changes: Sequence[PathChange], applied: ApplyResult) -> None:
        """Record the marks of files that were restored to a state without changes from a source."""
        for change in changes:
            if change.op != "remove" and change.mode not in (MODE_DIR, MODE_LINK) and change.path not in applied.left:
                xattrs = self._ledger.read_sidecar(change.side).xattrs if change.side else {}
                self._ledger.marks.replaced_by_person(change.path, xattrs)

    # work tree

    def _apply(
        self,
        base: str,
        tree: str,
        changes: Sequence[PathChange],
        applied: ApplyResult | None = None,
        placed: dict[bytes, State] | None = None,
        *,
        is_pull: bool = False,
    ) -> None:
        """Bring the work tree from `base` to `tree`. `applied` receives the result, also on an error.

        With `is_pull` late writes to replaced files belong to the files at their paths, too.
        """
        applied = applied if applied is not None else ApplyResult()
        work, self._is_pull = self._ledger.work, is_pull
        work.patience = WriterTimeout(_WAIT_SECONDS)
        try:
            with work.keep_directory_open():
                self._apply_changes(base, tree, changes, applied, placed if placed is not None else {})
        finally:
            applied.rescued.extend(self._orphans.settle(WriterTimeout(_WAIT_SECONDS)))

    def _apply_changes(
        self, base: str, tree: str, changes: Sequence[PathChange], applied: ApplyResult, placed: dict[bytes, State]
    ) -> None:
        ledger = self._ledger
        capture = Capture(ledger, keep=False)
        capture.prefetch([change.path for change in changes])
        removed = [change for change in changes if change.op == "remove"]
        written = [change for change in changes if change.op != "remove"]
        ledger.prefetch_sidecars(change.side for change in written)
        contents = Contents(ledger, written)
        for change in (*sorted(removed, key=lambda c: c.path.count(b"/"), reverse=True), *written):
            parts = split_path(change.path)
            before, after = ledger.state(base, parts), ledger.state(tree, parts)
            expected = (before, placed[change.path]) if change.path in placed else (before,)
            stat = ledger.work.stat(parts)
            current = capture.capture_path(parts, stat, before)
            if stat is not None:
                applied.stat_keys[change.path] = _stat_key(stat)
            if self._skips(parts, stat):
                applied.left[change.path] = UnchangedReason.FROZEN
            elif not any(are_alike(current, state) for state in (*expected, after)):
                applied.left[change.path] = UnchangedReason.WRITTEN
            elif not are_alike(current, after):
                target = Target(capture, parts, expected)
                swap = self._put(target, before, after, contents, applied)
                if swap.orphan is not None:
                    self._orphans.add(parts, target.state, swap.orphan, is_merged=self._is_pull)
                if swap.reason is not None:
                    applied.left[change.path] = swap.reason
                else:
                    placed[change.path] = after
        for change in reversed(written):
            if change.mode == MODE_DIR and change.path not in applied.left:
                side = ledger.read_sidecar(change.side)
                mode = side.mode if side.mode is not None else 0o755
                ledger.work.set_attributes(split_path(change.path), mode, side.xattrs)

    def _skips(self, parts: Parts, stat: os.stat_result | None) -> bool:
        """Return True for a frozen file. The merge of a pull has decided on those."""
        is_file = stat is not None and st.S_ISREG(stat.st_mode)
        return is_file and not self._is_pull and is_frozen(self._ledger.work.read_xattrs(parts))

    def _put(self, target: Target, before: State, after: State, contents: Contents, applied: ApplyResult) -> SwapResult:
        ledger, parts = self._ledger, target.parts
        if after.entry is None:
            return ledger.work.remove(parts, target.is_expected)
        side = ledger.read_sidecar(after.side)
        mode = side.mode if side.mode is not None else default_mode(after.entry.mode)
        if after.entry.mode == MODE_DIR:
            return ledger.work.put_directory(parts, mode | 0o700, side.xattrs, target.is_expected)
        if after.entry.mode == MODE_LINK:
            return ledger.work.put_link(parts, ledger.repo.read(after.entry.oid), target.is_expected)
        if target.has_content(after.entry.oid) and before.entry is not None and before.entry.mode != MODE_LINK:
            ledger.work.set_attributes(parts, mode, side.xattrs)
            return SwapResult()
        fd, data = -1, b""
        if side.large is not None:
            fd = os.open(ledger.large.path(side.large.sha256), os.O_RDONLY | os.O_CLOEXEC)
        else:
            data = contents.of(after.entry.oid)
        try:
            mtime_ns = applied.new_mtimes.get((b"/".join(parts), after.entry.oid))
            content = data if fd < 0 else fd
            swap, stat = ledger.work.put_file(parts, content, mode, side.xattrs, target.is_expected, mtime_ns)
        finally:
            if fd >= 0:
                os.close(fd)
        applied.stat_keys[b"/".join(parts)] = _stat_key(stat)
        return swap

    def _revert(self, base: str, tree: str, *, is_pull: bool = False) -> bool:
        """Change the work tree back after a failure. If that fails as well, the next start finishes the rollback."""
        applied = ApplyResult()
        try:
            self._apply(tree, base, self._ledger.compare_trees(tree, base), applied, is_pull=is_pull)
            (self.commit_rescued if is_pull else self._commit_rescued)(applied)
            if not is_pull:
                self._intent.unlink(missing_ok=True)
            return True
        except OSError:
            log.exception("a rollback failed and could not be reverted; the next start finishes it")
        return False

    def _record_written(self, changes: Sequence[PathChange], applied: ApplyResult) -> None:
        """Record the stat results of the files that were written, so that the next commit does not read them again."""
        capture = Capture(self._ledger)
        with self._ledger.work.keep_directory_open():
            for change in changes:
                if change.path in applied.left:
                    continue
                if change.op == "remove":
                    capture.gone.append(change.path)
                elif change.mode != MODE_DIR:
                    stat = self._ledger.work.stat(split_path(change.path))
                    # A file with a different stat result has newer writes, so the next commit must read it.
                    if stat is not None and applied.stat_keys.get(change.path) == _stat_key(stat):
                        capture.remember(change.path, stat, TreeEntry(change.mode, change.oid), change.side)
        capture.settle()


def _check_whole(applied: ApplyResult) -> None:
    """Raise OSError EBUSY for a merge of which a path was skipped, or was written to meanwhile."""
    for path, reason in applied.left.items():
        raise path_error(errno.EBUSY, display_path(path), reason.value)
    for rescue in applied.rescued:
        raise path_error(errno.EBUSY, display_path(rescue.path), "it was written to meanwhile")


def _stat_key(stat: os.stat_result) -> tuple[int, int, int]:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
