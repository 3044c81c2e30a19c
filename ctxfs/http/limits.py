"""Limits of the HTTP server: concurrent requests, sessions, invalid credentials, and the time to send a body.

An ASGI middleware. It decides before credentials are verified or bodies are read, so that a refusal costs little.
"""

import hashlib
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import trio

from ctxfs.http.asgi import Application, Message, Receive, Scope, Send

SESSION_HEADER = b"mcp-session-id"
_TOKEN = re.compile(rb"bearer (ctx_[0-9a-f]{8}_[A-Za-z0-9_-]{43})", re.IGNORECASE)
_MAX_ADDRESSES = 4096


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """The limits of an address and of a credential; `guesses` are invalid credentials from an address."""

    requests_of_address: int = 256
    requests_of_token: int = 64
    sessions_of_token: int = 32
    guesses: int = 20
    guesses_a_second: float = 1.0
    body_seconds: float = 60.0
    session_idle_seconds: float = 15 * 60.0


@dataclass(slots=True)
class _Guesses:
    """A token bucket: `left` guesses at the time `since`."""

    left: float
    since: float


@dataclass(slots=True)
class _TokenUse:
    requests: int = 0
    # id of each open session → time of its last request; oldest first
    sessions: OrderedDict[str, float] = field(default_factory=OrderedDict)
    busy: Counter[str] = field(default_factory=Counter)


