"""Test the catalog, the full-text index and the vectors, over real folders."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from ctxfs.index.engines import fulltext
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders.sentence_model import SentenceModel
from ctxfs.index.engines.embedding_requests import EmbeddingRequests
from ctxfs.index.engines.fulltext import FullText, FullTextWriter
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.engines.vectors import VectorTable, build_graph, pack_vector, read_graph, read_side_car
from ctxfs.index.engines.word_split import split_words
from ctxfs.index.extract.ignore import IgnoreRules, walk_files
from ctxfs.index.ingest.embed_worker import EmbeddingQueue, EmbedWorker
from ctxfs.index.ingest.indexer import merge_changes
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import EmbedderSpec, IndexedRoot, IndexerOptions
from ctxfs.index.query import parse_query
from ctxfs.index.search.chunk_columns import ChunkColumns
from ctxfs.index.search.results import SearchResults
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.path import ROOT
from ctxfs.model.path import Path as TreePath


class Index:
    """An index over one folder, driven by hand."""

    def __init__(self, folder: Path, corpus: Path, model: Path | None = None) -> None:
        self.folder, self.corpus = folder, corpus
        self.spec = EmbedderSpec(folder=str(model)) if model else None
        self.catalog = Catalog(folder)
        self.words = FullText(folder / "words", make=True)
        self.follower = Ingester(self.catalog, self.words, 1_000_000, lambda _: None)
        self.follower.recover()
        self.follower.set_roots([IndexedRoot("knowledge/c", str(corpus))])
        self.follower.scan_all()
        self.searcher = Searcher(folder, self.spec)

    def embed(self) -> None:
        """Embed every chunk."""
        meaning = EmbedWorker(IndexerOptions(self.folder, self.spec, 2, 10**6, 20_000), lambda _: None)
        meaning.run_pending()
        meaning.close()

    def close(self) -> None:
        self.follower.close()
        self.searcher.close()

    def ask(self, text: str, below: str = "") -> SearchResults:
        self.searcher.refresh()
        return self.searcher.search(parse_query(text), TreePath.parse(below), 20)

    def paths(self, text: str, below: str = "") -> list[str]:
        return list(dict.fromkeys(hit.path.removeprefix("knowledge/c/") for hit in self.ask(text, below).hits))


@pytest.fixture
def index(tmp_path: Path, corpus: Path) -> Iterator[Index]:
    made = Index(tmp_path / "index", corpus)
    yield made
    made.close()


@pytest.fixture
def embedded(tmp_path: Path, corpus: Path) -> Iterator[Index]:
    """Yield an index with a model, which embeds on request."""
    model = default_model_folder()
    assert (model / "model.json").exists(), "install the model first: ctxfs model install"
    made = Index(tmp_path / "index", corpus, model=model)
    yield made
    made.close()


def test_words_find_the_file_with_its_lines(index: Index) -> None:
    hit = index.ask("rotate signing keys").hits[0]
    assert (hit.path, hit.chunk.heading) == ("knowledge/c/rotation.md", "Keys > Rotating keys")
    lines = (index.corpus / "rotation.md").read_text().splitlines()
    assert hit.chunk.text == "\n".join(lines[hit.chunk.first - 1 : hit.chunk.last])


def test_changed_file_replaces_its_full_text_entries(index: Index) -> None:
    file = index.corpus / "rotation.md"
    for attempt in range(3):
        file.write_text(f"# Keys\n\nchanged {attempt}\n")
        index.follower.index_changes([("knowledge/c", ("rotation.md",))])
    (index.corpus / "deploy.md").unlink()
    index.follower.index_changes([("knowledge/c", ("deploy.md",))])
    index.words.refresh()
    assert index.words.count == index.catalog.counts().chunks


def test_reopened_index_gives_the_same_results(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writer and readers are reopened, so that the library's records of deleted files do not grow without bound."""
    monkeypatch.setattr(fulltext, "REOPEN_AFTER_COMMITS", 3)
    file = index.corpus / "rotation.md"
    opened = index.words._index
    for attempt in range(10):
        file.write_text(f"# Keys\n\nchanged zebra{attempt}\n")
        index.follower.index_changes([("knowledge/c", ("rotation.md",))])
        assert index.paths(f"zebra{attempt}") == ["rotation.md"]
        assert not index.paths(f"zebra{attempt - 1}")
    assert index.words._index is not opened
    index.words.refresh()
    assert index.words.count == index.catalog.counts().chunks
    assert "src/retry.py" in index.paths("retry request")


