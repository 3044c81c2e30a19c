"""Calls of tools: checked, run, stored.

The caller may choose a call's id, so that it can read the progress or cancel the call while it waits.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path as HostPath
from typing import Any, Protocol

import trio

from ctxfs.exec.call_store import CallStore, is_call_id
from ctxfs.exec.definition import Tool
from ctxfs.exec.outcome import Outcome, Progress
from ctxfs.exec.registry import ToolRegistry
from ctxfs.exec.schema import Schema
from ctxfs.model.errors import invalid, not_found, not_permitted, path_error
from ctxfs.model.path import printable
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

Inputs = Mapping[str, bytes | str]  # argument → the content of a file, or the host path of a folder
_MAX_CONCURRENT_CALLS = 100
MAX_LISTED_FILES = 20_000
_MAX_UNFETCHED_RESULTS = 1000  # results that no client has fetched yet
UNCONFIRMED = "it has to be confirmed"


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A request to call a tool.

    `files` holds contents of file arguments that are not in the tree, by argument. `content` is the digest of the
    content of the arguments that was `confirmed`.
    """

    name: str
    arguments: Mapping[str, Any]
    principal: str
    id: str = ""
    session: str = ""
    confirmed: bool = False
    content: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)


class CallerView(Protocol):
    """The tree as the caller may see it. Methods raise OSError for unreadable paths."""

    async def file(self, path: str) -> bytes:
        """Return the content of a file."""
        ...

    async def version(self, path: str, selector: str) -> bytes:
        """Return the content of a file at a time, at a version by its number, or before its last change (`prev`)."""
        ...

    def folder(self, path: str) -> str:
        """Return the host path of a folder that the caller may read completely."""
        ...


class CallHooks(Protocol):
    """The services that calls need from the rest of ctxfs."""

    def may_run(self, tool: Tool) -> bool:
        """Return True if the calling principal may run the tool."""
        ...

    async def run(
        self, tool: Tool, arguments: Mapping[str, Any], inputs: Inputs, progress: Progress, request: CallRequest
    ) -> Outcome:
        """Run the tool. Cancelling ends it."""
        ...

    async def remember(self, request: CallRequest, result: Mapping[str, Any]) -> None:
        """Add a call to the event log. Never raises OSError."""
        ...

    async def ask_person(self, tool: Tool, request: CallRequest, content: str) -> None:
        """Return if a person has allowed this call with this `content`.

        Raise OSError with the path of the open question otherwise.
        """
        ...


