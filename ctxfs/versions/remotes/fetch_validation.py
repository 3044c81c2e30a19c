"""Validation of a history that was fetched from a remote, before any of it is merged.

A remote is not trusted: its commits, trees, side-cars and large contents are parsed strictly. A history that no store
could have written is refused, with the path at fault, and changes nothing. `attribute_filter` handles content that is
well-formed, but not to be trusted.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

from ctxfs.model.errors import CommandError
from ctxfs.store.layout import AREAS
from ctxfs.versions.objects.commits import decode_commit
from ctxfs.versions.objects.git import Repository, is_oid
from ctxfs.versions.objects.name_encoding import (
    MAX_PATH_NAMES,
    SIDE_PREFIX,
    display_path,
    is_valid_name,
    real_name,
    stored_name,
)
from ctxfs.versions.objects.sidecar import MAX_SIDECAR_BYTES, Large, SideCar, decode_sidecar
from ctxfs.versions.objects.trees import (
    MODE_DIR,
    MODE_FILE,
    MODE_LINK,
    MODE_PROGRAM,
    Listing,
    Parts,
    TreeEntry,
    Trees,
    parse_tree,
)

MAX_COMMIT_BYTES = 16_000_000
MAX_TREE_BYTES = 64_000_000
MAX_BLOB_BYTES = 256_000_000
MAX_LINK_BYTES = 4095  # symlink(2)
# In one version: a tree that contains the same tree repeatedly is small, but expands exponentially.
MAX_PATHS = 2_000_000
MAX_CHANGES = 20_000_000  # in a whole history
MAX_CLOCK_AHEAD_SECONDS = 86_400
_SPECIAL_BITS = 0o7000
_ENTRY_MODES = frozenset((MODE_DIR, MODE_FILE, MODE_PROGRAM, MODE_LINK))
_REPOSITORY_NAMES = frozenset((b".git", b".ctxfs"))
_BATCH_OBJECTS = 500


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The kind (`blob`, `tree` or `commit`) and the bytes of an object."""

    kind: str
    size: int


@dataclass(slots=True)
class _BlobPaths:
    """The blobs that trees of the history name: side-cars and links by id, with one of their paths."""

    sides: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, bytes] = field(default_factory=dict)


