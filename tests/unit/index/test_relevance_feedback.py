"""Test the second search of dialogues, by the subjects of the best hits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctxfs.index.engines.model_files import default_model_folder
from ctxfs.index.engines.word_split import split_words
from ctxfs.index.query import parse_query
from ctxfs.index.search.rank_fusion import Ranking
from ctxfs.index.search.relevance_feedback import Turns, feed_back
from ctxfs.model.path import ROOT
from tests.unit.index.test_index import Index

FILLER = [f"Ann: nothing of note happened on day {number}, we talked about the weather" for number in range(30)]
QUESTION = "Which animals does Ann keep? Ann Bob"


def rank(
    texts: Sequence[str],
    *,
    files: Sequence[int] | None = None,
    is_turn: bool = True,
    cosines: Sequence[float] | None = None,
    question: str = QUESTION,
) -> list[int]:
    """Return the positions of texts, ranked in this order, after the second search."""
    count = len(texts)
    # Two numbers apart by more than the reach of neighbours, unless files are given.
    numbers = np.arange(1, count + 1) * (10 if files is None else 1)
    ranking = Ranking(numbers, np.linspace(3, 0, count), {"words": np.ones(count)}, {"words": np.ones(count)})
    known = np.full(count, np.nan) if cosines is None else np.array(cosines)
    turns = Turns(texts, np.array(files or [1] * count), np.full(count, is_turn), known)
    out = feed_back(ranking, turns, question, split_words)
    assert list(out.scores) == sorted(out.scores, reverse=True)
    assert all(len(column) == count for column in (*out.signals.values(), *out.shares.values()))
    return [int(np.flatnonzero(numbers == chunk)[0]) for chunk in out.chunks]


def test_turn_that_shares_a_rare_word_with_a_best_hit_rises() -> None:
    texts = ["Ann: I keep a parrot called Zephyrine", *FILLER, "Ann: zephyrine's cage needs cleaning"]
    order = rank(texts)
    assert order.index(31) < 29
    assert order[:10] == list(range(10)), "the first ten stay where they are"


def test_words_are_compared_by_their_beginning_in_every_script() -> None:
    for first, last in (("gardening", "two gardens"), ("новая гитара", "гитарой"), ("学校", "学校")):
        order = rank([f"Ann: {first}", *FILLER, f"Ann: {last}"])
        assert order.index(31) < 31, first


def test_words_of_the_question_and_names_do_not_count() -> None:
    texts = ["Bob: animals", *FILLER, "Bob: animals"]
    assert rank(texts) == list(range(32))


def test_turn_near_in_meaning_to_a_best_hit_rises() -> None:
    cosines = [0.1] * 32
    cosines[31] = 0.9
    assert rank(["Ann: x", *FILLER, "Ann: y"], cosines=cosines).index(31) < 29


def test_turns_beside_the_best_hits_rise_within_their_file() -> None:
    files = [1] * 10 + [2] * 22
    files[11] = 1
    order = rank([f"Ann: {number}" for number in range(32)], files=files)
    assert order.index(11) == 10


def test_documents_keep_their_order() -> None:
    texts = ["I keep a parrot called Zephyrine", *FILLER, "zephyrine's cage"]
    assert rank(texts, is_turn=False) == list(range(32))
    assert rank(texts[:10]) == list(range(10))
    assert rank(["Ann: zephyrine"] * 12) == list(range(12))


def test_first_ten_hits_are_those_of_a_search_without_feedback(tmp_path: Path, corpus: Path) -> None:
    (corpus / "chat.txt").write_text(
        "3 May 2023\n\n"
        + "\n".join(f"{'Ann' if n % 2 else 'Bob'}: message {n} about the garden and tool {n % 7}" for n in range(80))
    )
    embedded = Index(tmp_path / "index", corpus, model=default_model_folder())
    embedded.embed()
    query = parse_query("what did Ann write about the garden?")
    plain = embedded.searcher.search(query, ROOT, 200).hits
    deep = embedded.searcher.search(query, ROOT, 200, exact=True).hits
    assert [hit.chunk.id for hit in deep[:10]] == [hit.chunk.id for hit in plain[:10]]
    assert {hit.chunk.id for hit in deep} == {hit.chunk.id for hit in plain}
    assert any("feedback" in hit.shares for hit in deep)
    assert not any("feedback" in hit.shares for hit in plain)
    embedded.close()
