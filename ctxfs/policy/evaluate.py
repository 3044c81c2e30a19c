"""Rule evaluation: decide the permissions of a principal at a path. Pure: rules in, decisions out.

Among the matching rules a denial wins, else the most specific allowing rule; without a match nothing is allowed. A path
that may not be listed does not exist, so every other permission requires `list` as well. A directory on the way to an
allowed path exists, and lists only that way.
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
# The intersection of flags as an int. It takes a tenth of the time of `&`, which creates a flag.
_both = int.__and__
_DEEP = "**"
_SOURCES = "knowledge"
_NAMES = (".git", ".hg", ".svn", ".jj", ".bzr", "_darcs", ".pijul", "CVS")
_BARE = (".git", b".git")
_REPOSITORIES: frozenset[str | bytes] = frozenset((*_NAMES, *map(str.encode, _NAMES)))
_GRANT = "grant"


@dataclass(frozen=True, slots=True)
class Rights:
    """The permissions of a principal at a path.

    `leads` means that the path itself may not be listed, but something below it may. `below` are the permissions at
    everything below the path, including files that are created later.
    """

    verbs: Verb
    leads: bool = False
    below: Verb = NOTHING

    def allows(self, verb: Verb) -> bool:
        """Return True if all of `verb` is allowed."""
        return _both(self.verbs, verb) == verb

    def allows_some(self, verbs: Verb) -> bool:
        """Return True if at least one of `verbs` is allowed."""
        return _both(self.verbs, verbs) != 0

    @property
    def exists(self) -> bool:
        """True if the path exists for this principal."""
        return self.leads or _both(self.verbs, _LIST) != 0

    @property
    def lists_below(self) -> bool:
        """True if everything below may be listed, including files that are created later."""
        return _both(self.below, _LIST) != 0

    def within(self, other: Rights) -> Rights:
        """Return the rights that both allow."""
        verbs = self.verbs & other.verbs
        if not verbs & Verb.LIST:
            verbs = NOTHING
        leads = self.exists and other.exists and not verbs
        return Rights(verbs, leads, self.below & other.below & verbs)


_NO_RIGHTS = Rights(NOTHING)
_WHOLE = Verb.LIST | Verb.READ


def is_repository(name: str | bytes) -> bool:
    """Return True for the name of a version control folder or a bare repository, or of the file that points to one."""
    return name in _REPOSITORIES or name[-4:] in _BARE


def repository_depth(parts: Sequence[str]) -> int:
    """Return the number of names above the repository that the path lies in; 0 for a path outside of repositories.

    The objects of a repository are the content of every file of its folder. Its configuration may hold credentials, and
    its hooks run with the rights of its user. Below a source, a repository exists only for unrestricted principals;
    elsewhere, for principals that may read its whole folder. A source that is a repository itself is exempt, because a
    person named it.
    """
    for depth in range(1, len(parts)):
        name = parts[depth]
        if (name[-4:] == ".git" or name in _REPOSITORIES) and (depth > 1 or parts[0] != _SOURCES):
            return depth
    return 0


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision on a permission.

    `rule` is the deciding rule, or None if no rule applies. `matched` are all matching rules, the decisive one first.
    """

    allowed: bool
    rule: Rule | None
    matched: Sequence[Rule] = ()

    @property
    def why(self) -> str:
        """The reason as text."""
        return str(self.rule) if self.rule else "no rule allows it"


@dataclass(slots=True)
class _Step:
    """A state of the pattern automaton: the rules that end here, and the transitions by name."""

    names: dict[str, _Step] = field(default_factory=dict)
    globs: list[tuple[re.Pattern[str], _Step]] = field(default_factory=list)
    deep: _Step | None = None
    is_deep: bool = False
    ends: list[Rule] = field(default_factory=list)
    below: Verb = NOTHING  # allowed by rules that end here or in later states
    refused: Verb = NOTHING  # denied by rules that end here or in later states


