"""Test streams and windows: delivered, replaced and dropped pieces."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxfs.context.build.piece import Piece
from ctxfs.context.build.render import render_markdown
from ctxfs.context.build.token_bound import upper_bound
from ctxfs.context.delivery.loader import (
    DeliveredPiece,
    Delta,
    Window,
    dump_window,
    load_window,
    refresh,
    render_delta,
    split_stream,
)


def piece(path: str, text: str, first: int = 1) -> Piece:
    return Piece(path, first, first + text.count("\n"), text)


def rendered(pieces: object) -> str:
    return render_markdown("q", (), pieces)  # type: ignore[arg-type]


def refreshed(window: Window, chosen: list[Piece], budget: int = 1000, gone: tuple[str, ...] = ()) -> Delta:
    return refresh(window, chosen, lambda each: None if each.path in gone else each, budget, rendered, upper_bound)


def changes(delta: Delta) -> list[tuple[str, str]]:
    return [(step.change, step.at) for step in delta.steps]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a.md", "b.md", "c.py"]), st.text("abc \n", min_size=1, max_size=900)), max_size=8
    ),
    st.integers(60, 400),
)
def test_every_text_of_a_stream_is_within_its_budget_and_all_words_arrive(
    parts: list[tuple[str, str]], budget: int
) -> None:
    pieces = [piece(path, text, 1 + 1000 * at) for at, (path, text) in enumerate(parts)]
    try:
        stream = split_stream(pieces, budget, "q", upper_bound)
    except OSError as error:
        assert "fits" in str(error)  # a word that is longer than the budget
        assert max(upper_bound(word) for _, text in parts for word in text.split()) > budget - 50
        return
    assert all(upper_bound(part.text) <= budget for part in stream)
    words = " ".join(part.text for part in stream)
    assert all(word in words for _, text in parts for word in text.split())
    assert [end.path for part in stream for end in part.ends] == [path for path, _ in parts]


def test_citations_count_sources_through_the_whole_stream() -> None:
    pieces = [piece("a.md", "one " * 60), piece("b.md", "two " * 60), piece("a.md", "three " * 60, 9)]
    stream = split_stream(pieces, 160, "q", upper_bound)
    assert len(stream) == 3
    assert "[1] a.md" in stream[0].text
    assert "[2] b.md" in stream[1].text
    assert "[1] a.md" in stream[2].text


def test_stream_continues_after_a_change_with_the_new_pieces() -> None:
    first = split_stream([piece("a.md", "one"), piece("b.md", "two " * 60)], 100, "q", upper_bound)
    window = Window().start_stream("sha-1").advance(first[0])
    assert window.cursor == 1
    assert window.start_stream("sha-1") == window
    later = window.start_stream("sha-2")
    assert (later.cursor, later.given) == (0, ())
    assert later.seen == window.given


def test_a_refresh_adds_replaces_and_drops() -> None:
    first = refreshed(Window(), [piece("a.md", "old text"), piece("b.md", "stays"), piece("c.md", "goes")])
    assert changes(first) == [("add", "a.md:1-1"), ("add", "b.md:1-1"), ("add", "c.md:1-1")]
    second = refreshed(
        first.window, [piece("a.md", "new text"), piece("b.md", "stays"), piece("d.md", "more")], gone=("c.md",)
    )
    assert changes(second) == [("drop", "c.md:1-1"), ("replace", "a.md:1-1"), ("add", "d.md:1-1")]
    assert {item.piece.text for item in second.window.held} == {"new text", "stays", "more"}
    text = render_delta(second)
    assert "stale: the source no longer says this" in text
    assert "new text" in text
    assert "stays" not in text.replace("stay as they are", "")
    third = refreshed(second.window, [piece("a.md", "new text"), piece("b.md", "stays"), piece("d.md", "more")])
    assert not third.steps
    assert "Nothing has changed" in render_delta(third)


def test_stale_pieces_stay_within_the_budget_and_the_least_relevant_is_dropped_first() -> None:
    old = Window(
        held=(DeliveredPiece(piece("dear.md", "word " * 20), 0.9), DeliveredPiece(piece("cheap.md", "word " * 20), 0.2))
    )
    chosen = [piece("new.md", "fresh " * 20)]
    roomy = refreshed(old, chosen, 1000)
    assert [item.piece.path for item in roomy.window.held] == ["new.md", "dear.md", "cheap.md"]
    assert [item.age for item in roomy.window.held] == [0, 1, 1]
    tight = refreshed(old, chosen, upper_bound(rendered([chosen[0], old.held[0].piece])))
    assert [item.piece.path for item in tight.window.held] == ["new.md", "dear.md"]
    assert [(step.change, step.at, step.reason.split(":")[0]) for step in tight.steps if step.change == "drop"] == [
        ("drop", "cheap.md:1-1", "evicted")
    ]


def test_relevance_fades_with_every_refresh() -> None:
    window = refreshed(Window(), [piece("a.md", "same words here")]).window
    for _ in range(3):
        window = refreshed(window, [piece("b.md", "other")]).window
    held = {item.piece.path: item for item in window.held}
    assert held["a.md"].age == 3
    assert held["a.md"].worth(upper_bound) < held["b.md"].worth(upper_bound)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"held": 3}', b"\xff\xfe"])
def test_a_damaged_window_is_an_empty_one(data: bytes) -> None:
    assert load_window(data) == Window()


def test_a_window_survives_a_restart_with_names_that_are_no_utf_8() -> None:
    window = Window(
        "sha", 2, ("g",), ("s",), 4, (DeliveredPiece(Piece("a\udcff.md", 1, 2, "é\ntext", day=5, kind="fact"), 0.5, 1),)
    )
    assert load_window(dump_window(window)) == window


def test_a_word_that_is_longer_than_a_text_arrives_in_pieces() -> None:
    word = "".join(f"x{n}y" for n in range(3000))
    stream = split_stream([piece("a.md", f"before\n{word}\nafter"), piece("b.md", "short")], 100, "q", upper_bound)
    assert all(upper_bound(part.text) <= 100 for part in stream)
    quoted = (re.fullmatch(r"(?:\d+: )?([xy\d]{6,})", line) for part in stream for line in part.text.split("\n"))
    lines = [match[1] for match in quoted if match]
    assert len(lines) > 5
    assert "".join(lines) == word
    assert [end.path for part in stream for end in part.ends] == ["a.md", "b.md"]
