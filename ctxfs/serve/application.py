"""The application behind the gate: the routes of all interfaces."""

import json
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.serve import files
from ctxfs.serve.afs import route as afs
from ctxfs.serve.endpoints import Failure, endpoint
from ctxfs.serve.memory_stores import routes as memory_stores
from ctxfs.serve.methods import call_method, error_response
from ctxfs.serve.openapi import describe_server

DESCRIPTION = "/openapi.json"


def refuse_request(path: str, status: int, reason: str) -> Response:
    """Return the response to a request that does not reach its route, in the form of the interface of its path."""
    failure = Failure(status, "EACCES" if status == 401 else "UNAVAILABLE", reason)
    if path == afs.PATH:
        return afs.error_response(failure)
    if path.startswith(memory_stores.PREFIX):
        return memory_stores.error_response(failure)
    return error_response(failure)


def build_application(daemon: DaemonSessions, interfaces: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the application; `interfaces` are the routes of the interfaces that others defined."""
    description = json.dumps(describe_server()).encode()

    async def describe(request: Request) -> Response:
        return Response(description, media_type="application/json")

    async def refuse(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code, text = (
            ("ENOSYS", "this path has no such method") if status == 405 else ("ENOENT", "there is no such path")
        )
        return error_response(Failure(status, code, text, request.url.path[:200], f"see {DESCRIPTION}"))

    routes = [
        Route(DESCRIPTION, describe),
        Route("/api/{method}", endpoint(daemon, call_method, error_response), methods=["POST"]),
        Route(
            f"{files.PREFIX}{{path:path}}",
            endpoint(daemon, files.serve_file, error_response),
            methods=list(files.METHODS),
        ),
        *interfaces,
    ]
    return Starlette(routes=routes, exception_handlers={404: refuse, 405: refuse})
