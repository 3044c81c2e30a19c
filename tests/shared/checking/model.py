"""The model of a shared store: each operation with those that its node had seen, and the outcome that follows.

An operation is the difference that it makes in the tree of its node. Two operations are concurrent if neither node knew
the other's. Each written line has a token that no other line has.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tests.shared.checking.snapshot import Snapshot, State

Vector = Mapping[str, int]  # by actor: the number of its operations that are known


@dataclass(frozen=True, slots=True)
class Event:
    """One operation of an actor, with the number of operations of each actor that it had seen."""

    actor: str
    number: int
    known: Vector
    label: str

    def is_after(self, other: "Event") -> bool:
        """Return True if this operation had seen the other one."""
        return self is not other and self.known.get(other.actor, 0) >= other.number

    def __str__(self) -> str:
        return f"{self.actor}#{self.number} {self.label}"


@dataclass(frozen=True, slots=True)
class Touch:
    """The change of one path by an operation."""

    event: Event
    before: State | None
    after: State | None


def joined(one: Vector, two: Vector) -> Vector:
    """Return the operations that are known to one or the other."""
    return {actor: max(one.get(actor, 0), two.get(actor, 0)) for actor in {*one, *two}}


class Model:
    """All operations of a run."""

    def __init__(self) -> None:
        self.touches: dict[str, list[Touch]] = defaultdict(list)
        self.events: list[Event] = []
        self._births: dict[bytes, dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
        self._deaths: dict[bytes, dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
        self._kills: dict[bytes, list[Event]] = defaultdict(list)  # the whole tree of the node lacks the token
        self.lines: dict[str, list[bytes]] = defaultdict(list)  # by path of a log: the tokens appended to it

    def record(self, event: Event, before: Snapshot, after: Snapshot) -> None:
        """Record an operation, with the tree of its node before and after it."""
        self.events.append(event)
        lost, left = set[bytes](), {token for state in after.values() for token in state.tokens}
        for path in before.keys() | after.keys():
            old, new = before.get(path), after.get(path)
            if old == new:
                continue
            self.touches[path].append(Touch(event, old, new))
            old_tokens, new_tokens = (state.tokens if state else frozenset() for state in (old, new))
            for token in new_tokens - old_tokens:
                self._births[token][path].append(event)
            for token in old_tokens - new_tokens:
                self._deaths[token][path].append(event)
                lost.add(token)
        for token in lost - left:
            self._kills[token].append(event)

    def faults(self, final: Snapshot) -> list[str]:
        """Return the differences between the outcome and this model."""
        tokens = {token for state in final.values() for token in state.tokens}
        faults = []
        for token in self._births:
            if token not in tokens and (birth := self._surviving(token)) is not None:
                faults.append(f"{token.decode()} of {birth} is lost; removed by {_names(self._kills[token])}")
            if token in tokens and (kill := self._final_kill(token)) is not None:
                where = [path for path, state in final.items() if token in state.tokens]
                faults.append(f"{token.decode()} is back in {where}, but {kill} removed it")
        return [*faults, *self._path_faults(final)]

    def _surviving(self, token: bytes) -> Event | None:
        """Return a write of the token that no operation took back, knowingly or at the same time."""
        copies = [
            event for path, deaths in self._deaths[token].items() if path not in self._births[token] for event in deaths
        ]
        for path, births in self._births[token].items():
            ends = [*self._deaths[token].get(path, ()), *self._kills[token], *copies]
            for birth in births:
                if all(birth.is_after(end) for end in ends):
                    return birth
        return None

    def _final_kill(self, token: bytes) -> Event | None:
        """Return an operation that removed the token, and had seen all operations on the paths that ever had it."""
        paths = {*self._births[token], *self._deaths[token]}
        touches = [touch.event for path in paths for touch in self.touches[path]]
        for kill in self._kills[token]:
            if all(kill is event or kill.is_after(event) for event in touches):
                return kill
        return None

    def _path_faults(self, final: Snapshot) -> list[str]:
        """Compare each path without concurrent operations with its last one."""
        faults = []
        for path, touches in self.touches.items():
            last = self._last(touches)
            if last is None or self._has_concurrent_parent(path, last.event):
                continue
            state = final.get(path)
            is_directory = "directory" in {each.kind for each in (last.before, last.after, state) if each}
            if is_directory and last.after is None and any(name.startswith(f"{path}/") for name in final):
                continue  # another node has put a file into it
            if _comparable(state) != _comparable(last.after):
                faults.append(f"{path} is {_shown(state)}, but {last.event} made it {_shown(last.after)}")
                faults += [f"    {touch.event} {touch.event.known}: {_shown(touch.after)}" for touch in touches]
        return faults

    def _last(self, touches: list[Touch]) -> Touch | None:
        for touch in touches:
            if all(touch is other or touch.event.is_after(other.event) for other in touches):
                return touch
        return None

    def _has_concurrent_parent(self, path: str, event: Event) -> bool:
        """Return True if another operation replaced a directory above the path, or made one, at the same time."""
        while "/" in path:
            path = path.rpartition("/")[0]
            others = (touch.event for touch in self.touches.get(path, ()))
            if any(other is not event and not event.is_after(other) for other in others):
                return True
        return False

    def line_faults(self, path: str, content: bytes) -> list[str]:
        """Compare a log with the lines appended to it: each is there once."""
        found = content.split()
        faults = [
            f"{line!r} is {found.count(line)} times in {path}" for line in self.lines[path] if found.count(line) != 1
        ]
        return faults + [f"{line!r} in {path} was never written" for line in {*found} - {*self.lines[path]}]


def _names(events: list[Event]) -> str:
    return ", ".join(map(str, events)) or "none"


def _comparable(state: State | None) -> State | None:
    """Return a state without the mark `frozen`, which a commit puts back after a rename over the file."""
    if state is None:
        return None
    return replace(state, attributes=tuple(item for item in state.attributes if item[0] != "user.ctx.frozen"))


def _shown(state: State | None) -> str:
    if state is None:
        return "absent"
    return f"{state.kind} {state.mode:o} {sorted(state.tokens)} {state.attributes} {state.digest[:4].hex()}"
