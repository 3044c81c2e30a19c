"""The calling principal and session of an operation, as context variables: no path contains them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ctxfs.model.principal import Principal

_principal_var: ContextVar[Principal | None] = ContextVar("ctxfs-acting", default=None)
_session_var: ContextVar[str] = ContextVar("ctxfs-session", default="")


@contextmanager
def acting(principal: Principal | None, session: str = "") -> Iterator[None]:
    """Run the context for this principal in this session; None stands for ctxfs itself."""
    principal_token, session_token = _principal_var.set(principal), _session_var.set(session)
    try:
        yield
    finally:
        _principal_var.reset(principal_token)
        _session_var.reset(session_token)


def acting_principal() -> Principal | None:
    """Return the calling principal; None for the daemon itself."""
    return _principal_var.get()


def acting_session() -> str:
    """Return the session of the caller; empty for the daemon itself."""
    return _session_var.get()
