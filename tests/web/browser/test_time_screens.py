"""Test the screen of versions in a browser: the slider, a rollback by keys, and all of it without JavaScript."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.live import Live
from tests.web.browser.conftest import Reader
from tests.web.site import Site

FILE = "memory/shared/slider.md"


@pytest.fixture(autouse=True)
def _versions(live: Live) -> Iterator[None]:
    file = live.at / FILE
    file.parent.mkdir(exist_ok=True)
    for number in range(3):
        file.write_text(f"State {number}.\n")
        live.run("commit")
    yield
    file.unlink(missing_ok=True)
    live.run("commit")


def test_slider_moves_through_the_versions_by_keys(reader: Reader) -> None:
    page = reader.visit(f"time/file?path={FILE}")
    page.wait_for_selector("#then td:has-text('State 2.')")
    page.get_by_label("Version, of").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#then td:has-text('State 1.')")
    page.wait_for_url("**n=**")
    page.get_by_role("link", name="newer version").click()
    page.wait_for_selector("#then td:has-text('State 2.')")


def test_version_leads_to_its_change_and_is_restored_by_keys(reader: Reader, live: Live) -> None:
    page = reader.visit(f"time?path={FILE}")
    page.get_by_role("link", name="Change of").nth(1).click()
    page.wait_for_selector(".added:has-text('State 1.')")
    page.get_by_role("link", name=f"Restore {FILE} to this version").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h2:has-text('1 path would change')")
    assert (live.at / FILE).read_text() == "State 2.\n"
    page.get_by_label("Reason").focus()
    page.keyboard.type("by keys")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=by keys")
    page.wait_for_selector(".added:has-text('State 1.')")
    assert (live.at / FILE).read_text() == "State 1.\n"


def test_snapshot_is_made_of_now(reader: Reader) -> None:
    page = reader.visit("time")
    page.get_by_label("Snapshot of now, as").fill("by-hand")
    page.get_by_role("button", name="Make it").click()
    page.wait_for_selector("td:has-text('⚑ by-hand')")


def test_files_are_seen_and_restored_without_scripts(chromium: Any, site: Site, live: Live) -> None:
    made = Reader(chromium, live, java_script_enabled=False)
    page = made.visit(f"time/file?path={FILE}")
    page.get_by_label("Version, of").focus()
    page.keyboard.press("Home")
    page.get_by_role("button", name="Show").click()
    page.wait_for_selector("#then td:has-text('State 0.')")
    page.get_by_role("link", name="restore it").click()
    page.get_by_role("button", name="Restore 1 path").click()
    page.wait_for_selector(".added:has-text('State 0.')")
    assert (live.at / FILE).read_text() == "State 0.\n"
    made.context.close()
