"""Erasures of a shared store: an entry of the log that every node carries out, and that removes contents from the log.

An erasure's entry has the rewritten head, all objects of it in packs, and the plan as data. The engine then drops the
objects of all earlier entries: they keep their place in the chain. A node that joins, or that was away, begins with the
packs of the newest erasure. Each node computes the new commits by itself, so a late one finds its last head in them.
"""

import contextlib
import hashlib
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path as HostPath
from typing import Protocol

from ctxfs.shared.certificates import CertificateTopic
from ctxfs.shared.erasure_data import decode_plan, encode_plan
from ctxfs.shared.generation import decode_generation
from ctxfs.shared.log import Entry, EntryKind, LogRefused, SharedLog, all_entries
from ctxfs.shared.object_pack import encode_packs
from ctxfs.store.durable_file import replace_file
from ctxfs.versions.erase import ErasureResult
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.phrases import Phrases
from ctxfs.versions.remotes.shared_heads import SharedHeads
from ctxfs.versions.shared_erasure import SharedErasure, SharedPlan

log = logging.getLogger(__name__)

_BATCH_ENTRIES = 100
_TOMBSTONES_NAME = "ctxfs-tombstones.json"


class DerivedEraser(Protocol):
    """Erases the texts outside of the versions that were derived from erased contents."""

    def __call__(self, phrases: Phrases, by: str) -> dict[str, int]:
        """Erase texts with one of the phrases, and empty the caches; return the counts by kind."""
        ...


@dataclass(frozen=True, slots=True)
class Erased:
    """An erasure that this node has carried out, and the number of its entry."""

    number: int
    result: ErasureResult
    derived: dict[str, int]


def is_erasure(entry: Entry) -> bool:
    """Return True for an erasure, and for an entry whose objects an erasure has removed from the log."""
    is_stripped = entry.kind in (EntryKind.VERSIONS, EntryKind.JOIN) and not entry.objects and not entry.packs
    return entry.kind is EntryKind.ERASE or is_stripped


