"""RPC methods of imports: the state of a session, and messages to add. Plain values in, plain values out."""

from dataclasses import dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.registry import AuditEvent, Check, method
from ctxfs.model.errors import invalid
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class ImportStateParams:
    """A session of the event log, identities of messages, and whether to list messages of hooks, or also all inputs."""

    session: str
    ids: list[Any]
    with_captured: bool = False
    with_inputs: bool = False


@dataclass(frozen=True, slots=True)
class ImportMessagesParams:
    """A session of the event log, and its new messages, each with its identity as `import_id`."""

    session: str
    messages: list[Any]


@method("import_state", ImportStateParams, needs=Check.BY_METHOD)
async def _state(app: App, caller: Session, params: ImportStateParams) -> Any:
    """Return `known`, `erased_at` and `captured` of `SessionState`, with `known` as the positions in `ids`."""
    if not all(isinstance(name, bytes) for name in params.ids):
        raise invalid("ids", "a list of bytes is needed")
    if params.with_captured:
        await app.capture.collect()
    state = await blocking(
        lambda: app.imports.state(
            caller.principal,
            params.session,
            params.ids,
            with_captured=params.with_captured,
            with_inputs=params.with_inputs,
        )
    )
    known = [position for position, is_known in enumerate(state.known) if is_known]
    return {"known": known, "erased_at": state.erased_at, "captured": [list(pair) for pair in state.captured]}


@method("import_messages", ImportMessagesParams, needs=Check.BY_METHOD, audit=AuditEvent("record", "session"))
async def _append(app: App, caller: Session, params: ImportMessagesParams) -> Any:
    """Append the messages that the log does not have yet, and return the numbers of their records."""
    if not all(isinstance(item, dict) for item in params.messages):
        raise invalid("messages", "a list of objects is needed")
    return await blocking(app.imports.append, caller.principal, params.session, params.messages)
