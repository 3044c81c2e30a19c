"""RPC methods on remotes: plain values in, plain values out."""

from dataclasses import dataclass

from ctxfs.app import App
from ctxfs.daemon.api.params import NameParams, NoParams
from ctxfs.daemon.api.registry import Check, Effect, method
from ctxfs.daemon.api.results import ChangedPath, Pulled
from ctxfs.daemon.api.versions import ROLLBACK_EFFECTS, actor_for, commit_everything
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class AddRemoteParams:
    """A remote; only from a trusted one are marks and principals taken over."""

    name: str
    url: str
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class TrustRemoteParams:
    """A remote, and whether it is trusted."""

    name: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class PushParams:
    """A remote; with `replace` its history is overwritten."""

    name: str
    replace: bool = False


@dataclass(frozen=True, slots=True)
class PullParams:
    """A remote. `reason` replaces that of the session."""

    name: str
    reason: str = ""


@method("remotes", NoParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _remotes(app: App, caller: Session, params: NoParams) -> object:
    return await in_turn(app.archive.remotes.urls)


@method("add_remote", AddRemoteParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _add_remote(app: App, caller: Session, params: AddRemoteParams) -> None:
    await in_turn(lambda: app.archive.remotes.add(params.name, params.url, is_trusted=params.trusted))


@method("trusted_remotes", NoParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _trusted_remotes(app: App, caller: Session, params: NoParams) -> object:
    return await in_turn(app.archive.remotes.trusted_names)


@method("trust_remote", TrustRemoteParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _trust_remote(app: App, caller: Session, params: TrustRemoteParams) -> None:
    await in_turn(lambda: app.archive.remotes.set_trust(params.name, is_trusted=params.trusted))


@method("remove_remote", NameParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _remove_remote(app: App, caller: Session, params: NameParams) -> None:
    await in_turn(app.archive.remotes.remove, params.name)


@method("push", PushParams, needs=Check.ADMINISTRATORS, effects=Effect.COMMITS_FIRST)
async def _push(app: App, caller: Session, params: PushParams) -> object:
    await commit_everything(app)
    return await blocking(lambda: app.archive.remotes.push(params.name, replace=params.replace))


@method("pull", PullParams, needs=Check.ADMINISTRATORS, effects=ROLLBACK_EFFECTS)
async def _pull(app: App, caller: Session, params: PullParams) -> Pulled:
    await commit_everything(app)
    pulled, changes = await blocking(app.archive.remotes.pull, params.name, actor_for(caller, params.reason))
    return Pulled(
        state=pulled.state,
        versions=pulled.commits,
        conflicts=[path_text(path) for path in pulled.conflicts],
        changes=[ChangedPath.of(change) for change in changes],
    )
