"""Test texts to which both sides append, in pure form and in merges of two stores."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.versions.remotes.appended_lines import split_appended
from tests.versions.conftest import ALICE, BOB, LARGE, Past, check_sound
from tests.versions.test_forget_and_remotes import pair as pair  # a fixture
from tests.versions.test_forget_and_remotes import share

LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b"c c\n"]), max_size=6).map(b"".join)
TAILS = st.lists(st.sampled_from([b"a\n", b"x\n", b"y\n"]), min_size=1, max_size=4).map(b"".join)


@given(LINES, TAILS, TAILS, st.booleans())
def test_lines_that_both_sides_append_are_all_kept(base: bytes, mine: bytes, theirs: bytes, is_open: bool) -> None:
    if is_open:
        theirs = theirs.removesuffix(b"\n")
    split = split_appended(base, base + mine, base + theirs, b"notes.md")
    assert split is not None
    assert (split.base, split.mine, split.theirs) == (base, base, base)
    assert split.tail == theirs.removesuffix(b"\n") + b"\n" + mine


@given(st.binary(max_size=30), st.binary(max_size=30), st.binary(max_size=30))
def test_split_loses_no_bytes(base: bytes, mine: bytes, theirs: bytes) -> None:
    split = split_appended(base, mine, theirs, b"x.md")
    if split is not None:
        length = len(split.mine) + len(split.theirs) + len(split.tail)
        assert length - len(mine) - len(theirs) in (0, 1), "at most the end of a last line is added"
        assert mine.startswith(split.mine) and theirs.startswith(split.theirs)
        assert split.tail.endswith(mine[len(split.mine) :])


def test_side_that_appended_nothing_is_merged_as_before() -> None:
    assert split_appended(b"a\nb\n", b"a\nb\n", b"a\nb\nc\n", b"x.md") is None
    assert split_appended(b"a\nb\n", b"a\n", b"a\nb\nc\n", b"x.md") is None
    assert split_appended(b"a", b"ab", b"a\nc\n", b"x.md") is None, "a line that was continued is no appended line"


def test_files_that_both_sides_created_are_joined_if_they_hold_records() -> None:
    for name, is_joined in ((b"x.jsonl", True), (b"X.LOG", True), (b"x.md", False), (b"jsonl", False)):
        split = split_appended(None, b"2\n", b"1\n", name)
        assert (split is not None) is is_joined
        if split is not None:
            assert split.tail == b"1\n2\n"


def lines_of(past: Past, path: str) -> list[str]:
    return (past.tree / path).read_text().splitlines()


@pytest.mark.parametrize("name", ["notes.md", "events.jsonl", "new.jsonl"])
def test_lines_appended_on_both_sides_are_both_kept(pair: tuple[Past, Past], name: str) -> None:
    one, two = pair
    path, base = f"memory/a/{name}", "" if name.startswith("new") else "0\n1\n"
    if base:
        one.version(path, base)
    share(one, two)
    for turn in range(3):
        for past, who in ((one, ALICE), (two, BOB)):
            text = (past.tree / path).read_text() if (past.tree / path).exists() else ""
            past.version(path, f"{text}{who.principal} {turn}\n", who)
        share(one, two)
        assert one.picture() == two.picture()
    expected = base.split() + [f"{who.principal} {turn}" for turn in range(3) for who in (ALICE, BOB)]
    assert lines_of(one, path) == expected, "the lines of the side that pushed first are first"
    assert [entry.name for entry in (one.tree / "memory/a").iterdir()] == [name]
    for past in pair:
        check_sound(past)


def test_edit_above_appended_lines_is_merged_too(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version("memory/a/x.md", "title\nfirst\n")
    share(one, two)
    one.version("memory/a/x.md", "new title\nfirst\nfrom one\n")
    two.version("memory/a/x.md", "title\nfirst\nfrom two\n", BOB)
    share(one, two)
    for past in pair:
        assert lines_of(past, "memory/a/x.md") == ["new title", "first", "from one", "from two"]


def test_lines_of_a_file_that_is_too_large_for_git_are_both_kept(pair: tuple[Past, Past]) -> None:
    one, two = pair
    base = "line\n" * LARGE
    for past, text in ((one, base), (one, base + "one\n"), (two, base + "two\n")):
        past.write("memory/a/x.jsonl", text)
        past.archive.commit()
        if text == base:
            share(one, two)
    share(one, two)
    for past in pair:
        assert (past.tree / "memory/a/x.jsonl").read_text() == base + "one\ntwo\n"
        check_sound(past)


def test_conflict_copy_names_the_path_that_it_is_of(pair: tuple[Past, Past]) -> None:
    one, two = pair
    one.version("memory/a/x.md", "first\n")
    share(one, two)
    one.version("memory/a/x.md", "one's\n")
    two.version("memory/a/x.md", "two's\n", BOB)
    share(one, two)
    (copy,) = (two.tree / "memory/a").glob("x.conflict-*.md")
    assert os.getxattr(copy, "user.ctx.conflict_of") == b"memory/a/x.md"
    share(one, two)
    assert one.picture() == two.picture()
    for past in pair:
        check_sound(past)
