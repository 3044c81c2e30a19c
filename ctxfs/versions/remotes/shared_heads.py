"""The exchange of versions with a shared log: take objects and follow a head, merge with it, and list new objects.

Each method holds the archive's lock for its own work only, never while a network is waited for.
"""

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import BinaryIO, TypeVar

from ctxfs.model.errors import CommandError
from ctxfs.model.host_numbers import file_numbers
from ctxfs.versions.archive_core import ArchiveAccess, ArchiveCore
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.git import Repository
from ctxfs.versions.objects.name_encoding import SIDE_PREFIX, split_path
from ctxfs.versions.objects.sidecar import Large
from ctxfs.versions.objects.trees import MODE_DIR
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.versions.remotes.commit_graph import CommitGraph
from ctxfs.versions.remotes.fetch_validation import FetchedHistory, ObjectInfo
from ctxfs.versions.remotes.new_objects import NamedEntry, list_new_entries
from ctxfs.versions.remotes.remote import PullResult

SHARED_REF = "refs/ctxfs/shared"
_NAME = "the shared store"
_BATCH_OBJECTS = 200
_MAX_FOLLOWED = 20_000
_MAX_CACHED_COUNTS = 200_000
_MAX_SINGLE_REQUESTS = 200  # more objects are described by one process
_MAX_PENDING_BYTES = 16_000_000  # of contents that are not stored yet
_MAX_CHECKED_COMMITS = 10_000
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Publication:
    """A commit to be published, the ids of its objects that the log lacks, and the large contents that they name.

    `conflicts` are paths of which the merge in it has kept two contents.
    """

    head: str
    objects: tuple[tuple[str, str], ...]  # (kind, id), in the order of the commits
    large: tuple[Large, ...]
    conflicts: tuple[bytes, ...] = ()


