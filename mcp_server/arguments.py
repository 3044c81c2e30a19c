"""One grammar over the arguments of the tools: other names of an argument, and values in another form. Pure.

Models carry names over from the tools that they know: `file_path` for `path`, `old_string` for `old`. These are accepted
and not listed, because each listed name costs every client its tokens.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ctxfs.model.path import printable

Schema = Mapping[str, Any]
_MAX_NAME_CHARACTERS = 100
_MAX_DEPTH = 3  # of schemas: a list of objects
_INTEGER = re.compile(r"[+-]?[0-9]{1,15}(?:\.0{1,9})?", re.ASCII)
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_PATHS = "file_path filepath file filename file_name directory dir folder paths file_paths files uri address"
# Other names of an argument, in a tool that has the argument, and no other argument of that name.
_ALIASES: Mapping[str, Sequence[str]] = {
    name: aliases.split()
    for name, aliases in {
        "path": f"{_PATHS} source_path source src from old_path",
        "below": f"path {_PATHS} within",
        "query": "q question task text pattern prompt search search_query",
        "mode": "kind action command operation search_type search_mode",
        "kind": "type",
        "limit": "max_results num_results results top_k k n count max lines",
        "offset": "start start_line first first_line",
        "content": "file_text text contents data body",
        "file_text": "content text contents",
        "edits": "edit changes replacements",
        "old": "old_str old_string old_text search find",
        "new": "new_str new_string new_text replace replacement",
        "all": "replace_all",
        "old_str": "old_string old_text old",
        "new_str": "new_string new_text new",
        "insert_line": "line",
        "insert_text": "text content",
        "text": "content message line_text",
        "to": "new_path destination dest target target_path",
        "new_path": "to destination",
        "replace": "overwrite",
        "tool": "name tool_name",
        "arguments": "args input parameters params",
        "budget": "max_tokens tokens token_budget",
        "max_tokens": "tokens token_limit",
        "depth": "max_depth levels",
        "at": "revision version",
        "if_revision": "revision expected_revision",
        "because": "reason why",
        "dry_run": "preview",
        "cursor": "page_token next_cursor",
    }.items()
}


class ArgumentError(ValueError):
    """Arguments that cannot be understood; the message has the accepted names."""


def normalize(schema: Schema, arguments: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return the arguments under the names of the schema, with values of its types where they can be understood.

    Raise ArgumentError for an unknown name, and for two names of one argument with different values.
    """
    properties: Mapping[str, Schema] = schema.get("properties", {})
    canonical = _names_of(properties)
    normalized, sources = dict[str, Any](), dict[str, str]()
    for given, value in _with_edits(properties, canonical, arguments).items():
        name = given if given in properties else canonical.get(_fold(given))
        if name is None:
            raise ArgumentError(f"unknown argument {_quote(given)}{_suggest(given, canonical)} {_list(properties)}")
        if value is None:
            continue  # clients send null for arguments that are left out
        value = _coerce(properties[name], value, depth)
        if name in normalized and normalized[name] != value:
            names = f"{_quote(sources[name])} and {_quote(given)}"
            raise ArgumentError(f"{names} are one argument, '{name}', with two values: give one of them")
        normalized[name], sources[name] = value, given
    return normalized


def suggest_tool(name: str, names: Sequence[str]) -> str:
    """Return a question with the tool names most like an unknown one, or a sentence with all names."""
    folded = _fold(name)
    own = {tool.removeprefix("ctx_"): tool for tool in names} | {tool: tool for tool in names}
    similar = difflib.get_close_matches(folded, own, 3, 0.7)
    candidates = list(dict.fromkeys(own[match] for match in similar))
    return f"did you mean {' or '.join(map(repr, candidates))}?" if candidates else f"Tools: {', '.join(names)}"


def _names_of(properties: Mapping[str, Schema]) -> dict[str, str]:
    """Return the accepted names of arguments with their names in the schema."""
    names = {name: name for name in properties}
    for name in properties:
        for alias in _ALIASES.get(name, ()):
            names.setdefault(alias, name)
    return names


def _with_edits(
    properties: Mapping[str, Schema], canonical: Mapping[str, str], arguments: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the arguments with the members of a single edit, given beside the path, as a list of edits."""
    edit = properties.get("edits", {}).get("items", {}).get("properties", {})
    if not edit or any(canonical.get(_fold(name)) == "edits" for name in arguments):
        return arguments
    members = _names_of(edit)
    single = {name: value for name, value in arguments.items() if name not in canonical and _fold(name) in members}
    if not single:
        return arguments
    return {**{name: value for name, value in arguments.items() if name not in single}, "edits": [single]}


def _fold(name: str) -> str:
    """Return a name as the schemas spell them: `filePath` and `file-path` are `file_path`."""
    name = name[:_MAX_NAME_CHARACTERS].replace("-", "_")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _coerce(schema: Schema, value: Any, depth: int) -> Any:
    """Return a value in the type of its schema; a value that cannot be understood stays, and fails the validation."""
    choices = schema.get("anyOf", [schema])
    if not isinstance(value, str):
        return _coerce_value(choices, value, depth)
    text = value.strip()
    for choice in choices:
        kind = choice.get("type")
        if kind == "integer" and _INTEGER.fullmatch(text):
            return int(text.partition(".")[0])
        if kind == "boolean" and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if kind in ("array", "object") and (parsed := _parse_json(text, choice)) is not None:
            return _coerce_value([choice], parsed, depth)
        if kind == "array" and len(choices) == 1:
            return _coerce_value([choice], _split(text, choice), depth)
    matches = [member for choice in choices for member in choice.get("enum", ()) if member == text.lower()]
    return matches[0] if matches else value


def _coerce_value(choices: Sequence[Schema], value: Any, depth: int) -> Any:
    kinds = {choice.get("type"): choice for choice in choices}
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and set(kinds) == {"string"}:
        return str(value)
    if depth >= _MAX_DEPTH:
        return value
    if isinstance(value, dict) and "array" in kinds and "object" not in kinds:
        value = [value]
    if isinstance(value, list) and "array" in kinds:
        item = kinds["array"].get("items", {})
        return [_coerce(item, member, depth + 1) for member in value]
    if isinstance(value, dict) and "properties" in kinds.get("object", {}):
        return normalize(kinds["object"], value, depth + 1)
    return value


def _parse_json(text: str, schema: Schema) -> Any:
    """Return a list or an object that a client sent as JSON in a string; None if the string is something else."""
    kind = list if schema.get("type") == "array" else dict
    is_item = kind is list and schema.get("items", {}).get("type") == "object" and text.startswith("{")
    if not text.startswith("[" if kind is list else "{") and not is_item:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict if is_item else kind) else None


def _split(text: str, schema: Schema) -> list[str]:
    """Return the members of a list in one string: of numbers between commas, else the string as its only member."""
    is_numbers = schema.get("items", {}).get("type") == "integer"
    return [part for part in re.split(r"[\s,:-]+", text) if part] if is_numbers else [text]


def _suggest(name: str, canonical: Mapping[str, str]) -> str:
    similar = difflib.get_close_matches(_fold(name), canonical, 1, 0.6)
    return f": did you mean '{canonical[similar[0]]}'?" if similar else "."


def _list(properties: Mapping[str, Schema]) -> str:
    return f"Arguments: {', '.join(properties) or 'none'}"


def _quote(name: str) -> str:
    return f"'{printable(name.encode('utf-8', 'replace').decode())[:_MAX_NAME_CHARACTERS]}'"
