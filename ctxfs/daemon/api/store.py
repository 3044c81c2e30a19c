"""RPC methods on the store as a whole: principal, status, mount table. Plain values in, plain values out."""

from dataclasses import asdict, dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import Check, Effect, method
from ctxfs.model.errors import invalid
from ctxfs.model.path import ROOT
from ctxfs.services.doctor import MAX_AGE_SECONDS
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class DoctorParams:
    """The greatest age, in seconds, of a report that the caller accepts; 0 for new checks."""

    max_age: float = MAX_AGE_SECONDS


@method("whoami", NoParams, needs=Check.BY_METHOD)
async def _whoami(app: App, caller: Session, params: NoParams) -> Any:
    branch = app.branches.acting_for(caller)
    name = branch.name if branch is not None else ""
    return {"principal": str(caller.principal), "session": caller.actor.session, "branch": name}


@method("status", NoParams, needs=Check.ADMINISTRATORS)
async def _status(app: App, caller: Session, params: NoParams) -> Any:
    return await app.status.read()


@method("doctor", DoctorParams, needs=Check.ADMINISTRATORS, effects=Effect.CANCELLABLE)
async def _doctor(app: App, caller: Session, params: DoctorParams) -> Any:
    """Return {at, checks, findings, fault} of `ctxfs doctor`: only failed checks, each with its remedy."""
    if not 0 <= params.max_age <= MAX_AGE_SECONDS:
        raise invalid("max_age", f"from 0 to {MAX_AGE_SECONDS:.0f} seconds are needed")
    return asdict(await app.doctor.report(params.max_age))


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
        "waits_for_engine": app.sharing.is_durable_by_engine,
        "grows": [str(path) for path, mount in table.items() if mount.grows],
        "sealed": [*sealed, *app.namespace.sealed_views],
        "backings": backings,
        "mountpoints": [str(path) for path in table],
        "views": sorted(app.namespace.view_names),
    }
