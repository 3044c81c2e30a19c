"""`ctx_history` and `ctx_record`: versions of files, and the event log."""

from collections.abc import Mapping, Sequence
from typing import Any

from ctxfs.index.extract.text_decoding import decode, read_text
from ctxfs.mcp_server.tool_registry import ADDS, CHANGES, Answer, Call, Entry
from ctxfs.mcp_server.uris import parse_path, printable_path
from ctxfs.model.errors import invalid

_DEFAULT_LOG_VERSIONS = 20
_MAX_LOG_VERSIONS = 500


async def _history(call: Call, arguments: Mapping[str, Any]) -> Answer:
    mode, path = arguments["mode"], parse_path(arguments.get("path", ""))
    if mode == "log":
        versions = await call.tree.call(
            "log", path=str(path), limit=arguments.get("limit", _DEFAULT_LOG_VERSIONS), changes=True
        )
        lines = "\n".join(map(_format_version, versions)) or "no versions"
        unrecorded = await call.tree.call("unrecorded")
        return f"[the newest changes have no version yet: {unrecorded}]\n{lines}" if unrecorded else lines
    if mode == "snapshot":
        snapshot = await call.tree.call("snapshot", name=_require(arguments, "name"))
        return f"snapshot {arguments['name']} of {snapshot['revision'][:12]}"
    if mode == "show":
        data: bytes = await call.tree.call("show", path=str(path), at=_require(arguments, "at"))
        text = read_text(data, keeps_line_ends=True)
        return data.decode("utf-8", "replace") if text is None else text
    if mode == "diff":
        old, new = _require(arguments, "at"), arguments.get("to", "latest")
        patch: bytes = await call.tree.call("diff", path=str(path), old=old, new=new)
        return decode(patch) or "no difference"
    is_dry_run = arguments.get("dry_run", True)
    restored = await call.tree.call("restore", path=str(path), to=_require(arguments, "at"), dry_run=is_dry_run)
    changes = [f"{change['what']} {change['path']}" for change in restored["changes"]]
    skipped = [
        f"left: {skipped_path}: {reason}"
        for skipped_path, reason in zip(restored["kept"], restored["reasons"], strict=True)
    ]
    if not changes:
        return "\n".join(["nothing to restore", *skipped])
    head = (
        f"would restore {printable_path(path)}; to do it: dry_run false"
        if is_dry_run
        else f"restored {printable_path(path)}; it can be undone"
    )
    diff = decode(restored["diff"])
    return "\n".join([head, *changes, *skipped, *([diff] if is_dry_run and diff else [])])


def _require(arguments: Mapping[str, Any], name: str) -> str:
    if not arguments.get(name):
        raise invalid("ctx_history", f"mode {arguments['mode']} needs '{name}'")
    return str(arguments[name])


def _format_version(version: Mapping[str, Any]) -> str:
    changes_text = ", ".join(f"{change['what']} {change['path']}" for change in version.get("changes", ())[:5])
    more = len(version.get("changes", ())) - 5
    reason = version["reason"] or version["subject"]
    more_text = f" and {more} more" if more > 0 else ""
    return f"{version['revision'][:12]} {version['time']} {version['principal']}  {changes_text}{more_text}  {reason}"


async def _record(call: Call, arguments: Mapping[str, Any]) -> Answer:
    record = {name: arguments[name] for name in ("kind", "text", "origin") if arguments.get(name)}
    if arguments.get("model"):
        version = {"version": arguments["version"]} if arguments.get("version") else {}
        record["model"] = {"name": arguments["model"], **version}
    sequence_numbers = await call.tree.call("record", said=[record], session=arguments.get("session", ""))
    return f"record {sequence_numbers[0]}"


def tools() -> Sequence[Entry]:
    """Return the tools in listing order."""
    string = {"type": "string"}
    return (
        Entry(
            "ctx_history",
            "Versions of memory, pads and contexts: log (of a path), show (a file at a version), diff (at → to), "
            "snapshot (name the newest version), restore (a path; a dry run unless dry_run is false; it adds a version).",
            CHANGES,
            _history,
            {
                "mode": {"enum": ["log", "show", "diff", "snapshot", "restore"]},
                "path": string,
                "at": {
                    "type": "string",
                    "description": "a revision, a snapshot, or a time such as 1h-ago or 2026-11-20T10:00",
                },
                "to": {"type": "string", "description": "of a diff; latest by default"},
                "name": {"type": "string", "description": "of a snapshot"},
                "limit": {"type": "integer", "minimum": 1, "maximum": _MAX_LOG_VERSIONS},
                "dry_run": {"type": "boolean"},
            },
            ("mode",),
        ),
        Entry(
            "ctx_record",
            "Append a record to history/; it is permanent.",
            ADDS,
            _record,
            {
                "text": string,
                "kind": {"enum": ["note", "input", "output", "reasoning", "tool_call", "tool_result"]},
                "session": string,
                "origin": string,
                "model": string,
                "version": string,
            },
            ("text",),
        ),
    )
