"""Ranking of code: the file that answers, tests and documents beside it, and definitions of identifiers."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctxfs.index.engines.question_terms import saturate_count
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import parse_query
from ctxfs.index.search.file_roles import FileRole, role_of
from ctxfs.index.search.query_hints import read_hints
from ctxfs.index.search.rank_fusion import WEIGHTS, Profile, fuse, weigh_best_cosine
from ctxfs.model.path import Path as TreePath
from tests.unit.index.test_index import Index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    made = Index(tmp_path / "index", corpus)
    yield made
    made.close()


def test_file_with_several_good_passages_ranks_before_one_with_a_single_better_passage() -> None:
    words = {1: 10.0, 2: 9.6, 3: 9.5, 4: 9.4, **{number: 1.0 + number / 100 for number in range(5, 40)}}
    signals = {"words": np.array(list(words.values()))}
    files = [1, 2, 2, 2, *range(3, 38)]
    assert fuse(list(words), signals, WEIGHTS["code"], files=files)[0].chunk == 2
    assert fuse(list(words), signals, WEIGHTS["prose"], files=files)[0].chunk == 1
    ranking = fuse(list(words), signals, WEIGHTS["code"], files=files)
    for scored in ranking:
        assert sum(scored.shares.values()) == pytest.approx(scored.score)


def test_passages_below_average_add_nothing_to_their_file() -> None:
    words = dict.fromkeys(range(1, 50), 1.0) | {50: 10.0, 51: 9.0}
    files = [1] * 48 + [2, 2, 3]
    ranking = fuse(list(words), {"words": np.array(list(words.values()))}, WEIGHTS["code"], files=files)
    assert "passages" not in ranking[0].shares or ranking[0].shares["passages"] == 0
    assert ranking[0].chunk == 50


@pytest.mark.parametrize("count", [2, 3, 5, 9])
@pytest.mark.parametrize("profile", ["prose", "code"])
def test_only_file_with_the_word_is_first_in_a_small_store(count: int, profile: Profile) -> None:
    """Among few candidates, a small difference in meaning must not outweigh the only occurrence of the word."""
    words = np.array([2.0] + [0.0] * (count - 1))
    meaning = np.array([0.31, 0.42, *(0.33, 0.35, 0.32, 0.3, 0.34, 0.33, 0.36)[: count - 2]])
    numbers = list(range(1, count + 1))
    ranking = fuse(numbers, {"words": words, "meaning": meaning}, WEIGHTS[profile], files=numbers)
    assert ranking[0].chunk == 1
    # A large difference in meaning still counts.
    meaning = np.array([0.1, 0.8, *(0.15,) * (count - 2)])
    assert fuse(numbers, {"words": words, "meaning": meaning}, WEIGHTS[profile], files=numbers)[0].chunk == 2


def test_meaning_counts_little_if_no_passage_is_near() -> None:
    assert weigh_best_cosine(0.15) < 0.05
    assert weigh_best_cosine(0.5) > 0.95


@pytest.mark.parametrize(
    ("path", "kind", "role"),
    [
        ("knowledge/s/src/pool.py", "code", FileRole.MAIN),
        ("knowledge/s/src/latest.py", "code", FileRole.MAIN),
        ("knowledge/s/src/contest/protest.go", "code", FileRole.MAIN),
        ("knowledge/s/src/history.py", "code", FileRole.MAIN),
        ("knowledge/s/tests/pool.py", "code", FileRole.TEST),
        ("knowledge/s/pkg/pool_test.go", "code", FileRole.TEST),
        ("knowledge/s/web/pool.spec.ts", "code", FileRole.TEST),
        ("knowledge/s/web/pool.test.tsx", "code", FileRole.TEST),
        ("knowledge/s/test_pool.py", "code", FileRole.TEST),
        ("knowledge/s/conftest.py", "code", FileRole.TEST),
        ("knowledge/s/java/PoolTest.java", "code", FileRole.TEST),
        ("knowledge/s/CHANGES.rst", "markdown", FileRole.CHANGELOG),
        ("knowledge/s/CHANGELOG", "text", FileRole.CHANGELOG),
        ("knowledge/s/NEWS.d", "text", FileRole.CHANGELOG),
        ("knowledge/s/changelog/1.2.md", "markdown", FileRole.CHANGELOG),
        ("knowledge/s/docs/pool.md", "markdown", FileRole.DOCUMENT),
        ("knowledge/s/changes-of-state.md", "markdown", FileRole.CHANGELOG),
        ("knowledge/s/LICENSE", "text", FileRole.LICENCE),
        ("knowledge/s/LICENSE-MIT.txt", "text", FileRole.LICENCE),
        ("knowledge/s/COPYING.LESSER", "text", FileRole.LICENCE),
        ("knowledge/s/LICENSES/Apache-2.0.txt", "text", FileRole.LICENCE),
        ("knowledge/s/license.py", "code", FileRole.MAIN),
        ("knowledge/s/Notice of meeting.md", "markdown", FileRole.DOCUMENT),
        ("knowledge/s/.editorconfig", "text", FileRole.SETTINGS),
        ("knowledge/s/.gitignore", "text", FileRole.SETTINGS),
        ("knowledge/s/.dockerignore", "text", FileRole.SETTINGS),
        ("knowledge/s/.pre-commit-config.yaml", "code", FileRole.SETTINGS),
        ("knowledge/s/.gitlab-ci.yml", "code", FileRole.SETTINGS),
        ("knowledge/s/.github/workflows/tests.yaml", "code", FileRole.SETTINGS),
        ("knowledge/s/.github/CONTRIBUTING.md", "markdown", FileRole.DOCUMENT),
        ("knowledge/s/.eslintrc.json", "text", FileRole.SETTINGS),
        ("knowledge/s/.vscode/settings.json", "text", FileRole.SETTINGS),
        ("knowledge/s/tox.ini", "code", FileRole.SETTINGS),
        ("knowledge/s/pyproject.toml", "code", FileRole.MAIN),
        ("knowledge/s/config/database.yaml", "code", FileRole.MAIN),
        ("knowledge/s/Dockerfile", "code", FileRole.MAIN),
    ],
)
def test_path_tells_the_role_of_a_file(path: str, kind: str, role: FileRole) -> None:
    assert role_of(path, kind) == role


def test_test_and_changelog_rank_behind_the_code_unless_the_question_names_them(index: Index) -> None:
    body = "def release_connections():\n    return idle connections of the pool to the otter\n"
    for name in ("pool.py", "test_pool.py", "a/test_other.py"):
        (index.corpus / name).parent.mkdir(exist_ok=True)
        (index.corpus / name).write_text(body)
    for number in range(20):
        (index.corpus / f"m{number}.py").write_text(f"def f{number}():\n    return connections + {number}\n")
    index.follower.scan_all()
    assert index.paths("release idle connections of the otter pool")[0] == "pool.py"
    asked = index.paths("tests for release idle connections of the otter pool")
    assert asked.index("test_pool.py") < len(asked)
    shares = {hit.path: hit.shares for hit in index.ask("tests that release idle connections of the otter pool").hits}
    assert not any(share.get("beside") for share in shares.values())


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("LICENSE", "licence of the rotating keys of the otter"),
        (".github/workflows/keys.yml", "CI workflow for the rotating keys of the otter"),
        (".editorconfig", "editor settings for the rotating keys of the otter"),
        (".pre-commit-config.yaml", "pre-commit hooks for the rotating keys of the otter"),
    ],
)
def test_licence_and_settings_rank_behind_a_note_unless_the_question_names_them(
    name: str, question: str, index: Index
) -> None:
    text = "the rotating keys of the otter stay\n"
    (index.corpus / name).parent.mkdir(parents=True, exist_ok=True)
    (index.corpus / name).write_text(text)
    (index.corpus / "note.md").write_text(text)
    for number in range(20):
        (index.corpus / f"n{number}.md").write_text(f"the keys of badger {number} rotate\n")
    index.follower.scan_all()
    assert index.paths("how do the rotating keys of the otter stay")[0] == "note.md"
    assert not any("aside" in hit.shares and hit.shares["aside"] for hit in index.ask(question).hits)


def test_question_that_is_an_identifier_finds_its_definition_first(index: Index) -> None:
    (index.corpus / "calls.py").write_text(
        "".join(f"def use{n}():\n    return open_pool(open_pool, open_pool, {n})\n\n\n" for n in range(30))
    )
    filler = "\n".join(f"    step{n} = prepare({n}, 'a word or two to fill the line')" for n in range(40))
    (index.corpus / "pool.py").write_text(f"def open_pool(size):\n{filler}\n    return size\n")
    (index.corpus / "server.py").write_text("class Server:\n    def open_pool_later(self):\n        pass\n")
    index.follower.scan_all()
    for question in ("open_pool", "open_pool()", "OPEN_POOL"):
        hit = index.ask(question).hits[0]
        assert (hit.path, hit.chunk.first) == ("knowledge/c/pool.py", 1), question
    assert index.ask("Server.open_pool_later").hits[0].path == "knowledge/c/server.py"


def test_definition_that_shares_its_chunk_is_found_first(index: Index) -> None:
    (index.corpus / "small.py").write_text(
        "class Kettle:\n    def boil(self):\n        pass\n\n    def pour_out(self):\n        pass\n"
    )
    (index.corpus / "uses.py").write_text("".join(f"kettle{n}.pour_out(pour_out, pour_out)\n" for n in range(30)))
    index.follower.scan_all()
    assert index.ask("pour_out").hits[0].path == "knowledge/c/small.py"


@pytest.mark.parametrize(
    ("question", "identifier"),
    [
        ("open_pool", "open_pool"),
        ("os.path.join()", "os.path.join"),
        ("std::vector", "std::vector"),
        ("open the pool", ""),
        ("what?", ""),
        ("3.11", ""),
        ("-r", ""),
    ],
)
def test_single_word_is_read_as_an_identifier(question: str, identifier: str) -> None:
    assert read_hints(parse_query(question), {}).identifier == identifier


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("is_indexed", [True, False])
def test_word_that_a_long_question_repeats_counts_more(index: Index, exact: bool, is_indexed: bool) -> None:
    (index.corpus / "kettle.md").write_text("# Kettles\n\nA kettle is filled, and then a kettle boils.\n")
    (index.corpus / "garden.md").write_text("# Gardens\n\nA garden is sown, and then a garden grows.\n")
    if is_indexed:
        index.follower.scan_all()
    else:
        root = IndexedRoot("knowledge/c", str(index.corpus))
        index.searcher.report_changes(root, [("kettle.md",), ("garden.md",)])

    def first_path(question: str) -> str:
        index.searcher.refresh()
        query = parse_query(f"mode:words {question}")
        return index.searcher.search(query, TreePath.parse(""), 5, exact=exact).hits[0].path

    assert first_path("the kettle stands in the garden: fill the kettle") == "knowledge/c/kettle.md"
    assert first_path("the garden is behind the kettle: sow the garden") == "knowledge/c/garden.md"


def test_weight_of_repetition_saturates() -> None:
    assert saturate_count(1) == 1
    assert 1 < saturate_count(2) < 2 < saturate_count(1000) < 9


def test_signed_document_is_no_dialogue(index: Index) -> None:
    (index.corpus / "signed.md").write_text(
        "---\nauthor: Ada\n---\n\n# Zebras\n\nZebras graze on the plain in herds.\n"
    )
    (index.corpus / "long.md").write_text(
        f"---\nauthor: Ada\n---\n\n# Herds\n\n{'The grass is high and dry there. ' * 15}\n"
    )
    index.follower.scan_all()
    assert index.paths("mode:words zebras")[0] == "signed.md"
    assert all("length" not in hit.shares for hit in index.ask("zebras").hits)
