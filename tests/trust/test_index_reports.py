"""Test that the index always recovers, and that every interface reports while it is behind.

An empty result differs from an unavailable one.
"""

import itertools
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio.testing

from ctxfs.app import App
from ctxfs.cli.progress import is_ready
from ctxfs.daemon.index_service import IndexService
from ctxfs.daemon.session import LocalSession
from ctxfs.index.indexer_status import IndexerState, IndexerStatus
from ctxfs.index.ingest.crash_records import CrashRecords
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import parse_query
from ctxfs.index.search.index_monitor import NoIndexMonitor
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.errors import EXIT_UNHEALTHY, CommandError
from ctxfs.model.path import ROOT
from ctxfs.mounts.search import render_results
from ctxfs.store.layout import Layout
from tests.live import Live
from tests.unit.index.test_index import Index


class DownIndexer(NoIndexMonitor):
    def behind(self) -> str:
        return "the index is down"


def service(searcher: Searcher) -> tuple[IndexService, dict[str, object]]:
    """Return the daemon's service for an indexer whose processes the test controls."""
    progress: dict[str, object] = {}
    app = SimpleNamespace(searcher=searcher, daemon=SimpleNamespace(progress=progress), layout=None)
    return IndexService(cast(App, app)), progress


def test_indexer_is_restarted_without_limit_and_with_backoff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[float] = []
    states: list[str] = []

    async def run() -> None:
        made, progress = service(Searcher(tmp_path, None))

        async def end_at_once() -> None:
            started.append(trio.current_time())
            states.append(str(progress["state"]))
            if len(started) == 12:
                made._handle_event("words", "1/2")
            made._handle_event("failed", "Traceback\nOSError: [Errno 28] No space left on device")
            if len(started) == 14:
                nursery.cancel_scope.cancel()
                await trio.sleep_forever()

        monkeypatch.setattr(made, "_run_once", end_at_once)
        async with trio.open_nursery() as nursery:
            await made.run()

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    pauses = [round(later - sooner) for sooner, later in itertools.pairwise(started)]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert pauses[11:] == [1, 2], "an indexer that made progress is restarted soon"
    assert states[5].startswith("down: ")
    assert "No space left on device" in states[5]


