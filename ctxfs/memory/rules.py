"""Rules for the life of memories: the parser of `memory.toml`. Pure.

Each section has one parser in `_SECTIONS` and one field in `MemoryRules`. A document with an unknown section, an unknown
key or a malformed value is refused as a whole: the caller keeps the last good rules.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxfs.memory.kinds import BUILT_IN_KINDS, KindRules
from ctxfs.memory.states import BUILT_IN_TRANSITIONS, FROZEN, Transition, Who
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import STATES

MAX_KINDS = 100
MAX_FIELDS = 64
MAX_TRANSITIONS = 100
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_PERIOD = re.compile(r"(\d{1,5}) ?([mhdw])")
_UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ANY = "*"


@dataclass(frozen=True, slots=True)
class PadRules:
    """The rules of pads: `expire_seconds` without a change archive a pad; 0 for never."""

    expire_seconds: int = 0


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """The rules in force: kinds by name, transitions of states in the order of their precedence, pads."""

    kinds: Mapping[str, KindRules] = field(default_factory=lambda: BUILT_IN_KINDS)
    transitions: tuple[Transition, ...] = BUILT_IN_TRANSITIONS
    pad: PadRules = PadRules()


def parse_memory_rules(data: Mapping[str, Any], file: str = "memory.toml") -> MemoryRules:
    """Return the rules of a document, and the built-in ones that it does not replace.

    Raise `CommandError` with the section, the cause and the accepted values of the first error.
    """
    if unknown := set(data) - set(_SECTIONS):
        raise CommandError(
            f"'{file}': there is no section [{min(unknown)}]", f"known: {', '.join(f'[{name}]' for name in _SECTIONS)}"
        )
    values: dict[str, Any] = {}
    for name, (target, parse) in _SECTIONS.items():
        if name in data:
            values[target] = parse(data[name], file)
    return MemoryRules(**values)


def parse_table(value: object, where: str, known: frozenset[str]) -> Mapping[str, Any]:
    """Return a table whose keys are all among `known`; raise `CommandError` otherwise."""
    if not isinstance(value, dict):
        raise CommandError(f"{where} is not a table", f"keys: {', '.join(sorted(known))}")
    if unknown := set(value) - known:
        raise CommandError(f"{where}: there is no key '{min(unknown)}'", f"known: {', '.join(sorted(known))}")
    return value


def parse_period(value: object, where: str) -> int:
    """Return the seconds of a period such as `30d`, `12h`, `2w`; 0 for `never`. Raise `CommandError` otherwise."""
    if value == "never":
        return 0
    match = _PERIOD.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise CommandError(f"{where} = {value!r} is not a period", 'such as "30d", "12h", "2w", or "never"')
    return int(match[1]) * _UNIT_SECONDS[match[2]]


def parse_names(value: object, where: str, *, accepts_any: bool = False) -> tuple[str, ...]:
    """Return a list of names in lower case; with `accepts_any` also `["*"]`. Raise `CommandError` otherwise."""
    names = value if isinstance(value, list) else None
    if names is None or len(names) > MAX_FIELDS:
        raise CommandError(f"{where} is not a list of at most {MAX_FIELDS} names", 'such as ["source", "confidence"]')
    for name in names:
        if not isinstance(name, str) or not (_NAME.fullmatch(name) or (accepts_any and name == _ANY)):
            raise CommandError(f"{where}: {name!r} is not a name", "letters in lower case, digits, '_', '-' and '.'")
    return tuple(dict.fromkeys(names))


def _parse_kinds(value: object, file: str) -> Mapping[str, KindRules]:
    if not isinstance(value, dict):
        raise CommandError(f"'{file}': [kind] is not a table", "write [kind.NAME]")
    if len(value) > MAX_KINDS:
        raise CommandError(f"'{file}' has {len(value)} kinds; {MAX_KINDS} at most", "")
    kinds = dict(BUILT_IN_KINDS)
    for name, entry in value.items():
        where = f"'{file}': [kind.{name}]"
        if not _NAME.fullmatch(name):
            raise CommandError(f"{where}: {name!r} is not the name of a kind", "a word in lower case, such as fact")
        table = parse_table(entry, where, frozenset(("must", "may", "description")))
        old = BUILT_IN_KINDS.get(name)
        description = table.get("description", old.description if old else "")
        if not isinstance(description, str):
            raise CommandError(f"{where}: description is not a text", "")
        must = parse_names(table["must"], f"{where}: must") if "must" in table else (old.must if old else ())
        default_may = old.may if old else (_ANY,)
        may = parse_names(table["may"], f"{where}: may", accepts_any=True) if "may" in table else default_may
        kinds[name] = KindRules(name, must, may, description)
    return kinds


def _parse_states(value: object, file: str) -> tuple[Transition, ...]:
    table = parse_table(value, f"'{file}': [state]", frozenset(("transition",)))
    entries = table.get("transition", [])
    if not isinstance(entries, list):
        raise CommandError(f"'{file}': write [[state.transition]] with two brackets", "")
    if len(entries) > MAX_TRANSITIONS:
        raise CommandError(f"'{file}' has {len(entries)} transitions; {MAX_TRANSITIONS} at most", "")
    own = (_parse_transition(entry, f"'{file}', transition {number}") for number, entry in enumerate(entries, 1))
    return (*own, *BUILT_IN_TRANSITIONS)


def _parse_transition(entry: object, where: str) -> Transition:
    table = parse_table(entry, where, frozenset(("from", "to", "who")))
    if missing := {"from", "to", "who"} - set(table):
        raise CommandError(f"{where}: '{min(missing)}' is missing", "each has from, to and who")
    sources, targets = (_parse_states_of(table[key], f"{where}: {key}") for key in ("from", "to"))
    try:
        who = Who(table["who"])
    except ValueError as error:
        raise CommandError(
            f"{where}: who = {table['who']!r}", f"one of: {', '.join(member.value for member in Who)}"
        ) from error
    if who is Who.WRITERS and FROZEN in (*sources, *targets):
        raise CommandError(f"{where}: only people freeze a memory and lift that", 'who = "people" or "nobody"')
    return Transition(sources, targets, who)


def _parse_states_of(value: object, where: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or any(name not in (*STATES, _ANY) for name in names):
        raise CommandError(f"{where} = {value!r} is not a state", f'one of: {", ".join(STATES)}, or "*"')
    # Frozen is named by itself only: a rule about all states loosens nothing there.
    return tuple(state for state in STATES if state in names or (_ANY in names and state != FROZEN))


def _parse_pad(value: object, file: str) -> PadRules:
    where = f"'{file}': [pad]"
    table = parse_table(value, where, frozenset(("expire",)))
    return PadRules(parse_period(table["expire"], f"{where}: expire") if "expire" in table else 0)


# section → (field of MemoryRules, parser)
_SECTIONS: Mapping[str, tuple[str, Callable[[object, str], Any]]] = {
    "kind": ("kinds", _parse_kinds),
    "state": ("transitions", _parse_states),
    "pad": ("pad", _parse_pad),
}