@dataclass(slots=True)
class _Running:
    principal: str
    scope: trio.CancelScope
    progress: float = 0.0
    message: str = ""
    changed: trio.Event = field(default_factory=trio.Event)
    result: dict[str, Any] | None = None

    def report(self, progress: float, message: str) -> None:
        self.progress, self.message = progress, message
        self._wake()

    def end(self, result: dict[str, Any]) -> None:
        self.result = result
        self._wake()

    def _wake(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


class Calls:
    """The calls of the tools of a catalog."""

    def __init__(self, registry: ToolRegistry, folder: HostPath, hooks: CallHooks) -> None:
        self.registry = registry
        self.store = CallStore(folder)
        self._hooks = hooks
        self._running: dict[str, _Running] = {}
        self._ended: OrderedDict[str, _Running] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._results: trio.MemorySendChannel[tuple[CallRequest, dict[str, Any]]] | None = None
        self._schemas: dict[int, tuple[Tool, Schema, Schema]] = {}

    async def serve(self) -> None:
        """Accept calls that no client waits for, and write results to disk after they are returned, until cancelled."""
        self._results, results = trio.open_memory_channel[tuple[CallRequest, dict[str, Any]]](float("inf"))
        await blocking(self.store.sweep)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                async for record in results:
                    await self._write(*record)
        finally:
            self._nursery = self._results = None
            with trio.CancelScope(shield=True), contextlib.suppress(trio.WouldBlock):
                while True:
                    await self._write(*results.receive_nowait())

    async def call(self, request: CallRequest, view: CallerView) -> dict[str, Any]:
        """Run a tool and wait for it: {id, ok, text, stderr, seconds, fault, …}.

        The result has an `errno` if the tool could not be run, such as EIO for a server that is not connected.

        Raise OSError: ENOENT for an unknown tool, EACCES for one that the caller may not run or that is not approved,
        EPERM for a destructive one that was not confirmed, EINVAL for arguments that violate its schema, EAGAIN when
        too many calls run.
        """
        tool, call_id, running, inputs = await self._check(request, view)
        return await self._run(tool, call_id, request, running, inputs)

    async def begin(self, request: CallRequest, view: CallerView) -> str:
        """Begin a call and return its id, for `wait`. Raise OSError as `call` does."""
        nursery = self._nursery
        if nursery is None:
            raise path_error(errno.EAGAIN, f"tools/{request.name}", "no daemon runs that could wait for it")
        tool, call_id, running, inputs = await self._check(request, view)
        nursery.start_soon(self._run, tool, call_id, request, running, inputs)
        return call_id

    async def wait(self, call_id: str, principal: str, seconds: float, last_progress: float) -> dict[str, Any]:
        """Return the state of a call of the principal: {running, progress, message, result}.

        Wait until the progress exceeds `last_progress`, the call has ended, or `seconds` have passed. Raise OSError
        ENOENT.
        """
        running = self._running.get(call_id) or self._ended.get(call_id)
        if running is None or running.principal != principal:
            raise not_found(f"calls/{printable(call_id)[:80]}")
        with trio.move_on_after(seconds):
            while running.result is None and running.progress <= last_progress:
                await running.changed.wait()
        if running.result is not None:
            self._ended.pop(call_id, None)
        return {
            "running": running.result is None,
            "progress": running.progress,
            "message": running.message,
            "result": running.result,
        }

    def state(self, call_id: str, principal: str) -> dict[str, Any]:
        """Return the progress of a call of the principal: {running, progress, message}."""
        running = self._running.get(call_id)
        if running is None or running.principal != principal:
            return {"running": False, "progress": 0.0, "message": ""}
        return {"running": True, "progress": running.progress, "message": running.message}

    def cancel(self, call_id: str, principal: str) -> bool:
        """Cancel a call of the principal; return False if it does not run."""
        running = self._running.get(call_id)
        if running is None or running.principal != principal:
            return False
        running.scope.cancel()
        return True

    def may_call(self, tool: Tool, refusal: str) -> bool:
        """Return True if the calling principal may request a run of the tool, as its mode bits show."""
        return not refusal and (self._hooks.may_run(tool) or tool.destructive)

    # inside

    async def _check(self, request: CallRequest, view: CallerView) -> tuple[Tool, str, _Running, Inputs]:
        name, arguments = request.name, request.arguments
        offer = self.registry.find(name)  # a few stat calls, unless the tool's folder has changed
        tool = offer.tool
        if tool.is_note:
            raise not_found(f"tools/{name}")
        is_allowed = self._hooks.may_run(tool)
        if not is_allowed and not tool.destructive:
            raise path_error(errno.EACCES, f"tools/{name}", "you may not run it: the policy gives no 'exec' for it")
        if offer.refusal:
            remedy = f": ctxfs tools approve {name}" if "approved" in offer.refusal else ""
            raise path_error(errno.EACCES, f"tools/{name}", f"{offer.refusal}{remedy}")
        if fault := await blocking(self._schemas_of(tool)[0].describe_fault, arguments):
            raise invalid(f"tools/{name}", fault)
        call_id = request.id or f"c-{secrets.token_hex(6)}"
        if not is_call_id(call_id) or call_id in self._running or self.store.has(name, call_id):
            raise invalid(f"tools/{name}", f"'{printable(call_id)[:80]}' cannot be the id of a call")
        if len(self._running) >= _MAX_CONCURRENT_CALLS:
            raise path_error(errno.EAGAIN, f"tools/{name}", f"{_MAX_CONCURRENT_CALLS} calls run already")
        # atomic: the id is reserved before the first await
        running = self._running[call_id] = _Running(request.principal, trio.CancelScope())
        try:
            inputs = await _resolve_inputs(tool, request, view)
            content = await blocking(_content_digest, inputs) if tool.destructive or not is_allowed else ""
            if (
                is_allowed
                and tool.destructive
                and (not request.confirmed or (request.content and request.content != content))
            ):
                digest_note = f" [{content}]" if content else ""
                raise not_permitted(f"tools/{name}", f"what it does cannot be taken back: {UNCONFIRMED}{digest_note}")
            if not is_allowed:
                await self._hooks.ask_person(tool, request, content)
        except BaseException:
            del self._running[call_id]
            raise
        return tool, call_id, running, inputs

    async def _run(
        self, tool: Tool, call_id: str, request: CallRequest, running: _Running, inputs: Inputs
    ) -> dict[str, Any]:
        started, failed = time.monotonic(), ""
        outcome: Outcome | None = None
        try:
            try:
                with running.scope:
                    outcome = await self._hooks.run(tool, request.arguments, inputs, running.report, request)
            except OSError as error:
                failed = errno.errorcode.get(error.errno or errno.EIO, "EIO")
                outcome = _fault(started, error.strerror or str(error))
            except Exception as error:
                log.exception("tool %s failed", tool.name)
                failed = "EIO"
                outcome = _fault(started, f"internal error: {error}")
            outcome = outcome or _fault(started, "it was cancelled")
            with trio.CancelScope(
                shield=True
            ):  # the call has had effects, so it is recorded even if the client has left
                result = await blocking(self._make_result, tool, call_id, request.principal, outcome)
            if failed:
                result["errno"] = failed
            # atomic: the result is always visible, either as running or as ended
            self.store.add_pending(tool.name, call_id, request.arguments, result, outcome)
            running.end(result)
            self._ended[call_id] = running
            if len(self._ended) > _MAX_UNFETCHED_RESULTS:
                self._ended.popitem(last=False)
        finally:
            del self._running[call_id]
        if self._results is not None:
            self._results.send_nowait((request, result))
        else:
            with trio.CancelScope(shield=True):
                await self._write(request, result)
        return result

    async def _write(self, request: CallRequest, result: dict[str, Any]) -> None:
        """Write a call to disk and to the event log."""
        try:
            await blocking(self.store.write, request.name, result["id"])
        except OSError as error:
            log.error("call %s of %s cannot be stored: %s", result["id"], request.name, error)
        await self._hooks.remember(request, result)

    def _schemas_of(self, tool: Tool) -> tuple[Schema, Schema]:
        """Return the compiled schemas of a tool's arguments and of its result, cached by the identity of the tool.

        The cache holds the tool as well, so that its id is not reused.
        """
        cached = self._schemas.get(id(tool))
        if cached is None:
            if len(self._schemas) > _MAX_UNFETCHED_RESULTS:
                self._schemas.clear()
            cached = self._schemas[id(tool)] = tool, Schema(tool.schema), Schema(tool.output_schema or {})
        return cached[1], cached[2]

    def _make_result(self, tool: Tool, call_id: str, principal: str, outcome: Outcome) -> dict[str, Any]:
        text = outcome.stdout.decode("utf-8", "replace")
        stderr = outcome.stderr.decode("utf-8", "replace").strip()
        structured, fault = outcome.structured, outcome.fault
        if not fault and outcome.exit_code:
            fault = stderr.splitlines()[-1][:300] if stderr else f"it ended with exit code {outcome.exit_code}"
        if not fault and tool.output_schema is not None:
            structured, fault = _check_output(self._schemas_of(tool)[1], structured, text)
        return {
            "id": call_id,
            "tool": tool.name,
            "principal": principal,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "ok": not fault and outcome.ok,
            "fault": fault,
            "exit_code": outcome.exit_code,
            "seconds": round(outcome.seconds, 4),
            "sha256": hashlib.sha256(outcome.stdout).hexdigest(),
            "stderr": stderr[:4000],
            **({"structured": structured} if structured is not None else {}),
            **({"files": [name for name, _ in outcome.files]} if outcome.files else {}),
            "text": text,
        }


async def _resolve_inputs(tool: Tool, request: CallRequest, view: CallerView) -> Inputs:
    """Return the content, or the host path, of each path argument, as the caller may see it."""
    inputs: dict[str, bytes | str] = {}
    for argument in tool.paths:
        if argument.name not in request.arguments:
            continue
        value = str(request.arguments[argument.name])
        if argument.kind == "file":
            inputs[argument.name] = (
                request.files[argument.name] if argument.name in request.files else await view.file(value)
            )
        elif argument.kind == "version":
            inputs[argument.name] = await view.version(str(request.arguments.get(argument.of, "")), value)
        else:
            inputs[argument.name] = view.folder(value)
    return inputs


def _content_digest(inputs: Inputs) -> str:
    """Return a digest of the content of the path arguments, for a person's approval; empty if there are none."""
    digest = hashlib.sha256()
    for name, data in sorted(inputs.items()):
        content = data if isinstance(data, bytes) else _listing(data)
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest() if inputs else ""


def _listing(folder: str) -> bytes:
    """Return names, sizes and times of the files below a folder. Raise OSError EFBIG for more than MAX_LISTED_FILES."""
    lines: list[bytes] = []
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                stat = os.lstat(os.path.join(directory, name))
                lines.append(os.fsencode(f"{directory}/{name}") + f"\0{stat.st_size} {stat.st_mtime_ns}\0".encode())
        if len(lines) > MAX_LISTED_FILES:
            raise path_error(errno.EFBIG, folder, f"it holds more than {MAX_LISTED_FILES} files")
    return b"\n".join(sorted(lines))


def _fault(started: float, why: str) -> Outcome:
    return Outcome(b"", b"", None, time.monotonic() - started, why)


def _check_output(schema: Schema, structured: Any, text: str) -> tuple[Any, str]:
    """Return the result as JSON, and the error by the tool's own output schema, if any."""
    if structured is None:
        try:
            structured = json.loads(text)
        except ValueError:
            return None, "its answer is no JSON, which its output schema promises"
    fault = schema.fault_in(structured)
    return structured, f"its answer breaks its output schema: {fault}" if fault else ""
