"""Context requests: request.toml, parsed and validated once."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ctxfs.index.query import parse_when
from ctxfs.model.errors import invalid
from ctxfs.model.metadata import STATES
from ctxfs.model.path import Path, printable
from ctxfs.model.toml import parse_toml

Format = Literal["markdown", "xml", "json", "messages"]
Untrusted = Literal["mark", "drop", "keep"]
Stale = Literal["mark", "drop", "keep"]
Order = Literal["rank", "edges", "time"]

MAX_BUDGET = 10_000_000
_MAX_QUERIES = 32
_MAX_RECENT = 200
_PERCENTAGE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")


@dataclass(frozen=True, slots=True)
class Pin:
    """A file, or lines `first` to `last` of it, that is always included, and first; `last` 0 means to the end."""

    path: Path
    first: int = 1
    last: int = 0

    def __str__(self) -> str:
        span = "" if self.first == 1 and not self.last else f":{self.first}-{self.last or ''}"
        return printable(f"{self.path}{span}")


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request.

    `budget`, `quotas` (maximum by kind), `reserves` (minimum by kind, if available) and `piece` (of a stream) are in
    tokens of `tokenizer`; the budget limits the rendered whole. `as_of` is a version, a snapshot or a time, `branch` a branch,
    `fresh` an age or a time (empty: no limit), `min_score` is a probability, `p` of `ctxfs search --json`. `fill` uses the whole
    budget, also for hits that do not seem to answer. `recent` adds the chunks of that many newest files. `stale` is for
    files whose cited lines have changed or are gone. `when` is a period of the world's time in which a file must be valid
    (empty: any).
    """

    queries: tuple[str, ...]
    budget: int
    tokenizer: str = "bound"
    paths: tuple[Path, ...] = ()
    kinds: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    pins: tuple[Pin, ...] = ()
    quotas: Mapping[str, int] = field(default_factory=dict)
    reserves: Mapping[str, int] = field(default_factory=dict)
    as_of: str = ""
    branch: str = ""
    fresh: str = ""
    min_score: float | None = None
    fill: bool = False
    recent: int = 0
    format: Format = "markdown"
    order: Order = "rank"
    compress: bool = False
    summarise: bool = False
    keep: bool = False
    piece: int = 0
    secrets: bool = False
    untrusted: Untrusted = "mark"
    stale: Stale = "mark"
    when: str = ""

    @property
    def title(self) -> str:
        """Return all queries on one line."""
        cleaned = ("".join(c if c.isprintable() else " " for c in query) for query in self.queries)
        return " · ".join(" ".join(query.split()) for query in cleaned if query.strip())

    def record(self) -> dict[str, object]:
        """Return the request as plain values, the inverse of `make_request`; defaults are omitted."""
        values: dict[str, object] = {"query": [printable(query) for query in self.queries]}
        values |= {"budget": self.budget, "tokenizer": self.tokenizer}
        values |= {"paths": [printable(str(path)) for path in self.paths], "kinds": list(self.kinds)}
        values |= {"states": list(self.states)}
        values |= {"pins": [str(pin) for pin in self.pins]}
        values |= {"quota": dict(sorted(self.quotas.items())), "reserve": dict(sorted(self.reserves.items()))}
        defaults = Request((), self.budget)
        values |= {name: value for name in _SIMPLE_KEYS if (value := getattr(self, name)) != getattr(defaults, name)}
        return {name: value for name, value in values.items() if value not in ([], {})}


# Keys whose value is copied unchanged → its type, and a description for error messages.
_SIMPLE_KEYS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "as_of": (str, 'a version, a snapshot or a time, as "2026-11-01" or "2h"'),
    "branch": (str, "the name of a branch"),
    "fresh": (str, 'an age or a time, as "7d" or "2026-11-01"'),
    "min_score": ((int, float), "a number from 0 to 1, a probability"),
    "fill": (bool, "true or false"),
    "recent": (int, f"a whole number from 0 to {_MAX_RECENT}"),
    "format": (str, ", ".join(get_args(Format))),
    "order": (str, ", ".join(get_args(Order))),
    "compress": (bool, "true or false"),
    "summarise": (bool, "true or false"),
    "keep": (bool, "true or false"),
    "piece": (int, "tokens in a piece of the stream"),
    "secrets": (bool, "true or false"),
    "untrusted": (str, ", ".join(get_args(Untrusted))),
    "stale": (str, ", ".join(get_args(Stale))),
    "when": (str, 'a year, month, day or range, as "2026-03" or "2026-01..2026-03", or "now"'),
}
_CHOICES: Mapping[str, Any] = {"format": Format, "order": Order, "untrusted": Untrusted, "stale": Stale}
_KEYS = ("query", "budget", "tokenizer", "paths", "kinds", "states", "pins", "quota", "reserve", *_SIMPLE_KEYS)


def check_budget(budget: object) -> int:
    """Return a budget, a whole number from 1 to ten million; raise EINVAL otherwise."""
    if not isinstance(budget, int) or isinstance(budget, bool) or not 1 <= budget <= MAX_BUDGET:
        raise invalid("budget", f"budget = {budget!r}: a whole number of tokens from 1 to {MAX_BUDGET} is needed")
    return budget


