"""`POST /api/METHOD`: the methods of the daemon with JSON arguments, as the principal of the token may call them.

They are those of `daemon.api.methods`. The daemon's own methods (mounts, sources, `join`) concern this machine and its
connections, and are not served.
"""

import difflib
from collections.abc import Mapping
from typing import Any, get_type_hints

from starlette.requests import Request
from starlette.responses import Response

from ctxfs.daemon.api.methods import METHODS
from ctxfs.http.bodies import bytes_from_json, json_response, read_object, to_json
from ctxfs.http.tree import Tree
from ctxfs.model.entry import Entry
from ctxfs.model.errors import invalid
from ctxfs.rpc.wire import entry_from_wire
from ctxfs.serve.endpoints import Failure

_MAX_SUGGESTIONS = 3
# A command of the client would run on this machine. Without the argument the command of ctxfs.toml runs.
LOCAL_ARGUMENTS: Mapping[str, frozenset[str]] = {"consolidate": frozenset({"command"})}
# The positions of bytes in a change, and of a table of bytes.
_CHANGE_BYTES: Mapping[str, tuple[int, ...]] = {"put": (2, 3), "append": (2,), "meta": (3,)}


async def call_method(tree: Tree, request: Request) -> Response:
    """Answer a call of a method."""
    name = request.path_params["method"]
    if name not in METHODS:
        raise _unknown_method(name)
    arguments = arguments_from_json(name, await read_object(request))
    result = await tree.call(name, arguments)
    return json_response({"result": result_to_json(name, result)})


def _unknown_method(name: str) -> Failure:
    similar = difflib.get_close_matches(name, METHODS, _MAX_SUGGESTIONS)
    hint = f"did you mean {' or '.join(similar)}?" if similar else "see /openapi.json"
    return Failure(404, "ENOSYS", "there is no such method", name[:80], hint)


def arguments_from_json(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a method from JSON. Raise OSError EINVAL for one that is not served or not bytes."""
    hints = get_type_hints(METHODS[name].params)
    arguments = dict(values)
    for argument, value in values.items():
        if argument in LOCAL_ARGUMENTS.get(name, ()) and value:
            raise invalid(argument, "this argument is not taken over HTTP")
        if hints.get(argument) is bytes:
            arguments[argument] = bytes_from_json(argument, value)
    if name == "apply" and isinstance(arguments.get("change"), list):
        arguments["change"] = change_from_json(arguments["change"])
    return arguments


def change_from_json(change: list[Any]) -> list[Any]:
    """Return a change as `rpc.wire.change_to_wire` packs it, from one whose bytes are texts or base64."""
    verb = change[0] if change else None
    packed = list(change)
    for position in _CHANGE_BYTES.get(verb, ()) if isinstance(verb, str) else ():
        if position < len(packed) and packed[position] is not None:
            packed[position] = _change_part(packed[position], is_table=verb == "put" and position == 3)
    return packed


def _change_part(value: Any, *, is_table: bool) -> object:
    if not is_table:
        return bytes_from_json("change", value)
    if not isinstance(value, dict):
        raise invalid("change", "the attributes are an object")
    return {name: bytes_from_json(name, item) for name, item in value.items()}


def result_to_json(name: str, result: Any) -> Any:
    """Return the result of a method for JSON: entries of the tree as objects."""
    if name == "stat":
        return entry_record(entry_from_wire(result))
    if name == "list":
        return [entry_record(entry_from_wire(row)) for row in result]
    return to_json(result)


def entry_record(entry: Entry) -> dict[str, Any]:
    """Return an entry as an object; times are nanoseconds since the epoch."""
    return {
        "name": entry.name,
        "kind": entry.kind,
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        "mode": entry.mode,
        "target": entry.target,
    }


def error_response(failure: Failure) -> Response:
    """Return the response of the JSON interface to a failure."""
    members = {
        "code": failure.code,
        "message": failure.message,
        "path": failure.path,
        "remedy": failure.remedy,
    }
    return json_response({"error": {name: text for name, text in members.items() if text}}, failure.status)
