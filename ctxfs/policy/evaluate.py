"""The one function that says who may do what where. Pure: rules in, decisions out.

Of the rules that match, a denial wins; else the most specific that allows; else nothing is allowed. What may not be listed does
not exist, so every other verb needs `list` too. A directory through which something allowed is reached exists, and shows only that.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.rules import EVERYTHING, NOTHING, Rule, Verb

_KEPT = 100_000
_LIST = Verb.LIST
# What flags have in common, as a number: a tenth of the time that `&` of flags takes, which makes a flag.
_both = int.__and__
_DEEP = "**"
_SOURCES = "knowledge"
_NAMES = (".git", ".hg", ".svn", ".jj", ".bzr", "_darcs", ".pijul", "CVS")
_BARE = (".git", b".git")
_REPOSITORIES: frozenset[str | bytes] = frozenset((*_NAMES, *map(str.encode, _NAMES)))
_GRANT = "grant"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a principal may do to a path. `leads`: it may not be listed, but something below may. `below`: what it may do to
    everything below, whatever is or comes to be there.
    """

    verbs: Verb
    leads: bool = False
    below: Verb = NOTHING

    def allows(self, verb: Verb) -> bool:
        """True if all of `verb` is allowed."""
        return _both(self.verbs, verb) == verb

    def allows_some(self, verbs: Verb) -> bool:
        """True if one of `verbs` is allowed."""
        return _both(self.verbs, verbs) != 0

    @property
    def exists(self) -> bool:
        """False: for this principal there is nothing here."""
        return self.leads or _both(self.verbs, _LIST) != 0

    @property
    def lists_below(self) -> bool:
        """True if everything below may be listed, whatever comes to be there."""
        return _both(self.below, _LIST) != 0

    def within(self, other: Rights) -> Rights:
        """What both allow."""
        verbs = self.verbs & other.verbs
        if not verbs & Verb.LIST:
            verbs = NOTHING
        leads = self.exists and other.exists and not verbs
        return Rights(verbs, leads, self.below & other.below & verbs)


_NO_RIGHTS = Rights(NOTHING)
_WHOLE = Verb.LIST | Verb.READ


def is_repository(name: str | bytes) -> bool:
    """True for a name that version control gives its folder, or a bare repository; also for the file that leads to one."""
    return name in _REPOSITORIES or name[-4:] in _BARE