def parse_request(text: str, default_budget: int) -> Request:
    """Parse request.toml; EINVAL names the fault and its position."""
    try:
        data = parse_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise invalid("request.toml", f"request.toml is not valid TOML: {error}") from error
    return make_request(data, default_budget)


def make_request(data: Mapping[str, Any], default_budget: int) -> Request:
    """Return a validated request from plain values, as request.toml or an RPC gives them."""
    unknown = set(data) - set(_KEYS)
    if unknown:
        raise invalid("request", f"unknown key '{printable(min(unknown))}'; known: {', '.join(_KEYS)}")
    query = data.get("query", "")
    queries = (query,) if isinstance(query, str) else _check_texts(data, "query")
    if len(queries) > _MAX_QUERIES:
        raise invalid("request", f"{len(queries)} queries: {_MAX_QUERIES} at most")
    tokenizer = data.get("tokenizer", "bound")
    if not isinstance(tokenizer, str):
        raise invalid("request", "tokenizer is a text")
    budget = check_budget(data.get("budget", default_budget))
    quotas, reserves = _parse_shares(data, "quota", budget), _parse_shares(data, "reserve", budget)
    _check_shares(quotas, reserves, budget)
    return Request(
        queries=queries,
        budget=budget,
        tokenizer=tokenizer,
        paths=tuple(Path.parse(text) for text in _check_texts(data, "paths")),
        kinds=_check_texts(data, "kinds"),
        states=_check_states(data),
        pins=tuple(_parse_pin(text) for text in _check_texts(data, "pins")),
        quotas=quotas,
        reserves=reserves,
        **{name: _check_simple(name, data[name]) for name in _SIMPLE_KEYS if name in data},
    )


def _check_simple(name: str, value: object) -> Any:
    kind, expected = _SIMPLE_KEYS[name]
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if name in _CHOICES:
        fits = value in get_args(_CHOICES[name])
    elif name == "when":
        fits = fits and parse_when(str(value)) is not None
    elif name == "recent":
        fits = fits and isinstance(value, int) and 0 <= value <= _MAX_RECENT
    elif name == "piece":
        fits = fits and isinstance(value, int) and 0 <= value <= MAX_BUDGET
    elif name == "min_score":
        fits = fits and isinstance(value, int | float) and 0 <= value <= 1
    if not fits:
        raise invalid("request", f"{name} = {value!r}: {expected} is needed")
    return value


def _parse_shares(data: Mapping[str, Any], key: str, budget: int) -> dict[str, int]:
    """Return kind → tokens, from numbers of tokens and percentages of the budget ("30%")."""
    table = data.get(key, {})
    if not isinstance(table, Mapping):
        raise invalid("request", f"[{key}] is a table of kinds, as: fact = 500")
    return {str(kind): _parse_share(key, str(kind), value, budget, table) for kind, value in table.items()}


def _parse_share(key: str, kind: str, value: object, budget: int, table: Mapping[str, object]) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BUDGET:
        return value
    if isinstance(value, str) and (match := _PERCENTAGE.fullmatch(value.strip())) and float(match[1]) <= 100:
        return int(budget * float(match[1]) / 100)
    chain = [kind]
    while isinstance(value, str) and value in table:
        if value in chain:
            raise invalid(
                "request", f"{key}s go round in a circle: {' → '.join((*chain, value))}; give tokens or a share"
            )
        chain.append(value)
        value = table[value]
    if len(chain) > 1:  # the quota of another kind
        return _parse_share(key, chain[-1], value, budget, table)
    raise invalid("request", f'{key}.{kind} = {value!r}: tokens, a share as "30%", or the name of another kind there')


def _check_shares(quotas: Mapping[str, int], reserves: Mapping[str, int], budget: int) -> None:
    for kind, minimum in reserves.items():
        if kind in quotas and minimum > quotas[kind]:
            raise invalid("request", f"{kind} has {minimum} tokens reserved, but a quota of {quotas[kind]}")
    if (total := sum(reserves.values())) > budget:
        raise invalid("request", f"{total} tokens are reserved, {total - budget} more than the budget")


def _check_texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key, [])
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise invalid("request", f"{key} is a {'text or a ' if key == 'query' else ''}list of texts")
    return tuple(value)


def _check_states(data: Mapping[str, Any]) -> tuple[str, ...]:
    states = _check_texts(data, "states")
    if unknown := set(states) - set(STATES):
        raise invalid("request", f"there is no state '{printable(min(unknown))}'; known: {', '.join(STATES)}")
    return states


def _parse_pin(text: str) -> Pin:
    """Parse `path`, `path:12` or `path:12-40`."""
    path, colon, span = text.rpartition(":")
    if colon and span.replace("-", "", 1).isdigit():
        first, dash, last = span.partition("-")
        start, end = int(first or 1), int(last) if last else (0 if dash else int(first or 1))
        if start < 1 or (end and end < start):
            raise invalid("request", f"pin '{text}': lines count from 1 and do not run backwards")
        return Pin(Path.parse(path), start, end)
    return Pin(Path.parse(text))