class Erasures:
    """The erasures of one node. Its methods run within the node's exchanges, outside of turns."""

    def __init__(
        self,
        erasure: SharedErasure,
        heads: SharedHeads,
        repo: HostPath,
        derived: DerivedEraser,
        certificates: CertificateTopic,
    ) -> None:
        self._certificates = certificates
        self._erasure = erasure
        self._heads = heads
        self._derived = derived
        self._file = repo / _TOMBSTONES_NAME
        self._done: list[Erased] = []

    def pop_done(self) -> list[Erased]:
        """Return the erasures that were carried out since the last call."""
        done, self._done = self._done, []
        return done

    # entries of all nodes

    def find(self, engine: SharedLog, after: int) -> list[Entry]:
        """Return the entries up to the newest erasure, all without objects but that one; raise `LogRefused` if none is."""
        entries, last = list[Entry](), 0
        while batch := engine.entries(after, _BATCH_ENTRIES):
            for entry in batch:
                entries.append(replace(entry, objects=b"" if entry.kind is not EntryKind.ERASE else entry.objects))
                last = len(entries) if entry.kind is EntryKind.ERASE else last
            after = batch[-1].number
        if not last:
            raise LogRefused(
                f"entry {entries[0].number} of node '{entries[0].node}' is refused: it has no objects",
                "mend it there; this store stays as it is",
            )
        return entries[:last]

    def check(self, entry: Entry) -> SharedPlan:
        """Return the plan of an entry. Raise `LogRefused` for one that no node can have made."""
        try:
            return decode_plan(entry.data)
        except ValueError as error:
            raise _refused(entry, str(error)) from error

    def carry_out(self, entry: Entry, shared: SharedPlan, seen: str, *, is_member: bool) -> str:
        """Erase here as an entry plans it; return the new id of the last head `seen` that this node has taken."""
        is_current = entry.previous == seen and self._erasure.knows(seen)
        if is_current and self._erasure.rewrite(shared, seen) != entry.head:
            raise _refused(entry, "its head is not the one without the contents")
        derived = self._derived(self._erasure.phrases(shared), shared.by)
        result, new_seen = self._erasure.erase(shared, seen, is_member=is_member)
        self._remember(shared)
        self._certificates.begin(entry.number, derived)
        log.warning(
            "node '%s' has erased %d contents in the shared store: gone here too", entry.node, len(shared.plan.blobs)
        )
        self._done.append(Erased(entry.number, result, derived))
        return new_seen

    def has_done_since(self, number: int) -> bool:
        """Return True if an erasure with a higher number was carried out and is not popped yet."""
        return any(item.number > number for item in self._done)

    def strip(self, engine: SharedLog, number: int, shared: SharedPlan) -> None:
        """Remove the contents from the log before an entry, with all vectors: some may belong to erased texts."""
        large = [sha256 for sha256 in shared.plan.large if not self._erasure.has_large(sha256)]
        vectors = set[str]()
        for entry in all_entries(engine, 0):
            if entry.number >= number:
                break
            if entry.kind is EntryKind.INDEX:
                with contextlib.suppress(ValueError):
                    vectors.update(decode_generation(entry.data).packs)
        engine.erase(number, [*large, *vectors])

    def is_member(self, engine: SharedLog, seen: str) -> bool:
        """Return True if this store has versions of the log, although its state may be lost."""
        if seen:
            return True
        first = engine.entries(0, 1)
        return bool(first) and self._erasure.knows(first[0].head)

    # an erasure of this node

    def plan(self, path: str | None, principal: str, actor: Actor) -> tuple[SharedPlan, tuple[bytes, ...]]:
        """Return the plan of an erasure, whose entry fits, and the files that hold phrases of it."""
        shared, copies = self._erasure.make_plan(path, principal, actor)
        encode_plan(shared)
        return shared, copies

    def bury(self, shared: SharedPlan, actor: Actor) -> tuple[tuple[bytes, ...], dict[str, int]]:
        """Erase derived texts, and put the tombstones into the work tree; return their paths, and counts of texts."""
        derived = self._derived(self._erasure.phrases(shared), shared.by)
        return self._erasure.bury(shared, actor), derived

    def send(self, shared: SharedPlan, head: str, engine: SharedLog, sent: "Snapshot") -> "Snapshot":
        """Store all objects of a rewritten head in the engine, except those that are sent already."""
        new_head = self._erasure.rewrite(shared, head)
        if new_head == sent.head:
            return sent
        names = [*sent.packs]
        for pack in encode_packs(self._heads.read_objects(self._erasure.list_objects(new_head, sent.head))):
            names.append(hashlib.sha256(pack).hexdigest())
            engine.put(names[-1], io.BytesIO(pack))
        return Snapshot(new_head, tuple(names))

    @staticmethod
    def data(shared: SharedPlan) -> bytes:
        """Return the data of the plan's entry."""
        return encode_plan(shared)

    # late contents

    def brings_erased(self, oids: Sequence[str]) -> bool:
        """Return True if a publication has contents that the shared store has erased."""
        return not self._tombstones().isdisjoint(oids)

    def erase_brought(self, oids: Sequence[str], by: str) -> tuple[bytes, ...]:
        """Erase unpublished contents that the shared store has erased; return their paths."""
        gone = self._tombstones()
        return self._erasure.erase_tombstones(frozenset(gone), oids, by) if gone else ()

    def _remember(self, shared: SharedPlan) -> None:
        gone = self._tombstones() | shared.gone
        replace_file(self._file, json.dumps(sorted(gone)).encode(), 0o600)

    def _tombstones(self) -> frozenset[str]:
        try:
            return frozenset(json.loads(self._file.read_bytes()))
        except FileNotFoundError:
            return frozenset()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A head whose objects are in the packs of the engine."""

    head: str = ""
    packs: tuple[str, ...] = ()


def _refused(entry: Entry, cause: str) -> LogRefused:
    return LogRefused(
        f"entry {entry.number} of node '{entry.node}' is refused: {cause}", "mend it there; this store stays as it is"
    )
