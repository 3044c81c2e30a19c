"""Episodes of the sessions of the event log: summaries that are derived when they are read. For the calling principal."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path as HostPath
from typing import Protocol

from ctxfs.context.build.constructor import Summarise
from ctxfs.context.build.piece import Piece
from ctxfs.context.episodes.builder import EpisodeBuilder
from ctxfs.context.episodes.excerpts import Excerpt
from ctxfs.context.episodes.render import FileVersion, render_episode
from ctxfs.eventlog.record_text import parse_line
from ctxfs.eventlog.session_files import SessionFile, SessionFiles, lines_of_file
from ctxfs.model.errors import CommandError, not_found
from ctxfs.model.path import Path
from ctxfs.policy.scope import VersionScope
from ctxfs.store.settings import MemorySettings
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.versions.recording.pathindex import CommitFilter

_MAX_CACHED_SESSIONS = 16
_MAX_CACHED_SUMMARIES = 64
_MAX_COMMITS = 200
_SUMMARY_TOKENS = 600
_SUMMARY_QUERY = "What was asked, decided and left open in this session?"


class EpisodeScope(VersionScope, Protocol):
    """The files that the calling principal may read, and the versions of them."""

    def may_read(self, path: Path) -> bool:
        """Return True if the calling principal may read a file."""
        ...


@dataclass(frozen=True, slots=True)
class EpisodeText:
    """A summary: its text, the number and citation of its last record, the time of the last change of the session."""

    text: str
    last_seq: int
    last_cite: str
    mtime_ns: int
    principals: frozenset[str]
    day: str


@dataclass(slots=True)
class _State:
    """The extraction of a session so far. `lock` protects the other attributes."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    builder: EpisodeBuilder = field(default_factory=EpisodeBuilder)
    positions: list[tuple[str, int, int, int]] = field(default_factory=list)  # day, inode, next offset, next number


class SessionEpisodes:
    """The summaries of sessions. An extraction continues at the records that are new since the last one."""

    def __init__(
        self,
        folder: HostPath,
        archive: Archive,
        scope: EpisodeScope,
        summarise: Summarise | None,
        settings: Callable[[], MemorySettings],
    ) -> None:
        """`folder` is that of the event log. `summarise` sums up sessions that have ended, if the settings permit it."""
        self.files = SessionFiles(folder)
        self._archive = archive
        self._scope = scope
        self._summarise = summarise
        self._settings = settings
        self._states = OrderedDict[str, _State]()
        self._states_lock = threading.Lock()
        self._summaries = OrderedDict[tuple[str, int], tuple[str, str]]()

    async def read(self, session: str) -> EpisodeText:
        """Return the summary of a session. Raise ENOENT unless the calling principal may read all of its files."""
        files = await blocking(self.files.of_session, session)
        if not files or not all(self._scope.may_read(Path.parse(file.name)) for file in files):
            raise not_found(session)
        return await self.derive(session, files)

    async def derive(self, session: str, files: Sequence[SessionFile]) -> EpisodeText:
        """Return the summary of these files of a session; the caller has checked that they may be read."""
        state = await blocking(self._extract, session, files)
        mtime_ns = max(file.mtime_ns for file in files)
        versions = await in_turn(self._versions_of, session)
        summary, note = await self._sum_up(session, state, mtime_ns)
        return await blocking(_render, session, state, versions, summary, note, mtime_ns)

    def is_over(self, has_end: bool, mtime_ns: int) -> bool:
        """Return True for a session that has ended: by its last record, or by the time since its last change."""
        return has_end or time.time_ns() - mtime_ns >= self._settings().episode_after_minutes * 60 * 10**9

    def evict(self) -> None:
        """Drop all extractions, because they hold texts of records."""
        with self._states_lock:
            self._states.clear()
        self._summaries.clear()

    def _extract(self, session: str, files: Sequence[SessionFile]) -> _State:
        """Return the state of the extraction, with all complete lines of the files. Blocks."""
        with self._states_lock:
            state = self._states.setdefault(session, _State())
            self._states.move_to_end(session)
            while len(self._states) > _MAX_CACHED_SESSIONS:
                self._states.popitem(last=False)
        with state.lock:
            if not _continues(state.positions, files):
                state.builder, state.positions = EpisodeBuilder(), []
            for file in files[max(0, len(state.positions) - 1) :]:
                _read_on(state, file)
        return state

    def _versions_of(self, session: str) -> list[FileVersion]:
        """Return the newest versions of files that the session changed and the calling principal may read. Blocks."""
        if not self._archive.newest:
            return []
        steps = self._archive.reader.log("", CommitFilter(session=session), _MAX_COMMITS)
        changes = self._archive.reader.changes_of([step.seq for step in steps], "")
        newest: dict[str, str] = {}
        for step, changed in zip(steps, changes, strict=True):
            for change in changed:
                path = path_text(change.path)
                if path not in newest and self._is_visible(path, step.commit.time_ns):
                    newest[path] = step.commit.oid
        return [FileVersion(path, oid) for path, oid in sorted(newest.items())]

    def _is_visible(self, text: str, time_ns: int) -> bool:
        path = Path(tuple(text.split("/")))
        return self._scope.has_versions(path) and time_ns >= self._scope.readable_since(path)

    async def _sum_up(self, session: str, state: _State, mtime_ns: int) -> tuple[str, str]:
        """Return (text of the configured summariser, reason why there is none); both are empty without a summariser."""
        summarise, is_wanted = self._summarise, self._settings().summarise
        if summarise is None or not is_wanted or not self.is_over(state.builder.is_ended, mtime_ns):
            return "", ""
        key = (session, state.builder.last_seq)
        if key not in self._summaries:
            pieces = await blocking(_pieces_of, state)
            try:
                self._summaries[key] = (await summarise(_SUMMARY_QUERY, pieces, _SUMMARY_TOKENS)).strip(), ""
            except (OSError, CommandError) as error:
                reason = error.message if isinstance(error, CommandError) else error.strerror or str(error)
                self._summaries[key] = "", f"the summariser failed: {reason}"
            while len(self._summaries) > _MAX_CACHED_SUMMARIES:
                self._summaries.popitem(last=False)
        return self._summaries[key]


