"""Test the screen of memories in a browser: its actions with and without scripts, and by keys alone."""

import os
from typing import Any

import pytest

from tests.live import Live
from tests.web.browser.conftest import Reader
from tests.web.site import Site

FOLDER = "memory/keeper/fact"


@pytest.fixture(scope="module", autouse=True)
def _files(live: Live) -> None:
    folder = live.at / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (folder / f"{number}.md").write_text(f"Door {number} is green.\n")


def label(live: Live, name: str, path: str = f"{FOLDER}/0.md") -> str:
    try:
        return os.getxattr(live.at / path, f"user.ctx.{name}").decode()
    except OSError:
        return ""


def test_ticked_memories_are_archived_and_found_by_the_filter(reader: Reader, live: Live) -> None:
    page = reader.visit("memory?agent=keeper")
    page.get_by_role("button", name="Tick all").click()
    page.get_by_role("button", name="Archive").click()
    page.wait_for_selector("text=3 of 3 done")
    assert label(live, "state") == "archived"
    page.get_by_role("link", name="Back to the table").click()
    page.get_by_label("State").select_option("archived")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url("**state=archived**")
    page.wait_for_selector(".memories >> text=Door 2 is green.")
    page.get_by_role("button", name="Tick all").click()
    page.get_by_role("button", name="Activate").click()
    page.wait_for_selector("text=3 of 3 done")


def test_memory_is_pinned_by_keys_alone(reader: Reader, live: Live) -> None:
    page = reader.visit("memory?agent=keeper&words=0.md")
    page.locator("body").press("Tab")
    reader.tab_to("input[type=checkbox]")
    page.keyboard.press("Space")
    page.locator("h1").click()  # the tab order begins anew
    reader.tab_to("button[value=pin]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1 of 1 done")
    assert label(live, "pinned") == "true"


def test_forms_work_without_scripts(chromium: Any, site: Site, live: Live) -> None:
    made = Reader(chromium, live, java_script_enabled=False)
    page = made.visit("memory?agent=keeper")
    page.locator("input[type=checkbox]").nth(1).check()
    page.get_by_role("button", name="Quarantine").click()
    page.wait_for_selector("text=1 of 1 done")
    assert label(live, "quarantined", f"{FOLDER}/1.md") == "true"
    page = made.visit(f"memory/edit?path={FOLDER}/2.md")
    page.get_by_label("Text").fill("Door 2 is red.\n")
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("text=saved")
    assert (live.at / FOLDER / "2.md").read_text() == "Door 2 is red.\n"
    page = made.visit("memory?agent=keeper&words=2.md")
    page.locator("input[type=checkbox]").first.check()
    page.get_by_role("button", name="Forget").click()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Erase").click()
    page.wait_for_selector("text=1 of 1 done")
    assert not (live.at / FOLDER / "2.md").exists()
    made.context.close()


def test_tile_of_the_map_leads_to_its_memories(reader: Reader) -> None:
    page = reader.visit("memory/map")
    page.locator("svg a[aria-label*='of keeper']").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**agent=keeper**")
    page.wait_for_selector(".memories >> text=Door 0 is green.")
