"""`ctxfs mcp`: list, read, write, search and build contexts, as tools over stdio.

A translator: every tool is one or two of the methods in `ctxfs.daemon.methods`, so that what an MCP client sees is what
the mount and the command line show.
"""

import logging
from collections.abc import Callable
from typing import Any

import anyio
import trio
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from ctxfs import __version__
from ctxfs.daemon.session import Session, connect
from ctxfs.model.change import Put
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path, printable
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import Layout
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

_MAX_READ = 100_000
_READ = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_DELIVER = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
_WRITE = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


class TreeTools:
    """The tools of one session over one store. Errors say what, where, and what to try next."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turn = trio.Lock()

    async def ctx_list(self, path: str = "") -> str:
        """List a directory of the tree, one entry a line; `path` is relative to the root, such as `knowledge`."""
        entries = await self._call("list", path=path)
        lines = [
            f"{name}{_MARKS.get(kind, '')}{f' -> {target}' if target else ''}" for name, kind, *_, target in entries
        ]
        return printable("\n".join(lines)) or "(empty)"

    async def ctx_read(self, path: str, offset: int = 0, limit: int = _MAX_READ) -> str:
        """Read a file as text from character `offset`, `limit` characters at most; it says where to continue."""
        if offset < 0 or not 1 <= limit <= _MAX_READ:
            raise ToolError(f"offset must be 0 or more and limit between 1 and {_MAX_READ}")
        data = await self._call("read", path=path)
        if b"\0" in data[:8192]:
            raise ToolError(f"{path}: a binary file of {len(data)} bytes; only text can be read here")
        text = data.decode("utf-8", "replace")
        rest = len(text) - offset - limit
        part: str = text[offset : offset + limit]
        return part + (f"\n[continue at offset {offset + limit}]" if rest > 0 else "")

    async def ctx_write(self, path: str, content: str, source: str = "") -> str:
        """Make a file's whole content `content`; under memory/, pad/ and context/<task>/request.toml.

        `source`: where it is from, if not from you or your user: a URL, a tool, a file. It is marked as not to be trusted then.
        """
        data = content.encode("utf-8", "replace")
        said = {"source": " ".join(source.split()), "trust": "untrusted"} if source.strip() else {}
        attributes = {f"{PREFIX}{name}": value.encode("utf-8", "replace") for name, value in said.items()}
        done = await self._call("apply", change=change_to_wire(Put(_parsed(path), data, attributes)))
        return "\n".join((f"wrote {len(data)} bytes to {path}", *(f"warning: {each}" for each in done["warnings"])))

    async def ctx_search(self, question: str, below: str = "", limit: int = 10) -> str:
        """Ask the tree; best hits first with path and lines. Operators: "a phrase" +must -not kind: path: author: since:7d."""
        answer = await self._call("search", question=question, below=below, limit=max(1, min(limit, 100)))
        lines = [f"note: {note}" for note in (*answer["notes"], *answer["remarks"])]
        lines += [f"{hit['path']}:{hit['first']}-{hit['last']}  {hit['snippet']}" for hit in answer["hits"]]
        return "\n".join(lines) or "nothing found"

    async def ctx_context(self, question: str, budget: int = 4000, options: dict[str, Any] | None = None) -> str:
        """A context for a question, packed to at most `budget` tokens, with sources. `options`: keys of request.toml, such as
        paths, kinds, pins, quota, reserve, as_of, fresh, format (markdown, xml, json, messages), order, compress.
        """
        built = await self._call("context", request={**(options or {}), "query": question, "budget": budget})
        return str(built["text"])

    async def ctx_next(self, task: str) -> str:
        """The next piece of the stream of context/<task>, best first; says when it is at its end."""
        return await self._delivered(task, "stream") or "(the end)"

    async def ctx_refresh(self, task: str) -> str:
        """What to add, replace and drop in your window since the last time you asked for context/<task>."""
        return await self._delivered(task, "delta.md")

    async def ctx_evaluate(self, task: str, response: str) -> str:
        """Hold an answer against the sources of context/<task>, claim by claim: what is supported, contradicted, unsupported."""
        place = _parsed(f"context/{task}") / "response.md"
        await self._call("apply", change=change_to_wire(Put(place, response.encode("utf-8", "replace"))))
        done = await self._call("curate", task=task)
        return str(done["evaluation"].decode())

    async def ctx_record(
        self, text: str, kind: str = "note", session: str = "", origin: str = "", model: str = "", version: str = ""
    ) -> str:
        """Add to the history, which nobody can change: kind is input, output, reasoning, tool_call, tool_result or note."""
        said: dict[str, Any] = {"kind": kind, "text": text}
        if origin:
            said["origin"] = origin
        if model:
            said["model"] = {"name": model, **({"version": version} if version else {})}
        numbers = await self._call("record", said=[said], session=session)
        return f"record {numbers[0]}"

    async def _delivered(self, task: str, name: str) -> str:
        data = await self._call("read", path=str(_parsed(f"context/{task}") / name))
        return str(data.decode("utf-8", "replace"))

    async def _call(self, method: str, **arguments: object) -> Any:
        async with self._turn:
            try:
                return await blocking(lambda: self._session.call(method, **arguments))
            except CommandError as error:
                raise ToolError(f"{error.message}. {error.remedy}") from error
            except OSError as error:
                where = printable(str(error.filename or ""))
                raise ToolError(f"{where}: {error.strerror}. List the parent directory with ctx_list.") from error


_MARKS = {"dir": "/", "link": "@"}


def _parsed(path: str) -> Path:
    try:
        return Path.parse(path)
    except OSError as error:
        raise ToolError(f"{printable(path)}: {error.strerror}") from error


def make_server(session: Session) -> MCPServer:
    """The server over a session; the order of tools is fixed."""
    server = MCPServer("ctxfs", version=__version__, instructions="Files of context. Read AGENTS.md first.")
    tools = TreeTools(session)
    table: list[tuple[Callable[..., Any], ToolAnnotations]] = [
        (tools.ctx_list, _READ),
        (tools.ctx_read, _READ),
        (tools.ctx_search, _READ),
        (tools.ctx_context, _READ),
        (tools.ctx_next, _DELIVER),
        (tools.ctx_refresh, _DELIVER),
        (tools.ctx_evaluate, _WRITE),
        (tools.ctx_write, _WRITE),
        (tools.ctx_record, _DELIVER),
    ]
    for tool, annotations in table:
        # Without structured output: a text result would be sent twice.
        server.add_tool(tool, annotations=annotations, structured_output=False)
    return server


def serve_stdio(layout: Layout, principal: str = "", token: str = "") -> None:
    """Serve one client until it hangs up; on the account of `principal`, of whoever holds `token`, or of the store's owner."""
    session = connect(layout)
    session.call("join", principal=principal, token=token, tool="mcp")
    try:
        anyio.run(make_server(session).run_stdio_async, backend="trio")
    finally:
        session.close()
