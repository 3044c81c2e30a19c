"""States of a memory, and the transitions between them. Pure.

A file without the attribute `user.ctx.state` is active. `user.ctx.frozen = true` is an older spelling of the state
`frozen`, and means the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ctxfs.model.errors import not_permitted
from ctxfs.model.metadata import PREFIX, STATES
from ctxfs.model.principal import Principal

GENERATED, ACTIVE, MERGED, ARCHIVED, FROZEN = STATES
STATE_ATTRIBUTE, FROZEN_ATTRIBUTE = STATE_ATTRIBUTES = f"{PREFIX}state", f"{PREFIX}frozen"
IS_FROZEN = "it is frozen: a person lifts that first, with `ctxfs state PATH active`"
# Out of search and contexts, unless the request names the state.
RETIRED = (MERGED, ARCHIVED)


class Who(Enum):
    """The principals that may make a transition."""

    WRITERS = "writers"  # any principal that may write the file
    PEOPLE = "people"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Transition:
    """A rule on the changes from each of the states `sources` to each of `targets`."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    who: Who


# The first rule that names both states decides.
BUILT_IN_TRANSITIONS: tuple[Transition, ...] = (
    Transition(STATES, (FROZEN,), Who.PEOPLE),
    Transition((FROZEN,), STATES, Who.PEOPLE),
    Transition((GENERATED, MERGED, ARCHIVED), (ACTIVE,), Who.WRITERS),
    Transition((GENERATED, ACTIVE, MERGED, ARCHIVED), (MERGED, ARCHIVED), Who.WRITERS),
    Transition((ACTIVE,), (GENERATED,), Who.WRITERS),  # a new file is active until its writer sets a state
    Transition(STATES, STATES, Who.NOBODY),
)


def state_of(attributes: Mapping[str, bytes]) -> str:
    """Return the state of a file by its attributes; an unknown value counts as active."""
    if is_frozen(attributes):
        return FROZEN
    state = attributes.get(STATE_ATTRIBUTE, b"").decode("utf-8", "replace")
    return state if state in STATES else ACTIVE


def is_frozen(attributes: Mapping[str, bytes]) -> bool:
    """Return True for a file that only a person may change, after lifting its state."""
    return attributes.get(STATE_ATTRIBUTE) == b"frozen" or attributes.get(FROZEN_ATTRIBUTE) == b"true"


def without_frozen(attributes: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return the attributes without both spellings of `frozen`."""
    if not is_frozen(attributes):
        return attributes
    other = {name: value for name, value in attributes.items() if name != FROZEN_ATTRIBUTE}
    return {name: value for name, value in other.items() if (name, value) != (STATE_ATTRIBUTE, b"frozen")}


def who_may(transitions: Sequence[Transition], source: str, target: str) -> Who:
    """Return the principals that may change a file's state from `source` to `target`."""
    if source == target:
        return Who.PEOPLE if source == FROZEN else Who.WRITERS
    return next((rule.who for rule in transitions if source in rule.sources and target in rule.targets), Who.NOBODY)


def state_after(attributes: Mapping[str, bytes], name: str, value: bytes | None) -> str:
    """Return the state of a file with these attributes after one of them is set (None: removed)."""
    return state_of(attributes_after(attributes, name, value))


def attributes_after(attributes: Mapping[str, bytes], name: str, value: bytes | None) -> dict[str, bytes]:
    """Return the attributes of a file after one of them is set (None: removed).

    The two spellings of `frozen` are kept equal: a change that lifts one of them drops the other.
    """
    after = {key: old for key, old in attributes.items() if key != name}
    if value is not None:
        after[name] = value
    if name == STATE_ATTRIBUTE and value != FROZEN.encode():
        after.pop(FROZEN_ATTRIBUTE, None)
    elif name == FROZEN_ATTRIBUTE and value != b"true" and after.get(STATE_ATTRIBUTE) == FROZEN.encode():
        del after[STATE_ATTRIBUTE]
    return after


def check_transition(
    path: object,
    attributes: Mapping[str, bytes],
    changed: Mapping[str, bytes | None],
    transitions: Sequence[Transition],
    by: Principal | None,
) -> None:
    """Raise OSError EPERM if a principal may not change the state of a file as the changed attributes would.

    `attributes` are the present ones of the file. `by` None is ctxfs itself, which has the permissions of a writer.
    """
    after = dict(attributes)
    for name, value in changed.items():
        if name in STATE_ATTRIBUTES:
            after = attributes_after(after, name, value)
    if after != dict(attributes):
        is_person = by is not None and by.is_person
        check_states(path, state_of(attributes), state_of(after), transitions, is_person=is_person)


def check_states(path: object, source: str, target: str, transitions: Sequence[Transition], *, is_person: bool) -> None:
    """Raise OSError EPERM if a principal may not change the state of a file from `source` to `target`."""
    who = who_may(transitions, source, target)
    if who is Who.NOBODY or (who is Who.PEOPLE and not is_person):
        actors = "no principal changes" if who is Who.NOBODY else "only people change"
        raise not_permitted(path, f"{actors} a memory from {source} to {target} (memory.toml)")
