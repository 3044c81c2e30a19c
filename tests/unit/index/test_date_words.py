"""Test that the words of a date in a question are those of a record whose message is of that date."""

from pathlib import Path

import numpy as np
import pytest

from ctxfs.index.query import parse_query
from ctxfs.index.search.date_words import match_days, score_days
from ctxfs.index.search.results import Answer
from ctxfs.model.path import ROOT
from tests.unit.index.test_history import Store


def matches(question: str, day: str) -> list[str]:
    """Return the words of a question that a passage of a day has by its day."""
    words = question.split()
    groups = [(word.lower().strip(","),) for word in words]
    ordinal = np.datetime64(day).astype(object).toordinal()
    (row,) = match_days(words, groups, lambda text: text.lower().replace(",", "").replace("-", " ").split(), [ordinal])
    return [word for word, is_matched in zip(words, row.tolist(), strict=True) if is_matched]


@pytest.mark.parametrize(
    ("question", "day", "words"),
    [
        ("what happened in October 2023?", "2023-10-13", ["October", "2023?"]),
        ("what happened on October 13, 2023", "2023-10-13", ["October", "13,", "2023"]),
        ("what happened on 9th October 2023", "2023-10-13", ["October", "2023"]),
        ("what happened on 13 October 2022", "2023-10-13", []),
        ("what happened in May 2023", "2023-10-13", []),
        ("may he come in 13 days", "2023-05-13", []),
        ("the 13 of them met on 13 October", "2023-10-13", ["13", "13", "October"]),
    ],
)
def test_words_of_a_date_match_its_day(question: str, day: str, words: list[str]) -> None:
    assert matches(question.replace("?", ""), day) == [word.replace("?", "") for word in words]


def test_passage_without_a_day_matches_no_date() -> None:
    assert not match_days(
        ["October", "2023"], [("october",), ("2023",)], lambda text: text.lower().split(), [None]
    ).any()
    assert match_days([], [], str.split, [1]).shape == (1, 0)
    assert match_days(["October"], [("october",)], lambda text: text.lower().split(), []).shape == (0, 1)


def answer_of(store: Store, question: str) -> Answer:
    return store.searcher.search(parse_query(f"mode:words {question}"), ROOT, 10).answer


def test_days_have_the_weights_of_the_words_that_name_them() -> None:
    days = np.array([738_000, 738_806, 738_806, 0], dtype=np.int64)  # 738806 is 2023-10-13
    weights: dict[tuple[str, ...], float] = {("happened",): 9.0, ("october",): 4.0, ("2023",): 2.0}
    words = "what happened in October 2023".split()
    scores = score_days(words, weights, lambda text: text.lower().split(), days)
    assert scores.tolist() == [0, 6, 6, 0]


def test_record_of_the_named_date_comes_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for month in range(1, 13):
        texts = [f"I went jogging beside the river again, route {step}" for step in range(6)]
        store.append(*texts, session=f"s{month}", speaker="Nate", said_at=f"2022-{month:02}-11T10:00:00Z")
    store.index()
    hits = store.searcher.search(parse_query("mode:words where did Nate go jogging in April 2022?"), ROOT, 6).hits
    store.close()
    assert {hit.chunk.path.rpartition("/")[2] for hit in hits} == {"s4.jsonl"}


def test_question_with_the_date_of_a_record_is_no_question_about_missing_words(tmp_path: Path) -> None:
    store = Store(tmp_path)
    talk = ("I broke my ankle and could not paint.", "The garden is lovely.", "We had soup for dinner.")
    store.append(*talk, said_at="2023-10-13T10:00:00Z")
    store.append("The harbour is calm.", "The winter was long.", said_at="2023-02-01T10:00:00Z")
    store.index()
    right = answer_of(store, "who broke the ankle in October 2023?")
    wrong = answer_of(store, "who broke the ankle in November 2021?")
    assert right.evidence is not None
    assert wrong.evidence is not None
    assert right.evidence.missing_words == ()
    assert set(wrong.evidence.missing_words) == {"November", "2021"}
    assert (right.p or 0) > (wrong.p or 0)
    store.close()
