"""Test corrections of typos in questions, over real folders."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctxfs.index.query import parse_query
from ctxfs.index.search.results import SearchResults
from ctxfs.index.search.spelling import correct_query, find_edits, is_correctable
from tests.trust.test_index_reports import Other
from tests.unit.index.test_index import Index

TEXTS = {
    "files.md": "Create a temporary file safely. Search a directory, and remove the temporary files.",
    "queue.md": "A deque appends on both sides. OrderedDict keeps the order; os.makedirs makes folders.",
    "russisch.md": "Временные файлы удаляются после работы. Каталог хранит документы.",
    "greek.md": "Η τράπεζα δανείζει χρήματα.",
    "japanese.md": "一時ファイルを安全に作成する。",
    "typo.md": "The word recieve is spelled like this here.",
    "numbers.md": "error4711 belongs to the printer; the meter shows kilometres.",
    "secret.md": "The project is called zanzibar.",
}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name, text in TEXTS.items():
        (corpus / name).write_text(text)
    made = Index(tmp_path / "index", corpus)
    yield made
    made.close()


def first(results: SearchResults) -> str:
    return results.hits[0].path.rpartition("/")[2] if results.hits else ""


@pytest.mark.parametrize(
    ("question", "file", "correction"),
    [
        ("temprary files", "files.md", "temporary"),
        ("create a file safly", "files.md", "safely"),
        ("serach it", "files.md", "search"),
        ("Direcctory", "files.md", "Directory"),
        ("OrderedDicct", "queue.md", "OrderedDict"),
        ("os.makdirs", "queue.md", "makedirs"),
        ("временый", "russisch.md", ""),
        ("документи", "russisch.md", ""),
        ("τράπζα", "greek.md", ""),
    ],
)
def test_typo_is_searched_as_the_nearest_word_and_reported(
    index: Index, question: str, file: str, correction: str
) -> None:
    results = index.ask(f"mode:words {question}")
    assert first(results) == file
    if correction:
        assert len(results.remarks) == 1
        assert f"'{correction}' was searched too" in results.remarks[0]


@pytest.mark.parametrize(
    "question",
    [
        "mode:exact temprary",
        '"temprary"',
        "+temprary",
        "mode:words error4712",
        "mode:words recieve",
        "mode:words ZANZIBRA",
        "mode:words 一時フアイル",
        "mode:words cat",
    ],
)
def test_word_that_is_no_likely_typo_is_left_alone(index: Index, question: str) -> None:
    assert not [remark for remark in index.ask(question).remarks if "was searched too" in remark]


def test_correct_words_cost_no_correction_and_rank_before_corrected_ones(index: Index) -> None:
    right, typed = index.ask("mode:words temporary files"), index.ask("mode:words temprary files")
    assert not right.remarks
    assert right.hits[0].score >= typed.hits[0].score


def test_correction_shows_no_word_of_a_hidden_file(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "zanzibar" in " ".join(index.ask("mode:words zanzibr").remarks)
    monkeypatch.setattr(index.searcher, "_reader", lambda: Other("knowledge/c/files.md"))
    results = index.ask("mode:words zanzibr")
    assert not results.remarks
    assert not results.hits
    # A word that hidden files contain is as unknown as any other.
    assert "temporary" in " ".join(index.ask("mode:words temprary").remarks)


def test_hidden_file_with_the_typo_does_not_prevent_the_correction(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    (index.corpus / "visible.md").write_text("You receive a letter.")
    index.follower.scan_all()
    assert not index.ask("mode:words recieve").remarks
    monkeypatch.setattr(index.searcher, "_reader", lambda: Other("knowledge/c/visible.md"))
    assert "no file has 'recieve': 'receive' was searched too" in index.ask("mode:words recieve").remarks


def test_misspelled_question_is_judged_by_its_corrections(index: Index) -> None:
    right, typed = (
        index.ask(f"mode:words {words}") for words in ("create a temporary file safely", "create a temprary file safly")
    )
    assert typed.answer.verdict == right.answer.verdict == "known"
    assert (typed.answer.p or 0) < (right.answer.p or 0)


def test_word_of_the_vocabulary_is_no_typo() -> None:
    query = parse_query("lorry")
    corrections = {"lorry": [("lorry", ["sorry"])]}
    words: Callable[[str], bool | None] = {"lorry", "sorry"}.__contains__
    assert correct_query(query, corrections, words).words == ("lorry",)
    assert correct_query(query, corrections, lambda word: None).words == ("sorry",)


def test_edits_are_those_of_one_letter() -> None:
    edits = {edit for edit, _ in find_edits("serach")}
    assert {"search", "seach", "seraach", "setach"} <= edits
    assert "searhc" not in edits
    assert {edit for edit, _ in find_edits("file") if len(edit) == 4} == {"file", "ifle", "flie", "fiel"} - {"file"}
    assert len(edits) < 60 * len("serach")


@pytest.mark.parametrize("word", ["NDJSON", "abc", "v2beta", "4711", "一時フアイル", "x" * 31, "___"])
def test_acronyms_numbers_and_scripts_without_spaces_are_never_corrected(word: str) -> None:
    assert not is_correctable(word)
