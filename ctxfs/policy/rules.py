"""Access rules: the parser of rules in TOML, and the default rules. Pure.

A rule names a principal (`agent:alice`, `agent:*`, `human:*`, `group:writers`, `*`), a path pattern, permissions and an
effect, and may expire. In a pattern `*` and `?` stand for characters of one name, `**` for any number of names,
`{name}` for the principal's own name. An allowing pattern applies to the paths that it matches; a denying one also to
everything below them.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntFlag
from typing import Any, Literal

from ctxfs.model.errors import CommandError

Effect = Literal["allow", "deny"]


class Verb(IntFlag):
    """A permission at a path, or a set of permissions."""

    LIST = 1
    READ = 2
    WRITE = 4
    CREATE = 8
    DELETE = 16
    EXEC = 32
    META = 64
    ADMIN = 128


NOTHING = Verb(0)
EVERYTHING = Verb(255)
_LETTERS = {
    "l": Verb.LIST,
    "r": Verb.LIST | Verb.READ,
    "w": Verb.WRITE | Verb.CREATE | Verb.DELETE | Verb.META,
    "x": Verb.LIST | Verb.EXEC,
    "a": Verb.ADMIN,
}
_NAMES = {verb.name.lower(): verb for verb in Verb if verb.name}
_PRINCIPAL = re.compile(r"\*|(?:human|agent):(?:\*|[a-z0-9][a-z0-9._-]{0,62})|group:[a-z0-9][a-z0-9._-]{0,62}")
_GROUP_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MEMBER = re.compile(r"(?:human|agent):[a-z0-9][a-z0-9._-]{0,62}")
_RULE_KEYS = frozenset(("principal", "path", "verbs", "effect", "expires", "branch"))
_MAX_PATTERN_CHARS = 1024
_MAX_RULES = 10_000


@dataclass(frozen=True, slots=True)
class Rule:
    """An access rule.

    `where` is its position in a file; `expires_ns` is in nanoseconds since the epoch, 0 for no expiry. With `own_branch`
    the agents that it names work in branches of their own.
    """

    principal: str
    pattern: tuple[str, ...]
    verbs: Verb
    effect: Effect
    where: str
    expires_ns: int = 0
    own_branch: bool = False

    @property
    def specificity(self) -> tuple[int, int, int]:
        """The sort key by precision: more literal names, fewer `**`, more literal characters."""
        plain = [part for part in self.pattern if part != "**" and not set("*?") & set(part)]
        deep = self.pattern.count("**")
        return len(plain), -deep, sum(len(part.replace("*", "").replace("?", "")) for part in self.pattern)

    @property
    def wire(self) -> list[Any]:
        """The rule as plain values."""
        wire = [self.principal, list(self.pattern), int(self.verbs), self.effect, self.where, self.expires_ns]
        return [*wire, True] if self.own_branch else wire

    def __str__(self) -> str:
        verbs = ",".join(name for name, verb in _NAMES.items() if verb & self.verbs)
        branch = ", in a branch of its own" if self.own_branch else ""
        return f"{self.effect} {self.principal} {verbs} /{'/'.join(self.pattern)}{branch} ({self.where})"


def rule_from_wire(value: list[Any]) -> Rule:
    """Return the rule from the value of `Rule.wire`."""
    principal, pattern, verbs, effect, where, expires_ns, *own_branch = value
    return Rule(principal, tuple(pattern), Verb(verbs), effect, where, expires_ns, bool(own_branch))


# Persons have every permission. An agent reads shared files, and writes its own memory, pads, queries and contexts.
DEFAULT = "default"  # `Rule.where` of such a rule
_DEFAULTS: tuple[tuple[str, str, str | list[str]], ...] = (
    ("human:*", "**", "lrwxa"),
    ("agent:*", "AGENTS.md", "r"),
    ("agent:*", "llms.txt", "r"),
    ("agent:*", ".ctxfs/whoami", "r"),
    ("agent:*", "knowledge/**", "r"),
    ("agent:*", "memory/shared/**", "r"),
    ("agent:*", "memory/{name}/**", "rw"),
    ("agent:*", "pad/**", "rw"),
    ("agent:*", "search/**", "rw"),
    ("agent:*", "context/**", "rw"),
    ("agent:*", "tools/**", "r"),
    ("agent:*", "history/????-??-??/{name}.jsonl", ["list", "read", "write", "create"]),  # its own records
    ("agent:*", "history/by-session/{name}/**", "r"),  # links to them, and their summary
)


def default_rules() -> tuple[Rule, ...]:
    """Return the built-in rules, which are in force in addition to those of files."""
    return tuple(
        Rule(principal, parse_pattern(path, DEFAULT), parse_verbs(verbs, DEFAULT), "allow", DEFAULT)
        for principal, path, verbs in _DEFAULTS
    )


def parse_policy(
    data: Mapping[str, Any], file: str, known_groups: Collection[str] = (), *, alone: bool = False
) -> tuple[tuple[Rule, ...], dict[str, frozenset[str]]]:
    """Return (rules, group → members) from the tables `rule` and `groups` of a TOML document.

    `known_groups` are groups that other documents define. With `alone`, the document may have no other tables. Raise
    `CommandError` with the position and the reason of the first error.
    """
    if alone and (unknown := set(data) - {"rule", "groups"}):
        raise CommandError(f"'{file}': there is no '{min(unknown)}' here", "known: [groups] and [[rule]]")
    groups = _parse_groups(data.get("groups", {}), file)
    if duplicates := set(groups) & set(known_groups):
        raise CommandError(f"'{file}': the group '{min(duplicates)}' is defined elsewhere too", "give it another name")
    entries = data.get("rule", [])
    if not isinstance(entries, list):
        raise CommandError(f"'{file}': write [[rule]] with two brackets", "")
    if len(entries) > _MAX_RULES:
        raise CommandError(f"'{file}' has {len(entries)} rules; {_MAX_RULES} at most", "")
    rules = tuple(_parse_rule(entry, f"{file}, rule {number}") for number, entry in enumerate(entries, 1))
    for rule in rules:
        group = rule.principal.removeprefix("group:")
        if rule.principal.startswith("group:") and group not in groups and group not in known_groups:
            raise CommandError(
                f"{rule.where}: there is no group '{group}'",
                f"known: {', '.join(sorted({*groups, *known_groups})) or 'none'}",
            )
    return rules, groups


def _parse_groups(data: object, file: str) -> dict[str, frozenset[str]]:
    if not isinstance(data, dict):
        raise CommandError(f"'{file}': [groups] is a table of lists", 'write: writers = ["agent:alice"]')
    for name, members in data.items():
        if not _GROUP_NAME.fullmatch(name) or not isinstance(members, list):
            raise CommandError(
                f"'{file}': group '{name}' is not a list of principals", 'write: writers = ["agent:alice"]'
            )
        for member in members:
            if not isinstance(member, str) or not _MEMBER.fullmatch(member):
                raise CommandError(
                    f"'{file}': '{member}' in group '{name}' is not a principal", "write human:NAME or agent:NAME"
                )
    return {name: frozenset(members) for name, members in data.items()}


def _parse_rule(entry: object, where: str) -> Rule:
    if not isinstance(entry, dict):
        raise CommandError(f"{where} is not a table", "")
    if unknown := set(entry) - _RULE_KEYS:
        raise CommandError(f"{where}: there is no key '{min(unknown)}'", f"known: {', '.join(sorted(_RULE_KEYS))}")
    if missing := {"principal", "path", "verbs"} - set(entry):
        raise CommandError(f"{where}: '{min(missing)}' is missing", "")
    principal, effect = entry["principal"], entry.get("effect", "allow")
    if not isinstance(principal, str) or not _PRINCIPAL.fullmatch(principal):
        raise CommandError(
            f"{where}: '{principal}' is not a principal", "write agent:NAME, human:NAME, group:NAME, agent:* or *"
        )
    if effect not in ("allow", "deny"):
        raise CommandError(f"{where}: effect is 'allow' or 'deny', not {effect!r}", "")
    pattern = parse_pattern(entry["path"], where)
    return Rule(
        principal,
        pattern,
        parse_verbs(entry["verbs"], where),
        effect,
        where,
        _parse_expiry(entry.get("expires"), where),
        _parse_branch(entry, where),
    )


def _parse_branch(entry: Mapping[str, Any], where: str) -> bool:
    """Return True for `branch = "auto"`. Raise `CommandError` for other values, and in rules of people or denials."""
    if "branch" not in entry:
        return False
    if entry["branch"] != "auto":
        raise CommandError(f"{where}: branch is 'auto', not {entry['branch']!r}", "leave it out for no branch")
    if entry["principal"].startswith("human:") or entry.get("effect", "allow") != "allow":
        raise CommandError(f"{where}: branch = 'auto' is for agents, in a rule that allows", "leave it out")
    return True


def parse_verbs(value: object, where: str) -> Verb:
    """Return permissions from a list of names, or from letters.

    `r` lists and reads, `w` writes, creates, deletes and sets metadata, `x` lists and executes, `a` administers, `l`
    lists. Raise `CommandError` for other values.
    """
    names = list(value) if isinstance(value, str | list) else []
    table: Mapping[str, Verb] = _LETTERS if isinstance(value, str) else _NAMES
    if not names or not all(isinstance(name, str) and name in table for name in names):
        raise CommandError(f"{where}: {value!r} are not verbs", f"known: {', '.join(_NAMES)}; or letters of 'lrwxa'")
    verbs = NOTHING
    for name in names:
        verbs |= table[name]
    return verbs


def parse_pattern(value: object, where: str) -> tuple[str, ...]:
    """Return the parts of a path pattern.

    Raise `CommandError` for `..`, for `**` inside a name, for text that is not NFKC, and for letters of mixed scripts
    in one name.
    """
    if not isinstance(value, str) or not value.strip("/") or len(value) > _MAX_PATTERN_CHARS:
        raise CommandError(f"{where}: {value!r} is not a path pattern", "such as memory/alice/**")
    parts = tuple(part for part in value.split("/") if part)
    for part in parts:
        if part in (".", "..") or ("**" in part and part != "**") or any(ord(character) < 32 for character in part):
            raise CommandError(f"{where}: '{part}' cannot be part of a path pattern", "such as memory/alice/**")
        if unicodedata.normalize("NFKC", part) != part:
            raise CommandError(
                f"{where}: '{part}' is not in normal form (NFKC)", f"write: {unicodedata.normalize('NFKC', part)}"
            )
        if len(scripts := _scripts_of(part)) > 1:
            raise CommandError(
                f"{where}: '{part}' mixes {' and '.join(sorted(scripts))} letters, which look alike",
                "write it in one script",
            )
    return parts


def _scripts_of(text: str) -> set[str]:
    """Return the scripts of a text whose letters look like those of another script."""
    names = {unicodedata.name(character, "").split(" ")[0] for character in text if character.isalpha()}
    return names & {"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"}


def _parse_expiry(value: object, where: str) -> int:
    if value is None:
        return 0
    when = value if isinstance(value, datetime) else None
    if isinstance(value, str):
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            when = None
    if when is None:
        raise CommandError(f"{where}: expires = {value!r} is not a time", "such as 2026-12-01T00:00:00Z")
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000


def parse_allowance(text: str) -> Rule:
    """Return the rule of an allowance such as `memory/alice/**:rw`, by which a credential is narrowed."""
    path, colon, verbs = text.rpartition(":")
    if not colon:
        raise CommandError(f"'{text}' is not PATTERN:VERBS", "such as 'memory/alice/**:rw'", 2)
    return Rule("*", parse_pattern(path, "--allow"), parse_verbs(verbs, "--allow"), "allow", "token")
