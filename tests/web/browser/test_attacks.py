"""Test pages of other sites that attack the page in the browser of its owner."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.live import Live
from tests.web.browser.conftest import Reader
from tests.web.site import Site
from tests.web.test_access import made_contexts

ATTACK = """<!doctype html><title>attack</title>
<form id="f" method="post" action="{target}/contexts/new" target="out">
<input name="q" value="owned"><input name="budget" value="9">
</form>
<iframe name="out"></iframe><iframe id="frame" src="{target}/file"></iframe>
<script>
window.log = [];
document.getElementById("f").submit();
const note = name => answer => window.log.push(name + ":" + answer);
const load = element => new Promise(resolve => {{ element.onerror = element.onload = resolve; document.head.append(element); }});
const form = {{method: "POST", credentials: "include", mode: "no-cors", body: "q=owned&budget=9",
  headers: {{"Content-Type": "application/x-www-form-urlencoded"}}}};
Promise.allSettled([
  fetch("{target}/file", {{credentials: "include"}}).then(r => r.text()).then(note("read"), note("refused")),
  fetch("{target}/contexts/new", form).then(r => r.type).then(note("post"), note("refused")),
  load(Object.assign(new Image(), {{src: "{target}/file"}})),
  load(Object.assign(document.createElement("script"), {{src: "{target}/static/live.js"}})),
]).then(() => setTimeout(() => {{ document.title = "over"; }}, 300));
</script>"""


@contextmanager
def other_server(page: str) -> Iterator[tuple[int, list[str]]]:
    """Serve a page on another port of this machine, and collect the cookies that come."""
    cookies: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cookies.append(self.headers.get("Cookie", ""))
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, cookies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_origin_reads_and_changes_nothing(chromium: Any, site: Site, live: Live, host: str) -> None:
    """127.0.0.1 with another port is the same site for cookies, localhost is another one."""
    made, before = Reader(chromium, live), made_contexts(live)
    with other_server(ATTACK.format(target=made.base)) as (port, cookies):
        page = made.context.new_page()
        page.goto(f"http://{host}:{port}/")
        page.wait_for_function("document.title === 'over'")
        log = page.evaluate("window.log")
        assert not [entry for entry in log if entry.startswith("read:")], log
        frames = [frame for frame in page.frames if frame != page.main_frame]
        assert all("knowledge" not in frame.content() for frame in frames)
        assert made_contexts(live) == before
        assert all("ctxfs" not in cookie for cookie in cookies), "another server of this machine gets no cookie"
    assert made.visit("file").locator("table").count() == 1, "the session is as it was"
    made.context.close()


def test_an_address_from_another_site_opens_the_page(chromium: Any, site: Site, live: Live) -> None:
    """A terminal in a browser is another site: its link must lead to a page with its cookie."""
    address = live.run("web", "--no-open").strip()
    context = chromium.new_context()
    with other_server(f'<a href="{address}">open</a>') as (port, _):
        page = context.new_page()
        page.goto(f"http://localhost:{port}/")
        page.click("a")
        page.wait_for_selector("nav[aria-label=Screens]")
    context.close()