def test_concurrent_creators_of_the_catalog_both_succeed(tmp_path: Path) -> None:
    """The indexer's two threads do so at the first start.

    SQLite itself returns `locked` at once in one case of thirty.
    """
    faults: list[Exception] = []

    def make(folder: Path, together: threading.Barrier) -> None:
        together.wait()
        try:
            Catalog(folder).close()
        except Exception as error:
            faults.append(error)

    for attempt in range(100):
        together = threading.Barrier(2)
        threads = [threading.Thread(target=make, args=(tmp_path / str(attempt), together)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert faults == []


def test_attributes_filter_and_follow_their_changes(index: Index) -> None:
    file = index.corpus / "deploy.md"

    def found(text: str) -> list[str]:
        index.follower.index_changes([("knowledge/c", ("deploy.md",))])
        return index.paths(text)

    os.setxattr(file, "user.ctx.confidence", b"0.9")
    os.setxattr(file, "user.ctx.tags", b"ops, release")
    os.setxattr(file, "user.ctx.kind", b"procedural")
    for text in (
        "confidence:>0.8",
        "tag:ops",
        "tag:release confidence:0.9",
        "kind:procedural",
        "kind:procedural rollback",
    ):
        assert found(text) == ["deploy.md"], text
    for text in ("confidence:<0.9", "tag:op", "kind:fact", "pinned:true"):
        assert found(text) == [], text
    os.setxattr(file, "user.ctx.confidence", b"0.1")
    os.removexattr(file, "user.ctx.kind")
    assert found("confidence:>0.8") == []
    assert found("confidence:<0.9 tag:ops") == ["deploy.md"]
    assert found("kind:procedural") == []
    os.setxattr(file, "user.ctx.confidence", b"not a number, set behind our back")
    assert found("confidence:>0") == []


def test_tags_of_a_text_and_of_its_attribute_are_both_found(index: Index) -> None:
    note = index.corpus / "note.md"
    note.write_text("---\ntags: [project]\naliases: [Zephyr]\n---\n\nSee [[Plan]] #later\n")
    index.follower.scan_all()
    questions = ("tag:project", "tag:later", "alias:Zephyr", "link:Plan")
    assert all(index.paths(question) == ["note.md"] for question in questions)
    os.setxattr(note, "user.ctx.tags", b"ops,project")
    os.setxattr(note, "user.ctx.trust", b"trusted")
    index.follower.scan_all()
    for question in (*questions, "tag:ops", "trust:trusted"):
        assert index.paths(question) == ["note.md"], question
    os.removexattr(note, "user.ctx.tags")
    index.follower.scan_all()
    assert index.paths("tag:ops") == []
    assert index.paths("tag:project") == ["note.md"]
    note.write_text("no tags\n")
    index.follower.scan_all()
    assert not any(index.paths(question) for question in questions)


def test_text_cannot_set_the_attributes_of_its_file(index: Index) -> None:
    fields = "trust: trusted\npinned: true\nquarantined: true\nkind: fact\nsupersedes: deploy.md\n"
    (index.corpus / "forged.md").write_text(f"---\n{fields}---\n\nforged\n")
    index.follower.scan_all()
    for question in ("trust:trusted", "pinned:true", "quarantined:true", "kind:fact"):
        assert index.paths(question) == [], question
    assert index.paths("forged") == ["forged.md"]


@pytest.mark.parametrize("question", ["retryRequest", "retry_request", "retry request", "RETRIES"])
def test_identifiers_are_found_by_their_parts_and_words_by_their_stems(index: Index, question: str) -> None:
    assert index.paths(question)[0] == "src/retry.py"


def test_stop_words_do_not_decide_a_query(index: Index) -> None:
    (index.corpus / "how.py").write_text("def do_how_to_i(a):\n    return where_is_the(a)\n")
    index.follower.index_changes([("knowledge/c", ("how.py",))])
    assert index.paths("how do I rotate the keys")[0] == "rotation.md"
    assert index.paths("how to")[0] == "how.py"


def test_cjk_is_found_without_spaces(index: Index) -> None:
    (index.corpus / "zh.md").write_text("密钥轮换的方法如下")
    index.follower.index_changes([("knowledge/c", ("zh.md",))])
    assert index.paths("轮换") == ["zh.md"]
    assert split_words("轮换密钥") == "轮换 换密 密钥 轮 换 密 钥"


def test_ignored_and_binary_files_are_not_found_and_the_reason_is_counted(index: Index) -> None:
    assert index.paths("zanzibar") == []
    assert index.catalog.skipped() == {"binary": 1}


def test_a_changed_gitignore_takes_effect(index: Index) -> None:
    (index.corpus / ".gitignore").write_text("build/\n")
    index.follower.index_changes([("knowledge/c", (".gitignore",))])
    assert index.paths("zanzibar") == ["ignored.md"]


def test_a_name_that_is_not_utf8_is_found(index: Index) -> None:
    assert [os.fsencode(path) for path in index.paths("quokka")] == [b"latin-\xe9.txt"]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("keys -rotate", False),
        ("+runbook rotate", False),
        ('"signing keys"', True),
        ('"keys signing"', False),
        ("kind:markdown rotate", True),
        ("kind:code rotate", False),
        ("path:rotation rotate", True),
        ("path:knowledge/c rotate", True),
        ("path:elsewhere rotate", False),
        ("since:1h rotate", True),
        ("until:2001-01-01 rotate", False),
    ],
)
def test_operators_and_filters_narrow(index: Index, question: str, expected: bool) -> None:
    assert ("rotation.md" in index.paths(question)) is expected


