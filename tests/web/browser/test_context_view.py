"""Test the view of contexts inside a host: its side of the bridge, its drawing, and hostile data."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from mcp.client import Client as McpClient
from mcp.client.extension import advertise

from ctxfs.mcp_server.apps import CONTEXT_VIEW, EXTENSION, MIME_TYPE
from ctxfs.mcp_server.server import opened
from ctxfs.model.path import lines_of
from ctxfs.store.layout import Layout
from tests.live import Live
from tests.web.browser.host import Host
from tests.web.hostile import IMAGE, NAMES, SCRIPT, write_hostile_files

Open = Callable[..., Host]


async def fetch(live: Live, **arguments: object) -> tuple[str, dict[str, Any]]:
    """Return the document of the view and the result of a call, both from the server."""
    apps = advertise(EXTENSION, {"mimeTypes": [MIME_TYPE]})
    async with opened(Layout(live.store)) as server, McpClient(server, extensions=[apps]) as client:
        document = (await client.read_resource(CONTEXT_VIEW)).contents[0].text
        result = await client.call_tool("ctx_context", arguments)
        return document, result.model_dump(mode="json", by_alias=True, exclude_none=True)


def call(live: Live, **arguments: object) -> tuple[str, dict[str, Any]]:
    async def run() -> tuple[str, dict[str, Any]]:
        return await fetch(live, **arguments)

    fetched: tuple[str, dict[str, Any]] = anyio.run(run, backend="trio")
    return fetched


@pytest.fixture(scope="module")
def called(live: Live) -> tuple[str, dict[str, Any]]:
    return call(live, task="how are signing keys rotated", budget=150)


@pytest.fixture
def open_view(chromium: Any, called: tuple[str, dict[str, Any]]) -> Iterator[Open]:
    """Open views in hosts; nothing may run, load or complain in them."""
    made: list[Host] = []

    def act(host_context: dict[str, Any] | None = None, **options: Any) -> Host:
        made.append(Host(chromium, called[0], host_context, **options))
        return made[-1]

    yield act
    for host in made:
        host.context.close()
        assert host.faults == []


def test_view_shakes_hands_and_reports_its_size(open_view: Open, called: tuple[str, dict[str, Any]]) -> None:
    host = open_view()
    first, second, *_ = host.log
    assert first["method"] == "ui/initialize"
    assert first["params"]["protocolVersion"] == "2026-01-26"
    assert first["params"]["appInfo"]["name"]
    assert "appCapabilities" in first["params"]
    assert second == {"jsonrpc": "2.0", "method": "ui/notifications/initialized", "params": {}}
    host.show(called[1])
    host.wait_for(lambda message: message.get("params", {}).get("height", 0) > 100)
    assert host.frame.evaluate("document.documentElement.scrollHeight <= innerHeight"), "all of it is seen"


def test_budget_is_drawn_by_source_with_the_reasons(open_view: Open, called: tuple[str, dict[str, Any]]) -> None:
    host, data = open_view(), called[1]["structuredContent"]
    host.post("ui/notifications/tool-input", {"arguments": {"task": "how are signing keys rotated"}})
    host.ping()
    assert "Building a context: how are signing keys rotated" in host.frame.inner_text("main")
    text = host.show(called[1])
    assert f"{data['tokens']} of 150 tokens" in text
    assert all(source["path"] in text for source in data["sources"])
    assert f"headers and citations {data['framing']} tokens" in text
    assert f"{data['reasons'][0]['text']} ({data['reasons'][0]['count']})" in text
    widths = host.frame.eval_on_selector_all(
        "svg.bar > rect:not(.rest)",
        "rects => rects.map(rect => [rect.getAttribute('class'), +rect.getAttribute('width')])",
    )
    whole = max(data["tokens"], data["budget"])
    drawn = [source["tokens"] for source in data["sources"] if source["tokens"]] + [data["framing"]]
    assert [width for _, width in widths] == pytest.approx([1000 * tokens / whole for tokens in drawn], abs=0.01)
    assert widths[-1][0] == "hatched"
    host.frame.click("summary:has-text('Left out')")
    rows = host.frame.query_selector_all("details:last-of-type tbody tr")
    assert len(rows) == len(data["excluded"])


def test_hostile_names_and_texts_are_shown_and_run_nothing(open_view: Open, live: Live) -> None:
    write_hostile_files(live)
    _, result = call(live, task="numbat", budget=4000, options={"paths": ["memory/mallory"]})
    paths = {row["path"] for row in result["structuredContent"]["pieces"]} | {
        row["path"] for row in result["structuredContent"]["excluded"]
    }
    assert len(paths) > 3, "the hostile files are in it"
    host = open_view()
    host.show(result)
    for details in host.frame.query_selector_all("details"):
        details.evaluate("element => element.open = true")
    assert any(path in host.frame.inner_text("main") for path in paths)
    check_inert(host)


@pytest.mark.parametrize(
    "text", [*NAMES[:4], NAMES[5], SCRIPT, IMAGE, "</script><script>alert(1)</script>", "javascript:alert(1)"]
)
def test_each_field_of_a_result_is_text(open_view: Open, text: str) -> None:
    row = dict.fromkeys(("path", "heading", "why", "reason", "text"), text)
    data = {
        **dict.fromkeys(("handle", "question", "verdict"), text),
        "tokens": 5,
        "budget": 10,
        "framing": text,
        "free": -1,
        "conflicts": 2,
        "piece_count": 1,
        "excluded_count": 1,
        "sources": [{**row, "tokens": 5, "pieces": text}],
        "pieces": [{**row, "source": text, "first": text, "last": 5, "tokens": text, "marks": [text]}],
        "reasons": [{**row, "count": text}],
        "excluded": [{**row, "first": 1, "last": text}],
        "notes": [text],
    }
    host = open_view({"theme": text, "styles": {"variables": {"--font-sans": text, "--color-text-primary": text}}})
    host.post("ui/notifications/tool-input", {"arguments": {"task": text}})
    shown = host.show({"structuredContent": data, "content": []})
    assert lines_of(text) in shown
    check_inert(host)
    assert lines_of(text) in host.show({"isError": True, "content": [{"type": "text", "text": text}, {"type": text}]})
    check_inert(host)


@pytest.mark.parametrize(
    "data", [[], {"sources": 5}, {"sources": [None, 3, []], "pieces": {"length": 9}}, {"tokens": "x", "notes": [{}]}]
)
def test_malformed_results_are_shown_without_an_error(open_view: Open, data: object) -> None:
    host = open_view()
    host.show({"structuredContent": data, "content": [{"type": "text", "text": "plain"}, None, 7]})


def check_inert(host: Host) -> None:
    """Check that the view has only elements that it makes itself, and no active character."""
    tags = host.frame.evaluate("[...new Set([...document.querySelectorAll('*')].map(e => e.localName))]")
    allowed = "html head meta title style body main script h1 p span bdi br svg rect defs pattern ul li details summary"
    allowed += " div table thead tbody tr th td pre"
    assert set(tags) <= set(allowed.split()), tags
    assert host.frame.evaluate("document.scripts.length") == 1
    names = host.frame.evaluate("[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames())")
    assert not [name for name in names if name.startswith("on") or name in ("href", "src", "srcdoc")]
    assert not any(character in host.frame.content() for character in "\u202e\x1b\x07\U000e0041")


def test_active_characters_are_escaped_as_everywhere(open_view: Open) -> None:
    host = open_view()
    for start in (*range(0, 0x10000, 0x1000), 0xE0000):
        text = "".join(
            f"|{chr(code)}|"
            for code in range(start, start + 0x1000)
            if chr(code) not in "\r\t" and code not in range(0xD800, 0xE000)
        )
        host.show({"content": [{"type": "text", "text": text}]})
        assert host.frame.text_content("pre") == lines_of(text), hex(start)
    assert sys.maxunicode == 0x10FFFF


def test_document_runs_no_script_but_its_own_and_loads_nothing(
    chromium: Any, called: tuple[str, dict[str, Any]]
) -> None:
    host = Host(chromium, called[0])
    host.frame.evaluate("""() => {
        document.body.append(Object.assign(document.createElement("script"), {textContent: "window.owned = 1"}));
        document.body.append(Object.assign(document.createElement("img"), {src: "https://evil.example/pixel.png"}));
        document.body.setAttribute("style", "display: none");
        document.body.setAttribute("onclick", "window.owned = 1");
        document.body.click();
    }""")
    host.ping()
    assert host.frame.evaluate("window.owned") is None
    assert host.frame.evaluate("getComputedStyle(document.body).display") == "block"
    assert not [fault for fault in host.faults if "Content Security Policy" not in fault]
    assert len(host.faults) >= 4, host.faults
    host.context.close()


def test_messages_of_other_windows_are_ignored(open_view: Open) -> None:
    host = open_view()
    before = host.frame.inner_text("main")
    attack = """<script>
    const message = {jsonrpc: "2.0", method: "ui/notifications/tool-result", params: {content: [{type: "text", text: "owned"}]}};
    parent.frames[0].postMessage(message, "*");
    </script>"""
    host.page.evaluate("text => new Promise(done => { other.onload = done; other.srcdoc = text })", attack)
    for message in (
        "text",
        None,
        5,
        [],
        {"method": "ui/notifications/tool-result"},
        {"jsonrpc": "2.0", "method": "constructor"},
    ):
        host.page.evaluate("message => frame.contentWindow.postMessage(message, '*')", message)
    host.ping()
    assert host.frame.inner_text("main") == before


def test_requests_of_the_host_are_answered(open_view: Open) -> None:
    host = open_view()
    host.post("ui/resource-teardown", {"reason": "closed"}, id="end")
    host.post("tools/list", id="tools")
    host.ping()
    answers = {message["id"]: message for message in host.log if "id" in message}
    assert answers["end"]["result"] == {}
    assert answers["tools"]["error"]["code"] == -32601


def test_errors_and_cancelled_calls_are_told(open_view: Open) -> None:
    host = open_view()
    assert "No context was built." in host.show({"isError": True, "content": [{"type": "text", "text": "no such key"}]})
    host.post("ui/notifications/tool-cancelled", {"reason": "user"})
    host.ping()
    assert "cancelled" in host.frame.inner_text("main")


def test_theme_of_the_host_is_followed(open_view: Open, called: tuple[str, dict[str, Any]]) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    host = open_view({"theme": "dark"}, color_scheme="light")
    assert host.frame.evaluate(background) == "rgb(20, 24, 29)"
    host.post("ui/notifications/host-context-changed", {"theme": "light"})
    host.ping()
    assert host.frame.evaluate(background) == "rgb(255, 255, 255)"
    variables = {"--color-background-primary": "light-dark(#fefefe, #010101)", "--no-such": "1"}
    host.post("ui/notifications/host-context-changed", {"styles": {"variables": variables}})
    host.ping()
    assert host.frame.evaluate(background) == "rgb(254, 254, 254)"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessibility_has_no_violation(open_view: Open, called: tuple[str, dict[str, Any]], theme: str) -> None:
    host = open_view({"theme": theme})
    host.show(called[1])
    assert host.violations() == []


def test_nothing_is_wider_than_a_small_window(open_view: Open, called: tuple[str, dict[str, Any]]) -> None:
    host = open_view(viewport={"width": 320, "height": 600})
    host.show(called[1])
    for details in host.frame.query_selector_all("details"):
        details.evaluate("element => element.open = true")
    assert host.frame.evaluate("document.scrollingElement.scrollWidth") <= 320


def test_document_outside_of_a_host_says_what_it_is(chromium: Any, called: tuple[str, dict[str, Any]]) -> None:
    page = chromium.new_page()
    page.set_content(called[0])
    assert "view for clients of ctxfs" in page.inner_text("main")
    page.close()
