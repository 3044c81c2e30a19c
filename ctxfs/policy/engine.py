"""The policy engine: rules of ctxfs.toml and policy.toml, and credentials, loaded again when the files change.

While a file does not parse, its last good rules stay in force.
"""

import errno
import logging
import os
import time
import tomllib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as HostPath
from typing import Any, Protocol

from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.model.toml import parse_toml
from ctxfs.policy.credentials import Credential, grants_of
from ctxfs.policy.evaluate import Decision, Policy, Rights, judged
from ctxfs.policy.owners import Owners
from ctxfs.policy.quarantine import NO_QUARANTINE, Quarantine, quarantine_from_wire
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.policy.rules import DEFAULT, EVERYTHING, Rule, Verb, default_rules, parse_policy, rule_from_wire

log = logging.getLogger(__name__)

ALL = Rights(EVERYTHING, below=EVERYTHING)
_CONTEXT = "context"
_SETTLE_SECONDS = 0.5


class CredentialSource(Protocol):
    """The credentials of a store, as the policy engine loads them."""

    file: HostPath

    def load(self) -> list[Credential]:
        """Return all credentials that are not revoked. Raise `CommandError` if they cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    """The rules of one file, or its last good ones after a fault; `known` are the groups of other files."""

    stamp: object
    known: frozenset[str]
    rules: tuple[Rule, ...]
    groups: dict[str, frozenset[str]]
    fault: str = ""
    is_good: bool = True


class Reader:
    """A principal that may not read everything, as search filters for it. `key` changes when the answers may change."""

    def __init__(self, principal: Principal, book: "PolicyEngine") -> None:
        self._principal = principal
        self._book = book
        self._withheld = frozenset() if principal.is_person else book.quarantined_paths
        self.key: Hashable = (principal, book.epoch, book.policy.next_change(time.time_ns()), self._withheld)

    def may_read(self, path: str) -> bool:
        """Return True if the principal may read the file at `path`.

        Results of tool calls are for unrestricted readers only.
        """
        at = Path(tuple(path.split("/")))
        return path not in self._withheld and not is_of_calls(at) and self._book.may(self._principal, Verb.READ, at)

    @property
    def sees_quarantined(self) -> bool:
        """True for persons: only they find quarantined files."""
        return self._principal.is_person


def is_of_calls(path: Path) -> bool:
    """Return True for a path of a tool call's record. It belongs to the caller, and rules cannot express that."""
    return path.parts[:1] == ("tools",) and "calls" in path.parts[2:]


