"""The path index: which commit changed which path, in one SQLite file. Derived: rebuilt from git if missing or behind.

It also records the attributes of every work tree file when its content was last read, so that an unchanged file is
recognised without reading it. Paths are real ones, as bytes, slash-separated.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any, NamedTuple

from ctxfs.store.derived_db import DerivedDatabase, open_derived
from ctxfs.versions.objects.commits import Actor, Commit

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE commits(
  seq INTEGER PRIMARY KEY, oid TEXT UNIQUE NOT NULL, tree TEXT NOT NULL, parents TEXT NOT NULL, time_ns INTEGER NOT NULL,
  principal TEXT NOT NULL, session TEXT NOT NULL, tool TEXT NOT NULL, reason TEXT NOT NULL, op TEXT NOT NULL,
  subject TEXT NOT NULL, scope BLOB, undoes TEXT NOT NULL, mainline INTEGER NOT NULL);
CREATE INDEX commits_time ON commits(time_ns) WHERE mainline;
CREATE INDEX commits_session ON commits(session);
CREATE INDEX commits_principal ON commits(principal);
CREATE TABLE changes(
  path BLOB NOT NULL, seq INTEGER NOT NULL, what TEXT NOT NULL, mode INTEGER NOT NULL, oid TEXT NOT NULL,
  side TEXT NOT NULL, size INTEGER NOT NULL, PRIMARY KEY(path, seq)) WITHOUT ROWID;
CREATE INDEX changes_seq ON changes(seq);
CREATE TABLE moves(seq INTEGER NOT NULL, source BLOB NOT NULL, target BLOB NOT NULL);
CREATE INDEX moves_target ON moves(target, seq);
CREATE TABLE seen(
  path BLOB PRIMARY KEY, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  ctime_ns INTEGER NOT NULL, mode INTEGER NOT NULL, git_mode INTEGER NOT NULL, oid TEXT NOT NULL, side TEXT NOT NULL)
  WITHOUT ROWID;
CREATE INDEX seen_inode ON seen(inode);
"""
_COMMIT_COLUMNS = "seq, oid, tree, parents, time_ns, principal, session, tool, reason, op, subject, scope, undoes"


class PathChange(NamedTuple):
    """The change of one path in a commit: `add`, `edit`, `meta` (only attributes) or `remove`.

    `mode` and `oid` are the git entry afterwards (0 and empty when removed). `side` is the id of the side-car blob or
    empty. `size` is the bytes of the content.
    """

    path: bytes
    op: str
    mode: int
    oid: str
    side: str
    size: int


class Version(NamedTuple):
    """A change of a path, with the number of its commit."""

    seq: int
    change: PathChange


class ContentTimes(NamedTuple):
    """The times, in nanoseconds, at which the present content of a path was written, and the path was created."""

    changed_ns: int
    created_ns: int


