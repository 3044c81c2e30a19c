"""The route of the interface: requests in either form, results, and errors with the interface's codes."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ctxfs.http.bodies import json_response, read_object
from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.http.tree import Tree
from ctxfs.serve.afs.actions import execute
from ctxfs.serve.afs.entries import PathMapping, Record
from ctxfs.serve.afs.explain import explain_path
from ctxfs.serve.afs.operations import Operations
from ctxfs.serve.afs.settings import AfsSettings
from ctxfs.serve.endpoints import Failure, endpoint

PATH = "/rpc"
# The parameters of each method, in the order of `args`.
_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "list": ("path", "options"),
    "read": ("path", "options"),
    "stat": ("path", "options"),
    "explain": ("path", "options"),
    "delete": ("path", "options"),
    "write": ("path", "content", "options"),
    "rename": ("path", "newPath", "options"),
    "search": ("path", "query", "options"),
    "exec": ("path", "args", "options"),
}
_OLD_PATH = "oldPath"  # the parameter of `rename` in the first form of the interface
_NOT_FOUND, _DENIED, _CONFLICT, _RUNTIME, _UNAUTHORIZED = 1, 2, 3, 5, 6
_CODES: Mapping[str, int] = {
    "ENOENT": _NOT_FOUND,
    "ENOTDIR": _NOT_FOUND,
    "EACCES": _DENIED,
    "EPERM": _DENIED,
    "EROFS": _DENIED,
    "EEXIST": _CONFLICT,
    "ESTALE": _CONFLICT,
    "ENOTEMPTY": _CONFLICT,
    "EBUSY": _CONFLICT,
}
_MALFORMED = "REQUEST"
# A failed operation is a response of the interface, with 200; these are failures of the request or of the server.
_KEPT_STATUSES = (401, 413, 421, 503)


def afs_route(daemon: DaemonSessions, settings: AfsSettings) -> Route:
    """Return the route of the interface."""
    paths = PathMapping(settings.root)

    async def answer(tree: Tree, request: Request) -> Response:
        try:
            body = await read_object(request)
        except OSError as error:
            raise Failure(400, _MALFORMED, error.strerror or "") from error
        method, parameters = parse_call(body)
        return json_response({"success": True, "data": await _run(tree, paths, settings, method, parameters)})

    return Route(PATH, endpoint(daemon, answer, error_response), methods=["POST"])


def parse_call(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the method and its parameters by name. Raise Failure for a malformed request."""
    method = body.get("method")
    if not isinstance(method, str) or method not in _PARAMETERS:
        raise Failure(400, _MALFORMED, f"a method is one of {', '.join(_PARAMETERS)}")
    parameters = body.get("params")
    if "args" in body:
        positional = body["args"]
        if not isinstance(positional, list) or len(positional) > len(_PARAMETERS[method]):
            raise Failure(400, _MALFORMED, f"the args are a list of {', '.join(_PARAMETERS[method])}")
        parameters = dict(zip(_PARAMETERS[method], positional, strict=False))
    if not isinstance(parameters, Mapping):
        raise Failure(400, _MALFORMED, "the params are an object")
    return method, parameters


async def _run(
    tree: Tree, paths: PathMapping, settings: AfsSettings, method: str, parameters: Mapping[str, Any]
) -> Record:
    operations = Operations(tree, paths)
    path, options = parameters.get("path"), _object(parameters, "options")
    match method:
        case "exec":
            return await execute(tree, paths, settings, path, _object(parameters, "args"))
        case "explain":
            return await explain_path(tree, paths, path)
        case "write":
            return await operations.write(path, parameters.get("content"), options)
        case "rename":
            old_path = parameters.get(_OLD_PATH, path)
            return await operations.rename(old_path, parameters.get("newPath"), options)
        case "search":
            return await operations.search(path, parameters.get("query"), options)
        case "list":
            return await operations.list(path, options)
        case "read":
            return await operations.read(path, options)
        case "stat":
            return await operations.stat(path, options)
        case _:
            return await operations.delete(path, options)


def _object(parameters: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parameters.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Failure(400, _MALFORMED, f"the {name} are an object")
    return value


def error_response(failure: Failure) -> Response:
    """Return the response of the interface to a failure."""
    code = _UNAUTHORIZED if failure.status == 401 else _CODES.get(failure.code, _RUNTIME)
    message = f"{failure.path}: {failure.message}" if failure.path else failure.message
    is_request_failure = failure.code == _MALFORMED or failure.status in _KEPT_STATUSES
    status = failure.status if is_request_failure else 200
    return json_response({"success": False, "error": {"code": code, "message": message}}, status)
