import errno
import os

import pytest

from ctxfs.cli.hit_output import highlight, host_path, print_plain
from ctxfs.cli.output import count_noun, find_remedy
from ctxfs.index.query import parse_query
from ctxfs.index.search.snippets import (
    count_columns,
    find_matches,
    fit_line,
    matches_word,
    question_words,
    select_lines,
)

CODE = "def open_all(paths):\n    for path in paths:\n        with open(path) as file:\n            rotate(file)\n    return None"


@pytest.mark.parametrize(
    ("word", "term", "is_match"),
    [
        ("keys", "key", True), ("rotate", "rotating", True), ("rotation", "rotate", True), ("keynote", "key", False),
        ("secret", "secede", False), ("in", "inside", False), ("ключи", "ключей", True), ("a", "a", True),
    ],
)  # fmt: skip
def test_forms_of_a_word_match(word: str, term: str, is_match: bool) -> None:
    assert matches_word(word, term) is is_match


def test_snippet_shows_the_lines_with_the_words_and_their_indentation() -> None:
    index, lines = select_lines(CODE, question_words(parse_query("how do we rotate a file")), 2)
    assert (index, lines) == (2, ["        with open(path) as file:", "            rotate(file)"])
    assert select_lines("\n\nfirst\nsecond", ["absent"], 3) == (2, ["first", "second"])


def test_long_line_is_cut_around_its_match() -> None:
    line = "word " * 100 + "needle " + "word " * 100
    shown = fit_line(line, ["needle"], 60)
    assert len(shown) <= 60
    assert "needle" in shown
    assert fit_line("short", ["needle"], 60) == "short"


@pytest.mark.parametrize("width", [20, 40, 80])
@pytest.mark.parametrize(
    "line", ["一時ファイルを安全に作成する方法です。" * 9, "e\u0301té " * 40 + "needle", "המפתחות מוחלפים " * 9]
)
def test_line_of_any_script_fits_the_columns_of_a_terminal(line: str, width: int) -> None:
    shown = fit_line(line, ["needle", "作成"], width)
    assert width // 3 < count_columns(shown) <= width
    assert ("needle" in shown) == ("needle" in line)


def test_words_of_scripts_without_spaces_are_highlighted() -> None:
    terms = question_words(parse_query("ファイル 作成"))
    line = "一時ファイルを安全に作成する"
    assert {line[start:end] for start, end in find_matches(line, terms)} >= {"ファ", "作成"}


def test_matches_are_highlighted_and_controls_escaped() -> None:
    shown = highlight("\x1b[2J rotate keys", ["rotate"])
    assert "\x1b[2J" not in shown
    assert "\x1b[31m\x1b[1mrotate\x1b[0m" in shown
    assert find_matches("Rotate keys", ["rotate"]) == [(0, 6)]


def test_paths_are_printed_once_and_lines_as_grep_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    hits = [{"first": 10, "text": CODE}, {"first": 1, "text": "rotate\nthem"}]
    print_plain(hits, ["a.py", "a.py"], ["rotate"], "path")
    assert capsys.readouterr().out == "a.py\n"
    print_plain(hits, ["a.py", "b.md"], ["rotate"], "line")
    assert capsys.readouterr().out == "a.py:13:            rotate(file)\nb.md:1:rotate\n"


def test_host_path_of_a_source_is_below_its_folder() -> None:
    sources = [{"at": "knowledge/s", "path": "/home/ada/s"}, {"at": "memory", "path": "/store/memory"}]
    assert host_path("knowledge/s/a/b.md", sources) == "/home/ada/s/a/b.md"
    assert host_path("knowledge/sub/b.md", sources) == "knowledge/sub/b.md"


def test_number_and_noun_agree() -> None:
    assert [count_noun(count, "file") for count in (0, 1, 2)] == ["0 files", "1 file", "2 files"]


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "knowledge/vualt"), "ctxfs ls knowledge"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a b/c"), "ctxfs ls 'a b'"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "nope"), "ctxfs ls"),
        (IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "pad"), "ctxfs ls pad"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/etc/nope"), ""),
        (FileNotFoundError(errno.ENOENT, "no source is called 'x' → see: ctxfs status", "x"), ""),
        (OSError("of another kind"), ""),
    ],
)
def test_error_at_a_path_names_the_command_that_helps(error: OSError, remedy: str) -> None:
    assert find_remedy(error).rpartition(": ")[2] == remedy
