"""Provide Debian's Chromium, driven by Playwright; `make test-web` installs both. Without a browser the tests fail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import Live
from tests.web.site import Site

CHROMIUM = Path("/usr/bin/chromium")
MAX_TABS = 80
AXE = Path(__file__).parents[3] / "build" / "browser" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("there is no playwright: run make test-web")
    if not CHROMIUM.exists():
        pytest.fail(f"there is no browser at {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


class Reader:
    """A browser context with the session of a principal; all that its pages log is collected."""

    def __init__(self, chromium: Any, live: Live, *arguments: str, **options: Any) -> None:
        self.context = chromium.new_context(**{"viewport": {"width": 1100, "height": 800}, **options})
        self.faults: list[str] = []
        self.requested: set[str] = set()
        self.context.on("page", self._watch)
        self.page = self.context.new_page()
        address = live.run("web", "--no-open", *arguments).strip()
        self.page.goto(address)
        self.page.wait_for_selector("nav")
        self.base = address.rpartition("/")[0]

    def _watch(self, page: Any) -> None:
        page.on("console", lambda message: self.faults.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: (self.faults.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.requested.add(request.url))

    def visit(self, screen: str) -> Any:
        """Load a screen, and return the page."""
        self.page.goto(f"{self.base}/{screen}")
        return self.page

    def tab_to(self, selector: str) -> None:
        """Press the Tab key up to an element of the selector."""
        for _ in range(MAX_TABS):
            if self.page.locator(selector).evaluate_all("found => found.includes(document.activeElement)"):
                return
            self.page.keyboard.press("Tab")
        pytest.fail(f"no key leads to {selector}")


@pytest.fixture
def reader(chromium: Any, site: Site, live: Live) -> Iterator[Reader]:
    """Yield the session of the owner; its pages may log nothing, and load nothing from elsewhere."""
    made = Reader(chromium, live)
    yield made
    made.context.close()
    assert made.faults == []
    assert {url for url in made.requested if not url.startswith(f"{made.base}/")} == set()
