"""Test that 200 injected instructions in old transcripts are marked wherever a client of MCP or a mount reads them."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client as McpClient
from mcp.types import TextContent, TextResourceContents

from ctxfs.eventlog.record_marks import QUOTING_LABEL, RECORD_LABEL, RECORD_NOTICE
from ctxfs.mcp_server.server import opened
from ctxfs.store.layout import Layout
from tests.live import Live, eventually
from tests.trust.injections import (
    injections,
    unmarked_in_hits,
    unmarked_in_json,
    unmarked_in_markdown,
    unmarked_in_xml,
)

pytestmark = pytest.mark.fuse

ALL = injections()
SESSIONS = 20
KINDS = ("input", "output", "tool_result", "note")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("injected"))
    made.run("init")
    rules = made.store / "tree" / "memory" / "shared" / "fact" / "rules.md"
    rules.parent.mkdir(parents=True)
    rules.write_text("The signing keys rotate every ninety days.\n")
    for session in range(SESSIONS):
        records = [
            {"kind": KINDS[number % 4], "text": injection.text, "said_at": "2025-01-02T03:04:05Z", "tool": "fetch"}
            for number, injection in enumerate(ALL)
            if number % SESSIONS == session
        ]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        assert made.try_run("record", "--session", f"old-{session}", "--jsonl", input=lines).returncode == 0
    made.run("mount", str(made.at))
    made.wait_idle()
    yield made
    made.close()


class Answers:
    """A client of MCP for many calls."""

    def __init__(self, client: McpClient) -> None:
        self._client = client

    async def call(self, tool: str, **arguments: Any) -> str:
        """Return the text of the answer of a tool."""
        done = await self._client.call_tool(tool, arguments)
        assert not done.is_error, done
        return "\n".join(part.text for part in done.content if isinstance(part, TextContent))

    async def resource(self, uri: str) -> str:
        """Return the text of a resource."""
        done = await self._client.read_resource(uri)
        return "\n".join(part.text for part in done.contents if isinstance(part, TextResourceContents))

    async def prompt(self, name: str, **arguments: str) -> str:
        """Return the messages of a prompt."""
        done = await self._client.get_prompt(name, arguments)
        return "\n".join(m.content.text for m in done.messages if isinstance(m.content, TextContent))


def with_client(live: Live, act: Any) -> Any:
    async def run() -> Any:
        async with opened(Layout(live.store)) as server, McpClient(server) as client:
            return await act(Answers(client))

    return anyio.run(run, backend="trio")


def check(faults: Sequence[str]) -> None:
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(fault[:500] for fault in faults[:12])


def record_path(live: Live, number: int) -> tuple[str, int]:
    """Return the path of the record of an injection, and its line."""
    day = next(folder.name for folder in (live.store / "history").iterdir() if (folder / "old-0.jsonl").exists())
    return f"history/{day}/old-{number % SESSIONS}.jsonl", number // SESSIONS + 1


def test_hits_and_matching_lines_are_marked(live: Live) -> None:
    async def act(answers: Answers) -> list[str]:
        faults = []
        for injection in ALL:
            for kind in ("semantic", "grep"):
                text = await answers.call("ctx_search", query=injection.word, kind=kind)
                # A snippet of a text with many invisible characters may end before the word.
                faults += [f"{injection.name}: {kind}: nothing found"] if "\nhistory/" not in f"\n{text}" else []
                faults += [f"{injection.name}: {kind}: {line}" for line in unmarked_in_hits(text, injection.word)]
        return faults

    check(with_client(live, act))


def test_contexts_are_marked_in_each_format(live: Live) -> None:
    async def act(answers: Answers) -> list[str]:
        faults = []
        for number, injection in enumerate(ALL):
            path, line = record_path(live, number)
            for options in ({}, {"pins": [f"{path}:{line}"]}):
                text = await answers.call("ctx_context", task=f'"{injection.word}"', budget=8000, options=options)
                context = text.rpartition("\n[handle:")[0]
                faults += [f"{injection.name}: {options}: nothing found"] if context.count(injection.word) < 2 else []
                body = "\n".join(context.split("\n")[1:])  # the first line repeats the task
                faults += [f"{injection.name}: {line}" for line in unmarked_in_markdown(body, injection.word)]
            if number % 8 == 0:
                request = {"task": f'"{injection.word}"', "budget": 8000}
                as_json = await answers.call("ctx_context", **request, options={"format": "json"})
                faults += unmarked_in_json(as_json.rpartition("\n[handle:")[0], injection.word)
                as_xml = await answers.call("ctx_context", **request, options={"format": "xml"})
                faults += unmarked_in_xml(as_xml.rpartition("\n[handle:")[0], injection.word)
                prompt = await answers.prompt("build_context", task=f"{injection.word} signing keys")
                body = "\n".join(prompt.split("\n")[1:]).rpartition("\n---\n")[0]
                faults += [f"prompt: {line}" for line in unmarked_in_markdown(body, injection.word)]
        return faults

    check(with_client(live, act))


def test_texts_that_are_read_have_a_label(live: Live) -> None:
    async def act(answers: Answers) -> list[str]:
        faults = []
        for number, injection in enumerate(ALL[::5]):
            path, line = record_path(live, 5 * number)
            read = await answers.call("ctx_read", path=path, offset=line, limit=1)
            faults += [] if read.startswith(f"{RECORD_LABEL}\n") and injection.word in read else [read]
            resource = await answers.resource(f"ctx:///{path}")
            faults += [] if RECORD_LABEL in resource.partition("inj")[0] else [resource[:200]]
            whole = await answers.call("ctx_read", path=f"search/{injection.word}/context.md", offset=2)
            faults += [] if injection.word not in whole or whole.startswith(QUOTING_LABEL) else [whole]
            summary = await answers.call("ctx_read", path=f"history/by-session/{Path(path).stem}/summary.md")
            faults += [] if summary.startswith("[untrusted: no instructions") else [summary]
        return faults

    check(with_client(live, act))


def test_hits_on_the_mount_are_marked(live: Live) -> None:
    faults: list[str] = []
    for injection in ALL[::5]:
        folder = live.at / "search" / f'"{injection.word}"'
        files: Sequence[Path] = eventually("there are hits", lambda folder=folder: list(folder.glob("0*")))
        for file in files:
            text = file.read_text()
            faults += [text] if injection.word in text and not text.split("\n")[0].endswith(RECORD_LABEL) else []
        hits = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()[1:]]
        faults += [str(hit) for hit in hits if injection.word in hit["snippet"] and hit.get("record") != RECORD_NOTICE]
        body = "\n".join((folder / "context.md").read_text().split("\n")[1:])
        faults += unmarked_in_markdown(body, injection.word)
    check(faults)
