"""The vectors of an index, published by one node and fetched by another, over a folder as the engine."""

import hashlib
import io
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import Stage, Vectors
from ctxfs.index.engines.embedding_requests import SHARED_VECTORS, EmbeddingRequests
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.ingest import embed_worker
from ctxfs.index.ingest.embed_worker import EmbedWorker
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import EmbedderSpec, IndexedRoot, IndexerOptions
from ctxfs.services import shared_index
from ctxfs.services.shared_index import BUILD, FETCH, SharedIndex, forget_generation
from ctxfs.shared.engines import open_log
from ctxfs.shared.generation import decode_generation, encode_generation
from ctxfs.shared.log import Entry, EntryKind, LogRefused, SharedLog
from ctxfs.shared.vector_pack import encode_packs

DIMENSIONS = 16
FILES = 12


class CountingEmbedder:
    """An embedder whose vector follows from the text, and that counts the texts."""

    dimensions = DIMENSIONS
    device = "cpu"

    def __init__(self) -> None:
        self.texts = 0

    def embed_stage(
        self, texts: Sequence[str], stage: Stage, earlier: Vectors | None = None
    ) -> tuple[Vectors, Sequence[bool]]:
        self.texts += len(texts)
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
        rows = np.stack([np.random.default_rng(seed).normal(size=DIMENSIONS) for seed in seeds])
        vectors: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return vectors, [False] * len(texts)


class Machine:
    """A node's index over memories and over knowledge of its own, with its part of the shared index."""

    def __init__(self, folder: Path, engine: Path, knowledge: str) -> None:
        self.index, self.repo = folder / "index", folder / "repo"
        for path in (self.index, self.repo, folder / "memory", folder / "knowledge"):
            path.mkdir(parents=True)
        for number in range(FILES):
            (folder / "memory" / f"{number}.md").write_text(
                f"# Note {number}\n\nThe answer to {number} is {number * 7}.\n"
            )
        (folder / "knowledge/k.md").write_text(f"# Own\n\n{knowledge}\n")
        self.spec = EmbedderSpec(url="http://127.0.0.1:1/v1", model="counting")
        self.mode = FETCH
        self.embedder = CountingEmbedder()
        self.engine = engine
        self.node = SharedIndex(self.index, self.repo, lambda: self.spec, lambda: self.mode, self.connect)
        self.roots = [
            IndexedRoot("memory", str(folder / "memory")),
            IndexedRoot("knowledge/k", str(folder / "knowledge")),
        ]

    def connect(self) -> SharedLog:
        return open_log(f"file://{self.engine}", "store", create=True)

    def ingest(self) -> None:
        words = FullText(self.index / "words", make=True)
        with closing(Ingester(Catalog(self.index), words, 1_000_000, lambda _: None)) as ingester:
            ingester.recover()
            ingester.set_roots(self.roots)
            ingester.scan_all()

    def embed(self, monkeypatch: pytest.MonkeyPatch) -> int:
        """Embed all chunks, and return the number of texts that the model had to embed."""
        before = self.embedder.texts
        monkeypatch.setattr(embed_worker, "open_embedder", lambda spec, threads: self.embedder)
        with closing(EmbedWorker(IndexerOptions(self.index, self.spec, 1, 10**6, 20_000), lambda _: None)) as worker:
            worker.run_pending()
            assert worker.count_waiting() == 0
        return self.embedder.texts - before

    def vectors(self) -> dict[str, bytes]:
        sql = (
            "SELECT files.path, vectors.vector FROM chunks JOIN files ON files.id=chunks.file"
            " JOIN vectors ON vectors.id=chunks.vector WHERE files.source='memory'"
        )
        with closing(Catalog(self.index)) as catalog:
            return {path.decode(): vector for path, vector in catalog._db.execute(sql)}


def entry_of(data: bytes, number: int = 1) -> Entry:
    return Entry(number, "a" * 40, "", EntryKind.INDEX, "n", "0" * 32, data=data)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Machine, Machine]]:
    """Yield two nodes with the same memories; the first has embedded everything."""
    monkeypatch.setattr(shared_index, "MIN_VECTORS", 3)
    (tmp_path / "engine").mkdir()
    one, two = (Machine(tmp_path / name, tmp_path / "engine", f"secret of {name}") for name in ("one", "two"))
    for machine in (one, two):
        machine.ingest()
    one.embed(monkeypatch)
    yield one, two


def publish(machine: Machine) -> bytes:
    assert machine.node.publish() == FILES
    data = machine.node.pending()
    assert data is not None
    machine.node.take(entry_of(data))
    assert machine.node.pending() is None
    return data


