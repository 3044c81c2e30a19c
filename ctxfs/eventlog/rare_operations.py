"""The records of one rare operation in an audit, each found once: a later request reads only the lines after them."""

import contextlib
import threading
from typing import Any

from ctxfs.eventlog.appended_lines import AppendedLines
from ctxfs.eventlog.chain import body_of, parse_record
from ctxfs.eventlog.log import EventLog, encode_member, lines_with


class RareOperations:
    """The records of an operation, in memory: it must be rare. Methods block, and may be called by any thread."""

    def __init__(self, log: EventLog, session: str, op: str) -> None:
        """Take the session of the records, and the value of their member `op`."""
        self._log = log
        self._op = op
        self._lines = AppendedLines(log, session)
        self._lock = threading.Lock()  # protects the positions and the records
        self._records: dict[str, list[dict[str, Any]]] = {}  # by day

    def records(self) -> list[dict[str, Any]]:
        """Return the records of all days, oldest first."""
        with self._lock:
            days = self._log.days()
            self._records = {day: self._records_of(day) for day in days}
            return [record for day in days for record in self._records[day]]

    def _records_of(self, day: str) -> list[dict[str, Any]]:
        records = self._records.get(day, [])
        if self._lines.is_replaced(day):
            self._lines.forget(day)
            records = []
        part = encode_member(("op", self._op))
        for block in self._lines.read(day):
            for line in lines_with(block, part):
                with contextlib.suppress(ValueError):
                    record = parse_record(line)
                    if record.get("op") == self._op:
                        records.append({"seq": record["seq"], **body_of(record)})
        return records