class PolicyEngine:
    """The policy in force.

    `epoch` changes with the rules; `fault` describes errors of the files, and is empty without one.
    """

    def __init__(
        self,
        files: Sequence[HostPath] = (),
        tokens: CredentialSource | None = None,
        past: RuleHistory | None = None,
        owners: Owners | None = None,
        quarantined: Callable[[], Quarantine] = lambda: NO_QUARANTINE,
        settle_seconds: float = _SETTLE_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the policy from files.

        `files` begins with the settings, which hold rules in some of their tables. Files of rules alone follow, and may
        be missing. Without files, rules come from `use` only. `past` records every change of the rules. Without
        `owners`, tasks of contexts are not separated by owner. `quarantined` returns the current quarantine, which
        mount processes receive together with the rules.
        """
        self._quarantined = quarantined
        self.quarantine = quarantined()
        self._owners = owners
        self._files = tuple(files)
        self._past = past
        self._tokens = tokens
        self._seen: Mapping[HostPath | None, object] = {}
        self._read: dict[HostPath, _Read] = {}
        self._settle_seconds = settle_seconds
        self._now = now
        # The stamps of files that deny less than the rules in force, and the time of the first look at them.
        self._waits: tuple[Mapping[HostPath | None, object], float] | None = None
        self._free: dict[Principal, bool] = {}
        self.rules: tuple[Rule, ...] = ()
        self.groups: dict[str, frozenset[str]] = {}
        self.grants: Mapping[str, tuple[Rule, ...]] = {}
        self.policy = self._of_others = Policy(())
        self.epoch = 0
        self.fault = ""
        self.reload()

    def reload(self) -> bool:
        """Load changed files again; return True if the rules, the credentials or the quarantine changed.

        A change that removes a denial takes effect only after the files have been stable for `settle_seconds`. An
        editor may be writing them, and half a file, or an empty one, denies less.
        """
        if not self._files:
            return False
        quarantine = self._quarantined()
        if quarantine is not self.quarantine:
            self.quarantine = quarantine
            self.epoch += 1
            self._reload()
            return True
        return self._reload()

    def _reload(self) -> bool:
        seen = {file: _stamp(file) for file in (*self._files, *((self._tokens.file,) if self._tokens else ()))}
        if seen == self._seen:
            return False
        read = self._read_files(seen)
        rules, groups, fault = self._together(read)
        if self.epoch and _denied(self.rules, self.groups) - _denied(rules, groups) and not self._have_settled(seen):
            return False
        before, self._seen, self._waits, self._read = self._seen, seen, None, read
        self._say(fault)
        grants = self.grants
        if self._tokens is not None and seen[self._tokens.file] != before.get(self._tokens.file):
            grants = self._read_grants()
        if (rules, groups, grants) == (self.rules, self.groups, self.grants):
            return False
        self.use(rules, groups, grants)
        if self._past is not None and not self.fault:
            self._past.note(rules, groups)
        return True

    def _have_settled(self, seen: Mapping[HostPath | None, object]) -> bool:
        """Return True from the second look at the same files on, once they have been stable for `settle_seconds`."""
        if self._waits is None or self._waits[0] != seen:
            self._waits = seen, self._now()
            return False
        return self._now() - self._waits[1] >= self._settle_seconds

    def _read_files(self, seen: Mapping[HostPath | None, object]) -> dict[HostPath, _Read]:
        """Return the parsed content of each file; of a broken file the last good content, with the fault."""
        read: dict[HostPath, _Read] = {}
        known: set[str] = set()
        for file in self._files:
            old = self._read.get(file)
            if old is not None and old.stamp == seen[file] and old.known == known:
                read[file] = old
            else:
                read[file] = self._parsed(file, seen[file], frozenset(known), old)
            known |= read[file].groups.keys()
        return read

    def _parsed(self, file: HostPath, stamp: object, known: frozenset[str], old: _Read | None) -> _Read:
        is_settings = file == self._files[0]
        try:
            data = {} if stamp == errno.ENOENT and not is_settings else parse_toml(file.read_text(encoding="utf-8"))
            return _Read(stamp, known, *parse_policy(data, str(file), known, alone=not is_settings))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, CommandError) as error:
            fault = error.message if isinstance(error, CommandError) else f"'{file}': {error}"
            good = old if old is not None and old.is_good else None
            return _Read(stamp, known, good.rules if good else (), good.groups if good else {}, fault, good is not None)

    def _together(self, read: Mapping[HostPath, _Read]) -> tuple[tuple[Rule, ...], dict[str, frozenset[str]], str]:
        """Return (rules, groups, fault) of all files.

        A file that was never good has unknown denials. Then the default rules of persons are the only rules.
        """
        fault = "; ".join(each.fault for each in read.values() if each.fault)
        if not all(each.is_good for each in read.values()):
            return tuple(rule for rule in default_rules() if rule.principal.startswith("human:")), {}, fault
        groups = {name: members for each in read.values() for name, members in each.groups.items()}
        return (*default_rules(), *(rule for each in read.values() for rule in each.rules)), groups, fault

    def _say(self, fault: str) -> None:
        if fault and fault != self.fault:
            stays = "the last good rules stay" if self.epoch else "only people may do anything"
            log.error("the policy cannot be read, %s: %s", stays, fault)
        self.fault = fault

    def _read_grants(self) -> Mapping[str, tuple[Rule, ...]]:
        try:
            return grants_of(self._tokens.load()) if self._tokens is not None else {}
        except CommandError as error:
            log.error("%s", error.message)
            return {}

    def use(
        self,
        rules: tuple[Rule, ...],
        groups: dict[str, frozenset[str]],
        grants: Mapping[str, tuple[Rule, ...]] | None = None,
    ) -> None:
        """Put rules, groups and grants into force."""
        self.rules, self.groups, self.grants = rules, groups, dict(grants or {})
        self.policy = Policy(rules, groups, self.grants)
        # The defaults grant nothing in other principals' contexts; rules that persons write do.
        said = [rule for rule in rules if rule.where != DEFAULT or rule.pattern[:1] != (_CONTEXT,)]
        self._of_others = Policy(said, groups, self.grants)
        self._free.clear()
        self.epoch += 1

    @property
    def quarantined_paths(self) -> frozenset[str]:
        """The paths that are quarantined at this moment."""
        return self._quarantined().paths

    @property
    def wire(self) -> list[Any]:
        """The rules, groups, grants and quarantine as plain values, for other processes."""
        return [
            [rule.wire for rule in self.rules],
            {name: sorted(members) for name, members in self.groups.items()},
            {number: [rule.wire for rule in rules] for number, rules in self.grants.items()},
            self.quarantine.wire,
        ]

    def use_wire(self, value: list[Any]) -> None:
        """Put the rules of another process into force (`wire`)."""
        rules, groups, grants, quarantine = value
        self.quarantine = quarantine_from_wire(quarantine)
        self.use(
            tuple(map(rule_from_wire, rules)),
            {name: frozenset(members) for name, members in groups.items()},
            {number: tuple(map(rule_from_wire, allowed)) for number, allowed in grants.items()},
        )

    def is_free(self, principal: Principal | None) -> bool:
        """Return True for ctxfs itself (None) and for a principal that has every permission everywhere."""
        if principal is None:
            return True
        free = self._free.get(principal)
        if free is None:
            free = self._free[principal] = self.policy.is_unrestricted(principal)
        return free

    def rights(self, principal: Principal | None, path: Path) -> Rights:
        """Return the rights of a principal at a path of the tree, which may be a view's path."""
        if principal is None or self.is_free(principal):
            return ALL
        place = judged(path)
        if self._owners is None or principal.is_person or (place.parts and place.parts[0] != _CONTEXT):
            return self.policy.rights(principal, place, time.time_ns())
        now = time.time_ns()
        if len(place.parts) >= 2:
            return self._policy_at(principal, place).rights(principal, place, now)
        rights = self.policy.rights(principal, place, now)
        return replace(rights, below=rights.below & self._of_others.rights(principal, place, now).below)

    def decide(self, principal: Principal, verb: Verb, path: Path) -> Decision:
        """Return the decision on one permission, with the rule that makes it."""
        place = judged(path)
        return self._policy_at(principal, place).decide(principal, verb, place, time.time_ns())

    def _policy_at(self, principal: Principal, place: Path) -> Policy:
        is_of_others = (
            self._owners is not None and place.parts[:1] == (_CONTEXT,) and not self._owners.may_use(principal, place)
        )
        return self._of_others if is_of_others else self.policy

    def readable_since(self, principal: Principal, path: Path, *, below: bool = False) -> int:
        """Return the time in nanoseconds since which a principal may read the path's versions; 0 for always."""
        return 0 if self._past is None else self._past.since(principal, judged(path), below=below)

    def reader(self, principal: Principal | None) -> Reader | None:
        """Return the search filter for a principal; None for an unrestricted one."""
        return None if principal is None or self.is_free(principal) else Reader(principal, self)

    def is_for_all_agents(self, path: Path) -> bool:
        """Return True if every agent may read the file: agents that rules name, and an agent that no rule names."""
        named = {name for rule in self.rules for name in (rule.principal, *self.groups.get(rule.principal[6:], ()))}
        names = {"", *(name[6:] for name in named if name.startswith("agent:") and name != "agent:*")}
        return all(self.may(Principal("agent", name), Verb.READ, path) for name in names)

    def may(self, principal: Principal | None, verb: Verb, path: Path) -> bool:
        """Return True if a principal has the permission `verb` at `path`."""
        return self.rights(principal, path).allows(verb)


def _denied(rules: Sequence[Rule], groups: Mapping[str, frozenset[str]]) -> set[tuple[object, ...]]:
    """Return the denials among rules, without their order or file, with groups expanded to members."""
    return {
        (who, rule.pattern, rule.verbs, rule.expires_ns)
        for rule in rules
        if rule.effect == "deny"
        for who in (rule.principal, *groups.get(rule.principal.removeprefix("group:"), ()))
    }


def _stamp(file: HostPath | None) -> object:
    """Return the identity of a file's content: its (mtime, inode, size), or the errno of a failed stat."""
    try:
        found = os.stat(file) if file is not None else None
    except OSError as error:
        return error.errno
    return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)
