"""RPC methods on tools: list, call, approve. Plain values in, plain values out."""

import base64
import errno
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.params import NameParams, NoParams
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.exec.calls import CallRequest
from ctxfs.exec.registry import ToolOffer
from ctxfs.exec.sandbox import find_bubblewrap
from ctxfs.model.errors import invalid, not_found, path_error
from ctxfs.model.path import Path, printable
from ctxfs.policy.rules import Verb
from ctxfs.threads import blocking
from ctxfs.toolbox import tool_path
from ctxfs.vfs.session import Session

_ENVELOPE = "$call"
_MAX_WAIT_SECONDS = 10.0
_VERSION_NAME = re.compile(r"\d{4,}_\d{4}-")


@dataclass(frozen=True, slots=True)
class CallParams:
    """A tool and its arguments. `id` makes a repetition idempotent; `content` is the digest that was confirmed."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    id: str = ""
    confirmed: bool = False
    content: str = ""
    files: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BeginCallParams:
    """A tool, and the object that was written to its `call` file."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallIdParams:
    """The id of a call."""

    id: str


@dataclass(frozen=True, slots=True)
class WaitCallParams:
    """A call, the longest wait in seconds, and the progress that the client has seen."""

    id: str
    seconds: float = 0.5
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class CallsParams:
    """The tool whose calls are listed; empty for all."""

    tool: str = ""


@dataclass(frozen=True, slots=True)
class ApproveParams:
    """A tool, and the digest of the definition that was shown; empty to approve the current one."""

    name: str
    shown: str = ""


@method("tools", NoParams, needs=Check.BY_METHOD)
async def _tools(app: App, caller: Session, params: NoParams) -> Any:
    """Return the tools that exist for the caller, folders that are no tool, and the sandbox.

    `refusal` gives the reason why a tool may not run, `faults` the reason why a folder is no tool.
    """
    offers, faults = await blocking(app.tools.calls.registry.offers)
    visible = [
        offer for offer in offers if app.policy.is_allowed(caller.principal, Verb.READ, tool_path(offer.tool.name))
    ]
    is_unrestricted = app.policy.is_unrestricted(caller.principal)
    # A tool that waits for approval is shown to people alone: even its name comes from the server.
    visible = [
        offer
        for offer in visible
        if (not offer.tool.is_note and not offer.tool.is_pending) or (offer.refusal and is_unrestricted)
    ]
    return {
        "tools": [_record(app, offer) for offer in visible],
        "faults": faults if is_unrestricted else {},
        "sandbox": find_bubblewrap(),
    }


@method("tool", NameParams, needs=Check.BY_METHOD)
async def _tool(app: App, caller: Session, params: NameParams) -> Any:
    """Return one tool. Raise OSError ENOENT."""
    name = _check_visible(app, caller, params.name)
    return _record(app, app.tools.calls.registry.find(name))


@method("call_tool", CallParams, needs=Check.BY_METHOD, audit=AuditEvent("exec", "name"), effects=Effect.CHANGES_FILES)
async def _call(app: App, caller: Session, params: CallParams) -> Any:
    """Run a tool. The event log records the arguments and the result."""
    return await app.tools.calls.call(_call_request(app, caller, params), _CallerTree(app, caller))


@method("begin_call", BeginCallParams, needs=Check.BY_METHOD, audit=AuditEvent("exec", "name"))
async def _begin(app: App, caller: Session, params: BeginCallParams) -> Any:
    """Begin a call from the text that was written to a `call` file, and return its id.

    The text is a JSON object of the arguments. Its key "$call" holds the options: {id, confirmed, files}.
    """
    name, envelope, arguments = params.name, {}, dict(params.arguments)
    if _ENVELOPE in arguments:
        envelope = arguments.pop(_ENVELOPE)
        if not isinstance(envelope, dict) or not isinstance(envelope.get("files", {}), dict):
            raise invalid(f"tools/{name}", f"'{_ENVELOPE}' is an object")
    try:
        files = {key: base64.b64decode(data, validate=True) for key, data in envelope.get("files", {}).items()}
    except (TypeError, ValueError) as error:
        raise invalid(f"tools/{name}", f"files are base64: {error}") from error
    call_id, is_confirmed = str(envelope.get("id") or ""), bool(envelope.get("confirmed"))
    request = _call_request(app, caller, CallParams(name, arguments, call_id, is_confirmed, files=files))
    return {"id": await app.tools.calls.begin(request, _CallerTree(app, caller))}


@method("wait_call", WaitCallParams, needs=Check.BY_METHOD)
async def _wait(app: App, caller: Session, params: WaitCallParams) -> Any:
    seconds = max(0.0, min(params.seconds, _MAX_WAIT_SECONDS))
    return await app.tools.calls.wait(params.id, str(caller.principal), seconds, params.seen)


@method("call_state", CallIdParams, needs=Check.BY_METHOD)
async def _state(app: App, caller: Session, params: CallIdParams) -> Any:
    return app.tools.calls.state(params.id, str(caller.principal))


