"""Records of actions in the event log, the sessions of principals, and erasure of records."""

import contextlib
import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from ctxfs.eventlog.audit import Audit
from ctxfs.eventlog.log import EventLog, is_session
from ctxfs.eventlog.record_text import CTXFS_ORIGIN
from ctxfs.model.errors import not_permitted
from ctxfs.model.principal import Principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.store.layout import Layout
from ctxfs.threads import blocking
from ctxfs.versions.archive import Archive
from ctxfs.versions.recording.pathindex import CommitFilter
from ctxfs.vfs.caller_context import acting_session

log = logging.getLogger(__name__)

_MAX_SESSIONS = 100_000


class Records:
    """Adds to the event log on behalf of ctxfs, and assigns sessions to principals."""

    def __init__(self, layout: Layout, events: EventLog, audit: Audit, archive: Archive, policy: PolicyEngine) -> None:
        self._layout = layout
        self._events = events
        self._audit = audit
        self._archive = archive
        self._policy = policy
        self._sessions: dict[str, str] = {}  # session → the principal that began it, of those that were named

    async def remember(self, principal: str, records: Sequence[Mapping[str, object]], session: str = "") -> None:
        """Append records of completed actions to the event log of the calling session. Failures are logged only."""
        bodies = [{"principal": principal, "origin": CTXFS_ORIGIN, **record} for record in records]
        try:
            await blocking(self._events.append, session or acting_session() or "ctxfs", bodies)
        except OSError as error:
            log.warning("cannot append to the event log: %s", error.strerror or error)

    def pack(self, days: int) -> int:
        """Compress the event log and the audit of days that are older; return the number of files. Blocks."""
        before = datetime.now(UTC).date() - timedelta(days=days)
        return self._events.compress_before(before) + self._audit.log.compress_before(before)

    def check_session(self, principal: Principal, session: str) -> None:
        """Raise EPERM for an agent that uses the session of another principal: the one that began it. Blocks."""
        name = str(principal)
        if not principal.is_person:
            others = self._principals_of(session) - {name}
            if others or (session in self._agent_names() and session != principal.name):
                raise not_permitted(session[:80], "this session belongs to another principal: name one of your own")
        if len(self._sessions) < _MAX_SESSIONS:
            self._sessions.setdefault(session, name)

    def _principals_of(self, session: str) -> set[str]:
        """Return the principals with operations in a session: open now, in the event log, in versions."""
        principals = {self._sessions[session]} if session in self._sessions else set()
        if is_session(session):
            for day in self._events.days_of(session):
                principals |= self._events.principals(day, session)
        if self._archive.newest:
            steps = self._archive.reader.log("", CommitFilter(session=session), 1)
            principals |= {step.commit.actor.principal for step in steps}
        return principals

    def _agent_names(self) -> set[str]:
        """Return the agents named in rules, memory or credentials; a session of that name is theirs."""
        members = itertools.chain.from_iterable(self._policy.groups.values())
        principals = (*members, *(rule.principal for rule in self._policy.rules))
        names = {principal.removeprefix("agent:") for principal in principals}
        with contextlib.suppress(OSError):
            names.update(os.listdir(self._layout.tree / "memory"))
        return names
