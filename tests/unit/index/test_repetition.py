"""Test that a turn that repeats the question counts as no answer to it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctxfs.index.engines.fulltext import analyse
from ctxfs.index.query import parse_query
from ctxfs.index.search.rank_fusion import Ranking, rank_last
from ctxfs.index.search.repetition import flag_repetitions
from ctxfs.index.search.results import Verdict
from ctxfs.model.path import ROOT
from tests.unit.index.test_history import Store

QUESTION = "What did we decide about the refund limit?"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("question", "text", "asks", "repeats"),
    [
        (QUESTION, QUESTION, True, True),
        (QUESTION, "what did we decide about refund limits", False, True),
        (QUESTION, "the refund limit?", True, True),
        (QUESTION, "the refund limit", False, False),
        (QUESTION, "We decided about the refund limit: it is 200000 cents", False, False),
        ("tabs or spaces in the style guide", "Tabs.", False, False),
        ("refund", "refund", False, False),
        ('"refund limit" decided', "refund limit decided", False, False),
        (QUESTION, "", False, False),
        (QUESTION, f"{QUESTION} " * 3, True, False),
    ],
)
def test_turn_without_a_word_of_its_own_repeats_the_question(
    question: str, text: str, asks: bool, repeats: bool
) -> None:
    flags = flag_repetitions([text], np.array([asks]), parse_query(question), analyse)
    assert flags.tolist() == [repeats]


def test_flagged_candidates_are_last_and_the_shares_are_those_of_the_scores() -> None:
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    ranking = Ranking(np.array([7, 3, 9, 1]), scores, {"words": scores}, {"words": scores})
    moved = rank_last(ranking, np.array([True, False, True, False]))
    assert moved.chunks.tolist() == [3, 1, 7, 9]
    assert moved.signals["words"].tolist() == [3.0, 1.0, 4.0, 2.0]
    assert (np.diff(moved.scores) < 0).all()
    total = moved.shares["words"] + np.nan_to_num(moved.shares["repeats"])
    assert total[2:] == pytest.approx(moved.scores[2:])


def test_records_of_the_question_rank_behind_the_answer(store: Store) -> None:
    for number in range(12):
        store.append(QUESTION, session=f"s{number}", kind="input")
    store.append("We decided to raise the limit of refunds to 200000 cents.", session="t")
    store.index()
    results = store.searcher.search(parse_query(QUESTION), ROOT, 10)
    assert "200000" in results.hits[0].chunk.text
    assert all(hit.p == 0 and not hit.is_relevant for hit in results.hits[1:])
    assert [hit.score for hit in results.hits] == sorted((hit.score for hit in results.hits), reverse=True)


def test_question_that_only_records_of_it_contain_is_unknown(store: Store) -> None:
    for number in range(12):
        store.append(QUESTION, session=f"s{number}", kind="input")
    store.append("something else", session="t")
    store.index()
    answer = store.searcher.search(parse_query(QUESTION), ROOT, 10).answer
    assert answer.verdict is Verdict.UNKNOWN
    assert answer.reasons == ("only the same question was found",)
