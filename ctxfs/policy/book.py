"""The policy in force: read from ctxfs.toml, read again when it changes; while it is broken the last good one stays."""

import logging
import os
import time
import tomllib
from collections.abc import Hashable
from pathlib import Path as HostPath
from typing import Any

from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.decide import Policy, Rights, judged
from ctxfs.policy.rules import EVERYTHING, Rule, Verb, default_rules, parse_policy, rule_from_wire

log = logging.getLogger(__name__)

ALL = Rights(EVERYTHING, below=EVERYTHING)


class Reader:
    """Somebody who may not see everything, as search asks about them. `key` changes when the answers may."""

    def __init__(self, principal: Principal, book: "PolicyBook") -> None:
        self._principal = principal
        self._book = book
        self.key: Hashable = (str(principal), book.epoch, book.policy.next_change(time.time_ns()))

    def may_read(self, path: str) -> bool:
        """True for a file of the tree whose content this principal may see."""
        return self._book.may(self._principal, Verb.READ, Path(tuple(path.split("/"))))

    @property
    def sees_quarantined(self) -> bool:
        """Only people find what is in quarantine."""
        return self._principal.kind == "human"


class PolicyBook:
    """Answers for whoever asks. `epoch` changes with the rules; `fault` says what is wrong with the file, if anything is."""

    def __init__(self, config: HostPath | None) -> None:
        """`config` None: rules come by `use` alone."""
        self._config = config
        self._seen: tuple[int, int] = (0, 0)
        self._free: dict[Principal, bool] = {}
        self.rules: tuple[Rule, ...] = ()
        self.groups: dict[str, frozenset[str]] = {}
        self.policy = Policy(())
        self.epoch = 0
        self.fault = ""
        self.reload()

    def reload(self) -> bool:
        """Read the file again if it is another one; True if the rules are others now."""
        if self._config is None:
            return False
        try:
            found = os.stat(self._config)
            if (found.st_mtime_ns, found.st_ino) == self._seen:
                return False
            self._seen = (found.st_mtime_ns, found.st_ino)
            data = tomllib.loads(self._config.read_text(encoding="utf-8"))
            rules, groups = parse_policy(data, str(self._config))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, CommandError) as error:
            self.fault = error.message if isinstance(error, CommandError) else f"'{self._config}': {error}"
            stays = "the last good one stays" if self.epoch else "only people may do anything"
            log.error("the policy cannot be read, %s: %s", stays, self.fault)
            if self.epoch:
                return False
            rules, groups = (), {}
            defaults = tuple(rule for rule in default_rules() if rule.principal.startswith("human:"))
        else:
            self.fault, defaults = "", default_rules()
        if ((*defaults, *rules), groups) == (self.rules, self.groups):
            return False
        self.use((*defaults, *rules), groups)
        return True

    def use(self, rules: tuple[Rule, ...], groups: dict[str, frozenset[str]]) -> None:
        """These rules are in force from now on."""
        self.rules, self.groups = rules, groups
        self.policy = Policy(rules, groups)
        self._free.clear()
        self.epoch += 1

    @property
    def wire(self) -> list[Any]:
        """The rules as plain values, for other processes."""
        return [[rule.wire for rule in self.rules], {name: sorted(members) for name, members in self.groups.items()}]

    def use_wire(self, value: list[Any]) -> None:
        """Take over the rules of another process."""
        rules, groups = value
        self.use(tuple(map(rule_from_wire, rules)), {name: frozenset(members) for name, members in groups.items()})

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

    def reader(self, principal: Principal | None) -> Reader | None:
        """How search asks about somebody; None for whoever may see everything."""
        return None if principal is None or self.is_free(principal) else Reader(principal, self)

    def may(self, principal: Principal | None, verb: Verb, path: Path) -> bool:
        """One question."""
        return self.rights(principal, path).allows(verb)
