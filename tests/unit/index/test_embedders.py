"""Test models in folders, embedding endpoints, and the change of a model during searches."""

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import tokenizers
from onnx import TensorProto, helper, numpy_helper

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.embedders import Stage, model_name, open_embedder
from ctxfs.index.engines.embedders.sentence_model import SentenceModel, _cut_windows
from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.engines.vectors import read_side_car
from ctxfs.index.events import Event
from ctxfs.index.ingest.embed_worker import EmbedWorker
from ctxfs.index.options import EmbedderSpec, IndexerOptions
from ctxfs.index.query import parse_query
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.errors import CommandError
from ctxfs.model.path import ROOT
from tests.unit.index.test_index import Index

WORDS = ["[PAD]", "[UNK]", "keys", "rotate", "signing", "deploy", "banana", "query:", "days", "otter", "?"]


def make_model(
    folder: Path,
    *,
    dimensions: int = 8,
    seed: int = 1,
    pooling: dict[str, bool] | None = None,
    prompts: dict[str, str] | None = None,
    inputs: Sequence[str] = ("input_ids", "attention_mask", "token_type_ids"),
    rows: int = len(WORDS),
) -> EmbedderSpec:
    """Write a model as sentence-transformers exports one: token vectors from a table, pooled by the caller.

    `inputs` are the names of its inputs, `rows` the number of tokens that it knows.
    """
    inner = folder / "onnx"
    inner.mkdir(parents=True)
    table = np.random.default_rng(seed).normal(size=(rows, dimensions)).astype(np.float32)
    shape = ["batch", "tokens"]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in inputs],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*shape, dimensions])],
        [numpy_helper.from_array(table, "table")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(inner / "model.onnx")
    )
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.save(str(folder / "tokenizer.json"))
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if prompts is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    return EmbedderSpec(folder=str(folder))


def expected(texts: list[str], seed: int = 1, dimensions: int = 8) -> Any:
    """Return the normalised means of the tokens' vectors."""
    table = np.random.default_rng(seed).normal(size=(len(WORDS), dimensions)).astype(np.float32)
    rows = [table[[WORDS.index(word) if word in WORDS else 1 for word in text.split()]].mean(axis=0) for text in texts]
    return np.array([row / np.linalg.norm(row) for row in rows])


def test_sentence_model_in_a_folder_runs_by_its_configuration(tmp_path: Path) -> None:
    embedder = open_embedder(make_model(tmp_path / "mean"), 1)
    texts = ["rotate keys", "deploy", "banana banana keys otter days"]  # different lengths: one batch is padded
    assert embedder.dimensions == 8
    assert np.allclose(embedder.embed(texts), expected(texts), atol=1e-5)
    first = open_embedder(make_model(tmp_path / "first", pooling={"pooling_mode_cls_token": True}), 1)
    assert np.allclose(first.embed(["keys deploy"]), expected(["keys"]), atol=1e-5)
    asked = open_embedder(make_model(tmp_path / "asked", prompts={"query": "query: "}), 1)
    assert np.allclose(asked.embed_query("keys"), expected(["query: keys"])[0], atol=1e-5)
    assert np.allclose(asked.embed(["keys"]), expected(["keys"]), atol=1e-5)


