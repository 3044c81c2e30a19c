"""The vectors in the catalog: their models, their assignment to chunks, and the vectors of the next model.

A model serves (`serving`) until another model has embedded every chunk.
Then all chunks switch to the new model in one transaction.
Vectors are stored by a digest of their text, so that a file that is moved or restored reuses its vectors.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ctxfs.index.options import EmbedderSpec

SelectAmong = Callable[[str, Iterable[int | bytes]], Iterator[tuple[Any, ...]]]  # Catalog.select_among


class WaitingChunk(NamedTuple):
    """A chunk to embed; `path` is that of its file."""

    number: int
    path: str
    heading: str
    text: str
    author: str


class UnfinishedVector(NamedTuple):
    """A vector that lacks a part of its text, with the next stage, and one of the chunks with that text."""

    number: int
    digest: bytes
    vector: bytes
    next_stage: int
    chunk: WaitingChunk


RATE_FACT = "chunks embedded a second"
DEVICE_FACT = "embedding device"
_RECENT_NS = 3_600_000_000_000
_DAY_NS = 86_400_000_000_000
_IS_OWN_WRITING = """(files.path >= CAST('memory/' AS BLOB) AND files.path < CAST('memory0' AS BLOB)
  OR files.path >= CAST('pad/' AS BLOB) AND files.path < CAST('pad0' AS BLOB))"""
# A checkout or a package gives all of its files about the same time, in the order of their names.
# The multiplicative hash spreads such files, so that a part of them is a sample and not the letters A to D.
_SPREAD = "files.id * 2654435761 % 4294967296, chunks.id"
_SELECT_QUEUE = f"""
WITH sizes AS (
  SELECT files.source AS source, count(*) AS chunks FROM chunks JOIN files ON files.id=chunks.file
  WHERE chunks.vector IS NULL AND chunks.embeddable GROUP BY files.source)
