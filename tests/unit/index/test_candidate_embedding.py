"""Test the embedding of candidates within a query, the requests to the indexer, and the order of its queue."""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import Stage, Vectors, open_embedder
from ctxfs.index.engines.embedding_requests import EmbeddingRequests
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.ingest.embed_worker import EmbeddingQueue, EmbedWorker
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import EmbedderSpec, IndexedRoot, IndexerOptions
from ctxfs.index.query import parse_query
from ctxfs.index.search.results import SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.path import ROOT

_AMPLE_SECONDS = 60.0
_PARTS = 28
_ANSWER = "# Hall\n\nA small brass key, which hangs beside the window in the hall, turns the lock of the box.\n"
_QUESTION = "tool hung in the hallway for unlocking the box"


class Tree:
    """A source with its index, which is embedded on request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "index"
        self.corpus = folder / "corpus"
        self.corpus.mkdir()
        self.root = IndexedRoot("knowledge/c", str(self.corpus))
        self.spec = EmbedderSpec(folder=str(default_model_folder()))
        self.catalog = Catalog(self.folder)
        self._ingester = Ingester(self.catalog, FullText(self.folder / "words", make=True), 1_000_000, lambda _: None)
        self._ingester.recover()
        self._ingester.set_roots([self.root])
        self.searchers: list[Searcher] = []

    def write(self, name: str, text: str) -> None:
        (self.corpus / name).write_text(text)

    def index(self) -> None:
        self._ingester.scan_all()

    def purge(self) -> None:
        self._ingester.purge()

    def worker(self) -> EmbedWorker:
        return EmbedWorker(IndexerOptions(self.folder, self.spec, 2, 10**6, 20_000), lambda _: None)

    def embed(self) -> None:
        worker = self.worker()
        worker.run_pending()
        worker.close()

    def searcher(self, seconds: float = _AMPLE_SECONDS) -> Searcher:
        self.searchers.append(Searcher(self.folder, self.spec, question_seconds=seconds))
        return self.searchers[-1]

    def close(self) -> None:
        for searcher in self.searchers:
            searcher.close()
        self._ingester.close()


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    made = Tree(tmp_path)
    for number in range(_PARTS):
        made.write(f"part-{number:02}.md", f"# Part {number}\n\nThe box has colour {number}.\n")
    yield made
    made.close()


def ask(searcher: Searcher, question: str = _QUESTION) -> SearchResults:
    searcher.refresh()
    return searcher.search(parse_query(question), ROOT, 20)


def first_path(results: SearchResults) -> str:
    return results.hits[0].path if results.hits else ""


def test_candidates_get_their_meaning_before_anything_is_embedded(tree: Tree) -> None:
    tree.write("zebra.md", _ANSWER)
    tree.index()
    searcher = tree.searcher()
    results = ask(searcher)
    assert first_path(ask(searcher, f"mode:words {_QUESTION}")) != "knowledge/c/zebra.md"
    assert first_path(results) == "knowledge/c/zebra.md"
    assert "meaning" in results.hits[0].signals


def test_file_that_was_just_written_is_ranked_by_its_meaning(tree: Tree) -> None:
    """No word of the question is in it, so that only its vector can find it."""
    tree.index()
    tree.embed()
    searcher = tree.searcher()
    ask(searcher)
    tree.write("late.md", "# Guard\n\nAn old man guards each door, lest burglars come.\n")
    searcher.report_changes(tree.root, [("late.md",)])
    results = searcher.search(parse_query("person watching entrances against thieves"), ROOT, 5)
    assert first_path(results) == "knowledge/c/late.md"
    assert not results.notes


def test_vectors_of_a_question_are_not_computed_again(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.write("zebra.md", _ANSWER)
    tree.write("other.md", "# Other\n\nNothing in common.\n")
    tree.index()
    searcher = tree.searcher()
    ask(searcher)
    searcher.close()
    embedded = _record_embedded(monkeypatch)
    tree.embed()
    assert embedded, "the rest is embedded"
    assert not any("brass key" in text for text in embedded)
    assert tree.catalog.count_waiting()[0] == 0


def test_another_process_uses_the_vectors_of_a_question(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.index()
    searcher = tree.searcher()
    ask(searcher)
    searcher.close()
    embedded = _record_embedded(monkeypatch)
    ask(tree.searcher())
    assert embedded == []


def _record_embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from ctxfs.index.engines.embedders.sentence_model import SentenceModel

    texts: list[str] = []
    embed = SentenceModel.embed_stage

    def recording(
        self: SentenceModel, batch: Sequence[str], stage: Stage, earlier: Vectors | None = None
    ) -> tuple[Vectors, Sequence[bool]]:
        texts.extend(batch)
        return embed(self, batch, stage, earlier)

    monkeypatch.setattr(SentenceModel, "embed_stage", recording)
    return texts


def test_question_waits_no_longer_than_its_time(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctxfs.index.engines.embedders.sentence_model import SentenceModel

    tree.write("zebra.md", _ANSWER)
    tree.index()
    release = threading.Event()

    def stuck(self: SentenceModel, texts: Sequence[str], stage: Stage) -> tuple[Vectors, Sequence[bool]]:
        assert release.wait(_AMPLE_SECONDS)
        return np.zeros((len(texts), 384), dtype=np.float32), [False] * len(texts)

    monkeypatch.setattr(SentenceModel, "embed_stage", stuck)
    searcher = tree.searcher(0.01)
    try:
        results = ask(searcher)  # answers although the embedder does not
        assert results.hits
        assert any("nothing has been embedded yet" in note for note in results.notes)
    finally:
        release.set()


def test_question_says_that_its_candidates_wait_although_nearly_everything_is_embedded(tree: Tree) -> None:
    tree.index()
    tree.embed()
    tree.write("zebra.md", _ANSWER)
    tree.index()
    (note,) = ask(tree.searcher(0)).notes
    assert "1 passage" in note
    assert ask(tree.searcher(0), "colour").notes == (), "the passage that waits is no candidate"


def test_indexer_embeds_the_candidates_of_a_question_first(tree: Tree) -> None:
    tree.write("zebra.md", _ANSWER)
    os.utime(tree.corpus / "zebra.md", (1, 1))
    tree.index()
    queue = tree.worker()._queue
    assert first_chunk_path(tree, queue) != "knowledge/c/zebra.md"
    searcher = tree.searcher(0)
    ask(searcher, "hall")
    searcher.close()
    assert first_chunk_path(tree, queue) == "knowledge/c/zebra.md"


def first_chunk_path(tree: Tree, queue: EmbeddingQueue) -> str:
    ((number, *_),) = queue.take(1)
    return tree.catalog.chunk_rows([number])[number].path


def test_queue_is_not_alphabetical_and_begins_with_small_sources(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "index")
    ingester = Ingester(catalog, FullText(tmp_path / "index" / "words", make=True), 10**6, lambda _: None)
    ingester.recover()
    for source, count in (("big", 40), ("small", 2)):
        (tmp_path / source).mkdir()
        for number in range(count):
            file = tmp_path / source / f"{number:02}.md"
            file.write_text(f"# {number}\n\ntext of {source} {number}\n")
            os.utime(file, (10**9, 10**9))
    ingester.set_roots([IndexedRoot(f"knowledge/{name}", str(tmp_path / name)) for name in ("big", "small")])
    ingester.scan_all()
    chunks = catalog.embeddings.queue()
    rows = catalog.chunk_rows(chunks)
    paths = [rows[chunk].path for chunk in chunks]
    assert {path.split("/")[1] for path in paths[:2]} == {"small"}
    half = paths[2:22]
    assert 5 <= sum(path < "knowledge/big/20" for path in half) <= 15, "a sample, not the first half of the names"
    ingester.close()


def test_new_source_does_not_displace_smaller_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctxfs.index.ingest.embed_worker._MAX_FRONT_CHUNKS", 10)
    catalog = Catalog(tmp_path / "index")
    ingester = Ingester(catalog, FullText(tmp_path / "index" / "words", make=True), 10**6, lambda _: None)
    ingester.recover()
    for source, count in (("one", 8), ("two", 20)):
        (tmp_path / source).mkdir()
        for number in range(count):
            (tmp_path / source / f"{number:02}.md").write_text(f"# {number}\n\ntext of {source} {number}\n")
    roots = [IndexedRoot(f"knowledge/{name}", str(tmp_path / name)) for name in ("one", "two")]
    ingester.set_roots(roots[:1])
    ingester.scan_all()
    requests = EmbeddingRequests(tmp_path / "index")
    queue = EmbeddingQueue(catalog.embeddings, requests)
    queue.take(1)
    ingester.set_roots(roots)
    ingester.scan_all()
    rows = catalog.chunk_rows([number for number, *_ in queue.take(7)])
    assert {row.path.split("/")[1] for row in rows.values()} == {"one"}
    requests.close()
    ingester.close()


def test_erasure_removes_the_vectors_of_questions(tree: Tree) -> None:
    tree.write("zebra.md", _ANSWER)
    tree.index()
    searcher = tree.searcher()
    ask(searcher)
    searcher.close()
    file = tree.folder / "requests.db"
    before = file.stat().st_size
    tree.purge()
    assert file.stat().st_size < before
    requests = EmbeddingRequests(tree.folder)
    assert requests.take_chunks() == []
    requests.close()


_LONG = "# Ledger\n\n" + " ".join(f"Entry {n} of the ledger is a sum of money." for n in range(60)) + "\n\n"


def test_long_text_is_embedded_by_its_beginning_and_refined_to_its_end(tree: Tree) -> None:
    """The first vectors are replaced, and the last ones contain the ends of the texts."""
    for name, end in (("gulls.md", "Gulls nest on the cliff."), ("trains.md", "Trains leave at noon.")):
        tree.write(name, _LONG.replace("\n\n", "\n") + end + "\n")
    tree.index()
    worker = tree.worker()
    worker.run_pending(yield_to=lambda: tree.catalog.count_waiting()[0] == 0)
    unfinished = "SELECT count(*) FROM vectors WHERE next_stage>0"
    assert tree.catalog._db.execute(unfinished).fetchone()[0] > 0
    searcher = tree.searcher()
    assert ask(searcher, "Entry 3 of the ledger").hits
    worker.run_pending()
    worker.close()
    assert tree.catalog._db.execute(unfinished).fetchone()[0] == 0
    used = tree.catalog._db.execute("SELECT count(*) FROM vectors WHERE id NOT IN (SELECT vector FROM chunks)")
    assert used.fetchone()[0] == 0, "the first vectors are gone"
    assert ask(searcher, "mode:meaning seabirds").hits


def test_vector_does_not_depend_on_the_way_to_it(tree: Tree) -> None:
    """The stages give the same vector as the indexer's batches, alone and in any company."""
    texts = [_LONG * 3, "Gulls nest on the cliff.", _LONG]
    embedder = open_embedder(tree.spec, 2)
    together, has_more = embedder.embed_stage(texts, Stage.WINDOW)
    assert list(has_more) == [True, False, True]
    for text, row in zip(texts, together, strict=True):
        assert (embedder.embed([text])[0] == row).all()
    beginning, has_more = embedder.embed_stage(texts, Stage.BEGINNING)
    assert list(has_more) == [True, False, True]
    assert (beginning[1] == together[1]).all()
    whole, _ = embedder.embed_stage(texts, Stage.WHOLE, together)
    alone, _ = embedder.embed_stage(texts[:1], Stage.WHOLE, together[:1])
    assert (whole[0] == alone[0]).all()
    assert not (whole[0] == together[0]).all(), "no part of a text is in no vector"


def test_name_of_a_file_counts_for_its_meaning(tree: Tree) -> None:
    tree.write("submarine.md", "# Part 99\n\nThe box has colour 99.\n")
    tree.index()
    tree.embed()
    assert first_path(ask(tree.searcher(), "mode:meaning vessel below the sea")) == "knowledge/c/submarine.md"


def test_damaged_requests_cost_only_time(tree: Tree) -> None:
    tree.index()
    (tree.folder / "requests.db").write_bytes(b"no database" * 1000)
    assert ask(tree.searcher()).hits
    (tree.folder / "requests.db").write_bytes(b"no database" * 1000)
    tree.embed()
    assert tree.catalog.count_waiting()[0] == 0
