"""Snapshots of the log: all objects of its history in one set of packs, so that a new node need not take each entry.

After every `INTERVAL_ENTRIES` entries the node that has appended the last of them stores the packs in the engine, and
appends an entry of the kind `snapshot` that names them. `data` is the number of the covered entry, big-endian u64.

A joining node trusts a snapshot with nothing. It reads all covered entries, without their objects, and checks their
chain. It checks the whole history of the last head, like that of any entry. Contents are named by their hashes, so the
packs can lack objects of that history, but not change it. A snapshot that fails is ignored, and each entry is taken.
So is one that covers an erasure, which has packs of its own.
"""

import hashlib
import io
import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ctxfs.model.errors import CommandError
from ctxfs.shared.chain import check_entries
from ctxfs.shared.erasures import is_erasure
from ctxfs.shared.log import EMPTY, Entry, EntryKind, Head, LogRefused, SharedLog, Unreachable
from ctxfs.shared.object_pack import MAX_PACK_BYTES, PackError, decode_pack, encode_packs
from ctxfs.versions.remotes.shared_heads import SharedHeads

log = logging.getLogger(__name__)

INTERVAL_ENTRIES = 10_000
MAX_DATA_BYTES = 64_000_000  # of topics in the covered entries
_MAX_SEARCHED_ENTRIES = 1000  # after the covered entry: others append while the packs are made
_MAX_SEARCHED_INTERVALS = 3
_BATCH_ENTRIES = 100
_NUMBER = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Covered:
    """The last entry that a snapshot covers, and the covered entries with data of topics."""

    head: Head
    entries: tuple[Entry, ...]


class SnapshotFault(Exception):
    """Raised for a snapshot that cannot be used."""


class Snapshots:
    """The snapshots of one node's log. Its methods run within the node's exchanges, outside of turns."""

    def __init__(self, heads: SharedHeads, interval: int) -> None:
        self._heads = heads
        self._interval = interval
        self._due: Head | None = None  # the entry that completes an interval, appended by this node

    def request_after(self, head: Head) -> None:
        """Make a snapshot soon if this node's entry completes an interval."""
        if head.number % self._interval == 0:
            self._due = head

    def put_due(self, engine: SharedLog) -> tuple[bytes, tuple[str, ...]]:
        """Store the packs of a due snapshot in the engine; return the data of its entry and their names, if any."""
        due, self._due = self._due, None
        if due is None:
            return b"", ()
        packs = encode_packs(self._heads.read_history(due.commit))
        return encode_covered(due.number), tuple(put_pack(engine, pack) for pack in packs)

    def take(
        self, engine: SharedLog, newest: int, now_ns: int, check: Callable[[Sequence[Entry]], None]
    ) -> Covered | None:
        """Take the history that the newest snapshot covers; return None without one that is sound.

        `check` refuses entries. Raise `LogRefused` for a broken chain.
        """
        try:
            return self._take(engine, newest, now_ns, check)
        except SnapshotFault as error:
            log.warning("a snapshot of the shared log is ignored: %s", error)
            return None

    def _take(
        self, engine: SharedLog, newest: int, now_ns: int, check: Callable[[Sequence[Entry]], None]
    ) -> Covered | None:
        match = self._find(engine, newest)
        if match is None:
            return None
        snapshot, number = match
        source = f"that in entry {snapshot.number} of node '{snapshot.node}'"
        try:
            heads, covered = _read_covered(engine, number, check)
            for name in snapshot.packs:
                self._heads.write_objects(decode_pack(read_pack(engine, name)))
            self._heads.accept(heads, now_ns, lambda large, file: engine.get(large.sha256, file, large.size), source)
        except (Unreachable, LogRefused, SnapshotFault):
            self._heads.drop()
            raise
        except (PackError, CommandError, OSError) as error:
            self._heads.drop()
            cause = error.message if isinstance(error, CommandError) else str(error)
            raise SnapshotFault(f"{source}: {cause}") from error
        return covered

    def _find(self, engine: SharedLog, newest: int) -> tuple[Entry, int] | None:
        """Return the newest snapshot, and the number of the last entry that it covers."""
        number = newest - newest % self._interval
        for _ in range(_MAX_SEARCHED_INTERVALS):
            if number <= 0:
                return None
            for entry in _entries_after(engine, number):
                if entry.kind is EntryKind.SNAPSHOT and entry.packs and entry.data == encode_covered(number):
                    return entry, number
            number -= self._interval
        return None


def encode_covered(number: int) -> bytes:
    """Return the data of the snapshot that covers the entries up to `number`."""
    return _NUMBER.pack(number)


def put_pack(engine: SharedLog, pack: bytes) -> str:
    """Store a pack in the engine, unless it has it, and return its name."""
    name = hashlib.sha256(pack).hexdigest()
    engine.put(name, io.BytesIO(pack))
    return name


def read_pack(engine: SharedLog, name: str) -> bytes:
    """Return a pack of the engine."""
    target = io.BytesIO()
    engine.get(name, target, MAX_PACK_BYTES)
    return target.getvalue()


def _read_covered(
    engine: SharedLog, number: int, check: Callable[[Sequence[Entry]], None]
) -> tuple[list[str], Covered]:
    """Return the heads up to an entry, after the empty one, and the entries with data. Raise `LogRefused`."""
    seen, heads, with_data, size = EMPTY, [""], list[Entry](), 0
    while seen.number < number:
        entries = engine.entries(seen.number, min(_BATCH_ENTRIES, number - seen.number))
        if not entries:
            raise SnapshotFault("the log has become shorter")
        check_entries(seen, entries)
        check(entries)
        if any(map(is_erasure, entries)):
            raise SnapshotFault("it covers an erasure")
        heads += [entry.head for entry in entries if entry.head != heads[-1]]
        topics = [entry for entry in entries if entry.data and entry.kind is not EntryKind.SNAPSHOT]
        with_data += topics
        size += sum(len(entry.data) for entry in topics)
        if size > MAX_DATA_BYTES:
            raise SnapshotFault("it covers too much data of topics")
        seen = Head(entries[-1].number, entries[-1].head)
    return heads, Covered(seen, tuple(with_data))


def _entries_after(engine: SharedLog, number: int) -> Iterator[Entry]:
    end = number + _MAX_SEARCHED_ENTRIES
    while number < end and (entries := engine.entries(number, _BATCH_ENTRIES)):
        yield from entries
        number = entries[-1].number
