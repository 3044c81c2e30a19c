"""The branches of an archive: creation, reads, changes, comparison with main, merge and deletion.

A branch begins as the newest version, without a copy of any file. Each change of it is a version of the branch, which is
on disk when `apply` returns. Changes of one actor within a commit window become one version, as on main. Paths are texts
from the root of the tree, with surrogateescape.
"""

import errno
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ctxfs.model.change import Change
from ctxfs.model.entry import Entry
from ctxfs.model.errors import CommandError, path_error
from ctxfs.versions.archive_core import ArchiveAccess, ArchiveCore
from ctxfs.versions.branches import refs
from ctxfs.versions.branches.edits import TreeEditor
from ctxfs.versions.branches.erasure import erase_branch
from ctxfs.versions.branches.line import Line, Lines
from ctxfs.versions.branches.own_objects import create_record, recorded
from ctxfs.versions.diff import diff_trees
from ctxfs.versions.marks import marks_in
from ctxfs.versions.objects.commits import Actor, Commit, describe_paths, encode_commit, now_ns
from ctxfs.versions.objects.name_encoding import path_bytes, path_text, split_path
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_PROGRAM, Parts
from ctxfs.versions.proposals import FileChange, FileEdit, edit_tree, read_changes
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.versions.remotes.merge import Merger, find_merge_base
from ctxfs.versions.rollback import Outcome
from ctxfs.versions.rollback_plan import Plan

_WINDOW_NS = 150_000_000  # the default of `versions.window_ms`
_WRITE = "write"
_MERGE = "merge"
MAX_BRANCHES = 1000
MAX_BRANCHES_PER_AGENT = 20  # that it has created, beside its own branch
_PERSON = "human:"
IsVisible = Callable[[str], bool]
Check = Callable[[Sequence[FileChange]], None]


