"""`ctx_promote` and `ctx_correct`: notes that become memories, and lines as they should read."""

from collections.abc import Mapping, Sequence
from typing import Any

from ctxfs.mcp_server.tool_registry import CHANGES, PATH, Answer, Call, Entry
from ctxfs.mcp_server.uris import parse_path


async def _promote(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path, target = parse_path(arguments["path"]), parse_path(arguments["to"])
    result = await call.tree.call("promote", path=str(path), to=str(target))
    if not result["review"]:
        return f"moved to {result['path']}"
    reasons = [f"- {reason}" for reason in result["reasons"]]
    return "\n".join([f"not moved; review {result['review']} waits for a person, because:", *reasons])


async def _correct(call: Call, arguments: Mapping[str, Any]) -> Answer:
    path = parse_path(arguments["path"])
    result = await call.tree.call(
        "correct",
        path=str(path),
        line=arguments.get("line", 0),
        text=arguments["text"],
        because=arguments["because"],
        was=arguments.get("was", ""),
    )
    warnings = [f"warning: {remark}" for remark in result["remarks"]]
    return "\n".join([f"wrote {result['path']}, which corrects {result['corrects']}", *warnings])


def tools() -> Sequence[Entry]:
    """Return the tools in listing order."""
    text = {"type": "string", "minLength": 1}
    return (
        Entry(
            "ctx_promote",
            "Move a note of pad/ to memory, if it is supported, new and contradicts nothing; else a person decides.",
            CHANGES,
            _promote,
            {"path": PATH, "to": {"type": "string", "description": "folder such as memory/<you>/fact"}},
            ("path", "to"),
        ),
        Entry(
            "ctx_correct",
            "Correct a line: a memory is superseded and kept, a source gets a fact that cites it.",
            CHANGES,
            _correct,
            {
                "path": PATH,
                "line": {"type": "integer", "minimum": 1},
                "text": {**text, "description": "the line as it should read"},
                "because": {**text, "description": "reason"},
                "was": {"type": "string", "description": "the line as you read it"},
            },
            ("path", "text", "because"),
        ),
    )
