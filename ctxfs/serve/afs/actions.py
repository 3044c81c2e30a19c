"""`exec`: tools of the tree, and the actions of directories at `<directory>/.actions/<name>`."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ctxfs.http.bodies import to_json
from ctxfs.http.tree import Tree
from ctxfs.library import requests
from ctxfs.model.errors import invalid, not_found, not_permitted
from ctxfs.model.path import Path
from ctxfs.serve.afs.entries import PathMapping, Record
from ctxfs.serve.afs.settings import PERMITTED, UNKNOWN_SEVERITY, AfsSettings, Severity

ACTIONS_DIRECTORY = ".actions"
_TOOLS = "tools"
_RUN_NAMES = ("run", "call")


@dataclass(frozen=True, slots=True)
class Action:
    """An action of directories. It acts for the client, under the policy of the tree."""

    summary: str
    run: Callable[[Tree, PathMapping, Path, Mapping[str, Any]], Awaitable[Record]]
    severity: Severity = UNKNOWN_SEVERITY


async def execute(
    tree: Tree, paths: PathMapping, settings: AfsSettings, path: object, arguments: Mapping[str, Any]
) -> Record:
    """Run a tool or an action. Raise EPERM for one that the settings do not permit, ENOENT for one that is absent."""
    tree_path = paths.to_tree(path)
    if ACTIONS_DIRECTORY in tree_path.parts[-2:-1]:
        return await _run_action(tree, paths, settings, tree_path, arguments)
    parts = tree_path.parts
    if parts[:1] != (_TOOLS,) or len(parts) < 2:
        raise not_found(paths.to_interface(tree_path))
    name = "/".join(parts[1:-1] if len(parts) > 2 and parts[-1] in _RUN_NAMES else parts[1:])
    _check_permitted(name, UNKNOWN_SEVERITY, settings)
    result = await tree.call("call_tool", {"name": name, "arguments": dict(arguments)})
    return {"success": True, "data": to_json(result)}


async def _run_action(
    tree: Tree, paths: PathMapping, settings: AfsSettings, path: Path, arguments: Mapping[str, Any]
) -> Record:
    action = ACTIONS.get(path.name)
    _check_permitted(path.name, action.severity if action else UNKNOWN_SEVERITY, settings)
    directory = path.parent.parent
    await tree.send(requests.stat(str(directory)))
    if action is None:
        raise not_found(paths.to_interface(path))
    return {"success": True, "data": await action.run(tree, paths, directory, arguments)}


def _check_permitted(name: str, severity: Severity, settings: AfsSettings) -> None:
    """Raise EPERM for a blocked action, and for one whose severity the policy of actions excludes."""
    if name in settings.blocked:
        raise not_permitted(name, "this action is blocked on this server")
    if severity not in PERMITTED[settings.policy]:
        raise not_permitted(name, f"the severity of this action, {severity}, is over the policy {settings.policy}")


async def _checksum(tree: Tree, paths: PathMapping, directory: Path, arguments: Mapping[str, Any]) -> Record:
    """Return the sha256 of a file, by its path below the directory."""
    name = arguments.get("path")
    if not isinstance(name, str):
        raise invalid("path", "the path of a file, below this directory, is needed")
    path = directory.join(Path.parse(name))
    data = await tree.send(requests.read(str(path)))
    return {
        "path": paths.to_interface(path),
        "algorithm": "sha256",
        "checksum": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }


ACTIONS: Mapping[str, Action] = {"checksum": Action("The sha256 of a file", _checksum)}
