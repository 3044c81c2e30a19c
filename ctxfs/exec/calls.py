"""Calls of tools: checked, run, kept. `<store>/calls/<tool>/<id>/` has `args.json`, `result.json`, `result.md` and `stderr` of each.

A call's id is given by whoever calls, so that they can ask how far it is, and give it up, while they wait.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as HostPath
from typing import Any

import trio

from ctxfs.exec.catalog import ToolCatalog
from ctxfs.exec.definition import Tool
from ctxfs.exec.process import Outcome, run_tool
from ctxfs.exec.schema import Schema
from ctxfs.model.errors import invalid, not_found, not_permitted, path_error
from ctxfs.model.path import printable
from ctxfs.store.config import replace_file
from ctxfs.threads import blocking

Read = Callable[[str], Awaitable[bytes]]
_ID = re.compile(r"[a-z0-9][a-z0-9-]{3,63}")
_KEPT = 500  # calls of a tool; older ones are dropped
_MOST_AT_ONCE = 50
ARGS, RESULT, TEXT, STDERR = "args.json", "result.json", "result.md", "stderr"
FILES = (ARGS, RESULT, TEXT, STDERR)


@dataclass(slots=True)
class _Running:
    principal: str
    scope: trio.CancelScope
    progress: float = 0.0
    message: str = ""


class Calls:
    """Runs tools of a catalog. `may_run` says whether whoever acts may run one."""

    def __init__(self, catalog: ToolCatalog, folder: HostPath, may_run: Callable[[Tool], bool]) -> None:
        self.catalog = catalog
        self.folder = folder
        self._may_run = may_run
        self._running: dict[str, _Running] = {}

    async def call(
        self, name: str, arguments: Mapping[str, Any], number: str, principal: str, read: Read, *, confirmed: bool
    ) -> dict[str, Any]:
        """Run a tool and wait for it: {id, ok, text, stderr, seconds, fault}.

        OSError: ENOENT for no such tool, EACCES for one that whoever acts may not run or that nobody has approved, EPERM for a
        destructive one that was not confirmed, EINVAL for arguments that its schema refuses, EAGAIN when too many run.
        """
        tool = await self._allowed(name, confirmed=confirmed)
        if wrong := Schema(tool.schema).wrong(arguments):
            raise invalid(f"tools/{name}", wrong)
        if not _ID.fullmatch(number) or number in self._running or (self.folder / name / number).exists():
            raise invalid(f"tools/{name}", f"'{printable(number)[:80]}' cannot be the id of a call")
        if len(self._running) >= _MOST_AT_ONCE:
            raise path_error(errno.EAGAIN, f"tools/{name}", f"{_MOST_AT_ONCE} calls run already")
        files = {key: await read(str(arguments[key])) for key in tool.files if key in arguments}
        running = self._running[number] = _Running(principal, trio.CancelScope())

        def progress(done: float, message: str) -> None:
            running.progress, running.message = done, message

        try:
            outcome = None
            with running.scope:
                outcome = await run_tool(tool, arguments, files, progress)
        finally:
            del self._running[number]
        if outcome is None:
            outcome = Outcome(b"", b"", None, 0.0, "it was cancelled")
        result = _result(tool, number, principal, outcome)
        with trio.CancelScope(shield=True):
            await blocking(self._keep, tool.name, number, arguments, result, outcome)
        return result

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

    def kept(self, tool: str) -> list[str]:
        """The ids of a tool's calls that are kept, the oldest first. Blocks."""
        try:
            names = os.listdir(self.folder / tool)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((name for name in names if _ID.fullmatch(name)), key=lambda name: (self._when(tool, name), name))

    def read(self, tool: str, number: str, name: str) -> bytes:
        """A file of a call that is kept. ENOENT. Blocks."""
        if not _ID.fullmatch(number) or name not in FILES:
            raise not_found(f"tools/{tool}/calls/{number}/{name}")
        try:
            return (self.folder / tool / number / name).read_bytes()
        except FileNotFoundError as error:
            raise not_found(f"tools/{tool}/calls/{number}/{name}") from error

    async def _allowed(self, name: str, *, confirmed: bool) -> Tool:
        offered = await blocking(self.catalog.find, name)
        if not self._may_run(offered.tool):
            raise path_error(errno.EACCES, f"tools/{name}", "you may not run it: the policy gives no 'exec' for it")
        if offered.refusal:
            raise path_error(errno.EACCES, f"tools/{name}", f"{offered.refusal}: ctxfs tools approve {name}")
        if offered.tool.destructive and not confirmed:
            raise not_permitted(f"tools/{name}", "what it does cannot be taken back: it has to be confirmed")
        return offered.tool

    def _keep(
        self, tool: str, number: str, arguments: Mapping[str, Any], result: Mapping[str, Any], outcome: Outcome
    ) -> None:
        place = self.folder / tool / number
        place.mkdir(parents=True, mode=0o700)
        replace_file(place / ARGS, _json(arguments), 0o600)
        replace_file(place / STDERR, outcome.stderr, 0o600)
        replace_file(place / TEXT, outcome.stdout, 0o600)
        replace_file(place / RESULT, _json({key: value for key, value in result.items() if key != "text"}), 0o600)
        for old in self.kept(tool)[:-_KEPT]:
            shutil.rmtree(self.folder / tool / old, ignore_errors=True)

    def _when(self, tool: str, number: str) -> int:
        try:
            return (self.folder / tool / number).stat().st_mtime_ns
        except FileNotFoundError:
            return time.time_ns()


def _result(tool: Tool, number: str, principal: str, outcome: Outcome) -> dict[str, Any]:
    text = outcome.stdout.decode("utf-8", "replace")
    said = outcome.stderr.decode("utf-8", "replace").strip()
    fault = outcome.fault
    if not fault and outcome.exit_code:
        fault = said.splitlines()[-1][:300] if said else f"it ended with exit code {outcome.exit_code}"
    return {
        "id": number,
        "tool": tool.name,
        "principal": principal,
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "ok": outcome.ok,
        "fault": fault,
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.seconds, 4),
        "sha256": hashlib.sha256(outcome.stdout).hexdigest(),
        "stderr": said[:4000],
        "text": text,
    }


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