@pytest.mark.parametrize("question", ["C++:", "what is this? (x", '"unclosed', "---", "🦘", "the of and", "a " * 5000])
def test_no_query_breaks_search(index: Index, question: str) -> None:
    assert isinstance(index.ask(question), SearchResults)


def test_query_below_a_directory_searches_that_directory_only(index: Index) -> None:
    assert index.paths("retry", "knowledge/c/src") == ["src/retry.py"]
    assert index.paths("rotate", "knowledge/c/src") == []


def test_deleted_file_disappears_and_renamed_file_has_its_new_name(index: Index) -> None:
    (index.corpus / "rotation.md").rename(index.corpus / "renamed.md")
    index.follower.index_changes([("knowledge/c", ("rotation.md",))])
    index.follower.index_changes([("knowledge/c", ("renamed.md",))])
    (index.corpus / "deploy.md").unlink()
    index.follower.index_changes([("knowledge/c", ("deploy.md",))])
    assert index.paths("rotate signing keys") == ["renamed.md"]
    assert index.paths("pipeline image rollback") == []


def test_an_unchanged_file_is_not_read_again_and_a_touched_one_keeps_its_chunks(index: Index) -> None:
    before = index.catalog._db.execute("SELECT id FROM chunks ORDER BY id").fetchall()
    os.utime(index.corpus / "rotation.md", ns=(1, 1))
    index.follower.scan_all()
    assert index.catalog._db.execute("SELECT id FROM chunks ORDER BY id").fetchall() == before
    row = index.catalog.file("knowledge/c/rotation.md")
    assert row is not None
    assert row.mtime_ns == 1


def test_pending_file_after_a_kill_is_finished_at_the_next_start(tmp_path: Path, corpus: Path) -> None:
    made = Index(tmp_path / "index", corpus)
    # The state after a kill between the catalog's transaction and the full-text commit.
    made.catalog._db.execute("UPDATE files SET state='pending'")
    made.follower._writer.clear()
    made.follower._writer.commit()
    made.follower.close()
    again = Index(tmp_path / "index", corpus)
    assert again.paths("rotate signing keys") == ["rotation.md"]
    again.words.refresh()
    assert again.words.count == len(again.catalog._db.execute("SELECT id FROM chunks").fetchall())


