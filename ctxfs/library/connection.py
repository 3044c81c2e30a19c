"""The connection of a store object: to the daemon, or without one to the store opened in this process."""

import contextlib
import os
import threading
from collections.abc import Mapping
from typing import Any, TypeVar

from ctxfs.daemon.session import LocalSession, StoreSession, connect, note_nearest
from ctxfs.library.requests import Request
from ctxfs.model.errors import CommandError
from ctxfs.rpc.client import Client, DaemonGone, NoDaemon
from ctxfs.store.layout import Layout

Result = TypeVar("Result")
_EXISTENCE_METHODS = ("stat", "metadata")  # programs test for existence by these: no hints


class Connection:
    """Sends one request at a time, from any thread. It finds a daemon that was started or replaced in the meantime."""

    def __init__(self, layout: Layout, join: Mapping[str, object]) -> None:
        self.layout = layout
        self._join = dict(join)
        self._lock = threading.Lock()
        self._session: StoreSession | None = None
        self._process = os.getpid()
        self._is_closed = False

    def send(self, request: Request[Result]) -> Result:
        """Send a request and return its result. Errors of the method pass through; CommandError after `close`."""
        with self._lock:
            if self._is_closed:
                raise CommandError("this store object is closed", "open it again: ctxfs.open(…)")
            return request.decode(self._call(request))

    def _call(self, request: Request[Any]) -> Any:
        had_daemon = isinstance(self._session, Client)
        try:
            return self._call_once(request)
        except DaemonGone:
            self._drop()
            # A daemon that was replaced between two requests has closed the connection before it read the request.
            if not (had_daemon and request.is_repeatable):
                raise
        return self._call_once(request)

    def _call_once(self, request: Request[Any]) -> Any:
        session = self._open()
        try:
            return session.call(request.method, **request.arguments)
        except FileNotFoundError as error:
            if request.method not in _EXISTENCE_METHODS:
                note_nearest(session, error)
            raise
        finally:
            if isinstance(session, LocalSession):
                session.release_store()  # so that a daemon can start

    def _open(self) -> StoreSession:
        """Return the session: a new one in a forked process, and a local one only as long as no daemon runs."""
        if self._process != os.getpid():
            self._process, self._session = os.getpid(), None  # the parent's socket stays the parent's
        if self._session is None:
            self._session = self._joined(connect(self.layout))
        elif isinstance(self._session, LocalSession):
            with contextlib.suppress(NoDaemon):
                client = self._joined(Client(self.layout.run))
                self._drop()
                self._session = client
        return self._session

    def _joined(self, session: StoreSession) -> StoreSession:
        try:
            session.call("join", **self._join)
        except BaseException:
            session.close()
            raise
        return session

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def close(self) -> None:
        """End the session; further requests raise CommandError. A second call has no effect."""
        with self._lock:
            self._is_closed = True
            if self._process == os.getpid():
                self._drop()
