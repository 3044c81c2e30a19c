"""Python functions with type hints as tools: those that installed packages offer under the entry point `ctxfs.tools`.

```toml
[project.entry-points."ctxfs.tools"]
word-count = "mypackage.text:count_words"
```

The definition of a function is read only when a person approves it. A function runs in a process of its own, like any
program; this process imports nothing of it.
"""

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path as HostPath
from typing import Any

from ctxfs.exec.definition import Tool
from ctxfs.exec.folder_provider import Approved, read_definition, tool_from_definition
from ctxfs.model.errors import CommandError

GROUP = "ctxfs.tools"
_PROGRAM = HostPath(__file__).with_name("function_program.py")


class FunctionProvider:
    """The functions of installed packages. `approved` returns the approved definition of a function."""

    trusted = False

    def __init__(self, approved: Approved, list_functions: Callable[[], Mapping[str, str]] | None = None) -> None:
        self._approved = approved
        self._list_functions = list_functions or installed
        self._cached: tuple[object, tuple[Mapping[str, Tool], Mapping[str, str]]] | None = None
        self._cached_functions: Mapping[str, str] | None = None

    def tools(self) -> tuple[Mapping[str, Tool], Mapping[str, str]]:
        """Return (tools by name, name → reason why it is no tool).

        Entry points are listed once: a package that is installed later is seen by the next process.
        """
        stamp = tuple((name, self._approved(name)) for name in self._functions())
        if self._cached is not None and self._cached[0] == stamp:
            return self._cached[1]
        tools: dict[str, Tool] = {}
        faults: dict[str, str] = {}
        for name, function in self._functions().items():
            try:
                tool = tool_from_definition(name, self._approved(name), _command(function), str(_PROGRAM.parent))
                tools[name] = replace(tool, is_function=True)
            except CommandError as error:
                faults[name] = error.message
        self._cached = stamp, (tools, faults)
        return self._cached[1]

    def digest(self, tool: Tool) -> str:
        """Return a sha256 over the function's name and the source of its module."""
        function = self._functions()[tool.name]
        module = function.partition(":")[0]
        digest = hashlib.sha256(f"{function}\0".encode())
        digest.update(_module_file(module).read_bytes())
        return digest.hexdigest()

    def definition(self, tool: Tool) -> Mapping[str, Any]:
        """Return the function's docstring and the schema of its type hints. A separate process imports it for that."""
        return read_definition(_command(self._functions()[tool.name]), tool.name, _PROGRAM.parent)

    def _functions(self) -> Mapping[str, str]:
        if self._cached_functions is None:
            self._cached_functions = self._list_functions()
        return self._cached_functions


def installed() -> Mapping[str, str]:
    """Return name → `module:function` of the functions that packages offer."""
    entries: list[EntryPoint] = list(entry_points(group=GROUP))
    return {entry.name: entry.value for entry in sorted(entries, key=lambda entry: entry.name)}


def _command(function: str) -> list[str]:
    return [sys.executable, "-B", str(_PROGRAM), function]


def _module_file(module: str) -> HostPath:
    """Return the file of a module, found without an import. Raise CommandError."""
    parts = module.split(".")
    for folder in sys.path:
        path = HostPath(folder or ".").joinpath(*parts)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    raise CommandError(f"the module '{module}' is not where Python looks", "install its package again")
