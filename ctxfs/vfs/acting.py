"""On whose account an operation runs: what a mount may want to know and no path says."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ctxfs.model.principal import Principal

_acting: ContextVar[Principal | None] = ContextVar("ctxfs-acting", default=None)


@contextmanager
def acting(principal: Principal | None) -> Iterator[None]:
    """While the context lasts, what is done is done by this principal; None: by ctxfs itself."""
    token = _acting.set(principal)
    try:
        yield
    finally:
        _acting.reset(token)


def acting_principal() -> Principal | None:
    """Who acts; None for the daemon itself."""
    return _acting.get()
