"""`ctx_search` and `ctx_context`: semantic search, grep, glob, and contexts within a budget."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.types import CallToolResult, TextContent

from ctxfs.eventlog.record_marks import RECORD_LABEL, is_record_path
from ctxfs.mcp_server.apps import CONTEXT_VIEW, has_apps
from ctxfs.mcp_server.search_answers import DEFAULT_HITS, format_answer
from ctxfs.mcp_server.sessions import TreeSession
from ctxfs.mcp_server.tool_registry import ADDS, READS, Answer, Call, Entry, text
from ctxfs.mcp_server.tree_ops import apply, read
from ctxfs.mcp_server.uris import parse_path, printable_path
from ctxfs.model.change import MakeDir, Put
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, one_line

_DEFAULT_LINES = 20
_MAX_HITS = 200
_HANDLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_MAX_LINE_CHARS = 400
_DEFAULT_BUDGET_TOKENS = 4000  # default for the check of the request here


async def _search(call: Call, arguments: Mapping[str, Any]) -> Answer:
    mode, query = arguments.get("mode", "semantic"), arguments["query"]
    limit, start = arguments.get("limit"), int(arguments.get("cursor", "0") or 0)
    below = str(parse_path(arguments.get("below", "")))
    if mode not in ("grep", "glob"):
        query = query if mode == "semantic" else f"mode:{mode} {query}"
        count = start + (limit or DEFAULT_HITS) + 1
        results = await call.tree.call("search", question=query, below=below, limit=count, labels=True)
        return format_answer(results, start, limit)
    end = start + (limit or _DEFAULT_LINES)
    if mode == "grep":
        results = await call.tree.call(
            "grep", pattern=query, below=below, limit=end + 1, ignore_case=False, labels=True
        )
        labels = results["labels"]
        lines = [
            f"{printable_path(Path.parse(path))}:{number}:{_mark_of(path)} {one_line(line[:_MAX_LINE_CHARS])}"
            + (f"  {labels[path]}" if path in labels and not is_record_path(path) else "")
            for path, number, line in results["lines"]
        ]
    else:
        results = await call.tree.call("glob", pattern=query, below=below, limit=end + 1)
        lines = [printable_path(Path.parse(path)) for path in results["paths"]]
    notes = [f"note: {one_line(fault)}" for fault in results["faults"]]
    more = [f"[more: cursor={end}]"] if len(lines) > end else []
    return "\n".join([*notes, *lines[start:end], *more]) or "nothing found"


def _mark_of(path: str) -> str:
    """Return the mark of a record, which stands before its text so that the text cannot imitate it; empty for others."""
    return f" {RECORD_LABEL}" if is_record_path(path) else ""


async def _context(call: Call, arguments: Mapping[str, Any]) -> Answer:
    import tomlkit  # imported with the first context: a faster start

    from ctxfs.context.build.request import make_request
    from ctxfs.context.delivery.expiry import mark_request

    handle, query, mode = arguments.get("handle", ""), arguments.get("query"), arguments.get("mode", "full")
    if not handle and query is None:
        raise invalid("ctx_context", "give a query, or the handle of a context that you were given")
    if handle and not _HANDLE.fullmatch(handle):
        raise invalid("handle", "a handle is made of small letters, digits, '.', '_' and '-'")
    if query is None:
        return await _deliver(call, handle, mode)
    request = {**arguments.get("options", {}), "query": query}
    if "budget" in arguments:
        request["budget"] = arguments["budget"]
    checked = make_request(request, _DEFAULT_BUDGET_TOKENS)  # an invalid request is refused before any write
    handle = handle or _derive_handle(checked.title, {**request, "for": (await call.tree.call("whoami"))["principal"]})
    directory = Path(("context", handle))
    is_new = True
    try:
        await apply(call.tree, MakeDir(directory))
    except FileExistsError:
        is_new = False
    except (PermissionError, FileNotFoundError):  # no right to write to context/, or to see it
        context = await call.tree.call("context", request=request)
        note = f"[{context['tokens']} tokens; no handle: you may not write to context/]"
        return _answer(call, [text(context["text"]), text(note)], context["manifest"])
    data = tomlkit.dumps(request).encode("utf-8", "replace")
    if is_new or await _was_made_by_call(call.tree, handle):
        data = mark_request(handle, data)
    await apply(call.tree, Put(directory / "request.toml", data))
    return await _deliver(call, handle, mode)


async def _was_made_by_call(tree: TreeSession, handle: str) -> bool:
    from ctxfs.context.delivery.expiry import is_made_by_call

    try:
        return is_made_by_call(handle, await read(tree, Path(("context", handle, "request.toml"))))
    except OSError:
        return False


async def _deliver(call: Call, handle: str, mode: str) -> Answer:
    """Return a context by its handle: the whole text, its delta, its next stream part, or its manifest."""
    tree, directory = call.tree, Path(("context", handle))
    if mode == "delta":
        part = (await read(tree, directory / "delta.md")).decode("utf-8", "replace") or "[nothing has changed]"
    elif mode == "next":
        part = (await read(tree, directory / "stream")).decode("utf-8", "replace") or "[the end]"
    else:
        manifest = await _read_manifest(tree, directory)
        parts = [text(manifest)] if mode == "manifest" else await _read_context(tree, handle, json.loads(manifest))
        return _answer(call, parts, manifest, handle)
    if not has_apps(call.context):
        return [text(part)]
    return _answer(call, [text(part)], await _read_manifest(tree, directory), handle)


def _answer(call: Call, content: Sequence[TextContent], manifest: str, handle: str = "") -> Answer:
    """Return the content, with the data of the view for clients that show it."""
    if not has_apps(call.context):
        return content
    from ctxfs.mcp_server.context_view import describe_context

    return CallToolResult(content=[*content], structured_content=describe_context(json.loads(manifest), handle))


async def _read_manifest(tree: TreeSession, directory: Path) -> str:
    try:
        return (await read(tree, directory / "manifest.json")).decode("utf-8", "replace")
    except FileNotFoundError as error:
        reason = (await read(tree, directory / "error.txt")).decode("utf-8", "replace").strip()
        raise invalid(directory, reason) from error


async def _read_context(tree: TreeSession, handle: str, manifest: Mapping[str, Any]) -> Sequence[TextContent]:
    """Return the text of a context, and a line about it."""
    from ctxfs.context.build.render import NAMES

    content = await read(tree, Path(("context", handle, NAMES[manifest["request"].get("format", "markdown")])))
    context = manifest["context"]
    answer = manifest.get("answer", {})
    verdict = f"answer: {answer['verdict']}; " if answer else ""
    counts = f"{len(manifest['items'])} pieces, {len(manifest['excluded'])} left out"
    summary = f"{verdict}{context['tokens']} tokens of {context['budget']}; {counts}"
    hint = (
        f"to have an answer checked against it, write it to context/{handle}/response.md and read evaluation.json there"
    )
    return [text(content.decode("utf-8", "replace")), text(f"[handle: {handle}; {summary}; {hint}]")]


def _derive_handle(title: str, request: Mapping[str, Any]) -> str:
    """Derive the handle from the request, so that an equal request reuses the task."""
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-")
    return f"{words or 'context'}-{digest}"


def tools() -> Sequence[Entry]:
    """Return the tools in listing order."""
    return (
        Entry(
            "ctx_search",
            "semantic: a question; the best passages, each below path:first-last, the lines that ctx_read can continue. "
            'Operators: "a phrase" +must -not kind: path: author: since:7d. '
            "grep: lines that match a regular expression. glob: paths, such as knowledge/**/*.md.",
            READS,
            _search,
            {
                "query": {"type": "string", "minLength": 1},
                "mode": {"enum": ["semantic", "words", "meaning", "exact", "grep", "glob"]},
                "below": {"type": "string", "description": "only below this directory"},
                "limit": {"type": "integer", "minimum": 1, "maximum": _MAX_HITS},
                "cursor": {"type": "string", "pattern": "^[0-9]{0,9}$", "description": "from the last result"},
            },
            ("query",),
        ),
        Entry(
            "ctx_context",
            "A context for a task, with sources, never more than the budget. It returns a handle. With it, mode delta: "
            "text to add, replace and drop in your window; next: the next part; manifest: pieces in and out, and why.",
            ADDS,
            _context,
            {
                "query": {
                    "anyOf": [
                        {"type": "string", "minLength": 1},
                        {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    ],
                    "description": "the task or question, or several",
                },
                "budget": {"type": "integer", "minimum": 1, "description": "tokens"},
                "handle": {"type": "string"},
                "mode": {"enum": ["full", "delta", "next", "manifest"]},
                "options": {
                    "type": "object",
                    "description": "keys of request.toml: paths, kinds, pins, quota, as_of, fresh, format, compress, untrusted …",
                },
            },
            view=CONTEXT_VIEW,
        ),
    )
