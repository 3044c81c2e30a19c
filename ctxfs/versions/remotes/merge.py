"""The three-way merge of the local history with a remote's, path by path.

One-sided changes are taken. Texts changed on both sides are merged by lines if that is clean; otherwise both are kept.
"""

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.versions.objects.commits import Commit, decode_commit
from ctxfs.versions.objects.git import Repository
from ctxfs.versions.objects.name_encoding import split_path
from ctxfs.versions.objects.sidecar import SideCar
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_LINK, MODE_PROGRAM, Parts, TreeEntry
from ctxfs.versions.recording.ledger import ABSENT, Ledger, State
from ctxfs.versions.remotes.attribute_filter import filter_attributes, merge_value

_MAX_TEXT_BYTES = 4_000_000
_MAX_SUFFIX_BYTES = 16


@dataclass(frozen=True, slots=True)
class Merge:
    """The tree of two merged histories, and the paths of which both contents are kept.

    With `is_forward` the local history is a part of the remote's.
    """

    tree: str
    conflicts: tuple[bytes, ...]
    is_forward: bool


class Merger:
    """Computes merges, without changing the branch or the work tree. Used under the archive's lock."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._repo = ledger.repo

    def merge(self, theirs: Commit, remote: str, *, is_trusted: bool) -> Merge:
        """Return the merge of the local head with a commit of the remote."""
        ledger = self._ledger
        assert ledger.head is not None
        base = find_merge_base(self._repo, ledger.head.oid, theirs.oid)
        if base == ledger.head.oid and is_trusted and not self._changes_frozen(theirs):
            return Merge(theirs.tree, (), is_forward=True)
        base_tree = decode_commit(base, self._repo.read(base)).tree if base else EMPTY_TREE
        states: dict[Parts, State] = {}
        conflicts: dict[Parts, None] = {}
        for change in ledger.compare_trees(base_tree, theirs.tree):
            parts = split_path(change.path)
            if any(parts[:depth] in conflicts for depth in range(1, len(parts))):
                continue  # it is in a directory that is stored beside, as a whole
            old, mine, other = (ledger.state(tree, parts) for tree in (base_tree, ledger.tree, theirs.tree))
            merged: State | None = None
            is_bound = (
                other != old and ledger.is_frozen(mine) and not (is_trusted and self._is_lifted(old, mine, other))
            )
            if not is_trusted and other != old:
                other = self._filter_state(mine, other, remote)
            if not is_bound:
                merged = self._merge_state(old, mine, other)
            elif other.entry is None or other.entry == mine.entry:
                merged = mine
            if merged is None:
                conflicts[parts] = None
                states[self._conflict_path(parts, theirs, other)] = other
            elif merged != mine:
                states[parts] = merged
        tree = ledger.edit_tree(ledger.tree, dict(sorted(states.items())))
        return Merge(tree, tuple(b"/".join(parts) for parts in conflicts), is_forward=False)

    def _changes_frozen(self, theirs: Commit) -> bool:
        """Return True if the commit changes a file that is frozen here, so that both contents must be kept."""
        ledger = self._ledger
        for change in ledger.compare_trees(ledger.tree, theirs.tree):
            parts = split_path(change.path)
            mine = ledger.state(ledger.tree, parts)
            if ledger.is_frozen(mine) and not self._is_lifted(mine, mine, ledger.state(theirs.tree, parts)):
                return True
        return False

    def _filter_state(self, mine: State, other: State, remote: str) -> State:
        """Return the state of a path of an untrusted remote with filtered attributes."""
        if other.entry is None or other.entry.mode == MODE_LINK:
            return State(other.entry)
        ours, theirs = self._ledger.read_sidecar(mine.side), self._ledger.read_sidecar(other.side)
        is_file = other.entry.mode != MODE_DIR
        side = filter_attributes(theirs, ours, remote, is_new=mine.entry != other.entry, is_file=is_file)
        return State(other.entry, self._ledger.write_sidecar(side))

    def _is_lifted(self, old: State, mine: State, other: State) -> bool:
        """Return True if the other side has lifted a frozen state of the common history. A person did so there."""
        return mine == old and other.entry is not None and not self._ledger.is_frozen(other)

    def _merge_state(self, old: State, mine: State, other: State) -> State | None:
        """Return the merged state of a path; None if the contents of both sides must be kept."""
        if _is_equal(mine, other) or _is_equal(old, other):
            return mine
        if _is_tree(mine) and _is_tree(other):
            assert mine.entry is not None
            return State(mine.entry, self._merge_sidecars(old, mine, other))
        if _is_equal(old, mine):
            # A directory that they removed may contain files that only this side has: remove it only if it is empty.
            if other.entry is None and _is_tree(mine) and mine.entry is not None and old.entry is not None:
                return ABSENT if mine.entry.oid == old.entry.oid else mine
            return other if not _is_tree(other) or mine.entry is None else mine
        if other.entry is None:
            return mine
        if mine.entry is None:
            return other
        if _is_tree(mine) or _is_tree(other):
            return None
        side = self._merge_sidecars(old, mine, other)
        if mine.entry == other.entry:
            return State(mine.entry, side)
        if old.entry == mine.entry:
            return State(other.entry, side)
        if old.entry == other.entry:
            return State(mine.entry, side)
        merged = self._merge_lines(old, mine, other)
        return State(merged, side) if merged is not None else None

    def _merge_sidecars(self, old: State, mine: State, other: State) -> str:
        """Merge attribute by attribute. If both sides changed one, the local value stays; theirs is in the history."""
        base, ours, theirs = (self._ledger.read_sidecar(state.side) for state in (old, mine, other))
        names = base.xattrs.keys() | ours.xattrs.keys() | theirs.xattrs.keys()
        merged = {}
        for name in names:
            value = merge_value(name, base.xattrs, ours.xattrs, theirs.xattrs)
            if value is not None:
                merged[name] = value
        mode = theirs.mode if ours.mode == base.mode else ours.mode
        large = ours.large if mine.entry != old.entry else theirs.large
        return self._ledger.write_sidecar(SideCar(merged, mode, large))

    def _merge_lines(self, old: State, mine: State, other: State) -> TreeEntry | None:
        """Merge the lines of both texts with `git merge-file`; None if they conflict or are not mergeable text."""
        entries = [state.entry for state in (mine, old, other)]
        if any(entry is None or entry.mode not in (MODE_FILE, MODE_PROGRAM) for entry in entries):
            return None
        if any(self._ledger.read_sidecar(state.side).large for state in (mine, old, other)):
            return None
        texts = [self._ledger.read_content(state) for state in (mine, old, other)]
        if any(b"\0" in text or len(text) > _MAX_TEXT_BYTES for text in texts):
            return None
        with tempfile.TemporaryDirectory(prefix="ctxfs-merge-") as folder:
            files = [os.path.join(folder, name) for name in ("mine", "base", "theirs")]
            for file, text in zip(files, texts, strict=True):
                HostPath(file).write_bytes(text)
            try:
                lines = self._repo.run("merge-file", "-p", "-q", *files)
            except OSError:
                return None  # the number of conflicts is the exit code
        assert mine.entry is not None
        return TreeEntry(mine.entry.mode, self._repo.write("blob", lines))

    def _conflict_path(self, parts: Parts, theirs: Commit, other: State) -> Parts:
        """Return the path for the other side's content: `name.conflict-<principal>-<revision>.suffix`.

        A number is appended to the revision if that is another file. Older stores have the suffix in the middle: a copy
        of such a name is used again.
        """
        principal = re.sub(r"[^A-Za-z0-9._-]", "-", theirs.actor.principal)
        mark = f".conflict-{principal}-{theirs.oid[:8]}".encode()
        old_path = (*parts[:-1], parts[-1][: 255 - len(mark)] + mark)
        if self._ledger.state(self._ledger.tree, old_path) == other:
            return old_path
        stem, suffix = os.path.splitext(parts[-1])
        if _is_tree(other) or len(suffix) > _MAX_SUFFIX_BYTES:
            stem, suffix = parts[-1], b""
        number = 1
        while True:
            ending = mark + (f"-{number}".encode() if number > 1 else b"") + suffix
            path = (*parts[:-1], stem[: 255 - len(ending)] + ending)
            if self._ledger.state(self._ledger.tree, path) in (ABSENT, other):
                return path
            number += 1


def find_merge_base(repo: Repository, ours: str, theirs: str) -> str:
    """Return the newest common commit; empty if the histories have none."""
    try:
        return repo.run("merge-base", ours, theirs).decode().split()[0]
    except (OSError, IndexError):
        return ""


def _is_tree(state: State) -> bool:
    return state.entry is not None and state.entry.mode == MODE_DIR


def _is_equal(one: State, two: State) -> bool:
    """Return True for equal states. Directories are compared by their attributes only."""
    if _is_tree(one) and _is_tree(two):
        return one.side == two.side
    return one == two