@pytest.mark.parametrize("damage", ["catalog.db", "words/meta.json"])
def test_damaged_index_is_rebuilt(tmp_path: Path, corpus: Path, damage: str) -> None:
    made = Index(tmp_path / "index", corpus)
    made.follower.close()
    (tmp_path / "index" / damage).write_bytes(b"garbage" * 1000)
    for extra in (tmp_path / "index").glob("catalog.db-*"):
        extra.unlink()
    assert Index(tmp_path / "index", corpus).paths("rotate signing keys") == ["rotation.md"]


def test_deleted_index_is_rebuilt_from_the_files(tmp_path: Path, corpus: Path) -> None:
    first = Index(tmp_path / "one", corpus).paths("how to rotate keys")
    assert first == Index(tmp_path / "two", corpus).paths("how to rotate keys")


def test_a_source_that_is_removed_is_no_longer_found(index: Index) -> None:
    index.follower.set_roots([])
    assert index.paths("rotate") == []


def test_an_index_that_does_not_exist_is_not_an_empty_answer(tmp_path: Path) -> None:
    answer = Searcher(tmp_path, None).search(parse_query("x"), ROOT, 5)
    assert answer.notes
    assert "nothing has been indexed" in answer.notes[0]


def test_full_text_answers_without_a_model_and_the_notes_report_it(tmp_path: Path, corpus: Path) -> None:
    made = Index(tmp_path / "index", corpus, model=tmp_path / "no-model")
    answer = made.ask("rotate keys")
    assert answer.hits
    assert "ctxfs model install" in answer.notes[0]


def test_semantic_search_finds_files_without_a_common_word(embedded: Index) -> None:
    embedded.embed()
    assert embedded.paths("mode:words changing cryptographic secrets periodically") == []
    assert embedded.paths("changing cryptographic secrets periodically")[0] == "rotation.md"
    assert embedded.paths("mode:meaning changing cryptographic secrets", "knowledge/c/src") == ["src/retry.py"]


def test_new_file_is_ranked_by_its_full_text_score(embedded: Index) -> None:
    embedded.embed()
    (embedded.corpus / "walrus.md").write_text("# Walrus\n\nRotate the signing keys of the walrus every ninety days.\n")
    embedded.follower.index_changes([("knowledge/c", ("walrus.md",))])
    question = "rotate signing keys of the walrus"
    assert embedded.catalog.embeddings.queue()
    assert embedded.paths(question)[0] == embedded.paths(f"mode:words {question}")[0] == "walrus.md"
    embedded.embed()
    assert embedded.paths(question)[0] == "walrus.md"


def test_order_of_names_does_not_matter_before_embedding(embedded: Index) -> None:
    """The first files of a source are embedded, the one that answers is not."""
    for number in range(40):
        (embedded.corpus / f"a{number:02}.md").write_text(
            f"# Part {number}\n\nWe keep rotating stock in shelf {number}.\n"
        )
    (embedded.corpus / "zebra.md").write_text("# Zebra\n\nThe zebra gate opens with the brass key.\n")
    embedded.follower.scan_all()
    count = embedded.catalog._db.execute(
        "SELECT c.id FROM chunks c JOIN files f ON f.id=c.file WHERE f.path LIKE '%/a%'"
    )
    meaning = EmbedWorker(IndexerOptions(embedded.folder, embedded.spec, 2, 10**6, 20_000), lambda _: None)
    chunks = [number for (number,) in count]
    with patch.object(meaning._queue, "take", side_effect=[meaning._embeddings.waiting_chunks(chunks), []]):
        meaning.run_pending()
    meaning.close()
    assert embedded.catalog.embeddings.queue()
    assert embedded.paths("which key opens the zebra gate")[0] == "zebra.md"


