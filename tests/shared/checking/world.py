"""Nodes of a shared store in this process, the faults that befall them, and the model of their operations.

All is done in one thread and chosen by one generator of random numbers, so a seed replays a run. A killed process is an
exception that no code catches, or a child that is killed at some moment of its exchange.
"""

import contextlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from ctxfs.model.errors import CommandError
from ctxfs.shared.engines import open_log
from ctxfs.shared.log import Entry, Head, LogRefused, SharedLog, Unreachable, all_entries, unreachable
from ctxfs.shared.node import Node
from ctxfs.shared.node_state import NodeStateFile
from tests.shared.checking.faulty_log import FaultyLog
from tests.shared.checking.model import Event, Model, Vector, joined
from tests.shared.checking.snapshot import Snapshot, TreeReader
from tests.shared.engines import PASSWORD
from tests.versions.conftest import Past, check_sound

DAY_NS = 86_400 * 10**9
_REAL_TIME_NS = time.time_ns
_MAX_SETTLING_ROUNDS = 30
_TRACED = 30  # operations that a fault shows
_MAX_EXCHANGE_SECONDS = 120
# The seconds that an exchange waits for a file that stays open.
WAIT_FOR_OPEN_FILES = "ctxfs.versions.rollback._WAIT_SECONDS", 0.02
# A fork of this process would lack the threads of the engines' clients, and wait for them forever.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.shared.checking.world"])


def _kill_after(calls: int) -> None:
    """Kill this process at a later call that opens, renames, removes or flushes a file."""
    left = itertools.count(calls, -1)

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in ("open", "rename", "replace", "link", "unlink", "fsync", "mkdir", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))


def _exchange_until_killed(folder: Path, url: str, store: str, name: str, clock_ns: int, calls: int) -> None:
    """Exchange as the node of a folder, in a process of its own, without faults but its death."""
    world = World(folder, url, store, seed=0, nodes=0)
    _kill_after(calls)
    with mock.patch("time.time_ns", world.time_ns), mock.patch(*WAIT_FOR_OPEN_FILES):
        member = Member(world, name, clock_ns)
        with world.clock(member), contextlib.suppress(CommandError, OSError):
            member.node.exchange()


class Killed(BaseException):
    """Raised in place of a SIGKILL."""


class Member:
    """A store, its node, and the operations that it has seen."""

    def __init__(self, world: "World", name: str, clock_ns: int) -> None:
        self._world = world
        self.name = name
        self.clock_ns = clock_ns  # of its machine, compared with the engine's
        self.actor = name  # another one after it was restored from a backup
        self.count = 0
        self.known: Vector = {}
        self.prepared = 0  # operations that its last publication contains
        self.is_cut = False
        self.is_busy = False  # an exchange of it is under way
        self.handles: list[tuple[int, str]] = []
        self.heads: set[str] = set()
        with world.clock(self):
            self.past = Past(world.folder / name)
        self.reader = TreeReader(self.past.tree)
        self.node = self.new_node()

    def new_node(self) -> Node:
        heads = self.past.archive.shared
        prepare = heads.prepare

        def counted(*arguments: object, **options: object) -> object:
            self.prepared = self.count
            return prepare(*arguments, **options)  # type: ignore[arg-type]

        heads.prepare = counted  # type: ignore[method-assign, assignment]
        state = NodeStateFile(self.past.layout.repo)
        return Node(heads, state, self._world.store, self.name, "human:owner", self._connect)

    def _connect(self) -> SharedLog:
        self._world.on_request(self, "connect")
        log = FaultyLog(self._world.open_log(), lambda request: self._world.on_request(self, request))
        log.acknowledged = self._world.acknowledged
        return log

    def restart(self) -> None:
        self.node.close()
        self.past.close()
        self.reopen()

    def crash(self) -> None:
        self.node.close()
        self.past.crash()
        for writer in self.past._writers.values():
            writer.close()
        self.past._writers.clear()
        self.reopen()

    def reopen(self) -> None:
        with self._world.clock(self):
            self.past.reopen()
        self.node = self.new_node()


