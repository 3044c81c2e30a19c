"""Endpoints: the tree of a request's client, and errors as responses of one interface."""

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from ctxfs.http.bodies import TooLarge
from ctxfs.http.daemon_sessions import AccessEnded, DaemonAway, DaemonSessions
from ctxfs.http.errors import name_of, status_of
from ctxfs.http.tree import Tree
from ctxfs.model.errors import CommandError
from ctxfs.model.path import printable_text

log = logging.getLogger(__name__)

Handler = Callable[[Tree, Request], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Failure(Exception):
    """A failed request: the HTTP status, the name of the error, its text for people, its path and the remedy."""

    def __init__(self, status: int, code: str, message: str, path: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = printable_text(message)
        self.path = printable_text(path)
        self.remedy = remedy


ErrorResponse = Callable[[Failure], Response]


def endpoint(daemon: DaemonSessions, handler: Handler, respond: ErrorResponse) -> Endpoint:
    """Return the endpoint of a handler. `respond` writes a failure in the form of the interface."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(Tree(daemon, request.scope["access"]), request)
        except Exception as error:
            response = respond(failure_of(error))
            if isinstance(error, TooLarge):
                response.headers["connection"] = "close"  # the rest of the body is not read
            return response

    return handle


def failure_of(error: Exception) -> Failure:
    """Return an exception of a handler as a failure. Unexpected ones are logged."""
    match error:
        case Failure():
            return error
        case TooLarge():
            return Failure(413, "EFBIG", str(error))
        case DaemonAway():
            return Failure(503, "UNAVAILABLE", error.message, remedy=error.remedy)
        case AccessEnded():
            return Failure(401, "EACCES", error.message, remedy=error.remedy)
        case CommandError():
            return Failure(400, "REFUSED", error.message, remedy=error.remedy)
        case OSError():
            message, path = error.strerror or str(error), str(error.filename or "")
            return Failure(status_of(error), name_of(error), message, path)
        case _:
            log.exception("a request failed", exc_info=error)
            return Failure(500, "EIO", f"internal error: {type(error).__name__}")
