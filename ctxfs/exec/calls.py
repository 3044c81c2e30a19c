"""Calls of tools: checked, run, kept. `<store>/calls/<tool>/<id>/` has `args.json`, `result.json`, `result.md` and `stderr` of each,
and what it answered besides text. A `/` in a tool's name is a `%` there.

A call's id may be given by whoever calls, so that they can ask how far it is, and give it up, while they wait.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path as HostPath
from typing import Any, Protocol

import trio

from ctxfs.exec.catalog import ToolCatalog
from ctxfs.exec.definition import Tool
from ctxfs.exec.outcome import Outcome, Progress
from ctxfs.exec.schema import Schema
from ctxfs.model.errors import invalid, not_found, not_permitted, path_error
from ctxfs.model.path import printable
from ctxfs.threads import blocking

log = logging.getLogger(__name__)

Brought = Mapping[str, bytes | str]  # argument → the content of a file, or the host path of a folder
_ID = re.compile(r"[a-z0-9][a-z0-9-]{3,63}")
_KEPT = 500  # calls of a tool; older ones are dropped
_MOST_AT_ONCE = 100
_MOST_WAITING = 1000  # results that nobody has asked for yet
ARGS, RESULT, TEXT, STDERR = "args.json", "result.json", "result.md", "stderr"
FILES = (ARGS, RESULT, TEXT, STDERR)


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as it is asked for. `files`: contents of file arguments, by the argument, that are not in the tree."""

    name: str
    arguments: Mapping[str, Any]
    principal: str
    id: str = ""
    confirmed: bool = False
    files: Mapping[str, bytes] = field(default_factory=dict)


class Sight(Protocol):
    """The tree as the caller sees it. OSError for what they may not read."""

    async def file(self, path: str) -> bytes:
        """The content of a file."""
        ...

    async def version(self, path: str, said: str) -> bytes:
        """What a file was: at a time, at a version by its number, or before now (`prev`)."""
        ...

    def folder(self, path: str) -> str:
        """The host path of a folder that they may read all of."""
        ...


class Ports(Protocol):
    """What calls need of the rest."""

    def may_run(self, tool: Tool) -> bool:
        """True if whoever acts may run it."""
        ...

    async def run(
        self, tool: Tool, arguments: Mapping[str, Any], brought: Brought, progress: Progress, asked: Asked
    ) -> Outcome:
        """Run it; cancelling ends it."""
        ...

    async def ask_person(self, tool: Tool, asked: Asked) -> None:
        """Return if a person has allowed this call; else OSError that says where the question waits."""
        ...


@dataclass(slots=True)
class _Running:
    principal: str
    scope: trio.CancelScope
    progress: float = 0.0
    message: str = ""
    moved: trio.Event = field(default_factory=trio.Event)
    result: dict[str, Any] | None = None

    def tell(self, done: float, message: str) -> None:
        self.progress, self.message = done, message
        self._wake()

    def end(self, result: dict[str, Any]) -> None:
        self.result = result
        self._wake()

    def _wake(self) -> None:
        moved, self.moved = self.moved, trio.Event()
        moved.set()