class BranchLimit(CommandError):
    """The refusal of a branch beyond the limits of the store, or of its author."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch: its name, its first and newest version, and the number of versions after the first."""

    name: str
    start: Commit
    head: Commit
    versions: int


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The result of an accepted merge, and the paths of which both contents are kept."""

    outcome: Outcome
    conflicts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Version:
    """A stored version of a branch with its changes; None if it is the one before, because its changes were taken back.

    With `replaces_head` it takes the place of the newest one.
    """

    commit: Commit
    changes: Sequence[PathChange] | None
    replaces_head: bool


class Branches:
    """The branches of an archive, for any thread."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive
        self._lines = Lines()
        self._bases: dict[str, str] = {}  # newest revision of a branch → newest version that main has of it
        self._proposed: set[str] = set()  # revisions under review, which later changes must not replace

    def clear(self) -> None:
        """Drop everything that was read, because history has been rewritten."""
        self._lines.clear()
        self._bases.clear()

    # the list

    def names(self) -> list[str]:
        """Return the names of all branches, sorted."""
        with self._archive.locked() as core:
            return sorted(refs.list_heads(core.ledger.repo))

    def exists(self, name: str) -> bool:
        """Return True if there is a branch of this name."""
        with self._archive.locked() as core:
            return refs.read_head(core.ledger.repo, name) is not None

    def get(self, name: str) -> Branch:
        """Return a branch. Raise OSError ENOENT if there is none of this name."""
        with self._archive.locked() as core:
            line = self._lines.get(core.ledger, name)
            return Branch(name, line.start, line.head, len(line.commits))

    def versions(self, name: str) -> list[Commit]:
        """Return the versions of a branch after its start, newest first. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            return self._lines.get(core.ledger, name).commits[::-1]

    def create(self, name: str, actor: Actor) -> Branch:
        """Create a branch of the newest version, after a commit of all changes.

        Raise `CommandError` for an invalid or existing name, `BranchLimit` beyond the limits.
        """
        refs.check_branch_name(name)
        with self._archive.locked() as core:
            if refs.read_head(core.ledger.repo, name) is not None:
                raise CommandError(f"a branch '{name}' exists already", f"see: ctxfs branch diff {name}")
            self._check_limits(core.ledger, name, actor.principal)
            self._archive.commit()
            return self._create(core, name, actor)

    @staticmethod
    def _check_limits(ledger: Ledger, name: str, principal: str) -> None:
        """Raise `BranchLimit` for one branch too many. The own branch of an agent counts in the limit of all only."""
        heads = refs.list_heads(ledger.repo)
        if len(heads) >= MAX_BRANCHES:
            raise BranchLimit(f"there are {MAX_BRANCHES} branches already", "drop one: ctxfs branch drop NAME")
        uncounted = refs.own_branch_name(principal.partition(":")[2])
        if principal.startswith(_PERSON) or name == uncounted:
            return
        own = [branch for branch in heads if branch != uncounted and refs.author_of(ledger, branch) == principal]
        if len(own) >= MAX_BRANCHES_PER_AGENT:
            raise BranchLimit(
                f"{principal} has {MAX_BRANCHES_PER_AGENT} branches already, such as '{min(own)}'",
                "merge or drop one: ctxfs branch drop NAME",
            )

    def _create(self, core: ArchiveCore, name: str, actor: Actor) -> Branch:
        ledger = core.ledger
        head = ledger.head
        assert head is not None
        refs.delete_refs(ledger.repo, name)  # the start that a kill has left
        draft = Commit("", head.tree, (head.oid,), now_ns(head.time_ns), actor, refs.START_OP, f"branch {name}")
        create_record(ledger.repo, name)
        with recorded(ledger.repo, name, head.oid):
            start = replace(draft, oid=ledger.repo.write("commit", encode_commit(draft)))
        ledger.repo.update_ref(f"{refs.STARTS}{name}", start.oid, None)
        ledger.repo.update_ref(f"{refs.HEADS}{name}", start.oid, None)
        self._lines.put(name, Line(start))
        return Branch(name, start, start, 0)

    # reads

    def entry(self, name: str, path: str) -> Entry:
        """Return the entry of a path. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            line = self._lines.get(core.ledger, name)
            entry = core.snapshot_reader.entry(line.head, path, path.rpartition("/")[2])
            return replace(entry, mtime_ns=line.changed_ns(path_bytes(path)))

    def entries(self, name: str, path: str) -> list[Entry]:
        """Return the sorted entries of a directory, without file sizes. Raise OSError ENOENT or ENOTDIR."""
        with self._archive.locked() as core:
            line, folder = self._lines.get(core.ledger, name), path_bytes(path)
            return [
                replace(entry, mtime_ns=line.changed_ns(b"/".join((folder, path_bytes(entry.name)))))
                for entry in core.snapshot_reader.entries(line.head, path)
            ]

    def read(self, name: str, path: str) -> bytes:
        """Return the content of a file. Raise OSError ENOENT or EISDIR."""
        with self._archive.locked() as core:
            return core.snapshot_reader.read(self._lines.get(core.ledger, name).head, path)

    def attributes(self, name: str, path: str) -> dict[str, bytes]:
        """Return the extended attributes of a path. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            return core.snapshot_reader.attributes(self._lines.get(core.ledger, name).head, path)

    def last_change(self, name: str, path: str) -> Commit | None:
        """Return the newest version of the branch that changed a path; None if none has. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            return self._lines.get(core.ledger, name).changed.get(path_bytes(path))

    def is_as_on_main(self, name: str, path: str) -> bool:
        """Return True if a path has the same content and attributes in the branch as in the newest version of main."""
        with self._archive.locked() as core:
            ledger, parts = core.ledger, split_path(path_bytes(path))
            return ledger.state(self._lines.get(ledger, name).head.tree, parts) == ledger.state(ledger.tree, parts)

    # changes

    def apply(self, name: str, change: Change, actor: Actor) -> None:
        """Make a change a version of the branch. Raise OSError as `Mount.apply` does: nothing has changed then."""
        with self._archive.locked() as core:
            ledger = core.ledger
            line = self._lines.get(ledger, name)
            with recorded(ledger.repo, name, line.start.parents[0]):
                edit = TreeEditor(ledger, line.head.tree, ledger.large_capture.max_bytes).edit(change)
                tree = ledger.edit_tree(line.head.tree, dict(sorted(edit.states.items()))) if edit.states else ""
                if not edit.states or tree == line.head.tree:
                    return
                version = self._write_version(ledger, line, tree, actor, edit.move)
            self._advance(ledger, name, line, version)
            self._record_marks(ledger, name, edit.states)

    def _write_version(
        self, ledger: Ledger, line: Line, tree: str, actor: Actor, move: tuple[bytes, bytes] | None
    ) -> _Version:
        """Store the next version, or one that has the changes of the newest version, too, and will replace it."""
        old, is_same = line.head, self._may_replace(line, actor)
        parent = ledger.read_commit(old.parents[0]) if is_same else old
        moves = tuple(
            pair for pair in _join_moves(old.moves if is_same else (), move) if ledger.is_move(parent.tree, tree, *pair)
        )
        if is_same and tree == parent.tree:
            return _Version(parent, None, is_same)
        changes = ledger.compare_trees(parent.tree, tree)
        subject = _describe(changes, moves)
        draft = Commit("", tree, (parent.oid,), now_ns(parent.time_ns), actor, _WRITE, subject, moves)
        return _Version(replace(draft, oid=ledger.repo.write("commit", encode_commit(draft))), changes, is_same)

    @staticmethod
    def _advance(ledger: Ledger, name: str, line: Line, version: _Version) -> None:
        """Make a stored version the newest one."""
        ledger.repo.update_ref(f"{refs.HEADS}{name}", version.commit.oid, line.head.oid)
        if version.changes is None:
            line.drop_head()
        else:
            (line.replace_head if version.replaces_head else line.append)(version.commit, version.changes)

    def _may_replace(self, line: Line, actor: Actor) -> bool:
        head = line.head
        return (
            head is not line.start
            and head.actor == actor
            and time.time_ns() - head.time_ns < _WINDOW_NS
            and head.oid not in self._proposed
        )

    @staticmethod
    def _record_marks(ledger: Ledger, name: str, states: Mapping[Parts, State]) -> None:
        """Record texts that were marked in the branch, so that no copy of them is without the marks."""
        for parts, state in states.items():
            if state.entry is None or state.entry.mode == MODE_DIR or not state.side:
                continue
            side = ledger.read_sidecar(state.side)
            if side.large is None and marks_in(side.xattrs):
                subject = b"/".join((b".branches", name.encode(), *parts))
                ledger.marks.record_unversioned_text(subject, side.xattrs, ledger.repo.read(state.entry.oid))

    # comparison with main

    def changes(self, name: str) -> list[PathChange]:
        """Return the changes of the branch since the newest version that main has of it. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            head = self._lines.get(core.ledger, name).head
            return core.ledger.compare_trees(self._base_tree(core.ledger, head), head.tree)

    def diff(self, name: str, is_visible: IsVisible | None = None) -> bytes:
        """Return the diff of the branch, attributes included, of the paths that are visible. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            ledger = core.ledger
            head = self._lines.get(ledger, name).head
            base, tree = self._base_tree(ledger, head), head.tree
            if is_visible is not None:
                shown = [change.path for change in ledger.compare_trees(base, tree)]
                states = {
                    parts: _without_entries(ledger, base, parts, ledger.state(tree, parts))
                    for parts in (split_path(path) for path in shown if is_visible(path_text(path)))
                }
                tree = ledger.edit_tree(base, dict(sorted(states.items())))
            return diff_trees(ledger, base, tree, b"")

    def differences(self, name: str) -> dict[str, State]:
        """Return the states in the branch of the paths that differ from the newest version of main.

        Raise OSError ENOENT.
        """
        with self._archive.locked() as core:
            ledger = core.ledger
            head = self._lines.get(ledger, name).head
            changes = ledger.compare_trees(head.tree, ledger.tree)
            return {path_text(change.path): ledger.state(head.tree, split_path(change.path)) for change in changes}

    def read_state(self, state: State, max_bytes: int) -> tuple[bytes | None, Mapping[str, bytes]]:
        """Return the content and attributes of a file's state; no content for more than `max_bytes`, and for others."""
        with self._archive.locked() as core:
            is_file = state.entry is not None and state.entry.mode in (MODE_FILE, MODE_PROGRAM)
            if not is_file or core.ledger.size(state) > max_bytes:
                return None, {}
            return core.ledger.read_content(state), core.snapshot_reader.attributes_of(state)[1]

    def revision(self, name: str) -> str:
        """Return the newest revision of a branch; empty if there is none of this name."""
        with self._archive.locked() as core:
            return refs.read_head(core.ledger.repo, name) or ""

    def _base_tree(self, ledger: Ledger, head: Commit) -> str:
        base = self._base(ledger, head)
        return ledger.read_commit(base).tree if base else EMPTY_TREE

    def _base(self, ledger: Ledger, head: Commit) -> str:
        assert ledger.head is not None
        base = self._bases.get(head.oid)
        if base is None:
            self._bases = {} if len(self._bases) > MAX_BRANCHES else self._bases
            base = self._bases[head.oid] = find_merge_base(ledger.repo, ledger.head.oid, head.oid)
        return base

    # merge

    def seal(self, name: str) -> Commit:
        """Return the newest version, which later changes of the branch do not replace. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            head = self._lines.get(core.ledger, name).head
            self._proposed.add(head.oid)
            return head

    def file_changes(self, name: str) -> list[FileChange]:
        """Return the files before and after the branch's changes. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            head = self._lines.get(core.ledger, name).head
            base = self._base_tree(core.ledger, head)
            paths = [change.path for change in core.ledger.compare_trees(base, head.tree)]
            return read_changes(core.ledger, base, head.tree, paths)

    def merge(
        self, name: str, revision: str, actor: Actor, check: Check, records: Mapping[str, bytes], subject: str
    ) -> MergeResult:
        """Merge a version of a branch into main, and write the files `records` in the same version.

        A path that both sides have changed is merged by lines; where these conflict, both contents are kept. `check`
        raises OSError for changes that must not be made. Raise OSError ENOENT without such a branch or version, and
        EBUSY for a file that is being written: nothing has changed then.
        """
        conflicts: tuple[bytes, ...] = ()

        def plan(core: ArchiveCore) -> Plan:
            nonlocal conflicts
            ledger = core.ledger
            theirs = self._version_of(ledger, name, revision)
            assert ledger.head is not None
            merge = Merger(ledger).merge_shared(theirs, find_merge_base(ledger.repo, ledger.head.oid, theirs.oid))
            conflicts = merge.conflicts
            paths = [change.path for change in ledger.compare_trees(ledger.tree, merge.tree)]
            check(read_changes(ledger, ledger.tree, merge.tree, paths))
            tree = edit_tree(ledger, merge.tree, [FileEdit(path, data) for path, data in records.items()])
            return Plan(tree, _MERGE, subject, b"", merged=theirs.oid)

        with self._archive.locked():
            try:
                outcome = self._archive.rollbacks.carry_out(plan, actor)
            finally:
                self._bases.clear()
            return MergeResult(outcome, tuple(map(path_text, conflicts)))

    def _version_of(self, ledger: Ledger, name: str, revision: str) -> Commit:
        line = self._lines.get(ledger, name)
        for commit in (*reversed(line.commits), line.start):
            if commit.oid == revision:
                return commit
        raise path_error(errno.ENOENT, f".branches/{name}", "the branch no longer has that version")

    # deletion

    def drop(self, name: str, *, dry_run: bool = False) -> int:
        """Delete a branch, with all objects that only it has. Return the number of its versions.

        Raise OSError ENOENT if there is no such branch, EIO if an object is left: another call resumes.
        """
        with self._archive.maintenance_lock, self._archive.locked() as core:
            line = self._lines.get(core.ledger, name)
            count = len(line.commits)
            if not dry_run:
                self._lines.drop(name)
                erase_branch(core.ledger, name, line)
                self._bases.clear()
            return count


