"""The catalog: files, chunks and vectors in one SQLite database. The indexer writes it, search reads it.

Its tables and rows are those of `catalog_schema.py`.
"""

import json
import sqlite3
import uuid
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path as HostPath
from typing import Any

from ctxfs.index.engines.catalog_schema import (
    BORN_FACT,
    COUNT_STATES,
    NOT_EMBEDDED,
    SCHEMA,
    SCHEMA_VERSION,
    SELECT_USERS,
    ChunkRow,
    Counts,
    FileRow,
    FileStat,
    RankingRow,
    tree_path,
)
from ctxfs.index.engines.embeddings import Embeddings
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.text_features import count_words, detect_features
from ctxfs.model.path import encode_name
from ctxfs.store.derived_db import BUSY_MS, DerivedDatabase, open_derived

_MAX_SQL_VALUES = 5000
_MAX_CHANGES = 100_000
_SELECT_FILES = "SELECT id, path, size, mtime_ns, inode, ctime_ns, sha256, state, noise FROM files WHERE state!='gone'"


def _decode(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _file_row(columns: tuple[Any, ...]) -> FileRow:
    return FileRow(columns[0], _decode(columns[1]), *columns[2:])


class Catalog(DerivedDatabase):
    """One connection to the catalog. Methods block; one thread at a time uses a connection."""

    def __init__(self, folder: HostPath, *, read_only: bool = False) -> None:
        file = folder / "catalog.db"
        if read_only:
            self._db = sqlite3.connect(f"file:{file}?mode=ro", uri=True, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA query_only=1")
        else:
            self._db = open_derived(file, SCHEMA, SCHEMA_VERSION, foreign_keys="ON")
        self._db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        self._db.execute("PRAGMA cache_size=-8000")
        self.embeddings = Embeddings(self._db, self.select_among, self._record_change)

    @staticmethod
    def exists(folder: HostPath) -> bool:
        """Return True once a catalog with its tables exists in `folder`."""
        file = folder / "catalog.db"
        if not file.exists():
            return False
        try:
            db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
            try:
                return bool(db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION)
            finally:
                db.close()
        except sqlite3.Error:
            return False

    def select_among(self, sql: str, values: Iterable[int | bytes]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that has `{}` at the position of the values.

        Run the query in parts, because SQLite limits the variables of a statement.
        """
        remaining = list(values)
        for start in range(0, len(remaining), _MAX_SQL_VALUES):
            part = remaining[start : start + _MAX_SQL_VALUES]
            yield from self._db.execute(sql.format(",".join("?" * len(part))), part)

    # files

    def files_of(self, source: str) -> dict[str, FileRow]:
        """Return the files of a source by path, without those that are gone."""
        rows = self._db.execute(f"{_SELECT_FILES} AND source=?", (source,))
        return {row.path: row for row in map(_file_row, rows)}

    def file(self, path: str) -> FileRow | None:
        """Return the file at `path`, or None if it is absent or gone."""
        columns = self._db.execute(f"{_SELECT_FILES} AND path=?", (encode_name(path),)).fetchone()
        return _file_row(columns) if columns else None

    def files_below(self, path: str) -> list[FileRow]:
        """Return the files below a directory in the order of their paths, without those that are gone."""
        start = encode_name(path + "/")
        rows = self._db.execute(f"{_SELECT_FILES} AND path>=? AND path<? ORDER BY path", (start, start[:-1] + b"0"))
        return list(map(_file_row, rows))

    def note(self, file: int) -> str:
        """Return the reason why a file is skipped, or which part of it is searched; empty for a whole file."""
        row = self._db.execute("SELECT note FROM files WHERE id=?", (file,)).fetchone()
        return str(row[0]) if row else ""

    def paths_of(self, files: Iterable[int]) -> dict[int, str]:
        """Return the paths in the tree of files by number, without those that are gone."""
        rows = self.select_among("SELECT id, path FROM files WHERE id IN ({}) AND state!='gone'", files)
        return {row[0]: tree_path(_decode(row[1])) for row in rows}

    def texts_of(self, files: Iterable[int]) -> Iterator[tuple[int, int, str]]:
        """Yield (file, chunk, text) of the chunks of files that are not gone, in the order of files and lines."""
        rows = self.select_among(
            "SELECT c.file, c.id, c.text FROM chunks c JOIN files f ON f.id=c.file "
            "WHERE c.file IN ({}) AND f.state!='gone' ORDER BY c.file, c.id",
            files,
        )
        yield from ((row[0], row[1], row[2]) for row in rows)

    def unsearchable_paths(self, labels: Sequence[tuple[str, str]] = ()) -> list[str]:
        """Return the paths in the tree of files that may be texts and that the full-text index lacks, wholly or in part.

        These are the pending files, the skipped files that are not binary, and the files that are searched in part;
        of these, the ones that have all of the labels.
        """
        condition = " AND id IN (SELECT file FROM attributes WHERE name=? AND value=?)" * len(labels)
        rows = self._db.execute(
            f"SELECT path FROM files WHERE (state='pending' OR (state!='gone' AND note NOT IN ('', 'binary'))){condition}",
            [text for label in labels for text in label],
        )
        return [tree_path(_decode(row[0])) for row in rows]

    def paths_below(self, path: str) -> list[str]:
        """Return the paths of the files below a directory, without those that are gone."""
        return [row.path for row in self.files_below(path)]

    def put_file(
        self, path: str, source: str, stat: FileStat, sha256: bytes | None, kind: str, state: str, note: str
    ) -> int:
        """Insert or update a file by path, and return its number."""
        row = self._db.execute(
            "INSERT INTO files(path, source, size, mtime_ns, inode, ctime_ns, sha256, kind, state, note) "
            "VALUES(?,?,?,?,?,?,?,?,?,?) "
            "ON CONFLICT(path) DO UPDATE SET source=excluded.source, size=excluded.size, mtime_ns=excluded.mtime_ns, "
            "inode=excluded.inode, ctime_ns=excluded.ctime_ns, sha256=excluded.sha256, "
            "kind=excluded.kind, state=excluded.state, note=excluded.note "
            "RETURNING id",
            (encode_name(path), source, *stat, sha256, kind, state, note),
        ).fetchone()
        return int(row[0])

    def mark_skipped(self, file: int, note: str) -> None:
        """Mark a file as skipped with the reason `note`, and delete its chunks."""
        self._db.execute("UPDATE files SET state='skipped', note=? WHERE id=?", (note, file))
        self.replace_chunks(file, ())

    def skipped_files(self, limit: int) -> list[tuple[str, str]]:
        """Return (path, note) of at most `limit` files that are skipped and not binary, or searched in part, sorted by path."""
        rows = self._db.execute(
            "SELECT path, note FROM files WHERE state!='gone' AND note NOT IN ('', 'binary') ORDER BY path LIMIT ?",
            (limit,),
        )
        return [(_decode(row[0]), row[1]) for row in rows]

    def update_stat(self, file: int, stat: FileStat, note: str) -> None:
        """Update the stat values and the note of a file whose searched content is unchanged."""
        self._db.execute(
            "UPDATE files SET size=?, mtime_ns=?, inode=?, ctime_ns=?, note=? WHERE id=?", (*stat, note, file)
        )

    def attributes(self, file: int) -> list[tuple[str, str]]:
        """Return the (name, value) pairs of a file's attributes, sorted; `tags` has one pair a tag."""
        rows = self._db.execute("SELECT name, value FROM attributes WHERE file=? ORDER BY name, value", (file,))
        return [(row[0], row[1]) for row in rows]

    def attributes_among(self, paths: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
        """Return the (name, value) pairs of attributes by path, of those of `paths` that have any."""
        out: dict[str, list[tuple[str, str]]] = {}
        rows = self.select_among(
            "SELECT f.path, a.name, a.value FROM files f JOIN attributes a ON a.file=f.id WHERE f.path IN ({})",
            [path.encode("utf-8", "surrogateescape") for path in paths],
        )
        for path, name, value in rows:
            out.setdefault(_decode(path), []).append((name, value))
        return out

    def all_paths(self) -> Iterator[tuple[int, str]]:
        """Yield (number, path) of every file that is not gone."""
        rows = self._db.execute("SELECT id, path FROM files WHERE state!='gone'")
        yield from ((row[0], _decode(row[1])) for row in rows)

    def quarantined(self) -> set[int]:
        """Return the numbers of the files that are quarantined, which agents do not find."""
        return {
            row[0] for row in self._db.execute("SELECT file FROM attributes WHERE name='quarantined' AND value='true'")
        }

    def supersedes_attributes(self) -> list[tuple[str, str]]:
        """Return (path, value) of each `supersedes` attribute of the files that are not gone."""
        rows = self._db.execute(
            "SELECT f.path, a.value FROM attributes a JOIN files f ON f.id=a.file WHERE a.name='supersedes' AND f.state!='gone'"
        )
        return [(_decode(row[0]), row[1]) for row in rows]

    def user_lists(self) -> list[tuple[int, str, str]]:
        """Return (file, path, names of users by id as JSON) of the searched files that list users."""
        return [(row[0], _decode(row[1]), row[2]) for row in self._db.execute(SELECT_USERS)]

    def untrusted_files(self) -> dict[str, tuple[int, int, int]]:
        """Return {path: (inode, ctime_ns, size)} of the files whose attributes mark them as untrusted or quarantined."""
        rows = self._db.execute(
            "SELECT f.path, f.inode, f.ctime_ns, f.size FROM files f WHERE f.state!='gone' AND f.id IN (SELECT file FROM "
            "attributes WHERE (name='trust' AND value='untrusted') OR (name='quarantined' AND value='true'))"
        )
        return {_decode(path): (inode, ctime_ns, size) for path, inode, ctime_ns, size in rows}

    def set_attributes(self, file: int, attributes: Iterable[tuple[str, str]]) -> None:
        """Replace the attributes of a file."""
        self._db.execute("DELETE FROM attributes WHERE file=?", (file,))
        self._db.executemany("INSERT INTO attributes VALUES(?,?,?)", ((file, *pair) for pair in attributes))

    def set_noise(self, file: int, noise: str) -> None:
        """Set the reason why a file is noise; empty if it is none. Its chunks are replaced afterwards."""
        self._db.execute("UPDATE files SET noise=? WHERE id=?", (noise, file))

    def noise_counts(self) -> dict[str, int]:
        """Return the number of files that are noise, by reason, the most frequent reason first."""
        rows = self._db.execute(
            "SELECT noise, count(*) FROM files WHERE noise!='' AND state IN ('words', 'pending') GROUP BY noise ORDER BY 2 DESC, 1"
        )
        return dict(rows.fetchall())

    def set_ignored_folders(self, counts: Mapping[str, int]) -> None:
        """Store the number of ignored folders of packages and caches, by name."""
        self.set_fact("ignored", json.dumps(dict(sorted(counts.items()))))

    def ignored_folders(self) -> dict[str, int]:
        """Return the number of folders of packages and caches that are not indexed at all, by name."""
        return {str(name): int(count) for name, count in json.loads(self.fact("ignored") or "{}").items()}

    def set_kind(self, file: int, kind: str) -> None:
        """Set the kind of a file, and mark it pending, so that the full-text index commits it again."""
        self._db.execute("UPDATE files SET kind=?, state='pending' WHERE id=?", (kind, file))
        self._record_change("VALUES(?)", (file,))

    def first_chunks(self, chunks: Sequence[int], limit: int, hidden: Container[int] = ()) -> list[int]:
        """Return the first chunk of each file that has one of `chunks`, the newest file first, at most `limit`.

        Leave out files that are gone, and the files `hidden`.
        """
        files: dict[int, tuple[int, int]] = {}
        rows = self.select_among(
            "SELECT f.id, f.mtime_ns, min(c.id) FROM chunks c JOIN files f ON f.id=c.file "
            "WHERE c.id IN ({}) AND f.state!='gone' GROUP BY f.id",
            chunks,
        )
        for file, mtime_ns, first in rows:
            if file not in hidden:
                previous = files.get(file)
                files[file] = (mtime_ns, min(first, previous[1]) if previous else first)
        newest = sorted(files.values(), key=lambda item: (-item[0], item[1]))
        return [first for _, first in newest[:limit]]

    def mark_gone(self, path: str) -> bool:
        """Mark a deleted file as gone, so that search no longer returns it.

        Return False if the catalog has no such file.
        """
        return self._mark_gone("path=?", encode_name(path))

    def mark_source_gone(self, source: str) -> None:
        """Mark every file of a removed source as gone."""
        self._mark_gone("source=?", source)

    def _mark_gone(self, condition: str, value: str | bytes) -> bool:
        with (
            self.transaction()
        ):  # a reader that saw the change record before the change itself would never load the change
            self._record_change(f"SELECT id FROM files WHERE {condition} AND state!='gone'", (value,))
            update = f"UPDATE files SET state='gone' WHERE {condition} AND state!='gone'"
            return self._db.execute(update, (value,)).rowcount > 0

    def sources(self) -> set[str]:
        """Return the names of the sources that have files in the catalog."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT source FROM files")}

    def files_in_state(self, state: str, limit: int) -> list[tuple[int, str, str, int]]:
        """Return (number, path, kind, mtime_ns) of at most `limit` files in a state (`pending` or `gone`)."""
        rows = self._db.execute("SELECT id, path, kind, mtime_ns FROM files WHERE state=? LIMIT ?", (state, limit))
        return [(row[0], _decode(row[1]), row[2], row[3]) for row in rows]

    def record_commit(self, words: Sequence[int], gone: Sequence[int]) -> None:
        """Record a commit of the full-text index: the files `words` are searchable, the files `gone` are deleted."""
        self._db.executemany("UPDATE files SET state='words' WHERE id=? AND state='pending'", [(f,) for f in words])
        self._db.executemany("DELETE FROM files WHERE id=? AND state='gone'", [(f,) for f in gone])
        self._db.execute("DELETE FROM changes WHERE id<=(SELECT max(id) FROM changes)-?", (_MAX_CHANGES,))

    def reset_words(self) -> None:
        """Mark the files of an emptied full-text index as pending, so that they are added again."""
        self._db.execute("UPDATE files SET state='pending' WHERE state='words'")

    # chunks and vectors

    def replace_chunks(self, file: int, chunks: Iterable[Chunk]) -> None:
        """Replace the chunks of a file; those of noise are not embeddable."""
        self._db.execute("DELETE FROM chunks WHERE file=?", (file,))
        row = self._db.execute("SELECT noise='' FROM files WHERE id=?", (file,)).fetchone()
        is_embeddable = bool(row[0]) if row else True
        self._record_change("VALUES(?)", (file,))
        self._db.executemany(
            "INSERT INTO chunks(file, first, last, heading, text, author, day, traits, words, embeddable, said) "
            "VALUES(?,?,?,?,?,?,?,?,?,?,?)",
            (
                (
                    file,
                    chunk.first,
                    chunk.last,
                    chunk.heading,
                    chunk.text,
                    chunk.author,
                    chunk.day,
                    int(detect_features(chunk.text, chunk.author)),
                    count_words(chunk.text),
                    is_embeddable and chunk.embeddable,
                    chunk.said,
                )
                for chunk in chunks
            ),
        )

    def chunks_of(self, file: int) -> list[tuple[int, str, str, str, int, int, int | None]]:
        """Return (number, heading, text, author, first line, last line, time of the message) of a file's chunks, in order."""
        columns = "id, heading, text, author, first, last, said"
        return list(self._db.execute(f"SELECT {columns} FROM chunks WHERE file=? ORDER BY id", (file,)))

    def compact(self) -> None:
        """Rewrite the database file, so that no deleted content can be read from it."""
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def chunk_rows(self, chunks: Sequence[int]) -> dict[int, ChunkRow]:
        """Return the rows of `chunks` by number, without those whose files are gone."""
        rows = self.select_among(
            "SELECT c.id, f.path, c.first, c.last, c.heading, c.text, f.kind, f.mtime_ns, f.sha256, c.author, c.day, c.said, "
            "f.note FROM chunks c JOIN files f ON f.id=c.file WHERE c.id IN ({}) AND f.state!='gone'",
            chunks,
        )
        return {
            row[0]: ChunkRow(*(row[0], tree_path(_decode(row[1])), *row[2:8], (row[8] or b"").hex(), *row[9:]))
            for row in rows
        }

    # columns for ranking

    def _record_change(self, file_query: str, values: Sequence[object] = ()) -> None:
        """Record that readers have to reload `files` (a query for their numbers).

        Call it in the transaction that changes the files.
        """
        self._db.execute(f"INSERT INTO changes(file) {file_query}", values)

    def changes_after(self, number: int) -> tuple[int, set[int] | None]:
        """Return the number of the last change, and the files that changed after the change `number`.

        The files are None if a reader has to reload all of them.
        """
        first, last = self._db.execute("SELECT min(id), max(id) FROM changes").fetchone()
        if number == 0 or number < (first or 1) - 1 or number > (last or 0):
            return last or 0, None
        files = {row[0] for row in self._db.execute("SELECT DISTINCT file FROM changes WHERE id>?", (number,))}
        return last or 0, None if 0 in files else files

    def ranking_rows(self, files: Iterable[int] | None) -> Iterator[RankingRow]:
        """Yield the columns that ranking needs for the chunks of `files` (None: all), sorted by chunk number.

        Leave out files that are gone.
        """
        select = (
            "SELECT c.id, c.file, f.path, f.kind, c.author, c.day, c.traits, c.words, "
            f"CASE WHEN c.embeddable THEN c.vector ELSE {NOT_EMBEDDED:d} END "
            "FROM chunks c JOIN files f ON f.id=c.file WHERE f.state!='gone'"
        )
        rows = (
            self._db.execute(f"{select} ORDER BY c.id")
            if files is None
            else sorted(self.select_among(f"{select} AND c.file IN ({{}})", files))
        )
        for row in rows:
            yield (*row[:2], _decode(row[2]), *row[3:])

    def authors(self, limit: int = 20_000) -> list[str]:
        """Return the distinct authors of chunks as the files spell them, at most `limit`."""
        # Skips from one name to the next in the index, because DISTINCT would read every chunk.
        rows = self._db.execute(
            "WITH RECURSIVE names(name) AS ("
            "SELECT min(author) FROM chunks WHERE author!='' "
            "UNION ALL SELECT (SELECT min(author) FROM chunks WHERE author!='' AND author>name) FROM names WHERE name IS NOT NULL"
            ") SELECT name FROM names WHERE name IS NOT NULL LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    # facts and totals

    def fact(self, name: str) -> str:
        """Return the stored value of `name`, or the empty string."""
        row = self._db.execute("SELECT value FROM facts WHERE name=?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def set_fact(self, name: str, value: str) -> None:
        """Store a value under `name`."""
        self._db.execute(
            "INSERT INTO facts VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=excluded.value", (name, value)
        )

    def identifier(self) -> str:
        """Return the unique identifier of this catalog; create it on the first call."""
        if not (name := self.fact(BORN_FACT)):
            name = uuid.uuid4().hex
            self.set_fact(BORN_FACT, name)
        return name

    def has_words(self) -> bool:
        """Return True if the full-text index should contain at least one chunk."""
        sql = "SELECT 1 FROM chunks c JOIN files f ON f.id=c.file WHERE f.state='words' LIMIT 1"
        return self._db.execute(sql).fetchone() is not None

    def count_waiting(self) -> tuple[int, int]:
        """Return (number of chunks that wait for a vector, number of chunks that have one or wait)."""
        waiting = self._db.execute("SELECT count(*) FROM chunks WHERE vector IS NULL AND embeddable").fetchone()[0]
        return int(waiting), int(self._db.execute("SELECT count(*) FROM chunks WHERE embeddable").fetchone()[0])

    def counts(self) -> Counts:
        """Return the totals. Scans the indexes: some milliseconds for 100,000 chunks."""
        states = dict(self._db.execute(COUNT_STATES))
        files = sum(states.values())
        chunks = int(self._db.execute("SELECT count(*) FROM chunks").fetchone()[0])
        return Counts(files, states.get("words", 0), states.get("skipped", 0), chunks, *self.count_waiting())

    def skipped(self) -> dict[str, int]:
        """Return the number of skipped files by note, the most frequent note first."""
        rows = self._db.execute("SELECT note, count(*) FROM files WHERE state='skipped' GROUP BY note ORDER BY 2 DESC")
        return dict(rows.fetchall())

    def count_partial(self) -> int:
        """Return the number of files that are searched in part."""
        rows = self._db.execute("SELECT count(*) FROM files WHERE note!='' AND state IN ('words', 'pending')")
        return int(rows.fetchone()[0])
