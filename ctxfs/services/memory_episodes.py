"""Episodes in memory: the summary of a session that has ended, written to `memory/<agent>/episodic/` as a version.

A session has ended if its last record is of the kind `session_end`, or if it has had no record for
`memory.episode_after_minutes`. An episode is for the agents of the session: its principals that may read all of it. It
is derived, so it is marked as untrusted. A file that a person or an agent has changed or removed since is left alone.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from ctxfs.context.episodes.builder import SESSION_END
from ctxfs.eventlog.record_text import parse_line
from ctxfs.eventlog.session_files import SessionFile, read_tail
from ctxfs.model.change import Change, MakeDir, Put
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rules import Verb
from ctxfs.services.curation import CuratedTree
from ctxfs.services.session_episodes import EpisodeText, SessionEpisodes
from ctxfs.store.settings import MemorySettings
from ctxfs.supervise import repeat
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive
from ctxfs.vfs.caller_context import acting

log = logging.getLogger(__name__)

TOOL = "episodes"
FOLDER = "episodic"
_SWEEP_SECONDS = 5.0
_RECENT_DAYS = 2
_TAIL_BYTES = 16_384
_MAX_HANDLED = 10_000
_MAX_DAYS = 90
_MAX_SESSIONS = 200


class MemoryEpisodes:
    """Writes the episodes of sessions. Idempotent: an episode is written again only if its session has new records."""

    def __init__(
        self,
        sessions: SessionEpisodes,
        tree: CuratedTree,
        archive: Archive,
        policy: PolicyEngine,
        settings: Callable[[], MemorySettings],
    ) -> None:
        """`tree` writes as the tool TOOL."""
        self._sessions = sessions
        self._tree = tree
        self._archive = archive
        self._policy = policy
        self._settings = settings
        self._handled: dict[str, int] = {}  # session → mtime of its last change when its episode was written

    async def run(self) -> None:
        """Write the episodes of sessions that have ended, now and then, while `memory.episodes` is set."""
        await repeat(self._write_if_set, _SWEEP_SECONDS, log, "episodes cannot be written", _SWEEP_SECONDS)

    async def _write_if_set(self) -> None:
        if self._settings().episodes:
            await self.write_ended()

    async def write_ended(self) -> list[str]:
        """Write the episodes of sessions that ended today or yesterday; return the paths that were written."""
        paths: list[str] = []
        for file in await blocking(self._ended_files):
            try:
                paths += await self.write(file.session)
                self._handled[file.session] = file.mtime_ns
            except (OSError, CommandError) as error:
                log.warning("the episode of session '%s' cannot be written: %s", file.session, error)
        return paths

    async def write(self, session: str) -> list[str]:
        """Write the episode of a session for each of its agents; return the paths that were written.

        An episode with the same last record is left as it is. Raise ENOENT for an unknown session.
        """
        files = await blocking(self._sessions.files.of_session, session)
        if not files:
            raise FileNotFoundError(session)
        whole = await self._sessions.derive(session, files)
        paths = []
        for agent in self._agents_of(whole, files):
            with acting(agent):  # so that it names only the versions that the agent may read
                episode = await self._sessions.derive(session, files)
            if (path := await self._write_for(agent, session, files[0].day, episode)) is not None:
                paths.append(str(path))
        return paths

    async def missing(self, agent: Principal, since_ns: int, limit: int) -> list[tuple[Put, str]]:
        """Return the (file, session) of at most `limit` ended sessions of an agent that have no episode, newest first.

        Sessions before a time are left out, and episodes that existed once.
        """
        episodes: list[tuple[Put, str]] = []
        for file in await blocking(self._ended_since, since_ns):
            files = await blocking(self._sessions.files.of_session, file.session)
            path = _path_of(agent, files[0].day, file.session) if files else None
            if path is None or await in_turn(self._archive.reader.last_change, str(path)) is not None:
                continue
            whole = await self._sessions.derive(file.session, files)
            if agent not in self._agents_of(whole, files):
                continue
            with acting(agent):
                episode = await self._sessions.derive(file.session, files)
            if episode.last_cite:
                episodes.append((_put_of(path, file.session, episode), file.session))
            if len(episodes) == limit:
                break
        return episodes

    def _ended_since(self, since_ns: int) -> list[SessionFile]:
        """Return the last file of each session that has ended, newest first. Blocks."""
        files: dict[str, SessionFile] = {}
        for day in sorted(self._sessions.files.days(), reverse=True)[:_MAX_DAYS]:
            for file in self._sessions.files.of_day(day):
                files.setdefault(file.session, file)
        recent = [file for file in files.values() if file.mtime_ns >= since_ns]
        ended = (file for file in recent if self._sessions.is_over(_has_end(file), file.mtime_ns))
        return sorted(ended, key=lambda file: (-file.mtime_ns, file.session))[:_MAX_SESSIONS]

    async def paths_of(self, session: str) -> list[str]:
        """Return the paths of the episodes of a session that exist in memory."""
        paths = []
        for name in await self._names(Path(("memory",))):
            folder = Path(("memory", name, FOLDER))
            paths += [str(folder / file) for file in await self._names(folder) if file[11:] == f"{session}.md"]
        return paths

    def _ended_files(self) -> list[SessionFile]:
        """Return the last file of each session that has ended and has changed since its episode was written. Blocks."""
        files: dict[str, SessionFile] = {}
        for day in _recent_days():
            files.update((file.session, file) for file in self._sessions.files.of_day(day))
        if len(self._handled) > _MAX_HANDLED:
            self._handled.clear()
        return [
            file
            for file in files.values()
            if self._handled.get(file.session) != file.mtime_ns
            and self._sessions.is_over(_has_end(file), file.mtime_ns)
        ]

    def _agents_of(self, episode: EpisodeText, files: list[SessionFile]) -> Iterator[Principal]:
        """Yield the agents among the principals of a session that may read all of it.

        Those are agents with permission for its files, and the author of all of its records, if no rule denies it.
        """
        for name in sorted(episode.principals):
            with suppress(CommandError):
                principal = parse_principal(name)
                is_author = episode.principals == {name}
                if principal.kind == "agent" and all(self._may_read(principal, file, is_author) for file in files):
                    yield principal

    def _may_read(self, principal: Principal, file: SessionFile, is_author: bool) -> bool:
        decision = self._policy.decide(principal, Verb.READ, Path.parse(file.name))
        return decision.allowed or (is_author and decision.rule is None)

    async def _write_for(self, agent: Principal, session: str, day: str, episode: EpisodeText) -> Path | None:
        """Write the episode for an agent; return its path, None if there is nothing to write."""
        path = _path_of(agent, day, session)
        if not episode.last_cite or not await in_turn(self._is_own, str(path)):
            return None
        with suppress(FileNotFoundError):
            text = (await self._tree.read(path)).decode("utf-8", "replace")
            if f"- last record: {episode.last_cite}\n" in text:
                return None
        changes: list[Change] = [
            MakeDir(Path(path.parts[:2])),
            MakeDir(Path(path.parts[:3])),
            _put_of(path, session, episode),
        ]
        await self._tree.apply(changes, f"episode of session {session}")
        return path

    def _is_own(self, path: str) -> bool:
        """Return True unless another tool, a person or an agent has changed or removed the file. Blocks."""
        self._archive.commit()
        last = self._archive.reader.last_change(path)
        return last is None or last.actor.tool == TOOL

    async def _names(self, folder: Path) -> list[str]:
        try:
            return [entry.name for entry in await self._tree.list(folder)]
        except OSError:
            return []


def _path_of(agent: Principal, day: str, session: str) -> Path:
    return Path(("memory", agent.name, FOLDER, f"{day}-{session}.md"))


def _put_of(path: Path, session: str, episode: EpisodeText) -> Put:
    attributes = {
        "kind": "episodic",
        "source": f"history/by-session/{session}",
        "tags": "derived,episode",
        "trust": "untrusted",
    }
    labels = {f"{PREFIX}{name}": value.encode() for name, value in attributes.items()}
    return Put(path, episode.text.encode("utf-8", "replace"), labels)


def _recent_days() -> list[str]:
    today = datetime.now(UTC).date()
    return [(today - timedelta(days=back)).isoformat() for back in range(_RECENT_DAYS - 1, -1, -1)]


def _has_end(file: SessionFile) -> bool:
    """Return True if the last complete record of a file is the end of its session. Blocks."""
    if file.is_compressed:
        return False
    lines = read_tail(file, _TAIL_BYTES)
    record = parse_line(lines[-1]) if lines else None
    return record is not None and record.get("kind") == SESSION_END
