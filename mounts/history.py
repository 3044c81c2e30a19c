"""The mount history/<date>/<session>.jsonl: messages and actions, one record a line; files are append-only.

`echo … >> history/<today, UTC>/<session>.jsonl` adds a record: a JSON object (kind, text, model …) or plain text. These
files permit no other change. `by-agent/<principal>/` and `by-session/<session>/` contain links to the same files.
`by-session/<session>/summary.md` is generated on read, for callers that may read all files of the session.
"""

import errno
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from ctxfs.eventlog.log import SUFFIX, EventLog, is_day, is_session
from ctxfs.eventlog.record_schema import folder_of_principal, parse_records
from ctxfs.model.change import Append, Change, Put
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, not_permitted, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.policy.scope import EventScope
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_principal

SUMMARY = "summary.md"
_BY_AGENT, _BY_SESSION = "by-agent", "by-session"
_ONLY_GROWS = "history is only ever added to (>>)"


class Summary(Protocol):
    """The summary of a session: its text, the number of its last record, and the time of the last change."""

    @property
    def text(self) -> str:
        """Return the text."""
        ...

    @property
    def last_seq(self) -> int:
        """Return the number of the last record."""
        ...

    @property
    def mtime_ns(self) -> int:
        """Return the time of the last change of the session."""
        ...


class Summaries(Protocol):
    """The summaries of sessions, for the calling principal."""

    async def read(self, session: str) -> Summary:
        """Return a summary; raise ENOENT unless the calling principal may read all files of the session."""
        ...


class HistoryMount(Mount):
    """The files of an event log, and views of them. `owner` is the author if no principal acts."""

    grows = True

    def __init__(self, log: EventLog, owner: str, scope: EventScope, summaries: Summaries) -> None:
        """Open the log. Days without a file that is visible in `scope` are hidden."""
        self._log = log
        self._summaries = summaries
        self._owner = owner
        self._scope = scope

    async def stat(self, path: Path) -> Entry:
        """Return an entry whose size is that of a read."""
        if _is_summary(path):
            summary = await self._summaries.read(path.parts[1])
            data = summary.text.encode("utf-8", "replace")
            return snapshot(SUMMARY, data, mtime_ns=summary.mtime_ns, version=f"{summary.last_seq}-{len(data)}")
        return await blocking(self._stat, path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return the days and views, the sessions of a day, or links."""
        return await blocking(self._list, path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the attributes that mark a summary as derived; other paths have none."""
        if not _is_summary(path):
            return await super().metadata(path)
        await self.stat(path)
        values = {"kind": "episodic", "source": f"history/{path.parent}", "tags": "derived", "trust": "untrusted"}
        return {f"{PREFIX}{name}": value.encode() for name, value in values.items()}

    async def read(self, path: Path) -> bytes:
        """Return the records of a session on a day, or the summary of a session."""
        if _is_summary(path):
            return (await self._summaries.read(path.parts[1])).text.encode("utf-8", "replace")
        entry = await self.stat(path)
        if entry.is_dir:
            raise path_error(errno.EISDIR, path)
        if entry.kind == "link":
            raise path_error(errno.EINVAL, path)
        return await blocking(self._log.read, path.parts[0], _session_of(path))

    async def apply(self, change: Change) -> None:
        """Append lines, or create a file of today; raise EPERM for other changes."""
        path = change.path
        match change:
            case Append(_, data) if _is_file(path):
                await self.stat(path)
                bodies = parse_records(data, str(acting_principal() or self._owner))
                await blocking(lambda: self._log.append(_session_of(path), bodies, durable=True))
            case Put(_, b"") if _is_file(path) and not await self._exists(path):
                await blocking(self._log.create_file, path.parts[0], _session_of(path))
            case _:
                raise not_permitted(path, _ONLY_GROWS)

    async def _exists(self, path: Path) -> bool:
        try:
            await self.stat(path)
        except FileNotFoundError:
            return False
        return True

    def _days(self) -> Sequence[str]:
        """Return the visible days; today is always one of them, so that records can be added to it."""
        return sorted({*filter(self._sessions, self._log.days()), datetime.now(UTC).date().isoformat()})

    def _sessions(self, day: str) -> Sequence[str]:
        return [name for name in self._log.sessions(day) if self._scope.sees_events(Path((day, f"{name}{SUFFIX}")))]

    def _stat(self, path: Path) -> Entry:
        if path.is_root:
            return directory("", mode=0o755)
        first, *rest = path.parts
        if _is_file(path):
            size, mtime_ns = self._log.size(first, _session_of(path))
            return Entry(path.name, "file", version=f"{size}", size=size, mtime_ns=mtime_ns, mode=0o644)
        if not rest and (first in (_BY_AGENT, _BY_SESSION) or first in self._days()):
            made_ns = self._log.last_created_ns(first) if is_day(first) else 0
            return directory(first, mode=0o755 if is_day(first) else 0o555, mtime_ns=made_ns)
        for entry in self._list(path.parent) if rest and first in (_BY_AGENT, _BY_SESSION) else ():
            if entry.name == path.name:
                return entry
        raise not_found(path)

    def _list(self, path: Path) -> Sequence[Entry]:
        if path.is_root:
            return [self._stat(ROOT / name) for name in (*self._days(), _BY_AGENT, _BY_SESSION)]
        first, *rest = path.parts
        if first in self._days() and not rest:
            return [self._stat(path / f"{name}{SUFFIX}") for name in self._sessions(first)]
        pairs = [(day, session) for day in self._log.days() for session in self._sessions(day)]
        if first == _BY_SESSION and not rest:
            return [directory(name) for name in sorted({session for _, session in pairs})]
        if first == _BY_AGENT and not rest:
            return [
                directory(name)
                for name in sorted(
                    {folder_of_principal(principal) for pair in pairs for principal in self._log.principals(*pair)}
                )
            ]
        if first == _BY_SESSION and len(rest) == 1:
            links = [_link(f"{day}{SUFFIX}", day, session) for day, session in pairs if session == rest[0]]
            links += self._summary_entries(rest[0], [day for day, session in pairs if session == rest[0]])
        elif first == _BY_AGENT and len(rest) == 1:
            own_pairs = (pair for pair in pairs if rest[0] in map(folder_of_principal, self._log.principals(*pair)))
            links = [_link(f"{day}_{session}{SUFFIX}", day, session) for day, session in own_pairs]
        else:
            links = []
        if links:
            return links
        if self._stat(path).is_dir:
            return []
        raise path_error(errno.ENOTDIR, path)

    def _summary_entries(self, session: str, days: Sequence[str]) -> Sequence[Entry]:
        """Return the entry of a session's summary, without its size; none if a file of the session may not be read."""
        paths = [Path(("history", day, f"{session}{SUFFIX}")) for day in self._log.days_of(session)]
        if not days or not all(map(self._scope.may_read, paths)):
            return []
        size, mtime_ns = self._log.size(days[-1], session)
        return [Entry(SUMMARY, "file", version=f"{size}", size=None, mtime_ns=mtime_ns)]


def _is_summary(path: Path) -> bool:
    return len(path.parts) == 3 and path.parts[0] == _BY_SESSION and path.name == SUMMARY


def _is_file(path: Path) -> bool:
    return (
        len(path.parts) == 2 and is_day(path.parts[0]) and path.name.endswith(SUFFIX) and is_session(_session_of(path))
    )


def _session_of(path: Path) -> str:
    return path.name.removesuffix(SUFFIX)


def _link(name: str, day: str, session: str) -> Entry:
    target = f"../../{day}/{session}{SUFFIX}"
    return Entry(name, "link", size=len(target), mode=0o777, target=target)
