"""The commands that start without click: the same output as with it, and none of the slow imports."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctxfs.cli.fast_search import parse_search
from ctxfs.cli.fast_web import parse_web
from ctxfs.index.search.word_matches import select_lines
from tests.live import Live

_CLICK = "from ctxfs.cli.main import main; main()"
_SLOW_MODULES = {"click", "dataclasses", "inspect", "json", "selectors", "trio"}


def outcome(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


def assert_same(words: list[str], environment: dict[str, str]) -> None:
    """Check that a command line has the same outcome with click and without."""
    fast = outcome([sys.executable, "-m", "ctxfs", *words], environment)
    assert fast == outcome([sys.executable, "-c", _CLICK, *words], environment), words


@pytest.mark.parametrize("columns", ["", "40", "79", "80", "81", "200", "0", "-1", "wide"])
@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"], ["--version"], ["-V"]], ids=" ".join)
def test_help_and_version_are_those_of_click(words: list[str], columns: str) -> None:
    assert_same(words, {"COLUMNS": columns} if columns else {})


@pytest.mark.fuse
@pytest.mark.long
def test_a_search_has_the_outcome_of_click(live: Live) -> None:
    live.wait_idle()
    store = ["--store", str(live.store)]
    for words in (
        ["rotate keys"],
        ["how", "are", "keys", "rotated"],
        ["keys", "-n", "2"],
        ["keys", "--limit", "1", "--json"],
        ["--below", "knowledge/handbook", "keys"],
        ["keys", "--below", "nowhere"],
        ["keys", "--below", "../x"],
        ["keys", "--format", "line"],
        ["keys", "--format", "path"],
        ["keys", "--format", "json"],
        ["keys", "-l"],
        ["keys", "-l", "--format", "json"],
        ["keys", "--explain"],
        ["+xylophonequartet"],
        ["+xylophonequartet", "--json"],
        ["xylophone quartet zanzibar", "--weak"],
        ["--", "-keys", "rotate"],
        ["keys", *store],
        ["since:nonsense keys"],
        # Words for the parser of click.
        ["  "],
        [],
        ["keys", "--limit", "0"],
        ["keys", "--limit", "201"],
        ["keys", "--limit", "two"],
        ["keys", "--limit"],
        ["keys", "--format", "odd"],
        ["keys", "--group-by", "dir"],
        ["keys", "--unknown"],
        ["keys", "--help"],
        ["keys", "-n2"],
    ):
        assert_same([*store, "search", *words], {})
    assert_same(["search", "keys"], {"CTXFS_STORE": str(live.store)})
    assert_same([*store, "search", "keys"], {"CTXFS_TOKEN": "wrong"})
    assert_same([*store, "search", "keys"], {"COLUMNS": "60"})


def test_a_search_without_a_daemon_or_a_store_has_the_outcome_of_click(offline: Live, tmp_path: Path) -> None:
    offline.run("reindex")
    assert_same(["--store", str(offline.store), "search", "rotate keys"], {})
    assert_same(["--store", str(tmp_path / "none"), "search", "rotate keys"], {})


@pytest.mark.fuse
def test_fast_commands_import_no_slow_module(live: Live) -> None:
    store = ["--store", str(live.store)]
    for words in (["--help"], ["--version"], [*store, "search", "rotate keys"], [*store, "search", "keys", "-l"]):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "ctxfs", *words], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert not _SLOW_MODULES & loaded, words


@pytest.mark.parametrize("line", ["-n", "--limit ٣ x", "--below --json x", "-", "-- -", "--store /s", "x --store=/s"])
def test_unusual_words_are_left_to_click(line: str) -> None:
    assert parse_search(["search", *line.split()]) is None


def test_search_in_a_command_of_another_name_is_left_to_click() -> None:
    assert parse_search(["history", "search", "x"]) is None
    assert parse_search(["--store", "search", "ls"]) is None


def test_lines_of_ascii_match_the_same_words_as_the_pattern() -> None:
    text = (
        "Rotate_the keys\nwe rotated, and ROTATING is it\n\tkeyctl: key-ring x9\nnothing\nsigning the key's sign\n_key"
    )
    for terms in (["rotate", "key"], ["keys"], ["ring"], ["x9"], ["_key"], ["it", "is"], ["the", "signed"], ["ro"], []):
        for limit in (1, 2, 3):
            # A term that is not ASCII, and that no line has, takes the pattern.
            assert select_lines(text, terms, limit) == select_lines(text, [*terms, "\u00e9\u00e9\u00e9"], limit)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["web"], {}),
        (["web", "--no-open", "--as", "agent:a"], {"no_open": "yes", "principal": "agent:a"}),
        (["--store", "/s", "web", "--port=80", "--token", "t"], {"store": "/s", "port": "80", "token": "t"}),
        (["web", "--help"], None),
        (["web", "--port"], None),
        (["web", "--port", "many"], None),
        (["web", "--port", "65536"], None),
        (["web", "--host", "0.0.0.0"], None),
        (["web", "--no-open=1"], None),
        (["web", "--as", "--no-open"], None),
        (["web", "further"], None),
        (["status", "web"], None),
    ],
)
def test_words_of_the_page_are_left_to_click_unless_they_are_plain(
    words: list[str], options: dict[str, str] | None
) -> None:
    assert parse_web(words) == options
