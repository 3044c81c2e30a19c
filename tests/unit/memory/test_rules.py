"""memory.toml: strict, with errors that name the place, and never a looser rule on frozen memories."""

import tomllib

import pytest

from ctxfs.memory.rules import MemoryRules, parse_memory_rules
from ctxfs.memory.states import FROZEN, Who, who_may
from ctxfs.model.errors import CommandError
from ctxfs.model.metadata import STATES


def rules(text: str) -> MemoryRules:
    return parse_memory_rules(tomllib.loads(text))


def test_empty_document_has_the_built_in_rules() -> None:
    assert rules("") == MemoryRules()
    assert "fact" in rules("").kinds
    assert rules("").pad.expire_seconds == 0


def test_kind_of_ones_own_is_added_and_a_built_in_one_changed_in_part() -> None:
    own = rules('[kind.decision]\nmust = ["reason"]\n[kind.fact]\nmust = ["claim"]\n')
    assert own.kinds["decision"].must == ("reason",)
    assert own.kinds["fact"].must == ("claim",)
    assert own.kinds["fact"].description == MemoryRules().kinds["fact"].description
    assert "episodic" in own.kinds


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("12 h", 43_200), ("2w", 1_209_600), ("never", 0)])
def test_period_is_read(text: str, seconds: int) -> None:
    assert rules(f'[pad]\nexpire = "{text}"').pad.expire_seconds == seconds


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[kinds.fact]", "[kinds]"),
        ("kind = 1", "[kind]"),
        ('[kind."A b"]', "A b"),
        ("[kind.fact]\nmust = 'source'", "[kind.fact]: must"),
        ("[kind.fact]\nmust = ['So Urce']", "So Urce"),
        ("[kind.fact]\nshould = []", "should"),
        ("[kind.fact]\ndescription = 3", "description"),
        ("[state]\nrules = []", "rules"),
        ("[state]\ntransition = {}", "[[state.transition]]"),
        ("[[state.transition]]\nfrom = 'active'\nto = 'merged'", "'who'"),
        ("[[state.transition]]\nfrom = 'asleep'\nto = 'merged'\nwho = 'people'", "asleep"),
        ("[[state.transition]]\nfrom = 'active'\nto = []\nwho = 'people'", "to"),
        ("[[state.transition]]\nfrom = 'active'\nto = 'merged'\nwho = 'agents'", "agents"),
        ("[pad]\nexpire = 30", "expire"),
        ("[pad]\nexpire = '0d'", "expire"),
        ("[pad]\nexpires = '30d'", "expires"),
    ],
)
def test_mistake_is_named(text: str, named: str) -> None:
    with pytest.raises(CommandError) as error:
        rules(text)
    assert named in error.value.message
    assert "memory.toml" in error.value.message


def test_agents_never_get_the_right_to_freeze_or_to_lift_that() -> None:
    for source, target in ((FROZEN, "active"), ("active", FROZEN)):
        with pytest.raises(CommandError, match="only people"):
            rules(f"[[state.transition]]\nfrom = '{source}'\nto = '{target}'\nwho = 'writers'")
    loose = rules("[[state.transition]]\nfrom = '*'\nto = '*'\nwho = 'writers'").transitions
    for state in STATES:
        assert who_may(loose, state, FROZEN) is Who.PEOPLE
        assert who_may(loose, FROZEN, state) is Who.PEOPLE
    assert who_may(loose, "archived", "generated") is Who.WRITERS


def test_first_transition_that_names_both_states_decides() -> None:
    strict = rules("[[state.transition]]\nfrom = 'archived'\nto = ['active', 'merged']\nwho = 'nobody'").transitions
    assert who_may(strict, "archived", "active") is Who.NOBODY
    assert who_may(strict, "merged", "active") is Who.WRITERS
    assert who_may(MemoryRules().transitions, "archived", "generated") is Who.NOBODY