class FetchedHistory:
    """The commits of a remote that the store does not have yet. Used under the archive's lock."""

    def __init__(
        self,
        repo: Repository,
        trees: Trees,
        name: str,
        *,
        is_trusted: bool,
        now_ns: int = 0,
        path_counts: dict[str, int] | None = None,
    ) -> None:
        """`now_ns` is the time by a clock that is more reliable than that of this machine.

        `path_counts` are the numbers of paths below trees that earlier checks have counted, and receives new ones.
        """
        self._now_ns = now_ns or time.time_ns()
        self._path_counts = {} if path_counts is None else path_counts
        self._repo = repo
        self._trees = trees
        self._name = name
        self._is_trusted = is_trusted
        self.large: dict[Large, bytes] = {}  # contents named in side-cars, with one of their paths

    def check(self, theirs: str, ours: str) -> list[str]:
        """Return the ids of the commits of `theirs` that `ours` lacks, oldest first.

        Raise CommandError for a history that must be refused.
        """
        new_commits = self._repo.run("rev-list", "--topo-order", "--reverse", theirs, "--not", ours).decode().split()
        self.check_objects(new_commits, self._list_objects(theirs, ours))
        return new_commits

    def check_objects(self, new_commits: Sequence[str], objects: dict[str, ObjectInfo]) -> None:
        """Check commits, oldest first, of which `objects` are all objects that earlier commits lack.

        Raise CommandError for a history that must be refused.
        """
        for oid in new_commits:
            self._check_size(oid, objects[oid], MAX_COMMIT_BYTES, b"")
        blobs = _BlobPaths()
        trees = self._check_commits(new_commits)
        self._check_trees(trees, objects, blobs)
        self._check_paths(trees)
        self._check_links(blobs.links, objects)
        self._check_sides(blobs.sides, objects)

    def _list_objects(self, theirs: str, ours: str) -> dict[str, ObjectInfo]:
        """Return the kind and size of every object that only `theirs` has. Raise CommandError if one is missing."""
        listed = self._repo.run("rev-list", "--objects", "--no-object-names", theirs, "--not", ours)
        return self.describe(listed)

    def describe(self, listed: bytes) -> dict[str, ObjectInfo]:
        """Return the kind and size of the objects that a text lists, an id a line. Raise CommandError if one is missing."""
        out = self._repo.run(
            "cat-file", "--buffer", "--batch-check=%(objectname) %(objecttype) %(objectsize)", data=listed
        )
        objects = {}
        for line in out.decode().splitlines():
            oid, _, rest = line.partition(" ")
            kind, _, size = rest.partition(" ")
            if not size.isdigit():
                raise self.refusal(b"", f"the object {oid} is missing")
            objects[oid] = ObjectInfo(kind, int(size))
        return objects

    def _check_commits(self, new_commits: Sequence[str]) -> list[str]:
        """Check the commits and return their trees, newest first.

        The newest tree has the most paths, so a fault is reported with a path that a person still sees.
        """
        latest = self._now_ns + MAX_CLOCK_AHEAD_SECONDS * 1_000_000_000
        trees = dict[str, None]()
        for start in range(0, len(new_commits), _BATCH_OBJECTS):
            for oid, data in self._repo.read_many(new_commits[start : start + _BATCH_OBJECTS]).items():
                commit = decode_commit(oid, data)
                head = data.partition(b"\n\n")[0].split(b"\n")
                if head[0] != f"tree {commit.tree}".encode() or not is_oid(commit.tree):
                    raise self.refusal(b"", f"the version {oid[:12]} cannot be read")
                if commit.time_ns > latest:
                    raise self.refusal(
                        b"", f"the version {oid[:12]} is of {commit.time_text}: the clock of its machine is ahead"
                    )
                trees[commit.tree] = None
        return list(reversed(trees))

    def _check_trees(self, roots: Iterable[str], objects: dict[str, ObjectInfo], blobs: _BlobPaths) -> None:
        """Check each tree once, at the greatest depth at which it occurs. Trees of the store are not read."""
        depths: dict[str, int] = {}
        pending: list[tuple[str, Parts]] = [(root, ()) for root in roots]
        while pending:
            tree, directory = pending.pop()
            if tree not in objects or depths.get(tree, -1) >= len(directory):
                continue
            depths[tree] = len(directory)
            path = b"/".join(map(_display_name, directory))
            if len(directory) > MAX_PATH_NAMES:
                raise self.refusal(path, f"it lies in more than {MAX_PATH_NAMES} directories")
            self._check_size(tree, objects[tree], MAX_TREE_BYTES, path)
            try:
                listing = parse_tree(self._repo.read(tree))
            except ValueError as error:
                raise self.refusal(path, "the directory cannot be read") from error
            for stored, entry in listing.items():
                self._check_entry(directory, stored, entry, listing, objects, blobs)
                if entry.mode == MODE_DIR:
                    pending.append((entry.oid, (*directory, stored)))

    def _check_paths(self, roots: Sequence[str]) -> None:
        """Check that the expanded trees are within the limits. `roots` have been checked."""
        total = 0
        for root in roots:
            count = self._count_paths(root, self._path_counts)
            if count > MAX_PATHS:
                raise self.refusal(b"", f"a version has {count} paths; {MAX_PATHS} are taken at most")
            total += count
        changes = 0
        # Versions are compared only if the sum of their paths exceeds the limit of changes.
        for old, new in pairwise(roots) if total > MAX_CHANGES else ():
            remaining = MAX_CHANGES - changes
            changes += sum(1 for _ in islice(self._trees.compare(new, old), remaining + 1))
            if changes > MAX_CHANGES:
                raise self.refusal(b"", f"its versions have more than {MAX_CHANGES} changes")

    def _count_paths(self, root: str, counts: dict[str, int]) -> int:
        """Return the number of paths below a tree. Shared trees are counted once, so a tree bomb costs no time."""
        pending = [root]
        while pending:
            tree = pending[-1]
            listing = self._trees.listing(tree)
            inner = [entry.oid for entry in listing.values() if entry.mode == MODE_DIR]
            missing = [oid for oid in inner if oid not in counts]
            if missing:
                pending += missing
                continue
            counts[tree] = len(listing) + sum(counts[oid] for oid in inner)
            pending.pop()
        return counts[root]

    def _check_entry(
        self,
        directory: Parts,
        stored: bytes,
        entry: TreeEntry,
        listing: Listing,
        objects: dict[str, ObjectInfo],
        blobs: _BlobPaths,
    ) -> None:
        path = b"/".join(map(_display_name, (*directory, stored)))
        self._check_name(directory, stored, path, listing)
        if entry.mode not in _ENTRY_MODES:
            raise self.refusal(path, f"its mode is {entry.mode:o}")
        target = objects.get(entry.oid)
        if target is not None and target.kind != ("tree" if entry.mode == MODE_DIR else "blob"):
            raise self.refusal(path, f"its content is a {target.kind}")
        if stored.startswith(SIDE_PREFIX):
            if entry.mode != MODE_FILE:
                raise self.refusal(path, "its attributes are no file")
            blobs.sides.setdefault(entry.oid, path)
        elif not directory and entry.mode != MODE_DIR:
            raise CommandError(
                "what is there is not the history of a ctxfs store", "pull from a place that a store was pushed to"
            )
        elif entry.mode == MODE_LINK:
            blobs.links.setdefault(entry.oid, path)
        elif target is not None and entry.mode != MODE_DIR and target.size > MAX_BLOB_BYTES:
            raise self.refusal(path, f"it holds {target.size} bytes in git; {MAX_BLOB_BYTES} are taken at most")

    def _check_name(self, directory: Parts, stored: bytes, path: bytes, listing: Listing) -> None:
        """Check that a name is the only encoding of its real name: two entries of one file would be two contents."""
        name = stored[len(SIDE_PREFIX) :] if stored.startswith(SIDE_PREFIX) else real_name(stored)
        if (
            name is None
            or not is_valid_name(name)
            or (not stored.startswith(SIDE_PREFIX) and stored_name(name) != stored)
        ):
            raise self.refusal(path, f"{stored!r} is no name of a file")
        if not directory and name not in _AREA_NAMES:
            raise CommandError(
                "what is there is not the history of a ctxfs store", "pull from a place that a store was pushed to"
            )
        if not self._is_trusted and name.lower().rstrip(b". ") in _REPOSITORY_NAMES:
            raise self.refusal(path, "a repository or a store in it could start programs here")

    def _check_links(self, links: dict[str, bytes], objects: dict[str, ObjectInfo]) -> None:
        for oid, path in links.items():
            if oid in objects and not 0 < objects[oid].size <= MAX_LINK_BYTES:
                raise self.refusal(path, f"its target has {objects[oid].size} bytes")
        for oid, target in self._read_blobs(links, objects):
            if b"\0" in target:
                raise self.refusal(links[oid], "its target holds NUL")

    def _check_sides(self, sides: dict[str, bytes], objects: dict[str, ObjectInfo]) -> None:
        for oid, path in sides.items():
            if oid in objects:
                self._check_size(oid, objects[oid], MAX_SIDECAR_BYTES, path)
        for oid, data in self._read_blobs(sides, objects):
            try:
                side = decode_sidecar(data)
            except ValueError as error:
                raise self.refusal(sides[oid], str(error)) from error
            self._check_side(side, sides[oid])

    def _check_side(self, side: SideCar, path: bytes) -> None:
        if side.mode is not None and side.mode & _SPECIAL_BITS and not self._is_trusted:
            raise self.refusal(path, f"its mode is {side.mode:04o}: set-user, set-group and sticky bits are not taken")
        if side.large is not None:
            self.large.setdefault(side.large, path)

    def _read_blobs(self, oids: Iterable[str], objects: dict[str, ObjectInfo]) -> Iterable[tuple[str, bytes]]:
        """Yield (id, content) of those blobs that the store lacks, in batches."""
        new_oids = [oid for oid in oids if oid in objects]
        for start in range(0, len(new_oids), _BATCH_OBJECTS):
            yield from self._repo.read_many(new_oids[start : start + _BATCH_OBJECTS]).items()

    def _check_size(self, oid: str, target: ObjectInfo, limit: int, path: bytes) -> None:
        if target.size > limit:
            raise self.refusal(path, f"the {target.kind} {oid[:12]} has {target.size} bytes; {limit} are taken at most")

    def refusal(self, path: bytes, cause: str) -> CommandError:
        """Return the error for a refused history. With an empty path no file is at fault."""
        location = f"'{display_path(path)}': " if path else ""
        return CommandError(
            f"'{self._name}' holds what no store has written; nothing was pulled: {location}{cause}",
            "mend it there, or push there again from a store that you trust: ctxfs remote push --replace NAME",
        )


_AREA_NAMES = frozenset(area.encode() for area in AREAS)


def _display_name(stored: bytes) -> bytes:
    """Return the real name of a tree entry, or the entry's name if it encodes none."""
    if stored.startswith(SIDE_PREFIX):
        return stored[len(SIDE_PREFIX) :]
    return real_name(stored) or stored