def repository_depth(parts: Sequence[str]) -> int:
    """How many names lead to the folder that holds a repository in which the path lies; 0 for a path in none.

    Objects of a repository are the content of every file of its folder, its configuration may hold credentials, and what is written
    there runs as whoever uses it: of sources it exists for nobody but those who may do everything, elsewhere for those who may read
    the folder whole. A source that is a repository itself was named by a person.
    """
    for depth in range(1, len(parts)):
        name = parts[depth]
        if (name[-4:] == ".git" or name in _REPOSITORIES) and (depth > 1 or parts[0] != _SOURCES):
            return depth
    return 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a verb is allowed, by which rule (None: no rule says anything), and every rule that matched, the first counts most."""

    allowed: bool
    rule: Rule | None
    matched: Sequence[Rule] = ()

    @property
    def why(self) -> str:
        """In words."""
        return str(self.rule) if self.rule else "no rule allows it"


@dataclass(slots=True)
class _Step:
    """Where a walk along a path stands: which rules end here, and what may come next."""

    names: dict[str, _Step] = field(default_factory=dict)
    globs: list[tuple[re.Pattern[str], _Step]] = field(default_factory=list)
    deep: _Step | None = None
    is_deep: bool = False
    ends: list[Rule] = field(default_factory=list)
    below: Verb = NOTHING  # what rules that end here or further on allow
    refused: Verb = NOTHING  # what they deny


class Policy:
    """Rules over groups, for times that go forward. Compiled a principal at a time; answers are remembered until something expires."""

    def __init__(
        self,
        rules: Sequence[Rule],
        groups: Mapping[str, frozenset[str]] | None = None,
        grants: Mapping[str, tuple[Rule, ...]] | None = None,
    ) -> None:
        """`grants`: number of a token → what it allows; a number that is not there allows nothing."""
        self._rules = tuple(rules)
        self._groups = dict(groups or {})
        self._grants = dict(grants or {})
        self._steps: dict[Principal, _Step] = {}
        self._known: dict[tuple[Principal, tuple[str, ...]], Rights] = {}
        self._now_ns = self._until = 0

    def is_unrestricted(self, principal: Principal) -> bool:
        """True for somebody who may do everything everywhere, for as long as these rules stand."""
        if principal.grant:
            return False
        mine = [rule for rule in self._rules if self._is_meant(rule.principal, principal)]
        whole = any(rule.pattern == (_DEEP,) and rule.verbs == EVERYTHING and not rule.expires_ns for rule in mine)
        return whole and all(rule.effect == "allow" for rule in mine)

    def rights(self, principal: Principal, path: Path, now_ns: int) -> Rights:
        """What the principal may do to a path of the tree, as it is now (`judged` says which path of it a view's path is)."""
        self._expire(now_ns)
        key = (principal, path.parts)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[key] = self._decided(principal, path.parts)
        return found

    def _decided(self, principal: Principal, parts: tuple[str, ...]) -> Rights:
        """What the rules give, less repositories that would show what they keep."""
        depth = repository_depth(parts)
        if depth and not self.is_unrestricted(principal):
            whole = _both(self._narrowed(principal, parts[:depth]).below, _WHOLE) == _WHOLE
            if parts[0] == _SOURCES or not whole:
                return _NO_RIGHTS
        return self._narrowed(principal, parts)

    def _narrowed(self, principal: Principal, parts: tuple[str, ...]) -> Rights:
        """A token narrows what its principal may do anyway."""
        if not principal.grant:
            return self._rights(principal, parts)
        own = self._rights(Principal(principal.kind, principal.name), parts)
        return own.within(self._rights(Principal(_GRANT, principal.grant), parts))

    def decide(self, principal: Principal, verb: Verb, path: Path, now_ns: int) -> Decision:
        """One verb, with the reason. The same answer as `rights`."""
        self._expire(now_ns)
        matched = [rule for rule in self._matched(principal, path.parts) if rule.verbs & verb]
        matched.sort(key=lambda rule: (rule.effect != "deny", *(-part for part in rule.specificity)))
        listed = self.rights(principal, path, now_ns)
        if repository_depth(path.parts) and not listed.exists:
            return Decision(False, None, tuple(matched))
        allowed = bool(listed.verbs & verb) or (verb is Verb.LIST and listed.leads)
        return Decision(allowed, matched[0] if matched else None, tuple(matched))

    def next_change(self, now_ns: int) -> int | None:
        """When a rule expires next, in nanoseconds since the epoch; None: never."""
        rules = chain(self._rules, *self._grants.values())
        return min((rule.expires_ns for rule in rules if rule.expires_ns > now_ns), default=None)

    def _expire(self, now_ns: int) -> None:
        """What has expired is as if it had never been a rule: nothing leads to what it allowed."""
        if now_ns >= self._until:
            self._known.clear()
            self._steps.clear()
            self._now_ns = now_ns
            self._until = self.next_change(now_ns) or 1 << 62

    def _rights(self, principal: Principal, parts: tuple[str, ...]) -> Rights:
        allowed = denied = NOTHING
        active = self._walk(principal, parts)
        for step, inside in active:
            for rule in step.ends:
                if rule.effect == "deny":
                    denied |= rule.verbs
                elif not inside:
                    allowed |= rule.verbs
        verbs = allowed & ~denied & EVERYTHING
        if not verbs & Verb.LIST:
            verbs = NOTHING
        deep = refused = NOTHING
        for step, inside in active:
            if not inside:
                refused |= step.refused
                deep |= _allowed_by(step) if step.is_deep else NOTHING
        below = deep & ~denied & ~refused & verbs
        leads = (
            not verbs
            and not denied & Verb.LIST
            and any(step.below & Verb.LIST for step, inside in active if not inside)
        )
        return Rights(verbs, leads, below)

    def _matched(self, principal: Principal, parts: tuple[str, ...]) -> list[Rule]:
        found = [
            rule
            for step, inside in self._walk(principal, parts)
            for rule in step.ends
            if rule.effect == "deny" or not inside
        ]
        return list(dict.fromkeys(found))

    def _walk(self, principal: Principal, parts: tuple[str, ...]) -> list[tuple[_Step, bool]]:
        """Every step that the path ends on, and, with True, those that it has passed: denials reach what is below."""
        active = _with_deep([self._first(principal)])
        passed: list[tuple[_Step, bool]] = []
        for part in parts:
            name = part if part.isascii() else unicodedata.normalize("NFC", part)
            passed += [(step, True) for step in active if step.ends and not step.is_deep]
            coming: list[_Step] = []
            for step in active:
                if step.is_deep:
                    coming.append(step)
                if (named := step.names.get(name)) is not None:
                    coming.append(named)
                coming += [further for glob, further in step.globs if glob.match(name)]
            active = _with_deep(coming)
        return [*((step, False) for step in active), *passed]

    def _first(self, principal: Principal) -> _Step:
        first = self._steps.get(principal)
        if first is None:
            first = self._steps[principal] = _Step()
            if principal.kind == _GRANT:
                meant = list(self._grants.get(principal.name, ()))
            else:
                meant = [rule for rule in self._rules if self._is_meant(rule.principal, principal)]
            for rule in meant:
                if not rule.expires_ns or rule.expires_ns > self._now_ns:
                    _add(first, rule, principal)
        return first

    def _is_meant(self, named: str, principal: Principal) -> bool:
        if named.startswith("group:"):
            return named == str(principal) or str(principal) in self._groups.get(named.removeprefix("group:"), ())
        return named in ("*", str(principal), f"{principal.kind}:*")


def _add(first: _Step, rule: Rule, principal: Principal) -> None:
    step, way = first, [first]
    for part in rule.pattern:
        part = unicodedata.normalize("NFC", part.replace("{name}", principal.name))
        if part == _DEEP:
            if step.is_deep:
                continue
            step.deep = step.deep or _Step(is_deep=True)
            step = step.deep
        elif set("*?") & set(part):
            step = _glob_step(step, part)
        else:
            step = step.names.setdefault(part, _Step())
        way.append(step)
    step.ends.append(rule)
    for each in way:
        if rule.effect == "allow":
            each.below |= rule.verbs
        else:
            each.refused |= rule.verbs


def _allowed_by(step: _Step) -> Verb:
    allowed = NOTHING
    for rule in step.ends:
        if rule.effect == "allow":
            allowed |= rule.verbs
    return allowed


def _glob_step(step: _Step, part: str) -> _Step:
    # Only `*` and `?` are special: brackets are letters like others.
    glob = re.compile(fnmatch.translate(part.replace("[", "[[]")))
    for known, further in step.globs:
        if known.pattern == glob.pattern:
            return further
    further = _Step()
    step.globs.append((glob, further))
    return further


def _with_deep(steps: Iterable[_Step]) -> list[_Step]:
    """`**` stands for no name too."""
    out = list(steps)
    out += [step.deep for step in out if step.deep is not None]
    return out


def judged(path: Path) -> Path:
    """Which path of the tree decides about a path: what a view shows is judged as what it is a view of.

    `a/.versions/x/…` is judged as `a/x/…`, `a/.search/question/…` as `a`, `.snapshots/when/a/x` as `a/x`.
    """
    parts = path.parts
    if parts[:1] == (".snapshots",):
        return Path(parts[2:])
    for position, name in enumerate(parts):
        if name == ".search":
            return Path(parts[:position])
        if name == ".versions":
            return Path(parts[:position] + parts[position + 1 :])
    return path
