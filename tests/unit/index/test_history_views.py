"""Test that every search below a view of the event log, or below a link in it, is one of the records that it selects."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.index.query import parse_query
from ctxfs.index.search.grep import Matcher, scan, split_paths
from ctxfs.index.search.history_views import selection_of
from ctxfs.model.path import Path as TreePath
from tests.unit.index.test_history import TODAY, Store, Stranger

SHARED, OTHER = f"history/{TODAY}/shared.jsonl", f"history/{TODAY}/other.jsonl"
VERA, SHARED_VIEW = "history/by-agent/agent-vera", "history/by-session/shared"
# view → the lines with the word
LINES = {
    SHARED_VIEW: [(SHARED, 1), (SHARED, 2)],
    f"{SHARED_VIEW}/{TODAY}.jsonl": [(SHARED, 1), (SHARED, 2)],
    "history/by-session/other": [(OTHER, 1)],
    "history/by-session": [(OTHER, 1), (SHARED, 1), (SHARED, 2)],
    VERA: [(OTHER, 1), (SHARED, 2)],
    f"{VERA}/{TODAY}_shared.jsonl": [(SHARED, 2)],
    "history/by-agent": [(OTHER, 1), (SHARED, 1), (SHARED, 2)],
    f"history/{TODAY}": [(OTHER, 1), (SHARED, 1), (SHARED, 2)],
    "history/by-session/unknown": [],
    "history/by-agent/agent-unknown": [],
}


@pytest.fixture(params=[True, False], ids=["indexed", "appended"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    made = Store(tmp_path)
    made.append("The okapi is far.", session="shared", principal="human:kim")
    made.append("An okapi is near.", "nothing", session="shared", principal="agent:vera")
    made.append("No okapi at all.", session="other", principal="agent:vera", client_session="shared")
    if request.param:
        made.index()
    yield made
    made.close()


def grep(store: Store, pattern: str, below: str) -> list[tuple[str, int]]:
    """Return (path, line) of the matches, as the service of exact search finds them."""
    matcher = Matcher(pattern)
    paths = store.searcher.candidate_files(matcher.needed, TreePath.parse(below)) or []
    restricted = matcher.restricted_to(selection_of(TreePath.parse(below)).principal)
    lines, faults = scan(split_paths(paths, store.roots, hidden=False), restricted)
    assert not faults
    return [(line.path, line.number) for line in lines]


@pytest.mark.parametrize("view", LINES)
def test_grep_finds_lines_of_the_selected_records(store: Store, view: str) -> None:
    assert grep(store, "okapi", view) == LINES[view]


@pytest.mark.parametrize("view", LINES)
def test_grep_with_a_pattern_without_literals_finds_the_same(store: Store, view: str) -> None:
    assert grep(store, "o[jk].pi", view) == LINES[view]


@pytest.mark.parametrize("view", LINES)
def test_files_below_a_view_are_those_that_it_links_to(store: Store, view: str) -> None:
    paths = store.searcher.candidate_files((), TreePath.parse(view))
    assert paths == sorted({path for path, _ in LINES[view]})


@pytest.mark.parametrize("view", LINES)
def test_search_finds_the_selected_records(store: Store, view: str) -> None:
    lines = store.lines("+okapi", TreePath.parse(view))
    if view == SHARED_VIEW:  # search also finds records that name the session as that of their client
        lines = [line for line in lines if line != (OTHER, 1)]
    assert lines == LINES[view]


@pytest.mark.parametrize("view", LINES)
def test_files_that_may_not_be_read_are_in_no_view(store: Store, view: str) -> None:
    store.append("My okapi.", session="mine", principal="agent:vera")
    store.searcher._reader = Stranger
    seen = {path for path, _ in grep(store, "okapi", view)}
    assert seen <= {f"history/{TODAY}/mine.jsonl"}
    assert not store.searcher.search(parse_query("okapi"), TreePath.parse("history/by-session/other"), 10).hits
