"""The rewriting of history without erased contents. A commit's new id depends on its ancestors and on the plan only.

So all nodes of a shared store compute the same new commits from the same old ones.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ctxfs.versions.branches.refs import START_OP
from ctxfs.versions.objects.commits import Commit, decode_commit, encode_commit
from ctxfs.versions.objects.name_encoding import real_name, sidecar_name, split_path
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, Parts, TreeEntry
from ctxfs.versions.recording.ledger import Ledger
from ctxfs.versions.remotes.commit_graph import CommitGraph

_ERASED_PRINCIPAL = "forgotten"
_HASHED = "sha256:"


@dataclass(frozen=True, slots=True)
class ErasurePlan:
    """The contents to erase: whole paths, blob ids by path, the name of a principal, and large contents.

    `note` is the text of the tombstones; empty for one with the time. With `is_shared`, other nodes carry the plan out
    as well: a principal is then `sha256:` and the digest of its name, so that the log does not contain it.
    """

    places: frozenset[bytes] = frozenset()
    contents: Mapping[bytes, frozenset[str]] = field(default_factory=dict)
    principal: str = ""
    large: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    note: bytes = b""
    is_shared: bool = False

    @property
    def is_empty(self) -> bool:
        """True if no version holds any of the contents."""
        return not (self.places or self.contents or self.principal)


def hashed_principal(name: str) -> str:
    """Return the form of a principal in a plan for several nodes."""
    return _HASHED + hashlib.sha256(name.encode()).hexdigest()


class HistoryRewrite:
    """New ids of commits: `new` has one for each commit that was added, the old id if nothing of it changes."""

    def __init__(self, ledger: Ledger, plan: ErasurePlan) -> None:
        self._ledger = ledger
        self.plan = plan
        self._filter = _TreeFilter(ledger, plan)
        self._graph = CommitGraph.of(ledger.repo)
        self._trees: dict[str, str] = {}
        self.new: dict[str, str] = {}

    def add(self, oids: Iterable[str]) -> None:
        """Rewrite commits, of which parents come first. Commits that were added already are left out."""
        for oid in oids:
            if oid not in self.new:
                commit = decode_commit(oid, self._ledger.repo.read(oid))
                self._trees[oid] = commit.tree
                self.new[oid] = self._rewrite(commit)

    def _rewrite(self, commit: Commit) -> str:
        """Return the id of the commit without the contents."""
        tree = self._filter.tree(commit.tree)
        parents = tuple(dict.fromkeys(self.new[parent] for parent in commit.parents))
        is_start = commit.op == START_OP  # a branch begins with it, also if the tree is that of its parent
        if len(parents) == 1 and not is_start and tree != commit.tree and self._read_tree_id(parents[0]) == tree:
            return parents[0]  # the commit had no other changes
        moves = tuple(move for move in commit.moves if not any(map(self._filter.is_erased_path, move)))
        is_by_principal = self._is_by_principal(commit)
        actor = (
            replace(commit.actor, principal=_ERASED_PRINCIPAL, session="", reason="", tool="")
            if is_by_principal
            else commit.actor
        )
        is_changed = is_by_principal or moves != commit.moves or self._changes_erased(commit)
        rewritten = replace(
            commit,
            tree=tree,
            parents=parents,
            moves=moves,
            actor=actor,
            subject=f"{commit.op} (something was forgotten)" if is_changed else commit.subject,
            scope=None if commit.scope is not None and self._filter.is_erased_path(commit.scope) else commit.scope,
            undoes=self._new_undone(commit),
            ages=() if is_changed else commit.ages,
        )
        if rewritten == commit:
            return commit.oid
        return self._ledger.repo.write("commit", encode_commit(rewritten))

    def _changes_erased(self, commit: Commit) -> bool:
        """Return True if the commit added or removed an erased content."""
        before = self._filter.erased_digest(self._trees[commit.parents[0]]) if commit.parents else ""
        return self._filter.erased_digest(commit.tree) != before

    def _new_undone(self, commit: Commit) -> str:
        """Return the new id of the commit that this one undoes: an ancestor, since others may be unknown elsewhere."""
        new = self.new.get(commit.undoes, commit.undoes)
        if new != commit.undoes and self._graph.find_base(commit.oid, commit.undoes) != commit.undoes:
            return commit.undoes
        return new

    def _is_by_principal(self, commit: Commit) -> bool:
        if not self.plan.principal:
            return False
        if self.plan.is_shared:  # the origin of a commit is known on one node only
            return hashed_principal(commit.actor.principal) == self.plan.principal
        return self._ledger.origins.qualify(commit).actor.principal == self.plan.principal

    def _read_tree_id(self, oid: str) -> str:
        return decode_commit(oid, self._ledger.repo.read(oid)).tree


class _TreeFilter:
    """The trees without the contents of a plan. Each tree at each path is filtered once."""

    def __init__(self, ledger: Ledger, plan: ErasurePlan) -> None:
        self._ledger = ledger
        self._plan = plan
        self._parents = {
            split_path(path)[:depth]
            for path in plan.places | plan.contents.keys()
            for depth in range(path.count(b"/") + 1)
        }
        self._filtered: dict[tuple[str, Parts], str] = {}
        self._erased: dict[tuple[str, Parts], str] = {}  # a digest of the erased entries; none without any

    def is_erased_path(self, path: bytes) -> bool:
        """Return True for a path that is erased whole, or lies below one."""
        return any(path == erased or path.startswith(erased + b"/") for erased in self._plan.places)

    def erased_digest(self, oid: str) -> str:
        """Return a digest of the entries that are erased from a tree; empty if none is."""
        self.tree(oid)
        return self._erased.get((oid, ()), "")

    def tree(self, oid: str) -> str:
        """Return the id of the filtered tree."""
        pending: list[tuple[str, Parts]] = [(oid, ())]
        while pending:
            key = pending[-1]
            subtrees = [] if key in self._filtered else self._subtrees_to_filter(*key)
            unfiltered = [subtree for subtree in subtrees if subtree not in self._filtered]
            if unfiltered:
                pending += unfiltered
                continue
            if key not in self._filtered:
                self._filtered[key] = self._filter_tree(*key)
            pending.pop()
        return self._filtered[oid, ()]

    def _subtrees_to_filter(self, oid: str, parts: Parts) -> list[tuple[str, Parts]]:
        """Return (id, path) of the directories in a tree that contain paths of the plan."""
        subtrees = []
        for stored, entry in self._ledger.trees.listing(oid).items():
            name = real_name(stored)
            if name is not None and entry.mode == MODE_DIR and (*parts, name) in self._parents:
                subtrees.append((entry.oid, (*parts, name)))
        return subtrees

    def _filter_tree(self, oid: str, directory: Parts) -> str:
        listing = dict(self._ledger.trees.listing(oid))
        erased: list[str] = []
        for stored, entry in list(listing.items()):
            name = real_name(stored)
            if name is None or stored not in listing:
                continue
            parts = (*directory, name)
            path = b"/".join(parts)
            if self._is_erased(path, entry):
                del listing[stored]
                listing.pop(sidecar_name(name), None)
                erased.append(f"{stored!r} {entry.oid}")
            elif entry.mode == MODE_DIR and parts in self._parents:
                inner = self._filtered[entry.oid, parts]
                if inner != entry.oid:
                    listing[stored] = TreeEntry(MODE_DIR, inner)
                    erased.append(f"{stored!r} {self._erased[entry.oid, parts]}")
        if not erased:
            return oid
        self._erased[oid, directory] = hashlib.sha256("\n".join(erased).encode()).hexdigest()
        return self._ledger.trees.write(listing) if listing else EMPTY_TREE

    def _is_erased(self, path: bytes, entry: TreeEntry) -> bool:
        """Return True if an entry is to be erased and is not its new tombstone."""
        if path in self._plan.places:
            return not self._is_tombstone(entry)
        return entry.oid in self._plan.contents.get(path, ())

    def _is_tombstone(self, entry: TreeEntry) -> bool:
        return entry.mode == 0o120000 and self._ledger.repo.read(entry.oid).startswith(b"(forgotten ")