class Calls:
    """Runs tools of a catalog."""

    def __init__(self, catalog: ToolCatalog, folder: HostPath, ports: Ports) -> None:
        self.catalog = catalog
        self.folder = folder
        self._ports = ports
        self._running: dict[str, _Running] = {}
        self._ended: OrderedDict[str, _Running] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._schemas: dict[int, tuple[Tool, Schema]] = {}

    async def serve(self) -> None:
        """While this runs, calls may be begun that nobody waits for."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def call(self, asked: Asked, sight: Sight) -> dict[str, Any]:
        """Run a tool and wait for it: {id, ok, text, stderr, seconds, fault, …}; `errno` if it could not be run, such as EIO for a
        server that is not there.

        OSError: ENOENT for no such tool, EACCES for one that whoever acts may not run or that nobody has approved, EPERM for a
        destructive one that was not confirmed, EINVAL for arguments that its schema refuses, EAGAIN when too many run.
        """
        tool, number, running, brought = await self._checked(asked, sight)
        return await self._run(tool, number, asked, running, brought)

    async def begin(self, asked: Asked, sight: Sight, done: Callable[[dict[str, Any]], Awaitable[None]]) -> str:
        """Begin a call, and return its id; `wait` says what came of it. `done` is called with the result. OSError as `call`."""
        nursery = self._nursery
        if nursery is None:
            raise path_error(errno.EAGAIN, f"tools/{asked.name}", "no daemon runs that could wait for it")
        tool, number, running, brought = await self._checked(asked, sight)

        async def run() -> None:
            try:
                await done(await self._run(tool, number, asked, running, brought))
            except Exception:  # nobody waits for it, and others go on
                log.exception("what came of call %s could not be kept", number)

        nursery.start_soon(run)
        return number

    async def wait(self, number: str, principal: str, seconds: float, seen: float) -> dict[str, Any]:
        """How far a call of one's own is, as soon as it is farther than `seen` or over, at the latest after `seconds`: {running,
        progress, message, result}. ENOENT for none.
        """
        running = self._running.get(number) or self._ended.get(number)
        if running is None or running.principal != principal:
            raise not_found(f"calls/{printable(number)[:80]}")
        with trio.move_on_after(seconds):
            while running.result is None and running.progress <= seen:
                await running.moved.wait()
        if running.result is not None:
            self._ended.pop(number, None)
        return {
            "running": running.result is None,
            "progress": running.progress,
            "message": running.message,
            "result": running.result,
        }

    def state(self, number: str, principal: str) -> dict[str, Any]:
        """How far a call of one's own is: {running, progress, message}."""
        running = self._running.get(number)
        if running is None or running.principal != principal:
            return {"running": False, "progress": 0.0, "message": ""}
        return {"running": True, "progress": running.progress, "message": running.message}

    def cancel(self, number: str, principal: str) -> bool:
        """Give up a call of one's own; False if it does not run."""
        running = self._running.get(number)
        if running is None or running.principal != principal:
            return False
        running.scope.cancel()
        return True

    def may_call(self, tool: Tool, refusal: str) -> bool:
        """True if whoever acts may ask for it to be run: what a mode bit says."""
        return not refusal and (self._ports.may_run(tool) or tool.destructive)

    # what is kept

    def kept(self, tool: str, restricted: str = "") -> list[str]:
        """The ids of a tool's calls that are kept, the oldest first; `restricted`: only this principal's. Blocks."""
        place = self._place(tool)
        try:
            names = os.listdir(place)
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = sorted((name for name in names if _ID.fullmatch(name)), key=lambda name: (_when(place / name), name))
        return [number for number in found if not restricted or self._whose(tool, number) == restricted]

    def records(self, tool: str = "", restricted: str = "") -> list[dict[str, Any]]:
        """The results of all calls that are kept, the oldest first, without their texts. Blocks."""
        found = []
        for name in [tool] if tool else self._called():
            for number in self.kept(name, restricted):
                with contextlib.suppress(OSError, ValueError):
                    found.append(json.loads(self.read(name, number, RESULT)))
        return sorted(found, key=lambda record: str(record["at"]))

    def record(self, number: str, restricted: str = "") -> dict[str, Any]:
        """A call that is kept: its result, `arguments` and `text`. ENOENT. Blocks."""
        for name in self._called():
            if _ID.fullmatch(number) and number in self.kept(name, restricted):
                record: dict[str, Any] = json.loads(self.read(name, number, RESULT))
                arguments = json.loads(self.read(name, number, ARGS))
                text = self.read(name, number, TEXT).decode("utf-8", "replace")
                return {**record, "arguments": arguments, "text": text}
        raise not_found(f"calls/{printable(number)[:80]}")

    def files(self, tool: str, number: str) -> list[str]:
        """The names of what is kept of a call. ENOENT. Blocks."""
        try:
            return sorted(os.listdir(self._place(tool) / number)) if _ID.fullmatch(number) else []
        except (FileNotFoundError, NotADirectoryError) as error:
            raise not_found(f"tools/{tool}/calls/{number}") from error

    def read(self, tool: str, number: str, name: str) -> bytes:
        """A file of a call that is kept. ENOENT. Blocks."""
        if name not in self.files(tool, number):
            raise not_found(f"tools/{tool}/calls/{number}/{name}")
        return (self._place(tool) / number / name).read_bytes()

    # inside

    async def _checked(self, asked: Asked, sight: Sight) -> tuple[Tool, str, _Running, Brought]:
        name, arguments = asked.name, asked.arguments
        offered = await blocking(self.catalog.find, name)
        tool = offered.tool
        may = self._ports.may_run(tool)
        if not may and not tool.destructive:
            raise path_error(errno.EACCES, f"tools/{name}", "you may not run it: the policy gives no 'exec' for it")
        if offered.refusal:
            remedy = f": ctxfs tools approve {name}" if "approved" in offered.refusal else ""
            raise path_error(errno.EACCES, f"tools/{name}", f"{offered.refusal}{remedy}")
        if wrong := self._schema(tool).wrong(arguments):
            raise invalid(f"tools/{name}", wrong)
        if may and tool.destructive and not asked.confirmed:
            raise not_permitted(f"tools/{name}", "what it does cannot be taken back: it has to be confirmed")
        number = asked.id or f"c-{secrets.token_hex(6)}"
        if not _ID.fullmatch(number) or number in self._running or (self._place(name) / number).exists():
            raise invalid(f"tools/{name}", f"'{printable(number)[:80]}' cannot be the id of a call")
        if len(self._running) >= _MOST_AT_ONCE:
            raise path_error(errno.EAGAIN, f"tools/{name}", f"{_MOST_AT_ONCE} calls run already")
        # atomic: the number is taken before anything else waits
        running = self._running[number] = _Running(asked.principal, trio.CancelScope())
        try:
            brought = await _brought(tool, asked, sight)
            if not may:
                await self._ports.ask_person(tool, asked)
        except BaseException:
            del self._running[number]
            raise
        return tool, number, running, brought

    async def _run(self, tool: Tool, number: str, asked: Asked, running: _Running, brought: Brought) -> dict[str, Any]:
        begun, failed = time.monotonic(), ""
        outcome: Outcome | None = None
        try:
            try:
                with running.scope:
                    outcome = await self._ports.run(tool, asked.arguments, brought, running.tell, asked)
            except OSError as error:
                failed = errno.errorcode.get(error.errno or errno.EIO, "EIO")
                outcome = _fault(begun, error.strerror or str(error))
            except Exception as error:
                log.exception("tool %s failed", tool.name)
                failed = "EIO"
                outcome = _fault(begun, f"internal error: {error}")
            result = self._result(tool, number, asked.principal, outcome or _fault(begun, "it was cancelled"))
            if failed:
                result["errno"] = failed
            with trio.CancelScope(shield=True):
                await blocking(self._keep, tool.name, number, asked.arguments, result, outcome)
            # atomic: whoever waits finds it in one place or the other
            running.end(result)
            self._ended[number] = running
            if len(self._ended) > _MOST_WAITING:
                self._ended.popitem(last=False)
            return result
        finally:
            del self._running[number]

    def _schema(self, tool: Tool) -> Schema:
        """Compiled once for each definition; the tool is kept beside it, so that no other gets its identity."""
        known = self._schemas.get(id(tool))
        if known is None:
            if len(self._schemas) > _MOST_WAITING:
                self._schemas.clear()
            known = self._schemas[id(tool)] = tool, Schema(tool.schema)
        return known[1]

    def _result(self, tool: Tool, number: str, principal: str, outcome: Outcome) -> dict[str, Any]:
        text = outcome.stdout.decode("utf-8", "replace")
        said = outcome.stderr.decode("utf-8", "replace").strip()
        structured, fault = outcome.structured, outcome.fault
        if not fault and outcome.exit_code:
            fault = said.splitlines()[-1][:300] if said else f"it ended with exit code {outcome.exit_code}"
        if not fault and tool.output_schema is not None:
            structured, fault = _structured(tool, structured, text)
        return {
            "id": number,
            "tool": tool.name,
            "principal": principal,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "ok": not fault and outcome.ok,
            "fault": fault,
            "exit_code": outcome.exit_code,
            "seconds": round(outcome.seconds, 4),
            "sha256": hashlib.sha256(outcome.stdout).hexdigest(),
            "stderr": said[:4000],
            **({"structured": structured} if structured is not None else {}),
            **({"files": [name for name, _ in outcome.files]} if outcome.files else {}),
            "text": text,
        }

    def _keep(
        self, tool: str, number: str, arguments: Mapping[str, Any], result: Mapping[str, Any], outcome: Outcome | None
    ) -> None:
        """All of it appears at once, under its id."""
        said = outcome or _fault(0.0, "")
        place = self._place(tool)
        begun = place / f".{number}"
        begun.mkdir(parents=True, mode=0o700)
        files = {
            **dict(said.files),
            ARGS: _json(arguments),
            STDERR: said.stderr,
            TEXT: said.stdout,
            RESULT: _json({key: value for key, value in result.items() if key != "text"}),
        }
        for name, data in files.items():
            (begun / name).write_bytes(data)
        os.rename(begun, place / number)
        for old in self.kept(tool)[:-_KEPT] if len(os.listdir(place)) > _KEPT else ():
            shutil.rmtree(place / old, ignore_errors=True)

    def _place(self, tool: str) -> HostPath:
        return self.folder / tool.replace("/", "%")

    def _called(self) -> Iterator[str]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        for name in sorted(names):
            yield name.replace("%", "/")

    def _whose(self, tool: str, number: str) -> str:
        try:
            return str(json.loads(self.read(tool, number, RESULT))["principal"])
        except (OSError, ValueError, KeyError):
            return ""


