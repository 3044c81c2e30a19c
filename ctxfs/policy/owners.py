"""Owners of tasks in `context/` and of saved queries in `search/`.

Rules cannot express them: the creator chooses such a path.

`<store>/owners.jsonl` has a line for each change: `[time_ns, area, name, [principals]]`. A name without a line belongs
to persons.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path as HostPath

from ctxfs.model.path import Path
from ctxfs.model.principal import Principal

log = logging.getLogger(__name__)

OWNED_AREAS = ("context", "search")
NEVER = 1 << 62  # a time in nanoseconds after every version
MAX_RECORDS = 50_000
_Key = tuple[str, ...]  # area and name
_Spans = list[tuple[int, frozenset[str]]]


class Owners:
    """The owners of tasks and saved queries over time, cached in memory.

    `exists` returns True for a path in the work tree.
    """

    def __init__(self, file: HostPath, exists: Callable[[Path], bool]) -> None:
        self._file = file
        self._exists = exists
        self._spans: dict[_Key, _Spans] = {}
        self._records = 0
        self._load()

    def owners_of(self, path: Path) -> frozenset[str]:
        """Return the current owners of the task or saved query that contains `path`; an empty set without a record."""
        spans = self._spans.get(path.parts[:2])
        return spans[-1][1] if spans else frozenset()

    def may_use(self, principal: Principal, path: Path) -> bool:
        """Return True where the rules alone decide: for a person, for an owner, and at a name that is free.

        A name that exists without a record is closed to all principals but persons.
        """
        if principal.is_person or len(path.parts) < 2 or path.parts[0] not in OWNED_AREAS:
            return True
        return str(principal) in self.owners_of(path) or not self._exists(Path(path.parts[:2]))

    def owns(self, principal: Principal, path: Path) -> bool:
        """Return True for a person, and for an owner of the task or saved query, whether or not it exists now."""
        return principal.is_person or str(principal) in self.owners_of(path)

    def owned_since(self, principal: Principal, path: Path) -> int:
        """Return the start of a principal's current ownership, in nanoseconds; NEVER if it is not an owner."""
        since = NEVER
        for time_ns, owners in reversed(self._spans.get(path.parts[:2], ())):
            if str(principal) not in owners:
                break
            since = time_ns
        return since

    def set_owners(self, path: Path, principals: Sequence[str] | frozenset[str]) -> None:
        """Record the owners of a task or saved query from now on.

        Raise `OSError`, with nothing changed, if the record cannot be written.
        """
        area, name = path.parts
        owners = frozenset(principals)
        if self.owners_of(path) == owners:
            return
        if self._records >= 2 * MAX_RECORDS:
            self._compact()
        now = time.time_ns()
        self._append([[now, area, name, sorted(owners)]])
        self._spans.setdefault((area, name), []).append((now, owners))
        self._records += 1

    def _append(self, lines: Sequence[object]) -> None:
        data = "".join(json.dumps(line) + "\n" for line in lines).encode()
        fd = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(fd, "r+b", buffering=0) as out:
            size = out.seek(0, os.SEEK_END)
            if size and os.pread(fd, 1, size - 1) != b"\n":
                data = b"\n" + data  # the last line was cut off by a power cut
            out.write(data)
            os.fsync(fd)

    def _load(self) -> None:
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            if not line:
                continue
            try:
                when, area, name, owners = json.loads(line)
                self._spans.setdefault((str(area), str(name)), []).append((int(when), frozenset(map(str, owners))))
                self._records += 1
            except (ValueError, TypeError):
                log.warning("a line of '%s' cannot be read; its task or query belongs to persons", self._file)

    def _compact(self) -> None:
        """Rewrite the file with the records of existing names, and the newest records of names that are gone."""
        newest = sorted(self._spans, key=lambda key: self._spans[key][-1][0], reverse=True)
        compacted: dict[_Key, _Spans] = {}
        count = 0
        for key in newest:
            if count < MAX_RECORDS or self._exists(Path(key)):
                compacted[key] = self._spans[key][-100:]
                count += len(compacted[key])
        lines = sorted([when, *key, sorted(owners)] for key, spans in compacted.items() for when, owners in spans)
        temporary = self._file.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        original, self._file = self._file, temporary
        try:
            self._append(lines)
        finally:
            self._file = original
        os.replace(temporary, self._file)
        self._spans, self._records = compacted, count
