"""The definition of a tool by its `tool.toml`, validated. Pure.

```toml
description = "Ask CSV, JSON and SQLite by SQL"     # one line
command = ["python3", "run.py"]                     # in the tool's folder; arguments are JSON on stdin
read_only = true                                    # it changes nothing outside itself
destructive = false                                 # its effects cannot be undone
open_world = false                                  # it reaches beyond this machine
setting = "fetch_hosts"                             # of built-in tools: the setting of ctxfs.toml that it needs
timeout_seconds = 60
memory_mb = 1024
output_bytes = 10000000

[output]                                            # JSON Schema of its output, if that is JSON
[input]                                             # JSON Schema of the arguments
required = ["file"]
[input.properties.file]
type = "string"
x-ctx = "file"                                      # a path of the tree: the tool gets a copy that the caller may read;
                                                    # "folder": its host path; "version", of x-ctx-of = "file": the
                                                    # content of that file in a version
x-ctx-text = true                                   # a text in any charset is converted to UTF-8
```
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctxfs.exec.schema import fault_of
from ctxfs.model.errors import CommandError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
MANIFEST = "tool.toml"
_PATH_KINDS = ("file", "folder", "version")
REPOSITORY = "repository"  # x-ctx-of of a folder argument: the .git of its repository is bound into the sandbox, too
_KEYS = frozenset(
    "description command read_only destructive open_world timeout_seconds memory_mb output_bytes input output setting".split()
)
_MAX_DESCRIPTION_CHARACTERS = 300
_MAX_TIMEOUT_SECONDS = 3600.0
_MAX_MEMORY_MB = 65_536
_MAX_OUTPUT_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class PathArgument:
    """An argument that is a path of the tree, or a version of one.

    For a `file` the tool gets the path of a copy, for a `version` the path of a copy of the file in the argument `of`
    at that version. For a `folder`, all of which the caller may read, it gets the host path. If it `is_text`,
    a copy of a text is in UTF-8.
    """

    name: str
    kind: str
    of: str = ""
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that is called by its `name`, which is its path below tools/.

    A program has a `command`, and a host `folder` with its files. A tool of an MCP server has the name of that
    `server`, and `called`, its name there. `builtin` tools come with ctxfs and need no approval. A tool with a
    `setting` is off while that key of [tools] in ctxfs.toml is empty, and gets the value as an environment variable. A
    tool with `is_note` is the text that a server publishes beside its tools; it is approved like a tool and never run.
    A tool with `is_pending` is not approved, and contains none of the provider's text.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    folder: str = ""
    command: tuple[str, ...] = ()
    read_only: bool = False
    destructive: bool = True
    open_world: bool = True
    timeout_seconds: float = 60.0
    memory_mb: int = 1024
    output_bytes: int = 10_000_000
    builtin: bool = False
    paths: tuple[PathArgument, ...] = ()
    output_schema: Mapping[str, Any] | None = None
    server: str = ""
    called: str = ""
    setting: str = ""
    is_prompt: bool = False
    is_function: bool = False
    is_note: bool = False
    is_pending: bool = False

    @property
    def is_harmless(self) -> bool:
        """Return True if read permission suffices to run the tool: it changes nothing and reaches no other machine."""
        return self.read_only and not self.open_world

    @property
    def record(self) -> dict[str, Any]:
        """Return tool.json: name, description, schemas and annotations with the keys of MCP."""
        return {
            "name": self.name,
            "description": self.description,
            "inputSchema": dict(self.schema),
            **({"outputSchema": dict(self.output_schema)} if self.output_schema is not None else {}),
            "annotations": {
                "readOnlyHint": self.read_only,
                "destructiveHint": self.destructive,
                "openWorldHint": self.open_world,
            },
        }


def parse_tool(name: str, folder: str, data: Mapping[str, Any], *, builtin: bool = False) -> Tool:
    """Return the tool in a folder of this name. Raise CommandError with the fault of its tool.toml."""
    if not NAME.fullmatch(name):
        raise _fault(name, "a tool's folder is named by small letters, digits, '-' and '_'")
    if unknown := set(data) - _KEYS:
        raise _fault(name, f"there is no key '{min(unknown)}'; known: {', '.join(sorted(_KEYS))}")
    description, command = data.get("description"), data.get("command")
    if (
        not isinstance(description, str)
        or not description.strip()
        or "\n" in description
        or len(description) > _MAX_DESCRIPTION_CHARACTERS
    ):
        raise _fault(name, f"description is one line of at most {_MAX_DESCRIPTION_CHARACTERS} characters")
    if not isinstance(command, list) or not command or not all(isinstance(part, str) and part for part in command):
        raise _fault(name, 'command is a list of texts, such as ["python3", "run.py"]')
    read_only = _parse_boolean(name, data, "read_only", default=False)
    schema = _parse_input(name, data.get("input", {}))
    output = data.get("output")
    if output is not None and (not isinstance(output, dict) or fault_of(output)):
        raise _fault(name, "output is no JSON Schema")
    return Tool(
        name,
        description.strip(),
        schema,
        folder,
        tuple(command),
        read_only,
        _parse_boolean(name, data, "destructive", default=not read_only),
        _parse_boolean(name, data, "open_world", default=True),
        _parse_number(name, data, "timeout_seconds", 60.0, _MAX_TIMEOUT_SECONDS),
        int(_parse_number(name, data, "memory_mb", 1024, _MAX_MEMORY_MB)),
        int(_parse_number(name, data, "output_bytes", 10_000_000, _MAX_OUTPUT_BYTES)),
        builtin,
        path_arguments(schema),
        output,
        setting=str(data.get("setting", "")),
    )


def path_arguments(schema: Mapping[str, Any]) -> tuple[PathArgument, ...]:
    """Return the arguments that are paths of the tree."""
    properties = schema.get("properties")
    items = properties.items() if isinstance(properties, dict) else ()
    return tuple(
        PathArgument(name, subschema["x-ctx"], str(subschema.get("x-ctx-of", "")), subschema.get("x-ctx-text") is True)
        for name, subschema in items
        if isinstance(subschema, dict) and subschema.get("x-ctx") in _PATH_KINDS
    )


def _parse_input(name: str, value: object) -> dict[str, Any]:
    """Return the schema of an object that accepts only the arguments that it names."""
    if not isinstance(value, dict) or value.get("type", "object") != "object":
        raise _fault(name, "input is the JSON Schema of an object")
    properties = value.get("properties", {})
    if not isinstance(properties, dict) or not all(isinstance(subschema, dict) for subschema in properties.values()):
        raise _fault(name, "input.properties is a table of schemas")
    required = value.get("required", [])
    if not isinstance(required, list) or not set(map(str, required)) <= set(properties):
        raise _fault(name, "input.required names arguments that are in input.properties")
    schema = {"additionalProperties": False, **value, "type": "object", "properties": properties}
    if fault := fault_of(schema):
        raise _fault(name, f"input is no JSON Schema: {fault}")
    return schema


def _parse_boolean(name: str, data: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = data.get(key, default)
    if not isinstance(value, bool):
        raise _fault(name, f"{key} is true or false")
    return value


def _parse_number(name: str, data: Mapping[str, Any], key: str, default: float, maximum: float) -> float:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= maximum:
        raise _fault(name, f"{key} is a number above 0 and at most {maximum:g}")
    return float(value)


def _fault(name: str, why: str) -> CommandError:
    return CommandError(f"tool '{name}': {why}", f"mend its {MANIFEST}")
