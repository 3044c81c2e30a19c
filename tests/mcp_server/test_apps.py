"""Test the view of contexts over MCP: who gets it, its data within limits, and its document without outer sources."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client as McpClient
from mcp.client.extension import advertise

from ctxfs.mcp_server.apps import CONTEXT_VIEW, EXTENSION, MIME_TYPE, context_document
from ctxfs.mcp_server.context_view import MAX_ROWS, describe_context
from ctxfs.mcp_server.server import opened
from ctxfs.store.layout import Layout
from tests.live import Live

TASK = "how are signing keys rotated"
HTML = {"mimeTypes": [MIME_TYPE]}
VERSIONS = ("2025-11-25", "2026-07-28")
STYLE_SHEET = Path(__file__).parents[2] / "ctxfs" / "web" / "static" / "style.css"


def use(live: Live, act: Callable[[Any], Any], settings: dict[str, Any] | None = None, version: str = "") -> Any:
    """Return the result of `act` for a client that declares the extension with `settings`."""
    options: dict[str, Any] = {"extensions": [advertise(EXTENSION, settings)]} if settings is not None else {}
    options |= {"mode": version} if version else {}

    async def run() -> Any:
        async with (
            opened(Layout(live.store), principal="agent:alice") as server,
            McpClient(server, **options) as client,
        ):
            return await act(client)

    return anyio.run(run, backend="trio")


async def tools_and_resources(client: Any) -> tuple[dict[str, Any], list[str]]:
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    return tools, [str(resource.uri) for resource in (await client.list_resources()).resources]


async def make_context(client: Any, **arguments: Any) -> Any:
    return await client.call_tool("ctx_context", {"task": TASK, "budget": 400, **arguments})


def test_client_with_the_extension_finds_the_view_and_reads_it(served: Live) -> None:
    async def act(client: Any) -> Any:
        return *await tools_and_resources(client), await client.read_resource(CONTEXT_VIEW)

    tools, resources, read = use(served, act, HTML)
    assert tools["ctx_context"].meta["ui"]["resourceUri"] == CONTEXT_VIEW
    assert [name for name, tool in tools.items() if tool.meta] == ["ctx_context"]
    assert CONTEXT_VIEW in resources
    (document,) = read.contents
    assert (str(document.uri), document.mime_type) == (CONTEXT_VIEW, MIME_TYPE)
    assert document.text == context_document()
    assert not any(document.meta["ui"]["csp"].values()), "no other host may be reached"


@pytest.mark.parametrize(
    "settings", [None, {}, {"mimeTypes": ["text/plain"]}, {"mimeTypes": "text/html"}, {"mimeTypes": 7}]
)
def test_other_clients_get_the_lists_and_results_without_it(served: Live, settings: dict[str, Any] | None) -> None:
    async def act(client: Any) -> Any:
        return *await tools_and_resources(client), await make_context(client)

    tools, resources, result = use(served, act, settings)
    assert all(tool.meta is None for tool in tools.values())
    assert not [uri for uri in resources if uri.startswith("ui:")]
    assert result.structured_content is None
    assert len(result.content) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_both_generations_of_the_protocol_negotiate_it(served: Live, version: str) -> None:
    result = use(served, make_context, HTML, "legacy" if version < "2026" else version)
    assert result.structured_content["budget"] == 400


def test_server_declares_the_extension(served: Live) -> None:
    async def act(client: Any) -> Any:
        return client.server_capabilities.extensions

    assert EXTENSION in use(served, act, HTML)


def test_view_gets_the_parts_of_the_budget_and_the_text_is_as_without_it(served: Live) -> None:
    plain = use(served, make_context)
    result = use(served, make_context, HTML)
    assert [part.text for part in result.content] == [part.text for part in plain.content]
    data = result.structured_content
    assert data["question"] == TASK
    assert data["tokens"] <= data["budget"] == 400
    assert data["framing"] + sum(source["tokens"] for source in data["sources"]) == data["tokens"]
    assert data["tokens"] + data["free"] == data["budget"]
    assert data["sources"][0]["path"] == "knowledge/handbook/rotation.md"
    assert {piece["source"] for piece in data["pieces"]} == set(range(1, len(data["sources"]) + 1))
    assert f"[handle: {data['handle']};" in result.content[1].text


def test_view_gets_what_was_left_out_and_why(served: Live) -> None:
    data = use(served, lambda client: make_context(client, budget=60), HTML).structured_content
    assert data["excluded_count"] >= len(data["excluded"]) > 0
    assert sum(reason["count"] for reason in data["reasons"]) == data["excluded_count"]
    assert {row["reason"] for row in data["excluded"]} <= {reason["text"] for reason in data["reasons"]}


@pytest.mark.parametrize("mode", ["full", "delta", "next", "manifest"])
def test_each_mode_has_a_view(served: Live, mode: str) -> None:
    assert use(served, lambda client: make_context(client, mode=mode), HTML).structured_content["sources"]


@pytest.mark.parametrize("rights", [("knowledge/**:lr",), ("knowledge/**:lr", "context/**:lr")])
def test_context_without_a_handle_has_a_view(served: Live, rights: tuple[str, ...]) -> None:
    allowed = [word for right in rights for word in ("--allow", right)]
    token = served.run("token", "issue", "agent:reader", *allowed).strip()

    async def run() -> Any:
        apps = advertise(EXTENSION, HTML)
        async with opened(Layout(served.store), token=token) as server, McpClient(server, extensions=[apps]) as client:
            return await make_context(client)

    result = anyio.run(run, backend="trio")
    assert "no handle" in result.content[-1].text, result.content
    assert result.structured_content["handle"] == ""
    assert {source["path"].split("/")[0] for source in result.structured_content["sources"]} == {"knowledge"}


def test_refused_call_has_no_view(served: Live) -> None:
    result = use(served, lambda client: make_context(client, budget=1, options={"no-such-key": 1}), HTML)
    assert result.is_error
    assert result.structured_content is None


def test_data_of_a_hostile_manifest_is_short_and_printable() -> None:
    text = "\u202e\x1b[2J\n" + "x" * 100_000
    item = {
        "path": text,
        "first": 1,
        "last": 2,
        "tokens": 3,
        "why": text,
        "reason": text,
        "heading": text,
        "score": 0.1,
    }
    manifest = {
        "request": {"query": [text, text]},
        "context": {"tokens": 3000, "budget": 4000},
        "answer": {"verdict": "known"},
        "notes": [text] * 500,
        "items": [
            {**item, "path": f"{number}{text}", "stale": text, "withheld": [text] * 500} for number in range(1000)
        ],
        "excluded": [item] * 1000,
    }
    data = describe_context(manifest)
    encoded = json.dumps(data, ensure_ascii=False)
    assert len(encoded) < 200_000
    assert not re.search("[\u202e\x1b]", encoded)
    assert data["further_sources"] == {"count": 1000 - MAX_ROWS, "tokens": 3 * (1000 - MAX_ROWS)}
    assert data["piece_count"] == data["excluded_count"] == 1000


def test_document_has_no_address_of_another_host_and_no_way_to_parse_html() -> None:
    document = context_document()
    assert "{{" not in document
    assert set(re.findall(r"https?://[^\"'\s)]+", document)) == {"http://www.w3.org/2000/svg"}, "a name space only"
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttp",
        "import(",
    ):
        assert word not in document, word
    assert not re.search(r"\son\w+=", document), "no handlers in attributes"
    assert len(document.encode()) <= 20_000


def test_colours_of_sources_are_those_of_the_page() -> None:
    sheet, document = STYLE_SHEET.read_text(), context_document()
    for number in range(8):
        light, dark = re.findall(rf"--c{number}: (#[0-9a-f]{{6}});", sheet)
        assert f"--c{number}: light-dark({light}, {dark})" in document
