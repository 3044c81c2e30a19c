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

_MAX_CACHED_RIGHTS = 100_000
_LIST = Verb.LIST
# The intersection of flags as an int. It takes a tenth of the time of `&`, which creates a flag.
_intersect = int.__and__
_DEEP = "**"
_SOURCE_AREA = "knowledge"
_REPOSITORY_NAMES = (".git", ".hg", ".svn", ".jj", ".bzr", "_darcs", ".pijul", "CVS")
_BARE_SUFFIXES = (".git", b".git")
_REPOSITORIES: frozenset[str | bytes] = frozenset((*_REPOSITORY_NAMES, *map(str.encode, _REPOSITORY_NAMES)))
_GRANT_KIND = "grant"


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
        return _intersect(self.verbs, verb) == verb

    def allows_some(self, verbs: Verb) -> bool:
        """Return True if at least one of `verbs` is allowed."""
        return _intersect(self.verbs, verbs) != 0

    @property
    def exists(self) -> bool:
        """True if the path exists for this principal."""
        return self.leads or _intersect(self.verbs, _LIST) != 0

    @property
    def lists_below(self) -> bool:
        """True if everything below may be listed, including files that are created later."""
        return _intersect(self.below, _LIST) != 0

    def within(self, other: Rights) -> Rights:
        """Return the rights that both allow."""
        verbs = self.verbs & other.verbs
        if not verbs & Verb.LIST:
            verbs = NOTHING
        leads = self.exists and other.exists and not verbs
        return Rights(verbs, leads, self.below & other.below & verbs)


_NO_RIGHTS = Rights(NOTHING)
_READ_WHOLE = Verb.LIST | Verb.READ


def is_repository(name: str | bytes) -> bool:
    """Return True for the name of a version control folder or a bare repository, or of the file that points to one."""
    return name in _REPOSITORIES or name[-4:] in _BARE_SUFFIXES


