"""Test a page whose store is moved away or removed while its event stream runs: it says so, and recovers or ends cleanly."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from tests.live import BOUND, Live, eventually
from tests.web.browser.conftest import Reader
from tests.web.site import running

MAX_CPU_SHARE = 0.25
MAX_LOG_BYTES = 20_000


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_running(pid: int) -> bool:
    """Return True for a live process, False for a zombie or none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_page_says_that_the_store_is_away_and_recovers(chromium: Any, own_live: Live) -> None:
    """The daemon ends, so that no part of a new store appears at the old path; the mount point starts another one."""
    moved = own_live.store.with_name("moved")
    with running(own_live) as site:
        made = Reader(chromium, own_live)
        page, other = made.visit("now"), made.context.new_page()
        page.wait_for_selector("#live-state:text('live')")
        other.goto(f"{made.base}/file")
        daemon, log = own_live.daemon_pid(), own_live.store / "run" / "daemon.log"
        log_bytes, served = log.stat().st_size, site.process.pid
        own_live.store.rename(moved)
        page.wait_for_selector("#live-state:text('the store is away')")
        eventually("the daemon has ended", lambda: not is_running(daemon))
        other.get_by_role("link", name="knowledge").first.click()
        other.wait_for_selector("h1:has-text('The store is away')")
        assert "moved or removed" in other.inner_text("main")
        started, before = time.monotonic(), cpu_seconds(served)
        other.wait_for_event("load")  # of the page that tries again
        assert cpu_seconds(served) - before < MAX_CPU_SHARE * (time.monotonic() - started) + 0.1
        assert not own_live.store.exists(), list(own_live.store.rglob("*"))
        assert (moved / "run" / "daemon.log").stat().st_size - log_bytes < MAX_LOG_BYTES
        moved.rename(own_live.store)
        eventually("the page recovers", lambda: other.get_by_role("link", name="handbook").count(), 2 * BOUND)
        page.wait_for_selector("#live-state:text('live')")
        (own_live.at / "pad" / "returned.txt").write_text("x")
        page.wait_for_selector("#operations li:has-text('returned.txt')")
        made.context.close()


def test_page_of_a_removed_store_ends_cleanly(chromium: Any, own_live: Live) -> None:
    with running(own_live) as site:
        made = Reader(chromium, own_live)
        page = made.visit("now")
        page.wait_for_selector("#live-state:text('live')")
        shutil.rmtree(own_live.store, ignore_errors=True)
        page.wait_for_selector("#live-state:text('the store is away')")
        shutil.rmtree(own_live.store, ignore_errors=True)  # with the writes of the meantime
        made.visit("ask?q=keys").wait_for_selector("h1:has-text('The store is away')")
        made.context.close()
        site.process.send_signal(signal.SIGINT)
        assert site.process.wait(BOUND) == 0
    assert not own_live.store.exists()