class World:
    """The nodes, their engine and the model. `is_calm` ends all faults."""

    def __init__(self, folder: Path, engine_url: str, store: str, seed: int, nodes: int) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.url = engine_url
        self.store = store
        self.model = Model()
        self.is_calm = True
        self.acknowledged: list[Head] = []
        self.entries: list[Entry] = []
        self.published: list[Vector] = [{}]  # by number of the entry
        self.counts: dict[str, int] = {}  # of operations and faults, for the report
        self.between: Callable[[Member], None] = lambda member: None
        self.trace: deque[str] = deque(maxlen=_TRACED)
        self._shift_ns = 0
        self._depth = 0
        self._turns = 0
        self._tokens = 0
        self._observer: SharedLog | None = None
        clocks = [0, DAY_NS * 9 // 10, -DAY_NS, 0]
        self.members = [Member(self, f"n{number}", clocks[number]) for number in range(nodes)]

    # time and engine

    def time_ns(self) -> int:
        """Return the time of the machine that acts now."""
        return _REAL_TIME_NS() + self._shift_ns

    @contextlib.contextmanager
    def clock(self, member: Member) -> Iterator[None]:
        """Use the clock of a member's machine."""
        before, self._shift_ns = self._shift_ns, member.clock_ns
        try:
            yield
        finally:
            self._shift_ns = before

    def open_log(self) -> SharedLog:
        return open_log(self.url, self.store, PASSWORD, create=True)

    def on_request(self, member: Member, request: str) -> None:
        """Let something happen before a request of a member reaches the engine."""
        if request == "lease:ends":
            self._turns -= 1
            return
        if not self.is_calm:
            self._disturb(member, request)
        if request == "lease:held":
            self._turns += 1

    def _disturb(self, member: Member, request: str) -> None:
        draw = self.chance.random()
        if member.is_cut or draw < (0.1 if request == "append:done" else 0.01):
            self.count("cut")
            raise unreachable(self.url, "cut off by the checker")
        if draw > (0.95 if request == "append:done" else 0.985):
            self.count("kill")
            raise Killed
        if self._depth < 2 and draw > 0.8:
            self._depth += 1
            try:
                self.between(member)
            finally:
                self._depth -= 1

    @property
    def has_turn(self) -> bool:
        """Return True if a node holds a turn, so that another one would wait for it."""
        return self._turns > 0

    def observe(self, member: Member) -> None:
        """Take note of the entries that a member has appended, and of those that it follows."""
        if self._observer is None:
            self._observer = self.open_log()
        for entry in all_entries(self._observer, len(self.entries)):
            assert entry.node == member.name, f"{entry.node} appended while {member.name} had its turn"
            own = {**member.known, member.actor: member.prepared}
            self.published.append(joined(self.published[-1], own))
            self.entries.append(entry)
        for entry in reversed(self.entries):
            with contextlib.suppress(OSError):
                if not member.past.archive.shared.is_behind(entry.head):
                    member.known = joined(member.known, self.published[entry.number])
                    break
        for path in self.model.lines:
            lines = (member.past.tree / path).read_bytes().split() if (member.past.tree / path).exists() else []
            assert len(lines) == len(set(lines)), f"lines of {path} are doubled at {member.name}"
        head = member.past.archive.head
        if head is not None:
            member.heads.add(head.oid)

    def forget_log(self, store: str) -> None:
        """Begin another log."""
        if self._observer is not None:
            self._observer.close()
            self._observer = None
        self.store = store
        self.entries.clear()
        self.acknowledged.clear()
        del self.published[1:]

    # operations

    def count(self, label: str) -> None:
        self.counts[label] = self.counts.get(label, 0) + 1

    def token(self) -> str:
        """Return a word that no other content has."""
        self._tokens += 1
        return f"<t{self._tokens}>"

    def perform(self, member: Member, label: str, work: Callable[[], object]) -> None:
        """Do an operation at a node, and record its difference."""
        before = member.reader.read()
        try:
            with self.clock(member):
                work()
        finally:
            after = member.reader.read()
            if after != before:
                member.count += 1
                member.known = {**member.known, member.actor: member.count}
                self.model.record(Event(member.actor, member.count, member.known, label), before, after)
                self.count(label)
                self.trace.append(f"{member.actor}#{member.count} {label}")

    def exchange(self, member: Member) -> bool:
        """Let a node exchange versions; return False if it could not. It may be killed meanwhile."""
        turns, member.is_busy = self._turns, True
        try:
            with self.clock(member):
                result = member.node.exchange()
            self.trace.append(f"{member.name} has exchanged: {result}"[:300])
            return True
        except Killed:
            self.trace.append(f"{member.name} was killed")
            self._turns = turns
            member.crash()
            return False
        except (OSError, CommandError) as error:
            self.trace.append(f"{member.name} has failed: {error}")
            self.check_fault(member, error)
            return False
        finally:
            member.is_busy = False
            self.observe(member)

    def check_fault(self, member: Member, error: Exception) -> None:
        """Raise a fault of an exchange that nothing here explains."""
        if isinstance(error, Unreachable):
            assert not self.is_calm, error
        elif isinstance(error, LogRefused) or not (member.handles or "open for writing" in str(error)):
            raise error
        self.count("exchange fails")

    def kill_in_exchange(self, member: Member, calls: int) -> None:
        """Exchange in another process, which is killed at its n-th call that changes files."""
        member.node.close()
        member.past.close()
        arguments = self.folder, self.url, self.store, member.name, member.clock_ns, calls
        child = _SERVER.Process(target=_exchange_until_killed, args=arguments)
        child.start()
        child.join(_MAX_EXCHANGE_SECONDS)
        assert child.exitcode in (0, -signal.SIGKILL), f"the exchange of {member.name} hangs or fails: {child.exitcode}"
        member.prepared = member.count
        member.reopen()
        self.observe(member)
        self.trace.append(f"{member.name} was killed at its call {calls}")
        self.count("kill -9" if child.exitcode == -signal.SIGKILL else "kill -9 too late")

    def backup(self, member: Member, target: Path) -> tuple[Vector, int]:
        """Copy a node's folder, when all its changes have versions."""
        member.restart()
        member.node.close()
        member.past.close()
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(member.past.layout.root, target, symlinks=True)
        member.reopen()
        return member.known, member.count

    def restore(self, member: Member, source: Path, known: Vector) -> None:
        """Replace a node's folder with the copy. All its versions must be published."""
        member.node.close()
        member.past.close()
        shutil.rmtree(member.past.layout.root)
        shutil.copytree(source, member.past.layout.root, symlinks=True)
        member.reopen()
        member.actor += "r"
        member.count = 0
        member.known = known
        self.count("restore")

    def close(self) -> None:
        """Close all nodes."""
        for member in self.members:
            member.node.close()
            member.past.close()
        if self._observer is not None:
            self._observer.close()

    # outcome

    def settle(self) -> None:
        """End all faults, and exchange until nothing is new, also after a restart of all nodes."""
        self.is_calm = True
        for member in self.members:
            member.is_cut = False
            while member.handles:
                os.close(member.handles.pop()[0])
        for _ in range(2):
            for member in self.members:
                member.restart()
            self._exchange_all()

    def _exchange_all(self) -> None:
        for _ in range(_MAX_SETTLING_ROUNDS):
            before = [(member.past.archive.head, member.node.seen) for member in self.members]
            done = [self.exchange(member) for member in self.members]
            if all(done) and before == [(member.past.archive.head, member.node.seen) for member in self.members]:
                return
        raise AssertionError("the nodes exchange for ever")

    def faults(self) -> list[str]:
        """Return all faults of settled nodes."""
        faults = []
        trees = [self._content(member) for member in self.members]
        heads = {(member.node.seen, member.past.archive.newest) for member in self.members}
        if len(heads) != 1:
            faults.append(f"the nodes have {len(heads)} heads: {heads}")
        for member, tree in zip(self.members, trees, strict=True):
            if tree != trees[0]:
                different = [path for path in {*tree, *trees[0]} if tree.get(path) != trees[0].get(path)]
                faults.append(f"{member.name} differs from {self.members[0].name} in {different[:5]}")
        faults += self.model.faults(trees[0])
        for path in self.model.lines:
            faults += self.model.line_faults(path, (self.members[0].past.tree / path).read_bytes())
            stem = os.path.splitext(path)[0]
            faults += [f"{name} is a conflict of a log" for name in trees[0] if name.startswith(f"{stem}.conflict")]
        faults += self._log_faults()
        if not faults:
            for member in self.members:
                check_sound(member.past)
        return faults

    def _content(self, member: Member) -> Snapshot:
        return member.reader.read()

    def _log_faults(self) -> list[str]:
        log = self.open_log()
        heads = [Head(entry.number, entry.head) for entry in all_entries(log, 0)]
        log.close()
        faults = [f"acknowledged {head} is not in the log" for head in self.acknowledged if head not in heads]
        if heads[: len(self.entries)] != [Head(entry.number, entry.head) for entry in self.entries]:
            faults.append("entries of the log have changed")
        for member in self.members:
            shared = member.past.archive.shared
            faults += [f"the version {oid} of {member.name} is lost" for oid in member.heads if shared.is_behind(oid)]
        return faults
