"""The permissions of the calling principal, as the layers above the policy need them. Protocols only.

`services.caller_scope.CallerScope` implements all of them. Every method reads the calling principal when it is called,
so one object serves all callers.
"""

from collections.abc import Hashable
from typing import Protocol

from ctxfs.model.path import Path


class CacheScope(Protocol):
    """The key under which results for the calling principal are cached."""

    def cache_key(self) -> Hashable:
        """Return a key that is equal for principals with the same view of the tree; None for those that see everything."""
        ...


class ReadScope(Protocol):
    """The files that the calling principal may read."""

    def sees_all(self) -> bool:
        """Return True if no rule restricts the calling principal."""
        ...

    def may_read(self, path: Path) -> bool:
        """Return True if the calling principal may read a file."""
        ...


class SharingScope(Protocol):
    """The files that may be quoted in a directory which every agent reads."""

    def is_for_all_agents(self, path: Path) -> bool:
        """Return True if every agent may read a file."""
        ...


class TaskScope(CacheScope, SharingScope, Protocol):
    """The permissions for contexts, and for the facts of evaluated responses."""

    def may_create(self, path: Path) -> bool:
        """Return True if the calling principal may create files in a directory."""
        ...


class AccessTimes(Protocol):
    """The times from which versions are readable."""

    def readable_since(self, path: Path) -> int:
        """Return the time from which the calling principal may read the versions of a path, in nanoseconds; 0: all.

        Blocks.
        """
        ...


class VersionScope(AccessTimes, Protocol):
    """The versioned paths of the calling principal."""

    def has_versions(self, path: Path) -> bool:
        """Return True for a path whose versions the calling principal may read."""
        ...


class RestrictedScope(Protocol):
    """The identity of a restricted principal."""

    def restricted_principal(self) -> str:
        """Return the calling principal; empty for one that may see everything."""
        ...


class AuthorScope(AccessTimes, RestrictedScope, Protocol):
    """The versions of the calling principal, and its identity, which decides on the texts of other authors."""


class EventScope(Protocol):
    """The event records of the calling principal."""

    def may_read(self, path: Path) -> bool:
        """Return True if the calling principal may read a file."""
        ...

    def sees_events(self, path: Path) -> bool:
        """Return True if a path below history/ exists for the calling principal."""
        ...