def test_an_installed_model_gives_unit_vectors_of_its_width() -> None:
    embedder = open_embedder(EmbedderSpec(folder=str(default_model_folder())), 1)
    vectors = embedder.embed(["rotate the keys", ""])
    assert vectors.shape == (2, embedder.dimensions) == (2, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize(
    ("rest", "max_tokens", "has_more"), [(0, 256, False), (20, 256, False), (40, 256, True), (20, 128, True)]
)
def test_short_rest_of_a_text_is_a_part_of_the_window_before_it(
    rest: int, max_tokens: int, has_more: bool, tmp_path: Path
) -> None:
    """A rest that fits into the input of the model costs no run of its own, and counts like the window."""
    spec = make_model(tmp_path / "model")
    (tmp_path / "model" / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    embedder = open_embedder(spec, 1)
    rows, more = embedder.embed_stage(["keys " * 128 + "banana " * rest], Stage.WINDOW)
    assert list(more) == [has_more]
    keys, banana = embedder.embed(["keys", "banana"])
    # The vectors of the table have other lengths than one, so that only the direction is compared.
    is_mixed = abs(float(rows[0] @ keys)) < 0.9999
    assert is_mixed == (rest > 0 and not has_more)
    whole, _ = embedder.embed_stage(["keys " * 128 + "banana " * rest], Stage.WHOLE, rows)
    assert (float(whole[0] @ banana) > float(keys @ banana) + 1e-4) == (rest > 0)


def test_windows_of_a_text_have_all_its_tokens_once() -> None:
    """The installed model has special tokens around each window; a joined window has one pair."""
    embedder = open_embedder(EmbedderSpec(folder=str(default_model_folder())), 1)
    assert isinstance(embedder, SentenceModel)
    for words in (60, 126, 127, 150, 157, 158, 300, 400):
        (encoding,) = embedder._window.encode_batch(["word " * words])
        start, end = encoding.ids[0], encoding.ids[-1]
        windows = _cut_windows(encoding, 256)
        assert all((ids[0], ids[-1]) == (start, end) for ids in windows)
        assert sum(len(ids) - 2 for ids in windows) == words
        assert len(windows) == 1 or len(windows[-1]) - 2 >= 32


def test_folder_without_a_model_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="no embedding model") as none:
        model_name(EmbedderSpec(folder=str(tmp_path)))
    assert "ctxfs model install" in none.value.remedy
    spec = make_model(tmp_path / "broken")
    (tmp_path / "broken" / "onnx" / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(CommandError, match="cannot be read"):
        open_embedder(spec, 1)


def test_model_with_an_input_that_no_tokenizer_gives_is_refused(tmp_path: Path) -> None:
    spec = make_model(tmp_path / "image", inputs=("input_ids", "pixel_values"))
    with pytest.raises(CommandError, match="pixel_values") as refused:
        open_embedder(spec, 1)
    assert "ctxfs model install" in refused.value.remedy
    assert open_embedder(make_model(tmp_path / "few", inputs=("input_ids",)), 1).dimensions == 8


def test_model_that_lacks_tokens_of_its_tokenizer_fails_with_the_remedy(tmp_path: Path) -> None:
    embedder = open_embedder(make_model(tmp_path / "cut", rows=4), 1)
    with pytest.raises(CommandError, match="cannot embed") as failed:
        embedder.embed(["banana"])
    assert "ctxfs model install" in failed.value.remedy
    with pytest.raises(CommandError):
        embedder.embed_query("banana")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sentence_bert_config.json", '{"max_seq_length": "many"}'),
        ("sentence_bert_config.json", '{"max_seq_length": -5}'),
        ("sentence_bert_config.json", '{"max_seq_length": 1e400}'),
        ("sentence_bert_config.json", '{"max_seq_length": [128]}'),
        ("config_sentence_transformers.json", '{"prompts": ["query"]}'),
        ("config_sentence_transformers.json", '{"prompts": {"query": 7}}'),
        ("config_sentence_transformers.json", "[" * 100_000),
        ("config_sentence_transformers.json", "\xff"),
    ],
)
def test_unusable_setting_of_a_model_is_refused_or_ignored(tmp_path: Path, name: str, settings: str) -> None:
    spec = make_model(tmp_path / "m")
    (tmp_path / "m" / name).write_bytes(settings.encode("latin-1"))
    try:
        embedder = open_embedder(spec, 1)
    except CommandError as error:
        assert error.remedy
    else:
        assert np.allclose(embedder.embed_query("keys"), expected(["keys"])[0], atol=1e-5)


def test_model_that_fails_leaves_search_by_words_and_a_note(store: "Store", tmp_path: Path) -> None:
    spec = make_model(tmp_path / "cut", rows=4)
    with pytest.raises(CommandError):
        store.embed(spec)
    searcher = Searcher(store.folder, spec)
    answer = searcher.search(parse_query("banana"), ROOT, 5)
    searcher.close()
    assert [hit.path for hit in answer.hits] == ["knowledge/c/banana.md"]
    assert answer.notes


def test_model_is_identified_by_its_weights(tmp_path: Path) -> None:
    one, same, other = (make_model(tmp_path / at / "m", seed=seed) for at, seed in (("1", 1), ("2", 1), ("3", 2)))
    assert model_name(one) == model_name(same) != model_name(other)


