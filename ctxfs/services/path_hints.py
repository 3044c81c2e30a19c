"""Hints for paths that do not exist: the most similar paths that the calling principal may list, and mount points."""

import difflib
from collections.abc import Iterable, Sequence

from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.threads import blocking

MAX_NEAREST_PATHS = 3
_MAX_LEVELS = 16
_MAX_COMPARED_NAMES = 500
_MAX_NAME_CHARACTERS = 120
_MIN_SIMILARITY = 0.6


async def nearest_paths(tree: Mount, path: Path, views: Iterable[str]) -> list[Path]:
    """Return existing paths that differ from a missing one in one name, the most similar first.

    `tree` is the tree of the calling principal, so that paths that do not exist for it are neither compared nor
    returned. Paths below a question or in a view are left out: there every name exists, or is expensive to list.
    """
    if path.is_root or len(path.parts) > _MAX_LEVELS or path.parts[0] == "search" or {*views} & {*path.parts}:
        return []
    depth, names = await _deepest_directory(tree, path)
    directory, missing, rest = Path(path.parts[:depth]), path.parts[depth], path.parts[depth + 1 :]
    candidates = [directory / name for name in await blocking(_similar_names, missing, names)]
    if not rest:
        return candidates
    completed = [Path((*candidate.parts, *rest)) for candidate in candidates]
    existing = [candidate for candidate in completed if await _exists(tree, candidate)]
    return existing or candidates


async def _deepest_directory(tree: Mount, path: Path) -> tuple[int, Sequence[str]]:
    """Return the depth of the deepest existing directory above a path, and its names."""
    for depth in range(len(path.parts) - 1, -1, -1):
        try:
            return depth, [entry.name for entry in await tree.list(Path(path.parts[:depth]))]
        except OSError:
            continue
    return 0, ()


def _similar_names(name: str, names: Sequence[str]) -> list[str]:
    """Return the names most like one, without itself. Work is bounded by the number and the length of names."""
    if len(name) > _MAX_NAME_CHARACTERS:
        return []
    folded = dict[str, str]()
    for other in sorted(names, key=lambda other: (abs(len(other) - len(name)), other))[:_MAX_COMPARED_NAMES]:
        if other != name and len(other) <= _MAX_NAME_CHARACTERS:
            folded.setdefault(other.casefold(), other)
    matches = difflib.get_close_matches(name.casefold(), folded, MAX_NEAREST_PATHS, _MIN_SIMILARITY)
    return [folded[match] for match in matches]


async def _exists(tree: Mount, path: Path) -> bool:
    try:
        await tree.stat(path)
    except OSError:
        return False
    return True


def path_in_tree(path: str, mountpoints: Iterable[str], areas: Iterable[str]) -> str:
    """Return a host path below a mount point as a path of the tree; any other path unchanged.

    A path whose first name is in `areas` is a path of the tree already. `..` is not resolved: it is refused where paths
    are parsed.
    """
    if not path.startswith("/") or path.strip("/").partition("/")[0] in areas:
        return path
    for mountpoint in sorted(mountpoints, key=len, reverse=True):
        root = mountpoint.rstrip("/")
        if root and (path == root or path.startswith(root + "/")):
            return path[len(root) :].strip("/")
    return path
