"""The shared log: an ordered list of entries that all nodes of a shared store read and append to.

An entry holds the head commit after a publication, and the git objects that earlier entries lack. `previous` chains the
entries: a node that remembers the last entry it has read notices a log that was rewound or split. Engines store entries
as bytes (`entries.py`) and decide about nothing but their order.
"""

import errno
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO, Protocol

from ctxfs.model.errors import CommandError, path_error

TURN = "turn"  # the lease of a publication
ANSWER_SECONDS = 4.0  # an engine that is silent for longer is unreachable
TURN_SECONDS = 5.0  # a holder that is silent for longer loses its turn
LEASE_WAIT_SECONDS = 30.0  # for the turns of others


class EntryKind(StrEnum):
    """The reason for an entry: versions, the first ones of a node, data of a topic, an erasure, or packs of all versions."""

    VERSIONS = "versions"
    JOIN = "join"
    RULES = "rules"
    CREDENTIALS = "credentials"
    APPROVALS = "approvals"
    ERASE = "erase"
    SNAPSHOT = "snapshot"
    INDEX = "index"
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry: its number (0: the log is empty) and head commit."""

    number: int
    commit: str


EMPTY = Head(0, "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log.

    `head` is the commit after it, `previous` that of the entry before (empty: none). `objects` is a pack of git objects
    (`object_pack.py`); `packs` are the sha256 of further packs, stored as contents. `instance` is the id of the node's
    store, `anchor` the heads of its event log and audit chains. `data` belongs to a topic (`topics.py`); such an entry has
    no objects, and usually the head of the entry before. `time_ns` is the engine's time of the append.
    """

    number: int
    head: str
    previous: str
    kind: EntryKind
    node: str
    instance: str
    objects: bytes = b""
    packs: tuple[str, ...] = ()
    anchor: str = ""
    data: bytes = b""
    time_ns: int = 0


class SharedLog(Protocol):
    """An engine of a shared log, for one store. One thread at a time uses an instance; `wait` has a thread of its own.

    Any method raises `Unreachable` if the engine does not answer within `ANSWER_SECONDS`, and `LogRefused` if it refuses
    this client. A later call connects again.
    """

    def head(self) -> Head:
        """Return the newest entry's number and commit."""
        ...

    def append(self, entry: Entry) -> int:
        """Append an entry durably, end the turn of this instance, and return the engine's time in nanoseconds.

        Raise `TurnLost`, with nothing appended, if `number` or `previous` does not continue the log.
        """
        ...

    def entries(self, after: int, limit: int) -> list[Entry]:
        """Return entries with higher numbers, in order, at most `limit`, and fewer if they are large.

        Raise `LogDamaged` for an entry that no node can have written, and for a gap.
        """
        ...

    def wait(self, after: int, seconds: float) -> bool:
        """Return True as soon as an entry with a higher number exists, False after `seconds`."""
        ...

    def put(self, sha256: str, source: BinaryIO) -> None:
        """Store a content under its hash, unless the engine has it."""
        ...

    def get(self, sha256: str, target: BinaryIO, max_bytes: int) -> None:
        """Write a content to `target`. Raise OSError: ENOENT if the engine lacks it, EIO if its hash differs, EFBIG."""
        ...

    def erase(self, before: int, contents: Collection[str]) -> None:
        """Remove the objects and packs of all entries with lower numbers (`stripping.py`), and these contents, durably.

        The entries keep their other fields. It can be repeated, also after a kill.
        """
        ...

    def lease(self, name: str, seconds: float = TURN_SECONDS) -> AbstractContextManager[None]:
        """Wait for a lease that one instance at a time holds. It ends with the block, the process, or `seconds` of silence.

        Raise `TurnLost` if others hold it for longer than `LEASE_WAIT_SECONDS`. A lease only orders the work: `append`
        is safe without one.
        """
        ...

    def now(self) -> int:
        """Return the engine's time in nanoseconds."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class Unreachable(OSError):
    """Raised if the engine does not answer."""


class TurnLost(OSError):
    """Raised if another node has appended first, or holds the turn."""


class LogDamaged(OSError):
    """Raised for entries that no node can have written."""


class LogRefused(CommandError):
    """Raised if the engine refuses this client, or holds another store or format."""


def unreachable(url: str, cause: str) -> Unreachable:
    """Return the error for an engine that does not answer."""
    return Unreachable(errno.EHOSTUNREACH, f"the engine of the shared store does not answer: {cause}", url)


def turn_lost(cause: str) -> TurnLost:
    """Return the error for a lost turn."""
    return TurnLost(errno.EBUSY, cause, TURN)


def damaged(number: int, cause: str) -> LogDamaged:
    """Return the error for an entry that is refused."""
    return LogDamaged(errno.EBADMSG, f"entry {number} of the shared log is refused: {cause}", str(number))


def missing_content(sha256: str) -> OSError:
    """Return the error for a content that the engine lacks."""
    return path_error(errno.ENOENT, sha256, "the engine of the shared store lacks this content")


def all_entries(log: SharedLog, after: int, batch: int = 100) -> Iterator[Entry]:
    """Yield all entries with higher numbers, in order."""
    while entries := log.entries(after, batch):
        yield from entries
        after = entries[-1].number
