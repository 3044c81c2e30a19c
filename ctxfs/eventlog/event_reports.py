"""Recognition of captured events that several hooks report: each event is recorded once. Pure.

Two hooks report one event if a client has two installations, or runs the hooks of another client as well, as Cursor runs
those of Claude Code. The reports may differ in form. So an event is identified by its session, its kind and its text, for
tools by the id of the call; and one hook may repeat an event, such as the prompt "go on".
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ctxfs.eventlog.client_sessions import client_name, matched_text

_SECOND_NS = 10**9
_REPEAT_NS = 2 * _SECOND_NS  # between the reports of an event without an id of its own
_REPEAT_IN_TURN_NS = 60 * _SECOND_NS  # of an event of one turn or call: a busy machine delays hooks
_MAX_REPORTS = 2000


class Report(NamedTuple):
    """A report of an event: its id, its time, the checksum of the hook's input, the client that the hook is for, ids.

    `turn` is empty for an event without a text, of which a turn may have several.
    """

    id: str
    time_ns: int
    checksum: int
    hook: str
    turn: str
    call: str

    def is_repeated_by(self, later: "Report") -> bool:
        """Return True if a later report with the same key is one of the same event."""
        if self.id == later.id or (self.turn and later.turn and self.turn != later.turn):
            return False
        if self.hook == later.hook:  # two installations for one client have the same input
            max_ns = _REPEAT_NS if self.checksum == later.checksum else 0
        else:
            max_ns = _REPEAT_IN_TURN_NS if self.call or (self.turn and later.turn) else _REPEAT_NS
        return 0 <= later.time_ns - self.time_ns < max_ns


class EventReports:
    """The reports of the last minute."""

    def __init__(self) -> None:
        self._reports: dict[bytes, Report] = {}

    def add(self, key: bytes, report: Report) -> bool:
        """Remember a report; return True if an earlier one is of the same event."""
        last = self._reports.get(key)
        is_repeated = last is not None and last.is_repeated_by(report)
        if len(self._reports) >= _MAX_REPORTS:
            recent = (item for item in self._reports.items() if report.time_ns - item[1].time_ns < _REPEAT_IN_TURN_NS)
            self._reports = dict(list(recent)[-_MAX_REPORTS // 2 :])
        if not is_repeated:  # the first report stays, so that a third one is recognised by it, too
            self._reports[key] = report
        return is_repeated


def event_key(client: str, record: Mapping[str, Any]) -> bytes:
    """Return the identity of the event in a captured record, which is the same in all forms of the event."""
    session = str(record.get("client_session", "")) or f"unnamed {client_name(client)}"
    text = matched_text(record) or json.dumps([record.get("text"), record.get("data")], sort_keys=True)
    parts = (session, str(record.get("kind", "")), str(record.get("reason", "")), " ".join(text.split()))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
