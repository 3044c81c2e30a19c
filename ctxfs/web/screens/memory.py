"""The screen *Memory*: the table of memories with its filters, and the map of their sizes."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from ctxfs.memory.citations import HOLDS
from ctxfs.memory.table import TRUST_LEVELS
from ctxfs.model.metadata import STATES
from ctxfs.web.form_paths import encode_path, field_name
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import Rows, cut_rows
from ctxfs.web.tree_paths import path_of
from ctxfs.web.treemap import HEADER, HEIGHT, WIDTH, Group, Leaf, lay_out

_ROWS = 100
_MAX_TILES = 200
_EXCERPT_CHARACTERS = 240
_FILTERS = ("agent", "kind", "state", "trust", "holds", "words", "path")
_DAY_SECONDS = 86400.0
_AGES = ((1, "changed today"), (7, "this week"), (30, "this month"), (365, "this year"), (0, "older"))
_TRUSTS = (
    (0.0, "trusted"),
    (0.25, "a quarter untrusted, or less"),
    (0.75, "three quarters, or less"),
    (1.0, "untrusted"),
)


async def _memory(page: Page) -> Response:
    number = page.number("page", 1)
    answer = await _read_rows(page, number)
    if not answer["rows"] and number > 1:
        number = max(1, -(-answer["total"] // _ROWS))
        answer = await _read_rows(page, number)
    return page.render(
        "memory.html",
        groups=_group(answer["rows"], (number - 1) * _ROWS),
        rows=_rows(answer, number),
        is_complete=answer["complete"],
        filters=_filters(page),
        choices=_choices(answer["counts"]),
    )


async def _read_rows(page: Page, number: int) -> Any:
    return await page.call("memories", **_arguments(page), offset=(number - 1) * _ROWS, limit=_ROWS)


def _filters(page: Page) -> Mapping[str, str]:
    return {name: page.query.get(name, "") for name in _FILTERS}


def _arguments(page: Page) -> dict[str, str]:
    """Return the filters of a request as arguments of the method; an empty path is all of memory."""
    filters = dict(_filters(page))
    path, words = filters.pop("path"), filters.pop("words")
    return {**filters, "pattern": words, **({"path": path} if path else {})}


def _rows(answer: Mapping[str, Any], number: int) -> Rows:
    total, first = answer["total"], (number - 1) * _ROWS + 1
    after = number + 1 if first + _ROWS <= total else 0
    return Rows(answer["rows"], first, total, number, number - 1, after)


def _choices(counts: Mapping[str, Mapping[str, int]]) -> Sequence[tuple[str, str, Sequence[tuple[str, str]]]]:
    """Return (name, label, values with their texts) of the filters by value."""

    def counted(name: str, values: Sequence[str]) -> Sequence[tuple[str, str]]:
        return [(value, f"{value} ({counts[name].get(value, 0)})") for value in values if value]

    return (
        ("agent", "Agent", counted("agent", list(counts["agent"]))),
        ("kind", "Kind", counted("kind", list(counts["kind"]))),
        ("state", "State", counted("state", STATES)),
        ("trust", "Trust", counted("trust", TRUST_LEVELS)),
        ("holds", "Source holds", [(value, value) for value in HOLDS]),
    )


def _group(rows: Sequence[Mapping[str, Any]], start: int) -> Sequence[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Return rows below the names of their agent and kind, each with its path and its field in the form."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for number, row in enumerate(rows):
        name = f"{row['agent'] or 'of no agent'} · {row['kind'] or 'no kind'}"
        path, text = path_of(row), row["text"]
        shown = text if len(text) <= _EXCERPT_CHARACTERS else f"{text[:_EXCERPT_CHARACTERS]}…"
        fields = {"tree_path": path, "shown": shown, "field": field_name(start + number), "value": encode_path(path)}
        groups.setdefault(name, []).append({**row, **fields})
    return list(groups.items())


async def _map(page: Page) -> Response:
    arguments = _arguments(page)
    del arguments["holds"]
    sums = await page.call("memory_sizes", **arguments)
    colour = "trust" if page.query.get("colour") == "trust" else "age"
    return page.render(
        "memory_map.html",
        groups=_tiles(page, sums, colour, time.time()),
        width=WIDTH,
        height=HEIGHT,
        header=HEADER,
        rows=cut_rows([{**part, "css": _css(part, colour, time.time())} for part in sums], page.number("page", 1)),
        total=sum(part["tokens"] for part in sums),
        colour=colour,
        legend=[
            (f"{colour}{number}", text) for number, (_, text) in enumerate(_TRUSTS if colour == "trust" else _AGES)
        ],
        filters=_filters(page),
    )


def _tiles(page: Page, sums: Sequence[Mapping[str, Any]], colour: str, now: float) -> Sequence[Group]:
    """Return the largest sums as tiles below their agents and kinds."""
    groups: dict[str, dict[str, list[Leaf]]] = {}
    for part in sums[:_MAX_TILES]:
        agent, kind, folder = part["agent"] or "of no agent", part["kind"] or "no kind", part["folder"]
        name = f"{kind}: {folder.rpartition('/')[2]}"
        text = f"{name}, of {agent}, {folder}, {part['tokens']} tokens in {part['files']} files"
        href = page.url("memory", agent=part["agent"], kind=part["kind"], path=folder)
        groups.setdefault(agent, {}).setdefault(kind, []).append(
            Leaf(name, max(1, part["tokens"]), _css(part, colour, now), text, href)
        )
    return lay_out(groups)


def _css(part: Mapping[str, Any], colour: str, now: float) -> str:
    """Return the class of a sum: by the age of its newest change, or by its share of untrusted tokens."""
    if colour == "trust":
        share = part["untrusted_tokens"] / part["tokens"] if part["tokens"] else 0.0
        return f"trust{next(number for number, (limit, _) in enumerate(_TRUSTS) if share <= limit)}"
    days = (now - part["changed_ns"] / 1e9) / _DAY_SECONDS
    return f"age{next((number for number, (limit, _) in enumerate(_AGES) if days < limit), len(_AGES) - 1)}"


SCREENS = (Screen("memory", _memory, "Memory"), Screen("memory/map", _map))
