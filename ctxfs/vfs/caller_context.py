"""The calling principal, session, author and branch of an operation, as context variables: no path contains them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from ctxfs.model.principal import Principal
from ctxfs.versions.objects.commits import Actor


@dataclass(frozen=True, slots=True)
class BranchRef:
    """The branch that an operation reads and changes. One that `is_own` is made for its agent when it is first used."""

    name: str
    is_own: bool = False


_principal_var: ContextVar[Principal | None] = ContextVar("ctxfs-acting", default=None)
_session_var: ContextVar[str] = ContextVar("ctxfs-session", default="")
_actor_var: ContextVar[Actor | None] = ContextVar("ctxfs-actor", default=None)
_branch_var: ContextVar[BranchRef | None] = ContextVar("ctxfs-branch", default=None)


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


@contextmanager
def recorded_for(actor: Actor) -> Iterator[None]:
    """Run the context with this author of the versions that it makes at once."""
    token = _actor_var.set(actor)
    try:
        yield
    finally:
        _actor_var.reset(token)


def acting_actor() -> Actor | None:
    """Return the author of versions; None for the daemon itself."""
    return _actor_var.get()


@contextmanager
def in_branch(branch: BranchRef | None) -> Iterator[None]:
    """Run the context on a branch; None stands for main."""
    token = _branch_var.set(branch)
    try:
        yield
    finally:
        _branch_var.reset(token)


def acting_branch() -> BranchRef | None:
    """Return the branch that the operation reads and changes; None for main."""
    return _branch_var.get()