def test_newest_file_is_embedded_first_after_memory(tmp_path: Path, corpus: Path) -> None:
    made = Index(tmp_path / "index", corpus)
    memory = tmp_path / "memory"
    memory.mkdir()
    (memory / "note.md").write_text("# Note\n\nold but remembered\n")
    os.utime(memory / "note.md", (1, 1))
    os.utime(corpus / "rotation.md", (4e9, 4e9))
    made.follower.set_roots([IndexedRoot("knowledge/c", str(corpus)), IndexedRoot("memory/alice", str(memory))])
    made.follower.scan_all()
    queue = EmbeddingQueue(made.catalog.embeddings, EmbeddingRequests(made.folder))

    def next_paths(limit: int) -> list[str]:
        numbers = [number for number, *_ in queue.take(limit)]
        rows = made.catalog.chunk_rows(numbers)
        return [rows[number].path for number in numbers]

    assert next_paths(2) == ["memory/alice/note.md", "knowledge/c/rotation.md"]
    (corpus / "late.md").write_text("# Late\n\ncame while the others waited\n")
    made.follower.index_changes([("knowledge/c", ("late.md",))])
    assert next_paths(1) == ["knowledge/c/late.md"]
    assert 3 + len(next_paths(1000)) == made.catalog.count_waiting()[0]
    made.close()


DIALOGUE = """8 May 2023

Ada: I bought a red bicycle yesterday.
Bob: Nice! Where will you ride it?
Ada: Along the canal, every morning.
Bob: I sold my old bicycle in March.
Ada: How was the choir?
Bob: We sang for two hours.
"""


def test_speaker_and_neighbouring_turns_rank_a_dialogue(index: Index) -> None:
    (index.corpus / "talk.txt").write_text(DIALOGUE)
    (index.corpus / "later.txt").write_text(DIALOGUE.replace("8 May", "9 June").replace("red bicycle", "blue kite"))
    index.follower.scan_all()
    assert index.ask("What did Bob do with the bicycle").hits[0].chunk.text == "Bob: I sold my old bicycle in March."
    assert index.ask("what did Ada buy on 9 June 2023").hits[0].chunk.text == "Ada: I bought a blue kite yesterday."
    assert {hit.chunk.author for hit in index.ask("author:Bob bicycle").hits} == {"Bob"}
    assert "Ada: Along the canal, every morning." in [hit.chunk.text for hit in index.ask("ride").hits]


def test_the_same_text_at_the_same_end_of_a_path_is_embedded_once(embedded: Index, corpus: Path) -> None:
    """The end of the path is embedded with the text; the folders above it are not."""
    (corpus / "a" / "b" / "c").mkdir(parents=True)
    (corpus / "a" / "b" / "c" / "note.md").write_text("# Note\n\nthe text of the note\n")
    embedded.follower.scan_all()
    embedded.embed()
    before = embedded.catalog.embeddings.count(1)[0]
    (corpus / "z").mkdir()
    (corpus / "a").rename(corpus / "z" / "a")
    embedded.follower.scan_all()
    embedded.embed()
    assert embedded.catalog.embeddings.count(1)[0] == before
    assert embedded.catalog.embeddings.queue() == []


