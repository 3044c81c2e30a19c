"""`ctx_history` and `ctx_record`: versions of files, and the event log."""

from collections.abc import Mapping, Sequence
from typing import Any

from ctxfs.model.errors import invalid
from mcp_server.tool_registry import ADDS, CHANGES, Answer, Call, Entry
from mcp_server.uris import parsed, shown

_LOGGED = 20
_MOST_LOGGED = 500


async def _history(call: Call, arguments: Mapping[str, Any]) -> Answer:
    mode, path = arguments["mode"], parsed(arguments.get("path", ""))
    if mode == "log":
        versions = await call.door.call("log", path=str(path), limit=arguments.get("limit", _LOGGED), changes=True)
        listed = "\n".join(map(_version, versions)) or "no versions"
        unrecorded = await call.door.call("unrecorded")
        return f"[the newest changes have no version yet: {unrecorded}]\n{listed}" if unrecorded else listed
    if mode == "snapshot":
        made = await call.door.call("snapshot", name=_needed(arguments, "name"))
        return f"snapshot {arguments['name']} of {made['revision'][:12]}"
    if mode == "show":
        data: bytes = await call.door.call("show", path=str(path), at=_needed(arguments, "at"))
        return data.decode("utf-8", "replace")
    if mode == "diff":
        old, new = _needed(arguments, "at"), arguments.get("to", "latest")
        found: bytes = await call.door.call("diff", path=str(path), old=old, new=new)
        return found.decode("utf-8", "replace") or "no difference"
    dry = arguments.get("dry_run", True)
    done = await call.door.call("restore", path=str(path), to=_needed(arguments, "at"), dry_run=dry)
    changes = [f"{change['what']} {change['path']}" for change in done["changes"]]
    kept = [f"left: {each}: {reason}" for each, reason in zip(done["kept"], done["reasons"], strict=True)]
    if not changes:
        return "\n".join(["nothing to restore", *kept])
    head = (
        f"would restore {shown(path)}; to do it: dry_run false" if dry else f"restored {shown(path)}; it can be undone"
    )
    diff = done["diff"].decode("utf-8", "replace")
    return "\n".join([head, *changes, *kept, *([diff] if dry and diff else [])])


def _needed(arguments: Mapping[str, Any], name: str) -> str:
    if not arguments.get(name):
        raise invalid("ctx_history", f"mode {arguments['mode']} needs '{name}'")
    return str(arguments[name])


def _version(version: Mapping[str, Any]) -> str:
    changed = ", ".join(f"{change['what']} {change['path']}" for change in version.get("changes", ())[:5])
    more = len(version.get("changes", ())) - 5
    why = version["reason"] or version["subject"]
    rest = f" and {more} more" if more > 0 else ""
    return f"{version['revision'][:12]} {version['time']} {version['principal']}  {changed}{rest}  {why}"


async def _record(call: Call, arguments: Mapping[str, Any]) -> Answer:
    said = {name: arguments[name] for name in ("kind", "text", "origin") if arguments.get(name)}
    if arguments.get("model"):
        version = {"version": arguments["version"]} if arguments.get("version") else {}
        said["model"] = {"name": arguments["model"], **version}
    numbers = await call.door.call("record", said=[said], session=arguments.get("session", ""))
    return f"record {numbers[0]}"


def tools() -> Sequence[Entry]:
    """Return the tools in listing order."""
    words = {"type": "string"}
    return (
        Entry(
            "ctx_history",
            "The past of memory, pads and contexts: log (versions of a path), show (a file as it was), diff (at → to), "
            "snapshot (name all of it), restore (a path; a dry run unless dry_run is false; a new version, never a loss).",
            CHANGES,
            _history,
            {
                "mode": {"enum": ["log", "show", "diff", "snapshot", "restore"]},
                "path": words,
                "at": {
                    "type": "string",
                    "description": "a revision, a snapshot, or a time such as 1h-ago or 2026-11-20T10:00",
                },
                "to": {"type": "string", "description": "of a diff; latest by default"},
                "name": {"type": "string", "description": "of a snapshot"},
                "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_LOGGED},
                "dry_run": {"type": "boolean"},
            },
            ("mode",),
        ),
        Entry(
            "ctx_record",
            "Add to the history, which nobody can change.",
            ADDS,
            _record,
            {
                "text": words,
                "kind": {"enum": ["note", "input", "output", "reasoning", "tool_call", "tool_result"]},
                "session": words,
                "origin": words,
                "model": words,
                "version": words,
            },
            ("text",),
        ),
    )
