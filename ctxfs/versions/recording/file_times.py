"""The times of files in versions: a commit has the age of each file that it changed, so that other machines set its mtime.

A change of the mtime alone is no version. A file of a commit without ages has the time of the commit.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.trees import MODE_FILE, MODE_PROGRAM
from ctxfs.versions.recording.pathindex import PathChange

NO_MTIMES: Mapping[bytes, int] = MappingProxyType({})
ContentKey = tuple[bytes, str]  # a path, and the id of the blob there


class CommitReader(Protocol):
    """The commits of a repository and their changes."""

    def read_commit(self, oid: str) -> Commit:
        """Return a commit."""
        ...

    def compare_with_parents(self, commit: Commit) -> list[PathChange]:
        """Return the changes of a commit. Those of a merge are paths that differ from every parent."""
        ...


def ages_of(rows: Sequence[PathChange], mtimes: Mapping[bytes, int], time_ns: int, offset_ns: int) -> tuple[int, ...]:
    """Return the ages of the changed files at a commit of the time `time_ns`; none without `mtimes`.

    `offset_ns` is added to the times of this machine. A file of the future has the age 0.
    """
    if not mtimes:
        return ()
    times = (mtimes.get(row.path, time_ns - offset_ns) + offset_ns for row in rows if _is_file(row))
    return tuple(time_ns - min(max(mtime_ns, 0), time_ns) for mtime_ns in times)


def mtimes_of(stat_keys: Mapping[bytes, tuple[int, int, int]]) -> Mapping[bytes, int]:
    """Return the mtimes in the (inode, size, mtime) of files, by path."""
    return {path: mtime_ns for path, (_, _, mtime_ns) in stat_keys.items()}


def read_mtimes(reader: CommitReader, oids: Iterable[str]) -> dict[ContentKey, int]:
    """Return the mtimes, in nanoseconds, of the files that some commits (oldest first) have changed."""
    mtimes: dict[ContentKey, int] = {}
    for oid in oids:
        commit = reader.read_commit(oid)
        files = [row for row in reader.compare_with_parents(commit) if _is_file(row)]
        ages = commit.ages if len(commit.ages) == len(files) else (0,) * len(files)
        for row, age in zip(files, ages, strict=True):
            mtimes[row.path, row.oid] = max(0, commit.time_ns - age)
    return mtimes


def _is_file(row: PathChange) -> bool:
    return row.op != "remove" and row.mode in (MODE_FILE, MODE_PROGRAM)