def test_search_reports_a_dead_indexer_and_is_not_cached(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    made, progress = service(index.searcher)
    made._has_scanned = True
    made._set_status(IndexerStatus(IndexerState.IDLE))
    nothing = parse_query("mode:words xylophone")
    assert index.searcher.search(nothing, ROOT, 5).is_complete
    before = index.searcher.generation
    for _ in range(5):
        made._restarts.record_end()
    made._report_end("OSError: [Errno 28] No space left on device", 16.0)
    assert index.searcher.generation != before, "cached answers are computed again"
    answer = index.searcher.search(nothing, ROOT, 5)
    assert not answer.is_complete
    assert any("No space left" in note for note in answer.notes)
    head = json.loads(render_results(answer).splitlines()[0])
    assert (head["status"], head["complete"]) == ("partial", False)
    with pytest.raises(CommandError) as caught:
        is_ready({"state": progress["state"]}, "words")
    assert caught.value.code == EXIT_UNHEALTHY
    made._set_status(IndexerStatus(IndexerState.IDLE))
    assert index.searcher.search(nothing, ROOT, 5).is_complete


def test_index_is_behind_until_the_first_scan_is_done(index: Index) -> None:
    made, _progress = service(index.searcher)
    assert not index.searcher.search(parse_query("mode:words xylophone"), ROOT, 5).is_complete
    assert not is_ready({"state": "embedding", "behind": index.searcher.behind()}, "words")
    made._sent = 1
    made._handle_event("words-idle", "1")
    assert not made.behind()


def test_new_large_file_turns_an_empty_result_into_an_unavailable_one(index: Index) -> None:
    root = IndexedRoot("knowledge/c", str(index.corpus))
    index.ask("mode:words otter")
    (index.corpus / "large.md").write_text("xylophone " * 20_000)
    index.searcher.report_changes(root, [("large.md",)])
    answer = index.searcher.search(parse_query("mode:words xylophone"), ROOT, 5)
    assert (list(answer.hits), answer.is_complete) == ([], False)
    index.follower.index_changes([("knowledge/c", ("large.md",))])
    index.searcher.refresh()
    index.searcher.mark_caught_up()
    answer = index.searcher.search(parse_query("mode:words xylophone"), ROOT, 5)
    assert answer.hits
    assert answer.is_complete


class Other:
    """A principal that may read one file only."""

    key = "other"
    sees_quarantined = False

    def __init__(self, path: str) -> None:
        self._path = path

    def may_read(self, path: str) -> bool:
        return path == self._path


def test_write_to_a_hidden_file_is_not_revealed(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    root = IndexedRoot("knowledge/c", str(index.corpus))
    (index.corpus / "large.md").write_text("xylophone " * 20_000)
    index.searcher.report_changes(root, [("large.md",)])
    index.searcher.apply_changes()
    for path, is_told in (("knowledge/c/rotation.md", False), ("knowledge/c/large.md", True)):
        monkeypatch.setattr(index.searcher, "_reader", lambda path=path: Other(path))
        assert bool(index.searcher.coverage_note()) == is_told


@pytest.fixture
def index(tmp_path: Path, corpus: Path) -> Any:
    made = Index(tmp_path / "index", corpus)
    yield made
    made.close()


def _end_at(folder: Path, path: str) -> None:
    """Have an indexer process die while it works on a file."""
    child = os.fork()
    if not child:
        CrashRecords(folder, 400).record_file(path)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def test_file_that_crashed_two_indexers_is_skipped_until_it_changes(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for name in ("a.md", "bad\n.md"):
        (corpus / name).write_text("zanzibar")
    (tmp_path / "index").mkdir()
    for _ in range(2):
        _end_at(tmp_path / "index", "knowledge/c/bad\n.md")
    index = Index(tmp_path / "index", corpus)
    try:
        assert index.paths("zanzibar") == ["a.md"]
        ((path, why),) = index.catalog.skipped_files(5)
        assert path == "knowledge/c/bad\n.md"
        assert "ended twice" in why
        (corpus / "bad\n.md").write_text("zanzibar again")
        index.follower.scan_all()
        assert len(index.paths("zanzibar")) == 2
    finally:
        index.close()


def test_crash_among_many_files_is_narrowed_down_to_one(tmp_path: Path) -> None:
    def batch_after_end_in(files: int) -> int:
        child = os.fork()
        if not child:
            CrashRecords(tmp_path, 400).record_batch(files)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        suspects = CrashRecords(tmp_path, 400)
        paths = suspects.batch_files
        suspects.close()
        return paths

    assert [batch_after_end_in(400), batch_after_end_in(20), batch_after_end_in(1)] == [20, 1, 1]
    assert CrashRecords(tmp_path, 400).batch_files == 400, "an end without a record changes nothing"


def test_indexer_that_is_stopped_records_no_crash(tmp_path: Path) -> None:
    suspects = CrashRecords(tmp_path, 400)
    suspects.record_file("a")
    suspects.disarm()
    suspects.record_file("b")
    assert not CrashRecords(tmp_path, 400)._crash_counts


@pytest.mark.parametrize(
    ("method", "arguments"), [("search", {"question": "zebra"}), ("grep", {"pattern": "zebra"}), ("glob", {"pattern": "*.zebra"})]
)  # fmt: skip
def test_no_interface_reports_a_dead_index_as_empty(offline: Live, method: str, arguments: dict[str, str]) -> None:
    session = LocalSession(Layout(offline.store))
    try:
        session.app.searcher.connect(DownIndexer(session.app.layout.index))
        answer = session.call(method, **arguments)
        assert "the index is down" in str(answer.get("notes", answer.get("faults"))), answer
    finally:
        session.close()
