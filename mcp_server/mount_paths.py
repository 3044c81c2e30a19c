"""Paths of a mount point: an agent that has the store mounted may give the path that it sees there.

`/home/u/ctx/memory/a.md` is memory/a.md if this store is mounted at /home/u/ctx. Other absolute paths are
paths from the root of the tree, which refuse `..` when they are parsed.
"""

from collections.abc import Mapping
from typing import Any

from ctxfs.mcp_server.sessions import TreeSession

_PATH_ARGUMENTS = ("path", "below", "to")
_OWN_ROOT = "memory"  # its paths begin with /memories, wherever the store is mounted


async def replace_mount_paths(tree: TreeSession, tool: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments with paths below a mount point of this store as paths of the tree."""
    if tool == _OWN_ROOT:
        return arguments
    replaced = dict[str, Any]()
    for name in _PATH_ARGUMENTS:
        value = arguments.get(name)
        paths = value if isinstance(value, list) else [value]
        if any(isinstance(path, str) and path.startswith("/") for path in paths):
            inside = await tree.call("mounted_paths", paths=[path for path in paths if isinstance(path, str)])
            replaced[name] = inside if isinstance(value, list) else inside[0]
    return {**arguments, **replaced}
