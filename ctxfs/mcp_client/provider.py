"""The provider of the tools and prompts of MCP servers, by their last lists, including servers that are away.

The last lists are stored in `<store>/servers/<name>/state.json`.
"""

import hashlib
import json
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as HostPath
from typing import Any

from ctxfs.exec.approvals import Approval
from ctxfs.exec.definition import Tool, path_arguments
from ctxfs.exec.schema import fault_of
from ctxfs.mcp_client.server_status import NOT_CONNECTED, ServerStatus, server_status_from_wire
from ctxfs.mcp_client.uri_paths import DIRECTORIES, Parts, Template, document_paths, file_name, parts_of
from ctxfs.model.path import printable
from ctxfs.store.durable_file import replace_file
from ctxfs.store.settings import ServerSource

log = logging.getLogger(__name__)

RESERVED = ("status", "instructions.md", "index.md", "prompts")
PROMPTS = "prompts"
_NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}
_NOTES = "instructions.md"
_PENDING = "It has not been approved: what its server says of it, people see when they approve it"
_TIMEOUT_SECONDS = 120.0
MAX_INSTRUCTIONS_CHARACTERS = 20_000
_MAX_DESCRIPTION_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server's current state, or its last one if it is away."""

    status: ServerStatus
    instructions: str
    tools: Mapping[str, Tool]
    faults: Mapping[str, str]
    digests: Mapping[str, str]
    definitions: Mapping[str, Mapping[str, Any]]
    documents: Mapping[Parts, str]
    templates: tuple[Template, ...]
    folders: frozenset[Parts]


