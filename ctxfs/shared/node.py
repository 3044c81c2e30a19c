"""A node of a shared store: it takes the versions of others from the log, follows them, and appends its own.

An exchange never waits for the network with the archive's lock held. In a turn it reads the last entries, merges trees
and appends; the work tree follows afterwards, by the same path as a pull.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from ctxfs.model.clocks import now_seconds
from ctxfs.model.errors import CommandError
from ctxfs.shared.chain import check_entries, check_head, check_names
from ctxfs.shared.erasures import Erasures, Snapshot, is_erasure
from ctxfs.shared.exchanges import Exchanged, NodeErasure
from ctxfs.shared.log import TURN, Entry, EntryKind, Head, LogRefused, SharedLog, TurnLost, turn_lost
from ctxfs.shared.node_state import NodeState, NodeStateFile, advanced
from ctxfs.shared.object_pack import PackError, decode_pack
from ctxfs.shared.publication_packs import MAX_TURN_OBJECTS, Sent, send
from ctxfs.shared.snapshots import INTERVAL_ENTRIES, Snapshots, read_pack
from ctxfs.shared.topics import Topic
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.name_encoding import display_path
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.versions.remotes.shared_heads import Publication, SharedHeads

log = logging.getLogger(__name__)

_BATCH_ENTRIES = 100
_MAX_TURNS = 5  # that are lost in a row
_MIN_CLOCK_OFFSET_NS = 1_000_000_000


class Node:
    """One store as a node of a shared store. Exchanges run one at a time, in any thread."""

    def __init__(
        self,
        heads: SharedHeads,
        state_file: NodeStateFile,
        store: str,
        name: str,
        principal: str,
        connect: Callable[[], SharedLog],
        topics: Mapping[EntryKind, Topic] = MappingProxyType({}),
        erasures: Erasures | None = None,
        *,
        last_entry: int | None = None,
        is_read_only: bool = False,
        snapshot_interval: int = INTERVAL_ENTRIES,
    ) -> None:
        """`principal` is the author of merges. Entries of a kind in `topics` are left to that topic.

        Without `erasures` the node refuses a log with one. A read-only node publishes nothing. Entries after `last_entry`
        are left out.
        """
        self._erasures = erasures
        self._last_entry = last_entry
        self._is_read_only = is_read_only
        self._snapshots = Snapshots(heads, snapshot_interval)
        self._topics = topics
        self._principal = principal
        self._heads = heads
        self._file = state_file
        self._store = store
        self._name = name
        self._connect = connect
        self._lock = threading.Lock()
        self._log: SharedLog | None = None
        self._state = self._saved = NodeState(store)
        self._taken = 0  # entries in this exchange
        self._turn_seconds = 0.0  # of the last turn
        self.current_at = 0.0  # by `now_seconds`, when this node last had the newest entry; 0: never
        self._instance = ""
        self._clock_offset_ns = 0

    @property
    def seen(self) -> Head:
        """Return the newest entry that was read."""
        return self._state.seen

    @property
    def connection(self) -> SharedLog | None:
        """Return the engine after the first exchange. Other threads may call its `wait` only."""
        return self._log

    def exchange(self) -> Exchanged:
        """Take the entries of others, follow them, and publish the local versions.

        Raise `Unreachable` or `LogRefused` as the engine does, `LogDamaged` or `LogRefused` for refused entries,
        CommandError if a file that is open for writing cannot follow; then everything is published all the same.
        """
        with self._lock:
            return self._exchange(self._open())

    def _exchange(self, engine: SharedLog) -> Exchanged:
        self._taken = 0
        try:
            publication = self._publish(engine)
        finally:
            self._save()
        for kind, topic in self._topics.items() if not self._is_read_only else ():
            self._publish_topic(engine, kind, topic)
        try:
            changes, conflicts = self._follow(engine)
        except (OSError, CommandError):
            self._heads.keep(self._state.seen.commit)
            raise
        self._publish_snapshot(engine)
        erased = tuple(self._erasures.pop_done()) if self._erasures is not None else ()
        if publication is None:
            return Exchanged(changes, self._taken, 0, conflicts, erased)
        conflicts = (*publication.conflicts, *conflicts)
        return Exchanged(changes, self._taken, 1, conflicts, erased, self._turn_seconds)

    def erase(self, path: str | None, principal: str, actor: Actor) -> NodeErasure:
        """Erase a path, or all contents of a principal, on all nodes: an entry of the log orders it.

        Raise errors as `exchange` does, and `TurnLost` if others publish all the time; then nothing is erased.
        """
        assert self._erasures is not None
        with self._lock:
            engine = self._open()
            before = self._exchange(engine)
            shared, copies = self._erasures.plan(path, principal, actor)
            paths, derived = self._erasures.bury(shared, actor)
            buried = self._exchange(engine)
            snapshot = Snapshot()
            for _ in range(_MAX_TURNS):
                snapshot = self._erasures.send(shared, self._state.seen.commit, engine, snapshot)
                try:
                    with engine.lease(TURN):
                        self._take(engine, is_turn=True)
                        snapshot = self._erasures.send(shared, self._state.seen.commit, engine, snapshot)
                        entry = self._next_entry(EntryKind.ERASE, snapshot.head)
                        engine.append(replace(entry, packs=snapshot.packs, data=self._erasures.data(shared)))
                except TurnLost as error:
                    log.debug("a turn was lost: %s", error.strerror)
                    self._take(engine)
                    continue
                after = self._exchange(engine)
                changes = (*before.changes, *buried.changes, *after.changes)
                erased = next(item for item in after.erased if item.number == entry.number)
                counts = {kind: number + erased.derived.get(kind, 0) for kind, number in derived.items()}
                return NodeErasure(replace(erased, derived=counts), paths, changes, copies)
        raise turn_lost(f"{_MAX_TURNS} turns in a row were lost")

    def has_topic_news(self) -> bool:
        """Return True if a topic may have data to append."""
        return any(topic.has_news() for topic in self._topics.values())

    @property
    def topic_fault(self) -> str:
        """The first reason why data of a topic is not shared; empty without one."""
        return next((topic.fault for topic in self._topics.values() if topic.fault), "")

    def count_unpublished(self) -> int:
        """Return the number of local versions that wait for the engine."""
        return self._heads.count_unpublished(self._state.seen.commit)

    def close(self) -> None:
        """Close the connection to the engine."""
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None

    def _open(self) -> SharedLog:
        if self._log is None:
            self._state = self._saved = self._file.read(self._store)
            self._instance = self._heads.store_id()
            engine = self._connect()
            offset = engine.now() - time.time_ns()
            self._clock_offset_ns = offset if abs(offset) > _MIN_CLOCK_OFFSET_NS else 0
            self._log = engine
        self._heads.set_clock(self._clock_offset_ns)
        return self._log

    def _now_ns(self) -> int:
        return time.time_ns() + self._clock_offset_ns

    # entries of others

    def _take(self, engine: SharedLog, *, is_turn: bool = False) -> None:
        """Read, check and store all entries that follow the last one.

        An erasure takes longer than a turn: then raise `TurnLost`.
        """
        asked = now_seconds()
        newest = engine.head()
        check_head(self._state.seen, newest)
        last = newest.number if self._last_entry is None else min(newest.number, self._last_entry)
        if not self._state.seen.number:
            self._take_snapshot(engine, last)
        while self._state.seen.number < last:
            count = min(_BATCH_ENTRIES, last - self._state.seen.number)
            if not self._take_batch(engine, count, is_turn=is_turn):
                return  # the log was rewound just now; the next exchange notices it
            self._save()
        self.current_at = asked

    def _take_batch(self, engine: SharedLog, limit: int, *, is_turn: bool) -> int:
        """Read and check the next entries, and return their number."""
        entries = engine.entries(self._state.seen.number, limit)
        check_entries(self._state.seen, entries)
        self._check_names(entries)
        if not entries:
            return 0
        count = next((index for index, entry in enumerate(entries) if is_erasure(entry)), len(entries))
        if not count:
            if is_turn:
                raise turn_lost("an erasure comes first")
            before = self._state.seen.number
            self._take_erasures(engine)
            return self._state.seen.number - before
        entries = entries[:count]
        try:
            self._take_entries(engine, entries)
        except LogRefused:
            if len(entries) == 1:
                raise
            for entry in entries:  # those before the refused one are taken
                self._take_entries(engine, [entry])
        return count

    def _check_names(self, entries: Sequence[Entry]) -> None:
        if not self._is_read_only:
            check_names(entries, self._store, self._name, self._instance)

    def _take_snapshot(self, engine: SharedLog, newest: int) -> None:
        """Take the entries that the newest snapshot covers, if it is sound, with its packs in place of theirs."""
        covered = self._snapshots.take(engine, newest, self._now_ns(), self._check_names)
        if covered is not None:
            self._take_topics(covered.entries)
            self._state = advanced(self._state, covered.head)
            self._taken += covered.head.number
            self._save()

    def _save(self) -> None:
        """Store the objects of the entries that were taken or appended, then the state that covers them."""
        if self._state == self._saved:
            return
        try:
            self._heads.store()
            self._file.write(self._state)
        except OSError:
            self._heads.drop()
            self._state = self._saved  # these entries are read again
            raise
        self._saved = self._state

    def _take_erasures(self, engine: SharedLog) -> None:
        """Carry out all erasures of the log that follow, and take the newest one's versions."""
        if self._erasures is None:
            raise LogRefused("the log has an erasure, which this node cannot carry out", "use the newer ctxfs")
        entries = self._erasures.find(engine, self._state.seen.number)
        check_entries(self._state.seen, entries)
        plans = {entry.number: self._erasures.check(entry) for entry in entries if entry.kind is EntryKind.ERASE}
        seen, last = self._state.seen.commit, entries[-1]
        is_member = self._erasures.is_member(engine, seen)
        for entry in entries:
            if entry.number in plans:
                seen = self._erasures.carry_out(entry, plans[entry.number], seen, is_member=is_member)
        self._accept(engine, [replace(last, previous=seen)] if seen != last.head else [], f"entry {last.number}")
        self._heads.store()
        self._heads.keep(last.head)
        self._take_topics([entry for entry in entries if entry.kind is not EntryKind.INDEX])  # whose vectors are erased
        for number, shared in plans.items():
            self._erasures.strip(engine, number, shared)
        self._state = advanced(self._state, Head(last.number, last.head))
        self._taken += len(entries)
        self._save()

    def _take_topics(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind in self._topics:
                self._topics[entry.kind].take(entry)

    def _take_entries(self, engine: SharedLog, entries: Sequence[Entry]) -> None:
        """Take entries whose objects are checked all at once."""
        last = entries[-1]
        self._accept(engine, entries, f"entry {last.number} of node '{last.node}'")
        self._take_topics(entries)
        self._state = advanced(self._state, Head(last.number, last.head))
        self._taken += len(entries)

    def _accept(self, engine: SharedLog, entries: Sequence[Entry], source: str) -> None:
        """Store the objects of entries, and check all of them. Raise `LogRefused` for objects that no store writes."""
        if not entries:
            return
        try:
            for entry in entries:
                if entry.kind is EntryKind.SNAPSHOT:
                    continue
                for pack in (entry.objects, *(read_pack(engine, name) for name in entry.packs)):
                    self._heads.write_objects(decode_pack(pack))
            self._heads.accept(
                [entries[0].previous, *(entry.head for entry in entries)],
                self._now_ns(),
                lambda large, file: engine.get(large.sha256, file, large.size),
                source,
            )
        except (PackError, CommandError) as error:
            self._heads.drop()
            cause = error.message if isinstance(error, CommandError) else str(error)
            raise LogRefused(f"{source} is refused: {cause}", "mend it there; this store stays as it is") from error

    def _follow(self, engine: SharedLog) -> tuple[tuple[PathChange, ...], tuple[bytes, ...]]:
        """Bring the work tree to the newest entry."""
        commit = self._state.seen.commit
        if not commit or not self._heads.is_behind(commit):
            return (), ()
        self._heads.fetch_missing(commit, lambda large, file: engine.get(large.sha256, file, large.size))
        result, changes = self._heads.follow(commit, self._actor())
        return tuple(changes), result.conflicts

    # own entries

    def _publish(self, engine: SharedLog) -> Publication | None:
        """Take the entries of others, and append the local versions; return None if the log has them."""
        if self._is_read_only:
            self._take(engine)
            return None
        local = self._heads.prepare_local(self._state.seen.commit, self._now_ns()) if self._state.has_joined else None
        if local is None or local.large or len(local.objects) > MAX_TURN_OBJECTS:
            self._take(engine)
        for _ in range(_MAX_TURNS):
            local = self._heads.prepare_local(self._state.seen.commit, self._now_ns())
            if local is None:
                return None
            if self._erase_brought(local):
                continue
            sent = send(engine, self._heads, local)
            try:
                with engine.lease(TURN):
                    start = time.perf_counter()
                    publication = self._append(engine, sent)
                    self._turn_seconds = time.perf_counter() - start
                    return publication
            except TurnLost as error:
                log.debug("a turn was lost: %s", error.strerror)
                before = self._state.seen.number
                self._take(engine)
                if self._erasures is not None and self._erasures.has_done_since(before):
                    engine.erase(0, sent.packs)  # which may hold contents that are erased now
        raise turn_lost(f"{_MAX_TURNS} turns in a row were lost")

    def _append(self, engine: SharedLog, sent: Sent) -> Publication | None:
        """Append in a turn: nothing changes the log meanwhile. The caller stores the objects."""
        while self._take_batch(engine, _BATCH_ENTRIES, is_turn=True) == _BATCH_ENTRIES:
            pass
        seen = self._state.seen
        publication = self._heads.prepare(seen.commit, self._actor(), self._now_ns(), sent.objects)
        if publication is None:
            return None
        if self._erasures is not None and self._erasures.brings_erased([oid for _, oid in publication.objects]):
            raise turn_lost("a publication has erased contents")
        rest = send(engine, self._heads, publication, is_turn=True)
        kind = EntryKind.VERSIONS if self._state.has_joined else EntryKind.JOIN
        entry = replace(self._next_entry(kind, publication.head), objects=rest.inline, packs=(*sent.packs, *rest.packs))
        engine.append(entry)
        self._advance(entry)
        return publication

    def _advance(self, entry: Entry) -> None:
        """Continue after an entry of this node."""
        self._state = advanced(self._state, Head(entry.number, entry.head), has_joined=True)
        self.current_at = now_seconds()
        self._snapshots.request_after(self._state.seen)

    def _erase_brought(self, publication: Publication) -> bool:
        """Erase contents of a publication that the shared store has erased; return True if there were any."""
        if self._erasures is None:
            return False
        paths = self._erasures.erase_brought([oid for _, oid in publication.objects], self._principal)
        for path in paths:
            log.warning("'%s' had a content that was erased in the shared store: erased again", display_path(path))
        return bool(paths)

    def _publish_topic(self, engine: SharedLog, kind: EntryKind, topic: Topic) -> None:
        """Append all data that waits in a topic, an entry each. A log without versions has none."""
        while self._state.seen.commit and (data := topic.pending()) is not None:
            try:
                entry = self._append_data(engine, kind, data)
            except TurnLost as error:
                log.debug("a turn was lost: %s", error.strerror)  # the next exchange tries again
                return
            topic.take(entry)
            self._advance(entry)
            self._save()

    def _append_data(self, engine: SharedLog, kind: EntryKind, data: bytes, packs: tuple[str, ...] = ()) -> Entry:
        """Append an entry with the head of the entry before."""
        with engine.lease(TURN):
            self._take(engine, is_turn=True)
            entry = replace(self._next_entry(kind, self._state.seen.commit), data=data, packs=packs)
            engine.append(entry)
        return entry

    def _publish_snapshot(self, engine: SharedLog) -> None:
        """Append a snapshot if this node has completed an interval. Joining works without it, so a failure is logged."""
        packs: tuple[str, ...] = ()
        try:
            data, packs = self._snapshots.put_due(engine)
            if packs:
                self._advance(self._append_data(engine, EntryKind.SNAPSHOT, data, packs))
                self._save()
        except OSError as error:
            log.warning("no snapshot of the shared log was made: %s", error.strerror or error)
            if isinstance(error, TurnLost):
                engine.erase(0, packs)  # which no entry names, and may hold contents that are erased now

    def _next_entry(self, kind: EntryKind, head: str) -> Entry:
        return Entry(
            number=self._state.seen.number + 1,
            head=head,
            previous=self._state.seen.commit,
            kind=kind,
            node=self._name,
            instance=self._instance,
            anchor=self._heads.anchor(),
        )

    def _actor(self) -> Actor:
        return Actor(self._principal, "shared", "shared")