class _Server(BaseHTTPRequestHandler):
    """An endpoint with OpenAI's API; the test sets its failures."""

    seen: ClassVar[list[tuple[str, Any]]] = []
    failures: ClassVar[list[int]] = []
    reply: ClassVar[dict[str, Any] | None] = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.headers.get("Authorization", ""), body))
        status = self.failures.pop(0) if self.failures else 200
        rows = [{"index": n, "embedding": _words(text)} for n, text in enumerate(body["input"])]
        answer = json.dumps(self.reply if self.reply is not None else {"data": rows[::-1]}).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


def _words(text: str) -> list[float]:
    out = np.full(32, 0.01)
    for word in text.lower().split():
        out[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) % 32] += 1
    return list(out)


@pytest.fixture
def server() -> Iterator[EmbedderSpec]:
    _Server.seen, _Server.failures, _Server.reply = [], [], None
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield EmbedderSpec(url=f"http://127.0.0.1:{running.server_port}/v1", model="tiny", key_env="CTXFS_TEST_KEY")
        running.shutdown()


def test_endpoint_receives_batches_with_its_key(server: EmbedderSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTXFS_TEST_KEY", "secret")
    texts = [f"text {number}" for number in range(70)] + [""]
    vectors = open_embedder(server, 1).embed(texts)
    assert vectors.shape == (71, 32)
    assert np.allclose(vectors[3], np.array(_words("text 3")) / np.linalg.norm(_words("text 3")), atol=1e-5)
    assert [len(body["input"]) for _, body in _Server.seen] == [64, 7]
    assert {key for key, _ in _Server.seen} == {"Bearer secret"}
    assert _Server.seen[0][1]["model"] == "tiny"


def test_busy_endpoint_is_retried_and_a_refusing_one_is_not(
    server: EmbedderSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctxfs.index.engines.embedders.endpoint.time.sleep", lambda _: None)
    embedder = open_embedder(server, 1)
    _Server.failures = [429, 503]
    assert embedder.embed(["keys"]).shape == (1, 32)
    assert len(_Server.seen) == 3
    _Server.failures = [401]
    with pytest.raises(CommandError, match="it answered 401") as refused:
        embedder.embed(["keys"])
    assert len(_Server.seen) == 4
    assert "CTXFS_TEST_KEY" in refused.value.remedy
    _Server.failures = [503]
    with pytest.raises(CommandError, match="503"):
        embedder.embed_query("keys")  # a query has no retries
    assert len(_Server.seen) == 5


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"data": []},
        {"data": [{"index": 0, "embedding": []}]},
        {"data": [{"index": 0, "embedding": [0, 0]}]},
        {"data": [{"index": 0, "embedding": [float("nan"), 1]}]},
        {"data": [{"index": 0, "embedding": "x"}]},
        {"data": "x"},
    ],
)
def test_invalid_vector_is_refused(server: EmbedderSpec, reply: dict[str, Any]) -> None:
    _Server.reply = reply
    with pytest.raises(CommandError):
        open_embedder(server, 1).embed(["keys"])


