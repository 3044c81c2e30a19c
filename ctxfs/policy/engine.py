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

from ctxfs.model.errors import CommandError, path_error
from ctxfs.model.path import ROOT, Path
from ctxfs.model.principal import Principal
from ctxfs.model.toml import parse_toml
from ctxfs.policy.credentials import Credential, grants_by_id
from ctxfs.policy.evaluate import Decision, Policy, Rights, tree_path_of
from ctxfs.policy.owners import Owners
from ctxfs.policy.quarantine import NoMarks, QuarantineSource, quarantine_from_wire
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.policy.rules import DEFAULT, EVERYTHING, Rule, Verb, default_rules, parse_policy, rule_from_wire

log = logging.getLogger(__name__)

ALL = Rights(EVERYTHING, below=EVERYTHING)
_CONTEXT_AREA = "context"
_SETTLE_SECONDS = 0.5


class CredentialSource(Protocol):
    """The credentials of a store, as the policy engine loads them."""

    file: HostPath

    def load(self) -> list[Credential]:
        """Return all credentials that are not revoked. Raise `CommandError` if they cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class _LoadedFile:
    """The rules of one file, or its last good ones after a fault; `known_groups` are the groups of other files."""

    stamp: object
    known_groups: frozenset[str]
    rules: tuple[Rule, ...]
    groups: dict[str, frozenset[str]]
    fault: str = ""
    is_good: bool = True


class Reader:
    """A principal that may not read everything, as search filters for it. `key` changes when the answers may change."""

    def __init__(self, principal: Principal, engine: "PolicyEngine") -> None:
        self._principal = principal
        self._engine = engine
        self._withheld = frozenset() if principal.is_person else engine.quarantined_paths
        self.key: Hashable = (principal, engine.epoch, engine.policy.next_change(time.time_ns()), self._withheld)

    def may_read(self, path: str) -> bool:
        """Return True if the principal may read the file at `path`.

        Results of tool calls are for unrestricted readers only.
        """
        tree_path = Path(tuple(path.split("/")))
        return (
            path not in self._withheld
            and not is_call_record(tree_path)
            and self._engine.is_allowed(self._principal, Verb.READ, tree_path)
        )

    @property
    def sees_quarantined(self) -> bool:
        """True for persons: only they find quarantined files."""
        return self._principal.is_person


def is_call_record(path: Path) -> bool:
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
        marks: QuarantineSource | None = None,
        refuses_agents: Callable[[], str] = str,
        settle_seconds: float = _SETTLE_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load the policy from files.

        `files` begins with the settings, which hold rules in some of their tables. Files of rules alone follow, and may
        be missing. Without files, rules come from `put_in_force` only. `past` records every change of the rules. Without
        `owners`, tasks of contexts are not separated by owner. Mount processes receive the quarantine of `marks`
        together with the rules. `refuses_agents` returns the reason why people alone are served now; empty without one.
        """
        self._refuses_agents = refuses_agents
        self.refusal = ""  # of everything to principals that are not people
        self._marks = NoMarks() if marks is None else marks
        self.quarantine = self._marks.quarantine
        self._owners = owners
        self._files = tuple(files)
        self._rule_history = past
        self._tokens = tokens
        self._stamps: Mapping[HostPath | None, object] = {}
        self._loaded: dict[HostPath, _LoadedFile] = {}
        self._settle_seconds = settle_seconds
        self._now = now
        # The stamps of files that deny less than the rules in force, and the time of the first look at them.
        self._unstable: tuple[Mapping[HostPath | None, object], float] | None = None
        self._unrestricted: dict[Principal, bool] = {}
        self.rules: tuple[Rule, ...] = ()
        self.groups: dict[str, frozenset[str]] = {}
        self.grants: Mapping[str, tuple[Rule, ...]] = {}
        self.policy = self._foreign_policy = Policy(())
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
        quarantine, refusal = self._marks.quarantine, self._refuses_agents()
        if quarantine is not self.quarantine or refusal != self.refusal:
            self.quarantine, self.refusal = quarantine, refusal
            self._unrestricted.clear()
            self.epoch += 1
            self._load_changed()
            return True
        return self._load_changed()

    def _load_changed(self) -> bool:
        stamps = {file: _stamp_of(file) for file in (*self._files, *((self._tokens.file,) if self._tokens else ()))}
        if stamps == self._stamps:
            return False
        loaded = self._load_files(stamps)
        rules, groups, fault = self._merge_files(loaded)
        if (
            self.epoch
            and _denials_of(self.rules, self.groups) - _denials_of(rules, groups)
            and not self._are_stable(stamps)
        ):
            return False
        previous_stamps, self._stamps, self._unstable, self._loaded = self._stamps, stamps, None, loaded
        self._set_fault(fault)
        grants = self.grants
        if self._tokens is not None and stamps[self._tokens.file] != previous_stamps.get(self._tokens.file):
            grants = self._load_grants()
        if (rules, groups, grants) == (self.rules, self.groups, self.grants):
            return False
        self.put_in_force(rules, groups, grants)
        if self._rule_history is not None and not self.fault:
            self._rule_history.record(rules, groups)
        return True

    def _are_stable(self, stamps: Mapping[HostPath | None, object]) -> bool:
        """Return True from the second look at the same files on, once they have been stable for `settle_seconds`."""
        if self._unstable is None or self._unstable[0] != stamps:
            self._unstable = stamps, self._now()
            return False
        return self._now() - self._unstable[1] >= self._settle_seconds

    def _load_files(self, stamps: Mapping[HostPath | None, object]) -> dict[HostPath, _LoadedFile]:
        """Return the parsed content of each file; of a broken file the last good content, with the fault."""
        loaded: dict[HostPath, _LoadedFile] = {}
        known_groups: set[str] = set()
        for file in self._files:
            old = self._loaded.get(file)
            if old is not None and old.stamp == stamps[file] and old.known_groups == known_groups:
                loaded[file] = old
            else:
                loaded[file] = self._parse_file(file, stamps[file], frozenset(known_groups), old)
            known_groups |= loaded[file].groups.keys()
        return loaded

    def _parse_file(
        self, file: HostPath, stamp: object, known_groups: frozenset[str], old: _LoadedFile | None
    ) -> _LoadedFile:
        is_settings = file == self._files[0]
        try:
            data = {} if stamp == errno.ENOENT and not is_settings else parse_toml(file.read_text(encoding="utf-8"))
            return _LoadedFile(stamp, known_groups, *parse_policy(data, str(file), known_groups, alone=not is_settings))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, CommandError) as error:
            fault = error.message if isinstance(error, CommandError) else f"'{file}': {error}"
            last_good = old if old is not None and old.is_good else None
            return _LoadedFile(
                stamp,
                known_groups,
                last_good.rules if last_good else (),
                last_good.groups if last_good else {},
                fault,
                last_good is not None,
            )

    def fault_of(self, text: str) -> str:
        """Return the first mistake of a text that is to replace the last file of rules; empty without one."""
        file = self._files[-1]
        known_groups = {
            name for other in self._files[:-1] if other in self._loaded for name in self._loaded[other].groups
        }
        try:
            parse_policy(parse_toml(text), str(file), known_groups, alone=len(self._files) > 1)
        except (tomllib.TOMLDecodeError, CommandError) as error:
            return error.message if isinstance(error, CommandError) else f"'{file}': {error}"
        return ""

    def _merge_files(
        self, files: Mapping[HostPath, _LoadedFile]
    ) -> tuple[tuple[Rule, ...], dict[str, frozenset[str]], str]:
        """Return (rules, groups, fault) of all files.

        A file that was never good has unknown denials. Then the default rules of persons are the only rules.
        """
        fault = "; ".join(loaded.fault for loaded in files.values() if loaded.fault)
        if not all(loaded.is_good for loaded in files.values()):
            return tuple(rule for rule in default_rules() if rule.principal.startswith("human:")), {}, fault
        groups = {name: members for loaded in files.values() for name, members in loaded.groups.items()}
        return (*default_rules(), *(rule for loaded in files.values() for rule in loaded.rules)), groups, fault

    def _set_fault(self, fault: str) -> None:
        if fault and fault != self.fault:
            consequence = "the last good rules stay" if self.epoch else "only people may do anything"
            log.error("the policy cannot be read, %s: %s", consequence, fault)
        self.fault = fault

    def _load_grants(self) -> Mapping[str, tuple[Rule, ...]]:
        try:
            return grants_by_id(self._tokens.load()) if self._tokens is not None else {}
        except CommandError as error:
            log.error("%s", error.message)
            return {}

    def put_in_force(
        self,
        rules: tuple[Rule, ...],
        groups: dict[str, frozenset[str]],
        grants: Mapping[str, tuple[Rule, ...]] | None = None,
    ) -> None:
        """Put rules, groups and grants into force."""
        self.rules, self.groups, self.grants = rules, groups, dict(grants or {})
        self.policy = Policy(rules, groups, self.grants)
        # The defaults grant nothing in other principals' contexts; rules that persons write do.
        written_rules = [rule for rule in rules if rule.where != DEFAULT or rule.pattern[:1] != (_CONTEXT_AREA,)]
        self._foreign_policy = Policy(written_rules, groups, self.grants)
        self._unrestricted.clear()
        self.epoch += 1

    @property
    def quarantined_paths(self) -> frozenset[str]:
        """The paths that are quarantined at this moment."""
        return self._marks.quarantine.paths

    @property
    def wire(self) -> list[Any]:
        """The rules, groups, grants and quarantine as plain values, for other processes; and the refusal, if any."""
        return [
            [rule.wire for rule in self.rules],
            {name: sorted(members) for name, members in self.groups.items()},
            {number: [rule.wire for rule in rules] for number, rules in self.grants.items()},
            self.quarantine.wire,
            *([self.refusal] if self.refusal else []),
        ]

    def use_wire(self, value: list[Any]) -> None:
        """Put the rules of another process into force (`wire`)."""
        rules, groups, grants, quarantine, *refusal = value
        self.quarantine = quarantine_from_wire(quarantine)
        self.refusal = str(refusal[0]) if refusal else ""
        self.put_in_force(
            tuple(map(rule_from_wire, rules)),
            {name: frozenset(members) for name, members in groups.items()},
            {number: tuple(map(rule_from_wire, allowed)) for number, allowed in grants.items()},
        )

    def is_unrestricted(self, principal: Principal | None) -> bool:
        """Return True for ctxfs itself (None) and for a principal that has every permission everywhere."""
        if principal is None:
            return True
        is_unrestricted = self._unrestricted.get(principal)
        if is_unrestricted is None:
            is_unrestricted = not self.is_refused(principal) and self.policy.is_unrestricted(principal)
            self._unrestricted[principal] = is_unrestricted
        return is_unrestricted

    def is_refused(self, principal: Principal | None) -> bool:
        """Return True for a principal that is refused everything now, by any rule: only people are served."""
        return bool(self.refusal) and principal is not None and not principal.is_person

    def check_served(self, principal: Principal | None, path: Path = ROOT) -> None:
        """Raise OSError EHOSTUNREACH, with reason and remedy, for a principal that is refused everything now."""
        if self.is_refused(principal):
            raise path_error(errno.EHOSTUNREACH, path, self.refusal)

    def has_own_branch(self, principal: Principal) -> bool:
        """Return True for an agent whose writes go to a branch of its own."""
        return self.policy.has_own_branch(principal, time.time_ns())

    def rights(self, principal: Principal | None, path: Path) -> Rights:
        """Return the rights of a principal at a path of the tree, which may be a view's path.

        Raise the error of `check_served`.
        """
        if principal is None or self.is_unrestricted(principal):
            return ALL
        if self.refusal:
            self.check_served(principal, path)
        return self._restricted_rights(principal, path)

    def rights_by_rules(self, principal: Principal, path: Path) -> Rights:
        """Return the rights that the rules give to a principal, also while it is not served."""
        return ALL if self.policy.is_unrestricted(principal) else self._restricted_rights(principal, path)

    def _restricted_rights(self, principal: Principal, path: Path) -> Rights:
        tree_path = tree_path_of(path)
        if self._owners is None or principal.is_person or (tree_path.parts and tree_path.parts[0] != _CONTEXT_AREA):
            return self.policy.rights(principal, tree_path, time.time_ns())
        now = time.time_ns()
        if len(tree_path.parts) >= 2:
            return self._policy_at(principal, tree_path).rights(principal, tree_path, now)
        rights = self.policy.rights(principal, tree_path, now)
        return replace(rights, below=rights.below & self._foreign_policy.rights(principal, tree_path, now).below)

    def decide(self, principal: Principal, verb: Verb, path: Path) -> Decision:
        """Return the decision on one permission, with the rule that makes it."""
        tree_path = tree_path_of(path)
        return self._policy_at(principal, tree_path).decide(principal, verb, tree_path, time.time_ns())

    def _policy_at(self, principal: Principal, tree_path: Path) -> Policy:
        is_foreign = (
            self._owners is not None
            and tree_path.parts[:1] == (_CONTEXT_AREA,)
            and not self._owners.may_use(principal, tree_path)
        )
        return self._foreign_policy if is_foreign else self.policy

    def readable_since(self, principal: Principal, path: Path, *, below: bool = False) -> int:
        """Return the time in nanoseconds since which a principal may read the path's versions; 0 for always."""
        return (
            0
            if self._rule_history is None
            else self._rule_history.readable_since(principal, tree_path_of(path), below=below)
        )

    def reader(self, principal: Principal | None) -> Reader | None:
        """Return the search filter for a principal; None for an unrestricted one."""
        return None if principal is None or self.is_unrestricted(principal) else Reader(principal, self)

    def is_for_all_agents(self, path: Path) -> bool:
        """Return True if every agent may read the file: agents that rules name, and an agent that no rule names."""
        principals = {
            name for rule in self.rules for name in (rule.principal, *self.groups.get(rule.principal[6:], ()))
        }
        agents = {"", *(name[6:] for name in principals if name.startswith("agent:") and name != "agent:*")}
        return all(self.is_allowed(Principal("agent", name), Verb.READ, path) for name in agents)

    def is_allowed(self, principal: Principal | None, verb: Verb, path: Path) -> bool:
        """Return True if a principal has the permission `verb` at `path`."""
        return self.rights(principal, path).allows(verb)


def _denials_of(rules: Sequence[Rule], groups: Mapping[str, frozenset[str]]) -> set[tuple[object, ...]]:
    """Return the denials among rules, without their order or file, with groups expanded to members."""
    return {
        (principal, rule.pattern, rule.verbs, rule.expires_ns)
        for rule in rules
        if rule.effect == "deny"
        for principal in (rule.principal, *groups.get(rule.principal.removeprefix("group:"), ()))
    }


def _stamp_of(file: HostPath | None) -> object:
    """Return the identity of a file's content: its (mtime, inode, size), or the errno of a failed stat."""
    try:
        stat = os.stat(file) if file is not None else None
    except OSError as error:
        return error.errno
    return None if stat is None else (stat.st_mtime_ns, stat.st_ino, stat.st_size)
