"""JSON with comments and trailing commas, edited as text: the rest of the text stays as it is. Pure.

`parse_json` returns nodes with their positions in the text. An edit is (start, end, replacement); `apply_edits` applies
several to one text.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

_BLANKS = re.compile(r"(?:[ \t\r\n\ufeff]++|//[^\r\n]*+|/\*(?:[^*]|\*(?!/))*+\*/)*+")
_LINE_REST = re.compile(r"[ \t]*+,?[ \t]*+(?://[^\r\n]*+|/\*(?:[^*\r\n]|\*(?!/))*+\*/[ \t]*+)?(?=[\r\n]|\Z)")
_COMMENT = re.compile(r"//[^\r\n]*+|/\*(?:[^*]|\*(?!/))*+\*/")
_REST_OF_LINE = re.compile(r"[ \t]*+(?=[\r\n]|\Z)")
_DECODER = json.JSONDecoder()
_MAX_DEPTH = 100
_DEFAULT_INDENT = "  "


class JsonError(ValueError):
    """Raised for a text that is not JSON; the message has the line."""


class Edit(NamedTuple):
    """The replacement of a range of a text."""

    start: int
    end: int
    text: str


@dataclass(slots=True)
class Node:
    """A value in a text, from `start` to `end`. `names` are of the members of an object, `items` their values."""

    kind: Literal["object", "array", "scalar"]
    start: int
    end: int = 0
    value: Any = None
    names: list[str] = field(default_factory=list)
    name_starts: list[int] = field(default_factory=list)
    items: list["Node"] = field(default_factory=list)

    def member(self, name: str) -> "Node | None":
        """Return the value of a member; None if there is none. Raise JsonError if there are two."""
        indexes = [index for index, other in enumerate(self.names) if other == name]
        if len(indexes) > 1:
            raise JsonError(f"'{name}' is there twice")
        return self.items[indexes[0]] if indexes else None

    def item_start(self, index: int) -> int:
        """Return the start of an item, with its name."""
        return self.name_starts[index] if self.kind == "object" else self.items[index].start

    @property
    def plain(self) -> Any:
        """The value as `json.loads` returns it."""
        if self.kind == "object":
            return {name: item.plain for name, item in zip(self.names, self.items, strict=True)}
        return [item.plain for item in self.items] if self.kind == "array" else self.value


def parse_json(text: str) -> Node:
    """Return the root of a text. Raise JsonError if it is not JSON, apart from comments and trailing commas."""
    start = _skip(text, 0)
    root = _parse_value(text, start, 0)
    end = _skip(text, root.end)
    if end != len(text):
        raise _error(text, end, "there is more after the end")
    return root


def _skip(text: str, position: int) -> int:
    match = _BLANKS.match(text, position)
    return match.end() if match is not None else position


def _error(text: str, position: int, problem: str) -> JsonError:
    return JsonError(f"line {text.count(chr(10), 0, position) + 1}: {problem}")


def _parse_value(text: str, start: int, depth: int) -> Node:
    if depth > _MAX_DEPTH:
        raise _error(text, start, "it is nested too deeply")
    opening = text[start : start + 1]
    if opening not in ("{", "["):
        try:
            value, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            raise _error(text, start, "a value is missing or damaged") from error
        return Node("scalar", start, end, value)
    node = Node("object" if opening == "{" else "array", start)
    closing = "}" if opening == "{" else "]"
    position = _skip(text, start + 1)
    while text[position : position + 1] != closing:
        if node.kind == "object":
            position = _parse_name(text, position, node)
        item = _parse_value(text, position, depth + 1)
        node.items.append(item)
        position = _skip(text, item.end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
        elif text[position : position + 1] != closing:
            raise _error(text, position, f"',' or '{closing}' is missing")
    node.end = position + 1
    return node


def _parse_name(text: str, position: int, node: Node) -> int:
    """Add the name of a member to an object; return the start of its value."""
    if text[position : position + 1] != '"':
        raise _error(text, position, "a name in double quotes is missing")
    try:
        name, end = _DECODER.raw_decode(text, position)
    except ValueError as error:
        raise _error(text, position, "a name is damaged") from error
    node.names.append(name)
    node.name_starts.append(position)
    end = _skip(text, end)
    if text[end : end + 1] != ":":
        raise _error(text, end, "':' is missing")
    return _skip(text, end + 1)


def apply_edits(text: str, edits: Sequence[Edit]) -> str:
    """Return a text with edits that do not overlap. Those at one position are applied in the given order."""
    for edit in sorted(edits, key=lambda edit: edit.start)[::-1]:
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def insert_item(text: str, node: Node, value: Any, name: str = "") -> str:
    """Return a text with one more item at the end of an array, or one more member of an object."""
    unit, newline = indent_unit(text), "\r\n" if "\r\n" in text else "\n"
    outer = _indent_at(text, node.start)
    is_inline = bool(node.items) and "\n" not in text[node.start : node.end]
    body = json.dumps(value, indent=None if is_inline else unit, ensure_ascii=False)
    body = f"{json.dumps(name, ensure_ascii=False)}: {body}" if node.kind == "object" else body
    if is_inline:
        end = node.items[-1].end
        comma = _comma_after(text, end)
        return apply_edits(
            text, [Edit(comma + 1, comma + 1, f" {body}") if comma >= 0 else Edit(end, end, f", {body}")]
        )
    inner = _indent_at(text, node.item_start(-1)) if node.items else outer + unit
    body = newline + inner + body.replace("\n", newline + inner)
    if not node.items:
        rest = text[node.start + 1 : node.end - 1]
        closing = "" if "\n" in rest else newline + outer
        at = node.start + 1 + len(rest.rstrip()) if "\n" in rest else node.start + 1
        return apply_edits(text, [Edit(at, at, body + closing)])
    end = node.items[-1].end
    comma = _comma_after(text, end)
    at = max(comma + 1, end)
    match = _LINE_REST.match(text, at)
    line_end = match.end() if match is not None and match.end() < node.end else at
    added = Edit(line_end, line_end, body)
    return apply_edits(text, [added] if comma >= 0 else [Edit(end, end, ","), added])


def replace_value(text: str, node: Node, value: Any) -> str:
    """Return a text with another value in the place of a node."""
    newline = "\r\n" if "\r\n" in text else "\n"
    body = json.dumps(value, indent=indent_unit(text) if "\n" in text else None, ensure_ascii=False)
    return apply_edits(text, [Edit(node.start, node.end, body.replace("\n", newline + _indent_at(text, node.start)))])


def remove_item(text: str, node: Node, index: int) -> str:
    """Return a text without one item of an array or object, its comma, and the line break before it."""
    start, end = node.item_start(index), node.items[index].end
    is_last = index == len(node.items) - 1
    comma = _comma_after(text, end)
    edits: list[Edit] = []
    if comma >= 0 and not (is_last and index):
        edits.append(Edit(comma, comma + 1, ""))
    elif is_last and index and comma < 0:
        before = _comma_after(text, node.items[index - 1].end)
        edits.append(Edit(before, before + 1, ""))
    elif comma >= 0:  # a trailing comma stays with the item before
        before = _comma_after(text, node.items[index - 1].end)
        edits.append(Edit(comma, comma + 1, ""))
        assert before >= 0
    blanks = len(text[:start]) - len(text[:start].rstrip(" \t\r\n"))
    if start - blanks == node.start + 1 and blanks and _skip_spaces(text, end) == node.end - 1:
        end = node.end - 1  # an emptied container is closed on the line that opened it
    elif _ends_in_line_comment(text[node.items[index - 1].end if index else node.start + 1 : start - blanks]):
        rest = end if comma < 0 else comma + 1
        if _REST_OF_LINE.match(text, rest) is None:
            blanks = 0  # the rest of the line would continue the comment
    edits.append(Edit(start - blanks, end, ""))
    return apply_edits(text, edits)


def _ends_in_line_comment(gap: str) -> bool:
    """Return True if the blanks and comments between two values end with a comment up to the end of its line."""
    last = None
    for match in _COMMENT.finditer(gap):
        last = match
    return last is not None and last.end() == len(gap) and last[0].startswith("//")


def _skip_spaces(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\r", "\n"):
        position += 1
    return position


def _comma_after(text: str, position: int) -> int:
    """Return the position of the comma after a value, -1 without one."""
    after = _skip(text, position)
    return after if text[after : after + 1] == "," else -1


def _indent_at(text: str, position: int) -> str:
    """Return the white space at the start of the line of a position."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


def indent_unit(text: str) -> str:
    """Return the white space of one level of indentation in a text."""
    match = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return match[1] if match is not None and len(match[1]) <= 8 else _DEFAULT_INDENT
