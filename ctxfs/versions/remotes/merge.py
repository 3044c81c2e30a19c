"""The three-way merge of the local history with a remote's, path by path.

One-sided changes are taken. Texts changed on both sides are merged by lines if that is clean; otherwise both are kept.
"""

import logging
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path as HostPath
from typing import TypeAlias

from ctxfs.model.metadata import PREFIX, is_sound
from ctxfs.versions.objects.commits import Commit, decode_commit
from ctxfs.versions.objects.git import Repository
from ctxfs.versions.objects.large_objects import pointer_text
from ctxfs.versions.objects.name_encoding import display_path, split_path
from ctxfs.versions.objects.sidecar import SideCar
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_DIR, MODE_FILE, MODE_LINK, MODE_PROGRAM, Parts, TreeEntry
from ctxfs.versions.recording.ledger import ABSENT, Ledger, State
from ctxfs.versions.remotes.appended_lines import split_appended
from ctxfs.versions.remotes.attribute_filter import filter_attributes, merge_value

log = logging.getLogger(__name__)

_MAX_TEXT_BYTES = 4_000_000
_MAX_APPENDED_BYTES = 64_000_000  # of a text to which lines were only appended
_MAX_SUFFIX_BYTES = 16


# The state of a path, the state to be kept beside it (None: none), and the commit that made that one.
_Sides: TypeAlias = tuple[State, State | None, Commit]


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

        def merge_path(old: State, mine: State, other: State, name: bytes) -> _Sides:
            is_bound = (
                other != old and ledger.is_frozen(mine) and not (is_trusted and self._is_lifted(old, mine, other))
            )
            if not is_trusted and other != old:
                other = self._filter_state(mine, other, remote)
            if is_bound:
                return mine, None if other.entry is None or other.entry == mine.entry else other, theirs
            merged = self._merge_state(old, mine, other, name)
            return (mine, other, theirs) if merged is None else (merged, None, theirs)

        return self._merge_paths(base, theirs, merge_path)

    def merge_shared(self, theirs: Commit, base: str) -> Merge:
        """Return the merge of the local head with a commit of a shared store; `base` is the newest common commit.

        All nodes follow the same merges, so a frozen file binds where both sides changed it, and nowhere else: a
        one-sided change of it was allowed where it was made.
        """
        ledger = self._ledger
        assert ledger.head is not None
        if base == ledger.head.oid:
            return Merge(theirs.tree, (), is_forward=True)
        return self._merge_paths(
            base, theirs, lambda old, mine, other, name: self._merge_sides(old, mine, other, theirs, name)
        )

    def _merge_paths(
        self, base: str, theirs: Commit, merge_path: Callable[[State, State, State, bytes], _Sides]
    ) -> Merge:
        """Return the merge by `merge_path`, which takes the states of a path at the base and on both sides, and its name."""
        ledger = self._ledger
        base_tree = decode_commit(base, self._repo.read(base)).tree if base else EMPTY_TREE
        states: dict[Parts, State] = {}
        conflicts: dict[Parts, None] = {}
        for change in ledger.compare_trees(base_tree, theirs.tree):
            parts = split_path(change.path)
            if any(parts[:depth] in conflicts for depth in range(1, len(parts))):
                continue  # it is in a directory that is stored beside, as a whole
            old, mine, other = (ledger.state(tree, parts) for tree in (base_tree, ledger.tree, theirs.tree))
            merged, copy, author = merge_path(old, mine, other, parts[-1])
            if merged != mine:
                states[parts] = merged
            if copy is not None:
                conflicts[parts] = None
                labelled = self._label_conflict(parts, copy)
                states[self._conflict_path(parts, author, (copy, labelled))] = labelled
        tree = ledger.edit_tree(ledger.tree, dict(sorted(states.items())))
        return Merge(tree, tuple(b"/".join(parts) for parts in conflicts), is_forward=False)

    def _merge_sides(self, old: State, mine: State, other: State, theirs: Commit, name: bytes) -> _Sides:
        """Return the sides of a path of a shared store."""
        ledger = self._ledger
        if old not in (mine, other) and mine.entry != other.entry:
            if ledger.is_frozen(mine):
                return mine, other if other.entry is not None else None, theirs
            if ledger.is_frozen(other):
                assert ledger.head is not None
                return other, mine if mine.entry is not None else None, ledger.head
        merged = self._merge_state(old, mine, other, name)
        return (mine, other, theirs) if merged is None else (merged, None, theirs)

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

    def _merge_state(self, old: State, mine: State, other: State, name: bytes) -> State | None:
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
        merged = self._merge_texts(old, mine, other, name)
        return self._store_text(merged, mine.entry.mode, side) if merged is not None else None

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

    def _merge_texts(self, old: State, mine: State, other: State, name: bytes) -> bytes | None:
        """Return the merged text; None if the lines conflict or a side is not mergeable text."""
        entries = [state.entry for state in (mine, old, other)]
        if any(entry is not None and entry.mode not in (MODE_FILE, MODE_PROGRAM) for entry in entries):
            return None
        ledger = self._ledger
        states = [state for state in (mine, old, other) if state.entry is not None]
        if any(ledger.size(state) > _MAX_APPENDED_BYTES for state in states):
            return None
        try:
            base = ledger.read_content(old) if old.entry is not None else None
            my_text, their_text = ledger.read_content(mine), ledger.read_content(other)
        except OSError as error:
            log.warning("the contents of '%s' are not merged: %s", display_path(name), error.strerror)
            return None
        if any(b"\0" in text for text in (my_text, base or b"", their_text)):
            return None
        appended = split_appended(base, my_text, their_text, name)
        if appended is not None:
            lines = self._merge_lines(appended.mine, appended.base, appended.theirs)
            return lines + appended.tail if lines is not None else None
        return None if base is None else self._merge_lines(my_text, base, their_text)

    def _merge_lines(self, mine: bytes, base: bytes, theirs: bytes) -> bytes | None:
        """Merge the lines of both texts, with `git merge-file` if both have changed; None if they conflict."""
        if mine in (base, theirs):
            return theirs
        if theirs == base:
            return mine
        if any(len(text) > _MAX_TEXT_BYTES for text in (mine, base, theirs)):
            return None
        with tempfile.TemporaryDirectory(prefix="ctxfs-merge-") as folder:
            files = [os.path.join(folder, name) for name in ("mine", "base", "theirs")]
            for file, text in zip(files, (mine, base, theirs), strict=True):
                HostPath(file).write_bytes(text)
            try:
                return self._repo.run("merge-file", "-p", "-q", *files)
            except OSError:
                return None  # the number of conflicts is the exit code

    def _store_text(self, text: bytes, mode: int, side: str) -> State:
        """Store a merged text, beside git if it is large, and return the state of its file."""
        ledger = self._ledger
        large = ledger.large.add_bytes(text) if len(text) >= ledger.large_from else None
        oid = self._repo.write("blob", pointer_text(large) if large else text)
        return State(TreeEntry(mode, oid), ledger.write_sidecar(replace(ledger.read_sidecar(side), large=large)))

    def _label_conflict(self, parts: Parts, other: State) -> State:
        """Return the state with an attribute that names the path that the content is of."""
        path = b"/".join(parts)
        if other.entry is None or other.entry.mode in (MODE_DIR, MODE_LINK) or not is_sound("conflict_of", path):
            return other
        side = self._ledger.read_sidecar(other.side)
        labelled = replace(side, xattrs={**side.xattrs, f"{PREFIX}conflict_of": path})
        return State(other.entry, self._ledger.write_sidecar(labelled))

    def _conflict_path(self, parts: Parts, theirs: Commit, contents: tuple[State, State]) -> Parts:
        """Return the path for the other side's content: `name.conflict-<principal>-<revision>.suffix`.

        A number is appended to the revision if that is another file. Older stores have the suffix in the middle: a copy
        of such a name is used again. `contents` is the content to be stored, without and with its label.
        """
        other = contents[0]
        principal = re.sub(r"[^A-Za-z0-9._-]", "-", theirs.actor.principal)
        mark = f".conflict-{principal}-{theirs.oid[:8]}".encode()
        old_path = (*parts[:-1], parts[-1][: 255 - len(mark)] + mark)
        if self._ledger.state(self._ledger.tree, old_path) in contents:
            return old_path
        stem, suffix = os.path.splitext(parts[-1])
        if _is_tree(other) or len(suffix) > _MAX_SUFFIX_BYTES:
            stem, suffix = parts[-1], b""
        number = 1
        while True:
            ending = mark + (f"-{number}".encode() if number > 1 else b"") + suffix
            path = (*parts[:-1], stem[: 255 - len(ending)] + ending)
            if self._ledger.state(self._ledger.tree, path) in (ABSENT, *contents):
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
