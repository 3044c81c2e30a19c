"""Test the screen of access in a browser: an explanation by a click, a token, and rules that are checked and saved."""

from typing import Any

from tests.live import Live
from tests.web.browser.conftest import Reader
from tests.web.site import Site

RULES = '\n[[rule]]\nprincipal = "agent:dora"\npath = "memory/shared/**"\nverbs = "rw"\n'


def test_right_leads_to_the_rule_that_gives_it(reader: Reader, live: Live) -> None:
    (live.at / "memory" / "alice").mkdir(exist_ok=True)
    page = reader.visit("access")
    page.locator("tr", has=page.get_by_role("rowheader", name="agent:alice", exact=True)).get_by_role(
        "link"
    ).first.click()
    page.wait_for_selector("tr:has-text('write') .tag")


def test_token_is_issued_and_revoked(reader: Reader) -> None:
    page = reader.visit("access")
    page.get_by_label("A token for").fill("agent:dora")
    page.keyboard.press("Enter")
    page.wait_for_selector("code:has-text('ctx_')")
    page.get_by_role("link", name="Access").last.click()
    page.locator("tr:has-text('agent:dora')").get_by_role("button", name="Revoke").click()
    page.wait_for_selector("text=There are no tokens.")


def test_rules_are_checked_and_saved_without_scripts(chromium: Any, site: Site, live: Live) -> None:
    file = live.at / ".ctxfs" / "policy.toml"
    before = file.read_text()
    made = Reader(chromium, live, java_script_enabled=False)
    page = made.visit("access/policy")
    page.get_by_label("Rules").fill(before + RULES.replace('"rw"', '"q"'))
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("text=nothing was saved")
    page.get_by_label("Rules").fill(before + RULES)
    page.get_by_role("button", name="Check").click()
    page.wait_for_selector("text=There is no mistake.")
    assert file.read_text() == before
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("text=The rules are in force.")
    assert "agent:dora" in live.run("policy", "matrix")
    file.write_text(before)
    made.context.close()
