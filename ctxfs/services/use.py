"""The use of a file: how often its text was delivered, and how many responses cite it and are supported by it.

The numbers are counted from delivery records and evaluations when they are read. They are no versions, and no index has
them. They show nothing but the reader's own use: a person sees all deliveries, an agent those to itself and the responses
that it wrote, because the number of another principal's deliveries would reveal its work.
"""

import contextlib
import itertools
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ctxfs.context.delivery.delivery_store import DeliveryStore, Stamps
from ctxfs.context.delivery.records import answered_by, sources_of_answered
from ctxfs.context.delivery.tasks import Tasks
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import Path
from ctxfs.store.record_names import ANSWERED, LOADS
from ctxfs.threads import blocking
from ctxfs.vfs.caller_context import acting_principal

_MAX_TASKS = 1000  # that are read for one file
_MAX_BYTES = 64_000_000  # of their records
_MAX_EVALUATIONS = 20


@dataclass(slots=True)
class _Count:
    used: int = 0
    last_used: str = ""

    def add(self, count: int, last: str) -> None:
        self.used += count
        self.last_used = max(self.last_used, last)


@dataclass(slots=True)
class _TaskUse:
    """The records of one task: its deliveries by (path, principal), who answered with which files, and their size."""

    stamps: Stamps
    loads: dict[str, dict[str, _Count]]
    answered_by: str
    answered_with: frozenset[Path]
    size: int

    def loads_of(self, path: str, reader: str) -> Iterator[_Count]:
        """Yield the deliveries of a file to a principal; to all, if `reader` is empty."""
        return (count for principal, count in self.loads.get(path, {}).items() if reader in ("", principal))


class Use:
    """The use of files, for the calling principal. The records of a task are parsed again only if they have changed."""

    def __init__(self, deliveries: DeliveryStore, tasks: Tasks) -> None:
        self._deliveries = deliveries
        self._tasks = tasks
        self._parsed: dict[str, _TaskUse] = {}

    async def attributes(self, path: Path) -> dict[str, bytes]:
        """Return `user.ctx.used`, `.helped` and `.last_used` of a file; nothing for one that was never delivered."""
        reader, total, text, answered = _reader(), _Count(), str(path), list[str]()
        for task, use in await self._read_tasks():
            for count in use.loads_of(text, reader):
                total.add(count.used, count.last_used)
            if path in use.answered_with and reader in ("", use.answered_by):
                answered.append(task)
        helped = sum([await self._has_helped(task, text) for task in answered[-_MAX_EVALUATIONS:]])
        if not total.used and not helped:
            return {}
        values = {"used": str(total.used), "helped": str(helped), "last_used": total.last_used}
        return {f"{PREFIX}{name}": value.encode() for name, value in values.items() if value}

    async def last_used(self) -> dict[str, str]:
        """Return the time of the last delivery of each file that was delivered, by path, in one pass."""
        reader, times = _reader(), dict[str, str]()
        for _, use in await self._read_tasks():
            for path in use.loads:
                for count in use.loads_of(path, reader):
                    times[path] = max(times.get(path, ""), count.last_used)
        return times

    async def last_deliveries(self, paths: Collection[str]) -> dict[str, tuple[str, str]]:
        """Return the (time, principal) of the last delivery of each of these files that was delivered, in one pass."""
        reader, last = _reader(), dict[str, tuple[str, str]]()
        for _, use in await self._read_tasks():
            for path in use.loads.keys() & paths:
                for principal, count in use.loads[path].items():
                    if reader in ("", principal):
                        last[path] = max(last.get(path, ("", "")), (count.last_used, principal))
        return last

    async def _read_tasks(self) -> list[tuple[str, _TaskUse]]:
        """Return the records of the tasks, within the limits of their number and size."""
        uses, size = list[tuple[str, _TaskUse]](), 0
        stamps = await self._deliveries.stamps((LOADS, ANSWERED))
        for task, current in itertools.islice(stamps.items(), _MAX_TASKS):
            use = self._parsed.get(task)
            if use is None or use.stamps != current:
                loads = await self._deliveries.read(task, LOADS) or b""
                answered = await self._deliveries.read(task, ANSWERED) or b""
                use = await blocking(_parse_records, current, loads, answered)
            uses.append((task, use))
            size += use.size
            if size > _MAX_BYTES:
                break
        self._parsed = dict(uses)
        return uses

    async def _has_helped(self, task: str, path: str) -> bool:
        """Return True if a claim of the response of a task cites a file, and the file supports it."""
        with contextlib.suppress(OSError, CommandError, ValueError):
            claims: list[dict[str, Any]] = json.loads(await self._tasks.evaluation(task))["claims"]
            return any(
                claim.get("verdict") == "supported"
                and claim.get("citations")
                and str(claim.get("source", {}).get("at", "")).rpartition(":")[0] == path
                for claim in claims
            )
        return False


def _reader() -> str:
    """Return the principal whose own use the caller may see; empty for all."""
    principal = acting_principal()
    return "" if principal is None or (principal.is_person and not principal.grant) else str(principal)


def _parse_records(stamps: Stamps, loads: bytes, answered: bytes) -> _TaskUse:
    """Return the use that loads.jsonl and the record of an answered context show."""
    counts: dict[str, dict[str, _Count]] = {}
    for line in loads.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                for path in dict.fromkeys(_loaded(record)):
                    count = counts.setdefault(path, {}).setdefault(str(record.get("principal")), _Count())
                    count.add(1, str(record.get("at", "")))
    sources = frozenset[Path]()
    with contextlib.suppress(OSError):
        sources = sources_of_answered(answered) if answered else sources
    return _TaskUse(stamps, counts, answered_by(answered), sources, len(loads) + len(answered))


def _loaded(record: dict[str, Any]) -> Iterator[str]:
    loaded = record.get("loaded")
    added = [record.get("source")] if record.get("change") in ("add", "replace") else []
    for span in (*(loaded if isinstance(loaded, list) else ()), *added):
        if isinstance(span, str):
            yield span.rpartition(":")[0]
