"""Proposals: changes of files that wait for a decision, as a git branch each. To accept one is to merge its branch.

A branch has one commit. Its parent is the version that the proposal is based on. The merge is made path by path, and as
a whole: after a kill the next start completes it, or reverts it if a path has changed since.
"""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ctxfs.model.errors import not_found, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.versions.archive_core import ArchiveAccess, ArchiveCore
from ctxfs.versions.diff import diff_trees
from ctxfs.versions.objects.commits import Actor, Commit, encode_commit, now_ns
from ctxfs.versions.objects.name_encoding import display_path, path_bytes, path_text, split_path
from ctxfs.versions.objects.sidecar import SideCar
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_PROGRAM, Parts, TreeEntry
from ctxfs.versions.proposal_refs import PROPOSALS, delete, is_proposal_name, read_proposal
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.versions.rollback import Outcome
from ctxfs.versions.rollback_plan import Plan

_COVERS = f"{PREFIX}covers"


@dataclass(frozen=True, slots=True)
class FileEdit:
    """A change of one file: its new content (None: unchanged), and its new attributes by their full names.

    An attribute whose value is None is removed; all others stay.
    """

    path: str
    data: bytes | None = None
    attributes: Mapping[str, bytes | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileState:
    """A file in one version: its content, and its attributes by their full names."""

    data: bytes
    attributes: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file before and after a proposal; None where it is absent. `is_regular` is False for links and directories."""

    path: str
    before: FileState | None
    after: FileState | None
    is_regular: bool = True


Check = Callable[[Sequence[FileChange]], None]


class Proposals:
    """The proposals of an archive. Paths are texts from the root of the tree, with surrogateescape."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive

    def base(self) -> Commit:
        """Commit all changes, and return the version that new proposals are based on."""
        with self._archive.locked() as core:
            self._archive.commit()
            head = core.ledger.head
            assert head is not None
            return head

    def open(self, name: str, base: Commit, edits: Sequence[FileEdit], actor: Actor, subject: str) -> bool:
        """Create the branch of a proposal on `base`; return False if it exists already."""
        if not is_proposal_name(name):
            raise path_error(errno.EINVAL, name, "this cannot name a proposal")
        with self._archive.locked() as core:
            repo, ledger = core.ledger.repo, core.ledger
            if repo.read_ref(f"{PROPOSALS}{name}") is not None:
                return False
            tree = edit_tree(ledger, base.tree, edits)
            draft = Commit("", tree, (base.oid,), now_ns(base.time_ns), actor, "propose", subject)
            oid = repo.write("commit", encode_commit(draft))
            repo.update_ref(f"{PROPOSALS}{name}", oid, None)
            return True

    def names(self) -> list[str]:
        """Return the names of the open proposals, sorted."""
        with self._archive.locked() as core:
            return sorted(core.ledger.repo.list_refs(PROPOSALS))

    def changes(self, name: str) -> list[FileChange]:
        """Return the changes of an open proposal. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            commit, base_tree = read_proposal(core.ledger, name)
            paths = [change.path for change in core.ledger.compare_trees(base_tree, commit.tree)]
            return read_changes(core.ledger, base_tree, commit.tree, paths)

    def diff(self, name: str) -> bytes:
        """Return the diff of an open proposal, attributes included. Raise OSError ENOENT."""
        with self._archive.locked() as core:
            commit, base_tree = read_proposal(core.ledger, name)
            return diff_trees(core.ledger, base_tree, commit.tree, b"")

    def is_current(self, name: str) -> bool:
        """Return False if a file of an open proposal has changed since, so that it cannot be merged. Raise ENOENT."""
        with self._archive.locked() as core:
            commit, base_tree = read_proposal(core.ledger, name)
            try:
                _merge_states(core.ledger, base_tree, commit.tree)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                return False
            return True

    def accept(self, name: str, actor: Actor, check: Check, records: Mapping[str, bytes], subject: str) -> Outcome:
        """Merge a proposal, and write the files `records` in the same version; then delete its branch.

        `check` raises OSError for changes that must not be made. Raise OSError ENOENT without such a proposal, ESTALE
        if one of its files has changed since, and EBUSY for a file that is being written: nothing has changed then.
        """

        def plan(core: ArchiveCore) -> Plan:
            ledger = core.ledger
            commit, base_tree = read_proposal(ledger, name)
            tree = ledger.edit_tree(ledger.tree, _merge_states(ledger, base_tree, commit.tree))
            paths = [change.path for change in ledger.compare_trees(base_tree, commit.tree)]
            paths += [change.path for change in ledger.compare_trees(ledger.tree, tree) if change.path not in paths]
            check(read_changes(ledger, ledger.tree, tree, paths))
            tree = edit_tree(ledger, tree, [FileEdit(path, data) for path, data in records.items()])
            return Plan(tree, "merge", subject, b"", merged=commit.oid)

        with self._archive.locked() as core:
            outcome = self._archive.rollbacks.carry_out(plan, actor)
            delete(core.ledger.repo, name)
            return outcome

    def drop(self, name: str) -> None:
        """Delete the branch of a proposal, if there is one."""
        with self._archive.locked() as core:
            delete(core.ledger.repo, name)


def edit_tree(ledger: Ledger, root: str, edits: Iterable[FileEdit]) -> str:
    """Return the id of a tree with edited files. Missing directories are created. Raise OSError ENOENT."""
    states: dict[Parts, State] = {}
    for edit in edits:
        parts = split_path(path_bytes(edit.path))
        for depth in range(1, len(parts)):
            if ledger.state(root, parts[:depth]).entry is None:
                states.setdefault(parts[:depth], State(TreeEntry(MODE_DIR, EMPTY_TREE)))
        states[parts] = _edit_state(ledger, ledger.state(root, parts), edit)
    return ledger.edit_tree(root, dict(sorted(states.items())))


def _edit_state(ledger: Ledger, state: State, edit: FileEdit) -> State:
    if state.entry is None and edit.data is None:
        raise not_found(edit.path)
    side = ledger.read_sidecar(state.side)
    xattrs = {name: value for name, value in {**side.xattrs, **edit.attributes}.items() if value is not None}
    entry, large = state.entry, side.large
    if edit.data is not None:
        mode = entry.mode if entry is not None and entry.mode in (MODE_FILE, MODE_PROGRAM) else MODE_FILE
        entry, large = TreeEntry(mode, ledger.repo.write("blob", edit.data)), None
    return State(entry, ledger.write_sidecar(SideCar(xattrs, side.mode, large)))


def _merge_states(ledger: Ledger, base: str, theirs: str) -> dict[Parts, State]:
    """Return the states that a merge of `theirs` changes in the newest version. Raise OSError ESTALE for a conflict."""
    states: dict[Parts, State] = {}
    for change in ledger.compare_trees(base, theirs):
        parts = split_path(change.path)
        old, mine, new = (ledger.state(tree, parts) for tree in (base, ledger.tree, theirs))
        if _is_directory(new) and (mine.entry is None or _is_directory(mine)):
            if mine.entry is None:
                states[parts] = State(TreeEntry(MODE_DIR, EMPTY_TREE), new.side)
        elif mine == old:
            states[parts] = new
        elif mine != new:
            states[parts] = _merge_state(ledger, change, old, mine, new)
    return dict(sorted(states.items()))


def _is_directory(state: State) -> bool:
    return state.entry is not None and state.entry.mode == MODE_DIR


def _merge_state(ledger: Ledger, change: PathChange, old: State, mine: State, new: State) -> State:
    """Return the merge of a path that has changed since; only attributes are merged, never two contents."""
    stale = path_error(errno.ESTALE, display_path(change.path), "it has changed since this was proposed")
    if old.entry is None or mine.entry is None or new.entry is None:
        raise stale
    if mine.entry != old.entry:
        raise stale  # the proposal was derived from the content that is gone
    base, ours, theirs = (ledger.read_sidecar(state.side) for state in (old, mine, new))
    xattrs = dict(ours.xattrs)
    for name in base.xattrs.keys() | theirs.xattrs.keys():
        before, value, current = base.xattrs.get(name), theirs.xattrs.get(name), ours.xattrs.get(name)
        if value in (before, current):
            continue
        if name == _COVERS:
            value = b"\n".join(dict.fromkeys(((current or b"") + b"\n" + (value or b"")).strip(b"\n").split(b"\n")))
        elif current != before:
            raise stale
        if value is None:
            xattrs.pop(name, None)
        else:
            xattrs[name] = value
    large = theirs.large if new.entry != old.entry else ours.large
    return State(new.entry, ledger.write_sidecar(replace(ours, xattrs=xattrs, large=large)))


def read_changes(ledger: Ledger, before: str, after: str, paths: Sequence[bytes]) -> list[FileChange]:
    """Return the states of paths in two trees, without folders that only come with a new file."""
    changes = []
    for path in paths:
        parts = split_path(path)
        old, new = ledger.state(before, parts), ledger.state(after, parts)
        if _is_directory(new) and (old.entry is None or _is_directory(old)) and old.side == new.side:
            continue  # a folder of a new file
        entries = [state.entry for state in (old, new) if state.entry is not None]
        is_regular = all(entry.mode in (MODE_FILE, MODE_PROGRAM) for entry in entries)
        old_file, new_file = (_read_state(ledger, state) if is_regular else None for state in (old, new))
        changes.append(FileChange(path_text(path), old_file, new_file, is_regular))
    return changes


def _read_state(ledger: Ledger, state: State) -> FileState | None:
    """Return the state of a file; the content of a large one is its SHA-256."""
    if state.entry is None:
        return None
    side = ledger.read_sidecar(state.side)
    data = side.large.sha256.encode() if side.large is not None else ledger.read_content(state)
    return FileState(data, side.xattrs)
