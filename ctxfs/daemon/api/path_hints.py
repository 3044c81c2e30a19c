"""RPC methods on paths that clients have got wrong: similar names, and paths of a mount point."""

from dataclasses import dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.params import PathParams
from ctxfs.daemon.api.registry import Check, method
from ctxfs.model.errors import invalid
from ctxfs.services.path_hints import nearest_paths, path_in_tree
from ctxfs.vfs.session import Session

_MAX_PATHS = 100


@dataclass(frozen=True, slots=True)
class MountedPathsParams:
    """Paths as the client has them: of the host, or of the tree."""

    paths: tuple[str, ...]


@method("nearest", PathParams, needs=Check.BY_METHOD)
async def _nearest(app: App, caller: Session, params: PathParams) -> Any:
    """Return at most three existing paths that are most like a missing one, of those that the caller may list."""
    return [str(path) for path in await nearest_paths(caller.tree, params.path, app.namespace.view_names)]


@method("mounted_paths", MountedPathsParams, needs=Check.BY_METHOD)
async def _mounted_paths(app: App, caller: Session, params: MountedPathsParams) -> Any:
    """Return each path below a mount point of this store as a path of the tree, and every other path unchanged."""
    if len(params.paths) > _MAX_PATHS:
        raise invalid("paths", f"there are more than {_MAX_PATHS}")
    mountpoints = [str(mounted["at"]) for mounted in app.daemon.mountpoints()]
    areas = {path.parts[0] for path in app.namespace.mountpoints if path.parts}
    return [path_in_tree(path, mountpoints, areas) for path in params.paths]
