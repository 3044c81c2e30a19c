"""RPC methods on an opened store: plain values in, plain values out.

The daemon serves them over its socket. A command that opens the store itself calls them directly.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api import (
    activity,
    branches,
    bundles,
    capture,
    citations,
    consolidation,
    contexts,
    credentials,
    events,
    impact,
    imports,
    memories,
    path_hints,
    policy,
    remotes,
    search,
    sessions,
    shared,
    skills,
    store,
    tools,
    tree,
    versions,
)
from ctxfs.daemon.api.params import parse_params
from ctxfs.daemon.api.permissions import check_method
from ctxfs.daemon.api.registry import Effect, Method, declared_methods
from ctxfs.daemon.api.request_audit import audited
from ctxfs.model.errors import not_permitted
from ctxfs.vfs.caller_context import acting, in_branch
from ctxfs.vfs.session import Session

_EFFECTS_ON_MAIN = Effect.CHANGES_WORK_TREE | Effect.ERASES

METHODS: Mapping[str, Method[App, Session]] = declared_methods(
    activity,
    branches,
    bundles,
    capture,
    citations,
    consolidation,
    contexts,
    credentials,
    events,
    impact,
    imports,
    memories,
    path_hints,
    policy,
    remotes,
    search,
    sessions,
    shared,
    skills,
    store,
    tools,
    tree,
    versions,
)

_EXCHANGES = frozenset(("share", "join_shared", "sync"))  # that change the work tree of a read-only node


async def run_method(
    app: App,
    caller: Session,
    method: Method[App, Session],
    args: Mapping[str, Any],
    first: Callable[[], Awaitable[None]] | None = None,
) -> Any:
    """Run a method on behalf of the caller, if the policy permits it; `first` runs between the check and the method."""
    with audited(app, caller, method, args):
        app.policy.check_served(caller.principal)
        check_method(app, caller.principal, method, args)
        params = parse_params(method.params, args)
        if Effect.CHANGES_WORK_TREE in method.effects and method.name not in _EXCHANGES:
            app.sharing.check_writable()
        branch = app.branches.acting_for(caller)
        if branch is not None and method.effects & _EFFECTS_ON_MAIN:
            raise not_permitted(
                method.name,
                f"this session works in the branch {branch.name}, and this changes main: a person does it, or merges"
                f" (ctxfs branch merge {branch.name})",
            )
        if first is not None:
            await first()
        with acting(caller.principal, caller.actor.session), in_branch(branch):
            return await method.call(app, caller, params)
