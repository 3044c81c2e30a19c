"""The ledger: the newest version and how the next one is made. It writes commit, branch and path index."""

import errno
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ctxfs.eventlog.anchor import Anchors
from ctxfs.memory.states import is_frozen
from ctxfs.model.errors import path_error
from ctxfs.store.settings import DEFAULT_MAX_FILE_BYTES
from ctxfs.versions.marks import Marks
from ctxfs.versions.objects.commits import Actor, Commit, decode_commit, encode_commit, now_ns
from ctxfs.versions.objects.git import BRANCH, Repository
from ctxfs.versions.objects.large_objects import LargeStore
from ctxfs.versions.objects.name_encoding import SIDE_PREFIX, real_name, sidecar_name, split_path, stored_name
from ctxfs.versions.objects.prefetch import each_commit
from ctxfs.versions.objects.sidecar import EMPTY_SIDECAR, SideCar, decode_sidecar, encode_sidecar
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_LINK, Listing, Parts, TreeEntry, Trees
from ctxfs.versions.recording.file_times import NO_MTIMES, ages_of
from ctxfs.versions.recording.large_capture import LargeCapture
from ctxfs.versions.recording.pathindex import PathChange, PathIndex
from ctxfs.versions.recording.scratch import ScratchList
from ctxfs.versions.recording.unversioned import Unversioned
from ctxfs.versions.recording.worktree import WorkTree
from ctxfs.versions.remotes.origins import Origins, read_store_id

log = logging.getLogger(__name__)

_MAX_CACHED_SIDES = 20_000
_MAX_CACHED_DIRECTORIES = 500
_MAX_SIZE_REQUESTS = 20


class State(NamedTuple):
    """A path in one version: its git entry and the id of its side-car blob (empty: none)."""

    entry: TreeEntry | None
    side: str = ""


ABSENT = State(None)


def state_of(change: PathChange) -> State:
    """Return the state that a change has left."""
    return State(TreeEntry(change.mode, change.oid), change.side)


