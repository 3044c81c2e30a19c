"""YAML settings, edited as text: one entry of one table is added or removed, every other character stays. Pure.

Each edit is checked: the result has to be the former settings and the entry alone. A text with aliases, two documents
or a form that the edit does not fit raises YamlError.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ctxfs.index.extract.front_matter import YamlError, parse_yaml_table

_MAX_CHARACTERS = 200_000  # PyYAML reads about 100 kB a second
_INDENT = "  "


def dump_block(value: Mapping[str, Any], indent: str = "") -> str:
    """Return a table in block style, each line indented and ended by a line feed."""
    text: str = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=float("inf"))
    return "".join(f"{indent}{line}\n" for line in text.rstrip("\n").split("\n"))


def read_table(text: str) -> dict[str, Any]:
    """Return the settings as plain values. Raise YamlError if they cannot be read."""
    if len(text) > _MAX_CHARACTERS:
        raise YamlError(f"it has more than {_MAX_CHARACTERS} characters")
    root = _compose(text)
    if root is None or _is_null(root):
        return {}
    for node in _iterate_mappings(root):
        [(name, count)] = Counter(_names_of(node)).most_common(1) or [("", 0)]
        if count > 1:
            raise YamlError(f"'{name}' is there twice")
    return parse_yaml_table(text)


def insert_entry(text: str, table: str, name: str, entry: Mapping[str, Any]) -> str:
    """Return a text in which a table, which is made if it is missing, has one more entry."""
    before = read_table(text)
    wanted = {**before, table: {**_table_of(before, table), name: dict(entry)}}
    return _checked(_insert(text, table, name, entry), wanted)


def remove_entry(text: str, table: str, name: str, *, has_table: bool) -> str:
    """Return a text without an entry of a table; an emptied table stays only if `has_table`."""
    before = read_table(text)
    entries = {key: value for key, value in _table_of(before, table).items() if key != name}
    root = _compose(text)
    key, value = _member(root, table)
    if not entries and not has_table:
        after = _cut(text, root, key)
        return _checked(after, {other: before[other] for other in before if other != table})
    entry_key, _ = _member(value, name)
    after = _cut(text, value, entry_key)
    if not entries and not value.flow_style:
        colon = text.index(":", key.end_mark.index) + 1
        after = f"{text[:colon]} {{}}{after[colon:]}"
    return _checked(after, {**before, table: entries})


def _insert(text: str, table: str, name: str, entry: Mapping[str, Any]) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    root = _compose(text)
    flow = f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(dict(entry), ensure_ascii=False)}"
    block = {name: dict(entry)}
    if root is not None and not _is_null(root) and root.flow_style:
        if table not in _names_of(root):
            return _insert_flow(text, root, f"{json.dumps(table)}: {{{flow}}}")
    elif root is None or _is_null(root) or table not in _names_of(root):
        start = "" if not text or text.endswith(("\n", "\ufeff")) else newline
        return text + start + dump_block({table: block}).replace("\n", newline)
    key, value = _member(root, table)
    if _is_null(value) and value.end_mark.index > value.start_mark.index:
        return f"{text[: value.start_mark.index]}{{{flow}}}{text[value.end_mark.index :]}"
    if not _is_null(value) and value.flow_style:
        return _insert_flow(text, value, flow)
    indent = " " * (key.start_mark.column if _is_null(value) else value.value[0][0].start_mark.column)
    indent += _INDENT if _is_null(value) else ""
    end = _line_end(text, key.end_mark.index)
    start = "" if text[:end].endswith("\n") else newline
    return text[:end] + start + dump_block(block, indent).replace("\n", newline) + text[end:]


def _insert_flow(text: str, node: Any, member: str) -> str:
    start = node.start_mark.index + 1
    return f"{text[:start]}{member}{', ' if node.value else ''}{text[start:]}"


def _cut(text: str, node: Any, key: Any) -> str:
    """Return a text without a member of a mapping: its lines, or in flow style its characters and a comma."""
    index = next(index for index, (other, _) in enumerate(node.value) if other is key)
    value = node.value[index][1]
    if not node.flow_style:
        end = _last_leaf(value).end_mark.index
        end = max(end, key.end_mark.index)
        end = end if text[:end].endswith("\n") else _line_end(text, end)
        start = key.start_mark.index - key.start_mark.column
        return text[:start] + text[end:]
    if index + 1 < len(node.value):
        return text[: key.start_mark.index] + text[node.value[index + 1][0].start_mark.index :]
    start = node.value[index - 1][1].end_mark.index if index else key.start_mark.index
    return text[:start] + text[value.end_mark.index :]


def _last_leaf(node: Any) -> Any:
    """Return the node in which the text of a node ends: the marks of a block collection include the comments after it."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return node


def _line_end(text: str, position: int) -> int:
    """Return the start of the line after a position, or the end of the text."""
    return text.find("\n", position) + 1 or len(text)


def _checked(text: str, wanted: Mapping[str, Any]) -> str:
    if read_table(text) != wanted:
        raise YamlError("an entry cannot be added or removed safely in this form")
    return text


def _compose(text: str) -> Any:
    try:
        return yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise YamlError(f"its YAML cannot be read: {' '.join(str(error).split())[:200]}") from error


def _iterate_mappings(root: Any) -> Iterator[Any]:
    pending, seen = [root], set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
        pending += [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]


def _names_of(node: Any) -> list[str]:
    return [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]


def _is_null(node: Any) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _member(node: Any, name: str) -> tuple[Any, Any]:
    return next((key, value) for key, value in node.value if key.value == name)


def _table_of(settings: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    entries = settings.get(table)
    if entries is not None and not isinstance(entries, dict):
        raise YamlError(f"'{table}' is not a table")
    return entries or {}