class SharedHeads:
    """The versions of an archive, as a shared log needs them."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive
        self._sizes: dict[str, ObjectInfo] = {}
        self._graphs: dict[Repository, CommitGraph] = {}
        self._followed: dict[bytes, str] = {}  # path → blob id, the oldest first
        self._path_counts: dict[str, int] = {}  # without it each check would walk the whole tree
        self._checked: set[str] = set()  # own commits that other nodes would accept

    def _graph(self, core: ArchiveCore) -> CommitGraph:
        """Return the graph of the open repository, which caches commits."""
        repo = core.ledger.repo
        if repo not in self._graphs:
            self._graphs = {repo: CommitGraph.of(repo)}
        return self._graphs[repo]

    def store_id(self) -> str:
        """Return the id of this store."""
        with self._archive.locked() as core:
            return core.ledger.store_id

    def set_clock(self, offset_ns: int) -> None:
        """Date versions by this machine's clock plus an offset."""
        with self._archive.locked() as core:
            core.ledger.clock_offset_ns = offset_ns

    def write_objects(self, objects: Iterable[tuple[str, bytes]]) -> None:
        """Take objects that are not checked yet. `store` writes them to the disk; many are written at once."""
        for batch in _in_batches(objects):
            with self._archive.locked() as core:
                repo = core.ledger.repo
                with repo.deferring_writes():
                    for kind, data in batch:
                        self._sizes[repo.write(kind, data)] = ObjectInfo(kind, len(data))
                if repo.pending_bytes > _MAX_PENDING_BYTES:
                    repo.store_pending()

    def store(self) -> None:
        """Write the objects of accepted and published heads to the disk. Nothing refers to them before."""
        with self._archive.locked() as core:
            core.ledger.repo.store_pending()

    def drop(self) -> None:
        """Forget the objects that are not stored."""
        with self._archive.locked() as core:
            core.ledger.repo.drop_pending()

    def accept(
        self, chain: Sequence[str], now_ns: int, fetch_large: Callable[[Large, BinaryIO], None], source: str
    ) -> None:
        """Check a chain of heads whose objects were taken. It begins with the last accepted head (empty: none).

        `fetch_large` writes a large content that is missing to a file. `source` names the sender. Raise CommandError for
        a history that no store has written; nothing refers to its objects then.
        """
        try:
            with self._archive.locked() as core:
                history = self._check_chain(core, chain, now_ns, source)
                missing = _missing(core, history.large)
        finally:
            self._sizes.clear()
        for large in missing:
            self._store_large(large, fetch_large)

    def keep(self, head: str) -> None:
        """Keep the objects of an accepted or published head that the branch does not reach yet."""
        with self._archive.locked() as core:
            repo = core.ledger.repo
            repo.update_ref(SHARED_REF, head, repo.read_ref(SHARED_REF))

    def fetch_missing(self, head: str, fetch_large: Callable[[Large, BinaryIO], None]) -> None:
        """Store the large contents of an accepted head that maintenance has deleted, because no version used them."""
        with self._archive.locked() as core:
            ledger = core.ledger
            changes = ledger.compare_trees(ledger.tree, ledger.read_commit(head).tree)
            contents = [ledger.read_sidecar(change.side).large for change in changes if change.side]
            missing = _missing(core, [large for large in contents if large is not None])
        for large in missing:
            self._store_large(large, fetch_large)

    def _check_chain(self, core: ArchiveCore, chain: Sequence[str], now_ns: int, source: str) -> FetchedHistory:
        history, graph = self._history(core, now_ns, source), self._graph(core)
        try:
            for known, head in pairwise(chain):
                if known and graph.find_base(known, head) != known:
                    raise history.refusal(b"", f"{head[:12]} does not continue {known[:12]}")
            commits = graph.list_new(chain[-1], chain[0])
            entries = list(self._entries(core, graph, commits))
        except (ValueError, OSError) as error:
            raise _unreadable(history, error) from error
        self._check_objects(core, history, commits, entries)
        return history

    def _history(self, core: ArchiveCore, now_ns: int, source: str) -> FetchedHistory:
        if len(self._path_counts) > _MAX_CACHED_COUNTS:
            self._path_counts.clear()
        ledger, counts = core.ledger, self._path_counts
        return FetchedHistory(ledger.repo, ledger.trees, source, is_trusted=True, now_ns=now_ns, path_counts=counts)

    def _check_objects(
        self, core: ArchiveCore, history: FetchedHistory, commits: Sequence[str], entries: Iterable[NamedEntry]
    ) -> None:
        """Check commits and their new objects. Raise CommandError for those that no store has written."""
        repo = core.ledger.repo
        oids = [*commits, *(named.entry.oid for named in entries)]
        objects = {oid: self._sizes[oid] for oid in oids if oid in self._sizes}
        unknown = [oid for oid in oids if oid not in objects]
        try:
            if len(unknown) <= _MAX_SINGLE_REQUESTS:
                objects |= {oid: ObjectInfo(*repo.describe(oid)) for oid in unknown}
                unknown = []
        except OSError as error:
            raise _unreadable(history, error) from error
        if unknown:
            repo.store_pending()  # a process reads them
            objects |= history.describe("".join(f"{oid}\n" for oid in unknown).encode())
        history.check_objects(commits, objects)

    def _entries(self, core: ArchiveCore, graph: CommitGraph, commits: Iterable[str]) -> Iterator[NamedEntry]:
        """Yield the new objects of commits. A merge is compared with the last parent, which others have published."""
        versions = []
        for oid in commits:
            commit = graph.commit(oid)
            before = graph.commit(commit.parents[-1]).tree if commit.parents else None
            versions.append((before, commit.tree))
        return list_new_entries(core.ledger.trees, versions)

    def _store_large(self, large: Large, fetch_large: Callable[[Large, BinaryIO], None]) -> None:
        with self._archive.locked() as core:
            store, folder = core.ledger.large, core.ledger.repo.folder
        with tempfile.TemporaryFile(dir=folder) as file:
            fetch_large(large, file)
            file.flush()
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            stored = store.add(file.fileno())
        if stored != large:
            if stored.sha256 != large.sha256:
                store.remove([stored.sha256])
            raise CommandError(f"a large content of {_NAME} has another length than its file")

    def follow(self, head: str, actor: Actor) -> tuple[PullResult, list[PathChange]]:
        """Bring branch and work tree to an accepted head, as a pull does. Return the result and the changes."""
        with self._archive.locked() as core:
            self._archive.commit()
            before = core.ledger.tree
            graph = self._graph(core)
            result = core.remotes.follow_head(head, graph, actor, _NAME, self._archive.commit)
            changes = core.ledger.compare_trees(before, core.ledger.tree)
            self._remember_followed(changes)
            return result, changes

    def _remember_followed(self, changes: Iterable[PathChange]) -> None:
        for change in changes:
            self._followed.pop(change.path, None)
            if change.oid:
                self._followed[change.path] = change.oid
        while len(self._followed) > _MAX_FOLLOWED:
            del self._followed[next(iter(self._followed))]

    def is_followed(self, path: bytes) -> bool:
        """Return True if a file has come by the log since the start, and was not written here since.

        Reactions to a change run at the node whose session made it. After many changes older ones are no longer known.
        """
        if path not in self._followed:
            return False
        with self._archive.locked() as core:
            record, stat = core.index.file_record(path), core.ledger.work.stat(split_path(path))
            if record is None or stat is None or record.oid != self._followed.get(path):
                return False
            return file_numbers(stat)[:3] == record[:3]

    def is_behind(self, known: str) -> bool:
        """Return True if the local head lacks an accepted head."""
        with self._archive.locked() as core:
            assert core.ledger.head is not None
            return self._graph(core).find_base(core.ledger.head.oid, known) != known

    def contains(self, known: str, revision: str) -> bool:
        """Return True if an accepted or published head contains a local version."""
        with self._archive.locked() as core:
            return self._graph(core).find_base(revision, known) == revision

    def prepare_local(self, known: str, now_ns: int) -> Publication | None:
        """Return the local versions that `known` lacks, as they are before a merge with it; None without such versions.

        Raise CommandError for a version that other nodes would refuse: one such entry would stop all of them.
        """
        with self._archive.locked() as core:
            self._archive.commit()
            ledger, graph = core.ledger, self._graph(core)
            assert ledger.head is not None
            if known and graph.find_base(ledger.head.oid, known) == ledger.head.oid:
                return None
            return self._publication(core, ledger.head.oid, known, now_ns)

    def prepare(
        self, known: str, actor: Actor, now_ns: int, covered: Collection[str] = frozenset()
    ) -> Publication | None:
        """Return the publication of the local versions on top of `known`, without the objects `covered`; None if all are.

        Where both have versions, it is a merge of both that exists beside the branch, and is to be stored.
        """
        with self._archive.locked() as core:
            self._archive.commit()
            ledger, graph = core.ledger, self._graph(core)
            assert ledger.head is not None
            head = ledger.head.oid
            base = graph.find_base(head, known) if known else ""
            if known and base == head:
                return None
            conflicts: tuple[bytes, ...] = ()
            if base != known:
                with ledger.repo.deferring_writes():
                    head, conflicts = core.remotes.merge_with(known, base, actor, _NAME)
            publication = self._publication(core, head, known, now_ns)
            objects = tuple(item for item in publication.objects if item[1] not in covered)
            return replace(publication, objects=objects, conflicts=conflicts)

    def _publication(self, core: ArchiveCore, head: str, known: str, now_ns: int) -> Publication:
        """Return the publication of a head, checked as other nodes check it."""
        graph = self._graph(core)
        commits = graph.list_new(head, known)
        entries = list(self._entries(core, graph, commits))
        unchecked = [oid for oid in commits if oid not in self._checked]
        self._check_objects(
            core, self._history(core, now_ns, "this store"), unchecked, self._entries(core, graph, unchecked)
        )
        if len(self._checked) > _MAX_CHECKED_COMMITS:
            self._checked.clear()
        self._checked.update(unchecked)
        objects, large = [("commit", oid) for oid in commits], dict[Large, None]()
        for named in entries:
            objects.append(("tree" if named.entry.mode == MODE_DIR else "blob", named.entry.oid))
            if named.stored.startswith(SIDE_PREFIX):
                content = core.ledger.read_sidecar(named.entry.oid).large
                if content is not None:
                    large[content] = None
        return Publication(head, tuple(objects), tuple(large))

    def read_objects(self, objects: Iterable[tuple[str, str]]) -> Iterator[tuple[str, bytes]]:
        """Yield the (kind, content) of objects, in order."""
        for batch in _in_batches(objects):
            with self._archive.locked() as core:
                contents = [(kind, core.ledger.repo.read(oid)) for kind, oid in batch]
            yield from contents

    def read_history(self, head: str) -> Iterator[tuple[str, bytes]]:
        """Yield the (kind, content) of all objects of a stored head and its history. Commits continue meanwhile."""
        with self._archive.locked() as core:
            repo = core.ledger.repo
        listed = repo.run("rev-list", "--objects", "--no-object-names", head).decode().split()
        for batch in _in_batches(listed):
            with self._archive.locked() as core:
                contents = [core.ledger.repo.read_kind(oid) for oid in batch]
            yield from contents

    def open_large(self, large: Large) -> BinaryIO:
        """Open a stored large content."""
        with self._archive.locked() as core:
            return core.ledger.large.path(large.sha256).open("rb")

    def count_unpublished(self, known: str) -> int:
        """Return the number of local versions that a published head lacks."""
        with self._archive.locked() as core:
            head = core.ledger.head
            return len(self._graph(core).list_new(head.oid, known)) if head else 0

    def anchor(self) -> str:
        """Return the present heads of this store's event log and audit chains."""
        with self._archive.locked() as core:
            return core.ledger.anchor()

    def forget(self) -> None:
        """Remove the reference to the accepted head."""
        with self._archive.locked() as core:
            oid = core.ledger.repo.read_ref(SHARED_REF)
            if oid is not None:
                core.ledger.repo.delete_ref(SHARED_REF, oid)


def _unreadable(history: FetchedHistory, error: Exception) -> CommandError:
    return history.refusal(b"", f"an object cannot be read: {error}")


def _missing(core: ArchiveCore, contents: Iterable[Large]) -> list[Large]:
    """Return the large contents that the store lacks."""
    return [large for large in contents if not core.ledger.large.path(large.sha256).exists()]


def _in_batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch = list[Item]()
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH_OBJECTS:
            yield batch
            batch = []
    if batch:
        yield batch
