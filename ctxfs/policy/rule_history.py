"""The history of the rules.

An old version is readable only if both the current rules and the rules of its time allow it.

`<store>/policy.jsonl` has a line for each change of the rules: `[time_ns, rules, groups]`, with rules as in
`Rule.wire`. For a restricted principal the versions of a path begin at the end of the last period in which it could not
read the path.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as HostPath
from typing import Any

from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.evaluate import Policy
from ctxfs.policy.rules import Rule, Verb, rule_from_wire

log = logging.getLogger(__name__)

_MAX_CHANGES = 2000  # changes that are evaluated
_MAX_CACHED_TIMES = 20_000
_READABLE = Verb.LIST | Verb.READ


@dataclass(frozen=True, slots=True)
class _Span:
    """A period that ends at `until_ns`, in which the policy's decisions at `at_ns` hold; no rule expires within it."""

    until_ns: int
    at_ns: int
    policy: Policy


class RuleHistory:
    """The recorded rules of a store. Queries are for one thread; `record` is for any."""

    def __init__(self, file: HostPath) -> None:
        self._file = file
        self._lock = threading.Lock()  # of the file, `_last` and `_spans`
        self._last: list[Any] | None = None
        self._spans: list[_Span] | None = None
        self._cached_times: dict[tuple[Principal, tuple[str, ...], bool], int] = {}

    def record(self, rules: Sequence[Rule], groups: Mapping[str, frozenset[str]]) -> None:
        """Record the rules that are in force from now on.

        A failed write is logged. Versions are then judged by the rules that were recorded before.
        """
        record = [[rule.wire for rule in rules], {name: sorted(members) for name, members in sorted(groups.items())}]
        with self._lock:
            self._record(record)

    def _record(self, record: list[Any]) -> None:
        if self._last is None:
            lines = self._read_changes()
            self._last = lines[-1][1:] if lines else []
        if record == self._last:
            return
        self._last = record
        try:
            with open(self._file, "ab") as out:
                out.write(json.dumps([time.time_ns(), *record]).encode() + b"\n")
        except OSError as error:
            log.error("cannot record the changed rules: %s", error)
        self._spans = None
        self._cached_times = {}  # a new one: a query in another thread may still fill the old one

    def readable_since(self, principal: Principal, path: Path, *, below: bool = False) -> int:
        """Return the time in nanoseconds since which a principal could read the path without a break; 0 for always.

        With `below`, everything below the path must have been readable.
        """
        key, cached = (principal, path.parts, below), self._cached_times
        time_ns = cached.get(key)
        if time_ns is None:
            if len(cached) > _MAX_CACHED_TIMES:
                cached.clear()
            time_ns = cached[key] = self._compute_since(Principal(principal.kind, principal.name), path, below)
        return time_ns

    def _compute_since(self, principal: Principal, path: Path, below: bool) -> int:
        with self._lock:
            if self._spans is None:
                self._spans = list(_iterate_spans(self._read_changes()))
            spans = self._spans
        for span in spans:
            rights = span.policy.rights(principal, path, span.at_ns)
            allowed = rights.below if below else rights.verbs
            # A directory that only leads to an allowed path shows nothing of its own.
            if allowed & _READABLE != _READABLE and (below or not rights.leads):
                return span.until_ns
        return 0

    def _read_changes(self) -> list[list[Any]]:
        """Return the recorded changes, oldest first."""
        try:
            lines = self._file.read_bytes().splitlines()[-_MAX_CHANGES:]
        except FileNotFoundError:
            return []
        out = []
        for line in lines:
            try:
                time_ns, rules, groups = json.loads(line)
                out.append([int(time_ns), rules, groups])
            except (ValueError, TypeError):
                log.warning("a line of '%s' cannot be read", self._file)  # truncated by a power cut
        return out


def _iterate_spans(lines: Sequence[Sequence[Any]]) -> Iterator[_Span]:
    """Yield the periods, newest first.

    The newest one has no end, and the oldest one extends to times before the first record.
    """
    end = 1 << 62
    for time_ns, wire, groups in reversed(lines):
        rules = [rule_from_wire(rule) for rule in wire]
        members = {name: frozenset(names) for name, names in groups.items()}
        expiries = sorted({rule.expires_ns for rule in rules if time_ns < rule.expires_ns < end}, reverse=True)
        for start in (*expiries, time_ns):
            yield _Span(end, start, Policy(rules, members))  # one policy answers for times that go forward
            end = start
