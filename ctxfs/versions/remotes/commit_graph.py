"""Questions about the graph of commits, answered without a process: the common base of two commits, and new commits.

Both walk from the newer commits to the older ones and end soon after the base. Times that do not follow the graph cost
more steps; `list_new` never lists too few commits.
"""

import heapq
from collections.abc import Callable
from functools import lru_cache

from ctxfs.versions.objects.commits import Commit, decode_commit
from ctxfs.versions.objects.git import Repository

_OURS, _THEIRS, _STALE = 1, 2, 4
_MAX_CACHED_COMMITS = 5000


class CommitGraph:
    """The graph of one repository. It is used like the repository, by one thread at a time."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        def read_commit(oid: str) -> Commit:
            return decode_commit(oid, read(oid))

        self._commit = lru_cache(_MAX_CACHED_COMMITS)(read_commit)

    @classmethod
    def of(cls, repo: Repository) -> "CommitGraph":
        """Return the graph of a repository."""
        return cls(repo.read)

    def commit(self, oid: str) -> Commit:
        """Return a commit. Raise OSError EIO if it is missing."""
        return self._commit(oid)

    def find_base(self, ours: str, theirs: str) -> str:
        """Return the newest common ancestor of two commits, which may be one of them; empty if there is none."""
        walk = _Walk(self._commit)
        walk.add(ours, _OURS)
        walk.add(theirs, _THEIRS)
        bases: dict[str, int] = {}
        while (oid := walk.pop(_STALE)) is not None:
            flags = walk.flags[oid]
            if flags & (_OURS | _THEIRS) == _OURS | _THEIRS:
                if not flags & _STALE:
                    bases[oid] = self._commit(oid).time_ns
                flags |= _STALE
            walk.add_parents(oid, flags)
        best = [oid for oid in bases if not walk.flags[oid] & _STALE]
        return max(best, key=lambda oid: (bases[oid], oid), default="")

    def list_new(self, tip: str, known: str) -> list[str]:
        """Return the commits that `tip` reaches and `known` (empty: none) does not, parents before children."""
        walk = _Walk(self._commit)
        walk.add(tip, _OURS)
        if known:
            walk.add(known, _STALE)
        listed: dict[str, None] = {}
        while (oid := walk.pop(_STALE)) is not None:
            if not walk.flags[oid] & _STALE:
                listed[oid] = None
            walk.add_parents(oid, walk.flags[oid])
        return self._order({oid for oid in listed if not walk.flags[oid] & _STALE})

    def _order(self, oids: set[str]) -> list[str]:
        """Return commits with parents before children; otherwise by time."""
        ordered: dict[str, None] = {}
        pending = sorted(oids, key=lambda oid: (self._commit(oid).time_ns, oid), reverse=True)
        while pending:
            oid = pending[-1]
            missing = [parent for parent in self._commit(oid).parents if parent in oids and parent not in ordered]
            if oid in ordered or not missing:
                ordered[pending.pop()] = None
            else:
                pending += missing
        return list(ordered)


class _Walk:
    """A walk to older commits, the newest first, that gives each commit the flags of its descendants."""

    def __init__(self, read: Callable[[str], Commit]) -> None:
        self._read = read
        self.flags: dict[str, int] = {}
        self._queue: list[tuple[int, str]] = []
        self._queued: set[str] = set()

    def add(self, oid: str, flags: int) -> None:
        """Give a commit flags, and visit it (again) if it lacks one of them."""
        old = self.flags.get(oid, 0)
        if old | flags != old:
            self.flags[oid] = old | flags
            if oid not in self._queued:
                self._queued.add(oid)
                heapq.heappush(self._queue, (-self._read(oid).time_ns, oid))

    def add_parents(self, oid: str, flags: int) -> None:
        """Give the parents of a commit its flags."""
        for parent in self._read(oid).parents:
            self.add(parent, flags)

    def pop(self, stale: int) -> str | None:
        """Return the newest waiting commit; None if all that wait have the flag `stale`."""
        if all(self.flags[oid] & stale for oid in self._queued):
            return None
        _, oid = heapq.heappop(self._queue)
        self._queued.discard(oid)
        return oid
