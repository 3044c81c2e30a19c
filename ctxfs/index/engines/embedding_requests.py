"""Requests from questions to the indexer: chunks to embed first, and vectors that questions have computed already.

Readers of the catalog cannot write to it, because the indexer locks it for seconds. This small database is for them.
It is derived data: without it, questions and the indexer only work more. Its errors are logged, not raised.
Vectors that other nodes of a shared store have published wait in a file of the same form, which may be larger.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as HostPath

from ctxfs.store.derived_db import is_sound, open_derived

log = logging.getLogger(__name__)

_SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE chunks(id INTEGER PRIMARY KEY);
CREATE TABLE vectors(
  id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, digest BLOB NOT NULL, vector BLOB NOT NULL,
  next_stage INTEGER NOT NULL, UNIQUE(model, digest))
"""
_MAX_CHUNKS = 5000
_MAX_SQL_VALUES = 500
_BUSY_MS = 200


@dataclass(frozen=True, slots=True)
class VectorFile:
    """The name of a file in the index's folder, and the number of vectors that it keeps."""

    name: str
    max_vectors: int


OWN_VECTORS = VectorFile("requests.db", 20_000)
SHARED_VECTORS = VectorFile("shared_vectors.db", 1_000_000)


class EmbeddingRequests:
    """One connection to the requests of an index. Methods block; one thread at a time uses a connection.

    Vectors are stored by the name of their model and the digest of their text, like those of the catalog.
    """

    def __init__(self, folder: HostPath, kind: VectorFile = OWN_VECTORS) -> None:
        self._file = folder / kind.name
        self._max_vectors = kind.max_vectors
        self._db: sqlite3.Connection | None = None

    @property
    def exists(self) -> bool:
        """True if the file exists: it may hold vectors."""
        return self._file.exists()

    def close(self) -> None:
        """Close the connection."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def request_chunks(self, chunks: Iterable[int]) -> None:
        """Ask the indexer to embed these chunks of the catalog first."""
        with self._guarded() as db:
            db.executemany("INSERT OR IGNORE INTO chunks VALUES(?)", [(chunk,) for chunk in chunks])
            excess = f"id NOT IN (SELECT id FROM chunks ORDER BY id DESC LIMIT {_MAX_CHUNKS})"
            db.execute(f"DELETE FROM chunks WHERE {excess}")

    def take_chunks(self) -> list[int]:
        """Remove and return the requested chunks."""
        chunks: list[int] = []
        with self._guarded(writes=False) as db:
            chunks = [int(row[0]) for row in db.execute("SELECT id FROM chunks ORDER BY id")]
            if chunks:
                db.execute(f"DELETE FROM chunks WHERE id<={chunks[-1]}")
        return chunks

    def add_vectors(self, model: str, vectors: Mapping[bytes, tuple[bytes, int]]) -> None:
        """Store vectors by the digest of their text, so that the indexer does not compute them again.

        A vector is (little-endian float16, next stage as in the catalog).
        """
        with self._guarded() as db:
            db.executemany(
                "INSERT OR IGNORE INTO vectors(model, digest, vector, next_stage) VALUES(?,?,?,?)",
                [(model, digest, *vector) for digest, vector in vectors.items()],
            )
            db.execute(f"DELETE FROM vectors WHERE id<=(SELECT max(id) FROM vectors)-{self._max_vectors}")

    def vectors(self, model: str, digests: Sequence[bytes]) -> dict[bytes, tuple[bytes, int]]:
        """Return those of the vectors that are stored, each (little-endian float16, next stage), by digest."""
        stored: dict[bytes, tuple[bytes, int]] = {}
        with self._guarded(writes=False) as db:
            for start in range(0, len(digests), _MAX_SQL_VALUES):
                part = digests[start : start + _MAX_SQL_VALUES]
                marks = ",".join("?" * len(part))
                sql = f"SELECT digest, vector, next_stage FROM vectors WHERE model=? AND digest IN ({marks})"
                stored |= {row[0]: (row[1], row[2]) for row in db.execute(sql, (model, *part))}
        return stored

    def remove_vectors(self, model: str, digests: Iterable[bytes]) -> None:
        """Remove vectors that the catalog contains."""
        with self._guarded() as db:
            db.executemany("DELETE FROM vectors WHERE model=? AND digest=?", [(model, digest) for digest in digests])

    def clear(self) -> None:
        """Remove everything, so that no trace of deleted files can be read from the file."""
        with self._guarded() as db:
            db.execute("DELETE FROM chunks")
            db.execute("DELETE FROM vectors")
        with self._guarded(writes=False) as db:
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def _guarded(self, *, writes: bool = True) -> Iterator[sqlite3.Connection]:
        """Yield the open database, in a transaction if the block writes. Log the errors of the database.

        A damaged file is deleted, and created again by the next call.
        """
        try:
            db = self._open()
            if not writes:
                yield db
                return
            with db:
                db.execute("BEGIN IMMEDIATE")
                yield db
        except (sqlite3.Error, OSError) as error:
            log.debug("requests to the indexer are not kept: %s", error)
            self.close()
            if isinstance(error, sqlite3.DatabaseError) and not is_sound(self._file):
                for suffix in ("", "-wal", "-shm"):
                    with contextlib.suppress(OSError):
                        self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self._db = open_derived(self._file, _SCHEMA, _SCHEMA_VERSION)
            self._db.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
        return self._db