async def _brought(tool: Tool, asked: Asked, sight: Sight) -> Brought:
    """What the arguments mean that are paths, as the caller may see it."""
    found: dict[str, bytes | str] = {}
    for each in tool.paths:
        if each.name not in asked.arguments:
            continue
        said = str(asked.arguments[each.name])
        if each.kind == "file":
            found[each.name] = asked.files[each.name] if each.name in asked.files else await sight.file(said)
        elif each.kind == "version":
            found[each.name] = await sight.version(str(asked.arguments.get(each.of, "")), said)
        else:
            found[each.name] = sight.folder(said)
    return found


def _fault(begun: float, why: str) -> Outcome:
    return Outcome(b"", b"", None, time.monotonic() - begun, why)


def _structured(tool: Tool, structured: Any, text: str) -> tuple[Any, str]:
    """(the answer as JSON, what is wrong with it by the tool's own schema)."""
    assert tool.output_schema is not None
    if structured is None:
        try:
            structured = json.loads(text)
        except ValueError:
            return None, "its answer is no JSON, which its output schema promises"
    wrong = Schema(tool.output_schema).fault_in(structured)
    return structured, f"its answer breaks its output schema: {wrong}" if wrong else ""


def _when(place: HostPath) -> int:
    try:
        return place.stat().st_mtime_ns
    except FileNotFoundError:
        return time.time_ns()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
