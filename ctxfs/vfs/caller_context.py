"""The calling principal and session of an operation, as context variables: no path contains them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ctxfs.model.principal import Principal

_acting: ContextVar[Principal | None] = ContextVar("ctxfs-acting", default=None)
_session: ContextVar[str] = ContextVar("ctxfs-session", default="")


@contextmanager
def acting(principal: Principal | None, session: str = "") -> Iterator[None]:
    """Run the context for this principal in this session; None stands for ctxfs itself."""
    token, named = _acting.set(principal), _session.set(session)
    try:
        yield
    finally:
        _acting.reset(token)
        _session.reset(named)


def acting_principal() -> Principal | None:
    """Return the calling principal; None for the daemon itself."""
    return _acting.get()


def acting_session() -> str:
    """Return the session of the caller; empty for the daemon itself."""
    return _session.get()
