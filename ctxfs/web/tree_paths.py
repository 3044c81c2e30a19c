"""Paths of the tree in answers of the daemon. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ctxfs.model.path import Path


class Crumb(NamedTuple):
    """A directory above a path, or the path itself."""

    name: str
    path: str


def path_of(record: Mapping[str, Any]) -> str:
    """Return the path of a hit or of an item of a manifest, whose `raw` holds the bytes of one that is not UTF-8."""
    if "raw" in record:
        return bytes.fromhex(record["raw"]).decode("utf-8", "surrogateescape")
    return str(record["path"])


def crumbs(path: Path) -> Sequence[Crumb]:
    """Return the directories from the root to a path, and the path."""
    return [Crumb(name, "/".join(path.parts[: number + 1])) for number, name in enumerate(path.parts)]


def resolve_link(path: Path, target: str) -> str:
    """Return the path that a link leads to; a link out of the tree ends at its root."""
    names = [] if target.startswith("/") else list(path.parent.parts)
    for part in target.split("/"):
        if part == "..":
            names = names[:-1]
        elif part not in ("", "."):
            names.append(part)
    return "/".join(names)