def test_fetched_vectors_are_not_embedded_again(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    two.node.take(entry_of(publish(one)))
    assert two.node.fetch() == FILES
    assert two.embed(monkeypatch) == 1, "only the knowledge of its own"
    assert two.vectors() == one.vectors()
    with closing(EmbeddingRequests(two.index, SHARED_VECTORS)) as stored:
        assert not stored.vectors(decode_generation(publish_data(two)).model, list(digests(two))), "used, so removed"
    assert two.node.fetch() == 0, "this generation is here"


def publish_data(machine: Machine) -> bytes:
    return (machine.repo / "ctxfs-generation.json").read_bytes()


def digests(machine: Machine) -> Iterator[bytes]:
    with closing(Catalog(machine.index)) as catalog:
        yield from (row[0] for row in catalog._db.execute("SELECT digest FROM vectors"))


def test_vectors_of_knowledge_are_not_published(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    two.node.take(entry_of(publish(one)))
    two.node.fetch()
    with closing(Catalog(one.index)) as catalog:
        sql = (
            "SELECT digest FROM vectors WHERE id IN (SELECT vector FROM chunks JOIN files ON files.id=chunks.file"
            " WHERE files.source='knowledge/k')"
        )
        own = [row[0] for row in catalog._db.execute(sql)]
    assert len(own) == 1
    with closing(EmbeddingRequests(two.index, SHARED_VECTORS)) as stored:
        assert not stored.vectors(decode_generation(publish_data(one)).model, own)


def test_node_that_builds_fetches_nothing(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = machines
    two.mode = BUILD
    two.node.take(entry_of(publish(one)))
    assert two.node.fetch() == 0
    assert two.embed(monkeypatch) == FILES + 1


def test_vectors_of_another_model_are_left(machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = machines
    two.spec = replace(two.spec, model="another")
    two.node.take(entry_of(publish(one)))
    assert two.node.fetch() == 0
    assert two.embed(monkeypatch) == FILES + 1


def test_index_is_published_again_only_after_it_has_grown(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    publish(one)
    memory = Path(one.roots[0].root)
    (memory / "new.md").write_text("# New\n\nOne more.\n")
    one.ingest()
    one.embed(monkeypatch)
    assert one.node.publish() == 0
    for number in range(4):
        (memory / f"new-{number}.md").write_text(f"# New {number}\n\nOne more {number}.\n")
    one.ingest()
    one.embed(monkeypatch)
    assert one.node.publish() == FILES + 5


def test_node_whose_index_was_deleted_fetches_again(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = machines
    publish(one)
    shutil.rmtree(one.index)
    one.index.mkdir()
    assert one.node.fetch() == FILES
    one.ingest()
    assert one.embed(monkeypatch) == 1
    forget_generation(one.repo)
    (one.index / "shared_vectors.fetched").unlink()
    assert one.node.fetch() == 0, "it is no node any more"


def test_erasure_removes_published_vectors_and_a_node_publishes_again(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    data = publish(one)
    two.node.take(entry_of(data))
    with closing(two.connect()) as engine:
        engine.append(entry_of(data))
        engine.erase(2, ())
        for pack in decode_generation(data).packs:
            with pytest.raises(FileNotFoundError):
                engine.get(pack, io.BytesIO(), 10**9)
    assert two.node.fetch() == 0
    assert two.embed(monkeypatch) == FILES + 1
    assert two.node.publish() == FILES, "the generation is forgotten, so that the next one need not be larger"


def test_entry_of_other_data_is_refused(machines: tuple[Machine, Machine]) -> None:
    _, two = machines
    for data in (b"", b"x", b'{"format": 1}'):
        with pytest.raises(LogRefused, match="entry 1 of node 'n'"):
            two.node.take(entry_of(data))
    assert two.node.fetch() == 0


def test_false_packs_are_refused_and_embedding_goes_on(
    machines: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    generation = decode_generation(publish(one))
    (zero,) = encode_packs([(b"d" * 32, bytes(2 * DIMENSIONS))], DIMENSIONS)
    name = hashlib.sha256(zero).hexdigest()
    with closing(two.connect()) as engine:
        engine.put(name, io.BytesIO(zero))
    two.node.take(entry_of(encode_generation(replace(generation, packs=(name,)))))
    with pytest.raises(LogRefused, match="no model has made"):
        two.node.fetch()
    assert two.embed(monkeypatch) == FILES + 1
