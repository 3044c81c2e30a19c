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
_KEPT = 500  # calls of a tool; older ones are deleted
_KEPT_BYTES = 256 * 1024 * 1024  # of a tool
_LARGE = 100_000  # bytes of a call from which the sizes of all calls are summed


def is_call_id(number: str) -> bool:
    """Return True if the text can be the id of a call."""
    return bool(_ID.fullmatch(number))


class CallStore:
    """The stored calls of all tools. Methods block, except `hold`. They may be called from any thread."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder
        self._held: dict[tuple[str, str], Mapping[str, bytes]] = {}  # pending: not on disk yet

    def hold(
        self, tool: str, number: str, arguments: Mapping[str, Any], result: Mapping[str, Any], outcome: Outcome
    ) -> None:
        """Add a call to the pending calls, which are visible at once."""
        self._held[tool, number] = {
            **dict(outcome.files),
            ARGS: _json(arguments),
            STDERR: outcome.stderr,
            TEXT: outcome.stdout,
            RESULT: _json({key: value for key, value in result.items() if key != "text"}),
        }

    def write(self, tool: str, number: str) -> None:
        """Write a pending call to disk, where it appears atomically, and delete old calls of the tool."""
        place = self._place(tool)
        begun = place / f".{number}"
        begun.mkdir(parents=True)
        files = self._held[tool, number]
        for name, data in files.items():
            (begun / name).write_bytes(data)
            if name not in (ARGS, RESULT):
                mark_untrusted(begun / name, f"tools/{tool}")
        os.rename(begun, place / number)
        del self._held[tool, number]
        names = self._names(place)
        old = names[:-_KEPT]
        if sum(map(len, files.values())) > _LARGE:
            old = names[: len(names) - _fitting([place / name for name in names])]
        for name in old:
            shutil.rmtree(place / name, ignore_errors=True)

    def forget_matching(self, is_doomed: Callable[[bytes], bool]) -> int:
        """Erase the calls with a file for which `is_doomed` is true; return their number."""
        count = 0
        for key, files in list(self._held.items()):
            if any(map(is_doomed, files.values())):
                self._held[key] = {name: b"" if name != RESULT else data for name, data in files.items()}
                count += 1
        for tool in self._tools():
            place = self._place(tool)
            for number in self._names(place):
                texts = (file.read_bytes() for file in (place / number).iterdir() if file.is_file())
                if any(map(is_doomed, texts)):
                    shutil.rmtree(place / number, ignore_errors=True)
                    count += 1
        return count

    def sweep(self) -> None:
        """Delete half-written calls of a daemon that was killed."""
        for begun in self._folder.glob("**/calls/.*"):
            shutil.rmtree(begun, ignore_errors=True)

    def numbers(self, tool: str, restricted: str = "") -> list[str]:
        """Return the ids of a tool's calls, oldest first; with `restricted` only those of this principal."""
        held = [number for name, number in list(self._held) if name == tool]
        found = [*(name for name in self._names(self._place(tool)) if name not in held), *held]
        return [number for number in found if not restricted or self._whose(tool, number) == restricted]

    def has(self, tool: str, number: str, restricted: str = "") -> bool:
        """Return True if the store has this call of a tool and, with `restricted`, it belongs to this principal."""
        if not is_call_id(number) or not ((tool, number) in self._held or (self._place(tool) / number).is_dir()):
            return False
        return not restricted or self._whose(tool, number) == restricted

    def records(self, tool: str = "", restricted: str = "") -> list[dict[str, Any]]:
        """Return the results of all calls, oldest first, without their texts."""
        found = []
        for name in [tool] if tool else self._tools():
            for number in self.numbers(name, restricted):
                with contextlib.suppress(OSError, ValueError):
                    found.append(json.loads(self.read(name, number, RESULT)))
        return sorted(found, key=lambda record: str(record["at"]))

    def record(self, number: str, restricted: str = "") -> dict[str, Any]:
        """Return a call: its result, `arguments` and `text`. Raise OSError ENOENT."""
        for name in self._tools():
            if self.has(name, number, restricted):
                record: dict[str, Any] = json.loads(self.read(name, number, RESULT))
                arguments = json.loads(self.read(name, number, ARGS))
                text = self.read(name, number, TEXT).decode("utf-8", "replace")
                return {**record, "arguments": arguments, "text": text}
        raise not_found(f"calls/{printable(number)[:80]}")

    def files(self, tool: str, number: str) -> list[str]:
        """Return the names of a call's files. Raise OSError ENOENT."""
        held = self._held.get((tool, number))
        if held is not None:
            return sorted(held)
        try:
            return sorted(os.listdir(self._place(tool) / number)) if is_call_id(number) else []
        except (FileNotFoundError, NotADirectoryError) as error:
            raise not_found(f"tools/{tool}/calls/{number}") from error

    def read(self, tool: str, number: str, name: str) -> bytes:
        """Return a file of a call. Raise OSError ENOENT."""
        held = self._held.get((tool, number))
        if held is not None and name in held:
            return held[name]
        if name not in self.files(tool, number):
            raise not_found(f"tools/{tool}/calls/{number}/{name}")
        return (self._place(tool) / number / name).read_bytes()

    def _names(self, place: HostPath) -> list[str]:
        try:
            names = os.listdir(place)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((name for name in names if is_call_id(name)), key=lambda name: (_when(place / name), name))

    def _place(self, tool: str) -> HostPath:
        return self._folder.joinpath(*tool.split("/"), _CALLS)

    def _tools(self) -> Iterator[str]:
        names = {tool for tool, _ in list(self._held)}
        for place, folders, _ in os.walk(self._folder):
            if _CALLS in folders:
                folders.remove(_CALLS)  # its entries are calls, not tools
                names.add(str(HostPath(place).relative_to(self._folder)))
        yield from sorted(names)

    def _whose(self, tool: str, number: str) -> str:
        try:
            return str(json.loads(self.read(tool, number, RESULT))["principal"])
        except (OSError, ValueError, KeyError):
            return ""


def _fitting(calls: Sequence[HostPath]) -> int:
    """Return how many of the newest calls stay within `_KEPT` calls and `_KEPT_BYTES`; at least one."""
    total = 0
    for count, place in enumerate(reversed(calls[-_KEPT:])):
        total += sum(file.stat().st_size for file in place.iterdir())
        if total > _KEPT_BYTES and count:
            return count
    return min(len(calls), _KEPT)


def _when(place: HostPath) -> int:
    try:
        return mtime_ns_of(place.stat())
    except FileNotFoundError:
        return time.time_ns()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")
