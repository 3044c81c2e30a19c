"""RPC methods on the store as a whole: principal, status, mount table. Plain values in, plain values out."""

from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import Check, method
from ctxfs.model.path import ROOT
from ctxfs.vfs.session import Session


@method("whoami", NoParams, needs=Check.BY_METHOD)
async def _whoami(app: App, caller: Session, params: NoParams) -> Any:
    return {"principal": str(caller.principal), "session": caller.actor.session}


@method("status", NoParams, needs=Check.ADMINISTRATORS)
async def _status(app: App, caller: Session, params: NoParams) -> Any:
    return await app.status.read()


@method("mountpoints", NoParams, needs=Check.ADMINISTRATORS)
async def _mountpoints(app: App, caller: Session, params: NoParams) -> Any:
    return [mounted["at"] for mounted in app.daemon.mountpoints()]


def tree_shape(app: App) -> dict[str, Any]:
    """Return the mount table as an adapter needs it.

    `backings` are [path, host root, writable, hidden paths, versioned]. Mount points and views in `sealed` accept no
    change.
    """
    table = app.namespace.mountpoints
    backings = []
    for path, mount in table.items():
        backing = mount.backing(ROOT)
        if backing is not None and backing.relative.is_root:
            hidden = [list(parts) for parts in backing.hidden]
            backings.append([str(path), backing.root, backing.writable, hidden, backing.versioned])
    sealed = [str(path) for path, mount in table.items() if mount.sealed]
    return {
        "policy": app.policy.wire,
        "grows": [str(path) for path, mount in table.items() if mount.grows],
        "sealed": [*sealed, *app.namespace.sealed_views],
        "backings": backings,
        "mountpoints": [str(path) for path in table],
        "views": sorted(app.namespace.view_names),
    }
