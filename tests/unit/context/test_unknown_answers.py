"""Test which unknown answers leave a context empty."""

import pytest

from ctxfs.context.build.constructor import context_of_results
from ctxfs.context.build.request import make_request
from ctxfs.context.build.tokens import BoundTokenizer
from ctxfs.index.engines.catalog_schema import ChunkRow
from ctxfs.index.query import parse_query
from ctxfs.index.search.results import Answer, Evidence, Hit, SearchResults, Verdict

QUESTION = "Would Ann be considered religious?"


@pytest.mark.parametrize(
    ("p", "names_author", "is_empty"),
    [
        (0.02, False, True),
        (0.02, True, False),  # the answer may follow from statements of Ann
        (0.15, False, False),
    ],
)
def test_context_is_empty_if_an_answer_is_improbable_and_no_speaker_is_named(
    p: float, names_author: bool, is_empty: bool
) -> None:
    row = ChunkRow(
        1, "knowledge/chat.txt", 1, 1, "", "Ann: on Sundays I sing in the choir", "dialogue", 1, "Ann", "", None
    )
    answer = Answer(Verdict.UNKNOWN, p, ("no file contains religious",), Evidence(0.2, 0.1, names_author=names_author))
    results = SearchResults(parse_query(QUESTION), [Hit(row, 1.0, p=0.1)], answer=answer)
    context = context_of_results(
        make_request({"query": QUESTION, "budget": 500}, 500), results, BoundTokenizer(), {}, {}
    )
    assert ("choir" not in context.text) is is_empty
    assert "unknown: the searched files do not seem to answer this; no file contains religious" in context.text
