"""Which rules held when. The past is judged by the rules of now and of then, whichever allow less.

`<store>/policy.jsonl` has a line for each change of the rules: `[time_ns, rules, groups]`, as `Rule.wire` makes them. For somebody who
may not see everything the past of a path begins where it was last kept from them: what they may read now they may read since then.
"""

from __future__ import annotations

import json
import logging
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

_MOST = 2000  # changes that are looked at
_KEPT = 20_000
_WANTED = Verb.LIST | Verb.READ


@dataclass(frozen=True, slots=True)
class _Span:
    """Until when what a policy says at a moment was so; nothing in it expires in between."""

    until_ns: int
    at_ns: int
    policy: Policy


class RuleHistory:
    """Remembers rules. `note` and the questions are for one thread."""

    def __init__(self, file: HostPath) -> None:
        self._file = file
        self._last: list[Any] | None = None
        self._spans: list[_Span] | None = None
        self._known: dict[tuple[Principal, tuple[str, ...], bool], int] = {}

    def note(self, rules: Sequence[Rule], groups: Mapping[str, frozenset[str]]) -> None:
        """These rules are in force from now on. A line that cannot be written is logged: then the past is that of the rules before."""
        said = [[rule.wire for rule in rules], {name: sorted(members) for name, members in sorted(groups.items())}]
        if self._last is None:
            lines = self._lines()
            self._last = lines[-1][1:] if lines else []
        if said == self._last:
            return
        self._last = said
        self._spans = None
        self._known.clear()
        try:
            with open(self._file, "ab") as out:
                out.write(json.dumps([time.time_ns(), *said]).encode() + b"\n")
        except OSError as error:
            log.error("the rules of now cannot be remembered: %s", error)

    def since(self, principal: Principal, path: Path, *, below: bool = False) -> int:
        """From when on the path (`below`: everything below it) could be read without a break, in nanoseconds; 0: always."""
        key = (principal, path.parts, below)
        found = self._known.get(key)
        if found is None:
            if len(self._known) > _KEPT:
                self._known.clear()
            found = self._known[key] = self._since(Principal(principal.kind, principal.name), path, below)
        return found

    def _since(self, principal: Principal, path: Path, below: bool) -> int:
        if self._spans is None:
            self._spans = list(_spans(self._lines()))
        for span in self._spans:
            rights = span.policy.rights(principal, path, span.at_ns)
            allowed = rights.below if below else rights.verbs
            # What only leads to something shows nothing itself.
            if allowed & _WANTED != _WANTED and (below or not rights.leads):
                return span.until_ns
        return 0

    def _lines(self) -> list[list[Any]]:
        """What was noted, oldest first."""
        try:
            lines = self._file.read_bytes().splitlines()[-_MOST:]
        except FileNotFoundError:
            return []
        out = []
        for line in lines:
            try:
                when, rules, groups = json.loads(line)
                out.append([int(when), rules, groups])
            except (ValueError, TypeError):
                log.warning("a line of '%s' cannot be read", self._file)  # cut off by a power cut
        return out


def _spans(lines: Sequence[Sequence[Any]]) -> Iterator[_Span]:
    """Newest first; what came before the first line was like it. The newest reaches into the future."""
    end = 1 << 62
    for when, wire, groups in reversed(lines):
        rules = [rule_from_wire(rule) for rule in wire]
        members = {name: frozenset(each) for name, each in groups.items()}
        expiries = sorted({rule.expires_ns for rule in rules if when < rule.expires_ns < end}, reverse=True)
        for start in (*expiries, when):
            yield _Span(end, start, Policy(rules, members))  # one policy answers for times that go forward
            end = start
