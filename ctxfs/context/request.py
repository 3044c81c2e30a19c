"""What a context is asked for: request.toml, checked once."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tomlkit

from ctxfs.model.errors import invalid
from ctxfs.model.path import Path

MAX_BUDGET = 10_000_000
_KEYS = ("query", "budget", "tokenizer", "paths", "kinds", "pins")


@dataclass(frozen=True, slots=True)
class Pin:
    """A file, or lines `first` to `last` of it, that is always in and comes first; `last` 0 means to the end."""

    path: Path
    first: int = 1
    last: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request; `budget` is in tokens of `tokenizer` and is a ceiling for the rendered whole."""

    query: str
    budget: int
    tokenizer: str = "bound"
    paths: tuple[Path, ...] = ()
    kinds: tuple[str, ...] = ()
    pins: tuple[Pin, ...] = ()


def check_budget(budget: object) -> int:
    """A budget is a whole number from 1 to ten million; EINVAL otherwise."""
    if not isinstance(budget, int) or isinstance(budget, bool) or not 1 <= budget <= MAX_BUDGET:
        raise invalid("budget", f"budget = {budget!r}: a whole number of tokens from 1 to {MAX_BUDGET} is needed")
    return budget


def parse_request(text: str, default_budget: int) -> Request:
    """Read request.toml; OSError EINVAL says what is wrong and where."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise invalid("request.toml", f"request.toml is not valid TOML: {error}") from error
    return make_request(data, default_budget)


def make_request(data: Mapping[str, Any], default_budget: int) -> Request:
    """A request from plain values, as request.toml or a call gives them."""
    unknown = set(data) - set(_KEYS)
    if unknown:
        raise invalid("request", f"unknown key '{min(unknown)}'; known: {', '.join(_KEYS)}")
    query, tokenizer = data.get("query", ""), data.get("tokenizer", "bound")
    if not isinstance(query, str) or not isinstance(tokenizer, str):
        raise invalid("request", "query and tokenizer are texts")
    return Request(
        query=query,
        budget=check_budget(data.get("budget", default_budget)),
        tokenizer=tokenizer,
        paths=tuple(Path.parse(text) for text in _texts(data, "paths")),
        kinds=_texts(data, "kinds"),
        pins=tuple(_parse_pin(text) for text in _texts(data, "pins")),
    )


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise invalid("request", f"{key} is a list of texts")
    return tuple(value)


def _parse_pin(text: str) -> Pin:
    """`path`, `path:12` or `path:12-40`."""
    place, colon, span = text.rpartition(":")
    if colon and span.replace("-", "", 1).isdigit():
        first, dash, last = span.partition("-")
        start, end = int(first or 1), int(last) if last else (0 if dash else int(first or 1))
        if start < 1 or (end and end < start):
            raise invalid("request", f"pin '{text}': lines count from 1 and do not run backwards")
        return Pin(Path.parse(place), start, end)
    return Pin(Path.parse(text))


def default_request(query: str, budget: int) -> str:
    """The text of a new request.toml."""
    return (
        f"query = {tomlkit.item(query).as_string()}\n"
        f"budget = {budget}              # tokens; a ceiling for the whole of context.md\n"
        '# tokenizer = "bound"        # built-in upper bound, or the path of a tokenizer.json\n'
        "# paths = []                 # look only below these directories\n"
        "# kinds = []                 # only these kinds: markdown, code, dialogue, fact …\n"
        '# pins = []                  # always in, first: "memory/shared/x.md" or "knowledge/a/b.py:10-40"\n'
    )
