"""Front matter: the table of fields at the head of a text, in YAML between lines of `---` or in TOML between `+++`.

A malformed table is read line by line, so that its sound fields remain.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ctxfs.index.extract.dates import find_first_day, parse_day

_FENCES = {"---": ("---", "..."), "+++": ("+++",)}
_MAX_LINES = 1_000
_MAX_CHARACTERS = 16_384  # PyYAML reads about 100 kB a second
_MAX_BLOCKS = 4
_MAX_VALUES = 200
_MAX_VALUE_CHARACTERS = 200
_FIELD = re.compile(r"([A-Za-z_][\w .-]{0,40}?)[ \t]*[:=](?:[ \t]+(.*))?")
_LIST_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")
_AUTHOR_FIELDS = ("author", "authors", "from", "creator", "by")
_DAY_FIELDS = (
    "date", "created", "created_at", "date_created", "published", "publishdate", "pubdate", "updated", "modified", "lastmod",
)  # fmt: skip


class YamlError(ValueError):
    """A text that is no YAML table."""


class _Loader(yaml.SafeLoader):
    """A YAML loader without aliases, which can expand exponentially, and without dates, which JSON lacks."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) is not allowed here")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, expression) for tag, expression in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """The fields of a text, by their names in lower case, and the number of lines that they take."""

    fields: dict[str, Any] = field(default_factory=dict)
    line_count: int = 0

    @property
    def author(self) -> str:
        """The authors, joined by commas; empty if no field names one."""
        return next((names for key in _AUTHOR_FIELDS if (names := ", ".join(self.values(key)))), "")

    @property
    def day(self) -> int | None:
        """The day of the text as a proleptic Gregorian ordinal; None if no field has one."""
        return next((day for key in _DAY_FIELDS if (day := _parse_field_day(self.fields.get(key))) is not None), None)

    def values(self, name: str) -> list[str]:
        """Return the texts of a field: of a scalar one, of a list its members, of a table its `name`."""
        return list(_iterate_texts(self.fields.get(name)))


def parse_yaml_table(text: str) -> dict[str, Any]:
    """Return a table in YAML, without aliases and dates. Raise `YamlError` with the fault."""
    try:
        table = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError) as error:
        raise YamlError(f"its YAML cannot be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(table, dict):
        raise YamlError("its YAML is not a table")
    return {str(key): value for key, value in table.items()}


def dump_yaml_table(table: dict[str, Any]) -> str:
    """Return a table as YAML, each field on a line of its own, in the given order."""
    return "".join(_dump_field(name, value) for name, value in table.items())


def _dump_field(name: str, value: Any) -> str:
    options: dict[str, Any] = {"allow_unicode": True, "width": 10_000, "sort_keys": False}
    if isinstance(value, list | dict):
        return f"{name}: {yaml.safe_dump(value, default_flow_style=True, **options).strip()}\n"
    return str(yaml.safe_dump({name: value}, default_flow_style=False, **options))


def read_front_matter(lines: Sequence[str]) -> FrontMatter:
    """Return the front matter of a text. Several tables in succession count as one; the first value of a field wins."""
    fields: dict[str, Any] = {}
    line_count = 0
    for _ in range(_MAX_BLOCKS):
        start = line_count
        while start < len(lines) and line_count and not lines[start].strip():
            start += 1
        end = _find_end(lines, start)
        if end is None:
            break
        block = "\n".join(line.rstrip("\r") for line in lines[start + 1 : end])
        table = _parse_block(block, is_toml=lines[start].startswith("+++"), is_first=not line_count)
        if table is None:
            break
        for name, value in table.items():
            fields.setdefault(name.strip().lower(), value)
        line_count = end + 1
    return FrontMatter(fields, line_count)


def _find_end(lines: Sequence[str], start: int) -> int | None:
    """Return the line that ends the table that begins at line `start`; None if no table begins there."""
    first = lines[start].rstrip() if start < len(lines) else ""
    if first not in _FENCES:
        return None
    ends, size = _FENCES[first], 0
    for number in range(start + 1, min(len(lines), start + 1 + _MAX_LINES)):
        size += len(lines[number]) + 1
        if size > _MAX_CHARACTERS:
            return None
        if lines[number].rstrip() in ends:
            return number
    return None


def _parse_block(text: str, *, is_toml: bool, is_first: bool) -> dict[str, Any] | None:
    """Return the fields of a table; None if the text is none. Only the first table of a file may be malformed."""
    try:
        return tomllib.loads(text) if is_toml else parse_yaml_table(text)
    except (ValueError, RecursionError):
        return _scan_fields(text) if is_first else ({} if not text.strip() else None)


def _scan_fields(text: str) -> dict[str, Any] | None:
    """Return the fields of a malformed table by its lines; None if a line is neither a field nor belongs to one."""
    fields: dict[str, Any] = {}
    name = ""
    for line in text.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if match := _FIELD.fullmatch(line):
            name = match[1].lower()
            fields.setdefault(name, _parse_scalar(match[2] or ""))
        elif name and (match := _LIST_ITEM.fullmatch(line)):
            items = fields[name] if isinstance(fields[name], list) else []
            fields[name] = [*items[:_MAX_VALUES], _parse_scalar(match[1])]
        elif not (name and line[0] in " \t"):
            return None
    return fields or ({} if not text.strip() else None)


def _parse_scalar(text: str) -> Any:
    """Return the value of one line if it is sound, else the line without quotes."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, OverflowError):
        return text.strip().strip("\"'")


def _iterate_texts(value: Any) -> Iterator[str]:
    members: Iterable[Any] = value if isinstance(value, list) else (value,)
    for _, member in zip(range(_MAX_VALUES), members, strict=False):
        if isinstance(member, dict):
            member = member.get("name")
        if isinstance(member, list) and len(member) == 1:  # `[[page]]` without quotes
            member = member[0]
        if isinstance(member, str | int | float) and not isinstance(member, bool):
            try:
                text = " ".join(str(member).split())
            except ValueError:  # an integer of thousands of digits
                continue
            if text:
                yield text[:_MAX_VALUE_CHARACTERS]


def _parse_field_day(value: Any) -> int | None:
    if isinstance(value, list | dict | bool) or value is None:
        return None
    if isinstance(value, int | float) and (day := parse_day(value)) is not None:
        return day
    try:
        return find_first_day(str(value)[:80])
    except ValueError:
        return None
