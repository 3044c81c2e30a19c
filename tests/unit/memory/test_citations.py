"""Test citations: their text, and the comparison of cited lines with changed sources."""

import textwrap
import time
from dataclasses import replace

import pytest

from ctxfs.memory.citations import (
    MAX_CITED_TOKENS,
    Citation,
    Copies,
    FileMark,
    NoText,
    Span,
    State,
    format_citations,
    is_url,
    parse_citations,
    parse_span,
    worst_state,
)
from ctxfs.memory.token_stream import TokenStream
from ctxfs.model.metadata import is_sound

PATH = "knowledge/handbook/keys.md"
LINES = [
    "# Keys",
    "",
    "The signing keys live in the vault, below the name `release`.",
    "Rotate the signing keys every ninety days with keyctl, and write the",
    "date of the rotation into the log of the well-known release managers.",
    "",
    "Backups of the vault are made each night at 02:00 and kept for 30 days.",
    "A restore needs two managers.",
]
CITED = (4, 5)


def stream(lines: list[str]) -> TokenStream:
    return TokenStream(enumerate(lines, 1))


def cite(first: int, last: int, lines: list[str] = LINES, path: str = PATH) -> Citation:
    return stream(lines).cite(Span(path, first, last), 1)


def state_of(lines: list[str], citation: Citation | None = None) -> State:
    return stream(lines).judge(citation or cite(*CITED)).state


def edited(old: str, new: str) -> list[str]:
    changed = "\n".join(LINES).replace(old, new).split("\n")
    assert changed != LINES
    return changed


def reflowed(width: int) -> list[str]:
    paragraphs = "\n".join(LINES).split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(text.split()), width) for text in paragraphs).split("\n")


@pytest.mark.parametrize("width", [20, 33, 50, 200])
def test_line_wraps_have_no_effect(width: int) -> None:
    for first in range(3, 9):
        if LINES[first - 1]:
            assert state_of(reflowed(width), cite(first, first)) is State.HOLDS


@pytest.mark.parametrize(
    "lines",
    [
        ["  " + line.replace(" ", "   ") + "\t" for line in LINES],
        ["> " + line for line in LINES],
        [line + "\r" for line in LINES],
        ["\n"] * 3 + LINES,
        [*LINES, "", "More text at the end."],
    ],
    ids=["spaces", "quoted", "line ends", "blank lines above", "text below"],
)
def test_white_space_has_no_effect(lines: list[str]) -> None:
    assert state_of(lines) is State.HOLDS


def test_words_of_scripts_without_spaces_may_be_wrapped_anywhere() -> None:
    text = "署名鍵は九十日ごとに交換する必要がある。"
    citation = cite(1, 1, [text])
    assert state_of([text[:7], text[7:]], citation) is State.HOLDS
    assert state_of([text.replace("九十", "三十")], citation) is State.CHANGED


def test_composed_and_decomposed_letters_are_equal() -> None:
    assert (
        state_of(["Die Schlu\u0308ssel liegen im Tresor."], cite(1, 1, ["Die Schl\u00fcssel liegen im Tresor."]))
        is State.HOLDS
    )


@pytest.mark.parametrize("above", [1, 2, 40])
def test_text_that_moved_down_is_found(above: int) -> None:
    holding = stream([*["Another line of text."] * above, *LINES]).judge(cite(*CITED))
    assert (holding.state, holding.current) == (State.MOVED, Span(PATH, 4 + above, 5 + above))


def test_text_that_moved_within_the_file_is_found() -> None:
    lines = [*LINES[:3], *LINES[5:], "", *LINES[3:5]]
    holding = stream(lines).judge(cite(*CITED))
    assert (holding.state, holding.current) == (State.MOVED, Span(PATH, 8, 9))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ninety", "thirty"),
        ("every ninety days", "never"),
        ("Rotate", "Do not rotate"),
        ("keyctl, and", "keyctl and"),
        ("well-known", "well known"),
        ("the log", "The log"),
        ("Rotate the", "Never Rotate the"),
        ("release managers.", "release managers. This is void."),
    ],
)
def test_edited_text_has_changed(old: str, new: str) -> None:
    assert state_of(edited(old, new)) is State.CHANGED


@pytest.mark.parametrize(("old", "new"), [("30 days", "3 days"), ("02:00", "20:00"), ("02:00", "02.00"), ("30", "-30")])
def test_edited_number_has_changed(old: str, new: str) -> None:
    assert state_of(edited(old, new), cite(7, 7)) is State.CHANGED


@pytest.mark.parametrize("old", ["timeout = 30", "x < 5", "a == b"])
def test_edited_code_has_changed(old: str) -> None:
    lines = ["# settings", old, "retries = 3"]
    for new in (f"# {old}", old.replace("30", "90").replace("<", "<=").replace("==", "!=")):
        assert state_of([lines[0], new, lines[2]], cite(2, 2, lines)) is State.CHANGED


def test_deleted_text_is_gone() -> None:
    assert state_of([*LINES[:3], *LINES[5:]]) is State.GONE
    assert state_of(LINES[:2]) is State.GONE
    assert state_of([]) is State.GONE


def test_text_beyond_the_head_of_a_large_source_is_unseen() -> None:
    head = TokenStream(enumerate(LINES[:2], 1), is_partial=True)
    assert head.judge(cite(*CITED)).state is State.UNSEEN
    with pytest.raises(NoText, match="too large"):
        head.cite(Span(PATH, 4, 5), 1)


