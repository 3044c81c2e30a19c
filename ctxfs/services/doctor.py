"""The findings of `ctxfs doctor`, from a process of its own with bounded time and output, kept for some minutes.

The checks open the model and walk the repository of versions: a process of its own keeps that out of the daemon.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio

from ctxfs.process_group import run_program
from ctxfs.store.layout import Layout

MAX_AGE_SECONDS = 300.0
_TIMEOUT_SECONDS = 60.0
_MAX_OUTPUT_BYTES = 1_000_000
_MAX_FINDINGS = 100
_MAX_TEXT_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that failed: its name, the fault, and the command or act that repairs it."""

    name: str
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """The findings at a time (ISO, UTC), the number of all checks, and the cause if the checks did not end."""

    at: str
    checks: int = 0
    findings: Sequence[Finding] = field(default_factory=tuple)
    fault: str = ""


class Doctor:
    """The last report on one store. Concurrent callers wait for the same process."""

    def __init__(
        self, layout: Layout, command: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`command` writes the JSON of `ctxfs doctor --json`; empty for that of this installation."""
        self._command = command or [sys.executable, "-m", "ctxfs", "--store", str(layout.root), "doctor", "--json"]
        self._clock = clock
        self._lock = trio.Lock()
        self._report: Report | None = None
        self._made_at = 0.0

    async def report(self, max_age: float = MAX_AGE_SECONDS) -> Report:
        """Return a report that is at most `max_age` seconds older than this request."""
        requested = self._clock()
        async with self._lock:
            if self._report is None or requested - self._made_at >= max_age:
                self._report = await self._run()
                self._made_at = self._clock()
            return self._report

    async def _run(self) -> Report:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            with trio.fail_after(_TIMEOUT_SECONDS):
                code, out, err = await run_program(self._command, b"", _MAX_OUTPUT_BYTES)
        except trio.TooSlowError:
            return Report(at, fault=f"the checks did not end within {_TIMEOUT_SECONDS:.0f} s")
        except OSError as error:
            return Report(at, fault=f"the checks cannot be started: {error.strerror}")
        try:
            checks = [_parse_check(check) for check in json.loads(out)]
        except (ValueError, TypeError, KeyError, RecursionError):
            last = (err.decode("utf-8", "replace").strip().splitlines() or ["no error text"])[-1]
            return Report(at, fault=f"the checks ended with {code}: {last[:_MAX_TEXT_CHARACTERS]}")
        findings = [finding for is_ok, finding in checks if not is_ok]
        return Report(at, len(checks), findings[:_MAX_FINDINGS])


def _parse_check(check: dict[str, object]) -> tuple[bool, Finding]:
    texts = (str(check[name])[:_MAX_TEXT_CHARACTERS] for name in ("name", "detail", "remedy"))
    return bool(check["ok"]), Finding(*texts)