class Ledger:
    """The shared state of all operations on one store's versions. Used under the archive's lock."""

    def __init__(
        self,
        repo: Repository,
        index: PathIndex,
        work: WorkTree,
        large: LargeStore,
        large_from: int,
        max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
        *,
        marks: Marks,
        anchors: Anchors | None = None,
    ) -> None:
        self.repo = repo
        self.index = index
        self.work = work
        self.large = large
        self.large_from = large_from
        self.large_capture = LargeCapture(work.root, large, max_file_bytes)
        self.marks = marks
        self.trees = Trees(repo)
        self._anchors = anchors
        self.store_id = read_store_id(repo.folder)
        self.origins = Origins(repo.folder / "ctxfs-origins")
        self.unversioned = Unversioned()
        self.scratch = ScratchList()
        self.head: Commit | None = None
        self.seq = 0
        self.tags: dict[str, str] = {}
        self.clock_offset_ns = 0  # added to this machine's time, to get that of a shared store
        self._sides: dict[str, SideCar] = {}
        self._directories: dict[tuple[str, Parts], Listing | None] = {}

    @property
    def tree(self) -> str:
        """Return the tree of the newest version."""
        return self.head.tree if self.head else EMPTY_TREE

    def clear_caches(self) -> None:
        """Clear the caches of objects, which may have been deleted."""
        self._sides.clear()
        self._directories.clear()
        self.trees.clear()

    def read_commit(self, oid: str) -> Commit:
        """Return a commit.

        One from an untrusted remote is qualified with the remote, and keeps only moves that its trees show.
        """
        commit = self.origins.qualify(decode_commit(oid, self.repo.read(oid)))
        if not commit.moves or not self.origins.is_foreign(oid):
            return commit
        before = (
            decode_commit(commit.parents[0], self.repo.read(commit.parents[0])).tree if commit.parents else EMPTY_TREE
        )
        return replace(commit, moves=tuple(move for move in commit.moves if self.is_move(before, commit.tree, *move)))

    def is_move(self, before: str, after: str, source: bytes, target: bytes) -> bool:
        """Return True if the path moved to a new one. A replaced file continues its own history instead."""
        old, new = split_path(source), split_path(target)
        return (
            self.state(before, old).entry is not None
            and self.state(after, old).entry is None
            and self.state(before, new).entry is None
            and self.state(after, new).entry is not None
        )

    # reads of one version

    def state(self, root: str, parts: Parts) -> State:
        """Return the state of a real path in the tree `root`."""
        if not parts:
            return State(TreeEntry(MODE_DIR, root))
        listing = self._directory_listing(root, parts[:-1])
        if listing is None:
            return ABSENT
        side = listing.get(sidecar_name(parts[-1]))
        return State(listing.get(stored_name(parts[-1])), side.oid if side else "")

    def _directory_listing(self, root: str, parts: Parts) -> Listing | None:
        """Return the tree of a real directory in the tree `root`; None if it is not a directory.

        The result is cached, because callers request neighbours in sequence.
        """
        key = (root, parts)
        if key in self._directories:
            return self._directories[key]
        entry = self.trees.find(root, tuple(stored_name(name) for name in parts))
        listing = self.trees.listing(entry.oid) if entry is not None and entry.mode == MODE_DIR else None
        if len(self._directories) > _MAX_CACHED_DIRECTORIES:
            self._directories.clear()
        self._directories[key] = listing
        return listing

    def children(self, tree: str) -> dict[bytes, State]:
        """Return the states in a tree object by real name."""
        listing = self.trees.listing(tree)
        states = {}
        for stored, entry in listing.items():
            name = real_name(stored)
            if name is not None:
                side = listing.get(sidecar_name(name))
                states[name] = State(entry, side.oid if side else "")
        return states

    def is_frozen(self, state: State) -> bool:
        """Return True for the state of a file whose content only changes after a person has lifted that."""
        return bool(state.side) and is_frozen(self.read_sidecar(state.side).xattrs)

    def walk(self, root: str, parts: Parts) -> Iterable[tuple[Parts, State]]:
        """Yield a path of a version and everything below it, parents first; nothing if it is absent."""
        state = self.state(root, parts)
        if state.entry is None:
            return
        if parts:
            yield parts, state
        if state.entry.mode == MODE_DIR:
            pending = [(parts, state.entry.oid)]
            while pending:
                directory, tree = pending.pop()
                for name, child in sorted(self.children(tree).items()):
                    yield (*directory, name), child
                    if child.entry is not None and child.entry.mode == MODE_DIR:
                        pending.append(((*directory, name), child.entry.oid))

    def marked_files(self) -> Iterator[tuple[bytes, str, SideCar, bytes | None]]:
        """Yield (path, git id, side-car, content) of every file of the newest version that has a side-car.

        The content is None if it is large, or if the file has no attributes.
        """
        for parts, state in self.walk(self.tree, ()):
            if state.side and state.entry is not None and state.entry.mode not in (MODE_DIR, MODE_LINK):
                side = self.read_sidecar(state.side)
                data = self.repo.read(state.entry.oid) if side.xattrs and side.large is None else None
                yield b"/".join(parts), state.entry.oid, side, data

    def read_sidecar(self, oid: str) -> SideCar:
        """Return a side-car by the id of its blob. Raise OSError EIO if it is damaged."""
        if not oid:
            return EMPTY_SIDECAR
        side = self._sides.get(oid)
        if side is None:
            self.prefetch_sidecars([oid])
            side = self._sides[oid]
        return side

    def prefetch_sidecars(self, oids: Iterable[str]) -> None:
        """Read many side-cars at once into the cache. Raise OSError EIO if one is damaged."""
        missing = {oid for oid in oids if oid} - self._sides.keys()
        if len(self._sides) + len(missing) > _MAX_CACHED_SIDES:
            self._sides.clear()
        for oid, data in self.repo.read_many(missing).items():
            try:
                self._sides[oid] = decode_sidecar(data)
            except ValueError as error:
                raise path_error(errno.EIO, oid, str(error)) from error

    def read_content(self, state: State) -> bytes:
        """Return the bytes of a file, or the target of a link."""
        assert state.entry is not None
        large = self.read_sidecar(state.side).large if state.side else None
        return self.large.read(large) if large else self.repo.read(state.entry.oid)

    def size(self, state: State) -> int:
        """Return the bytes of the content."""
        assert state.entry is not None
        large = self.read_sidecar(state.side).large if state.side else None
        return large.size if large else self.repo.size(state.entry.oid)

    # writes of the next version

    def write_sidecar(self, side: SideCar) -> str:
        """Store a side-car and return its id; the empty text if it is empty."""
        return "" if side.is_empty else self.repo.write("blob", encode_sidecar(side))

    def edit_tree(self, root: str, states: dict[Parts, State]) -> str:
        """Return the id of the tree `root` with these states of real paths."""
        changes: dict[Parts, TreeEntry | None] = {}
        for parts, state in states.items():
            stored = tuple(stored_name(name) for name in parts)
            changes[stored] = state.entry
            if parts:
                side = TreeEntry(MODE_FILE, state.side) if state.side and state.entry else None
                changes[*stored[:-1], sidecar_name(parts[-1])] = side
        return self.trees.edit(root, changes)

    def compare_trees(self, old: str, new: str, sizes: dict[str, int] | None = None) -> list[PathChange]:
        """Return the differences of two trees by real path. `sizes` are sizes that the caller has, by blob id."""
        touched: dict[Parts, set[str]] = {}
        for change in self.trees.compare(old, new):
            directory = tuple(_real_or_stored_name(name) for name in change.parts[:-1])
            stored = change.parts[-1]
            if stored.startswith(SIDE_PREFIX):
                touched.setdefault((*directory, stored[len(SIDE_PREFIX) :]), set()).add("side")
            elif not (change.old and change.new and change.old.mode == change.new.mode == MODE_DIR):
                touched.setdefault((*directory, _real_or_stored_name(stored)), set()).add("entry")
        differences = [(parts, self.state(old, parts), self.state(new, parts)) for parts in sorted(touched)]
        self.prefetch_sidecars(after.side for _, _, after in differences)
        known_sizes = dict(sizes or {})
        unknown = {
            after.entry.oid for _, _, after in differences if _is_blob(after) and after.entry
        } - known_sizes.keys()
        if len(unknown) > _MAX_SIZE_REQUESTS:  # most are older, and a query of the index is quicker than git
            known_sizes |= self.index.sizes_of([b"/".join(parts) for parts, _, _ in differences])
        known_sizes |= self.repo.sizes(unknown - known_sizes.keys())
        rows = (
            self._make_change(parts, before, after, touched[parts], known_sizes) for parts, before, after in differences
        )
        return [row for row in rows if row is not None]

    def _make_change(
        self, parts: Parts, before: State, after: State, aspects: set[str], sizes: dict[str, int]
    ) -> PathChange | None:
        path = b"/".join(parts)
        if after.entry is None:
            return PathChange(path, "remove", 0, "", "", 0) if before.entry is not None else None
        mode, oid = after.entry
        if mode == MODE_DIR:
            size, oid = 0, ""
        else:
            large = self.read_sidecar(after.side).large
            size = large.size if large else sizes[oid]
        op = "edit" if "entry" in aspects and before.entry != after.entry else "meta"
        return PathChange(path, "add" if before.entry is None else op, mode, oid, after.side, size)

    def anchor(self) -> str:
        """Return the present heads of the event log and audit chains of this store; empty without chains."""
        return self._anchors.text(self.store_id) if self._anchors else ""

    def advance(
        self,
        tree: str,
        actor: Actor,
        op: str,
        subject: str,
        *,
        moves: Sequence[tuple[bytes, bytes]] = (),
        scope: bytes | None = None,
        undoes: str = "",
        parents: tuple[str, ...] | None = None,
        sizes: dict[str, int] | None = None,
        changes: Sequence[PathChange] | None = None,
        mtimes: Mapping[bytes, int] = NO_MTIMES,
    ) -> Commit:
        """Make `tree` the newest version. On return the branch is moved; after an OSError nothing has changed.

        `changes` are the differences from the last version, if the caller has them already. `mtimes` are those of the
        changed files, in nanoseconds by path.
        """
        if parents is None:
            parents = (self.head.oid,) if self.head else ()
        time_ns = self._time_after(self.head)
        anchor = self.anchor()
        rows = self.compare_trees(self.tree, tree, sizes) if changes is None else changes
        ages = ages_of(rows, mtimes, time_ns, self.clock_offset_ns)
        draft = Commit("", tree, parents, time_ns, actor, op, subject, tuple(moves), scope, undoes, anchor, ages)
        oid = self.repo.write("commit", encode_commit(draft))
        self.repo.update_ref(BRANCH, oid, self.head.oid if self.head else None)
        commit = replace(draft, oid=oid)
        self.head = commit
        self._index_commit(commit, rows)
        return commit

    def merge(
        self, tree: str, theirs: Commit, actor: Actor, subject: str, mtimes: Mapping[bytes, int] = NO_MTIMES
    ) -> Commit:
        """Make `tree` the newest version, with `theirs` as second parent. The index must have their commits already."""
        assert self.head is not None
        differing = {row.path for row in self.compare_trees(theirs.tree, tree)}
        rows = [row for row in self.compare_trees(self.tree, tree) if row.path in differing]
        parents = (self.head.oid, theirs.oid)
        return self.advance(tree, actor, "merge", subject, parents=parents, changes=rows, mtimes=mtimes)

    def write_merge(self, tree: str, theirs: Commit, actor: Actor, subject: str) -> str:
        """Write a commit of the head and `theirs` with this tree, and return its id. Nothing else changes."""
        assert self.head is not None
        time_ns = self._time_after(self.head, theirs)
        draft = Commit("", tree, (self.head.oid, theirs.oid), time_ns, actor, "merge", subject)
        return self.repo.write("commit", encode_commit(draft))

    def _time_after(self, *commits: Commit | None) -> int:
        """Return the current time, or one after these commits if it is later."""
        after = max((commit.time_ns for commit in commits if commit), default=0)
        return now_ns(after, self.clock_offset_ns)

    def fast_forward(self, theirs: Commit, new_commits: Sequence[str]) -> None:
        """Fast-forward the branch to `theirs`, which descends from the head; `new_commits` are between, oldest first."""
        self.repo.update_ref(BRANCH, theirs.oid, self.head.oid if self.head else None)
        self.head = theirs
        try:
            self._index_line(theirs, new_commits)
        except Exception:
            # Derived data: the next start adds the missing commits.
            log.exception("cannot add the commits up to %s to the path index", theirs.oid)

    def _index_line(self, head: Commit, new_commits: Sequence[str]) -> None:
        commits = {oid: head if oid == head.oid else self.read_commit(oid) for oid in new_commits}
        mainline, oid = set[str](), head.oid
        while oid in commits:
            mainline.add(oid)
            oid = next(iter(commits[oid].parents), "")
        with self.index.transaction():
            for oid, commit in commits.items():
                if self.index.by_oid(oid) is None:
                    self.seq = self.index.add(commit, self.compare_with_parents(commit), mainline=oid in mainline)

    def index_commits(self, oids: Iterable[str]) -> None:
        """Add commits of another line to the path index, oldest first."""
        with self.index.transaction():
            for oid in oids:
                if self.index.by_oid(oid) is None:
                    commit = self.read_commit(oid)
                    self.index.add(commit, self.compare_with_parents(commit), mainline=False)

    def list_unmerged(self, oid: str) -> list[str]:
        """Return the commits of another line up to `oid` that the head does not have, oldest first."""
        assert self.head is not None
        return self.repo.run("rev-list", "--topo-order", "--reverse", oid, "--not", self.head.oid).decode().split()

    def _index_commit(self, commit: Commit, rows: Sequence[PathChange]) -> None:
        try:
            with self.index.transaction():
                self.seq = self.index.add(commit, rows)
        except Exception:
            # Derived data: the next start, or `update_index`, adds the missing commits.
            log.exception("cannot add the commit %s to the path index", commit.oid)

    def open_head(self) -> None:
        """Read the branch and bring the path index up to it."""
        oid = self.repo.read_ref(BRANCH)
        self.head = self.read_commit(oid) if oid else None
        self.read_tags()
        self.update_index()

    def read_tags(self) -> None:
        """Read the snapshots: commit ids by name."""
        self.tags = self.repo.list_refs("refs/tags/")

    def update_index(self) -> int:
        """Index the commits that the path index lacks, and return their number.

        If it contains another history, clear it and index all commits.
        """
        last = self.index.last()
        if self.head is None:
            if last is not None:
                with self.index.transaction():
                    self.index.clear()
            return 0
        if last is not None and last[1].oid == self.head.oid:
            self.seq = last[0]
            return 0
        oids = self._list_commits_after(last[1].oid if last is not None else "")
        if oids is None:
            with self.index.transaction():
                self.index.clear()
            oids = self._list_commits_after("") or []
        mainline = set(self.repo.run("rev-list", "--first-parent", self.head.oid).decode().split())
        with self.index.transaction():
            for oid, sizes in each_commit(self.repo, oids):
                commit = self.read_commit(oid)
                if self.index.by_oid(oid) is None:
                    changes = self.compare_with_parents(commit, sizes)
                    self.seq = self.index.add(commit, changes, mainline=oid in mainline)
        return len(oids)

    def compare_with_parents(self, commit: Commit, sizes: dict[str, int] | None = None) -> list[PathChange]:
        """Return the changes of a commit; `sizes` as in `compare_trees`. Those of a merge differ from every parent."""
        trees = [decode_commit(parent, self.repo.read(parent)).tree for parent in commit.parents] or [EMPTY_TREE]
        rows = self.compare_trees(trees[0], commit.tree, sizes)
        for other in trees[1:]:
            differing = {row.path for row in self.compare_trees(other, commit.tree)}
            rows = [row for row in rows if row.path in differing]
        return rows

    def _list_commits_after(self, ancestor: str) -> list[str] | None:
        """Return the commits after `ancestor` up to the head, oldest first.

        Return None if the head does not descend from it. An empty `ancestor` selects all commits.
        """
        assert self.head is not None
        if ancestor:
            try:
                self.repo.run("merge-base", "--is-ancestor", ancestor, self.head.oid)
            except OSError:
                return None
        revisions = f"{ancestor}..{self.head.oid}" if ancestor else self.head.oid
        return self.repo.run("rev-list", "--topo-order", "--reverse", revisions).decode().split()


def _is_blob(state: State) -> bool:
    return state.entry is not None and state.entry.mode != MODE_DIR


def _real_or_stored_name(stored: bytes) -> bytes:
    name = real_name(stored)
    return stored if name is None else name
