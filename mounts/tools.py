"""The mount tools/<tool>/: description (README.md, tool.json), two ways to call (run, call), and results (calls/<id>/).

tools/index.md has a line a tool. A server's tools are in a directory of its own,
tools/<server>/{status,instructions.md, index.md,<tool>/…}, and its prompts in tools/<server>/prompts/. Reads run no
tool. A principal that may not see everything sees its own calls only.
"""

import errno
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path as HostPath
from typing import Any, Protocol

from ctxfs.exec.call_store import ARGS, RESULT
from ctxfs.exec.calls import Calls
from ctxfs.exec.definition import Tool
from ctxfs.exec.registry import ToolOffer
from ctxfs.mcp_client.provider import ServerState
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.policy.scope import RestrictedScope
from ctxfs.threads import blocking

_INDEX, _README, _DEFINITION, _RUN, _CALL, _CALLS = "index.md", "README.md", "tool.json", "run", "call", "calls"
_FILES = (_README, _CALL, _DEFINITION, _RUN)
_RENDER, _PROMPTS = "render", "prompts"
_STATUS, _INSTRUCTIONS = "status", "instructions.md"
_SCRIPT = HostPath(__file__).parent.parent / "exec" / "run_script.py"
_MAX_LINE_CHARS = 80
_CALL_USAGE = b"""Write the arguments here as JSON, then read the answer on the same handle. In a shell:
  exec 3<>call; echo '{}' >&3; cat <&3
"""


class ToolVisibility(Protocol):
    """The tools and servers that exist for the calling principal."""

    def sees(self, name: str) -> bool:
        """Return True if a tool or a server of this name exists for the calling principal."""
        ...

    def states(self) -> Mapping[str, ServerState]:
        """Return the servers by name, with approved text only."""
        ...