def _join_moves(earlier: Sequence[tuple[bytes, bytes]], move: tuple[bytes, bytes] | None) -> list[tuple[bytes, bytes]]:
    """Return the moves of two changes in sequence, each from the first name to the last one."""
    if move is None:
        return list(earlier)
    sources = {target: source for source, target in earlier}
    source, target = move
    sources[target] = sources.pop(source, source)
    return [(old, new) for new, old in sources.items()]


def _without_entries(ledger: Ledger, base: str, parts: Parts, state: State) -> State:
    """Return the state of a path; a directory has the entries of the base, because each visible one is added itself."""
    if state.entry is None or state.entry.mode != MODE_DIR:
        return state
    old = ledger.state(base, parts).entry
    oid = old.oid if old is not None and old.mode == MODE_DIR else EMPTY_TREE
    return State(state.entry._replace(oid=oid), state.side)


def _describe(changes: Sequence[PathChange], moves: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the subject of a version, with the names that it changes."""
    if len(moves) == 1 and {change.path for change in changes} <= set(moves[0]):
        return describe_paths("move", [moves[0][0]]) + describe_paths(" to", [moves[0][1]])
    removed = [change.path for change in changes if change.op == "remove"]
    if len(removed) == len(changes):
        return describe_paths("remove", removed)
    files = [change.path for change in changes if change.mode != MODE_DIR and change.op != "remove"]
    return describe_paths(_WRITE, files or [change.path for change in changes])
