"""The gate before every route: the host name, the token, and the headers of all responses.

A token comes as `Authorization: Bearer` or, from clients that have only that, as `X-Api-Key`. No cookie is read, so a
page of another site has no authority here.
"""

from collections.abc import Callable, Collection, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response

from ctxfs.http.access import Access
from ctxfs.http.asgi import Application, Receive, Scope, Send, with_headers
from ctxfs.http.daemon_sessions import AccessEnded, DaemonAway, DaemonSessions

Refuse = Callable[[str, int, str], Response]

_SCHEME = "bearer "
_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


class Gate:
    """The ASGI application before that of the routes. It sets `access` in the scope.

    `hosts` are the accepted values of `Host`. The paths in `public` need no token. `refuse` makes the response to a path,
    with a status and a reason. `headers` are added to each response.
    """

    def __init__(
        self,
        app: Application,
        daemon: DaemonSessions,
        hosts: Collection[str],
        public: Collection[str],
        refuse: Refuse,
        headers: Mapping[str, str],
    ) -> None:
        self._app = app
        self._refuse = refuse
        self._daemon = daemon
        self._hosts = hosts
        self._public = public
        self._headers = {**_HEADERS, **headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        send = with_headers(send, self._headers)
        headers = Headers(scope=scope)
        # DNS rebinding: a name of another site that leads to this machine.
        if headers.get("host", "").lower() not in self._hosts:
            await self._refuse(scope["path"], 421, "this server has another host name")(scope, receive, send)
            return
        if scope["path"] not in self._public:
            scope["access"] = Access(token=token_of(headers))
            status, reason = await self._verify(scope["access"])
            if status != 200:
                response = self._refuse(scope["path"], status, reason)
                response.headers.update({"www-authenticate": "Bearer", "connection": "close"})
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _verify(self, access: Access) -> tuple[int, str]:
        """Return the status of a refusal with its reason; 200 for a valid token."""
        if not access.token:
            return 401, "a token is needed: ctxfs token issue PRINCIPAL, then the header Authorization: Bearer TOKEN"
        try:
            await self._daemon.principal_of(access)
        except AccessEnded:
            return 401, "this token is not valid: issue one with ctxfs token issue PRINCIPAL"
        except DaemonAway as error:
            return 503, f"{error.message} → {error.remedy}"
        return 200, ""


def token_of(headers: Headers) -> str:
    """Return the token of a request, empty without one."""
    value = headers.get("authorization", "")
    if value[: len(_SCHEME)].lower() == _SCHEME:
        return value[len(_SCHEME) :].strip()
    return headers.get("x-api-key", "").strip()


def with_bearer(app: Application) -> Application:
    """Return an application that gets the token of `X-Api-Key` as `Authorization`, where the limits look for it."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            token = token_of(Headers(scope=scope))
            others = [pair for pair in scope["headers"] if pair[0] not in (b"authorization", b"x-api-key")]
            bearer = [(b"authorization", f"Bearer {token}".encode("latin-1", "replace"))] if token else []
            scope = {**scope, "headers": [*others, *bearer]}
        await app(scope, receive, send)

    return serve