@method("cancel_call", CallIdParams, needs=Check.BY_METHOD)
async def _cancel(app: App, caller: Session, params: CallIdParams) -> Any:
    return app.tools.calls.cancel(params.id, str(caller.principal))


@method("calls", CallsParams, needs=Check.BY_METHOD)
async def _records(app: App, caller: Session, params: CallsParams) -> Any:
    """Return stored calls, oldest first; a restricted caller gets its own calls alone."""
    return await blocking(app.tools.calls.store.records, params.tool, app.scope.restricted_principal())


@method("kept_call", CallIdParams, needs=Check.BY_METHOD)
async def _stored_call(app: App, caller: Session, params: CallIdParams) -> Any:
    """Return one stored call: its result, its arguments and its text."""
    return await blocking(app.tools.calls.store.record, params.id, app.scope.restricted_principal())


@method("tool_difference", NameParams, needs=Check.ADMINISTRATORS)
async def _difference(app: App, caller: Session, params: NameParams) -> Any:
    """Return the difference between a tool's current and its approved definition. A program may be run for it."""
    return await blocking(app.tools.calls.registry.difference, params.name)


@method("tool_digest", NameParams, needs=Check.ADMINISTRATORS)
async def _digest(app: App, caller: Session, params: NameParams) -> Any:
    """Return the digest that an approval would store. Equal digests mean that the definition shown is the same."""
    return await blocking(app.tools.calls.registry.digest, params.name)


@method("approve_tool", ApproveParams, needs=Check.ADMINISTRATORS, audit=AuditEvent("approve", "name"))
async def _approve(app: App, caller: Session, params: ApproveParams) -> Any:
    await blocking(app.tools.calls.registry.approve, [params.name], params.shown)
    return (await blocking(app.tools.calls.registry.find, params.name)).tool.record


class _CallerTree:
    """The tree as the caller may see it."""

    def __init__(self, app: App, caller: Session) -> None:
        self._app = app
        self._caller = caller

    async def file(self, path: str) -> bytes:
        return await self._caller.tree.read(Path.parse(path))

    async def version(self, path: str, selector: str) -> bytes:
        file = Path.parse(path)
        versions = file.parent.join(Path((".versions", file.name)))
        try:
            names = [entry.name for entry in await self._caller.tree.list(versions)]
        except FileNotFoundError as error:
            raise path_error(errno.ENOENT, file, "it has no versions") from error
        name = select_version(names, selector)
        if not name:
            raise path_error(errno.ENOENT, file, f"it has no version '{printable(selector)[:80]}'; see {versions}")
        return await self._caller.tree.read(versions / name)

    def folder(self, path: str) -> str:
        folder = Path.parse(path)
        if self._app.policy.rights(self._caller.principal, folder).below & Verb.READ != Verb.READ:
            raise path_error(errno.EACCES, folder, "you may not read all of it")
        backing = self._caller.tree.backing(folder)
        if backing is None:
            raise path_error(errno.ENOTDIR, folder, "it is no folder on disk: name one below knowledge/")
        host_path = os.path.join(os.path.realpath(backing.root), *backing.relative.parts)
        if (
            os.path.realpath(host_path) != host_path
        ):  # permissions are checked by path, and a link leads to the content of another path
            raise path_error(errno.EACCES, folder, "a link is in the way")
        return host_path


def _call_request(app: App, caller: Session, params: CallParams) -> CallRequest:
    return CallRequest(
        _check_visible(app, caller, params.name),
        params.arguments,
        str(caller.principal),
        params.id,
        caller.actor.session,
        params.confirmed,
        params.content,
        params.files,
    )


def select_version(names: Sequence[str], selector: str) -> str:
    """Return the name below `.versions/<file>/` that `selector` means; empty if there is none.

    It is selected by a number, `latest`, `prev`, a revision, or a time: the last version until then.
    """
    numbered = sorted(name for name in names if _VERSION_NAME.match(name))
    if selector in ("latest", "prev"):
        return (
            numbered[-1 if selector == "latest" else -2] if len(numbered) >= (1 if selector == "latest" else 2) else ""
        )
    if selector.isascii() and selector.isdecimal() and len(selector) < 8:
        return next((name for name in numbered if int(name.split("_")[0]) == int(selector)), "")
    try:
        moment = datetime.fromisoformat(selector)
    except ValueError:
        return next((name for name in numbered if len(selector) >= 4 and f"_{selector}" in name), "")
    stamp = (moment if moment.tzinfo else moment.astimezone()).astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    return max((name for name in numbered if name.split("_")[1] <= stamp), default="")


def _check_visible(app: App, caller: Session, name: str) -> str:
    if not app.policy.rights(caller.principal, Path.parse(f"tools/{name}")).exists:
        raise not_found(f"tools/{name}")
    return name


def _record(app: App, offer: ToolOffer) -> dict[str, Any]:
    refusal = offer.refusal or ("" if app.tools.may_run(offer.tool) else "you may not run it")
    is_unrestricted = not app.scope.restricted_principal()  # host paths are for unrestricted callers
    return {
        **offer.tool.record,
        "builtin": offer.tool.builtin,
        "folder": offer.tool.folder if is_unrestricted else "",
        "refusal": refusal,
    }
