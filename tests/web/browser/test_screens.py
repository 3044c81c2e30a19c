"""Test the screens in a browser: each opens and does its work, by keys, in small windows, without JavaScript, for all eyes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live, eventually
from tests.web.browser.conftest import AXE, Reader
from tests.web.hostile import write_hostile_files
from tests.web.site import Site, running
from tests.web.test_contexts import make_task
from tests.web.test_review import open_claim

QUESTION = "how+are+signing+keys+rotated"
NEEDED_BUDGET = "td.num:text-matches('^[1-9][0-9]*$')"  # the other numbers of the table have decimals
UNCOMPARED = "[role=alert]:has-text('broken cannot be built')"
FOCUSABLE = 'a[href],button,input:not([type=hidden]),select,textarea,summary,[tabindex="0"]'
REMEDY = "ctxfs remove goes-away"
SCREENS = [
    "ask",
    f"ask?q={QUESTION}+kind:markdown",
    "ask?q=sourdough+hydration",
    "now",
    "now?principal=human:root&outcome=refused",
    "contexts",
    "contexts/one?task=seen",
    "contexts/one?task=seen&view=text",
    "contexts/one?task=seen&view=excluded&budget=60",
    "contexts/one?task=seen&view=excluded&budget=60&budgets=1",
    "contexts/one?task=seen&view=conflicts",
    "contexts/one?task=seen&view=evaluation",
    "contexts/one?task=seen&verify=1",
    "contexts/one?task=broken",
    "contexts/compare?old=seen&new=other",
    "contexts/compare?old=seen&new=broken",
    "file",
    "file?path=knowledge/handbook",
    "file?path=knowledge/handbook/rotation.md",
    "file?path=knowledge/handbook/src/retry.py",
    "file?path=knowledge/handbook/image.png",
    "file?path=knowledge/handbook/rotation.md&view=metadata",
    "file?path=memory/mallory",
    "file?path=memory/shared/versions.md&view=versions",
    "file?path=memory/shared/versions.md&view=blame",
    "file?path=memory/shared/versions.md&view=diff",
    "file?path=memory/shared/versions.md&view=impact",
    "time",
    "time?path=memory/shared/versions.md",
    "time/version?path=memory/shared/versions.md",
    "time/file?path=memory/shared/versions.md&n=1",
    "time/rollback?action=undo&path=memory/shared/versions.md",
    "time/rollback?action=restore&to=prev&path=memory/shared/versions.md",
    "now/doctor?again=1",
    "review",
    "review?all=1",
    "memory",
    "memory?agent=mallory&trust=normal",
    "memory?words=no-such-word",
    "memory/map",
    "memory/map?colour=trust",
    "memory/edit?path=memory/shared/versions.md",
    "memory/correct?path=memory/shared/versions.md&line=1",
    "access",
    "access/explain?principal=agent:alice&path=memory/bob",
    "access/policy",
]
# Late parts of a screen, and parts of a filled store: a test waits for them.
PARTS = {
    "contexts": "tr:has-text('seen') td:has-text('tokens,')",
    "contexts/one?task=broken": "[role=alert]:has-text('cannot be built')",
    "now": "#doctor time",
}
FILLED = {
    "contexts/compare?old=seen&new=broken": UNCOMPARED,
    "contexts/one?task=seen&view=excluded&budget=60&budgets=1": NEEDED_BUDGET,
    "contexts/one?task=seen&view=evaluation": "table mark",
    "contexts/one?task=seen&verify=1": ".tag.good",
    "now/doctor?again=1": f"dd:has-text('{REMEDY}')",
}
# (screen, control at the end of some Tab keys, result of its action)
ACTIONS = [
    ("contexts", "td a:has-text('seen')", "h1:has-text('seen')"),
    ("contexts", "button:text('Compare')", UNCOMPARED),
    ("contexts/one?task=seen", "a:text('Evaluation')", "table mark"),
    ("contexts/one?task=seen", "a:has-text('Verify')", ".tag.good:has-text('byte for byte')"),
    ("contexts/one?task=seen", "a:text('Left out')", "th:has-text('Reason')"),
    ("contexts/one?task=seen&view=excluded&budget=60", "a:has-text('At which budget')", NEEDED_BUDGET),
]


def open_whole(reader: Reader, screen: str, *, has_scripts: bool = True) -> Any:
    """Load a screen with all of its parts, and return its page."""
    page = reader.visit(screen)
    if screen == "contexts":  # the state of a context is loaded when its row is in the window
        page.locator("tr:has-text('seen')").first.scroll_into_view_if_needed()
    for parts in (FILLED, PARTS) if has_scripts else (FILLED,):
        if screen in parts:
            page.wait_for_selector(parts[screen])
    return page


@pytest.fixture(scope="module")
def lost_source(live: Live) -> Iterator[Path]:
    """Yield the missing folder of a source."""
    folder = live.corpus.parent / "goes-away"
    folder.mkdir()
    live.run("add", str(folder), "--name", "goes-away")
    folder.rmdir()
    yield folder
    live.run("remove", "goes-away")


@pytest.fixture(scope="module", autouse=True)
def _files(live: Live, lost_source: Path) -> None:
    write_hostile_files(live)
    for name, budget in (("seen", 700), ("other", 300), ("broken", 300)):
        make_task(live, name, budget)
    (live.at / "context" / "broken" / "request.toml").write_text("query = [unclosed\n")
    (live.at / "context" / "seen" / "response.md").write_text("Rotate the signing keys every 12 days with keyctl.\n")
    for name in ("seen1", "seen2"):
        open_claim(live, name)
    live.run("review", "reject", "seen2")
    file = live.at / "memory" / "shared" / "versions.md"
    file.parent.mkdir(exist_ok=True)
    for text in ("One valve.\n", "One valve.\nTwo pumps.\n"):
        file.write_text(text)
        live.run("commit")
    eventually("the response is evaluated", (live.at / "context" / "seen" / "evaluation.json").exists)


def test_question_leads_to_a_marked_line_of_its_file(reader: Reader) -> None:
    page = reader.visit("ask")
    page.keyboard.type("how are signing keys rotated")  # the box has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector("#results mark")
    assert "q=how%20are%20signing" in page.url
    page.get_by_role("link", name="lines").first.click()
    page.wait_for_selector("tr:target")
    assert "rotat" in page.locator("tbody").inner_text().lower()
    page.go_back()
    page.wait_for_selector("#results mark")


def test_chips_change_the_question(reader: Reader) -> None:
    page = reader.visit(f"ask?q={QUESTION}")
    page.get_by_role("link", name="Add kind:code").click()
    page.wait_for_url("**kind%3Acode**")
    page.get_by_role("link", name="Remove kind:code").click()
    page.wait_for_url(lambda url: "kind" not in url)


def test_context_is_made_of_a_question(reader: Reader, live: Live) -> None:
    before = set(os.listdir(live.at / "context"))
    page = reader.visit(f"ask?q={QUESTION}")
    page.get_by_label("Budget in tokens").fill("700")
    page.get_by_role("button", name="Make a context of it").click()
    page.wait_for_url("**context**")
    (made,) = set(os.listdir(live.at / "context")) - before
    page.wait_for_selector("svg.bar.tall")
    assert made in page.inner_text("h1")
    request = (live.at / "context" / made / "request.toml").read_text()
    assert "budget = 700" in request
    assert "how are signing keys rotated" in request


def test_list_of_contexts_fills_in_their_states(reader: Reader) -> None:
    open_whole(reader, "contexts")


def test_operations_appear_as_they_happen_and_can_be_paused(reader: Reader, live: Live) -> None:
    page = reader.visit("now")
    page.wait_for_selector("#live-state:text('live')")
    (live.at / "pad" / "seen-live.txt").write_text("x")
    page.wait_for_selector("#operations li:has-text('seen-live.txt')")
    page.get_by_role("button", name="Pause").click()
    (live.at / "pad" / "not-seen.txt").write_text("x")
    reader.visit("now").wait_for_selector("#operations li:has-text('not-seen.txt')")  # in the list of a fresh page


def test_failed_checks_arrive_after_the_page(reader: Reader) -> None:
    page = open_whole(reader, "now")
    page.get_by_role("link", name="check again").click()
    page.wait_for_selector("#doctor.htmx-request", state="hidden")
    page.wait_for_selector("#doctor time")
    assert page.url.endswith("/now")


def test_live_audit_says_that_the_daemon_is_away_and_back(chromium: Any, own_live: Live) -> None:
    with running(own_live):
        made = Reader(chromium, own_live)
        page = made.visit("now")
        page.wait_for_selector("#live-state:text('live')")
        own_live.run("unmount", "--all")
        page.wait_for_selector("#live-state:text('away')")
        own_live.run("mount", str(own_live.at))
        page.wait_for_selector("#live-state:text('live')")
        (own_live.at / "pad" / "after.txt").write_text("x")
        page.wait_for_selector("#operations li:has-text('after.txt')")
        made.context.close()


def test_another_budget_is_tried(reader: Reader) -> None:
    page = reader.visit("contexts/one?task=seen")
    page.get_by_label("Budget", exact=True).fill("60")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=of 60 tokens")
    page.get_by_role("link", name="Back to it").click()
    page.wait_for_selector("text=of 700 tokens")


def test_every_part_of_each_screen_is_reached_by_keys(reader: Reader) -> None:
    for screen in SCREENS:
        page = open_whole(reader, screen)
        unreached = f"""() => [...document.querySelectorAll('{FOCUSABLE}')]
            .filter(e => e.checkVisibility() && !e.disabled && !window.reached.has(e))"""
        page.evaluate("""() => {
            document.activeElement.blur();
            window.reached = new Set();
            document.addEventListener("focusin", event => window.reached.add(event.target));
        }""")
        for _ in range(page.evaluate(f"({unreached})().length") + 5):  # the focus also leaves the page, and comes back
            page.keyboard.press("Tab")
        assert page.evaluate(f"({unreached})().map(e => e.outerHTML)") == [], screen
    page = reader.visit("file?path=knowledge/handbook")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link that skips the navigation
    page.wait_for_selector("#main:focus")


@pytest.mark.parametrize("has_scripts", [True, False])
def test_actions_of_contexts_and_checks_work_by_keys(
    chromium: Any, site: Site, live: Live, lost_source: Path, has_scripts: bool
) -> None:
    made = Reader(chromium, live, java_script_enabled=has_scripts)
    for screen, control, effect in ACTIONS:
        page = made.visit(screen)
        assert not page.locator(effect).count(), effect
        made.tab_to(control)
        page.keyboard.press("Enter")
        page.wait_for_selector(effect)
    page = open_whole(made, "now/doctor?again=1", has_scripts=has_scripts)
    lost_source.mkdir()
    made.tab_to("a:text('check again')")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"dd:has-text('{REMEDY}')", state="detached")
    page.wait_for_selector("#doctor time")
    lost_source.rmdir()
    made.context.close()
    assert made.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility_has_no_violation(chromium: Any, site: Site, live: Live, scheme: str) -> None:
    made = Reader(chromium, live, color_scheme=scheme, bypass_csp=True)  # axe is a script of the test
    for screen in SCREENS:
        page = open_whole(made, screen)
        page.add_script_tag(path=str(AXE))
        for details in page.locator("details").all():
            details.evaluate("element => element.open = true")
        violations = page.evaluate(
            "axe.run().then(result => result.violations.map(v => [v.id, v.nodes.map(n => n.html)]))"
        )
        assert violations == [], screen
    made.context.close()


def test_nothing_is_wider_than_a_small_window(chromium: Any, site: Site, live: Live) -> None:
    made = Reader(chromium, live, viewport={"width": 320, "height": 600})
    for screen in SCREENS:
        page = open_whole(made, screen)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 320, screen
    made.context.close()


def test_reading_works_without_scripts(chromium: Any, site: Site, live: Live) -> None:
    made = Reader(chromium, live, java_script_enabled=False)
    page = made.visit("ask")
    page.get_by_label("Question").fill("how are signing keys rotated")
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector("#results mark")
    page.get_by_role("link", name="lines").first.click()
    page.wait_for_selector("tr:target")
    for screen in SCREENS:
        assert open_whole(made, screen, has_scripts=False).locator("h1").count() == 1
    made.context.close()


def test_hostile_files_run_nothing_and_load_nothing(reader: Reader) -> None:
    page = reader.visit("file?path=memory/mallory")
    links = page.eval_on_selector_all("td a", "links => links.map(link => link.href)")
    assert len(links) > 10
    for link in links:
        for view in ("", "&plain=1", "&view=metadata", "&view=blame", "&view=diff"):
            page.goto(link + view)
            page.hover("main")
    page = reader.visit("ask?q=numbat")
    for heading in page.locator("article h3").all():
        heading.hover()
    # The fixture asserts that no dialog, no error and no request to another host came of it.


def test_two_browsers_have_sessions_of_their_own(chromium: Any, reader: Reader, live: Live) -> None:
    other = Reader(chromium, live, "--as", "agent:alice")
    assert "agent:alice" in other.visit("file").inner_text("header")
    assert "agent:alice" not in reader.visit("file").inner_text("header")
    other.page.get_by_role("button", name="Leave").click()
    other.page.wait_for_selector("text=This session has ended")
    assert reader.visit("file").locator("table").count() == 1
    other.context.close()


def test_open_page_says_that_the_daemon_is_away_and_recovers(chromium: Any, own_live: Live) -> None:
    with running(own_live):
        made = Reader(chromium, own_live)
        page = made.visit("file")
        own_live.run("unmount", "--all")
        page.get_by_role("link", name="knowledge").first.click()
        page.wait_for_selector("h1:has-text('daemon is away')")
        own_live.run("mount", str(own_live.at))
        eventually("the page recovers", lambda: page.get_by_role("link", name="handbook").count())
        made.context.close()


def test_open_page_recovers_from_a_killed_daemon(chromium: Any, own_live: Live) -> None:
    with running(own_live):
        made = Reader(chromium, own_live)
        page = made.visit("file")
        os.kill(own_live.daemon_pid(), signal.SIGKILL)
        page.get_by_role("link", name="knowledge").first.click()
        own_live.run("status")  # starts a daemon, if none does by itself
        eventually("the page recovers", lambda: page.get_by_role("link", name="handbook").count())
        made.context.close()


def test_page_says_that_the_daemon_is_away_and_recovers(chromium: Any, own_live: Live) -> None:
    with running(own_live):
        made = Reader(chromium, own_live)
        own_live.run("unmount", "--all")
        page = made.visit("file")
        assert "daemon is away" in page.inner_text("h1")
        own_live.run("mount", str(own_live.at))
        eventually("the page recovers", lambda: page.get_by_role("link", name="knowledge").count())
        made.context.close()
