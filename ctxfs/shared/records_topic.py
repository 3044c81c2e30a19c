"""A topic of records: texts by name, of which an entry holds those that one node has changed.

The data of an entry is a zlib stream of a JSON object: name → text, or null for a removed record. If two nodes change a
record at once, the later entry wins. The state of a topic on a node is `<repository>/ctxfs-topic-<name>.json`: the last
entry, and the digest of each record as the log has it. A record that differs from it has been changed on this node.
"""

import contextlib
import hashlib
import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as HostPath
from typing import Any, Protocol

from ctxfs.model.errors import CommandError
from ctxfs.shared.entries import MAX_DATA_BYTES
from ctxfs.shared.log import Entry, LogRefused
from ctxfs.store.durable_file import replace_file

log = logging.getLogger(__name__)

MAX_UNPACKED_BYTES = 8_000_000
MAX_NAME_CHARACTERS = 500
MAX_RECORDS = 20_000
_TARGET_BYTES = 500_000  # of texts in an entry that holds several records
_FORMAT = 1

Changes = Mapping[str, str | None]


class Records(Protocol):
    """The records of one kind on this node."""

    def stamp(self) -> object:
        """Return a value that differs after a change. It is fast."""
        ...

    def read(self) -> Mapping[str, str]:
        """Return all records. Raise OSError or CommandError if they cannot be read; an empty text is none."""
        ...

    def check(self, changes: Changes) -> None:
        """Raise CommandError or ValueError for changes that no node can have made."""
        ...

    def apply(self, changes: Changes) -> None:
        """Store changed records."""
        ...

    def keep_remote(self, old: Changes, new: Changes, node: str) -> None:
        """Keep a trace of changes of `node` that are never in force here: `new` ones of this node are later."""
        ...

    def keep_local(self, old: Changes, node: str) -> None:
        """Keep a trace of unpublished records of this node that those of `node` replace. It precedes `apply`."""
        ...


@dataclass(slots=True)
class _State:
    """The number of the last entry, the digests of the log's records, and True once this node has published its own."""

    number: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    has_joined: bool = False


