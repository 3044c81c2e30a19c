"""The features of a text are those of its whole words."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.index.extract.text_features import TextFeature, detect_features

WORDS = ("yesterday", "Weekends", "1999", "2050", "19999", "day", "daily", "I", "i", "US", "us", "May", "Sunday", "x")
TIMES = re.compile(r"\b(yesterday|weekends|(?:19|20)\d\d|day|sunday)\b", re.IGNORECASE)
PERSONS = re.compile(r"\b(I|us)\b")


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.text(string.punctuation + " \n\u2019é", max_size=2))))
def test_features_are_those_of_whole_words(pairs: list[tuple[str, str]]) -> None:
    text = "".join(word + between for word, between in pairs)
    features = detect_features(text, "Ada")
    assert bool(features & TextFeature.MENTIONS_TIME) == bool(TIMES.search(text))
    assert bool(features & TextFeature.FIRST_PERSON) == bool(PERSONS.search(text))


@pytest.mark.parametrize(
    ("text", "author", "is_question"), [("When? ", "Ada", True), ("When?", "", False), ("So.", "Ada", False)]
)
def test_question_of_an_author_ends_in_a_mark(text: str, author: str, is_question: bool) -> None:
    assert (TextFeature.IS_QUESTION in detect_features(text, author)) == is_question
