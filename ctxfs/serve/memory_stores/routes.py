"""The routes of the interface, and errors in its form."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ctxfs.http.bodies import json_response, read_object
from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.http.tree import Tree
from ctxfs.model.errors import invalid
from ctxfs.serve.endpoints import Failure, endpoint
from ctxfs.serve.memory_stores.memories import Memories
from ctxfs.serve.memory_stores.paging import is_full, page_response, slice_page, time_bounds
from ctxfs.serve.memory_stores.stores import Stores
from ctxfs.serve.memory_stores.versions import Versions

PREFIX = "/v1/memory_stores"
_MAX_BODY_BYTES = 1024 * 1024
_ERROR_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}

Operation = Callable[[Tree, Request], Awaitable[Mapping[str, Any]]]


async def _create_store(tree: Tree, request: Request) -> Mapping[str, Any]:
    return (await Stores(tree).create(await _body_of(request))).as_response()


async def _list_stores(tree: Tree, request: Request) -> Mapping[str, Any]:
    query = request.query_params
    earliest, latest = time_bounds(query)
    records = await Stores(tree).list_records(with_archived=query.get("include_archived") == "true")
    page, following = slice_page([record for record in records if earliest <= record.created <= latest], query)
    return page_response([record.as_response() for record in page], following)


async def _retrieve_store(tree: Tree, request: Request) -> Mapping[str, Any]:
    return (await Stores(tree).find(_store_id(request))).record.as_response()


async def _update_store(tree: Tree, request: Request) -> Mapping[str, Any]:
    return (await Stores(tree).update(_store_id(request), await _body_of(request))).as_response()


async def _archive_store(tree: Tree, request: Request) -> Mapping[str, Any]:
    return (await Stores(tree).archive(_store_id(request))).as_response()


async def _delete_store(tree: Tree, request: Request) -> Mapping[str, Any]:
    await Stores(tree).delete(_store_id(request))
    return {"id": _store_id(request), "type": "memory_store_deleted"}


async def _create_memory(tree: Tree, request: Request) -> Mapping[str, Any]:
    memories = Memories(tree, await Stores(tree).find_open(_store_id(request)))
    full = is_full(request.query_params, "basic")
    return await memories.response(await memories.create(await _body_of(request)), full=full)


async def _list_memories(tree: Tree, request: Request) -> Mapping[str, Any]:
    query = request.query_params
    full, depth = is_full(query, "basic"), query.get("depth", "0")
    if depth not in ("0", "1"):
        raise invalid("depth", "it is 0 or 1")
    memories = Memories(tree, await Stores(tree).find(_store_id(request)))
    page, following = slice_page(await memories.list_items(query.get("path_prefix", ""), int(depth)), query)
    records: list[Mapping[str, Any]] = []
    for item in page:
        if isinstance(item, str):
            records.append({"type": "memory_prefix", "path": item})
        else:
            records.append(await memories.response(item, full=full))
    return page_response(records, following)


async def _retrieve_memory(tree: Tree, request: Request) -> Mapping[str, Any]:
    memories = Memories(tree, await Stores(tree).find(_store_id(request)))
    position = memories.find(request.path_params["memory"])
    return await memories.response(position, full=is_full(request.query_params, "full"))


async def _update_memory(tree: Tree, request: Request) -> Mapping[str, Any]:
    memories = Memories(tree, await Stores(tree).find_open(_store_id(request)))
    full = is_full(request.query_params, "basic")
    position = await memories.update(request.path_params["memory"], await _body_of(request))
    return await memories.response(position, full=full)


async def _delete_memory(tree: Tree, request: Request) -> Mapping[str, Any]:
    memories = Memories(tree, await Stores(tree).find(_store_id(request)))
    memory_id = request.path_params["memory"]
    await memories.delete(memory_id, request.query_params.get("expected_content_sha256", ""))
    return {"id": memory_id, "type": "memory_deleted"}


async def _list_versions(tree: Tree, request: Request) -> Mapping[str, Any]:
    query, full = request.query_params, is_full(request.query_params, "basic")
    versions = Versions(tree, await Stores(tree).find(_store_id(request)))
    page, following = slice_page(await versions.list_versions(query), query)
    return page_response(await versions.responses(page, full=full), following)


async def _retrieve_version(tree: Tree, request: Request) -> Mapping[str, Any]:
    versions = Versions(tree, await Stores(tree).find(_store_id(request)))
    version = await versions.find(request.path_params["version"])
    return await versions.response(version, full=is_full(request.query_params, "full"))


async def _redact_version(tree: Tree, request: Request) -> Mapping[str, Any]:
    versions = Versions(tree, await Stores(tree).find(_store_id(request)))
    version = await versions.redact(request.path_params["version"], await tree.principal())
    return await versions.response(version, full=True)


_STORE = f"{PREFIX}/{{store}}"
_MEMORY = f"{_STORE}/memories/{{memory}}"
_OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", PREFIX): _create_store,
    ("GET", PREFIX): _list_stores,
    ("GET", _STORE): _retrieve_store,
    ("POST", _STORE): _update_store,
    ("DELETE", _STORE): _delete_store,
    ("POST", f"{_STORE}/archive"): _archive_store,
    ("POST", f"{_STORE}/memories"): _create_memory,
    ("GET", f"{_STORE}/memories"): _list_memories,
    ("GET", _MEMORY): _retrieve_memory,
    ("POST", _MEMORY): _update_memory,
    ("DELETE", _MEMORY): _delete_memory,
    ("GET", f"{_STORE}/memory_versions"): _list_versions,
    ("GET", f"{_STORE}/memory_versions/{{version}}"): _retrieve_version,
    ("POST", f"{_STORE}/memory_versions/{{version}}/redact"): _redact_version,
}


def memory_store_routes(daemon: DaemonSessions) -> list[Route]:
    """Return the routes of the interface."""
    return [
        Route(path, endpoint(daemon, _responding(operation), error_response), methods=[method])
        for (method, path), operation in _OPERATIONS.items()
    ]


def _responding(operation: Operation) -> Callable[[Tree, Request], Awaitable[Response]]:
    async def respond(tree: Tree, request: Request) -> Response:
        return json_response(await operation(tree, request))

    return respond


def error_response(failure: Failure) -> Response:
    """Return the response of the interface to a failure."""
    message = f"{failure.path}: {failure.message}" if failure.path else failure.message
    kind = _ERROR_TYPES.get(failure.status, "api_error")
    return json_response({"type": "error", "error": {"type": kind, "message": message}}, failure.status)


def _store_id(request: Request) -> str:
    return str(request.path_params["store"])


async def _body_of(request: Request) -> Mapping[str, Any]:
    return await read_object(request, _MAX_BODY_BYTES)