class FileRecord(NamedTuple):
    """The attributes of a file when it was captured, and the entry that it became."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    git_mode: int
    oid: str
    side: str


@dataclass(frozen=True, slots=True)
class CommitFilter:
    """A selection of commits; empty texts match everything. Times are nanoseconds since the epoch."""

    principal: str = ""
    session: str = ""
    since_ns: int = 0
    until_ns: int = 1 << 62


ALL_COMMITS = CommitFilter()


class PathIndex(DerivedDatabase):
    """The path index on one SQLite connection, for one thread at a time. Writers use `transaction`."""

    def __init__(self, folder: HostPath) -> None:
        self._db = open_derived(folder / "history.db", _SCHEMA, _SCHEMA_VERSION, secure_delete="ON")

    def clear(self) -> None:
        """Delete the history, but not the recorded attributes of files."""
        for table in ("commits", "changes", "moves"):
            self._db.execute(f"DELETE FROM {table}")

    def vacuum(self) -> None:
        """Return the space of deleted rows to the file system, and overwrite it."""
        self._db.execute("VACUUM")

    # commits

    def add(self, commit: Commit, changes: Iterable[PathChange], *, mainline: bool = True) -> int:
        """Append a commit and return its number.

        A commit that is not `mainline` came with a merge: the work tree never had its state.
        """
        row = self._db.execute(
            f"INSERT INTO commits({_COMMIT_COLUMNS[5:]}, mainline) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                commit.oid,
                commit.tree,
                " ".join(commit.parents),
                commit.time_ns,
                commit.actor.principal,
                commit.actor.session,
                commit.actor.tool,
                commit.actor.reason,
                commit.op,
                commit.subject,
                commit.scope,
                commit.undoes,
                mainline,
            ),
        )
        seq = int(row.lastrowid or 0)
        self._db.executemany(
            "INSERT OR REPLACE INTO changes VALUES(?,?,?,?,?,?,?)",
            ((change.path, seq, *change[1:]) for change in changes),
        )
        self._db.executemany("INSERT INTO moves VALUES(?,?,?)", ((seq, *move) for move in commit.moves))
        return seq

    def last(self) -> tuple[int, Commit] | None:
        """Return the newest commit with its number; None if the index is empty."""
        return self._fetch_commit(f"SELECT {_COMMIT_COLUMNS} FROM commits ORDER BY seq DESC LIMIT 1")

    def first(self) -> tuple[int, Commit] | None:
        """Return the oldest version of this store with its number; None if the index is empty."""
        return self._fetch_commit(f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE mainline ORDER BY time_ns, seq LIMIT 1")

    def by_oid(self, oid: str) -> tuple[int, Commit] | None:
        """Return a commit, with its number, by its full id."""
        return self._fetch_commit(f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE oid=?", oid)

    def by_prefix(self, prefix: str) -> list[tuple[int, Commit]]:
        """Return at most two commits whose id begins with `prefix`."""
        sql = f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE oid>=? AND oid<? LIMIT 2"
        return [_parse_commit(row) for row in self._db.execute(sql, (prefix, prefix + "g"))]

    def version_at(self, time_ns: int) -> tuple[int, Commit] | None:
        """Return the newest version at a time, with its number."""
        return self._fetch_commit(
            f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE mainline AND time_ns<=? ORDER BY time_ns DESC, seq DESC LIMIT 1",
            time_ns,
        )

    def commit(self, seq: int) -> Commit:
        """Return the commit with this number."""
        row = self._fetch_commit(f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE seq=?", seq)
        assert row is not None
        return row[1]

    def is_linear(self) -> bool:
        """Return True unless commits came with a merge."""
        return self._db.execute("SELECT 1 FROM commits WHERE NOT mainline LIMIT 1").fetchone() is None

    def count(self) -> int:
        """Return the number of commits."""
        return int(self._db.execute("SELECT count(*) FROM commits").fetchone()[0])

    def list_commits(self, selection: CommitFilter, before: int, limit: int) -> list[tuple[int, Commit]]:
        """Return commits with a lower number than `before`, newest first."""
        rows = self._db.execute(
            f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE seq<? AND {_FILTER_CONDITION} ORDER BY seq DESC LIMIT ?",
            (before, *_filter_values(selection), limit),
        )
        return [_parse_commit(row) for row in rows]

    def commits_below(self, path: bytes, selection: CommitFilter, before: int, limit: int) -> list[tuple[int, Commit]]:
        """Return commits that changed `path` or a path below it, newest first."""
        if not path:
            return self.list_commits(selection, before, limit)
        rows = self._db.execute(
            f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE seq IN (SELECT seq FROM changes WHERE {_BELOW_CONDITION} AND seq<?) "
            f"AND {_FILTER_CONDITION} ORDER BY seq DESC LIMIT ?",
            (*_path_range(path), before, *_filter_values(selection), limit),
        )
        return [_parse_commit(row) for row in rows]

    def mainline_commits(self, path: bytes, before: int, limit: int) -> list[tuple[int, Commit]]:
        """Return commits as `commits_below` does, without those that came with merges, but with every merge."""
        where = (
            f"(seq IN (SELECT seq FROM changes WHERE {_BELOW_CONDITION} AND seq<?) OR op='merge')" if path else "?=?"
        )
        rows = self._db.execute(
            f"SELECT {_COMMIT_COLUMNS} FROM commits WHERE {where} AND mainline AND seq<? ORDER BY seq DESC LIMIT ?",
            (*((*_path_range(path), before) if path else (0, 0)), before, limit),
        )
        return [_parse_commit(row) for row in rows]

    def sizes_of(self, paths: Sequence[bytes]) -> dict[str, int]:
        """Return the sizes of every content that these paths have had, by blob id."""
        sizes: dict[str, int] = {}
        for start in range(0, len(paths), 500):
            batch = paths[start : start + 500]
            placeholders = ",".join("?" * len(batch))
            sizes.update(
                self._db.execute(f"SELECT oid, size FROM changes WHERE oid!='' AND path IN ({placeholders})", batch)
            )
        return sizes

    def changes_of(self, seq: int, below: bytes = b"") -> list[PathChange]:
        """Return the changes of a commit, at `below` and below it."""
        rows = self._db.execute(
            "SELECT path, what, mode, oid, side, size FROM changes WHERE seq=? ORDER BY path", (seq,)
        )
        changes = (PathChange(*row) for row in rows)
        return [
            change for change in changes if not below or change.path == below or change.path.startswith(below + b"/")
        ]

    def moves_of(self, seq: int) -> list[tuple[bytes, bytes]]:
        """Return the (source, target) pairs of a commit's moves."""
        return list(self._db.execute("SELECT source, target FROM moves WHERE seq=?", (seq,)))

    def versions(self, path: bytes, before: int = 1 << 62) -> list[Version]:
        """Return the changes of exactly this path, oldest first, through renames."""
        versions: list[Version] = []
        while True:
            move = self.last_move_to(path, before)
            since = move[0] if move else 0
            rows = self._db.execute(
                "SELECT path, what, mode, oid, side, size, seq FROM changes WHERE path=? AND seq>=? AND seq<? ORDER BY seq DESC",
                (path, since, before),
            )
            versions.extend(Version(row[6], PathChange(*row[:6])) for row in rows)
            if move is None:
                return versions[::-1]
            before, path = move

    def last_change(self, path: bytes, before: int = 1 << 62) -> Version | None:
        """Return the newest change of exactly this path, without following renames."""
        row = self._db.execute(
            "SELECT path, what, mode, oid, side, size, seq FROM changes WHERE path=? AND seq<? ORDER BY seq DESC LIMIT 1",
            (path, before),
        ).fetchone()
        return Version(row[6], PathChange(*row[:6])) if row else None

    def changes_below(self, path: bytes) -> list[PathChange]:
        """Return every change of a path and of the paths below it."""
        rows = self._db.execute(
            f"SELECT path, what, mode, oid, side, size FROM changes WHERE {_BELOW_CONDITION}", _path_range(path)
        )
        return [PathChange(*row) for row in rows]

    def content_times(self, path: bytes) -> dict[bytes, ContentTimes]:
        """Return the times of every path below `path` by its name; renames are not followed."""
        rows = self._db.execute(
            "SELECT changes.path, changes.oid, commits.time_ns FROM changes JOIN commits USING(seq) "
            f"WHERE {_BELOW_CONDITION.replace('path', 'changes.path')} ORDER BY changes.path, changes.seq",
            _path_range(path),
        )
        times: dict[bytes, ContentTimes] = {}
        last_path, last_oid = b"", ""
        for changed, oid, time_ns in rows:
            if changed != last_path or not last_oid:
                times[changed] = ContentTimes(time_ns, time_ns)
            elif oid != last_oid:
                times[changed] = times[changed]._replace(changed_ns=time_ns)
            last_path, last_oid = changed, oid
        return times

    def changes_by(self, principal: str) -> list[PathChange]:
        """Return every change that a principal made."""
        rows = self._db.execute(
            "SELECT path, what, mode, oid, side, size FROM changes WHERE seq IN (SELECT seq FROM commits WHERE principal=?)",
            (principal,),
        )
        return [PathChange(*row) for row in rows]

    def occurrences_of(self, oids: Iterable[str]) -> list[tuple[bytes, str, int]]:
        """Return (path, blob, commit number) for every occurrence of these contents. This reads every change."""
        selected = set(oids)
        rows = self._db.execute("SELECT path, oid, seq FROM changes WHERE oid!=''")
        return [(path, oid, seq) for path, oid, seq in rows if oid in selected]

    def sides_of(self, min_bytes: int) -> list[str]:
        """Return the side-car ids of every version of a file with `min_bytes` bytes or more."""
        return [
            row[0]
            for row in self._db.execute("SELECT DISTINCT side FROM changes WHERE side!='' AND size>=?", (min_bytes,))
        ]

    def commits_since(self, path: bytes, seq: int) -> list[int]:
        """Return the numbers of commits after `seq` that changed exactly this path, oldest first."""
        rows = self._db.execute("SELECT seq FROM changes WHERE path=? AND seq>? ORDER BY seq", (path, seq))
        return [row[0] for row in rows]

    def names_below(self, path: bytes) -> list[tuple[bytes, bool]]:
        """Return (name, True for a directory) of every entry that the directory `path` has had, sorted."""
        start, end = _path_range(path)[1:] if path else (b"", b"\xff\xff")
        names: dict[bytes, bool] = {}
        position = start
        while True:
            # Skip from name to name instead of reading all rows of a directory.
            row = self._db.execute(
                "SELECT path, mode FROM changes WHERE path>=? AND path<? ORDER BY path LIMIT 1", (position, end)
            ).fetchone()
            if row is None:
                return sorted(names.items())
            name, slash, _ = row[0][len(start) :].partition(b"/")
            names[name] = names.get(name, False) or bool(slash)
            position = start + name + (b"0" if slash else b"\0")
            if not slash:
                names[name] = self.was_directory(start + name)

    def was_directory(self, path: bytes) -> bool:
        """Return True if the last state of a path was a directory, or if paths below it have existed."""
        if not path:
            return True
        inner = self._db.execute(
            "SELECT 1 FROM changes WHERE path>=? AND path<? LIMIT 1", _path_range(path)[1:]
        ).fetchone()
        return inner is not None or self._has_directory_row(path)

    def _has_directory_row(self, path: bytes) -> bool:
        row = self._db.execute(
            "SELECT mode FROM changes WHERE path=? AND mode!=0 ORDER BY seq DESC LIMIT 1", (path,)
        ).fetchone()
        return bool(row and row[0] == 0o040000)

    def last_move_to(self, path: bytes, before: int) -> tuple[int, bytes] | None:
        """Return (commit number, previous path) of the newest move of `path` or of a directory above it."""
        row = self._find_move("target", path, "seq<? ORDER BY seq DESC", before)
        return (row[0], row[1] + path[len(row[2]) :]) if row else None

    def next_move_from(self, path: bytes, after: int) -> tuple[int, bytes] | None:
        """Return (commit number, next path) of the first move of `path`, or of a directory above it, after a commit."""
        row = self._find_move("source", path, "seq>? ORDER BY seq", after)
        return (row[0], row[2] + path[len(row[1]) :]) if row else None

    def _find_move(self, end: str, path: bytes, order: str, seq: int) -> tuple[int, bytes, bytes] | None:
        """Return (commit number, source, target) of the first move in order that has `path`, or one above, at `end`."""
        ends = [path]
        while b"/" in ends[-1]:
            ends.append(ends[-1].rpartition(b"/")[0])
        placeholders = ",".join("?" * len(ends))
        query = f"SELECT seq, source, target FROM moves WHERE {end} IN ({placeholders}) AND {order}, length({end}) DESC"
        return next(iter(self._db.execute(f"{query} LIMIT 1", (*ends, seq))), None)

    def paths_of_inode(self, inode: int) -> list[bytes]:
        """Return every path with this inode in its recorded attributes."""
        return [row[0] for row in self._db.execute("SELECT path FROM seen WHERE inode=?", (inode,))]

    # recorded attributes of files

    def file_record(self, path: bytes) -> FileRecord | None:
        """Return the recorded attributes of a path."""
        row = self._db.execute(f"SELECT {_FILE_COLUMNS} FROM seen WHERE path=?", (path,)).fetchone()
        return FileRecord(*row) if row else None

    def file_records(self, paths: Sequence[bytes]) -> dict[bytes, FileRecord]:
        """Return the recorded attributes of many paths; paths without a record are omitted."""
        records = {}
        for start in range(0, len(paths), 500):
            batch = paths[start : start + 500]
            placeholders = ",".join("?" * len(batch))
            for row in self._db.execute(
                f"SELECT path, {_FILE_COLUMNS} FROM seen WHERE path IN ({placeholders})", batch
            ):
                records[row[0]] = FileRecord(*row[1:])
        return records

    def sidecars_of_names(self, part: bytes) -> list[tuple[bytes, str]]:
        """Return (path, side-car id) of each recorded file that has a side-car, and `part` in its path."""
        rows = self._db.execute("SELECT path, side FROM seen WHERE side!='' AND instr(path, ?)", (part,))
        return [(row[0], row[1]) for row in rows]

    def record_of_inode(self, inode: int, size: int, mtime_ns: int) -> FileRecord | None:
        """Return the record of a file under any name, whose content is unchanged."""
        row = self._db.execute(
            f"SELECT {_FILE_COLUMNS} FROM seen WHERE inode=? AND size=? AND mtime_ns=? LIMIT 1", (inode, size, mtime_ns)
        ).fetchone()
        return FileRecord(*row) if row else None

    def record_files(self, rows: Iterable[tuple[bytes, FileRecord]]) -> None:
        """Record the attributes of these paths."""
        self._db.executemany(
            "INSERT OR REPLACE INTO seen VALUES(?,?,?,?,?,?,?,?,?)", ((path, *row) for path, row in rows)
        )

    def delete_file_records(self, paths: Iterable[bytes]) -> None:
        """Delete the records of these removed paths and of the paths below them."""
        self._db.executemany(f"DELETE FROM seen WHERE {_BELOW_CONDITION}", (_path_range(path) for path in paths))

    def clear_file_records(self) -> None:
        """Delete all recorded attributes, so that every file is read again."""
        self._db.execute("DELETE FROM seen")

    # internals

    def _fetch_commit(self, sql: str, *values: object) -> tuple[int, Commit] | None:
        row = self._db.execute(sql, values).fetchone()
        return _parse_commit(row) if row else None


_FILE_COLUMNS = "inode, size, mtime_ns, ctime_ns, mode, git_mode, oid, side"
_BELOW_CONDITION = "(path=? OR (path>=? AND path<?))"
_FILTER_CONDITION = "(?='' OR principal=?) AND (?='' OR session=?) AND time_ns>=? AND time_ns<=?"


def _path_range(path: bytes) -> tuple[bytes, bytes, bytes]:
    return path, path + b"/", path + b"0"


def _filter_values(selection: CommitFilter) -> Sequence[object]:
    principal, session = selection.principal, selection.session
    return (principal, principal, session, session, selection.since_ns, selection.until_ns)


def _parse_commit(row: tuple[Any, ...]) -> tuple[int, Commit]:
    seq, oid, tree, parents, time_ns, principal, session, tool, reason, op, subject, scope, undoes = row
    actor = Actor(str(principal), str(session), str(tool), str(reason))
    return int(seq), Commit(oid, tree, tuple(str(parents).split()), time_ns, actor, op, subject, (), scope, undoes)