def repository_depth(parts: Sequence[str]) -> int:
    """Return the number of names above the repository that the path lies in; 0 for a path outside of repositories.

    The objects of a repository are the content of every file of its folder. Its configuration may hold credentials, and
    its hooks run with the rights of its user. Below a source, a repository exists only for unrestricted principals;
    elsewhere, for principals that may read its whole folder. A source that is a repository itself is exempt, because a
    person named it.
    """
    for depth in range(1, len(parts)):
        name = parts[depth]
        if (name[-4:] == ".git" or name in _REPOSITORIES) and (depth > 1 or parts[0] != _SOURCE_AREA):
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
class _State:
    """A state of the pattern automaton: the rules that end here, and the transitions by name."""

    names: dict[str, _State] = field(default_factory=dict)
    globs: list[tuple[re.Pattern[str], _State]] = field(default_factory=list)
    deep: _State | None = None
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
        self._start_states: dict[Principal, _State] = {}
        self._cached_rights: dict[tuple[Principal, tuple[str, ...]], Rights] = {}
        self._now_ns = self._valid_until_ns = 0

    def is_unrestricted(self, principal: Principal) -> bool:
        """Return True for a principal with every permission everywhere, for as long as these rules are in force."""
        if principal.grant:
            return False
        rules = [rule for rule in self._rules if self._names_principal(rule.principal, principal)]
        has_all = any(rule.pattern == (_DEEP,) and rule.verbs == EVERYTHING and not rule.expires_ns for rule in rules)
        return has_all and all(rule.effect == "allow" for rule in rules)

    def has_own_branch(self, principal: Principal, now_ns: int) -> bool:
        """Return True for an agent that a rule with `branch = "auto"` names."""
        subject = Principal(principal.kind, principal.name)
        return not principal.is_person and any(
            rule.own_branch and not 0 < rule.expires_ns <= now_ns and self._names_principal(rule.principal, subject)
            for rule in self._rules
        )

    def rights(self, principal: Principal, path: Path, now_ns: int) -> Rights:
        """Return the current rights of the principal at a path of the tree (`tree_path_of` maps a view's path to one)."""
        self._expire(now_ns)
        key = (principal, path.parts)
        rights = self._cached_rights.get(key)
        if rights is None:
            if len(self._cached_rights) >= _MAX_CACHED_RIGHTS:
                self._cached_rights.clear()
            rights = self._cached_rights[key] = self._compute_rights(principal, path.parts)
        return rights

    def _compute_rights(self, principal: Principal, parts: tuple[str, ...]) -> Rights:
        """Return the rights by the rules, without those in repositories that would disclose other files."""
        depth = repository_depth(parts)
        if depth and not self.is_unrestricted(principal):
            reads_all = (
                _intersect(self._rights_with_credential(principal, parts[:depth]).below, _READ_WHOLE) == _READ_WHOLE
            )
            if parts[0] == _SOURCE_AREA or not reads_all:
                return _NO_RIGHTS
        return self._rights_with_credential(principal, parts)

    def _rights_with_credential(self, principal: Principal, parts: tuple[str, ...]) -> Rights:
        """Return the principal's own rights, narrowed by its credential if it has one."""
        if not principal.grant:
            return self._rights_by_rules(principal, parts)
        own = self._rights_by_rules(Principal(principal.kind, principal.name), parts)
        return own.within(self._rights_by_rules(Principal(_GRANT_KIND, principal.grant), parts))

    def decide(self, principal: Principal, verb: Verb, path: Path, now_ns: int) -> Decision:
        """Return the decision on one permission, with its reason. It agrees with `rights`."""
        self._expire(now_ns)
        matched = [rule for rule in self._matching_rules(principal, path.parts) if rule.verbs & verb]
        matched.sort(key=lambda rule: (rule.effect != "deny", *(-part for part in rule.specificity)))
        rights = self.rights(principal, path, now_ns)
        if repository_depth(path.parts) and not rights.exists:
            return Decision(False, None, tuple(matched))
        allowed = bool(rights.verbs & verb) or (verb is Verb.LIST and rights.leads)
        return Decision(allowed, matched[0] if matched else None, tuple(matched))

    def next_change(self, now_ns: int) -> int | None:
        """Return the time of the next expiry of a rule, in nanoseconds since the epoch; None if no rule expires."""
        rules = chain(self._rules, *self._grants.values())
        return min((rule.expires_ns for rule in rules if rule.expires_ns > now_ns), default=None)

    def _expire(self, now_ns: int) -> None:
        """Drop compiled rules and cached rights once a rule has expired.

        An expired rule has no effect, not even on `leads`.
        """
        if now_ns >= self._valid_until_ns:
            self._cached_rights.clear()
            self._start_states.clear()
            self._now_ns = now_ns
            self._valid_until_ns = self.next_change(now_ns) or 1 << 62

    def _rights_by_rules(self, principal: Principal, parts: tuple[str, ...]) -> Rights:
        allowed = denied = NOTHING
        active = self._walk(principal, parts)
        for state, is_passed in active:
            for rule in state.ends:
                if rule.effect == "deny":
                    denied |= rule.verbs
                elif not is_passed:
                    allowed |= rule.verbs
        verbs = allowed & ~denied & EVERYTHING
        if not verbs & Verb.LIST:
            verbs = NOTHING
        deep = refused = NOTHING
        for state, is_passed in active:
            if not is_passed:
                refused |= state.refused
                deep |= _allowed_by(state) if state.is_deep else NOTHING
        below = deep & ~denied & ~refused & verbs
        leads = (
            not verbs
            and not denied & Verb.LIST
            and any(state.below & Verb.LIST for state, is_passed in active if not is_passed)
        )
        return Rights(verbs, leads, below)

    def _matching_rules(self, principal: Principal, parts: tuple[str, ...]) -> list[Rule]:
        rules = [
            rule
            for state, is_passed in self._walk(principal, parts)
            for rule in state.ends
            if rule.effect == "deny" or not is_passed
        ]
        return list(dict.fromkeys(rules))

    def _walk(self, principal: Principal, parts: tuple[str, ...]) -> list[tuple[_State, bool]]:
        """Return (state, is passed) of the states in which the path ends, and of those that it has passed.

        Denials of a passed state apply to the path, because they reach everything below.
        """
        active = _with_deep_states([self._start_state(principal)])
        passed: list[tuple[_State, bool]] = []
        for part in parts:
            name = part if part.isascii() else unicodedata.normalize("NFC", part)
            passed += [(state, True) for state in active if state.ends and not state.is_deep]
            targets: list[_State] = []
            for state in active:
                if state.is_deep:
                    targets.append(state)
                if (target := state.names.get(name)) is not None:
                    targets.append(target)
                targets += [deeper for glob, deeper in state.globs if glob.match(name)]
            active = _with_deep_states(targets)
        return [*((state, False) for state in active), *passed]

    def _start_state(self, principal: Principal) -> _State:
        start = self._start_states.get(principal)
        if start is None:
            start = self._start_states[principal] = _State()
            if principal.kind == _GRANT_KIND:
                rules = list(self._grants.get(principal.name, ()))
            else:
                rules = [rule for rule in self._rules if self._names_principal(rule.principal, principal)]
            for rule in rules:
                if not rule.expires_ns or rule.expires_ns > self._now_ns:
                    _add_rule(start, rule, principal)
        return start

    def _names_principal(self, name: str, principal: Principal) -> bool:
        if name.startswith("group:"):
            return name == str(principal) or str(principal) in self._groups.get(name.removeprefix("group:"), ())
        return name in ("*", str(principal), f"{principal.kind}:*")


