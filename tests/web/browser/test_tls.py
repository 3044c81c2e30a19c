"""Test the page behind TLS in a browser: its cookie, its forms and its live parts work there."""

from pathlib import Path
from typing import Any

from tests.certificates import make_pair
from tests.live import Live
from tests.web.browser.conftest import Reader
from tests.web.site import Site


def test_page_works_behind_tls(chromium: Any, own_live: Live, tmp_path: Path) -> None:
    pair = make_pair(tmp_path / "tls", "127.0.0.1")
    site = Site(own_live, "--host", "127.0.0.1", *pair.options)
    made = Reader(chromium, own_live, ignore_https_errors=True)
    assert made.base.startswith("https://127.0.0.1:")
    (cookie,) = made.context.cookies()
    assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
    page = made.visit("now")
    page.wait_for_selector("#live-state:text('live')")
    (own_live.at / "pad" / "over-tls.txt").write_text("x")
    page.wait_for_selector("#operations li:has-text('over-tls.txt')")
    page = made.visit("time")
    page.get_by_label("Snapshot of now, as").fill("over-tls")
    page.get_by_role("button", name="Make it").click()
    page.wait_for_selector("text=⚑ over-tls")
    assert made.faults == []
    assert {url for url in made.requested if not url.startswith(f"{made.base}/")} == set()
    made.context.close()
    assert "Traceback" not in site.close()
