"""The store of calls: `<store>/calls/<tool>/calls/<id>/` holds `args.json`, `result.json`, `result.md` and `stderr`.

It also holds the non-text results. The layout is that of the tree, so that it can be indexed. All output is marked as
untrusted. A call is visible as soon as it is pending in memory, and durable once it is written.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path as HostPath
from typing import Any

from ctxfs.exec.outcome import Outcome
from ctxfs.model.errors import not_found
from ctxfs.model.host_numbers import mtime_ns_of
from ctxfs.model.path import printable
from ctxfs.store.untrusted import mark_untrusted

ARGS, RESULT, TEXT, STDERR = "args.json", "result.json", "result.md", "stderr"
FILES = (ARGS, RESULT, TEXT, STDERR)
_CALLS = "calls"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{3,63}")
_MAX_CALLS = 500  # calls of a tool; older ones are deleted
_MAX_BYTES = 256 * 1024 * 1024  # of a tool
_LARGE_CALL_BYTES = 100_000  # bytes of a call from which the sizes of all calls are summed


def is_call_id(text: str) -> bool:
    """Return True if the text can be the id of a call."""
    return bool(_ID.fullmatch(text))


class CallStore:
    """The stored calls of all tools. Methods block, except `add_pending`. They may be called from any thread."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder
        self._pending: dict[tuple[str, str], Mapping[str, bytes]] = {}  # pending: not on disk yet

    def add_pending(
        self, tool: str, call_id: str, arguments: Mapping[str, Any], result: Mapping[str, Any], outcome: Outcome
    ) -> None:
        """Add a call to the pending calls, which are visible at once."""
        self._pending[tool, call_id] = {
            **dict(outcome.files),
            ARGS: _json(arguments),
            STDERR: outcome.stderr,
            TEXT: outcome.stdout,
            RESULT: _json({key: value for key, value in result.items() if key != "text"}),
        }

    def write(self, tool: str, call_id: str) -> None:
        """Write a pending call to disk, where it appears atomically, and delete old calls of the tool."""
        folder = self._calls_folder(tool)
        temporary = folder / f".{call_id}"
        temporary.mkdir(parents=True)
        files = self._pending[tool, call_id]
        for name, data in files.items():
            (temporary / name).write_bytes(data)
            if name not in (ARGS, RESULT):
                mark_untrusted(temporary / name, f"tools/{tool}")
        os.rename(temporary, folder / call_id)
        del self._pending[tool, call_id]
        names = self._names(folder)
        old = names[:-_MAX_CALLS]
        if sum(map(len, files.values())) > _LARGE_CALL_BYTES:
            old = names[: len(names) - _count_fitting([folder / name for name in names])]
        for name in old:
            shutil.rmtree(folder / name, ignore_errors=True)

    def erase_matching(self, is_doomed: Callable[[bytes], bool]) -> int:
        """Erase the calls with a file for which `is_doomed` is true; return their number."""
        count = 0
        for key, files in list(self._pending.items()):
            if any(map(is_doomed, files.values())):
                self._pending[key] = {name: b"" if name != RESULT else data for name, data in files.items()}
                count += 1
        for tool in self._tools():
            folder = self._calls_folder(tool)
            for call_id in self._names(folder):
                texts = (file.read_bytes() for file in (folder / call_id).iterdir() if file.is_file())
                if any(map(is_doomed, texts)):
                    shutil.rmtree(folder / call_id, ignore_errors=True)
                    count += 1
        return count

    def sweep(self) -> None:
        """Delete half-written calls of a daemon that was killed."""
        for temporary in self._folder.glob("**/calls/.*"):
            shutil.rmtree(temporary, ignore_errors=True)

    def call_ids(self, tool: str, restricted: str = "") -> list[str]:
        """Return the ids of a tool's calls, oldest first; with `restricted` only those of this principal."""
        pending = [call_id for name, call_id in list(self._pending) if name == tool]
        ids = [*(name for name in self._names(self._calls_folder(tool)) if name not in pending), *pending]
        return [call_id for call_id in ids if not restricted or self._owner(tool, call_id) == restricted]

    def has(self, tool: str, call_id: str, restricted: str = "") -> bool:
        """Return True if the store has this call of a tool and, with `restricted`, it belongs to this principal."""
        if not is_call_id(call_id) or not (
            (tool, call_id) in self._pending or (self._calls_folder(tool) / call_id).is_dir()
        ):
            return False
        return not restricted or self._owner(tool, call_id) == restricted

    def records(self, tool: str = "", restricted: str = "") -> list[dict[str, Any]]:
        """Return the results of all calls, oldest first, without their texts."""
        records = []
        for name in [tool] if tool else self._tools():
            for call_id in self.call_ids(name, restricted):
                with contextlib.suppress(OSError, ValueError):
                    records.append(json.loads(self.read(name, call_id, RESULT)))
        return sorted(records, key=lambda record: str(record["at"]))

    def record(self, call_id: str, restricted: str = "") -> dict[str, Any]:
        """Return a call: its result, `arguments` and `text`. Raise OSError ENOENT."""
        for name in self._tools():
            if self.has(name, call_id, restricted):
                record: dict[str, Any] = json.loads(self.read(name, call_id, RESULT))
                arguments = json.loads(self.read(name, call_id, ARGS))
                text = self.read(name, call_id, TEXT).decode("utf-8", "replace")
                return {**record, "arguments": arguments, "text": text}
        raise not_found(f"calls/{printable(call_id)[:80]}")

    def files(self, tool: str, call_id: str) -> list[str]:
        """Return the names of a call's files. Raise OSError ENOENT."""
        pending = self._pending.get((tool, call_id))
        if pending is not None:
            return sorted(pending)
        try:
            return sorted(os.listdir(self._calls_folder(tool) / call_id)) if is_call_id(call_id) else []
        except (FileNotFoundError, NotADirectoryError) as error:
            raise not_found(f"tools/{tool}/calls/{call_id}") from error

    def read(self, tool: str, call_id: str, name: str) -> bytes:
        """Return a file of a call. Raise OSError ENOENT."""
        pending = self._pending.get((tool, call_id))
        if pending is not None and name in pending:
            return pending[name]
        if name not in self.files(tool, call_id):
            raise not_found(f"tools/{tool}/calls/{call_id}/{name}")
        return (self._calls_folder(tool) / call_id / name).read_bytes()

    def _names(self, folder: HostPath) -> list[str]:
        try:
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(
            (name for name in names if is_call_id(name)), key=lambda name: (_modified_ns(folder / name), name)
        )

    def _calls_folder(self, tool: str) -> HostPath:
        return self._folder.joinpath(*tool.split("/"), _CALLS)

    def _tools(self) -> Iterator[str]:
        names = {tool for tool, _ in list(self._pending)}
        for path, folders, _ in os.walk(self._folder):
            if _CALLS in folders:
                folders.remove(_CALLS)  # its entries are calls, not tools
                names.add(str(HostPath(path).relative_to(self._folder)))
        yield from sorted(names)

    def _owner(self, tool: str, call_id: str) -> str:
        try:
            return str(json.loads(self.read(tool, call_id, RESULT))["principal"])
        except (OSError, ValueError, KeyError):
            return ""


def _count_fitting(calls: Sequence[HostPath]) -> int:
    """Return how many of the newest calls stay within `_MAX_CALLS` calls and `_MAX_BYTES`; at least one."""
    total = 0
    for count, call in enumerate(reversed(calls[-_MAX_CALLS:])):
        total += sum(file.stat().st_size for file in call.iterdir())
        if total > _MAX_BYTES and count:
            return count
    return min(len(calls), _MAX_CALLS)


def _modified_ns(path: HostPath) -> int:
    try:
        return mtime_ns_of(path.stat())
    except FileNotFoundError:
        return time.time_ns()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