def _add_rule(start: _State, rule: Rule, principal: Principal) -> None:
    state, path = start, [start]
    for part in rule.pattern:
        part = unicodedata.normalize("NFC", part.replace("{name}", principal.name))
        if part == _DEEP:
            if state.is_deep:
                continue
            state.deep = state.deep or _State(is_deep=True)
            state = state.deep
        elif set("*?") & set(part):
            state = _glob_state(state, part)
        else:
            state = state.names.setdefault(part, _State())
        path.append(state)
    state.ends.append(rule)
    for entered in path:
        if rule.effect == "allow":
            entered.below |= rule.verbs
        else:
            entered.refused |= rule.verbs


def _allowed_by(state: _State) -> Verb:
    allowed = NOTHING
    for rule in state.ends:
        if rule.effect == "allow":
            allowed |= rule.verbs
    return allowed


def _glob_state(state: _State, part: str) -> _State:
    # Only `*` and `?` are special; `fnmatch` would treat brackets as a set of characters.
    glob = re.compile(fnmatch.translate(part.replace("[", "[[]")))
    for compiled, target in state.globs:
        if compiled.pattern == glob.pattern:
            return target
    target = _State()
    state.globs.append((glob, target))
    return target


def _with_deep_states(states: Iterable[_State]) -> list[_State]:
    """Return the states and the `**` states after them, since `**` also matches zero names."""
    out = list(states)
    out += [state.deep for state in out if state.deep is not None]
    return out


def tree_path_of(path: Path) -> Path:
    """Return the path of the tree whose rights apply to `path`: for a view's path, the path that it is a view of.

    `a/.versions/x/…` is judged as `a/x/…`, `a/.search/question/…` as `a`, `.snapshots/when/a/x` as `a/x`, and
    `.branches/name/a/.search/question/…` as `a`.
    """
    parts = path.parts
    if parts[:1] == (".branches",):
        parts = parts[2:]
        path = Path(parts)
    elif parts[:1] == (".snapshots",):
        return Path(parts[2:])
    for position, name in enumerate(parts):
        if name == ".search":
            return Path(parts[:position])
        if name == ".versions":
            return Path(parts[:position] + parts[position + 1 :])
    return path
