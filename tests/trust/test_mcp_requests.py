"""Test malformed requests of MCP clients, and many simultaneous ones."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client as McpClient
from mcp.types import TextContent

from ctxfs.mcp_server.server import opened
from ctxfs.store.layout import Layout
from tests.live import Live


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store that no daemon serves."""
    made = Live(tmp_path_factory.mktemp("requests"))
    made.run("init")
    yield made


def answers(store: Live, lines: list[str], count: int) -> list[dict[str, Any]]:
    """Return the first responses of a server on stdio to some lines."""
    with subprocess.Popen(store.command("mcp"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write("".join(f"{line}\n" for line in lines))
        server.stdin.flush()
        responses = [json.loads(server.stdout.readline()) for _ in range(count)]
        server.stdin.close()
        assert server.wait(60) == 0
    return responses


def test_message_that_cannot_be_read_is_answered_with_its_id(store: Live) -> None:
    half = json.dumps({"path": "memory/shared/x", "content": "\ud83d"})
    responses = answers(
        store,
        [
            f'{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"ctx_write","arguments":{half}}}}}',
            "this is no JSON",
            "",
            "[" * 100_000,
            '{"jsonrpc":"2.0","id":"a","method":7}',
            '{"jsonrpc":"2.0","id":9,"method":"ping"}',
        ],
        5,
    )
    codes = [(response.get("id"), response.get("error", {}).get("code")) for response in responses]
    assert codes == [(5, -32700), (None, -32700), (None, -32700), ("a", -32600), (9, None)], (
        "the following requests are served"
    )


def in_parallel(store: Live, name: str, calls: list[dict[str, Any]]) -> list[str]:
    """Return the texts of simultaneous tool calls of one client; each call must succeed."""
    texts: list[str] = []

    async def main() -> None:
        async with opened(Layout(store.store)) as server, McpClient(server) as client:

            async def call(arguments: dict[str, Any]) -> None:
                result = await client.call_tool(name, arguments)
                text = "".join(part.text for part in result.content if isinstance(part, TextContent))
                assert not result.is_error, text
                texts.append(text)

            async with anyio.create_task_group() as group:
                for call_arguments in calls:
                    group.start_soon(call, call_arguments)

    anyio.run(main, backend="trio")
    return texts


def test_simultaneous_appends_of_one_client_all_succeed(store: Live) -> None:
    calls = [{"path": "memory/shared/log.md", "content": f"line {n}\n", "mode": "append"} for n in range(20)]
    assert len(in_parallel(store, "ctx_write", calls)) == 20
    lines = (store.store / "tree" / "memory" / "shared" / "log.md").read_text().splitlines()
    assert sorted(lines) == sorted(f"line {n}" for n in range(20))


def test_simultaneous_edits_of_one_client_all_succeed(store: Live) -> None:
    file = Path(store.store / "tree" / "memory" / "shared" / "edited.md")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"[todo {n}]\n" for n in range(20)))
    calls = [
        {"path": "memory/shared/edited.md", "edits": [{"old": f"[todo {n}]", "new": f"[done {n}]"}]} for n in range(20)
    ]
    assert len(in_parallel(store, "ctx_edit", calls)) == 20
    assert file.read_text() == "".join(f"[done {n}]\n" for n in range(20))
