"""Access to the page: one-time secrets of printed addresses, and the browser sessions that they open."""

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass

from ctxfs.http.access import Access

SECRET_SECONDS = 600.0
SESSION_SECONDS = 12 * 3600.0  # since the last request
MAX_SECRETS = 32
MAX_SESSIONS = 64
_SECRET_BYTES = 32


@dataclass(slots=True)
class BrowserSession:
    """The session of one browser. `form_token` is part of each form of its pages."""

    access: Access
    form_token: str
    used_at: float


class BrowserSessions:
    """One-time secrets and sessions, in memory only: a restart of the page ends them all. For one thread."""

    def __init__(self) -> None:
        self._secrets: OrderedDict[bytes, tuple[Access, float]] = OrderedDict()
        self._sessions: OrderedDict[bytes, BrowserSession] = OrderedDict()

    def issue_secret(self, access: Access) -> str:
        """Return a secret that opens one session within `SECRET_SECONDS`."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        self._secrets[_digest(secret)] = access, time.monotonic()
        while len(self._secrets) > MAX_SECRETS:
            self._secrets.popitem(last=False)
        return secret

    def open_session(self, secret: str) -> str | None:
        """Use a secret up and return the cookie of a new session; None for a secret that is used, late or invented."""
        access, issued_at = self._secrets.pop(_digest(secret), (None, 0.0))
        if access is None or time.monotonic() - issued_at > SECRET_SECONDS:
            return None
        cookie = secrets.token_urlsafe(_SECRET_BYTES)
        session = BrowserSession(access, secrets.token_urlsafe(_SECRET_BYTES), time.monotonic())
        self._sessions[_digest(cookie)] = session
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return cookie

    def find_session(self, cookie: str) -> BrowserSession | None:
        """Return the session of a cookie; None if it has ended or never was."""
        digest = _digest(cookie)
        session = self._sessions.get(digest)
        if session is None:
            return None
        if time.monotonic() - session.used_at > SESSION_SECONDS:
            del self._sessions[digest]
            return None
        session.used_at = time.monotonic()
        self._sessions.move_to_end(digest)
        return session

    def end_session(self, cookie: str) -> None:
        """End the session of a cookie."""
        self._sessions.pop(_digest(cookie), None)


def is_form_token(session: BrowserSession, token: str) -> bool:
    """Return True for the form token of a session; takes the same time for all wrong ones."""
    return hmac.compare_digest(session.form_token.encode(), token.encode("utf-8", "surrogateescape"))


def _digest(secret: str) -> bytes:
    # A lookup by digest: its time does not depend on the stored secrets.
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
