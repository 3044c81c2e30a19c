"""The arguments of requests, parsed once at the edge: a frozen dataclass for each method, and a strict parser.

Types of fields: str, bool, int, float, bytes, Path, Literal, a tuple of texts, any list, any dict; `| None` for optional ones.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, printable

Params = TypeVar("Params")
Parser = Callable[[str, Any], Any]


class _Parsers(NamedTuple):
    by_name: Mapping[str, Parser]
    required: frozenset[str]


@dataclass(frozen=True, slots=True)
class NoParams:
    """The arguments of a method without any."""


@dataclass(frozen=True, slots=True)
class PathParams:
    """A path of the tree."""

    path: Path


@dataclass(frozen=True, slots=True)
class NameParams:
    """The name of a remote, a snapshot, a tool, a source or a server."""

    name: str


@dataclass(frozen=True, slots=True)
class JoinParams:
    """The principal of a session, or the credential that names it, the actor of its versions, and its branch."""

    principal: str = ""
    session: str = ""
    tool: str = ""
    reason: str = ""
    token: str = ""
    branch: str = ""


def parse_params(params: type[Params], args: Mapping[str, Any]) -> Params:
    """Return the arguments of a request as a dataclass.

    Raise OSError EINVAL, with the name of the argument, for an unknown, missing or wrongly typed one. None stands for
    the default, if there is one: commands send it for options that are not set.
    """
    by_name, required = _parsers_of(params)  # type: ignore[arg-type]  # a class is hashable
    values = {}
    for name, value in args.items():
        parser = by_name.get(name)
        if parser is None:
            raise invalid(printable(str(name))[:80], "this method has no such argument")
        if value is not None or name in required:
            values[name] = parser(name, value)
    for name in required:
        if name not in values:
            raise invalid(name, "this argument is missing")
    return params(**values)


@cache
def _parsers_of(params: type[Any]) -> _Parsers:
    hints = get_type_hints(params)
    return _Parsers(
        {field.name: _parser_of(hints[field.name]) for field in fields(params)},
        frozenset(
            field.name for field in fields(params) if field.default is MISSING and field.default_factory is MISSING
        ),
    )


def _parser_of(hint: Any) -> Parser:
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):  # only with None, which `parse_params` replaces by the default
        (hint,) = (part for part in get_args(hint) if part is not type(None))
        return _parser_of(hint)
    if origin is Literal:
        return _choice_parser(get_args(hint))
    return _PARSERS[origin]


def _choice_parser(choices: tuple[str, ...]) -> Parser:
    def parse(name: str, value: Any) -> Any:
        if value not in choices:
            raise invalid(name, f"one of {', '.join(choices)} is needed")
        return value

    return parse


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid(name, "a text is needed")
    return value


def _path(name: str, value: Any) -> Path:
    return Path.parse(_text(name, value))


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid(name, "true or false is needed")
    return value


def _integer(name: str, value: Any) -> int:
    """Parse an integer. JSON Schema counts 5.0 as one, so that MCP clients may send it."""
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, float) and value.is_integer())):
        raise invalid(name, "an integer is needed")
    return int(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(name, "a number is needed")
    return float(value)


def _bytes(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise invalid(name, "bytes are needed")
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise invalid(name, "a list of texts is needed")
    return tuple(value)


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise invalid(name, "a list is needed")
    return list(value)


def _object(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise invalid(name, "an object is needed")
    return dict(value)


_PARSERS: Mapping[object, Parser] = {
    str: _text,
    Path: _path,
    bool: _flag,
    int: _integer,
    float: _number,
    bytes: _bytes,
    tuple: _texts,
    list: _list,
    dict: _object,
}
