"""The application behind the guard: screens by their path, files of the page itself, and errors as pages."""

import errno
import logging
from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from ctxfs.http.daemon_sessions import AccessEnded, DaemonAway
from ctxfs.http.errors import status_of
from ctxfs.model.errors import CommandError, not_found
from ctxfs.web.guard import COOKIE
from ctxfs.web.page import Page, Parts, Screen
from ctxfs.web.sessions import BrowserSessions

log = logging.getLogger(__name__)

_LEAVE = "leave"


def build_application(parts: Parts, sessions: BrowserSessions, screens: Sequence[Screen]) -> ASGIApp:
    """Return the application; the first screen is the home.

    The class Starlette would add a page of tracebacks for developers, and half a megabyte.
    """
    prefix = f"/{parts.address.prefix}"

    async def go_home(request: Request) -> Response:
        return RedirectResponse(f"{prefix}/{screens[0].name}", status_code=303)

    async def leave(request: Request) -> Response:
        response = Page(request, parts, _LEAVE).render("left.html")
        sessions.end_session(request.cookies.get(COOKIE, ""))
        response.delete_cookie(COOKIE, path=f"{prefix}/")
        return response

    async def not_there(request: Request, error: Exception) -> Response:
        return _error_page(Page(request, parts, ""), not_found(request.url.path))

    async def raise_not_found(scope: Scope, receive: Receive, send: Send) -> None:
        raise HTTPException(404)

    routes = [
        Route(f"{prefix}/", go_home),
        Route(f"{prefix}/{_LEAVE}", leave, methods=["POST"]),
        *(Route(f"{prefix}/{screen.name}", _endpoint(parts, screen), methods=[screen.method]) for screen in screens),
        Mount(f"{prefix}/static", StaticFiles(packages=[("ctxfs.web", "static")])),
    ]
    return ExceptionMiddleware(Router(routes, default=raise_not_found), handlers={404: not_there})


def _endpoint(parts: Parts, screen: Screen) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of a route: it acts for the principal of the session, and shows errors."""

    async def handle(request: Request) -> Response:
        page = Page(request, parts, screen.name)
        try:
            await page.open()
            if screen.method != "GET" and page.is_read_only:
                raise PermissionError(errno.EACCES, "this session only reads", str(page.principal))
            return await screen.handler(page)
        except (OSError, CommandError) as error:
            return _error_page(page, error)
        except Exception as error:
            log.exception("the screen %s failed", screen.name)
            return _error_page(page, OSError(errno.EIO, f"internal error: {type(error).__name__}"))

    return handle


def _error_page(page: Page, error: Exception) -> Response:
    """Return the page for an error: its object, the cause and the remedy; for a part of a screen, only these."""
    if isinstance(error, CommandError):
        status = 503 if isinstance(error, DaemonAway) else 401 if isinstance(error, AccessEnded) else 400
        values = {"where": "", "cause": error.message, "remedy": error.remedy}
    else:
        assert isinstance(error, OSError)
        status = status_of(error)
        values = {"where": str(error.filename or ""), "cause": error.strerror or str(error), "remedy": ""}
    template = "error_part.html" if page.is_fragment else "error.html"
    return page.render(template, status, away=error.subject if isinstance(error, DaemonAway) else "", **values)
