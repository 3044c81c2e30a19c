"""The configuration formats of MCP clients: one entry of one table is read, put and removed; the rest of the text stays.

JSON and YAML are edited as text, so that every other byte stays. TOML is edited by tomlkit, which keeps comments. Each
function raises ConfigTextError for a text that it cannot edit safely.
"""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal

import tomlkit
import tomlkit.exceptions

from ctxfs.index.extract.front_matter import YamlError
from ctxfs.mcp_server.yaml_text import dump_block, insert_entry, read_table
from ctxfs.mcp_server.yaml_text import remove_entry as remove_yaml_entry
from ctxfs.model.line_ends import convert_line_ends, line_end_of
from ctxfs.store.jsonc import JsonError, Node, insert_item, parse_json, remove_item, replace_value

Form = Literal["json", "jsonc", "toml", "yaml"]
TablePath = Sequence[str]
_MARK = "\ufeff"  # of bytes in UTF-8
_NEW_JSON = "{}\n"


class ConfigTextError(ValueError):
    """A text that cannot be read in its format, or not be edited safely."""


def show_entry(form: Form, table: TablePath, name: str, entry: Mapping[str, Any]) -> str:
    """Return an entry as the text of a whole file."""
    document: dict[str, Any] = {name: dict(entry)}
    for key in reversed(table):
        document = {key: document}
    if form == "toml":
        return tomlkit.dumps(document)
    return dump_block(document) if form == "yaml" else json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_document(form: Form, text: str) -> dict[str, Any]:
    """Return a text as plain values; an empty one is an empty document."""
    content = text.removeprefix(_MARK)
    try:
        if form == "toml":
            return dict(tomlkit.parse(content).unwrap())
        if form == "yaml":
            return read_table(content)
        document = json.loads(content) if form == "json" and content.strip() else parse_json(text or _NEW_JSON).plain
    except (ValueError, RecursionError, tomlkit.exceptions.TOMLKitError) as error:
        raise ConfigTextError(str(error) or "it is nested too deeply") from error
    if not isinstance(document, dict):
        raise ConfigTextError("it is not a table")
    return document


def find_table(document: Mapping[str, Any], table: TablePath) -> Mapping[str, Any] | None:
    """Return the table at a path; None if it is missing."""
    node: Any = document
    for index, key in enumerate(table):
        if key not in node or (node[key] is None and index):
            return None
        node = node[key]
        if node is None:
            return None
        if not isinstance(node, dict):
            raise ConfigTextError(f"'{'.'.join(table[: index + 1])}' is not a table")
    return node  # type: ignore[no-any-return]


def put_entry(form: Form, text: str, table: TablePath, name: str, entry: Mapping[str, Any]) -> str:
    """Return a text in which the entry has these members; others that it has stay."""
    document = read_document(form, text)
    former = (find_table(document, table) or {}).get(name)
    if former is not None and not isinstance(former, dict):
        raise ConfigTextError(f"'{name}' is not a table")
    try:
        if form == "toml":
            return _put_toml(text, table, name, entry)
        if form == "yaml":
            if former is not None:
                text = remove_yaml_entry(text, table[0], name, has_table=True)
            return insert_entry(text, table[0], name, {**(former or {}), **entry})
        return _put_json(text, table, name, entry)
    except (JsonError, YamlError, tomlkit.exceptions.TOMLKitError) as error:
        raise ConfigTextError(str(error)) from error


def remove_entry(form: Form, text: str, table: TablePath, name: str, *, has_table: bool) -> str:
    """Return a text without an entry that it has. A table that gets empty stays only if `has_table`."""
    try:
        if form == "toml":
            return _remove_toml(text, table, name, has_table=has_table)
        if form == "yaml":
            return remove_yaml_entry(text, table[0], name, has_table=has_table)
        return _remove_json(text, table, name, has_table=has_table)
    except (JsonError, YamlError, tomlkit.exceptions.TOMLKitError) as error:
        raise ConfigTextError(str(error)) from error


def _put_json(text: str, table: TablePath, name: str, entry: Mapping[str, Any]) -> str:
    text = text if text.strip(f" \t\r\n{_MARK}") else text + _NEW_JSON
    for depth, key in enumerate(table):
        parent = _node_at(text, table[:depth])
        member = parent.member(key)
        if member is None:
            text = insert_item(text, parent, {}, key)
        elif member.kind != "object":
            text = replace_value(text, member, {})  # null: find_table refuses others
    former = _node_at(text, table).member(name)
    if former is None:
        return insert_item(text, _node_at(text, table), dict(entry), name)
    for key, value in entry.items():
        node = _node_at(text, (*table, name))
        member = node.member(key)
        if member is None:
            text = insert_item(text, node, value, key)
        elif member.plain != value:
            text = replace_value(text, member, value)
    return text


def _remove_json(text: str, table: TablePath, name: str, *, has_table: bool) -> str:
    node = _node_at(text, table)
    text = remove_item(text, node, node.names.index(name))
    for depth in range(len(table) - 1, -1, -1):
        if has_table or _node_at(text, table[: depth + 1]).names:
            break
        parent = _node_at(text, table[:depth])
        text = remove_item(text, parent, parent.names.index(table[depth]))
    return text


def _node_at(text: str, path: TablePath) -> Node:
    node = parse_json(text)
    for key in path:
        member = node.member(key)
        assert member is not None
        node = member
    return node


def _put_toml(text: str, table: TablePath, name: str, entry: Mapping[str, Any]) -> str:
    document: MutableMapping[str, Any] = tomlkit.parse(text.removeprefix(_MARK))
    entries = document.setdefault(table[0], tomlkit.table())
    entries[name] = {**(entries[name].unwrap() if name in entries else {}), **entry}
    return _dump_toml(text, document)


def _remove_toml(text: str, table: TablePath, name: str, *, has_table: bool) -> str:
    document: MutableMapping[str, Any] = tomlkit.parse(text.removeprefix(_MARK))
    del document[table[0]][name]
    if not document[table[0]] and not has_table:
        del document[table[0]]
    return _dump_toml(text, document)


def _dump_toml(before: str, document: MutableMapping[str, Any]) -> str:
    mark = _MARK if before.startswith(_MARK) else ""
    return mark + convert_line_ends(tomlkit.dumps(document), line_end_of(before))