class Store:
    """An index whose embedder changes."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        self.folder = folder
        self.index = Index(folder, corpus)
        self.events: list[Event] = []

    def meaning(self, spec: EmbedderSpec) -> EmbedWorker:
        return EmbedWorker(IndexerOptions(self.folder, spec, 1, 10**6, 3), self.events.append)

    def embed(self, spec: EmbedderSpec) -> None:
        meaning = self.meaning(spec)
        meaning.run_pending()
        meaning.refresh_graph()
        meaning.close()

    def ask(self, spec: EmbedderSpec, question: str) -> tuple[list[str], list[str]]:
        searcher = Searcher(self.folder, spec)
        answer = searcher.search(parse_query(f"mode:meaning {question}"), ROOT, 5)
        searcher.close()
        return [hit.path for hit in answer.hits], list(answer.notes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for word in ("keys", "deploy", "banana", "otter"):
        (corpus / f"{word}.md").write_text(f"{word} {word}\n")
    made = Store(tmp_path / "index", corpus)
    yield made
    made.index.close()


def test_new_model_embeds_everything_while_the_old_one_answers(store: Store, tmp_path: Path) -> None:
    old, new = make_model(tmp_path / "old"), make_model(tmp_path / "new", dimensions=12, seed=2)
    store.embed(old)
    assert store.ask(old, "keys")[0][0] == "knowledge/c/keys.md"
    half = store.meaning(new)
    answers = []

    def in_between() -> bool:
        # It runs between batches, as indexing of words does.
        answers.append((store.ask(new, "keys"), half._embeddings.serving))
        return len(answers) > 2

    half.run_pending(yield_to=in_between)
    half.close()
    assert all(hits[0][0] == "knowledge/c/keys.md" and not hits[1] for hits, _ in answers)
    assert {serving.name for _, serving in answers if serving is not None} == {model_name(old)}
    (tmp_path / "corpus" / "late.md").write_text("days days\n")
    store.index.follower.scan_all()
    store.embed(new)
    catalog = Catalog(store.folder, read_only=True)
    serving = catalog.embeddings.serving
    assert serving is not None
    assert (serving.name, serving.dimensions) == (model_name(new), 12)
    assert catalog.count_waiting() == (0, 5)
    assert catalog._db.execute("SELECT count(DISTINCT model), count(*) FROM vectors").fetchone() == (1, 5)
    catalog.close()
    assert store.ask(new, "days")[0][0] == "knowledge/c/late.md"
    assert any(event.kind == "anew" and event.detail for event in store.events)


def test_open_searcher_switches_models_with_the_index(store: Store, tmp_path: Path) -> None:
    old, new = make_model(tmp_path / "old"), make_model(tmp_path / "new", dimensions=12, seed=2)
    store.embed(old)
    searcher = Searcher(store.folder, new)
    assert searcher.state().model == model_name(old)
    store.embed(new)
    searcher.refresh(graph=True)
    assert searcher.state().model == model_name(new)
    answer = searcher.search(parse_query("mode:meaning otter"), ROOT, 1)
    assert [hit.path for hit in answer.hits] == ["knowledge/c/otter.md"]
    searcher.close()


def test_previous_model_may_be_missing(store: Store, tmp_path: Path) -> None:
    old, new = make_model(tmp_path / "old"), make_model(tmp_path / "new", dimensions=12, seed=2)
    store.embed(old)
    (tmp_path / "old" / "tokenizer.json").unlink()
    hits, notes = store.ask(new, "keys")
    assert not hits
    assert any("no embedding model" in note for note in notes), "could not look is not nothing found"
    (tmp_path / "corpus" / "late.md").write_text("days days\n")
    store.index.follower.scan_all()
    store.embed(new)
    assert store.ask(new, "days")[0][0] == "knowledge/c/late.md"


def test_return_to_the_previous_model_embeds_nothing(store: Store, tmp_path: Path) -> None:
    old, new = make_model(tmp_path / "old"), make_model(tmp_path / "new", seed=2)
    store.embed(old)
    half = store.meaning(new)
    half._reembed(model_name(new), new, iter([False, True]).__next__)
    assert half._embeddings.count_next() == 4
    half.close()
    store.embed(old)
    catalog = Catalog(store.folder, read_only=True)
    assert catalog.embeddings.count_next() == 0
    assert catalog.embeddings.serving is not None
    assert catalog.embeddings.serving.name == model_name(old)
    catalog.close()


def test_the_graph_is_of_the_model_that_answers(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctxfs.index.ingest.embed_worker._MIN_GRAPH_VECTORS", 3)
    old, new = make_model(tmp_path / "old"), make_model(tmp_path / "new", dimensions=12, seed=2)
    store.embed(old)
    about = read_side_car(store.folder)
    assert about is not None
    assert about.dimensions == 8
    store.embed(new)
    about = read_side_car(store.folder)
    assert about is not None
    assert about.dimensions == 12
    assert store.ask(new, "keys")[0][0] == "knowledge/c/keys.md"


def test_unreachable_endpoint_leaves_full_text_search_and_a_note(store: Store, server: EmbedderSpec) -> None:
    store.embed(server)
    assert store.ask(server, "keys")[0][0] == "knowledge/c/keys.md"
    _Server.failures = [500] * 10
    searcher = Searcher(store.folder, server)
    answer = searcher.search(parse_query("keys"), ROOT, 5)
    searcher.close()
    assert [hit.path for hit in answer.hits] == ["knowledge/c/keys.md"]
    assert any("cannot be asked" in note and "words only" in note for note in answer.notes)
