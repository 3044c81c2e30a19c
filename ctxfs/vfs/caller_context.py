"""On whose account an operation runs: what a mount may want to know and no path says."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ctxfs.model.principal import Principal

_acting: ContextVar[Principal | None] = ContextVar("ctxfs-acting", default=None)
_session: ContextVar[str] = ContextVar("ctxfs-session", default="")


@contextmanager
def acting(principal: Principal | None, session: str = "") -> Iterator[None]:
    """While the context lasts, what is done is done by this principal in this session; None: by ctxfs itself."""
    token, named = _acting.set(principal), _session.set(session)
    try:
        yield
    finally:
        _acting.reset(token)
        _session.reset(named)


def acting_principal() -> Principal | None:
    """Who acts; None for the daemon itself."""
    return _acting.get()


def acting_session() -> str:
    """In which session; empty for the daemon itself."""
    return _session.get()
