"""tools/<tool>/: what a tool is for (README.md, tool.json), and what came of calling it (calls/<id>/); tools/index.md: a line a tool.

Looking runs nothing. Whoever may not see everything sees their own calls.
"""

import errno
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ctxfs.exec.calls import FILES, RESULT, STDERR, TEXT, Calls
from ctxfs.exec.catalog import Offered
from ctxfs.exec.definition import Tool
from ctxfs.model.entry import Entry, directory, snapshot
from ctxfs.model.errors import not_found, path_error
from ctxfs.model.metadata import PREFIX
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.threads import blocking

_INDEX, _README, _DEFINITION, _CALLS = "index.md", "README.md", "tool.json", "calls"


class ToolsMount(Mount):
    """A directory a tool. `restricted`: who acts, if they may not see everything, else an empty text; `sees`: a tool of this name."""

    sealed = True

    def __init__(
        self, calls: Calls, restricted: Callable[[], str], sees: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._calls = calls
        self._sees = sees
        self._restricted = restricted

    async def stat(self, path: Path) -> Entry:
        """Sizes are those of a read."""
        return await blocking(self._stat, path)

    async def list(self, path: Path) -> Sequence[Entry]:
        """index.md and the tools; what a tool has; its calls; what is kept of one."""
        return await blocking(self._list, path)

    async def read(self, path: Path) -> bytes:
        """A file, made now or as it was kept."""
        if (await self.stat(path)).is_dir:
            raise path_error(errno.EISDIR, path)
        return await blocking(self._read, path)

    async def metadata(self, path: Path) -> Mapping[str, bytes]:
        """What a tool has said is not to be trusted, and says where it is from."""
        await self.stat(path)
        if len(path.parts) != 4 or path.name not in (TEXT, STDERR):
            return {}
        return {f"{PREFIX}trust": b"untrusted", f"{PREFIX}source": f"tools/{path.parts[0]}".encode()}

    def _stat(self, path: Path) -> Entry:
        match path.parts:
            case ():
                return directory("")
            case (name,) if name != _INDEX:
                self._check(name)
                return directory(name)
            case (name, each) if each == _CALLS:
                self._check(name)
                return directory(each)
            case (name, calls, number) if calls == _CALLS:
                self._check(name)
                if number not in self._numbers(name):
                    raise not_found(path)
                return directory(number)
            case _:
                return snapshot(path.name, self._read(path))

    def _list(self, path: Path) -> Sequence[Entry]:
        match path.parts:
            case ():
                names = self._calls.catalog.tools()[0]
                return [self._stat(ROOT / _INDEX), *(directory(name) for name in names)]
            case (name,) if name != _INDEX:
                self._stat(path)
                return [self._stat(path / each) for each in (_README, _CALLS, _DEFINITION)]
            case (name, calls) if calls == _CALLS:
                self._stat(path)
                return [directory(number) for number in self._numbers(name)]
            case (_, calls, _) if calls == _CALLS:
                self._stat(path)
                return [self._stat(path / each) for each in FILES]
            case _:
                self._stat(path)
                raise path_error(errno.ENOTDIR, path)

    def _read(self, path: Path) -> bytes:
        match path.parts:
            case (each,) if each == _INDEX:
                seen = [tool for name, tool in self._calls.catalog.tools()[0].items() if self._sees(name)]
                return _index(seen).encode("utf-8", "replace")
            case (name, each) if each == _README:
                return _readme(self._calls.catalog.find(name)).encode("utf-8", "replace")
            case (name, each) if each == _DEFINITION:
                return _json(self._calls.catalog.find(name).tool.record)
            case (name, calls, number, each) if calls == _CALLS and number in self._numbers(name):
                return self._calls.read(name, number, each)
            case _:
                raise not_found(path)

    def _check(self, name: str) -> None:
        """ENOENT for no tool."""
        if name not in self._calls.catalog.tools()[0]:
            raise not_found(f"tools/{name}")

    def _numbers(self, tool: str) -> Sequence[str]:
        kept, who = self._calls.kept(tool), self._restricted()
        return [number for number in kept if not who or self._whose(tool, number) == who]

    def _whose(self, tool: str, number: str) -> str:
        try:
            return str(json.loads(self._calls.read(tool, number, RESULT))["principal"])
        except (OSError, ValueError, KeyError):
            return ""


def _index(tools: Iterable[Tool]) -> str:
    lines = [f"- {tool.name}: {tool.description}" for tool in tools]
    return "\n".join(
        ["# Tools", "", "Read `tools/<tool>/README.md` before you use one.", "", *(lines or ["None."]), ""]
    )


def _readme(offered: Offered) -> str:
    tool = offered.tool
    required = set(tool.schema.get("required", ()))
    arguments = [
        f"| `{name}` | {_kind(schema)}{'' if name in required else ', optional'} | {schema.get('description', '')} |"
        for name, schema in tool.schema["properties"].items()
    ]
    does = "changes nothing" if tool.read_only else "cannot be taken back" if tool.destructive else "changes something"
    lines = [f"# {tool.name}", "", f"{tool.description}. What it does {does}."]
    lines += ["", "| argument | | |", "|---|---|---|", *arguments] if arguments else ["", "It takes no arguments."]
    lines += ["", f"In a shell: `ctxfs tools run {tool.name} --json '{{…}}'`; over MCP: `ctx_exec`."]
    return "\n".join([*lines, *(["", f"It does not run: {offered.refusal}."] if offered.refusal else []), ""])


def _kind(schema: Mapping[str, Any]) -> str:
    if schema.get("x-ctx"):
        return "a path of the tree"
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    return str(schema.get("type", "anything"))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")
