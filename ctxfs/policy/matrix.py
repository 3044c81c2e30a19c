"""The principals and paths that the rules in force name, and the rights of the ones at the others. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from ctxfs.model.errors import CommandError
from ctxfs.model.principal import Principal, parse_principal
from ctxfs.policy.rules import Rule, Verb

_LETTERS = (
    ("r", Verb.READ),
    ("w", Verb.WRITE | Verb.CREATE | Verb.DELETE | Verb.META),
    ("x", Verb.EXEC),
    ("a", Verb.ADMIN),
)
_WILD = frozenset("*?{")


def named_principals(
    rules: Iterable[Rule], groups: Mapping[str, frozenset[str]], others: Iterable[str]
) -> Sequence[Principal]:
    """Return the principals of rules and groups, and others, sorted; texts that are no principal are left out."""
    texts = {rule.principal for rule in rules} | {f"group:{name}" for name in groups}
    texts |= {member for members in groups.values() for member in members} | set(others)
    principals = set[Principal]()
    for text in texts:
        with suppress(CommandError):  # `agent:*` and the like
            principals.add(parse_principal(text))
    return sorted(principals, key=lambda principal: principal.bound)


def named_paths(rules: Iterable[Rule], areas: Iterable[str]) -> Sequence[str]:
    """Return the areas, and the paths of rules up to their first wildcard, sorted."""
    paths = set(areas)
    for rule in rules:
        parts = list[str]()
        for part in rule.pattern:
            if _WILD & set(part):
                break
            parts.append(part)
        paths.add("/".join(parts))
    return sorted(paths - {""})


def letters_of(verbs: Verb) -> str:
    """Return permissions in the letters of rules; `l` for a path that may only be listed, `w-` for a part of `w`."""
    letters = "".join(letter if verbs & verb == verb else f"{letter}-" for letter, verb in _LETTERS if verbs & verb)
    return letters if verbs & Verb.READ or not verbs & Verb.LIST else f"l{letters}"