def unit_vectors(count: int, seed: int = 1) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    vectors = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Rows:
    """A stand-in for the catalog's vectors; the catalog's own method is tested above."""

    def __init__(self, vectors: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> None:
        self.rows = [(number, pack_vector(vector)) for number, vector in enumerate(vectors, 1)]

    def __call__(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        return [row for row in self.rows if row[0] > after][:limit]


def loaded(folder: Path) -> VectorTable:
    """Return a table that uses the graph in a folder, if it is sound."""
    table, about = VectorTable(1, 16), read_side_car(folder)
    graph = read_graph(folder, about) if about else None
    if graph is not None:
        table.use_graph(graph)
    return table


def test_the_graph_and_the_tail_are_searched_as_one(tmp_path: Path) -> None:
    vectors = unit_vectors(3000)
    build_graph(tmp_path, 1, 16, Rows(vectors[:2000]), 2000, 1)
    build_graph(tmp_path, 1, 16, Rows(vectors[:2500]), 2500, 1)  # the new vectors are added
    table = loaded(tmp_path)
    assert table.last == table.count == 2500
    assert table.load(Rows(vectors)) == 500
    agree = 0
    for probe in unit_vectors(20, seed=2):
        exact = {int(n) + 1 for n in np.argsort(-(vectors @ probe))[:10]}
        numbers, cosines = table.search(probe, 10)
        agree += len(exact & set(numbers.tolist()))
        assert np.allclose(table.cosines(probe, numbers), cosines, atol=1e-3)
    assert agree >= 190
    numbers, cosines = table.search_among(vectors[16], np.array([5, 17, 2600, 2999, 4000]), 10)
    assert set(numbers.tolist()) == {5, 17, 2600, 2999}
    assert numbers[0] == 17
    assert cosines[0] == pytest.approx(1, abs=1e-3)


def test_without_hnswlib_every_vector_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit_vectors(1000)
    build_graph(tmp_path, 1, 16, Rows(vectors), 1000, 1)
    monkeypatch.setattr("ctxfs.index.engines.vectors.missing_modules", lambda extra: [extra])
    table = loaded(tmp_path)
    assert table.load(Rows(vectors)) == 1000  # none of them comes from the graph
    for probe in unit_vectors(5, seed=2):
        exact = np.argsort(-(vectors @ probe))[:10] + 1
        assert table.search(probe, 10)[0].tolist() == exact.tolist()


def test_a_cosine_does_not_depend_on_the_vectors_beside_it() -> None:
    """A score that differed in its last bits would reveal how many hidden chunks were compared with the visible ones."""
    random = np.random.default_rng(4)
    vectors = random.normal(size=(500, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    probe, table = vectors[0].copy(), VectorTable(1, 256)
    table.load(Rows(vectors))
    every = table.cosines(probe, np.arange(1, 501))
    for _ in range(100):
        numbers = np.sort(random.choice(500, size=int(random.integers(1, 60)), replace=False)) + 1
        assert table.cosines(probe, numbers).tolist() == every[numbers - 1].tolist()
    found, cosines = table.search(probe, 500)
    assert cosines.tolist() == every[found - 1].tolist()


def test_large_vector_tables_answer_alike_with_and_without_a_graph(tmp_path: Path) -> None:
    """Compare tables with a graph, with another graph and without one, also after deletions."""
    vectors = unit_vectors(12_000)
    tables = []
    for name, in_graph in (("most", 11_000), ("few", 2000), ("none", 0)):
        (tmp_path / name).mkdir()
        if in_graph:
            build_graph(tmp_path / name, 1, 16, Rows(vectors[:in_graph]), in_graph, 2)
        tables.append(loaded(tmp_path / name))
        tables[-1].load(Rows(vectors))
    living = np.arange(1, 12_001)[np.arange(12_000) % 9 > 0]
    fresh = VectorTable(1, 16)
    fresh.load(lambda after, limit: [row for row in Rows(vectors).rows if row[0] > after and (row[0] - 1) % 9][:limit])
    agree = 0
    for probe in unit_vectors(20, seed=3):
        numbers, cosines = tables[0].search_among(probe, living, 50)
        for table in (*tables[1:], fresh):
            same_numbers, same_cosines = table.search_among(probe, living, 50)
            assert same_numbers.tolist() == numbers.tolist()
            assert same_cosines.tolist() == cosines.tolist()
        exact = living[np.argsort(-(vectors[living - 1] @ probe))[:50]]
        agree += len(set(exact.tolist()) & set(numbers.tolist()))
        assert np.allclose(cosines, vectors[numbers - 1] @ probe, atol=1e-3)
    assert agree >= 0.95 * 20 * 50, "sixteen signs say little; real vectors have hundreds"


@pytest.mark.parametrize("suffix", ["hnsw", "numbers", "vectors"])
def test_a_graph_with_a_flipped_bit_is_not_loaded(tmp_path: Path, suffix: str) -> None:
    vectors = unit_vectors(300)
    build_graph(tmp_path, 1, 16, Rows(vectors), 300, 1)
    (file,) = tmp_path.glob(f"graph-*.{suffix}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    table = loaded(tmp_path)
    assert table.count == 0
    table.load(Rows(vectors))
    assert table.search(vectors[7], 1)[0].tolist() == [8]
    build_graph(tmp_path, 1, 16, Rows(vectors), 300, 1)
    assert loaded(tmp_path).count == 300, "a damaged one is not added to, but made again"


def test_path_with_many_changes_is_scanned_once() -> None:
    busy, other = ("pad", ("busy.log",)), ("pad", ("other.md",))
    orders = [
        ("changed", [busy]),
        ("changed", [busy, other]),
        ("rebuild", None),
        ("changed", [busy]),
        ("changed", [busy]),
    ]
    assert merge_changes(orders) == [("changed", [busy, other]), ("rebuild", None), ("changed", [busy])]


def test_ignore_rules_nest_and_negate(tmp_path: Path) -> None:
    for name in ("a.log", "keep.log", "sub/b.log", "sub/c.txt", ".git/config", "node_modules/x.js"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n")
    (tmp_path / "sub" / ".gitignore").write_text("!b.log\nc.txt\n")
    paths = {
        "/".join(parts) for parts, _ in walk_files(str(tmp_path), (), IgnoreRules(str(tmp_path), (), gitignore=True))
    }
    assert paths == {".gitignore", "keep.log", "sub/.gitignore", "sub/b.log"}


def test_simultaneous_changes_share_a_commit(index: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full-text commit takes as long as a hundred files."""
    commits: list[int] = []
    commit = FullTextWriter.commit
    monkeypatch.setattr(FullTextWriter, "commit", lambda writer: (commits.append(1), commit(writer)))
    names = [f"{number}.md" for number in range(100)]
    for name in names:
        (corpus / name).write_text("an otter\n")
    places = [("knowledge/c", (name,)) for name in names]
    index.follower.index_changes([*places, ("knowledge/nowhere", ("x.md",))])
    assert index.words.refresh() is None and set(index.paths("otter")) <= set(names)
    assert len([path for path in index.catalog.files_of("knowledge/c") if path.endswith(".md")]) >= 100
    assert len(commits) == 1
    for name in names[:50]:
        (corpus / name).unlink()
    (corpus / "50.md").write_text("a heron\n")
    index.follower.index_changes(places)
    assert index.paths("heron") == ["50.md"]
    assert set(index.paths("otter")) <= set(names[51:])
    assert len(commits) == 3, "deleted names, and existing ones"


def test_reader_at_any_moment_sees_every_change(index: Index, corpus: Path) -> None:
    reader, facts = Catalog(index.folder, read_only=True), ChunkColumns()
    looks: list[str] = []

    def look(statement: str) -> None:
        looks.append(statement)
        facts.load(reader)

    facts.load(reader)
    index.catalog._db.set_trace_callback(look)  # before each statement
    (corpus / "new.md").write_text("# New\n\nComes, changes and goes.\n")
    index.follower.index_changes([("knowledge/c", ("new.md",))])
    (corpus / "new.md").write_text("# New\n\nHas changed.\n")
    index.follower.index_changes([("knowledge/c", ("new.md",))])
    (corpus / "new.md").unlink()
    index.follower.index_changes([("knowledge/c", ("new.md",))])
    index.catalog._db.set_trace_callback(None)
    facts.load(reader)
    rows = list(reader.ranking_rows(None))
    assert any("gone" in statement for statement in looks)
    assert (len(facts), facts.corpus_counts().units) == (len(rows), len(rows))
    reader.close()


def test_columns_equal_the_catalog_after_any_change(
    embedded: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctxfs.index.search.chunk_columns._MIN_ROWS", 8)
    facts = ChunkColumns()

    def check() -> None:
        facts.load(embedded.catalog)
        rows = list(embedded.catalog.ranking_rows(None))
        numbers = [row[0] for row in rows]
        candidates = facts.candidates([*numbers, 10**6])
        assert candidates.chunks.tolist() == numbers
        assert candidates.files.tolist() == [row[1] for row in rows]
        assert candidates.kinds.tolist() == [row[3] for row in rows]
        assert candidates.authors.tolist() == [row[4] for row in rows]
        assert candidates.vectors.tolist() == [-1 if row[8] is None else row[8] for row in rows]
        wanted = [row[8] for row in reversed(rows) if row[8] is not None]
        wanted = list(dict.fromkeys(wanted))
        chunks, places = facts.chunks_with(np.array(wanted, dtype=np.int64))
        expected = [(row[0], position) for position, vector in enumerate(wanted) for row in rows if row[8] == vector]
        assert list(zip(chunks.tolist(), places.tolist(), strict=True)) == expected

    check()
    embedded.embed()
    check()
    (corpus / "copy.md").write_text((corpus / "rotation.md").read_text())  # the same vectors twice
    (corpus / "chat.md").write_text("**Ann:** Where are the keys?\n\n**Bob:** In the blue drawer.\n")
    embedded.follower.scan_all()
    check()
    embedded.embed()
    check()
    for number in range(3):
        (corpus / "rotation.md").write_text(f"# Another text\n\nNumber {number}.\n")
        (corpus / "copy.md").unlink(missing_ok=True)
        embedded.follower.scan_all()
        check()
    for _ in range(5):
        embedded.follower.rebuild()  # so many rows are deleted that the columns are compacted
        check()
    embedded.embed()
    check()


def test_name_of_a_speaker_is_not_embedded_with_the_query(
    embedded: Index, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus / "talk.txt").write_text("Ann: I moved to Oslo.\nBob: Why?\nAnn: For the snow.\nBob: I see the point.\n")
    embedded.follower.scan_all()
    embedded.embed()
    asked: list[str] = []
    real = SentenceModel.embed_query
    monkeypatch.setattr(SentenceModel, "embed_query", lambda self, text: asked.append(text) or real(self, text))
    (best, *_) = embedded.ask("Where did Ann move to?").hits
    assert best.chunk.text == "Ann: I moved to Oslo."
    assert asked == ["Where did move to?"], "the author is a signal of its own"


OKF_NOTE = (
    "---\ntype: BigQuery Table\ntitle: Customer orders\ntags: [sales]\nstatus: deprecated\nstale_after: 2001-02-03\n"
    "verified: {{by: 'human:ada'}}\nresource: okapi-{0}\n---\n\nOne row for each order {0}.\n"
)


@pytest.mark.parametrize("is_indexed", [True, False], ids=["index", "overlay"])
def test_front_matter_filters_its_file_and_is_not_its_text(index: Index, is_indexed: bool) -> None:
    root = IndexedRoot("knowledge/c", str(index.corpus))
    (index.corpus / "orders.md").write_text(OKF_NOTE.format("a"))
    if is_indexed:
        index.follower.index_changes([("knowledge/c", ("orders.md",))])
    else:
        index.searcher.report_changes(root, [("orders.md",)])
    for question in ("kind:bigquery-table", "kind:markdown order", "tag:sales", "status:deprecated", "verified:human"):
        assert index.paths(question) == ["orders.md"], question
    for question in ("mode:exact okapi", "+okapi", "kind:okapi", "status:draft", "trust:trusted verified:human"):
        assert not index.paths(question), question
    assert "okapi" not in index.ask("customer orders").hits[0].chunk.text
    assert index.ask("customer orders").hits[0].chunk.heading == "Customer orders"
    assert "knowledge/c/orders.md" in (index.searcher.candidate_files([["okapi-a"]], ROOT) or []), (
        "grep finds its lines"
    )
    status = index.searcher.statuses(["knowledge/c/orders.md"])["knowledge/c/orders.md"]
    assert status.deprecated
    assert status.expires_ns == 981_158_400 * 10**9
    assert not status.untrusted


def test_extended_attribute_wins_over_front_matter(index: Index) -> None:
    file = index.corpus / "orders.md"
    file.write_text(OKF_NOTE.format("b"))
    os.setxattr(file, "user.ctx.kind", b"fact")
    os.setxattr(file, "user.ctx.expires_at", b"2999-01-01")
    index.follower.index_changes([("knowledge/c", ("orders.md",))])
    assert index.paths("kind:fact") == ["orders.md"]
    assert not index.paths("kind:bigquery-table")
    status = index.searcher.statuses(["knowledge/c/orders.md"])["knowledge/c/orders.md"]
    assert status.expires_ns > 32_000_000_000 * 10**9
