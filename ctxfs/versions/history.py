"""The history: resolve revisions and times, list the changes of a path, and find its state in a version."""

import errno
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from ctxfs.model.errors import path_error
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.versions.objects.trees import EMPTY_TREE, Parts
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.recording.pathindex import ALL_COMMITS, CommitFilter, Version

_AGE = re.compile(r"(\d{1,6})\s*(s|m|h|d|w)(?:-ago| ago)?")
_SNAPSHOT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MAX_LATER_NAMES = 8
_MAX_NUMBER = 1 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """A commit in the history of a path, with its sequence number among all commits."""

    seq: int
    commit: Commit


def parse_moment(text: str, now: datetime) -> int | None:
    """Return the time of a text in nanoseconds since the epoch, or None if it is not a time.

    Valid are `1h-ago`, `yesterday`, `today`, and ISO dates and times; without an offset they are UTC. The result is the
    last nanosecond of the period that the text denotes: the end of a day, a minute or a second.
    """
    text = text.strip()
    if match := _AGE.fullmatch(text):
        try:
            return _to_ns(now - timedelta(seconds=int(match[1]) * _SECONDS[match[2]]))
        except OverflowError:
            return None
    if text in ("now", "today"):
        return _to_ns(now)
    if text == "yesterday":
        return _to_ns(datetime.combine(now.date(), time(), UTC)) - 1
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
        return _to_ns(moment + timedelta(days=1)) - 1
    # A time without seconds is a whole minute, one without microseconds a whole second, including their versions.
    grain = 1_000_000_000 if re.search(r":\d{2}:\d{2}", text) else 60_000_000_000
    return _to_ns(moment) + (1_000 if moment.microsecond else grain) - 1


def is_snapshot_name(name: str) -> bool:
    """Return True for a valid name of a snapshot, which must not parse as a revision or a time."""
    if (
        not _SNAPSHOT_NAME.fullmatch(name)
        or name.endswith((".lock", "."))
        or ".." in name
        or name in ("latest", "HEAD")
    ):
        return False
    return not re.fullmatch(r"[0-9a-f]{4,40}", name) and parse_moment(name, datetime.now(UTC)) is None


def _to_ns(moment: datetime) -> int:
    time_ns = (moment - _EPOCH) // timedelta(microseconds=1) * 1000
    return max(-_MAX_NUMBER, min(time_ns, _MAX_NUMBER))  # SQLite's integers overflow in the year 2262


class History:
    """The history of a store, read from the ledger. Used under the archive's lock."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def resolve(self, text: str) -> Step:
        """Return the commit for a revision, a prefix of one, a tag, `latest` or a time.

        For a time it is the newest commit at or before it.

        Raise `OSError` ENOENT if there is none, EINVAL if several revisions have the prefix.
        """
        index = self._ledger.index
        row = None
        if text in ("latest", "HEAD", ""):
            row = index.last()
        elif text in self._ledger.tags:
            row = index.by_oid(self._ledger.tags[text])
        elif re.fullmatch(r"[0-9a-f]{4,40}", text):
            rows = index.by_prefix(text)
            if len(rows) > 1:
                raise path_error(errno.EINVAL, text, "several revisions begin like this: give more digits")
            row = rows[0] if rows else None
        if row is None and (moment := parse_moment(text, datetime.now(UTC))) is not None:
            row = index.version_at(moment)
            if row is None and (first := index.first()) is not None:
                raise path_error(errno.ENOENT, text, f"no version is so old: this store begins at {first[1].time_text}")
        if row is None:
            raise path_error(
                errno.ENOENT, text, "no version: give a revision, a snapshot's name or a time such as 1h-ago"
            )
        return Step(*row)

    def log(
        self, path: bytes, criteria: CommitFilter = ALL_COMMITS, limit: int = 1 << 31, before: int = _MAX_NUMBER
    ) -> list[Step]:
        """Return the commits that changed a path, or anything below a directory, newest first, through renames."""
        index = self._ledger.index
        commits = dict(index.commits_below(path, criteria, before, limit))
        if path and len(commits) < limit:
            # Add the changes under a file's earlier names. For a directory, the histories of its files have them.
            earlier = {version.seq for version in index.versions(path, before)} - commits.keys()
            for seq in sorted(earlier, reverse=True)[: limit - len(commits)]:
                commit = index.commit(seq)
                if _matches(commit, criteria):
                    commits[seq] = commit
        return [Step(seq, commits[seq]) for seq in sorted(commits, reverse=True)]

    def require(self, path: bytes) -> None:
        """Raise `OSError` ENOENT for a path without history, since a misspelt path would look like an unchanged one."""
        if path and not self._ledger.index.commits_below(path, ALL_COMMITS, _MAX_NUMBER, 1):
            raise path_error(errno.ENOENT, path_text(path), "no version knows this path")

    def versions(self, path: bytes) -> list[tuple[int, Step, Version]]:
        """Return (number from 1, commit, change) of the changes of exactly this path, oldest first, with removals."""
        index = self._ledger.index
        return [
            (number, Step(version.seq, index.commit(version.seq)), version)
            for number, version in enumerate(index.versions(path), 1)
        ]

    def state(self, commit: Commit, parts: Parts) -> State:
        """Return the state of a path in a commit."""
        return self._ledger.state(commit.tree, parts)

    def name_at(self, path: bytes, seq: int) -> bytes:
        """Return the name that a path had in the commit with the number `seq`, before later renames."""
        index, before = self._ledger.index, _MAX_NUMBER
        while (move := index.last_move_to(path, before)) is not None and move[0] > seq:
            before, path = move
        return path

    def moves_of(self, path: bytes) -> list[tuple[int, str]]:
        """Return (time in nanoseconds, previous name) of each rename of a path, newest first."""
        index, before, out = self._ledger.index, _MAX_NUMBER, list[tuple[int, str]]()
        while (move := index.last_move_to(path, before)) is not None:
            before, path = move
            out.append((index.commit(before).time_ns, path_text(path)))
        return out

    def names_since(self, path: bytes, time_ns: int) -> list[str]:
        """Return the later names of the file that had a path at a time, the newest first; at most `_MAX_LATER_NAMES`."""
        index, out = self._ledger.index, list[str]()
        version = index.version_at(time_ns)
        after = version[0] if version is not None else 0
        while len(out) < _MAX_LATER_NAMES and (move := index.next_move_from(path, after)) is not None:
            after, path = move
            out.append(path_text(path))
        return out[::-1]

    def before(self, step: Step) -> str:
        """Return the tree before a commit: that of its first parent, or the empty tree."""
        if not step.commit.parents:
            return EMPTY_TREE
        row = self._ledger.index.by_oid(step.commit.parents[0])
        if row is None:
            raise path_error(errno.EIO, step.commit.parents[0], "the path index does not know this commit: ctxfs check")
        return row[1].tree


def _matches(commit: Commit, criteria: CommitFilter) -> bool:
    return (
        criteria.principal in ("", commit.actor.principal)
        and criteria.session in ("", commit.actor.session)
        and criteria.since_ns <= commit.time_ns <= criteria.until_ns
    )
