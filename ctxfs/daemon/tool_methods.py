"""What can be asked of tools, by name: which there are, running one, approving one. Plain values in, plain values out."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ctxfs.app import App
from ctxfs.exec.catalog import Offered
from ctxfs.exec.process import sandbox
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.path import Path
from ctxfs.policy.rules import Verb
from ctxfs.threads import blocking
from ctxfs.vfs.record import Caller

_LONGEST_ARGUMENTS = 4000  # characters of them in the history


async def _tools(app: App, caller: Caller, args: Mapping[str, Any]) -> Any:
    """The tools that exist for the caller, whether each may be run and why not; folders that are none, and why; the sandbox."""
    offered, faults = await blocking(app.calls.catalog.offered)
    seen = [each for each in offered if app.policy.may(caller.principal, Verb.READ, Path(("tools", each.tool.name)))]
    whole = app.policy.is_free(caller.principal)
    return {"tools": [_record(app, each) for each in seen], "faults": faults if whole else {}, "sandbox": sandbox()}


async def _call(app: App, caller: Caller, args: Mapping[str, Any]) -> Any:
    """Run a tool; what it was asked and what came of it are in the history."""
    name, arguments = str(args["name"]), args.get("arguments", {})
    if not isinstance(arguments, dict):
        raise invalid(f"tools/{name}", "arguments are an object")
    if not app.policy.rights(caller.principal, Path.parse(f"tools/{name}")).exists:
        raise path_error(2, f"tools/{name}")

    async def read(path: str) -> bytes:
        return await caller.tree.read(Path.parse(path))

    done = await app.calls.call(
        name, arguments, str(args["id"]), str(caller.principal), read, confirmed=bool(args.get("confirmed"))
    )
    asked = json.dumps(arguments, ensure_ascii=False)[:_LONGEST_ARGUMENTS]
    told = {key: done[key] for key in ("ok", "fault", "sha256", "seconds")}
    await app.remember(
        str(caller.principal),
        [
            {"kind": "tool_call", "tool": name, "call": done["id"], "arguments": asked},
            {"kind": "tool_result", "tool": name, "call": done["id"], "origin": f"tools/{name}", **told},
        ],
    )
    return done


async def _state(app: App, caller: Caller, args: Mapping[str, Any]) -> Any:
    return app.calls.state(str(args["id"]), str(caller.principal))


async def _cancel(app: App, caller: Caller, args: Mapping[str, Any]) -> Any:
    return app.calls.cancel(str(args["id"]), str(caller.principal))


async def _approve(app: App, caller: Caller, args: Mapping[str, Any]) -> Any:
    return (await blocking(app.calls.catalog.approve, str(args["name"]))).record


def _record(app: App, offered: Offered) -> dict[str, Any]:
    refusal = offered.refusal or ("" if app.may_run(offered.tool) else "you may not run it")
    free = not app.restricted_reader()  # where it lies on the host is nobody else's to know
    return {
        **offered.tool.record,
        "builtin": offered.tool.builtin,
        "folder": offered.tool.folder if free else "",
        "refusal": refusal,
    }


TOOL_METHODS: Mapping[str, Callable[[App, Caller, Mapping[str, Any]], Awaitable[Any]]] = {
    "tools": _tools,
    "call_tool": _call,
    "call_state": _state,
    "cancel_call": _cancel,
    "approve_tool": _approve,
}
