"""The screen *Contexts*: the tasks, and of one its budget by source, its pieces, the excluded passages, and its text."""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from ctxfs.context.build.breakdown import FRAMING, Source, break_down, describe_reason, sources_of
from ctxfs.context.build.comparison import compare
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path
from ctxfs.rpc.wire import entry_from_wire
from ctxfs.web.bars import Segment, stack
from ctxfs.web.page import Page, Screen
from ctxfs.web.rows import cut_rows
from ctxfs.web.screens.evaluation import evaluation_view
from ctxfs.web.tree_paths import path_of

_ROWS = 20  # each row reads a request and its author
_MAX_BUDGET = 10_000_000
_SOURCE = re.compile(r"## \[(\d{1,6})\] ")
_FENCE = re.compile(r"`{3,}")
_VIEWS = (
    ("pieces", "Pieces"),
    ("excluded", "Left out"),
    ("conflicts", "Conflicts"),
    ("text", "Text"),
    ("evaluation", "Evaluation"),
)
_ANSWERED = "response.context.json"


@dataclass(frozen=True, slots=True)
class Request:
    """The question and the budget of a task, as its request.toml states them."""

    name: str
    question: str
    budget: str
    author: str
    fault: str


async def _contexts(page: Page) -> Response:
    entries = [entry_from_wire(row) for row in await page.call("list", path="context")]
    rows = cut_rows([entry for entry in entries if entry.kind == "dir"], page.number("page", 1), _ROWS)
    requests = [await _read_request(page, entry.name) for entry in rows.items]
    return page.render("contexts.html", rows=rows, requests=requests)


async def _read_request(page: Page, name: str) -> Request:
    path = str(Path(("context", name, "request.toml")))
    author = fault = question = budget = ""
    try:
        data: bytes = await page.call("read", path=path)
        request = tomllib.loads(data.decode("utf-8", "replace"))
        query = request.get("query", "")
        question = "; ".join(map(str, query)) if isinstance(query, list) else str(query)
        budget = str(request.get("budget", ""))
        author = (await page.call("metadata", path=path)).get("user.ctx.author", b"").decode("utf-8", "replace")
    except (OSError, ValueError, RecursionError) as error:
        fault = f"the request cannot be read: {error}"
    return Request(name, question, budget, author, fault)


async def _state(page: Page) -> Response:
    """Return the state of one task: the tokens of its present context, or why there is none."""
    task = _task_of(page)
    try:
        manifest, fault = await _read_manifest(page, task), ""
    except OSError as error:
        manifest, fault = None, await _read_fault(page, task, error)
    return page.render(
        "context_state.html",
        manifest=manifest,
        fault=fault,
        notes=manifest["notes"] if manifest else [],
        stale=sum("stale" in item for item in manifest["items"]) if manifest else 0,
        is_answer_stale=manifest is not None and await _is_answer_stale(page, task, manifest),
    )


