"""A request for a screen: its arguments, calls to the daemon on behalf of its principal, addresses, and the answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import trio
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ctxfs.http.access import Access
from ctxfs.http.daemon_sessions import DaemonSessions
from ctxfs.model.errors import CommandError, invalid
from ctxfs.model.path import encode_name
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.web.guard import FORM_TOKEN, Address
from ctxfs.web.renderer import Renderer
from ctxfs.web.sessions import BrowserSession
from ctxfs.web.templates import Templates

_MAX_FIELDS = 200
VIEW_AS = "as"


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the page that all requests share."""

    address: Address
    daemon: DaemonSessions
    templates: Templates
    renderer: Renderer
    navigation: Sequence[tuple[str, str]]  # (name of the screen, title)
    streams: trio.Semaphore  # of open event streams


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen, or an action of one: its path below the prefix, and the handler of its requests.

    `title` is that of the entry in the navigation, empty for none. A POST is refused in sessions that only read.
    """

    name: str
    handler: "Callable[[Page], Awaitable[Response]]"
    title: str = ""
    method: str = "GET"


class Page:
    """One request, after the guard. `open` comes first."""

    def __init__(self, request: Request, parts: Parts, screen: str) -> None:
        self.screen = screen
        self.renderer = parts.renderer
        self.streams = parts.streams
        self.form: Mapping[str, str] = request.scope["form"]
        self.is_fragment = "hx-request" in request.headers and "hx-boosted" not in request.headers
        self.last_event_id = request.headers.get("last-event-id", "")  # of an event stream that the browser opens again
        self.query: Mapping[str, str] = {}
        self.principal: Principal | None = None
        self._request = request
        self._parts = parts
        self._session: BrowserSession = request.scope["session"]
        self._access = self._session.access

    async def open(self) -> None:
        """Parse the arguments, and find the principal. Raises OSError and CommandError."""
        self.query = query_of(self._request)
        named = self.query.get(VIEW_AS, "")
        if named:
            if not self.is_owner:
                raise invalid(VIEW_AS, "this session is bound to its principal")
            self._access = Access(principal=str(parse_principal(named)))
        self.principal = await self._parts.daemon.principal_of(self._access)

    @property
    def is_owner(self) -> bool:
        """True in a session of the store's owner, who may view the tree as any principal."""
        return bool(self._session.access.is_owner)

    @property
    def is_viewing(self) -> bool:
        """True while the owner views the tree as another principal."""
        return bool(self._access != self._session.access)

    @property
    def is_read_only(self) -> bool:
        """True unless a person acts for itself, by the rights of this machine's user and without a credential."""
        is_itself = not self.is_viewing and not self._access.token
        return not is_itself or self.principal is None or not self.principal.is_person

    async def call(self, method: str, **arguments: object) -> Any:
        """Return the response of the daemon. Raises OSError and CommandError, as the method raises them."""
        return await self._parts.daemon.call(self._access, method, **arguments)

    async def call_all(self, *calls: tuple[str, Mapping[str, object]]) -> Sequence[Any]:
        """Return the responses to (method, arguments), which the daemon works on at the same time. Raise the first error."""
        responses: list[Any] = [None] * len(calls)
        errors: list[OSError | CommandError] = []

        async def call(number: int, method: str, arguments: Mapping[str, object]) -> None:
            try:
                responses[number] = await self.call(method, **arguments)
            except (OSError, CommandError) as error:
                errors.append(error)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for number, (method, arguments) in enumerate(calls):
                nursery.start_soon(call, number, method, arguments)
        if errors:
            raise errors[0]
        return responses

    def number(self, name: str, default: int, maximum: int = 10_000_000) -> int:
        """Return a positive number of the query. Raise EINVAL for another text."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= maximum:
            raise invalid(name, f"a number from 1 to {maximum} is needed")
        return int(text)

    def url(self, screen: str, fragment: str = "", /, **query: object) -> str:
        """Return the address of a screen, with the arguments that are not empty, and the view as another principal."""
        view = {VIEW_AS: self.query[VIEW_AS]} if self.is_viewing else {}
        encoded = _encode(view | {name: value for name, value in query.items() if value not in ("", None)})
        return self.base_url(screen) + (f"?{encoded}" if encoded else "") + fragment

    def leave_view(self) -> str:
        """Return the address of this screen for the session's own principal."""
        query = {name: value for name, value in self.query.items() if name != VIEW_AS}
        return self.base_url(self.screen) + (f"?{_encode(query)}" if query else "")

    def base_url(self, screen: str) -> str:
        """Return the address of a screen without any argument."""
        return f"/{self._parts.address.prefix}/{screen}"

    def url_base(self, screen: str, argument: str) -> str:
        """Return the address of a screen up to the value of an argument, which the caller appends percent-encoded."""
        address = self.url(screen)
        return f"{address}{'&' if '?' in address else '?'}{argument}="

    def here(self, **changes: object) -> str:
        """Return the address of this screen with other values of some arguments."""
        return self.url(
            self.screen, "", **{name: value for name, value in self.query.items() if name != VIEW_AS} | changes
        )

    def static(self, name: str) -> str:
        """Return the address of a file of the page itself."""
        return f"/{self._parts.address.prefix}/static/{name}"

    def render(self, template: str, status: int = 200, /, **values: object) -> Response:
        """Return the answer: a template with these values, and `page`, this request."""
        common = {
            "page": self,
            "navigation": self._parts.navigation,
            "form_token_name": FORM_TOKEN,
            "form_token": self._session.form_token,
        }
        return HTMLResponse(self._parts.templates.render(template, common | values), status_code=status)

    def fragment(self, template: str, **values: object) -> str:
        """Return a template as text, for a part of a stream."""
        return self._parts.templates.render(template, {"page": self, **values})

    def redirect(self, screen: str, **query: object) -> Response:
        """Return the answer to an action: the browser loads another screen."""
        return RedirectResponse(self.url(screen, "", **query), status_code=303)


def _encode(query: Mapping[str, object]) -> str:
    return urlencode({name: encode_name(str(value)) for name, value in query.items()}, quote_via=quote)


def query_of(request: Request) -> dict[str, str]:
    """Return the arguments of a request. Names that are not UTF-8 come back as bytes, by surrogateescape."""
    raw: bytes = request.scope["query_string"]
    try:
        pairs = parse_qsl(
            raw.decode("ascii"), keep_blank_values=True, errors="surrogateescape", max_num_fields=_MAX_FIELDS
        )
    except ValueError as error:
        raise invalid("query", "these are no arguments") from error
    return dict(pairs)
