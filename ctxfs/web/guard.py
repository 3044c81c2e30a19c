"""The gate before every page: host, cookie, origin of unsafe requests, form token, and the headers of all responses.

Everything behind it may assume a browser session. The path of all pages begins with a random prefix, which is also the
path of the cookie: a browser sends cookies to every port of a host, and so never sends this one to another server here.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response

from ctxfs.http.asgi import Application, Receive, Scope, Send, with_headers
from ctxfs.http.endpoint import Endpoint
from ctxfs.web.sessions import BrowserSession, BrowserSessions, is_form_token

COOKIE = "ctxfs"
FORM_TOKEN = "form_token"  # noqa: S105 - the name of the field
OPEN = "open"
MAX_BODY_BYTES = 512 * 1024  # an edited text of 128 kB, percent-encoded
_MAX_FIELDS = 200
_SAFE_METHODS = ("GET", "HEAD")
_FORM_TYPE = "application/x-www-form-urlencoded"
_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Address:
    """The endpoint of the page with its port, and the first name of all its paths."""

    endpoint: Endpoint
    port: int
    prefix: str

    @property
    def hosts(self) -> Collection[str]:
        """Return the values of `Host` that a browser sends for this page."""
        return self.endpoint.hosts(self.port)

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return f"{self.endpoint.url(self.port)}/{self.prefix}/"


class Refusal(Exception):
    """A refused request: the status and the reason, for the person in front of the browser."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """The ASGI application before that of the pages. It sets `session` and `form` in the scope."""

    def __init__(self, app: Application, sessions: BrowserSessions, address: Address) -> None:
        self._app = app
        self._sessions = sessions
        self._address = address
        self._headers = {**HEADERS, **address.endpoint.headers}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send = with_headers(send, self._headers)
        try:
            response = await self._admit(scope, receive)
        except Refusal as refusal:
            response = _plain_page(str(refusal), refusal.status)
        if response is not None:
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive) -> Response | None:
        """Return None for a request that the pages may answer, else the answer. Raise Refusal."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["path"] == "/favicon.ico":
            return Response(status_code=204)  # browsers look for it there before they have read a page
        name = self._name_below_prefix(str(scope["path"]))
        if name == OPEN and scope["method"] == "GET":
            return self._open(scope, headers)
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refusal(403, "this request comes from another site")
        cookie = _cookie_of(headers)
        session = self._sessions.find_session(cookie) if cookie else None
        if session is None:
            raise Refusal(401, "open the address that the command prints: ctxfs web")
        scope["session"] = session
        scope["form"] = {}
        if scope["method"] not in _SAFE_METHODS:
            scope["form"] = await self._check_unsafe(scope, receive, headers, session)
        return None

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name of another site that leads to this machine (DNS rebinding)."""
        if [host.lower() for host in headers.getlist("host")] not in [[host] for host in self._address.hosts]:
            raise Refusal(421, "this page has another host name")

    def _name_below_prefix(self, path: str) -> str:
        prefix = f"/{self._address.prefix}/"
        if not path.startswith(prefix):
            raise Refusal(404, "open the address that the command prints: ctxfs web")
        return path.removeprefix(prefix)

    def _open(self, scope: Scope, headers: Headers) -> Response:
        """Exchange the one-time secret for a cookie.

        The response is a page, no redirection: a browser that comes from another site would not send the new cookie yet.
        """
        if headers.get("sec-fetch-dest", "document") != "document":
            raise Refusal(403, "an address is opened by a person, not by a part of another page")
        query = scope["query_string"]
        assert isinstance(query, bytes)
        secret = dict(parse_qsl(query.decode("ascii", "replace"), max_num_fields=_MAX_FIELDS)).get("secret", "")
        cookie = self._sessions.open_session(secret)
        if cookie is None:
            raise Refusal(401, "this address was used already, or is too old; a new one: ctxfs web")
        home = f"/{self._address.prefix}/"
        response = _plain_page(
            f'<a href="{home}">Open the page</a>', head=f'<meta http-equiv="refresh" content="0;url={home}">'
        )
        is_secure = self._address.endpoint.tls is not None
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", path=home, secure=is_secure)
        return response

    async def _check_unsafe(
        self, scope: Scope, receive: Receive, headers: Headers, session: BrowserSession
    ) -> Mapping[str, str]:
        """Return the fields of a form of our own pages. Raise Refusal for any other request that could change anything."""
        if scope["method"] != "POST":
            raise Refusal(405, "the page has no such method")
        if headers.get("sec-fetch-site") != "same-origin":
            raise Refusal(403, "this request does not come from this page")
        # With `no-referrer` a browser that posts a form without a script sends the origin as null.
        if headers.get("origin", "null") not in [
            "null",
            *(f"{self._address.endpoint.scheme}://{host}" for host in self._address.hosts),
        ]:
            raise Refusal(403, "this request does not come from this page")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
            raise Refusal(415, "a form is needed")
        try:
            fields = dict(
                parse_qsl(
                    (await _read_body(receive)).decode("ascii"),
                    keep_blank_values=True,
                    errors="surrogateescape",
                    max_num_fields=_MAX_FIELDS,
                )
            )
        except ValueError as error:
            raise Refusal(400, "this is no form") from error
        if not is_form_token(session, fields.pop(FORM_TOKEN, "")):
            raise Refusal(403, "this form is of an earlier session: load the page again")
        return fields


def _cookie_of(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refusal(400, "the request has no end")
        part = message.get("body", b"")
        assert isinstance(part, bytes)
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, f"a form has at most {MAX_BODY_BYTES} bytes")
        if not message.get("more_body"):
            return bytes(body)


def _plain_page(text: str, status: int = 200, head: str = "") -> Response:
    """Return a page without the parts of a session. `text` and `head` are the page's own: nothing of the request."""
    return HTMLResponse(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>ctxfs</title>{head}</head>'
        f"<body><main><h1>ctxfs</h1><p>{text}</p></main></body></html>\n",
        status_code=status,
    )
