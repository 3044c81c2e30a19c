"""Test the screen of reviews in a browser: verdicts by keys, and a review that two windows decide."""

from typing import Any

from tests.live import Live, eventually
from tests.web.browser.conftest import Reader
from tests.web.site import Site
from tests.web.test_review import decision, open_claim


def test_keys_accept_reject_edit_and_undo(reader: Reader, live: Live) -> None:
    open_claim(live, "k1")
    page = reader.visit("review")
    page.locator("article", has_text="90 days").first.focus()
    page.keyboard.press("a")
    page.wait_for_url("**done=k1**")
    eventually("the verdict", lambda: decision(live, "k1") == "accept")
    page.keyboard.press("u")
    page.wait_for_url(lambda url: "done" not in url)
    assert decision(live, "k1") == ""
    page.locator("article", has_text="90 days").first.focus()
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("Tokens expire after 31 days.")  # keys in a field are text
    page.get_by_role("button", name="Edit").first.click()
    page.wait_for_url("**done=k1**")
    assert decision(live, "k1") == "edit"
    open_claim(live, "k2")
    page = reader.visit("review")
    page.locator("article").first.focus()
    page.keyboard.press("r")
    page.wait_for_url("**done=k2**")
    assert decision(live, "k2") == "reject"


def test_window_that_decides_second_is_told(chromium: Any, site: Site, live: Live) -> None:
    open_claim(live, "k3")
    first, second = Reader(chromium, live), Reader(chromium, live)
    pages = [made.visit("review") for made in (first, second)]
    pages[0].get_by_role("button", name="Accept").first.click()
    pages[0].wait_for_url("**done=k3**")
    pages[1].get_by_role("button", name="Reject").first.click()
    pages[1].wait_for_selector("text=This is decided already")
    assert decision(live, "k3") == "accept"
    for made in (first, second):
        made.context.close()
