"""The declaration of an RPC method: its name, its arguments, the check of permissions, the audit event and the effects.

A module of handlers, or a class, declares its methods with `@method`. `declared_methods` collects them. Nothing else
holds facts on single methods.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, Flag, auto
from types import ModuleType
from typing import Any, Generic, TypeVar

from ctxfs.daemon.api.results import as_plain
from ctxfs.policy.rules import Verb

Owner = TypeVar("Owner")
Caller = TypeVar("Caller")
Params = TypeVar("Params")


class Check(Enum):
    """The place of a check of permissions that needs no arguments of the request."""

    BY_METHOD = "by method"  # in the method: the tree checks files, search filters by the calling principal
    ADMINISTRATORS = "administrators"  # before the method: people, and principals with `admin` for the whole tree


@dataclass(frozen=True, slots=True)
class RightsBelow:
    """Require permissions for the argument `path` and everything below it, checked before the method."""

    verbs: Verb


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An audit event, and the argument that names its subject; empty for none.

    Of a query the audit records a digest, because it may contain erased words.
    """

    name: str
    subject: str = ""
    is_query: bool = False


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """The audit event of the argument `change`: its name and its subject are those of the change."""


class Effect(Flag):
    """A change or a requirement of a method, outside of its own response."""

    NONE = 0
    CHANGES_FILES = auto()  # kernel caches of other mounts are revalidated before the response
    CHANGES_WORK_TREE = auto()  # unless `dry_run`: the response lists `changes`, which are pushed to all mounts before
    ERASES = auto()  # unless `dry_run`: deleted content is also purged from the index
    COMMITS_FIRST = auto()  # the response covers all earlier writes, so pending journal records are committed before
    READS_INDEX = auto()  # without a daemon, the full-text index is brought up to date before
    CANCELLABLE = auto()  # read-only, so that a client may cancel the request


@dataclass(frozen=True, slots=True)
class Method(Generic[Owner, Caller]):
    """An RPC method. The handler takes the owner of the state, the caller and the parsed arguments."""

    name: str
    params: type[Any]
    handler: Callable[[Owner, Caller, Any], Awaitable[object]]
    needs: Check | RightsBelow
    audit: AuditEvent | ChangeEvent | None
    effects: Effect

    async def call(self, owner: Owner, caller: Caller, args: object) -> Any:
        """Run the handler with parsed arguments, and return its result as plain values."""
        return as_plain(await self.handler(owner, caller, args))


def method(
    name: str,
    params: type[Params],
    *,
    needs: Check | RightsBelow,
    audit: AuditEvent | ChangeEvent | None = None,
    effects: Effect = Effect.NONE,
) -> Callable[[Callable[[Owner, Caller, Params], Awaitable[object]]], Method[Owner, Caller]]:
    """Return a decorator that replaces a handler by its declaration."""

    def declare(handler: Callable[[Owner, Caller, Params], Awaitable[object]]) -> Method[Owner, Caller]:
        return Method(name, params, handler, needs, audit, effects)

    return declare


def declared_methods(*namespaces: ModuleType | type) -> dict[str, Method[Any, Any]]:
    """Return the methods that modules and classes declare, by name. Raise ValueError for a name declared twice."""
    methods = dict[str, Method[Any, Any]]()
    for namespace in namespaces:
        for value in vars(namespace).values():
            if isinstance(value, Method):
                if value.name in methods:
                    raise ValueError(f"the method '{value.name}' is declared twice")
                methods[value.name] = value
    return methods
