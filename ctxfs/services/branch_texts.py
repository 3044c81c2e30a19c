"""The texts of a branch for search and contexts: an overlay of the files that differ from main, over the index of main.

A file that differs is answered with its text in the branch, or not at all, and never with the text of main.
"""

import errno
import os
import tempfile
import threading
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path as HostPath
from typing import TYPE_CHECKING

from ctxfs.context.build.tree_view import CurrentTree
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import Query
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.mounts.branches import is_readable
from ctxfs.services.caller_scope import CallerScope
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.trees import MODE_FILE, MODE_PROGRAM
from ctxfs.versions.recording.ledger import State
from ctxfs.vfs.branch_paths import is_branched
from ctxfs.vfs.caller_context import acting_branch

if TYPE_CHECKING:
    from ctxfs.index.search.overlay import Overlay

MAX_FILE_BYTES = 1_000_000
_MAX_BRANCHES = 16  # whose texts stay in memory


@dataclass(frozen=True, slots=True)
class BranchText:
    """The differing files of a branch: their states, their texts, and the files that are too large to be searched."""

    name: str
    states: Mapping[str, State]
    overlay: "Overlay"
    too_large: frozenset[str]


class BranchTexts:
    """The texts of the acting branch, as the calling principal may read them. Methods block."""

    def __init__(self, archive: Archive, searcher: Searcher, scope: CallerScope) -> None:
        self._archive = archive
        self._branches = archive.branches
        self._searcher = searcher
        self._scope = scope
        self._lock = threading.Lock()  # lock order: before the archive's
        self._texts: dict[str, BranchText] = {}

    def evict(self) -> None:
        """Drop all texts from memory, after an erasure or the deletion of a branch."""
        with self._lock:
            self._texts.clear()

    def key(self) -> Hashable:
        """Return a value that changes with the texts of the acting branch; None on main."""
        branch = acting_branch()
        if branch is None:
            return None
        return branch.name, self._branches.revision(branch.name), self._archive.newest

    def current(self) -> BranchText | None:
        """Return the texts of the acting branch; None on main, and for a branch that its agent has not changed yet."""
        branch = acting_branch()
        if branch is None or (branch.is_own and not self._branches.exists(branch.name)):
            return None
        self._archive.commit_nowait()
        with self._lock:
            text = self._update(branch.name)
        if self._scope.sees_all():
            return text
        readable = [
            path for path in text.states if is_readable(self._branches, self._scope, text.name, Path.parse(path))
        ]
        hidden = text.states.keys() - set(readable)
        if not hidden:
            return text
        overlay = _copy(text.overlay)
        for path in hidden:
            overlay.record_deletion(path)
        return replace(text, overlay=overlay, too_large=text.too_large - hidden)

    def _update(self, name: str) -> BranchText:
        """Return the texts of a branch; only files that differ from the last call are read again."""
        states = {path: state for path, state in self._branches.differences(name).items() if _is_searched(path)}
        old = self._texts.get(name)
        if old is not None and old.states == states:
            return old
        overlay = self._searcher.past_overlay((), beside=True) if old is None else _copy(old.overlay)
        known: Mapping[str, State] = {} if old is None else old.states
        too_large = set[str]() if old is None else {path for path in old.too_large if states.get(path) == known[path]}
        for path in known.keys() - states.keys():
            overlay.drop(path)
        for path, state in states.items():
            if known.get(path) != state:
                self._add(name, path, state, overlay, too_large)
        text = BranchText(name, states, overlay, frozenset(too_large))
        self._texts.pop(name, None)
        self._texts[name] = text
        while len(self._texts) > _MAX_BRANCHES:
            del self._texts[next(iter(self._texts))]
        return text

    def _add(self, name: str, path: str, state: State, overlay: "Overlay", too_large: set[str]) -> None:
        data, attributes = self._branches.read_state(state, MAX_FILE_BYTES)
        if data is None and state.entry is not None and state.entry.mode in (MODE_FILE, MODE_PROGRAM):
            too_large.add(path)
        changed = self._branches.last_change(name, path) or self._branches.get(name).start
        overlay.add_past(path, data, attributes, changed.time_ns)

    @contextmanager
    def files(
        self, text: BranchText, paths: Iterable[str], roots: Sequence[IndexedRoot]
    ) -> Iterator[list[tuple[IndexedRoot, tuple[str, ...]]]]:
        """Write differing files to a folder for the time of a search by pattern; yield them as files of sources."""
        by_prefix = {root.prefix: root for root in roots}
        with tempfile.TemporaryDirectory(prefix="ctxfs-branch-") as folder:
            found = []
            for path in paths:
                area, *parts = Path.parse(path).parts
                data, _ = self._branches.read_state(text.states[path], MAX_FILE_BYTES)
                if data is None or area not in by_prefix:
                    continue
                host = HostPath(folder, area, *parts)
                with suppress(FileExistsError):
                    os.makedirs(host.parent)
                host.write_bytes(data)
                found.append((replace(by_prefix[area], root=os.path.join(folder, area)), tuple(parts)))
            yield found

    def revisions(self, text: BranchText, paths: Collection[str]) -> dict[str, str]:
        """Return the versions that made the differing ones of these paths."""
        start = self._branches.get(text.name).start
        before = start.parents[0] if start.parents else start.oid
        commits = {path: self._branches.last_change(text.name, path) for path in paths if path in text.states}
        return {path: before if commit is None else commit.oid for path, commit in commits.items()}


class BranchTree(CurrentTree):
    """The tree of a branch, for contexts."""

    def __init__(
        self, tree: Mount, searcher: Searcher, archive: Archive, scope: CallerScope, texts: BranchTexts
    ) -> None:
        """Open the tree of the acting branch. Blocks."""
        super().__init__(tree, searcher, archive, scope)
        self._texts = texts
        self._text = texts.current()
        if self._text is not None:
            self.revision = archive.branches.revision(self._text.name)
            large = [f"too large to search in a branch: {path}" for path in sorted(self._text.too_large)[:10]]
            self.notes = (f"in the branch {self._text.name}", *large)

    @property
    def _overlay(self) -> "Overlay | None":
        return self._text.overlay if self._text is not None else None

    async def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best chunks of the branch."""
        return await blocking(partial(self._searcher.search, past=self._overlay, exact=True), query, below, limit)

    async def statuses(self, paths: Collection[str]) -> Mapping[str, FileStatus]:
        """Return the search-relevant status of those of these files that have one."""
        return await blocking(self._searcher.statuses, paths, self._overlay)

    async def broken(self, cites: Mapping[str, str]) -> Mapping[str, str]:
        """Return nothing: citations are held against the files of main."""
        return {}

    async def revisions(self, paths: Collection[str]) -> Mapping[str, str]:
        """Return the newest version of each versioned file, of the branch where it differs."""
        if self._text is None:
            return await super().revisions(paths)
        text = self._text
        same = await super().revisions([path for path in paths if path not in text.states])
        return {**same, **await in_turn(self._texts.revisions, text, paths)}


def _copy(overlay: "Overlay") -> "Overlay":
    return overlay.filtered(lambda path, attributes: True)


def _is_searched(path: str) -> bool:
    return is_branched(Path(tuple(path.split("/"))))


def no_such_branch(name: str) -> OSError:
    """Return ENOENT for a request that names a branch which does not exist."""
    return OSError(errno.ENOENT, f"there is no branch '{name[:80]}'; see: ctxfs branch list", "branch")