SELECT chunks.id FROM chunks JOIN files ON files.id=chunks.file JOIN sizes ON sizes.source=files.source
WHERE chunks.vector IS NULL AND chunks.embeddable
ORDER BY {_IS_OWN_WRITING} DESC, files.mtime_ns>=:recent DESC, sizes.chunks, files.mtime_ns/{_DAY_NS} DESC, {_SPREAD}
"""
_SELECT_NEWER = f"""
SELECT chunks.id FROM chunks JOIN files ON files.id=chunks.file
WHERE chunks.vector IS NULL AND chunks.embeddable AND chunks.id>?
ORDER BY {_IS_OWN_WRITING} DESC, files.mtime_ns DESC, {_SPREAD}
"""
_CHUNK_COLUMNS = "chunks.id, files.path, chunks.heading, chunks.text, chunks.author"
_SELECT_CHUNKS = f"SELECT {_CHUNK_COLUMNS} FROM chunks JOIN files ON files.id=chunks.file WHERE "
_SELECT_UNFINISHED = f"""
SELECT vectors.id, vectors.digest, vectors.vector, vectors.next_stage, {_CHUNK_COLUMNS}
FROM (
  SELECT id FROM vectors AS unfinished
  WHERE next_stage=? AND model=? AND EXISTS(SELECT 1 FROM chunks WHERE vector=unfinished.id) ORDER BY id DESC LIMIT ?
) AS selected
JOIN vectors ON vectors.id=selected.id
JOIN chunks ON chunks.id=(SELECT min(id) FROM chunks WHERE vector=selected.id)
JOIN files ON files.id=chunks.file
"""
_SELECT_COMPLETE = """
SELECT {} FROM vectors WHERE model=? AND next_stage=0 AND id IN (
  SELECT chunks.vector FROM chunks JOIN files ON files.id=chunks.file
  WHERE files.path>=? AND files.path<? AND files.state!='gone')
ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model with vectors in the catalog, and the spec that opens it."""

    id: int
    name: str
    dimensions: int
    spec: EmbedderSpec


class Embeddings:
    """The vector tables of the catalog, on its connection. Methods block; one thread at a time."""

    def __init__(
        self,
        db: sqlite3.Connection,
        select_among: SelectAmong,
        record_change: Callable[[str, tuple[Any, ...]], None],
    ) -> None:
        self._db = db
        self._select_among = select_among
        self._record_change = record_change

    # models

    @property
    def serving(self) -> EmbeddingModel | None:
        """The model whose vectors the chunks have; None before the first model."""
        row = self._db.execute(
            "SELECT id, name, dimensions, spec FROM models WHERE id=(SELECT value FROM facts WHERE name='model')"
        ).fetchone()
        return EmbeddingModel(row[0], row[1], row[2], EmbedderSpec(**json.loads(row[3]))) if row else None

    def register(self, name: str, dimensions: int, spec: EmbedderSpec) -> EmbeddingModel:
        """Insert or update a model by its name, and return it. The first model serves immediately."""
        self._db.execute(
            "INSERT INTO models(name, dimensions, spec) VALUES(?,?,?) ON CONFLICT(name) DO UPDATE SET spec=excluded.spec",
            (name, dimensions, json.dumps(asdict(spec))),
        )
        row = self._db.execute("SELECT id, dimensions FROM models WHERE name=?", (name,)).fetchone()
        self._db.execute("INSERT OR IGNORE INTO facts VALUES('model', ?)", (str(row[0]),))
        return EmbeddingModel(row[0], name, row[1], spec)

    def switch_model(self, model: int) -> None:
        """Make `model` the serving model, and delete the vectors of all other models."""
        self._db.execute("UPDATE chunks SET vector=(SELECT vector FROM coming WHERE chunk=chunks.id)")
        self._db.execute("UPDATE facts SET value=? WHERE name='model'", (str(model),))
        self._record_change("VALUES(0)", ())
        self.cancel_switch()
        self._db.execute("DELETE FROM vectors WHERE model!=?", (model,))
        self._db.execute("DELETE FROM models WHERE id!=?", (model,))

    def cancel_switch(self) -> None:
        """Cancel the change to another model.

        Its vectors stay until the next change of model, so that the change can be resumed.
        """
        self._db.execute("DELETE FROM coming")

    @property
    def device(self) -> str:
        """The device that embedded last; empty before the first chunk."""
        row = self._db.execute("SELECT value FROM facts WHERE name=?", (DEVICE_FACT,)).fetchone()
        return str(row[0]) if row else ""

    # chunks and their vectors

    @property
    def chunks_per_second(self) -> float:
        """The measured speed of embedding; 0 before the first measurement."""
        row = self._db.execute("SELECT value FROM facts WHERE name=?", (RATE_FACT,)).fetchone()
        return float(row[0]) if row else 0.0

    @property
    def has_waiting(self) -> bool:
        """True while at least one chunk has no vector."""
        return (
            self._db.execute("SELECT 1 FROM chunks WHERE vector IS NULL AND embeddable LIMIT 1").fetchone() is not None
        )

    def queue(self, now_ns: int | None = None) -> list[int]:
        """Return the numbers of the chunks without a vector, in the order in which to embed them.

        Memory and pads come first, then files of the last hour, then the sources with the fewest waiting chunks.
        Within a source, files of later days come first. The chunks of a file stay together.
        """
        recent = (time.time_ns() if now_ns is None else now_ns) - _RECENT_NS
        return [number for (number,) in self._db.execute(_SELECT_QUEUE, {"recent": recent})]

    def queue_after(self, number: int) -> list[int]:
        """Return the numbers above `number` of the chunks without a vector; memory and pads, then the newest, first."""
        return [chunk for (chunk,) in self._db.execute(_SELECT_NEWER, (number,))]

    def waiting_chunks(self, numbers: Iterable[int]) -> list[WaitingChunk]:
        """Return those of the chunks `numbers` that still have no vector, in that order."""
        order = {number: position for position, number in enumerate(numbers)}
        condition = "chunks.vector IS NULL AND chunks.embeddable AND chunks.id IN ({})"
        rows = map(_make_waiting, self._select_among(_SELECT_CHUNKS + condition, order))
        return sorted(rows, key=lambda row: order[row.number])

    def chunks_for_next_model(self, after: int, limit: int) -> list[WaitingChunk]:
        """Return at most `limit` chunks above `after` that the next model has not embedded, sorted by number."""
        condition = (
            "chunks.id>? AND embeddable AND chunks.id NOT IN (SELECT chunk FROM coming) ORDER BY chunks.id LIMIT ?"
        )
        return list(map(_make_waiting, self._db.execute(_SELECT_CHUNKS + condition, (after, limit))))

    def unfinished_vectors(self, model: int, stage: int, limit: int) -> list[UnfinishedVector]:
        """Return at most `limit` vectors that chunks use and that have this next stage, the latest first."""
        rows = self._db.execute(_SELECT_UNFINISHED, (stage, model, limit))
        return [UnfinishedVector(row[0], row[1], row[2], row[3], _make_waiting(row[4:])) for row in rows]

    def refine(self, model: int, old: UnfinishedVector, vector: bytes, next_stage: int) -> None:
        """Replace a vector by one with more of its text, in all of its chunks."""
        self._db.execute("DELETE FROM vectors WHERE id=?", (old.number,))
        new = self.add(model, old.digest, vector, next_stage)
        self._record_change("SELECT DISTINCT file FROM chunks WHERE vector=?", (old.number,))
        self._db.execute("UPDATE chunks SET vector=? WHERE vector=?", (new, old.number))

    def stored_vectors(self, model: int, digests: Iterable[bytes]) -> dict[bytes, int]:
        """Return the numbers of the stored vectors of a model, by the digest of their text."""
        return dict(
            self._select_among(f"SELECT digest, id FROM vectors WHERE model={model:d} AND digest IN ({{}})", digests)
        )

    def add(self, model: int, digest: bytes, vector: bytes, next_stage: int = 0) -> int:
        """Store a vector (little-endian float16) and return its number; `next_stage` is 0 if it is complete."""
        sql = "INSERT INTO vectors(model, digest, vector, next_stage) VALUES(?,?,?,?)"
        return int(self._db.execute(sql, (model, digest, vector, next_stage)).lastrowid or 0)

    def assign(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Assign (vector, chunk) pairs; ignore chunks that have been replaced in the meantime."""
        assignments = list(pairs)
        self._db.executemany("UPDATE chunks SET vector=? WHERE id=?", assignments)
        chunks = ",".join(str(int(chunk)) for _, chunk in assignments)
        self._record_change(f"SELECT DISTINCT file FROM chunks WHERE id IN ({chunks})", ())

    def assign_next(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Assign (vector, chunk) pairs of the next model, which take effect at `switch_model`."""
        self._db.executemany("INSERT OR REPLACE INTO coming(vector, chunk) VALUES(?,?)", pairs)

    def vectors_after(self, model: int, number: int, limit: int) -> list[tuple[int, bytes]]:
        """Return at most `limit` (number, vector) pairs of a model above `number`, sorted by number."""
        sql = "SELECT id, vector FROM vectors WHERE id>? AND model=? ORDER BY id LIMIT ?"
        return list(self._db.execute(sql, (number, model, limit)))

    @property
    def newest_number(self) -> int:
        """The highest number of a vector; 0 if there is none."""
        return int(self._db.execute("SELECT ifnull(max(id), 0) FROM vectors").fetchone()[0])

    def complete_vectors(self, model: int, folders: Iterable[str]) -> list[tuple[bytes, bytes]]:
        """Return the (digest, vector) pairs with the whole of their text, of files in some folders of the root."""
        pairs: dict[bytes, bytes] = {}
        for folder in folders:
            start = f"{folder}/".encode()
            sql = _SELECT_COMPLETE.format("digest, vector")
            pairs.update(self._db.execute(sql, (model, start, start[:-1] + b"0")))
        return list(pairs.items())

    def count_complete(self, model: int, folders: Iterable[str]) -> int:
        """Return about the number of `complete_vectors`: vectors of several folders count in each."""
        starts = [f"{folder}/".encode() for folder in folders]
        sql = _SELECT_COMPLETE.format("count(*)")
        return sum(self._db.execute(sql, (model, start, start[:-1] + b"0")).fetchone()[0] for start in starts)

    def count(self, model: int) -> tuple[int, int]:
        """Return (number of vectors of a model, number of vectors that chunks use)."""
        total = self._db.execute("SELECT count(*) FROM vectors WHERE model=?", (model,)).fetchone()[0]
        used = self._db.execute("SELECT count(DISTINCT vector) FROM chunks WHERE vector IS NOT NULL").fetchone()[0]
        return int(total), int(used)

    def count_until(self, model: int, number: int) -> int:
        """Return the number of vectors of a model up to a number."""
        sql = "SELECT count(*) FROM vectors WHERE model=? AND id<=?"
        return int(self._db.execute(sql, (model, number)).fetchone()[0])

    def count_next(self) -> int:
        """Return the number of chunks that the next model has embedded."""
        return int(self._db.execute("SELECT count(*) FROM coming").fetchone()[0])

    def drop_unused(self) -> int:
        """Delete the vectors that no chunk uses, and return their number."""
        return self._db.execute(
            "DELETE FROM vectors WHERE id NOT IN (SELECT vector FROM chunks WHERE vector IS NOT NULL UNION SELECT vector FROM coming)"
        ).rowcount


def _make_waiting(row: tuple[Any, ...]) -> WaitingChunk:
    return WaitingChunk(int(row[0]), row[1].decode("utf-8", "surrogateescape"), *row[2:])