class RecordsTopic:
    """Shares one kind of records. A node that joins takes the log's records before its own of the same names."""

    def __init__(self, name: str, records: Records, repo: HostPath) -> None:
        self._name = name
        self._records = records
        self._file = repo / f"ctxfs-topic-{name}.json"
        self._state: _State | None = None
        self._quiet_stamp: object = None
        self.fault = ""

    def has_news(self) -> bool:
        """Return True if this node's records may have changed since nothing was pending. It is fast."""
        return self._records.stamp() != self._quiet_stamp

    def pending(self) -> bytes | None:
        """Return the data of the next entry. See `Topic.pending`. A fault of this node's records stays in `fault`."""
        state, stamp = self._read_state(), self._records.stamp()
        if stamp == self._quiet_stamp:
            return None
        try:
            changes = self._local_changes(state)
            self._records.check(changes)
            data = encode_changes(_first_part(changes)) if changes else None
        except (OSError, ValueError, CommandError) as error:
            self._set_fault(_cause_of(error))
            self._quiet_stamp = stamp
            return None
        self._set_fault("")
        if not state.has_joined:
            state.has_joined = True
            self._write_state()
        if data is None:
            self._quiet_stamp = stamp
        return data

    def take(self, entry: Entry) -> None:
        """Apply the records of an entry. See `Topic.take`."""
        state = self._read_state()
        if entry.number <= state.number:
            return
        try:
            changes = decode_changes(entry.data)
            self._records.check(changes)
        except (ValueError, CommandError) as error:
            raise LogRefused(
                f"entry {entry.number} of node '{entry.node}' is refused: its {self._name} are broken:"
                f" {_cause_of(error)}",
                "mend them there; those of this store stay as they are",
            ) from error
        current, local = self._records.read(), self._local_changes(state)
        is_local_later = state.has_joined and self._are_valid(local)
        clashes = {name for name in changes if name in local and (changes[name] or "") != current.get(name, "")}
        if is_local_later and clashes:
            own = {name: current.get(name) for name in clashes}
            self._records.keep_remote({name: changes[name] for name in clashes}, own, entry.node)
        elif clashes:
            self._records.keep_local({name: current.get(name) for name in clashes}, entry.node)
        kept = clashes if is_local_later else set()
        self._records.apply({name: text for name, text in changes.items() if name not in kept})
        for name, text in changes.items():
            state.digests[name] = _digest(text)
            if not state.digests[name]:
                del state.digests[name]
        state.number = entry.number
        self._write_state()
        self._quiet_stamp = None

    def _local_changes(self, state: _State) -> dict[str, str | None]:
        """Return the records that differ from those of the log."""
        current = self._records.read()
        names = sorted({*current, *state.digests})
        return {
            name: current.get(name) or None
            for name in names
            if _digest(current.get(name)) != state.digests.get(name, "")
        }

    def _are_valid(self, changes: Changes) -> bool:
        """Return False for local changes that are never published: then the log's records win."""
        try:
            self._records.check(changes)
        except (ValueError, CommandError):
            return False
        return True

    def _set_fault(self, fault: str) -> None:
        if fault and fault != self.fault:
            log.error("the %s of this node are not shared: %s", self._name, fault)
        self.fault = fault

    def _read_state(self) -> _State:
        if self._state is None:
            self._state = _State()
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                values = json.loads(self._file.read_text(encoding="utf-8"))
                if values["format"] == _FORMAT:
                    digests = {str(name): str(digest) for name, digest in dict(values["digests"]).items()}
                    self._state = _State(int(values["number"]), digests, bool(values["has_joined"]))
        return self._state

    def _write_state(self) -> None:
        state = self._read_state()
        values = {
            "format": _FORMAT,
            "number": state.number,
            "digests": state.digests,
            "has_joined": state.has_joined,
        }
        replace_file(self._file, json.dumps(values).encode(), 0o600)


def remove_states(repo: HostPath) -> None:
    """Remove the state of all topics: the store leaves."""
    for file in repo.glob("ctxfs-topic-*.json"):
        file.unlink(missing_ok=True)


def encode_changes(changes: Changes) -> bytes:
    """Return the data of an entry. Raise CommandError if it is too large."""
    text = json.dumps(changes, ensure_ascii=False).encode()
    data = zlib.compress(text)
    if len(data) > MAX_DATA_BYTES or len(text) > MAX_UNPACKED_BYTES:
        raise CommandError(f"{len(text)} bytes are too large to be shared: '{min(changes)[:50]}'", "make it smaller")
    return data


def decode_changes(data: bytes) -> Changes:
    """Return the changes in an entry's data. Raise ValueError for data that `encode_changes` cannot have made."""
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(data, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise ValueError("the data is damaged") from error
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("the data is truncated or too large")
    try:
        changes: Any = json.loads(text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(changes, dict) or not 0 < len(changes) <= MAX_RECORDS:
        raise ValueError("the data is not a table of records")
    for name, value in changes.items():
        if not (0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable()):
            raise ValueError(f"{name[:50]!r} is not a name")
        if value is not None and not isinstance(value, str):
            raise ValueError(f"the record '{name[:50]}' is not a text")
        (value or "").encode()  # ValueError for half a surrogate pair
    return changes


def _first_part(changes: Changes) -> dict[str, str | None]:
    """Return the first changes, of about `_TARGET_BYTES`: at least one."""
    part, size = dict[str, str | None](), 0
    for name, text in changes.items():
        size += len(name) + len(text or "")
        if part and (size > _TARGET_BYTES or len(part) == MAX_RECORDS):
            break
        part[name] = text
    return part


def _digest(text: str | None) -> str:
    """Return the digest of a record; empty for none."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() if text else ""


def _cause_of(error: Exception) -> str:
    if isinstance(error, CommandError):
        return error.message
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
