"""The versions of the tree as changes of single files."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from ctxfs.http.tree import Tree

Kind = Literal["add", "edit", "remove"]

_RECENT_VERSIONS = 20
_MAX_VERSIONS = 10_000


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """A change of the content of a file in a version. `file` is its path in the tree."""

    revision: str
    time_ns: int
    principal: str
    session: str
    tool: str
    file: str
    kind: Kind
    size: int

    @property
    def time(self) -> datetime:
        """The time of the version."""
        return datetime.fromtimestamp(self.time_ns / 1e9, UTC)

    @property
    def time_text(self) -> str:
        """The time of the version in RFC 3339."""
        return self.time.isoformat()


async def list_changes(tree: Tree, path: str, limit: int = _MAX_VERSIONS) -> list[LoggedChange]:
    """Return the changes at and below a path, newest first. Changes of attributes alone are left out."""
    entries = await tree.call("log", {"path": path, "limit": limit, "changes": True})
    return [
        LoggedChange(
            revision=entry["revision"],
            time_ns=entry["time_ns"],
            principal=entry["principal"],
            session=entry["session"],
            tool=entry["tool"],
            file=change["path"],
            kind=change["what"],
            size=change["size"],
        )
        for entry in entries
        for change in _content_changes(entry["changes"])
    ]


async def newest_change(tree: Tree, file: str) -> LoggedChange | None:
    """Return the newest change of a file; None without a version."""
    changes = await list_changes(tree, file, _RECENT_VERSIONS)
    return changes[0] if changes else None


def _content_changes(changes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [change for change in changes if change["what"] in ("add", "edit", "remove")]