class Policy:
    """Rules over groups, compiled once for each principal.

    Results are cached until a rule expires. Times in calls must not go backwards.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        groups: Mapping[str, frozenset[str]] | None = None,
        grants: Mapping[str, tuple[Rule, ...]] | None = None,
    ) -> None:
        """Create the policy. `grants` maps a credential's id to its rules; an unknown id has no rights."""
        self._rules = tuple(rules)
        self._groups = dict(groups or {})
        self._grants = dict(grants or {})
        self._steps: dict[Principal, _Step] = {}
        self._known: dict[tuple[Principal, tuple[str, ...]], Rights] = {}
        self._now_ns = self._until = 0

    def is_unrestricted(self, principal: Principal) -> bool:
        """Return True for a principal with every permission everywhere, for as long as these rules are in force."""
        if principal.grant:
            return False
        mine = [rule for rule in self._rules if self._is_meant(rule.principal, principal)]
        whole = any(rule.pattern == (_DEEP,) and rule.verbs == EVERYTHING and not rule.expires_ns for rule in mine)
        return whole and all(rule.effect == "allow" for rule in mine)

    def rights(self, principal: Principal, path: Path, now_ns: int) -> Rights:
        """Return the current rights of the principal at a path of the tree (`judged` maps a view's path to one)."""
        self._expire(now_ns)
        key = (principal, path.parts)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[key] = self._decided(principal, path.parts)
        return found

    def _decided(self, principal: Principal, parts: tuple[str, ...]) -> Rights:
        """Return the rights by the rules, without those in repositories that would disclose other files."""
        depth = repository_depth(parts)
        if depth and not self.is_unrestricted(principal):
            whole = _both(self._narrowed(principal, parts[:depth]).below, _WHOLE) == _WHOLE
            if parts[0] == _SOURCES or not whole:
                return _NO_RIGHTS
        return self._narrowed(principal, parts)

    def _narrowed(self, principal: Principal, parts: tuple[str, ...]) -> Rights:
        """Return the principal's own rights, narrowed by its credential if it has one."""
        if not principal.grant:
            return self._rights(principal, parts)
        own = self._rights(Principal(principal.kind, principal.name), parts)
        return own.within(self._rights(Principal(_GRANT, principal.grant), parts))

    def decide(self, principal: Principal, verb: Verb, path: Path, now_ns: int) -> Decision:
        """Return the decision on one permission, with its reason. It agrees with `rights`."""
        self._expire(now_ns)
        matched = [rule for rule in self._matched(principal, path.parts) if rule.verbs & verb]
        matched.sort(key=lambda rule: (rule.effect != "deny", *(-part for part in rule.specificity)))
        listed = self.rights(principal, path, now_ns)
        if repository_depth(path.parts) and not listed.exists:
            return Decision(False, None, tuple(matched))
        allowed = bool(listed.verbs & verb) or (verb is Verb.LIST and listed.leads)
        return Decision(allowed, matched[0] if matched else None, tuple(matched))

    def next_change(self, now_ns: int) -> int | None:
        """Return the time of the next expiry of a rule, in nanoseconds since the epoch; None if no rule expires."""
        rules = chain(self._rules, *self._grants.values())
        return min((rule.expires_ns for rule in rules if rule.expires_ns > now_ns), default=None)

    def _expire(self, now_ns: int) -> None:
        """Drop compiled rules and cached rights once a rule has expired.

        An expired rule has no effect, not even on `leads`.
        """
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
        """Return (state, is passed) of the states in which the path ends, and of those that it has passed.

        Denials of a passed state apply to the path, because they reach everything below.
        """
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
    # Only `*` and `?` are special; `fnmatch` would treat brackets as a set of characters.
    glob = re.compile(fnmatch.translate(part.replace("[", "[[]")))
    for known, further in step.globs:
        if known.pattern == glob.pattern:
            return further
    further = _Step()
    step.globs.append((glob, further))
    return further


def _with_deep(steps: Iterable[_Step]) -> list[_Step]:
    """Return the states and the `**` states after them, since `**` also matches zero names."""
    out = list(steps)
    out += [step.deep for step in out if step.deep is not None]
    return out


def judged(path: Path) -> Path:
    """Return the path of the tree whose rights apply to `path`: for a view's path, the path that it is a view of.

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
