"""Test `benchmarks.evidence`: which evidence counts as found, the folders of others, intervals, tables and plots."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.evidence import read_published, score_published
from benchmarks.evidence_contexts import (
    BuiltContext,
    Passage,
    RankedPassages,
    cut_to_budget,
    rank_by_bm25,
    rank_by_matches,
)
from benchmarks.evidence_figures import BY_TEXT, BY_TURN, Scores, format_table, summarise_scores
from benchmarks.evidence_plot import draw_plot
from benchmarks.evidence_sets import (
    Question,
    contains_text,
    folder_set,
    locate_text,
    normalise_text,
    write_folder,
)
from ctxfs.context.retrieval_metrics import Gold, LineRange

KEYS = "# Keys\n\nThe signing keys are\nrotated every ninety days.\n"
LUNCH = "# Lunch\n\nThe canteen opens at noon.\n"


class WordCounter:
    """A tokenizer whose tokens are words."""

    name = "words"

    def count(self, text: str) -> int:
        return len(text.split())


def make_folder(folder: Path) -> Path:
    (folder / "documents" / "office").mkdir(parents=True)
    (folder / "documents" / "office" / "keys.md").write_text(KEYS)
    (folder / "documents" / "lunch.md").write_text(LUNCH)
    questions = [
        {
            "id": "keys",
            "question": "How often are the signing keys rotated?",
            "evidence": [{"path": "office/keys.md", "text": "keys are rotated every NINETY days"}],
        },
        {
            "id": "both",
            "question": "When does the canteen open and which keys are rotated?",
            "evidence": [
                {"path": "lunch.md", "text": "The canteen opens at noon."},
                {"path": "office/keys.md", "text": "The signing keys"},
            ],
        },
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    return folder


def question(identifier: str, *texts: str, lines: tuple[int, int] = (1, 1)) -> Question:
    relevant = tuple(LineRange(f"knowledge/d/{number}.md", *lines) for number, _ in enumerate(texts))
    return Question(identifier, Gold(identifier, relevant), texts, identifier)


def test_texts_are_compared_by_their_words() -> None:
    context = normalise_text("## [1] a.txt\n5: Ada: The  “Keys” rotate;\n6: every ninety days.\n")
    assert contains_text(context, normalise_text("the keys rotate\nevery NINETY days"))
    assert not contains_text(context, normalise_text("ninety day")), "a part of a word is another word"


def test_evidence_has_the_lines_of_its_document() -> None:
    assert locate_text(KEYS, "keys are rotated") == (3, 4)
    assert locate_text(KEYS, "# keys") == (1, 1)
    assert locate_text(KEYS, "rotated every ten days") is None
    assert locate_text(KEYS, "…") is None, "a text without words is no evidence"


def test_a_folder_is_read_and_written_alike(tmp_path: Path) -> None:
    chosen = folder_set(make_folder(tmp_path / "handbook"), tmp_path / "store")
    assert [item.gold.relevant for item in chosen.parts[0].questions] == [
        (LineRange("knowledge/documents/office/keys.md", 3, 4),),
        (LineRange("knowledge/documents/lunch.md", 3, 3), LineRange("knowledge/documents/office/keys.md", 3, 3)),
    ]
    write_folder(chosen, tmp_path / "copy")
    again = folder_set(tmp_path / "copy", tmp_path / "store")
    assert again.parts[0].questions == chosen.parts[0].questions


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "x", "question": "?", "evidence": [{"path": "lunch.md", "text": "no such text"}]}',
        '{"id": "x", "question": "?", "evidence": [{"path": "../questions.jsonl", "text": "id"}]}',
        '{"id": "x", "question": "?", "evidence": [{"path": "missing.md", "text": "id"}]}',
        '{"id": "x", "question": "?", "evidence": []}',
        '{"id": "x", "question": "?"}',
        "[1]",
        "{",
    ],
)
def test_a_malformed_question_is_named(tmp_path: Path, line: str) -> None:
    folder = make_folder(tmp_path / "handbook")
    with (folder / "questions.jsonl").open("a") as file:
        file.write(line)
    with pytest.raises(SystemExit, match=r"questions\.jsonl' line 3"):
        folder_set(folder, tmp_path / "store")


def test_all_of_the_evidence_is_needed() -> None:
    scores = Scores("ctxfs")
    lines = [LineRange("knowledge/d/0.md", 1, 1), LineRange("knowledge/d/1.md", 1, 1)]
    scores.add(question("half", "alpha beta", "gamma"), 500, BuiltContext("alpha, beta", 2, lines[:1]))
    scores.add(question("whole", "alpha beta", "gamma"), 500, BuiltContext("gamma – Alpha beta", 3, lines))
    scores.add(question("none", "alpha"), 500, None)
    assert scores.scores[BY_TEXT, 500] == [0.0, 1.0, 0.0]
    assert scores.scores[BY_TURN, 500] == [0.0, 1.0]
    assert scores.missing == 1


def test_published_contexts_are_cut_to_their_budget_and_missing_ones_count(tmp_path: Path) -> None:
    file = tmp_path / "other.jsonl"
    file.write_text(
        '{"question": "a", "budget": 2, "context": "alpha beta gamma"}\n\n'
        '{"question": "b", "budget": 2, "context": "one gamma two"}\n'
    )
    questions = [question("a", "alpha"), question("b", "two"), question("c", "three")]
    scores = score_published("other", read_published(file), questions, (2, 4), WordCounter())
    assert scores.scores == {(BY_TEXT, 2): [1.0, 0.0, 0.0]}, "of the second budget nothing is published"
    assert scores.tokens[2] == [2, 2, 0]
    assert scores.missing == 1
    file.write_text('{"question": "a", "context": "alpha"}\n')
    with pytest.raises(SystemExit, match="line 1"):
        read_published(file)


def test_a_text_over_the_budget_keeps_its_beginning() -> None:
    assert cut_to_budget("one two\nthree four", 3, WordCounter()) == "one two\nthree"
    assert cut_to_budget("one two", 2, WordCounter()) == "one two"
    assert cut_to_budget("one", 0, WordCounter()) == ""


def test_baselines_fill_the_budget_with_the_best_passages_that_fit() -> None:
    passages = [
        Passage(LineRange("knowledge/d/a.md", 1, 1), "keys " + "filler " * 30),
        Passage(LineRange("knowledge/d/a.md", 2, 2), "lunch is at noon"),
        Passage(LineRange("knowledge/d/b.md", 1, 1), "the signing keys rotate"),
        Passage(LineRange("knowledge/d/b.md", 2, 2), "rotateKeys() is called"),
    ]
    for ranking in (rank_by_bm25(passages), rank_by_matches(passages)):
        built = RankedPassages(passages, ranking, WordCounter()).build(question("how do signing keys rotate?"), 12)
        assert built.lines is not None
        assert [str(lines.path)[-4:] + str(lines.first) for lines in built.lines] == ["b.md1", "b.md2"]
        assert built.text == "## d/b.md\nthe signing keys rotate\nrotateKeys() is called"
        assert built.tokens == 9


def figures_of(own: list[float], other: list[float]) -> "list[str]":
    questions = [question(str(number), "x") for number, _ in enumerate(own)]
    measured = []
    for name, values in (("ctxfs", own), ("bm25", other)):
        scores = Scores(name)
        scores.scores[BY_TEXT, 500] = values
        scores.tokens[500] = [400] * len(values)
        measured.append(scores)
    figures = summarise_scores("set", questions, measured)
    share = figures.shares[BY_TEXT, "ctxfs", 500]
    assert share.low <= share.value <= share.high
    ElementTree.fromstring(draw_plot([figures, figures]))
    assert "| ctxfs, by text | " in format_table(figures)
    return figures.not_ahead()


def test_ctxfs_is_reported_where_it_is_not_surely_ahead() -> None:
    assert figures_of([1.0] * 40, [0.0] * 30 + [1.0] * 10) == []
    assert len(figures_of([1.0, 0.0] * 20, [0.0, 1.0] * 20)) == 1
    assert len(figures_of([0.0] * 40, [1.0] * 40)) == 1


@pytest.mark.long
def test_published_contexts_of_ctxfs_have_its_figures(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "handbook")
    command = [sys.executable, "-m", "benchmarks.evidence", "--folder", str(folder), "--keep", str(tmp_path / "keep")]
    options = ["--budget", "100", "--system", "ctxfs", "--system", "bm25", "--json"]

    def run(*further: str) -> dict[tuple[str, str], float]:
        done = subprocess.run([*command, *options, *further], capture_output=True, text=True, check=True)
        (record,) = json.loads(done.stdout)
        return {(row["way"], row["system"]): row["share"] for row in record["shares"]}

    plot = tmp_path / "plot.svg"
    shares = run("--export", str(tmp_path / "export"), "--plot", str(plot))
    assert shares[BY_TURN, "ctxfs"] == shares[BY_TEXT, "ctxfs"] == 1.0
    ElementTree.parse(plot)
    published = tmp_path / "export" / "handbook" / "ctxfs.jsonl"
    published = published.rename(published.with_name("other.jsonl"))
    again = run("--against", str(published))
    assert again[BY_TEXT, "other"] == shares[BY_TEXT, "ctxfs"]
