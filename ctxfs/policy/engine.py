"""The policy in force: rules of ctxfs.toml and policy.toml, and tokens, read again when they change.

Of a broken file the last good rules stay.
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
    """The tokens of a store, as far as they are needed here."""

    file: HostPath

    def load(self) -> list[Credential]:
        """All that have not been revoked. CommandError."""
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file says, or said while it was good; `known` are the groups that it may name besides its own."""

    stamp: object
    known: frozenset[str]
    rules: tuple[Rule, ...]
    groups: dict[str, frozenset[str]]
    fault: str = ""
    is_good: bool = True


class Reader:
    """Somebody who may not see everything, as search asks about them. `key` changes when the answers may."""

    def __init__(self, principal: Principal, book: "PolicyEngine") -> None:
        self._principal = principal
        self._book = book
        self._withheld = frozenset() if principal.is_person else book.quarantined_paths
        self.key: Hashable = (principal, book.epoch, book.policy.next_change(time.time_ns()), self._withheld)

    def may_read(self, path: str) -> bool:
        """True for a file of the tree whose content this principal may see; what calls of tools have said is for who sees all."""
        at = Path(tuple(path.split("/")))
        return path not in self._withheld and not is_of_calls(at) and self._book.may(self._principal, Verb.READ, at)

    @property
    def sees_quarantined(self) -> bool:
        """Only people find what is in quarantine."""
        return self._principal.is_person


def is_of_calls(path: Path) -> bool:
    """True for what is kept of calls of tools: it belongs to who called, which no rule knows."""
    return path.parts[:1] == ("tools",) and "calls" in path.parts[2:]


class PolicyEngine:
    """Answers for whoever asks. `epoch` changes with the rules; `fault` says what is wrong with the file, if anything is."""

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
        """`files`: the settings, whose rules are some of their tables, then files of rules alone, which may be missing; of none:
        rules come by `use` alone. `past` is told of every change of the rules. `owners` None: tasks of contexts are not told apart.
        `quarantined` says what is in quarantine, which mount processes hear of with the rules.
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
        # What files that deny less were like when they were first seen so, and when that was.
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
        """Read the files again if they are others; True if the rules or tokens are others now.

        Rules that no longer deny something are taken up when the files have been the same for a moment: an editor may be in the
        middle of writing them, and half a file, or an empty one, denies less.
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
        """Return True from the second look at the same files on, once they have been so for `settle_seconds`."""
        if self._waits is None or self._waits[0] != seen:
            self._waits = seen, self._now()
            return False
        return self._now() - self._waits[1] >= self._settle_seconds

    def _read_files(self, seen: Mapping[HostPath | None, object]) -> dict[HostPath, _Read]:
        """What each file says; of a broken one what it said before, with its fault."""
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
        """(rules, groups, what is wrong). Where a file was never good, nobody knows what it denies: only people do anything."""
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
        """These rules are in force from now on."""
        self.rules, self.groups, self.grants = rules, groups, dict(grants or {})
        self.policy = Policy(rules, groups, self.grants)
        # To the contexts of others the defaults give nothing, rules that people write do.
        said = [rule for rule in rules if rule.where != DEFAULT or rule.pattern[:1] != (_CONTEXT,)]
        self._of_others = Policy(said, groups, self.grants)
        self._free.clear()
        self.epoch += 1

    @property
    def quarantined_paths(self) -> frozenset[str]:
        """Paths that agents do not read, as they are at this moment."""
        return self._quarantined().paths

    @property
    def wire(self) -> list[Any]:
        """The rules as plain values, for other processes."""
        return [
            [rule.wire for rule in self.rules],
            {name: sorted(members) for name, members in self.groups.items()},
            {number: [rule.wire for rule in rules] for number, rules in self.grants.items()},
            self.quarantine.wire,
        ]

    def use_wire(self, value: list[Any]) -> None:
        """Take over the rules of another process."""
        rules, groups, grants, quarantine = value
        self.quarantine = quarantine_from_wire(quarantine)
        self.use(
            tuple(map(rule_from_wire, rules)),
            {name: frozenset(members) for name, members in groups.items()},
            {number: tuple(map(rule_from_wire, allowed)) for number, allowed in grants.items()},
        )

    def is_free(self, principal: Principal | None) -> bool:
        """True for ctxfs itself (None) and for whoever may do everything."""
        if principal is None:
            return True
        free = self._free.get(principal)
        if free is None:
            free = self._free[principal] = self.policy.is_unrestricted(principal)
        return free

    def rights(self, principal: Principal | None, path: Path) -> Rights:
        """What somebody may do to a path of the tree, as views name it too."""
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
        """One verb, with the rule that decides."""
        place = judged(path)
        return self._policy_at(principal, place).decide(principal, verb, place, time.time_ns())

    def _policy_at(self, principal: Principal, place: Path) -> Policy:
        is_of_others = (
            self._owners is not None and place.parts[:1] == (_CONTEXT,) and not self._owners.may_use(principal, place)
        )
        return self._of_others if is_of_others else self.policy

    def readable_since(self, principal: Principal, path: Path, *, below: bool = False) -> int:
        """From when on the rules let somebody see the past of a path; 0: always."""
        return 0 if self._past is None else self._past.since(principal, judged(path), below=below)

    def reader(self, principal: Principal | None) -> Reader | None:
        """How search asks about somebody; None for whoever may see everything."""
        return None if principal is None or self.is_free(principal) else Reader(principal, self)

    def is_for_all_agents(self, path: Path) -> bool:
        """True for a file that every agent may read: one that no rule names, and those that rules name."""
        named = {name for rule in self.rules for name in (rule.principal, *self.groups.get(rule.principal[6:], ()))}
        names = {"", *(name[6:] for name in named if name.startswith("agent:") and name != "agent:*")}
        return all(self.may(Principal("agent", name), Verb.READ, path) for name in names)

    def may(self, principal: Principal | None, verb: Verb, path: Path) -> bool:
        """One question."""
        return self.rights(principal, path).allows(verb)


def _denied(rules: Sequence[Rule], groups: Mapping[str, frozenset[str]]) -> set[tuple[object, ...]]:
    """The denials among rules, wherever they stand, a member of a group at a time."""
    return {
        (who, rule.pattern, rule.verbs, rule.expires_ns)
        for rule in rules
        if rule.effect == "deny"
        for who in (rule.principal, *groups.get(rule.principal.removeprefix("group:"), ()))
    }


def _stamp(file: HostPath | None) -> object:
    """What tells a file from what it was."""
    try:
        found = os.stat(file) if file is not None else None
    except OSError as error:
        return error.errno
    return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)