def test_copy_of_an_edited_text_is_no_move() -> None:
    lines = ["Return the result of the call.", "", *LINES, "", "Return the result of the call."]
    citation = cite(1, 1, lines)
    assert (citation.ordinal, citation.occurrences) == (1, 2)
    assert state_of(["Return the error of the call.", *lines[1:]], citation) is State.CHANGED
    holding = stream(["Above.", "Above.", *lines]).judge(citation)
    assert (holding.state, holding.current) == (State.MOVED, Span(PATH, 3, 3))


def test_text_is_found_in_another_file() -> None:
    other = stream(["# Elsewhere", *LINES[3:5]])
    assert other.find(cite(*CITED), "pad/t/x.md") == Span("pad/t/x.md", 2, 3)
    assert stream(LINES[:3]).find(cite(*CITED), "pad/t/x.md") is None


@pytest.mark.parametrize(
    "path", [PATH, "pad/Key rotation.md", "pad/größe.md", "pad/a\nb.md", "pad/a\udce9.md", "pad/100%.md", "pad/a:1-2"]
)
def test_value_of_citations_round_trips(path: str) -> None:
    citations = [cite(*CITED, path=path), cite(7, 7), Citation(Span("https://example.com/a", 0, 0))]
    value = format_citations(citations)
    assert is_sound("cites", value)
    assert parse_citations(value) == citations


COPIES = Copies(0xA1B2C3, (FileMark(0, 0xFFFFFF), FileMark(0x123456, 7)), has_more=True)


@pytest.mark.parametrize("ordinal", [1, 2])
def test_copies_of_a_citation_round_trip(ordinal: int) -> None:
    citation = replace(cite(*CITED), copies=COPIES, ordinal=ordinal, occurrences=ordinal)
    value = format_citations([citation, cite(7, 7)])
    assert is_sound("cites", value)
    assert parse_citations(value) == [citation, cite(7, 7)]


@pytest.mark.parametrize(
    ("file", "is_move"),
    [
        (FileMark(5, 6), True),
        (FileMark(1, 6), False),  # the copy, replaced
        (FileMark(5, 2), False),  # the copy, renamed
        (FileMark(1, 9), True),  # the source, renamed over the copy
    ],
)
def test_copy_is_no_move_under_any_name(file: FileMark, is_move: bool) -> None:
    assert Copies(9, (FileMark(1, 2), FileMark(3, 4))).is_move(file) is is_move
    assert Copies(9, (FileMark(1, 2),), has_more=True).is_move(file) is (file.inode == 9)


def test_ten_citations_fit_into_an_attribute() -> None:
    assert len(format_citations([cite(*CITED)] * 10)) <= 2048


SOUND = format_citations([cite(*CITED)]).decode()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "knowledge/a.md:1",
        "knowledge/a.md:1-2 beef",
        SOUND + "\n",
        SOUND.replace(":4-5", ":5-4"),
        SOUND.replace(":4-5", ":0-5"),
        SOUND + " 0/2",
        SOUND + " 3/2",
        SOUND + " =a1b2c3:",
        SOUND + " =a1b2c3:a1b2c3+",
        SOUND + " =a1b2c3:" + ",".join(["a1b2c3a1b2c3"] * 5),
        SOUND.replace("@", "@-"),
        SOUND.rpartition(" ")[0],
        "x" * 2048,
        "é".encode("latin-1").decode("latin-1") * 900,
    ],
)  # fmt: skip
def test_malformed_value_yields_sound_citations_only(value: str) -> None:
    for citation in parse_citations(value.encode()):
        assert format_citations([citation]).decode() == SOUND
        assert state_of(LINES, citation) is State.HOLDS


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("knowledge/a.md:3", Span("knowledge/a.md", 3, 3)),
        ("/knowledge/a.md:3-7", Span("knowledge/a.md", 3, 7)),
        ("knowledge/a.md#L3", Span("knowledge/a.md", 3, 3)),
        ("knowledge/a.md#L3-L7", Span("knowledge/a.md", 3, 7)),
        ("knowledge/a b:9.md:3", Span("knowledge/a b:9.md", 3, 3)),
        ("knowledge/a.md", None),
        ("knowledge/a.md:7-3", None),
        ("knowledge/a.md:0", None),
        ("https://example.com:80", None),
        ("tool:x", None),
        ("", None),
    ],
)
def test_source_with_lines_is_parsed(text: str, span: Span | None) -> None:
    assert parse_span(text) == span


def test_url_is_recognised() -> None:
    assert is_url("https://example.com/x")
    assert not is_url("knowledge/a.md:3")


@pytest.mark.parametrize(
    ("first", "last", "reason"), [(9, 9, "last line"), (2, 2, "no words"), (900, 999, "last line")]
)
def test_lines_without_text_cannot_be_cited(first: int, last: int, reason: str) -> None:
    with pytest.raises(NoText, match=reason):
        cite(first, last)


def test_too_many_words_cannot_be_cited() -> None:
    with pytest.raises(NoText, match="at most"):
        cite(1, 1, ["word " * (MAX_CITED_TOKENS + 1)])


def test_worst_state_counts() -> None:
    assert worst_state([State.HOLDS, State.GONE, State.UNSEEN]) is State.GONE
    assert worst_state([State.HOLDS, State.UNSEEN, State.MOVED]) is State.UNSEEN
    assert worst_state([]) is None


def test_repetitive_source_takes_bounded_time() -> None:
    lines = ["the same words in each line"] * 40_000
    citation = cite(20_000, 20_002, lines)
    changed = stream([*lines[:19_999], "another line", *lines[20_003:]])
    missing = stream(["the same words"] * 40_000)
    assert changed.judge(citation).state in (State.HOLDS, State.MOVED, State.CHANGED)
    started = time.perf_counter()
    for _ in range(10):
        changed.judge(citation)
        missing.judge(citation)
    assert time.perf_counter() - started < 2.0
