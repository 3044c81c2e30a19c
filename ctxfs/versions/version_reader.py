"""The reads of an archive: histories of paths, contents, diffs, and the tree in a version.

Paths are texts from the root of the tree, with surrogateescape. Each read takes the archive's lock.
"""

import errno
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from ctxfs.model.entry import Entry
from ctxfs.model.errors import path_error
from ctxfs.versions.archive_core import ArchiveAccess, ArchiveCore
from ctxfs.versions.diff import Line, blame_lines, diff_trees
from ctxfs.versions.history import Step, parse_moment
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.name_encoding import path_bytes, path_text
from ctxfs.versions.objects.trees import EMPTY_TREE, MODE_FILE, MODE_LINK, MODE_PROGRAM
from ctxfs.versions.recording.ledger import state_of
from ctxfs.versions.recording.pathindex import ALL_COMMITS, CommitFilter, PathChange
from ctxfs.versions.snapshot_reader import SnapshotEntry

_NO_VERSION = "0001-01-01"  # a time before all versions, whose tree is empty


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


class VersionReader:
    """The reader of an archive's versions, for any thread."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive

    def resolve(self, text: str) -> Step:
        """Return the version for a revision, a snapshot's name or a time. Raise `OSError` ENOENT or EINVAL."""
        with self._archive.locked() as core:
            return core.history.resolve(text)

    def log(self, path: str, criteria: CommitFilter, limit: int, at: str = "") -> list[Step]:
        """Return the newest `limit` commits that changed a path, up to the version `at` if it is given.

        Raise `OSError` ENOENT for a path without history.
        """
        with self._archive.locked() as core:
            before = (core.history.resolve(at).seq + 1,) if at else ()
            steps = core.history.log(path_bytes(path), criteria, limit, *before)
            if not steps and not at and criteria == ALL_COMMITS:
                core.history.require(path_bytes(path))
            return steps

    def changes_of(self, numbers: Iterable[int], path: str) -> list[list[PathChange]]:
        """Return, for each commit, its changes at a path and below it."""
        with self._archive.locked() as core:
            return [core.index.changes_of(number, path_bytes(path)) for number in numbers]

    def versions(self, path: str) -> list[PathVersion]:
        """Return all changes of exactly this path, oldest first, numbered from 1, removals included."""
        with self._archive.locked() as core:
            return [
                PathVersion(number, step.commit, version.change)
                for number, step, version in core.history.versions(path_bytes(path))
            ]

    def names_below(self, path: str) -> list[tuple[str, bool]]:
        """Return (name, is a directory) of all entries that a directory ever had."""
        with self._archive.locked() as core:
            return [(path_text(name), inside) for name, inside in core.index.names_below(path_bytes(path))]

    def changed_since(self, path: str, since_ns: int) -> bool:
        """Return True if a path, or anything below it, changed at or after a time."""
        with self._archive.locked() as core:
            return bool(core.index.commits_below(path_bytes(path), CommitFilter(since_ns=since_ns), 1 << 62, 1))

    def was_directory(self, path: str) -> bool:
        """Return True if a path ever was a directory."""
        with self._archive.locked() as core:
            return core.index.was_directory(path_bytes(path))

    def moves_of(self, path: str) -> list[tuple[int, str]]:
        """Return (time in nanoseconds, previous name) of each rename of a path, newest first."""
        with self._archive.locked() as core:
            return core.history.moves_of(path_bytes(path))

    def names_since(self, path: str, time_ns: int) -> list[str]:
        """Return the later names of the file that had a path at a time, the newest first."""
        with self._archive.locked() as core:
            return core.history.names_since(path_bytes(path), time_ns)

    def last_change(self, path: str) -> Commit | None:
        """Return the newest commit that changed exactly this path; for a directory, anything below it.

        None without one.
        """
        with self._archive.locked() as core:
            rows = core.index.commits_below(path_bytes(path), ALL_COMMITS, 1 << 62, 1)
            return rows[0][1] if rows else None

    def first_change(self, path: str) -> Commit | None:
        """Return the commit that created this path, followed through renames; None without one."""
        with self._archive.locked() as core:
            changes = core.index.versions(path_bytes(path))
            return core.index.commit(changes[0].seq) if changes else None

    def content_of(self, version: PathVersion) -> bytes:
        """Return the content of a file after a change."""
        with self._archive.locked() as core:
            return core.ledger.read_content(state_of(version.change))

    def attributes_of(self, version: PathVersion) -> tuple[int, dict[str, bytes]]:
        """Return (permission bits, extended attributes) of a file after a change."""
        with self._archive.locked() as core:
            return core.snapshot_reader.attributes_of(state_of(version.change))

    def entry_in(self, commit: Commit, path: str, name: str) -> Entry:
        """Return the entry of a path in a version. Raise `OSError` ENOENT."""
        with self._archive.locked() as core:
            return core.snapshot_reader.entry(commit, path, name)

    def list_in(self, commit: Commit, path: str) -> list[Entry]:
        """Return the sorted entries of a directory in a version, without file sizes.

        Raise `OSError` ENOENT or ENOTDIR.
        """
        with self._archive.locked() as core:
            return core.snapshot_reader.entries(commit, path)

    def read_in(self, commit: Commit, path: str) -> bytes:
        """Return the content of a file in a version. Raise `OSError` ENOENT or EISDIR."""
        with self._archive.locked() as core:
            return core.snapshot_reader.read(commit, path)

    def attributes_in(self, commit: Commit, path: str) -> dict[str, bytes]:
        """Return the extended attributes of a path in a version. Raise `OSError` ENOENT."""
        with self._archive.locked() as core:
            return core.snapshot_reader.attributes(commit, path)

    def differences(self, commit: Commit, most_bytes: int) -> list[SnapshotEntry]:
        """Return the state in a version of each file that differs from the newest version.

        Files of more than `most_bytes` have no content.
        """
        with self._archive.locked() as core:
            newest = core.ledger.head
            return list(core.snapshot_reader.differences(commit, newest, most_bytes)) if newest else []

    def show(self, path: str, at: str) -> bytes:
        """Return a file's content in a version, under the name that it had then. Raise `OSError` ENOENT or EISDIR."""
        with self._archive.locked() as core:
            step = core.history.resolve(at)
            return core.snapshot_reader.read(step.commit, path_text(core.history.name_at(path_bytes(path), step.seq)))

    def change_at(self, path: str, at: str, since_ns: int = 0) -> tuple[str, str]:
        """Return (revision before, revision) of the newest change of a path up to a version.

        The revision before is a time before the first version if there is none since `since_ns`. Raise `OSError` ENOENT
        if the path has no change until then.
        """
        with self._archive.locked() as core:
            newest = core.history.resolve(at).seq
            steps = core.history.log(path_bytes(path), CommitFilter(since_ns=since_ns), 2, newest + 1)
            if not steps:
                raise path_error(errno.ENOENT, path, f"no version of it up to {at}")
            return steps[1].commit.oid if len(steps) > 1 else _NO_VERSION, steps[0].commit.oid

    def diff(self, path: str, old: str, new: str) -> bytes:
        """Return a unified diff of a path between two versions, attributes included."""
        with self._archive.locked() as core:
            trees = [_tree_at(core, name) for name in (old, new)]
            return diff_trees(core.ledger, trees[0], trees[1], path_bytes(path))

    def blame(self, path: str, at: str) -> list[Line]:
        """Return the lines of a file in a version, each with the version that added it."""
        with self._archive.locked() as core:
            step = core.history.resolve(at)
            old_name = core.history.name_at(path_bytes(path), step.seq)
            core.snapshot_reader.read(step.commit, path_text(old_name))  # for its errors, which are clearer than git's
            # The index has the order of changes in one line only: a merge has several.
            is_linear = core.ledger.index.is_linear()
            changes = core.history.log(old_name, before=step.seq + 1) if is_linear else []
            return blame_lines(core.ledger, step.commit.oid, old_name, [change.commit for change in changes])


def _tree_at(core: ArchiveCore, name: str) -> str:
    """Return the tree of a version; the empty tree for a time before the first version."""
    try:
        return core.history.resolve(name).commit.tree
    except FileNotFoundError:
        if parse_moment(name, datetime.now(UTC)) is None:
            raise
        return EMPTY_TREE
