"""Test that a SIGKILL of the indexer and the daemon during indexing loses and duplicates nothing."""

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.fulltext import FullText
from tests.live import Live, children_of, eventually

pytestmark = pytest.mark.fuse


def indexer_of(live: Live) -> int | None:
    for child in children_of(live.daemon_pid()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # git's processes start and end at any time
            if "ctxfs.daemon.index_process" in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
    return None


def test_indexing_resumes_after_a_kill(own_live: Live) -> None:
    live, chance = own_live, random.Random(3)
    for number in range(600):
        (live.corpus / f"note-{number:04}.md").write_text(
            f"# Note {number}\n\nThe word of this note is word{number:04}.\n"
        )
    killed: set[int] = set()
    for _ in range(3):
        progress = chance.randrange(50, 100)

        def kill_in_the_middle(progress: int = progress) -> bool:
            pid = indexer_of(live)
            if pid is None or pid in killed or live.status()["index"]["searchable"] < progress:
                return False
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            return pid in killed

        eventually("some of it is indexed, and the indexer is killed", kill_in_the_middle)
    files = len(list(live.corpus.glob("note-*.md")))

    def complete() -> bool:
        index = live.status()["index"]
        return bool(index["state"] == "idle" and index["waiting_for_meaning"] == 0 and index["searchable"] > files)

    eventually("everything is indexed", complete, 90)
    for number in (0, 299, 599):
        assert f"note-{number:04}.md" in live.run("search", f"mode:words word{number:04}", "-n", "1")
    live.run("unmount", "--all")
    catalog = Catalog(live.store / "index")
    words = FullText(live.store / "index" / "words")
    words.refresh()
    chunks = catalog.counts().chunks
    catalog.close()
    assert words.count == chunks
    errors = live.store / "run" / "errors.jsonl"
    assert "the indexer process ended" in errors.read_text()


def test_a_daemon_killed_again_and_again_keeps_every_closed_file(own_live: Live) -> None:
    live = own_live
    expected = {}
    for round_number in range(4):
        for number in range(30):
            name = f"r{round_number}-{number}.md"
            (live.at / "memory" / "shared" / name).write_text(name * 10)
            expected[name] = name * 10
        before = live.daemon_pid()
        os.kill(before, signal.SIGKILL)
        eventually("another daemon", lambda before=before: live.daemon_pid() != before)  # type: ignore[misc]
    assert {p.name: p.read_text() for p in (live.at / "memory" / "shared").iterdir()} == expected
    eventually("a daemon answers", lambda: live.try_run("status").returncode == 0)
    live.wait_idle()
    assert "r3-29.md" in live.run("search", "mode:words", "r3-29r3", "r3", "29", "-n", "50")


def test_no_process_is_left_behind(own_live: Live) -> None:
    live = own_live
    live.wait_idle()
    live.run("unmount", "--all")

    def nobody() -> bool:
        pids = subprocess.run(["pgrep", "-f", str(live.store)], capture_output=True, text=True).stdout.split()
        return not [pid for pid in pids if int(pid) != os.getpid()]

    eventually("all processes have ended", nobody)
