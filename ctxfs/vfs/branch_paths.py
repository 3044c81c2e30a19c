"""Paths of branches: the areas that a branch has of its own, and the changes that main journals."""

from dataclasses import replace

from ctxfs.model.change import Change, Move
from ctxfs.model.path import Path
from ctxfs.store.layout import is_versioned
from ctxfs.vfs.caller_context import acting_branch

BRANCHES = ".branches"
BRANCHED_AREAS = ("memory", "pad")


def is_branched(path: Path) -> bool:
    """Return True for a path of the tree that a branch has of its own; all other paths are those of main."""
    return path.parts[:1] in tuple((area,) for area in BRANCHED_AREAS)


def recorded_change(change: Change) -> Change | None:
    """Return a change with its paths on main if main makes a version of it; None if a branch has made it already."""
    is_named = change.path.parts[:1] == (BRANCHES,)
    path = _path_on_main(change.path)
    if not is_versioned(path) or ((is_named or acting_branch() is not None) and is_branched(path)):
        return None
    if not is_named:
        return change
    if isinstance(change, Move):
        return replace(change, path=path, to=_path_on_main(change.to))
    return replace(change, path=path)


def _path_on_main(path: Path) -> Path:
    return Path(path.parts[2:]) if path.parts[:1] == (BRANCHES,) else path
