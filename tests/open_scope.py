"""A scope without restrictions, for parts that are tested without a policy."""

from ctxfs.model.path import Path
from ctxfs.store.layout import is_versioned


class OpenScope:
    """Implements every protocol of `ctxfs.policy.scope` for a principal that may do everything."""

    def cache_key(self) -> None:
        return None

    def sees_all(self) -> bool:
        return True

    def may_read(self, path: Path) -> bool:
        return True

    def may_create(self, path: Path) -> bool:
        return True

    def is_for_all_agents(self, path: Path) -> bool:
        return True

    def has_versions(self, path: Path) -> bool:
        return is_versioned(path)

    def readable_since(self, path: Path) -> int:
        return 0

    def restricted_principal(self) -> str:
        return ""

    def sees_events(self, path: Path) -> bool:
        return True