async def _is_answer_stale(page: Page, task: str, manifest: Mapping[str, Any]) -> bool:
    """Return True if the context of a task has changed since its response was written."""
    try:
        data: bytes = await page.call("read", path=str(Path(("context", task, _ANSWERED))))
        return bool(json.loads(data)["manifest"]["context"]["sha256"] != manifest["context"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


async def _context(page: Page) -> Response:
    """Show the context of a task, or one that another budget or question gives."""
    task = _task_of(page)
    view = page.query.get("view", "pieces")
    question, budget = page.query.get("q", "").strip(), page.query.get("budget", "")
    values: dict[str, object] = {"task": task, "view": view, "views": _VIEWS, "fault": "", "manifest": None}
    values |= {"question": question, "budget": budget, "is_changed": bool(question or budget), "verified": None}
    try:
        manifest = await _read_manifest(page, task)
    except OSError as error:
        return page.render("context.html", **values | {"fault": await _read_fault(page, task, error)})
    values["request"] = manifest["request"]
    request: dict[str, Any] = dict(manifest["request"])
    request |= {"query": [question]} if question else {}
    request |= {"budget": page.number("budget", 1, _MAX_BUDGET)} if budget else {}
    text = ""
    if question or budget or view == "text":
        built = await page.call("context", request=request)
        manifest, text = json.loads(built["manifest"]), built["text"]
    if "verify" in page.query:
        values["verified"] = await page.call("verify_context", manifest=json.dumps(manifest).encode())
    shown = await evaluation_view(page, task) if view == "evaluation" else await _view(page, view, manifest, text)
    return page.render("context.html", **values | _describe(manifest) | shown)


def _task_of(page: Page) -> str:
    return Path(("context", page.query.get("task", ""))).name


async def _read_manifest(page: Page, task: str) -> dict[str, Any]:
    data: bytes = await page.call("read", path=str(Path(("context", task, "manifest.json"))))
    manifest: dict[str, Any] = json.loads(data)
    return manifest


async def _read_fault(page: Page, task: str, error: OSError) -> str:
    """Return why a context cannot be built. Raise the error if the task itself is not there."""
    await page.call("stat", path=str(Path(("context", task))))
    try:
        data: bytes = await page.call("read", path=str(Path(("context", task, "error.txt"))))
    except OSError:
        return error.strerror or str(error)
    return data.decode("utf-8", "replace").strip()


def _describe(manifest: Mapping[str, Any]) -> dict[str, object]:
    """Return the values of the head: sources, the bar, the reasons of the excluded passages."""
    parts, context = break_down(manifest), manifest["context"]
    return {
        "manifest": manifest,
        "sources": parts.sources,
        "framing": parts.framing,
        "free": parts.free,
        "bar_parts": budget_bar(parts.sources, parts.framing, max(context["budget"], context["tokens"])),
        "reasons": parts.reasons,
    }


def budget_bar(sources: Sequence[Source], framing: int, whole: int) -> Sequence[Segment]:
    """Return the bar of a budget: each source in its colour, then the headers, hatched; the rest is free."""
    parts: list[tuple[str, float, str]] = [
        (f"{source.path}: {source.tokens} tokens", source.tokens, source.css) for source in sources
    ]
    return stack([*parts, (f"{FRAMING}: {framing} tokens", framing, "hatched")], whole)


async def _view(page: Page, view: str, manifest: Mapping[str, Any], text: str) -> dict[str, object]:
    number = page.number("page", 1)
    if view == "excluded":
        only = page.query.get("reason", "")
        excluded = [item for item in manifest["excluded"] if only in ("", item["reason"])]
        needed = await _needed_budgets(page, manifest) if "budgets" in page.query else {}
        rows = [(item, path_of(item), describe_reason(item["reason"]), needed.get(_span_of(item))) for item in excluded]
        rows.sort(key=lambda row: row[3] or math.inf)  # first those that a little more budget brings in
        return {"rows": cut_rows(rows, number), "only": only, "has_budgets": "budgets" in page.query}
    if view == "conflicts":
        return {"rows": cut_rows(manifest.get("conflicts", []), number)}
    if view == "text":
        return {"rows": cut_rows(mark_lines(text), number)}
    pieces = [(source, item) for source in sources_of(manifest["items"]) for item in source.pieces]
    return {"rows": cut_rows(pieces, number)}


def _span_of(item: Mapping[str, Any]) -> tuple[str, int, int]:
    return item["path"], item["first"], item["last"]


async def _needed_budgets(page: Page, manifest: Mapping[str, Any]) -> Mapping[tuple[str, int, int], int]:
    """Return the smallest tried budget at which each passage comes in."""
    steps = await page.call("context_budgets", request=manifest["request"])
    return {_span_of(item): step["budget"] for step in reversed(steps) for item in step["items"]}


def mark_lines(text: str) -> Sequence[tuple[str, str]]:
    """Return (class of the source, line) of a context in Markdown.

    A header of a source has the next number and stands outside of fences, so that no text of a source is taken for one.
    """
    rows, css, number, fence = list[tuple[str, str]](), "", 0, ""
    for line in text.split("\n"):
        match = _SOURCE.match(line)
        if not fence and match is not None and int(match[1]) == number + 1:
            css, number = f"edge{number % 8}", number + 1
        rows.append((css, line))
        if mark := _FENCE.match(line):
            fence = "" if fence == line.strip() else fence or mark[0]
    return rows


async def _compare(page: Page) -> Response:
    """Show the difference of the contexts of two tasks."""
    old, new = page.query.get("old", ""), page.query.get("new", "")
    if not old or not new:
        raise CommandError("two tasks are needed", "choose both")
    manifests, faults = [], []
    for task in (old, new):
        try:
            manifests.append(await _read_manifest(page, task))
        except OSError as error:
            faults.append((task, await _read_fault(page, task, error)))
    if faults:
        return page.render("contexts_compare.html", old=old, new=new, faults=faults)
    difference = compare(*manifests)
    rows = [
        *(("request", f"{name}: {before!r} → {after!r}") for name, (before, after) in difference.request.items()),
        *(("removed", passage) for passage in difference.dropped),
        *(("changed", passage) for passage in difference.changed),
        *(("added", passage) for passage in difference.added),
    ]
    shown = cut_rows(rows, page.number("page", 1))
    return page.render("contexts_compare.html", old=old, new=new, faults=(), kept=difference.kept, rows=shown)


SCREENS = (
    Screen("contexts", _contexts, "Contexts"),
    Screen("contexts/one", _context),
    Screen("contexts/state", _state),
    Screen("contexts/compare", _compare),
)