class ToolsMount(Mount):
    """A mount with a directory for each tool and each server."""

    sealed = True

    def __init__(self, calls: Calls, tools: ToolVisibility, scope: RestrictedScope) -> None:
        self._calls = calls
        self._visibility = tools
        self._scope = scope

    async def stat(self, path: Path) -> Entry:
        """Return an entry whose size is that of a read."""
        # Definitions are in memory, and a few stats of the store's own folders cost less than a thread.
        return await blocking(self._stat, path) if _CALLS in path.parts else self._stat(path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """Return index.md, the tools and the servers; or the files of a tool, its calls, or the files of a call."""
        return await blocking(self._list, path)

    async def read(self, path: Path) -> bytes:
        """Return a file, generated or stored."""
        return await blocking(self._read, path) if _CALLS in path.parts else self._read(path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """Return the mark `untrusted` and the source of content from a tool or a server."""
        await self.stat(path)
        tool, rest = self._split_tool(path)
        is_result = tool is not None and len(rest) == 3 and rest[2] not in (ARGS, RESULT)
        if not is_result and not (
            path.parts and path.parts[0] in self._visibility.states() and path.name not in (_RUN, _CALL)
        ):
            return {}
        source = f"tools/{tool.name if tool else path.parts[0]}"
        return {f"{PREFIX}trust": b"untrusted", f"{PREFIX}source": source.encode("utf-8", "replace")}

    # paths

    def _split_tool(self, path: Path) -> tuple[Tool | None, tuple[str, ...]]:
        """Return the tool that a path is in (None outside of tools), and the rest of the path."""
        tools = self._calls.registry.tools()[0]
        for depth in range(1, min(len(path.parts), 3) + 1):
            tool = tools.get("/".join(path.parts[:depth]))
            if tool is not None and _is_shown(tool):
                return tool, path.parts[depth:]
        return None, path.parts

    def _stat(self, path: Path) -> Entry:
        tool, rest = self._split_tool(path)
        if tool is None:
            if not path.parts or self._is_group(path.parts):
                return directory(path.name)
            return snapshot(path.name, self._read_outside(path.parts, path))
        match rest:
            case ():
                return directory(path.name)
            case (name,) if name == _CALLS and not tool.is_prompt:
                return directory(name)
            case (calls, number) if calls == _CALLS and self._has_call(tool, number):
                return directory(number)
            case (name,) if name == _CALL:
                offer = self._calls.registry.find(tool.name)
                may_call = self._calls.may_call(tool, offer.refusal)
                return Entry(name, "file", size=len(_CALL_USAGE), mode=0o666 if may_call else 0o444, answers=True)
            case (name,) if name == _program(tool):
                return snapshot(name, _script(), mode=0o555)
            case _:
                return snapshot(path.name, self._read_tool(tool, rest, path))

    def _list(self, path: Path) -> Sequence[Entry]:
        tool, rest = self._split_tool(path)
        if tool is None:
            return self._list_outside(path)
        match rest:
            case ():
                names = [_program(tool) if name == _RUN else name for name in _FILES]
                calls = [] if tool.is_prompt else [directory(_CALLS)]
                return [*calls, *(self._stat(path / name) for name in names)]
            case (calls,) if calls == _CALLS and not tool.is_prompt:
                return [directory(number) for number in self._numbers(tool)]
            case (calls, number) if calls == _CALLS and self._has_call(tool, number):
                return [self._stat(path / name) for name in self._calls.store.files(tool.name, number)]
            case _:
                self._stat(path)
                raise path_error(errno.ENOTDIR, path)

    def _read(self, path: Path) -> bytes:
        tool, rest = self._split_tool(path)
        try:
            return self._read_outside(path.parts, path) if tool is None else self._read_tool(tool, rest, path)
        except FileNotFoundError:
            if self._stat(path).is_dir:
                raise path_error(errno.EISDIR, path) from None
            raise

    # index and servers

    def _is_group(self, parts: tuple[str, ...]) -> bool:
        groups = self._visibility.states()
        return parts[0] in groups and (len(parts) == 1 or (parts[1:] == (_PROMPTS,) and bool(self._tools_in(parts))))

    def _tools_in(self, parts: Sequence[str]) -> Sequence[str]:
        """Return the names of the tools directly in a directory."""
        start = "".join(f"{part}/" for part in parts)
        tools = self._calls.registry.tools()[0]
        names = (name[len(start) :] for name, tool in tools.items() if name.startswith(start) and _is_shown(tool))
        return [name for name in names if "/" not in name]

    def _list_outside(self, path: Path) -> Sequence[Entry]:
        groups = self._visibility.states()
        if not path.parts:
            entries = [self._stat(ROOT / _INDEX), *(directory(name) for name in (*self._tools_in(()), *groups))]
            return sorted(entries, key=lambda entry: entry.name)
        if not self._is_group(path.parts):
            self._stat(path)
            raise path_error(errno.ENOTDIR, path)
        entries = [directory(name) for name in self._tools_in(path.parts)]
        if len(path.parts) == 1:
            files = [_INDEX, _STATUS, *([_INSTRUCTIONS] if groups[path.name].instructions else [])]
            entries += [self._stat(path / name) for name in files]
            if self._tools_in((*path.parts, _PROMPTS)):
                entries.append(directory(_PROMPTS))
        return sorted(entries, key=lambda entry: entry.name)

    def _read_outside(self, parts: tuple[str, ...], path: Path) -> bytes:
        groups = self._visibility.states()
        match parts:
            case (file,) if file == _INDEX:
                return self._index(groups).encode("utf-8", "replace")
            case (name, file) if name in groups and file == _INDEX:
                visible = [tool for tool in self._tools() if tool.server == name and self._visibility.sees(tool.name)]
                return _server_index(name, visible).encode("utf-8", "replace")
            case (name, file) if name in groups and file == _STATUS:
                return f"{groups[name].status.text}\n".encode("utf-8", "replace")
            case (name, file) if name in groups and file == _INSTRUCTIONS and groups[name].instructions:
                return f"{groups[name].instructions.rstrip()}\n".encode("utf-8", "replace")
            case _:
                raise not_found(path)

    def _tools(self) -> Iterable[Tool]:
        return filter(_is_shown, self._calls.registry.tools()[0].values())

    def _index(self, groups: Mapping[str, ServerState]) -> str:
        visible = [tool for tool in self._tools() if self._visibility.sees(tool.name)]
        lines = [f"- {tool.name}: {tool.description}" for tool in visible if not tool.server]
        for name in groups:
            count = sum(tool.server == name and not tool.is_prompt for tool in visible)
            if self._visibility.sees(name):
                lines.append(
                    f"- {name}/: a server with {count} tools ({groups[name].status.phase.value}): tools/{name}/index.md"
                )
        head = ["# Tools", "", "Read `tools/<tool>/README.md` before you use one.", ""]
        return "\n".join([*head, *(lines or ["None."]), ""])

    # files of a tool

    def _read_tool(self, tool: Tool, rest: tuple[str, ...], path: Path) -> bytes:
        match rest:
            case (name,) if name == _README:
                offer = self._calls.registry.find(tool.name)
                return _render_readme(offer).encode("utf-8", "replace")
            case (name,) if name == _DEFINITION:
                return _json(tool.record)
            case (name,) if name == _program(tool):
                return _script()
            case (name,) if name == _CALL:
                return _CALL_USAGE
            case (calls, number, name) if calls == _CALLS and self._has_call(tool, number):
                return self._calls.store.read(tool.name, number, name)
            case _:
                raise not_found(path)

    def _numbers(self, tool: Tool) -> Sequence[str]:
        return [] if tool.is_prompt else self._calls.store.call_ids(tool.name, self._scope.restricted_principal())

    def _has_call(self, tool: Tool, number: str) -> bool:
        return not tool.is_prompt and self._calls.store.has(tool.name, number, self._scope.restricted_principal())


def _is_shown(tool: Tool) -> bool:
    """Return False for a tool that is not approved, because even its name is the server's text."""
    return not (tool.is_note or tool.is_pending)


def _program(tool: Tool) -> str:
    return _RENDER if tool.is_prompt else _RUN


@cache
def _script() -> bytes:
    """Return the program `run`, the same for every tool: it derives the tool from its own path."""
    interpreter = sys.executable
    if len(os.fsencode(interpreter)) > 100 or " " in interpreter:
        interpreter = "/usr/bin/env python3"
        return f"#!{interpreter}\n".encode() + _SCRIPT.read_bytes()
    return f"#!{interpreter} -IS\n".encode() + _SCRIPT.read_bytes()


def _server_index(name: str, tools: Sequence[Tool]) -> str:
    lines = [f"- {_summary_line(tool)}" for tool in tools if not tool.is_prompt]
    prompts = [f"- prompts/{_summary_line(tool)}" for tool in tools if tool.is_prompt]
    head = [f"# {name}", "", f"Read `tools/{name}/<tool>/README.md` before you use one.", ""]
    return "\n".join([*head, *(lines or ["No tools."]), *(["", *prompts] if prompts else []), ""])


def _summary_line(tool: Tool) -> str:
    """Return `name: purpose`, cut at a word, because a server's description may be long."""
    words = " ".join(tool.description.split())
    sentence = words.partition(". ")[0]
    if len(sentence) > _MAX_LINE_CHARS:
        sentence = sentence[:_MAX_LINE_CHARS].rsplit(" ", 1)[0] + " …"
    return f"{tool.name.rsplit('/', 1)[-1]}: {sentence}"


def _render_readme(offer: ToolOffer) -> str:
    tool = offer.tool
    required = set(tool.schema.get("required", ()))
    properties = tool.schema.get("properties", {})
    arguments = [
        f"| `{name}` | {_type_name(schema)}{'' if name in required else ', optional'} | {_table_cell(schema)} |"
        for name, schema in properties.items()
    ]
    purpose = tool.description.rstrip(".")
    effect = (
        "changes nothing" if tool.read_only else "cannot be taken back" if tool.destructive else "changes something"
    )
    lines = [f"# {tool.name}", "", f"{purpose}." + ("" if tool.is_prompt else f" What it does {effect}.")]
    lines += ["", "| argument | | |", "|---|---|---|", *arguments] if arguments else ["", "It takes no arguments."]
    lines += ["", f"In a shell: `tools/{tool.name}/{_program(tool)} --help`, here in the tree"]
    lines[-1] += "." if tool.is_prompt else f"; `ctxfs tools run {tool.name} --json '{{…}}'`; over MCP: `ctx_exec`."
    return "\n".join([*lines, *(["", f"It does not run: {offer.refusal}."] if offer.refusal else []), ""])


def _table_cell(schema: object) -> str:
    description = str(schema.get("description", "")) if isinstance(schema, dict) else ""
    return " ".join(description.replace("|", "\\|").split())


def _type_name(schema: object) -> str:
    if not isinstance(schema, dict):
        return "anything"
    if schema.get("x-ctx"):
        return "a path of the tree"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    return str(schema.get("type", "anything"))


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")
