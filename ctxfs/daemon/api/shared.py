"""RPC methods on the membership in a shared store: plain values in, plain values out."""

import errno
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import trio

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.daemon.api.results import ChangedPath, Synchronised
from ctxfs.daemon.api.versions import ROLLBACK_EFFECTS, commit_everything
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.path import printable
from ctxfs.store.config import MIN_GRACE_SECONDS
from ctxfs.store.settings import SharedSettings
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.vfs.session import Session

if TYPE_CHECKING:
    from ctxfs.shared.exchanges import Exchanged

_MAX_ROUNDS = 20
_ENGINE_SECONDS = 5.0  # in which a silent engine is noticed
_LOOK_SECONDS = 0.01

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShareParams:
    """An engine, the name of the shared store there, that of this node, and the variable that holds the password.

    With `durable` = "engine" fsync waits for the engine. After `grace_seconds` without the engine only people are
    served; 0: never.
    """

    url: str
    store: str = "main"
    node: str = ""
    password_env: str = ""
    durable: str = "local"
    grace_seconds: int = 0


@dataclass(frozen=True, slots=True)
class JoinParams(ShareParams):
    """As for `share`; and True for a node that publishes nothing, and the newest entry that it follows (0: all)."""

    read_only: bool = False
    at: int = 0


@method("share", ShareParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("share", "store"), effects=ROLLBACK_EFFECTS)
async def _share(app: App, caller: Session, params: ShareParams) -> Synchronised:
    """Begin a shared store with this store, or join it if it exists."""
    return await _become_node(app, _settings_of(params), is_new=True)


@method(
    "join_shared",
    JoinParams,
    needs=Check.ADMINISTRATORS,
    audit=AuditEvent("join_shared", "store"),
    effects=ROLLBACK_EFFECTS,
)
async def _join_shared(app: App, caller: Session, params: JoinParams) -> Synchronised:
    """Make this store a node of a shared store."""
    return await _become_node(app, _settings_of(params, read_only=params.read_only, at=params.at), is_new=False)


@method(
    "leave_shared",
    NoParams,
    needs=Check.ADMINISTRATORS,
    audit=AuditEvent("leave_shared"),
    effects=Effect.COMMITS_FIRST,
)
async def _leave_shared(app: App, caller: Session, params: NoParams) -> None:
    await blocking(app.sharing.leave)


@dataclass(frozen=True, slots=True)
class AwaitEngineParams:
    """The path that an error names."""

    path: str = ""


@method("await_engine", AwaitEngineParams, needs=Check.BY_METHOD)
async def _await_engine(app: App, caller: Session, params: AwaitEngineParams) -> None:
    """Return once the engine has the newest version. Raise OSError EIO if it does not within its deadline."""
    await in_turn(app.archive.commit_if_space)
    revision, entry = app.archive.newest, -1
    with trio.move_on_after(_ENGINE_SECONDS):
        while True:
            if app.sharing.newest_entry != entry:
                entry = app.sharing.newest_entry
                if await blocking(app.sharing.is_published, revision):
                    return
            await trio.sleep(_LOOK_SECONDS)
    cause = app.sharing.fault or "the engine has not answered"
    text = f"the version is stored on this machine, and sent later: {cause}"
    log.error("fsync of '%s': %s", printable(params.path), text)
    raise path_error(errno.EIO, params.path, text)


@method("shared_health", NoParams, needs=Check.ADMINISTRATORS)
async def _shared_health(app: App, caller: Session, params: NoParams) -> Any:
    """Return [{name, is_ok, detail, remedy}] of the checks of this node and its engine; empty without a shared store."""
    return [asdict(check) for check in await blocking(app.sharing.health)]


@method("sync", NoParams, needs=Check.ADMINISTRATORS, effects=ROLLBACK_EFFECTS)
async def _sync(app: App, caller: Session, params: NoParams) -> Synchronised:
    """Exchange versions until nothing is new on either side."""
    await commit_everything(app)
    return await _exchange(app, app.sharing.exchange)


@method("erasures", NoParams, needs=Check.ADMINISTRATORS)
async def _erasures(app: App, caller: Session, params: NoParams) -> Any:
    """Return the erasures of the shared store, oldest first, with the certificate of each node; None without one."""
    reports, nodes = await blocking(app.sharing.erasures)
    return [
        {
            "entry": report.number,
            "time_ns": report.time_ns,
            "ordered_by": report.node,
            "nodes": {name: report.answers.get(name) for name in nodes},
        }
        for report in reports
    ]


def _settings_of(params: ShareParams, *, read_only: bool = False, at: int = 0) -> SharedSettings:
    if params.durable not in ("local", "engine"):
        raise invalid("durable", "local or engine is needed")
    if params.grace_seconds and params.grace_seconds < MIN_GRACE_SECONDS:
        raise invalid("grace_seconds", f"0, or {MIN_GRACE_SECONDS} at least is needed")
    return SharedSettings(
        params.url,
        params.store,
        params.node,
        password_env=params.password_env,
        durable=params.durable,
        grace_seconds=params.grace_seconds,
        read_only=read_only,
        at=at,
    )


async def _become_node(app: App, settings: SharedSettings, *, is_new: bool) -> Synchronised:
    await commit_everything(app)
    return await _exchange(app, lambda: app.sharing.join(settings, is_new=is_new))


async def _exchange(app: App, first: "Callable[[], Exchanged]") -> Synchronised:
    exchange, results = first, list["Exchanged"]()
    for _ in range(_MAX_ROUNDS):
        results.append(await blocking(exchange))
        exchange = app.sharing.exchange
        if not (results[-1].taken or results[-1].published or results[-1].changes):
            break
    if any(result.conflicts for result in results) and not app.sharing.read_only_reason():
        await app.memory.conflict_desk.refresh()
    return Synchronised(
        taken=sum(result.taken for result in results),
        published=sum(result.published for result in results),
        conflicts=[path_text(path) for result in results for path in result.conflicts],
        changes=[ChangedPath.of(change) for result in results for change in result.changes],
    )