def _continues(positions: Sequence[tuple[str, int, int, int]], files: Sequence[SessionFile]) -> bool:
    """Return True if the files that were read are the same, or have only grown."""
    if len(positions) > len(files):
        return False
    pairs = list(zip(positions, files, strict=False))
    return all(
        (day, inode) == (file.day, file.inode) and (file.is_compressed or offset <= file.size)
        for (day, inode, offset, _), file in pairs
    )


def _read_on(state: _State, file: SessionFile) -> None:
    """Add the new lines of a file: of the last one that was read, or of the next one."""
    offset, number = 0, 1
    if state.positions and state.positions[-1][0] == file.day:
        _, _, offset, number = state.positions.pop()
    for line_number, next_offset, line in lines_of_file(file, offset, number):
        offset, number = next_offset, line_number + 1
        record = parse_line(line.data, is_head=line.is_head)
        if record is not None:
            state.builder.add(f"{file.name}:{line_number}", record)
    state.positions.append((file.day, file.inode, offset, number))


def _render(
    session: str, state: _State, versions: Sequence[FileVersion], summary: str, note: str, mtime_ns: int
) -> EpisodeText:
    with state.lock:
        episode = state.builder
        text = render_episode(session, episode, versions, summary, note)
        day = episode.last_cite.split("/")[1] if episode.last_cite else ""
        return EpisodeText(text, episode.last_seq, episode.last_cite, mtime_ns, frozenset(episode.principals), day)


def _pieces_of(state: _State) -> list[Piece]:
    """Return the excerpts as pieces for a summariser, in the order of the text."""
    with state.lock:
        episode = state.builder
        parts = (
            ("Questions", [*episode.questions.head, *episode.questions.tail]),
            ("Decisions", [*episode.decisions.head, *episode.decisions.tail]),
            ("Open ends", [*episode.waiting, *episode.failures[-10:], *episode.open_work()[-10:]]),
        )
    return [_piece_of(title, excerpt) for title, excerpts in parts for excerpt in excerpts]


def _piece_of(title: str, excerpt: Excerpt) -> Piece:
    path, _, line = excerpt.cite.rpartition(":")
    return Piece(path, int(line), int(line), f"{excerpt.speaker}: {excerpt.text}", heading=title)
