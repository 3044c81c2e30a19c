import re
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.index.normal_form import fold
from ctxfs.index.query import parse_query
from ctxfs.index.search.query_hints import names_of_authors, read_hints
from ctxfs.mounts.search import is_query

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_operators_are_parsed_apart_from_words() -> None:
    query = parse_query('rotate +keys -ssh "every ninety days" kind:fact path:handbook mode:words', NOW)
    assert query.words == ("rotate",)
    assert query.must == ("keys",)
    assert query.must_not == ("ssh",)
    assert query.phrases == ("every ninety days",)
    assert (query.kinds, query.paths, query.mode) == (("fact",), ("handbook",), "words")


def test_dash_before_an_attribute_leaves_it_out() -> None:
    query = parse_query('keys -tag:draft -session:"a b" -trust:untrusted -kind:fact', NOW)
    assert query.without_attributes == (("tags", "draft"), ("session", "a b"), ("trust", "untrusted"))
    assert (query.words, query.must_not, query.attributes) == (("keys",), ("kind:fact",), ())
    assert query.filter_key != parse_query("keys -kind:fact", NOW).filter_key
    assert query.without_filters().without_attributes == ()
    assert parse_query("-tag:draft", NOW).has_filters
    assert parse_query("-tag:", NOW).without_attributes == ()


def test_times_are_ages_or_dates() -> None:
    query = parse_query("x since:7d until:2026-11-20", NOW)
    assert query.since == int(datetime(2026, 11, 14, 12, tzinfo=UTC).timestamp()) * 10**9
    assert query.until == int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    "text", ["C++:", "what is this? (x", '"unclosed', "---", "since:never", "mode:loud", "🦘", "a" * 9999]
)
def test_invalid_operators_are_words(text: str) -> None:
    query = parse_query(text, NOW)
    assert not query.is_empty
    assert query.plain_text.strip('"') == text.strip('"')


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    query = parse_query(text, NOW)
    assert query.is_empty or query.plain_text.strip()


@pytest.mark.parametrize("text", ["", "   ", "mode:words", '""'])
def test_query_without_words_is_empty(text: str) -> None:
    assert parse_query(text, NOW).is_empty


@pytest.mark.parametrize(
    ("question", "authors", "words"),
    [
        ("What did Caroline research?", {"Caroline"}, "What did research?"),
        ("What is Caroline's identity?", {"Caroline"}, "What is identity?"),
        ("Where does Bob live", {"Bob Lee"}, "Where does live"),
        ("will it rain", set(), "will it rain"),
        ("Will it rain", set(), "Will it rain"),
        ("Where is Will?", {"Will"}, "Where is"),
        ("Caroline", {"Caroline"}, "Caroline"),
    ],
)
def test_name_in_a_query_is_matched_with_the_speakers(question: str, authors: set[str], words: str) -> None:
    names = names_of_authors(["Caroline", "Bob Lee", "Will", "user"])
    hints = read_hints(parse_query(question), names)
    assert hints.authors == authors
    assert " ".join(hints.query.words) == words


FORMS = {
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "wide": lambda text: "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text),
    "zero width": lambda text: re.sub(r"(?<=\w)(?=\w)", "\u200b", text),
    "soft hyphens": lambda text: re.sub(r"(?<=\w)(?=\w)", "\u00ad", text),
    "hyphens": lambda text: text.replace("-", "\u2011").replace("'", "\u2019"),
    "capitals": str.upper,
    "marks": lambda text: f"\u200f{text}\ufeff",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "question",
    [
        "When did Émile's test fail on 2023-05-08?",
        "What did Weiß write about the changelog in July",
        "which month did Łukasz document",
        "How often does Zoë meet Bob-Ray, 8 May 2023",
        "get_value",
    ],
)
def test_hints_are_the_same_in_every_form_of_a_question(question: str, form: str) -> None:
    names = names_of_authors(["Émile Zola", "Weiß", "Łukasz", unicodedata.normalize("NFD", "Zoë"), "Bob-Ray", "user"])
    plain = read_hints(parse_query(question), names)
    other = read_hints(parse_query(FORMS[form](question)), names)
    assert other.authors == plain.authors
    assert other.dates == plain.dates
    assert other.asks_for_time == plain.asks_for_time
    assert other.roles == plain.roles
    assert fold(other.identifier) == fold(plain.identifier)
    assert len(other.query.words) == len(plain.query.words)
    assert plain.authors or plain.identifier


@pytest.mark.parametrize("author", ["Zoë", "Weiß", "Ann"])
def test_name_of_an_author_is_matched_in_every_form_of_the_file(author: str) -> None:
    for form in (str, *FORMS.values()):
        assert read_hints(parse_query(f"what did {author} say"), names_of_authors([form(author)])).authors


@pytest.mark.parametrize("question", ["Will it rain", "WILL IT RAIN", "will will", "WHERE IS MARK"])
def test_common_word_in_capitals_is_no_name(question: str) -> None:
    assert not read_hints(parse_query(question), names_of_authors(["Will", "Mark"])).authors


def test_question_about_a_time_is_recognised() -> None:
    asks = {
        text: read_hints(parse_query(text), {}).asks_for_time
        for text in ("when was it?", "how long ago", "what is it", "whenever")
    }
    assert asks == {"when was it?": True, "how long ago": True, "what is it": False, "whenever": False}


def test_a_filter_s_value_may_be_quoted() -> None:
    asked = parse_query('author:"Ann Müller" path:"my notes/2026" keys "a phrase"')
    assert asked.authors == ("Ann Müller",)
    assert asked.paths == ("my notes/2026",)
    assert asked.words == ("keys",)
    assert asked.phrases == ("a phrase",)
    assert parse_query('author:"').words == ('author:"',), "an invalid filter is words"


@pytest.mark.parametrize(
    ("text", "words", "excluded"),
    [
        ("deploy -staging", ("deploy",), ("staging",)),
        ("-staging deploy -tests", ("deploy",), ("staging", "tests")),
        ("how does grep -r work", ("how", "does", "grep", "-r", "work"), ()),
        ("how does grep -r -name work", ("how", "does", "grep", "-r", "-name", "work"), ()),
        ("-2 ENOENT", ("-2", "ENOENT"), ()),
        ("how is rm -rf?", ("how", "is", "rm", "-rf?"), ()),
        ("ls --all -color", ("ls", "--all", "-color"), ()),
        ("minus -5 degrees", ("minus", "-5", "degrees"), ()),
        ("cut -d, -fields", ("cut", "-d,", "-fields"), ()),
        ('grep -r -"a phrase"', ("grep", "-r"), ("a phrase",)),
    ],
)
def test_dash_excludes_only_where_nothing_looks_like_an_option(
    text: str, words: tuple[str, ...], excluded: tuple[str, ...]
) -> None:
    query = parse_query(text)
    assert (query.words, query.must_not) == (words, excluded)


@pytest.mark.parametrize(
    ("name", "expected"), [("*", False), ("?", False), ("---", False), ("C++", True), ("🦘", True)]
)
def test_name_without_search_terms_is_no_query(name: str, expected: bool) -> None:
    assert is_query(name) is expected