class McpProvider:
    """The tools of all configured servers.

    `configured` returns the configured servers. The state of each is stored in a folder of `folder`. `approved` returns
    the approvals by name: tools, prompts and notes of servers are shown with approved text only.
    """

    trusted = False

    def __init__(
        self,
        folder: HostPath,
        configured: Callable[[], Sequence[ServerSource]],
        approved: Callable[[], Mapping[str, Approval]],
    ) -> None:
        self._folder = folder
        self._approved = approved
        self._configured = configured
        self._states: dict[str, ServerState] = {}
        self._sources: dict[str, ServerSource] = {}
        self._approved_states: dict[str, tuple[ServerState, object, ServerState]] = {}
        self._merged: tuple[tuple[ServerState, ...], tuple[Mapping[str, Tool], Mapping[str, str]]] | None = None

    def states(self) -> Mapping[str, ServerState]:
        """Return the state of each configured server, by name."""
        states = {}
        for source in self._configured():
            if source.name not in self._states or self._sources.get(source.name) != source:
                self._sources[source.name] = source
                self._states[source.name] = _parse_state(source, self._load_lists(source.name))
            states[source.name] = self._states[source.name]
        return states

    def approved_states(self) -> Mapping[str, ServerState]:
        """Return the states with approved text only; the same objects while nothing changes."""
        approved, states = self._approved(), {}
        for name, state in self.states().items():
            cached = self._approved_states.get(name)
            if cached is None or cached[0] is not state or cached[1] is not approved:
                self._approved_states[name] = cached = state, approved, _apply_approvals(state, name, approved)
            states[name] = cached[2]
        return states

    def update(self, state: Mapping[str, Any]) -> bool:
        """Store the state that a server's connection reported; return True if its tools or documents have changed.

        Blocks.
        """
        name = str(state["name"])
        source = next((server for server in self._configured() if server.name == name), None)
        if source is None:
            return False
        before, status = self.states().get(name), server_status_from_wire(state["status"])
        lists = {key: value for key, value in state.items() if key != "status"}
        if _is_empty(lists) and before is not None:  # it has not listed anything yet
            self._states[name] = replace(before, status=status)
            return False
        current = self._states[name] = _parse_state(source, lists, status)
        same = before is not None and (before.digests, before.documents) == (current.digests, current.documents)
        if not same or not (self._folder / name / "state.json").exists():
            (self._folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self._folder / name / "state.json", json.dumps(lists).encode("utf-8", "replace"), 0o600)
        return not same

    def set_all_statuses(self, status: ServerStatus) -> None:
        """Set the status of all servers, because their process has ended."""
        for name, state in self.states().items():
            self._states[name] = replace(state, status=status)

    def resources_folder(self, name: str) -> HostPath:
        """Return the host folder with a server's documents."""
        return self._folder / name / "resources"

    # the protocol `ToolProvider`

    def tools(self) -> tuple[Mapping[str, Tool], Mapping[str, str]]:
        """Return the tools of all servers with approved text, merged again when the state of one changes."""
        states = tuple(self.approved_states().values())
        if (
            self._merged is None
            or len(self._merged[0]) != len(states)
            or any(map(operator.is_not, self._merged[0], states))
        ):
            tools = {name: tool for state in states for name, tool in state.tools.items()}
            faults = {name: fault for state in states for name, fault in state.faults.items()}
            self._merged = states, (tools, faults)
        return self._merged[1]

    def digest(self, tool: Tool) -> str:
        """Return the sha256 over a tool's definition and over the identity of its server."""
        return self.states()[tool.server].digests[tool.name]

    def definition(self, tool: Tool) -> Mapping[str, Any]:
        """Return the definition as the server lists it."""
        return self.states()[tool.server].definitions[tool.name]

    def _load_lists(self, name: str) -> Mapping[str, Any]:
        try:
            value = json.loads((self._folder / name / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("the stored state of server %s cannot be read: %s", name, error)
            return {}
        return value if isinstance(value, dict) else {}


def _is_empty(lists: Mapping[str, Any]) -> bool:
    return not any(lists.get(key) for key in ("tools", "prompts", "resources", "templates", "instructions"))


def _parse_state(source: ServerSource, lists: Mapping[str, Any], status: ServerStatus = NOT_CONNECTED) -> ServerState:
    tools: dict[str, Tool] = {}
    faults: dict[str, str] = {}
    digests: dict[str, str] = {}
    definitions: dict[str, Mapping[str, Any]] = {}
    for name, why in lists.get("left_out", {}).items():
        faults[f"{source.name}/{name}"] = f"{source.name}: {printable(name)}: {why}"
    identity = json.dumps([source.command, source.url], ensure_ascii=False)
    for kind, make in (("tools", _make_tool), ("prompts", _make_prompt)):
        for entry in lists.get(kind, ()):
            called = str(entry.get("name", ""))
            path = f"{source.name}/{PROMPTS}/{file_name(called)}" if kind == "prompts" else ""
            path = path or f"{source.name}/{file_name(called, RESERVED)}"
            if path in tools:
                faults[path] = f"tool '{printable(path)}': the server names two so"
                continue
            try:
                tools[path] = make(path, source.name, called, entry)
            except (ValueError, TypeError, AttributeError) as error:
                faults[path] = f"tool '{printable(path)}': {error}"
                continue
            definitions[path] = entry
            payload = json.dumps(entry, sort_keys=True, ensure_ascii=False)
            digests[path] = hashlib.sha256(f"{identity}\0{payload}".encode("utf-8", "surrogatepass")).hexdigest()
    resources = [entry for entry in lists.get("resources", ()) if entry.get("uri")]
    documents = document_paths(str(entry["uri"]) for entry in resources if entry.get("mimeType") not in DIRECTORIES)
    folders = frozenset(parts_of(str(entry["uri"])) for entry in resources if entry.get("mimeType") in DIRECTORIES)
    written = [str(entry.get("uriTemplate", "")) for entry in lists.get("templates", ())]
    templates = tuple(map(Template, written))
    instructions = printable(str(lists.get("instructions") or ""))[:MAX_INSTRUCTIONS_CHARACTERS]
    if instructions or written:
        path, notes = f"{source.name}/{_NOTES}", {"instructions": instructions, "templates": written}
        description = f"What the server says beside its tools; {len(written)} templates"
        tools[path] = Tool(path, description, _NOTHING, server=source.name, called=_NOTES, is_note=True)
        definitions[path] = notes
        payload = json.dumps(notes, sort_keys=True, ensure_ascii=False)
        digests[path] = hashlib.sha256(f"{identity}\0{payload}".encode("utf-8", "surrogatepass")).hexdigest()
    return ServerState(status, instructions, tools, faults, digests, definitions, documents, templates, folders)


def _apply_approvals(state: ServerState, server: str, approved: Mapping[str, Approval]) -> ServerState:
    """Return a state with every tool in its approved form, and without text for tools that are not approved."""
    tools = {}
    for name, tool in state.tools.items():
        approval = approved.get(name)
        if approval is not None and (tool.is_note or approval.digest == state.digests[name]):
            tools[name] = tool
        elif approval is not None:
            tools[name] = _rebuild(tool, approval.definition)
        else:
            tools[name] = _without_words(tool)
    notes = approved.get(f"{server}/{_NOTES}")
    definition: Mapping[str, Any] = notes.definition if notes is not None else {}
    templates = definition.get("templates")
    return replace(
        state,
        tools=tools,
        instructions=str(definition.get("instructions") or ""),
        templates=tuple(Template(str(template)) for template in (templates if isinstance(templates, list) else ())),
    )


def _rebuild(tool: Tool, definition: Mapping[str, Any]) -> Tool:
    try:
        return (_make_prompt if tool.is_prompt else _make_tool)(tool.name, tool.server, tool.called, definition)
    except (ValueError, TypeError, AttributeError, KeyError):
        return _without_words(tool)


def _without_words(tool: Tool) -> Tool:
    return Tool(
        tool.name,
        _PENDING,
        _NOTHING,
        server=tool.server,
        called=tool.called,
        is_prompt=tool.is_prompt,
        is_note=tool.is_note,
        is_pending=True,
    )


def _make_tool(path: str, server: str, called: str, entry: Mapping[str, Any]) -> Tool:
    schema = entry.get("inputSchema") or {"type": "object"}
    output = entry.get("outputSchema")
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise ValueError("its input schema is not one of an object")
    if not isinstance(schema.get("properties", {}), dict):
        raise ValueError("the properties of its input schema are no object")
    if fault := fault_of(schema):
        raise ValueError(f"its input schema is none: {fault}")
    if output is not None and (not isinstance(output, dict) or fault_of(output)):
        raise ValueError("its output schema is none")
    hints = entry.get("annotations") or {}
    read_only = hints.get("readOnlyHint") is True
    return Tool(
        path,
        _description(entry, called),
        {**schema, "type": "object", "properties": schema.get("properties", {})},
        read_only=read_only,
        destructive=not read_only and hints.get("destructiveHint") is not False,
        open_world=hints.get("openWorldHint") is not False,
        timeout_seconds=_TIMEOUT_SECONDS,
        paths=path_arguments(schema),
        output_schema=output,
        server=server,
        called=called,
    )


def _make_prompt(path: str, server: str, called: str, entry: Mapping[str, Any]) -> Tool:
    """Return a prompt as a tool: it is read-only, and its arguments are strings."""
    arguments = entry.get("arguments") or []
    properties = {
        str(argument["name"]): {"type": "string", "description": str(argument.get("description") or "")}
        for argument in arguments
    }
    required = [str(argument["name"]) for argument in arguments if argument.get("required")]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    described = _description(entry, called)
    return Tool(
        path,
        described,
        schema,
        read_only=True,
        destructive=False,
        open_world=False,
        timeout_seconds=_TIMEOUT_SECONDS,
        server=server,
        called=called,
        is_prompt=True,
    )


def _description(entry: Mapping[str, Any], called: str) -> str:
    text = str(entry.get("description") or entry.get("title") or called).strip()
    return printable(text)[:_MAX_DESCRIPTION_CHARACTERS] or "It says nothing of itself"
