from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.index.query import parse_query

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_operators_are_taken_apart_from_words() -> None:
    query = parse_query('rotate +keys -ssh "every ninety days" kind:fact path:handbook mode:words', NOW)
    assert query.words == ("rotate",)
    assert query.must == ("keys",)
    assert query.must_not == ("ssh",)
    assert query.phrases == ("every ninety days",)
    assert (query.kinds, query.paths, query.mode) == (("fact",), ("handbook",), "words")


def test_times_are_ages_or_dates() -> None:
    query = parse_query("x since:7d until:2026-11-20", NOW)
    assert query.since == int(datetime(2026, 11, 14, 12, tzinfo=UTC).timestamp()) * 10**9
    assert query.until == int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    "text", ["C++:", "what is this? (x", '"unclosed', "---", "since:never", "mode:loud", "🦘", "a" * 9999]
)
def test_what_is_no_operator_is_words(text: str) -> None:
    query = parse_query(text, NOW)
    assert not query.is_empty
    assert query.plain.strip('"') == text.strip('"')


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    query = parse_query(text, NOW)
    assert query.is_empty or query.plain.strip()


@pytest.mark.parametrize("text", ["", "   ", "mode:words", '""'])
def test_a_question_without_words_is_empty(text: str) -> None:
    assert parse_query(text, NOW).is_empty