class Limits:
    """An ASGI application that passes requests within the limits on, and answers the others with 401, 408 or 429."""

    def __init__(
        self,
        app: Application,
        *,
        needs_token: bool,
        limits: HttpLimits | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._needs_token = needs_token
        self._limits = limits or HttpLimits()
        self._now = now
        self._addresses: Counter[str] = Counter()
        self._guesses: OrderedDict[str, _Guesses] = OrderedDict()
        self._tokens: dict[str, _TokenUse] = {}
        self._accepted: OrderedDict[str, None] = OrderedDict()  # digests of credentials that the server has accepted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        address = str((scope.get("client") or ("",))[0])
        if address and self._addresses[address] >= self._limits.requests_of_address:
            await _refuse(send, 429, "too many requests at once from this address")
            return
        self._addresses[address] += 1
        try:
            await self._serve_admitted(scope, receive, send, address)
        finally:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    async def _serve_admitted(self, scope: Scope, receive: Receive, send: Send, address: str) -> None:
        if not self._needs_token:
            await self._serve_timed(scope, receive, send)
            return
        headers = list(scope["headers"])
        credential = _header(headers, b"authorization")
        match = _TOKEN.fullmatch(credential) if credential else None
        if credential and match is None:
            await _refuse(
                send, 401, "this is no token of ctxfs", (b"www-authenticate", b'Bearer error="invalid_token"')
            )
            return
        digest = hashlib.sha256(match[1]).hexdigest() if match else ""
        if digest and digest not in self._accepted and not self._can_guess(address):
            await _refuse(send, 429, "too many tokens that are not good", (b"retry-after", b"10"))
            return
        use = self._tokens.setdefault(digest, _TokenUse())
        if use.requests >= self._limits.requests_of_token and digest:
            await _refuse(send, 429, "too many requests at once with this token")
            return
        use.requests += 1
        try:
            await self._serve_counted(scope, receive, send, address, digest, use)
        finally:
            use.requests -= 1
            if not use.requests and not use.sessions:
                self._tokens.pop(digest, None)

    async def _serve_counted(
        self, scope: Scope, receive: Receive, send: Send, address: str, digest: str, use: _TokenUse
    ) -> None:
        """Serve a request, and learn from its response if the credential is valid and which session opens or ends."""
        session = _header(scope["headers"], SESSION_HEADER).decode("latin-1")
        if not session and not await self._evict_sessions(scope, use):
            await _refuse(send, 429, "too many open sessions with this token: end one", (b"retry-after", b"60"))
            return
        if session:
            use.busy[session] += 1

        async def record_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._record_response(message, scope["method"], address, digest, use, session)
            await send(message)

        try:
            await self._serve_timed(scope, receive, record_and_send)
        finally:
            if session:
                use.busy -= Counter((session,))
                if session in use.sessions:
                    use.sessions[session] = self._now()
                    use.sessions.move_to_end(session)

    def _record_response(
        self, response: Message, method: str, address: str, digest: str, use: _TokenUse, session: str
    ) -> None:
        status = int(response["status"])
        if status == 401:
            self._accepted.pop(digest, None)
            if digest:
                self._count_guess(address)
            return
        self._accepted[digest] = None
        if len(self._accepted) > _MAX_ADDRESSES:
            self._accepted.popitem(last=False)
        opened = _header(response.get("headers", ()), SESSION_HEADER).decode("latin-1")
        if opened and not session and status < 400:
            use.sessions[opened] = self._now()
        if session and (status == 404 or (method == "DELETE" and status < 400)):
            use.sessions.pop(session, None)

    async def _evict_sessions(self, scope: Scope, use: _TokenUse) -> bool:
        """End the sessions of a credential that exceed the idle time, and the longest idle one if the limit is reached.

        Return False if every permitted session has a request in progress.
        """
        limit, now = self._limits, self._now()
        idle = [session for session in use.sessions if not use.busy[session]]
        ended = [session for session in idle if now - use.sessions[session] > limit.session_idle_seconds]
        if len(use.sessions) - len(ended) >= limit.sessions_of_token:
            ended.extend(session for session in idle[:1] if session not in ended)
        for session in ended:
            use.sessions.pop(session, None)
            await self._end_session(scope, session)
        return len(use.sessions) < limit.sessions_of_token

    async def _end_session(self, scope: Scope, session: str) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name in (b"authorization", b"host", b"origin")]
        ending = {**scope, "method": "DELETE", "headers": [*headers, (SESSION_HEADER, session.encode("latin-1"))]}

        async def receive_empty() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def discard(message: Message) -> None:
            del message

        await self._app(ending, receive_empty, discard)

    async def _serve_timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose body must arrive within the limit."""
        end = trio.current_time() + self._limits.body_seconds
        is_whole = has_answered = is_late = False

        async def receive_in_time() -> Message:
            nonlocal is_whole, is_late
            if is_whole:
                return await receive()
            with trio.move_on_at(end):
                message = await receive()
                is_whole = message["type"] != "http.request" or not message.get("more_body", False)
                return message
            is_late = True
            return {"type": "http.disconnect"}

        async def send_unless_late(message: Message) -> None:
            nonlocal has_answered
            if is_late and not has_answered:
                return  # the application's response to the simulated disconnect
            has_answered = True
            await send(message)

        try:
            await self._app(scope, receive_in_time, send_unless_late)
        except Exception:
            if not is_late:
                raise
        if is_late and not has_answered:
            await _refuse(send, 408, "the body of the request did not come in time")

    def _can_guess(self, address: str) -> bool:
        return self._bucket(address).left >= 1

    def _count_guess(self, address: str) -> None:
        self._bucket(address).left -= 1

    def _bucket(self, address: str) -> _Guesses:
        now = self._now()
        bucket = self._guesses.get(address)
        if bucket is None:
            bucket = self._guesses[address] = _Guesses(self._limits.guesses, now)
            if len(self._guesses) > _MAX_ADDRESSES:
                self._guesses.popitem(last=False)
        bucket.left = min(self._limits.guesses, bucket.left + (now - bucket.since) * self._limits.guesses_a_second)
        bucket.since = now
        return bucket


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key.lower() == name), b"")


async def _refuse(send: Send, status: int, reason: str, *extra_headers: tuple[bytes, bytes]) -> None:
    body = f'{{"error": "{reason}"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"connection", b"close"), *extra_headers],
        }
    )
    await send({"type": "http.response.body", "body": body})
