"""The use of a file: how often its text was delivered, and how many responses cite it and are supported by it.

The numbers are counted from delivery records and evaluations when they are read. They are no versions, and no index has
them. They show nothing but the reader's own use: a person sees all deliveries, an agent those to itself and the responses
that it wrote, because the number of another principal's deliveries would reveal its work.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ctxfs.context.delivery.delivery_store import DeliveryStore
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
    helped: int = 0
    last_used: str = ""

    def add(self, count: int, last: str) -> None:
        self.used += count
        self.last_used = max(self.last_used, last)


class Use:
    """The use of files, for the calling principal."""

    def __init__(self, deliveries: DeliveryStore, tasks: Tasks) -> None:
        self._deliveries = deliveries
        self._tasks = tasks

    async def attributes(self, path: Path) -> dict[str, bytes]:
        """Return `user.ctx.used`, `.helped` and `.last_used` of a file; nothing for one that was never delivered."""
        principal = acting_principal()
        reader = "" if principal is None or (principal.is_person and not principal.grant) else str(principal)
        count, text, size, answered = _Count(), str(path), 0, list[str]()
        mark = json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace")
        for task in (await self._deliveries.tasks())[:_MAX_TASKS]:
            for name in (LOADS, ANSWERED):
                data = await self._deliveries.read(task, name) or b""
                size += len(data)
                if not any(part in data for part in mark):
                    continue
                if name == LOADS:
                    count.add(*await blocking(_count_loads, data, text, reader))
                elif await blocking(_is_answered_with, data, path, reader):
                    answered.append(task)
            if size > _MAX_BYTES:
                break
        for task in answered[-_MAX_EVALUATIONS:]:
            count.helped += await self._has_helped(task, text)
        if not count.used and not count.helped:
            return {}
        values = {"used": str(count.used), "helped": str(count.helped), "last_used": count.last_used}
        return {f"{PREFIX}{name}": value.encode() for name, value in values.items() if value}

    async def last_used(self) -> dict[str, str]:
        """Return the time of the last delivery of each file that was delivered, by path, in one pass."""
        principal = acting_principal()
        reader = "" if principal is None or (principal.is_person and not principal.grant) else str(principal)
        times, size = dict[str, str](), 0
        for task in (await self._deliveries.tasks())[:_MAX_TASKS]:
            data = await self._deliveries.read(task, LOADS) or b""
            size += len(data)
            await blocking(_add_times, times, data, reader)
            if size > _MAX_BYTES:
                break
        return times

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


def _count_loads(data: bytes, path: str, reader: str) -> tuple[int, str]:
    """Return (number of deliveries with a text of a file, time of the last one) in loads.jsonl."""
    count, last = 0, ""
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and reader in ("", record.get("principal")) and path in _loaded(record):
                count += 1
                last = max(last, str(record.get("at", "")))
    return count, last


def _add_times(times: dict[str, str], data: bytes, reader: str) -> None:
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and reader in ("", record.get("principal")):
                for path in _loaded(record):
                    times[path] = max(times.get(path, ""), str(record.get("at", "")))


def _loaded(record: dict[str, Any]) -> Iterator[str]:
    loaded = record.get("loaded")
    added = [record.get("source")] if record.get("change") in ("add", "replace") else []
    for span in (*(loaded if isinstance(loaded, list) else ()), *added):
        if isinstance(span, str):
            yield span.rpartition(":")[0]


def _is_answered_with(data: bytes, path: Path, reader: str) -> bool:
    if reader not in ("", answered_by(data)):
        return False
    try:
        return path in sources_of_answered(data)
    except OSError:
        return False
