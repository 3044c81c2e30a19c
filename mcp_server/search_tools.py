"""`ctx_search` and `ctx_context`: semantic search, grep, glob, and contexts within a budget."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcp.types import TextContent

from ctxfs.model.change import MakeDir, Put
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path, one_line
from mcp_server.sessions import TreeSession
from mcp_server.tool_registry import ADDS, READS, Answer, Call, Entry, text
from mcp_server.tree_ops import apply, read
from mcp_server.uris import parsed, shown

_FOUND = 20
_MOST_FOUND = 200
_HANDLE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_LONGEST_LINE = 400
_BUDGET = 4000  # default for the check of the request here


async def _search(call: Call, arguments: Mapping[str, Any]) -> Answer:
    kind, query = arguments.get("kind", "semantic"), arguments["query"]
    limit, start = arguments.get("limit", _FOUND), int(arguments.get("cursor", "0") or 0)
    below = str(parsed(arguments.get("below", "")))
    wanted = start + limit + 1
    notes: list[str] = []
    if kind == "semantic":
        found = await call.door.call("search", question=query, below=below, limit=wanted, labels=True)
        notes = [f"note: {one_line(note)}" for note in (*found["notes"], *found["remarks"])]
        if not found["hits"] and not found["complete"]:
            notes.append("nothing found so far: not everything could be looked at, so this says nothing of the rest")
        lines = [(str(hit["path"]), _hit_line(hit)) for hit in found["hits"]]
    elif kind == "grep":
        found = await call.door.call("grep", pattern=query, below=below, limit=wanted, ignore_case=False, labels=True)
        notes = [f"note: {one_line(fault)}" for fault in found["faults"]]
        lines = [
            (path, f"{shown(Path.parse(path))}:{number}: {one_line(line[:_LONGEST_LINE])}")
            for path, number, line in found["lines"]
        ]
    else:
        found = await call.door.call("glob", pattern=query, below=below, limit=wanted)
        notes, named = [f"note: {one_line(fault)}" for fault in found["faults"]], found["paths"]
        page = [shown(Path.parse(path)) for path in named[start : start + limit]]
        return _paged(notes, page, start + limit if len(named) > start + limit else 0)
    labels = found["labels"]
    page = [f"{line}  {labels[path]}" if path in labels else line for path, line in lines[start : start + limit]]
    return _paged(notes, page, start + limit if len(lines) > start + limit else 0)


def _paged(notes: Sequence[str], page: Sequence[str], cursor: int) -> str:
    more = [f"[more: cursor={cursor}]"] if cursor else []
    return "\n".join([*notes, *page, *more]) if page or notes else "nothing found"


def _hit_line(hit: Mapping[str, Any]) -> str:
    return f"{one_line(hit['path'])}:{hit['first']}-{hit['last']}  {one_line(hit['snippet'])}"


async def _context(call: Call, arguments: Mapping[str, Any]) -> Answer:
    import tomlkit  # imported with the first context: a faster start

    from ctxfs.context.build.request import make_request

    handle, task, mode = arguments.get("handle", ""), arguments.get("task"), arguments.get("mode", "full")
    if not handle and task is None:
        raise invalid("ctx_context", "give a task, or the handle of a context that you were given")
    if handle and not _HANDLE.fullmatch(handle):
        raise invalid("handle", "a handle is made of small letters, digits, '.', '_' and '-'")
    if task is None:
        return await _again(call.door, handle, mode)
    request = {**arguments.get("options", {}), "query": task}
    if "budget" in arguments:
        request["budget"] = arguments["budget"]
    checked = make_request(request, _BUDGET)  # an invalid request is refused before any write
    handle = handle or _handle_of(checked.title, {**request, "for": (await call.door.call("whoami"))["principal"]})
    place = Path(("context", handle))
    try:
        await apply(call.door, MakeDir(place))
    except FileExistsError:
        pass
    except PermissionError:
        built = await call.door.call("context", request=request)
        return [text(built["text"]), text(f"[{built['tokens']} tokens; no handle: you may not write to context/]")]
    await apply(call.door, Put(place / "request.toml", tomlkit.dumps(request).encode("utf-8", "replace")))
    return await _again(call.door, handle, mode)


async def _again(door: TreeSession, handle: str, mode: str) -> Sequence[TextContent]:
    """Return a context by its handle: the whole text, its delta, its next stream part, or its manifest."""
    from ctxfs.context.build.render import NAMES

    place = Path(("context", handle))
    if mode == "delta":
        return [text((await read(door, place / "delta.md")).decode("utf-8", "replace") or "[nothing has changed]")]
    if mode == "next":
        return [text((await read(door, place / "stream")).decode("utf-8", "replace") or "[the end]")]
    try:
        manifest = (await read(door, place / "manifest.json")).decode("utf-8", "replace")
    except FileNotFoundError as error:
        why = (await read(door, place / "error.txt")).decode("utf-8", "replace").strip()
        raise invalid(place, why) from error
    if mode == "manifest":
        return [text(manifest)]
    account = json.loads(manifest)
    whole = await read(door, place / NAMES[account["request"].get("format", "markdown")])
    left = len(account["excluded"])
    told = f"{account['context']['tokens']} tokens of {account['context']['budget']}; {len(account['items'])} pieces, {left} left out"
    answer = (
        f"to have an answer checked against it, write it to context/{handle}/response.md and read evaluation.json there"
    )
    return [text(whole.decode("utf-8", "replace")), text(f"[handle: {handle}; {told}; {answer}]")]


def _handle_of(title: str, request: Mapping[str, Any]) -> str:
    """Derive the handle from the request, so that an equal request reuses the task."""
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:8]
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-")
    return f"{words or 'context'}-{digest}"


def tools() -> Sequence[Entry]:
    """Return the tools in listing order."""
    return (
        Entry(
            "ctx_search",
            'semantic: a question; best units first, with path and lines. Operators: "a phrase" +must -not kind: path: author: '
            "since:7d mode:words|meaning|exact. grep: lines that match a regular expression. glob: paths, such as knowledge/**/*.md.",
            READS,
            _search,
            {
                "query": {"type": "string", "minLength": 1},
                "kind": {"enum": ["semantic", "grep", "glob"]},
                "below": {"type": "string", "description": "only below this directory"},
                "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_FOUND},
                "cursor": {"type": "string", "pattern": "^[0-9]{0,9}$", "description": "as the last answer gave it"},
            },
            ("query",),
        ),
        Entry(
            "ctx_context",
            "What the tree knows for a task, with sources, never more than the budget. It answers with a handle. With it, mode delta: "
            "what to add, replace and drop in your window since; next: more, bit by bit; manifest: what is in and out, and why.",
            ADDS,
            _context,
            {
                "task": {
                    "anyOf": [
                        {"type": "string", "minLength": 1},
                        {"type": "array", "items": {"type": "string"}, "minItems": 1},
                    ],
                    "description": "the question, or several",
                },
                "budget": {"type": "integer", "minimum": 1, "description": "tokens"},
                "handle": {"type": "string"},
                "mode": {"enum": ["full", "delta", "next", "manifest"]},
                "options": {
                    "type": "object",
                    "description": "keys of request.toml: paths, kinds, pins, quota, as_of, fresh, format, compress, untrusted …",
                },
            },
        ),
    )
