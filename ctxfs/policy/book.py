"""The policy in force: rules of ctxfs.toml, and tokens, read again when they change; of broken rules the last good ones stay."""

import logging
import os
import time
import tomllib
from collections.abc import Hashable, Mapping
from pathlib import Path as HostPath
from typing import Any, Protocol

from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.decide import Policy, Rights, judged
from ctxfs.policy.past import PolicyPast
from ctxfs.policy.rules import EVERYTHING, Rule, Verb, default_rules, parse_policy, rule_from_wire
from ctxfs.policy.tokens import Token, grants_of

log = logging.getLogger(__name__)

ALL = Rights(EVERYTHING, below=EVERYTHING)


class KeepsTokens(Protocol):
    """The tokens of a store, as far as they are needed here."""

    file: HostPath

    def load(self) -> list[Token]:
        """All that have not been revoked. CommandError."""
        ...


class Reader:
    """Somebody who may not see everything, as search asks about them. `key` changes when the answers may."""

    def __init__(self, principal: Principal, book: "PolicyBook") -> None:
        self._principal = principal
        self._book = book
        self.key: Hashable = (principal, book.epoch, book.policy.next_change(time.time_ns()))

    def may_read(self, path: str) -> bool:
        """True for a file of the tree whose content this principal may see."""
        return self._book.may(self._principal, Verb.READ, Path(tuple(path.split("/"))))

    @property
    def sees_quarantined(self) -> bool:
        """Only people find what is in quarantine."""
        return self._principal.is_person


class PolicyBook:
    """Answers for whoever asks. `epoch` changes with the rules; `fault` says what is wrong with the file, if anything is."""

    def __init__(
        self, config: HostPath | None, tokens: KeepsTokens | None = None, past: PolicyPast | None = None
    ) -> None:
        """`config` None: rules come by `use` alone. `past` is told of every change of the rules."""
        self._config = config
        self._past = past
        self._tokens = tokens
        self._seen: tuple[object, object] = (None, None)
        self._free: dict[Principal, bool] = {}
        self.rules: tuple[Rule, ...] = ()
        self.groups: dict[str, frozenset[str]] = {}
        self.grants: Mapping[str, tuple[Rule, ...]] = {}
        self.policy = Policy(())
        self.epoch = 0
        self.fault = ""
        self.reload()

    def reload(self) -> bool:
        """Read the files again if they are others; True if the rules or tokens are others now."""
        if self._config is None:
            return False
        seen = (_stamp(self._config), _stamp(self._tokens.file if self._tokens else None))
        if seen == self._seen:
            return False
        before, self._seen = self._seen, seen
        rules, groups = self._read_rules() if seen[0] != before[0] else (self.rules, self.groups)
        grants = self._read_grants() if seen[1] != before[1] else self.grants
        if (rules, groups, grants) == (self.rules, self.groups, self.grants):
            return False
        self.use(rules, groups, grants)
        if self._past is not None and not self.fault:
            self._past.note(rules, groups)
        return True

    def _read_rules(self) -> tuple[tuple[Rule, ...], dict[str, frozenset[str]]]:
        """What is in force by the file; while it is broken, what was."""
        assert self._config is not None
        try:
            data = tomllib.loads(self._config.read_text(encoding="utf-8"))
            rules, groups = parse_policy(data, str(self._config))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, CommandError) as error:
            self.fault = error.message if isinstance(error, CommandError) else f"'{self._config}': {error}"
            stays = "the last good one stays" if self.epoch else "only people may do anything"
            log.error("the policy cannot be read, %s: %s", stays, self.fault)
            if self.epoch:
                return self.rules, self.groups
            return tuple(rule for rule in default_rules() if rule.principal.startswith("human:")), {}
        self.fault = ""
        return (*default_rules(), *rules), groups

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
        self._free.clear()
        self.epoch += 1

    @property
    def wire(self) -> list[Any]:
        """The rules as plain values, for other processes."""
        return [
            [rule.wire for rule in self.rules],
            {name: sorted(members) for name, members in self.groups.items()},
            {number: [rule.wire for rule in rules] for number, rules in self.grants.items()},
        ]

    def use_wire(self, value: list[Any]) -> None:
        """Take over the rules of another process."""
        rules, groups, grants = value
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
        return self.policy.rights(principal, judged(path), time.time_ns())

    def readable_since(self, principal: Principal, path: Path, *, below: bool = False) -> int:
        """From when on the rules let somebody see the past of a path; 0: always."""
        return 0 if self._past is None else self._past.since(principal, judged(path), below=below)

    def reader(self, principal: Principal | None) -> Reader | None:
        """How search asks about somebody; None for whoever may see everything."""
        return None if principal is None or self.is_free(principal) else Reader(principal, self)

    def may(self, principal: Principal | None, verb: Verb, path: Path) -> bool:
        """One question."""
        return self.rights(principal, path).allows(verb)


def _stamp(file: HostPath | None) -> object:
    """What tells a file from what it was."""
    try:
        found = os.stat(file) if file is not None else None
    except OSError as error:
        return error.errno
    return None if found is None else (found.st_mtime_ns, found.st_ino, found.st_size)
