"""The operations of each principal in the last hour, from the audit. A request reads only new lines."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ctxfs.eventlog.appended_lines import AppendedLines
from ctxfs.eventlog.audit import SESSION, Audit
from ctxfs.eventlog.chain import parse_record
from ctxfs.eventlog.spool import OK

_NEWEST_BYTES = 4 << 20
_MAX_OPERATIONS = 20_000
_HOUR_SECONDS = 3600.0
_READS = frozenset(("read", "past"))
_QUESTIONS = frozenset(("search", "context"))
_WRITES = frozenset(("write", "create", "delete", "rename", "meta", "record"))
_REFUSED = frozenset(("EACCES", "EPERM"))


@dataclass(slots=True)
class PrincipalActivity:
    """The number of operations of a principal, and the time of the last one."""

    principal: str
    reads: int = 0
    writes: int = 0
    questions: int = 0
    refused: int = 0
    last: str = ""


class _Operation(NamedTuple):
    """A record: its first and last time, and the counter of `PrincipalActivity` that it raises, empty for none."""

    at: str
    until: str
    principal: str
    counter: str
    times: int


class RecentActivity:
    """The activity in one audit. Methods block, and may be called by any thread."""

    def __init__(self, audit: Audit) -> None:
        self._log = audit.log
        self._lines = AppendedLines(audit.log, SESSION, _NEWEST_BYTES)
        self._lock = threading.Lock()  # protects the positions and the operations
        self._operations = deque[_Operation](maxlen=_MAX_OPERATIONS)
        self._known_since = ""  # the time from which on all operations are here; empty if that is always

    def read(self) -> tuple[Sequence[PrincipalActivity], bool]:
        """Return (the principals of the last hour, the most recent first; True if all operations of the hour are counted)."""
        since = datetime.fromtimestamp(time.time() - _HOUR_SECONDS, UTC).isoformat(timespec="milliseconds")
        with self._lock:
            days = self._log.days()[-2:]
            if any(map(self._lines.is_replaced, days)):
                self._operations.clear()
                for day in days:
                    self._lines.forget(day)
            for day in days:
                for block in self._lines.read(day):
                    self._add(block)
            if self._lines.has_skipped and not self._known_since and self._operations:
                self._known_since = self._operations[0].at
            while self._operations and self._operations[0].until < since:
                self._operations.popleft()
            principals: dict[str, PrincipalActivity] = {}
            for operation in self._operations:
                if operation.at >= since:
                    _count(
                        principals.setdefault(operation.principal, PrincipalActivity(operation.principal)), operation
                    )
        return sorted(principals.values(), key=lambda row: row.last, reverse=True), self._known_since < since

    def _add(self, block: bytes) -> None:
        for line in block.splitlines():
            with contextlib.suppress(ValueError):
                if (operation := _operation_of(parse_record(line))) is not None:
                    is_full = len(self._operations) == _MAX_OPERATIONS
                    self._operations.append(operation)
                    if is_full:
                        self._known_since = self._operations[0].at


def _operation_of(record: Mapping[str, Any]) -> _Operation | None:
    """Return an operation; None for the record of one that was erased."""
    principal, at = str(record.get("principal", "")), str(record.get("at", ""))
    if not principal:
        return None
    names, op = record.get("names"), record.get("op")
    times = len(names) if isinstance(names, list) else int(record.get("times", 1))
    counter = "writes" if op in _WRITES else ""
    counter = "reads" if op in _READS else "questions" if op in _QUESTIONS else counter
    counter = "refused" if record.get("outcome", OK) in _REFUSED else counter
    return _Operation(at, str(record.get("until", at)), principal, counter, times)


def _count(row: PrincipalActivity, operation: _Operation) -> None:
    row.last = max(row.last, operation.until)
    if operation.counter:
        setattr(row, operation.counter, getattr(row, operation.counter) + operation.times)
