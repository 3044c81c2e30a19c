"""The tool table of a server: names, schemas and functions, and the dispatch of calls.

Arguments are brought into the names and types of the schema (`arguments.py`) and validated before the tool runs; unknown
ones are refused. An error gives the cause, the path and the remedy.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    ResourceLink,
    TextContent,
    Tool,
    ToolAnnotations,
)

from ctxfs.exec.schema import Schema
from ctxfs.mcp_server.arguments import ArgumentError, normalize, suggest_tool
from ctxfs.mcp_server.mount_paths import replace_mount_paths
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.uris import printable_path
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path, one_line, printable
from ctxfs.rpc.frames import WireError

log = logging.getLogger(__name__)

PATH: Mapping[str, Any] = {
    "type": "string",
    "description": "From the root of the tree, such as memory/alice/fact/x.md; or a ctx:/// address.",
}
Content = TextContent | ImageContent | ResourceLink | EmbeddedResource
Answer = str | Sequence[Content] | CallToolResult | InputRequiredResult

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=True)
CHANGES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False)

_REMEDIES = {
    errno.ENOENT: "List the directory above it with ctx_list, or look for it with ctx_search.",
    errno.EACCES: "You may not do this here; write to your own memory or to pad/.",
    errno.EPERM: "This cannot be changed; see AGENTS.md for where you may write.",
    errno.EROFS: "It is read-only; write to memory/ or pad/.",
    errno.EISDIR: "It is a directory: list it with ctx_list.",
    errno.ENOTDIR: "Something on the way to it is a file: list the directories above it.",
    errno.EEXIST: "It is there already: read it, then use ctx_edit, or ctx_write with mode 'replace'.",
    errno.ENOTEMPTY: "Delete what is in it first, or pass recursive.",
    errno.EXDEV: "Read it and write it to the other place instead.",
    errno.EAGAIN: "Try again in a moment.",
    errno.EIO: "The store could not answer: try again; .ctxfs/errors.jsonl says more.",
}


@dataclass(frozen=True, slots=True)
class Call:
    """The session, the request context and the parameters of a call, besides its arguments."""

    tree: TreeSession
    context: ServerRequestContext[Any, Any]
    params: CallToolRequestParams


Function = Callable[[Call, Mapping[str, Any]], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tool. `properties` and `required` form its schema, which permits no other arguments."""

    name: str
    description: str
    annotations: ToolAnnotations
    function: Function
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None  # replaces `properties` and `required`
    view: str = ""  # the address of the document that shows its results, for clients with the extension

    @property
    def input_schema(self) -> dict[str, Any]:
        """The JSON Schema of the arguments.

        It does not exclude other names: a client that validates would refuse those that the server understands.
        """
        if self.schema is not None:
            return dict(self.schema)
        schema: dict[str, Any] = {"type": "object", "properties": dict(self.properties)}
        return {**schema, "required": list(self.required)} if self.required else schema


class ToolTable:
    """The tools in listing order."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._schemas = {entry.name: Schema(entry.input_schema) for entry in entries}

    def tools(self, has_apps: bool = False) -> list[Tool]:
        """Return the tools as `tools/list` sends them; their views only to clients that show them."""
        return [
            Tool(
                name=entry.name,
                description=entry.description,
                input_schema=entry.input_schema,
                annotations=entry.annotations,
                _meta={"ui": {"resourceUri": entry.view}} if has_apps and entry.view else None,
            )
            for entry in self._entries.values()
        ]

    def schema_of(self, name: str) -> Mapping[str, Any] | None:
        """Return the schema of a tool's arguments; None for an unknown tool."""
        entry = self._entries.get(name)
        return None if entry is None else entry.input_schema

    async def call(self, call: Call, name: str, arguments: Mapping[str, Any]) -> CallToolResult | InputRequiredResult:
        """Run a tool. Raises MCPError for an unknown name; every other failure is an error result."""
        entry = self._entries.get(name)
        if entry is None:
            hint = suggest_tool(name, list(self._entries))
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {replace_surrogates(name)[:200]}; {hint}")
        if entry.schema is None:
            try:
                arguments = normalize(entry.input_schema, arguments)
            except ArgumentError as error:
                return failure(f"{name}: {error}")
        if fault := self._schemas[name].describe_fault(arguments):
            return failure(f"{name}: {fault}")
        try:
            if entry.schema is None:
                arguments = await replace_mount_paths(call.tree, name, arguments)
            answer = await entry.function(call, arguments)
        except CommandError as error:
            return failure(f"{error.message}. {error.remedy}")
        except OSError as error:
            return failure(_describe_error(error, await _nearest_paths(call.tree, error)))
        except WireError as error:
            return failure(str(error))
        except MCPError:
            raise
        except Exception as error:
            log.exception("tool %s failed", name)
            return failure(f"internal error: {type(error).__name__}: {error}. It is in the log; try another way.")
        if isinstance(answer, CallToolResult | InputRequiredResult):
            return answer
        return CallToolResult(content=[text(answer)] if isinstance(answer, str) else [*answer])


def text(string: str) -> TextContent:
    """Return a text as content, without lone surrogates."""
    return TextContent(type="text", text=replace_surrogates(string))


def replace_surrogates(string: str) -> str:
    """Return `string` with every lone surrogate replaced; those that encode bytes are escaped if there are no others."""
    if string.isascii():
        return string
    try:
        string.encode()
    except UnicodeEncodeError:
        return string.encode("utf-8", "replace").decode() if not _is_escaped(string) else printable(string)
    return string


def _is_escaped(string: str) -> bool:
    return all(not 0xD800 <= ord(character) <= 0xDFFF or 0xDC80 <= ord(character) <= 0xDCFF for character in string)


def failure(message: str) -> CallToolResult:
    """Return an error result."""
    return CallToolResult(content=[text(message)], is_error=True)


async def _nearest_paths(tree: TreeSession, error: OSError) -> Sequence[str]:
    """Return the paths most like one that does not exist, for the calling principal; none if that fails."""
    if error.errno != errno.ENOENT or not isinstance(error.filename, str):
        return ()
    try:
        paths: Sequence[str] = await tree.call("nearest", path=error.filename)
    except (OSError, CommandError, WireError):
        return ()
    return [printable_path(Path.parse(path)) for path in paths]


def _describe_error(error: OSError, nearest: Sequence[str] = ()) -> str:
    path = one_line(str(error.filename)) if error.filename is not None else ""
    description = f"{path}: {error.strerror}" if path else str(error.strerror or error)
    if nearest:
        return f"{description}. Did you mean {' or '.join(nearest)}?"
    return f"{description}. {_REMEDIES.get(error.errno or 0, '')}".rstrip()
