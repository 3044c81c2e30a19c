"""The vectors in the catalog: whose they are, which chunk has which, and those of the model that will answer next.

A model answers (`serving`) until another one has embedded every chunk; then all chunks change over in one transaction. Vectors are
kept by a digest of their text, so that a file that is moved, or comes back, keeps its own.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ctxfs.index.options import EmbedderSpec

Among = Callable[[str, Iterable[int | bytes]], Iterator[tuple[Any, ...]]]  # Catalog.among
Waiting = tuple[int, str, str, str]  # number, heading, text and author of a chunk

_QUEUE = """
SELECT chunks.id FROM chunks JOIN files ON files.id=chunks.file WHERE chunks.vector IS NULL AND chunks.id>?
ORDER BY files.path >= CAST('memory/' AS BLOB) AND files.path < CAST('memory0' AS BLOB)
  OR files.path >= CAST('pad/' AS BLOB) AND files.path < CAST('pad0' AS BLOB) DESC, files.mtime_ns DESC, chunks.id
"""
_CHUNK = "SELECT id, heading, text, author FROM chunks WHERE "


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model that vectors are from, and where it was found."""

    id: int
    name: str
    dimensions: int
    spec: EmbedderSpec


class Embeddings:
    """A part of the catalog, on its connection. Methods block; one thread at a time."""

    def __init__(self, db: sqlite3.Connection, among: Among, changed: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._db = db
        self._among = among
        self._changed = changed

    # models

    @property
    def serving(self) -> EmbeddingModel | None:
        """The model whose vectors chunks have; None before the first."""
        found = self._db.execute(
            "SELECT id, name, dimensions, spec FROM models WHERE id=(SELECT value FROM facts WHERE name='model')"
        ).fetchone()
        return EmbeddingModel(found[0], found[1], found[2], EmbedderSpec(**json.loads(found[3]))) if found else None

    def register(self, name: str, dimensions: int, spec: EmbedderSpec) -> EmbeddingModel:
        """A model by its name, known from now on; the first one serves at once."""
        self._db.execute(
            "INSERT INTO models(name, dimensions, spec) VALUES(?,?,?) ON CONFLICT(name) DO UPDATE SET spec=excluded.spec",
            (name, dimensions, json.dumps(asdict(spec))),
        )
        found = self._db.execute("SELECT id, dimensions FROM models WHERE name=?", (name,)).fetchone()
        self._db.execute("INSERT OR IGNORE INTO facts VALUES('model', ?)", (str(found[0]),))
        return EmbeddingModel(found[0], name, found[1], spec)

    def change_over(self, model: int) -> None:
        """The model that was coming serves; what the others made is forgotten."""
        self._db.execute("UPDATE chunks SET vector=(SELECT vector FROM coming WHERE chunk=chunks.id)")
        self._db.execute("UPDATE facts SET value=? WHERE name='model'", (str(model),))
        self._changed("VALUES(0)", ())
        self.drop_coming()
        self._db.execute("DELETE FROM vectors WHERE model!=?", (model,))
        self._db.execute("DELETE FROM models WHERE id!=?", (model,))

    def drop_coming(self) -> None:
        """No other model is to come any more; its vectors stay, in case it does after all, until the next change."""
        self._db.execute("DELETE FROM coming")

    # chunks and their vectors

    @property
    def has_waiting(self) -> bool:
        """True while some chunk has no vector."""
        return self._db.execute("SELECT 1 FROM chunks WHERE vector IS NULL LIMIT 1").fetchone() is not None

    def queue(self, after: int = 0) -> list[int]:
        """Return the numbers above `after` of the chunks without a vector, in the order in which they are to be embedded.

        Memory and pads come first, then what was changed last: people ask about what they have just written. The chunks of a
        file stay together.
        """
        rows = self._db.execute(_QUEUE, (after,))
        return [number for (number,) in rows]

    def waiting(self, numbers: Iterable[int]) -> list[Waiting]:
        """Return those of the chunks `numbers` that still wait for a vector, in that order."""
        order = {number: place for place, number in enumerate(numbers)}
        rows = self._among(_CHUNK + "vector IS NULL AND id IN ({})", order)
        return sorted(
            ((int(row[0]), str(row[1]), str(row[2]), str(row[3])) for row in rows), key=lambda row: order[row[0]]
        )

    def waiting_for(self, after: int, limit: int) -> list[Waiting]:
        """Chunks with a number above `after` that the model to come has not embedded."""
        coming = "id>? AND id NOT IN (SELECT chunk FROM coming) ORDER BY id LIMIT ?"
        return list(self._db.execute(_CHUNK + coming, (after, limit)))

    def known(self, model: int, digests: Iterable[bytes]) -> dict[bytes, int]:
        """Numbers of vectors that a model has made already, by digest of their text."""
        return dict(self._among(f"SELECT digest, id FROM vectors WHERE model={model:d} AND digest IN ({{}})", digests))

    def add(self, model: int, digest: bytes, vector: bytes) -> int:
        """Store a vector (little-endian float16) and return its number."""
        sql = "INSERT INTO vectors(model, digest, vector) VALUES(?,?,?)"
        return int(self._db.execute(sql, (model, digest, vector)).lastrowid or 0)

    def assign(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Give chunks their vectors: (vector, chunk)…; chunks that were replaced meanwhile are passed over."""
        given = list(pairs)
        self._db.executemany("UPDATE chunks SET vector=? WHERE id=?", given)
        chunks = ",".join(str(int(chunk)) for _, chunk in given)
        self._changed(f"SELECT DISTINCT file FROM chunks WHERE id IN ({chunks})", ())

    def assign_coming(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Give chunks the vectors that they will have: (vector, chunk)…"""
        self._db.executemany("INSERT OR REPLACE INTO coming(vector, chunk) VALUES(?,?)", pairs)

    def after(self, model: int, number: int, limit: int) -> list[tuple[int, bytes]]:
        """Vectors of a model with a higher number, in order."""
        sql = "SELECT id, vector FROM vectors WHERE id>? AND model=? ORDER BY id LIMIT ?"
        return list(self._db.execute(sql, (number, model, limit)))

    def count(self, model: int) -> tuple[int, int]:
        """(vectors of a model, of these in use)."""
        total = self._db.execute("SELECT count(*) FROM vectors WHERE model=?", (model,)).fetchone()[0]
        used = self._db.execute("SELECT count(DISTINCT vector) FROM chunks WHERE vector IS NOT NULL").fetchone()[0]
        return int(total), int(used)

    def count_coming(self) -> int:
        """Chunks that a model to come has embedded already."""
        return int(self._db.execute("SELECT count(*) FROM coming").fetchone()[0])

    def drop_unused(self) -> int:
        """Forget vectors of texts that no chunk has any more."""
        return self._db.execute(
            "DELETE FROM vectors WHERE id NOT IN (SELECT vector FROM chunks WHERE vector IS NOT NULL UNION SELECT vector FROM coming)"
        ).rowcount
