"""Test that rules are parsed strictly: an ambiguous rule is refused with its position and a correction."""

import tomllib

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.policy.rules import Verb, default_rules, parse_allowance, parse_policy


def parsed(text: str) -> tuple[object, ...]:
    return parse_policy(tomllib.loads(text), "ctxfs.toml")[0]


def test_rule_has_a_principal_path_permissions_and_expiry() -> None:
    (rule,) = parsed(
        '[[rule]]\nprincipal = "agent:alice"\npath = "/memory/bob/**"\nverbs = ["list", "read"]\n'
        'effect = "deny"\nexpires = 2026-12-01T00:00:00Z\n'
    )
    assert (rule.principal, rule.pattern, rule.verbs, rule.effect) == (
        "agent:alice", ("memory", "bob", "**"), Verb.LIST | Verb.READ, "deny",
    )  # fmt: skip
    assert rule.expires_ns == 1_796_083_200_000_000_000
    assert "ctxfs.toml, rule 1" in str(rule)


def test_letters_are_short_for_verbs() -> None:
    rule = parse_allowance("memory/alice/**:rw")
    assert rule.verbs == Verb.LIST | Verb.READ | Verb.WRITE | Verb.CREATE | Verb.DELETE | Verb.META
    assert parse_allowance("tools/**:x").verbs == Verb.LIST | Verb.EXEC


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('rule = 3', "two brackets"),
        ('[[rule]]\nprincipal = "agent:a"\npath = "x"\n', "'verbs' is missing"),
        ('[[rule]]\nprincipal = "agent:a"\npath = "x"\nverbs = "r"\nwhen = 1\n', "no key 'when'"),
        ('[[rule]]\nprincipal = "Agent:A"\npath = "x"\nverbs = "r"\n', "not a principal"),
        ('[[rule]]\nprincipal = "agent:\u0430lice"\npath = "x"\nverbs = "r"\n', "not a principal"),
        ('[[rule]]\nprincipal = "group:writers"\npath = "x"\nverbs = "r"\n', "no group 'writers'"),
        ('[[rule]]\nprincipal = "*"\npath = "x"\nverbs = ["fly"]\n', "not verbs"),
        ('[[rule]]\nprincipal = "*"\npath = "x"\nverbs = "rq"\n', "not verbs"),
        ('[[rule]]\nprincipal = "*"\npath = "x"\nverbs = []\n', "not verbs"),
        ('[[rule]]\nprincipal = "*"\npath = "x"\nverbs = "r"\neffect = "maybe"\n', "'allow' or 'deny'"),
        ('[[rule]]\nprincipal = "*"\npath = "a/../b"\nverbs = "r"\n', "'..' cannot be part"),
        ('[[rule]]\nprincipal = "*"\npath = "a/b**"\nverbs = "r"\n', "cannot be part"),
        ('[[rule]]\nprincipal = "*"\npath = "/"\nverbs = "r"\n', "not a path pattern"),
        ('[[rule]]\nprincipal = "*"\npath = "memory/cafe\u0301"\nverbs = "r"\n', "normal form"),
        ('[[rule]]\nprincipal = "*"\npath = "memory/\uff41lice"\nverbs = "r"\n', "normal form"),
        ('[[rule]]\nprincipal = "*"\npath = "memory/\u0430lice"\nverbs = "r"\n', "mixes CYRILLIC and LATIN"),
        ('[[rule]]\nprincipal = "*"\npath = "x"\nverbs = "r"\nexpires = "soon"\n', "not a time"),
        ('[groups]\nwriters = "agent:a"\n', "not a list"),
        ('[groups]\nwriters = ["alice"]\n', "not a principal"),
    ],
)  # fmt: skip
def test_ambiguous_rule_is_refused(text: str, said: str) -> None:
    with pytest.raises(CommandError) as refused:
        parsed(text)
    assert said in refused.value.message
    assert "ctxfs.toml" in refused.value.message


def test_an_allowance_needs_both_halves() -> None:
    for bad in ("memory", "memory:", ":rw", "memory:q"):
        with pytest.raises(CommandError):
            parse_allowance(bad)


def test_defaults_are_rules_like_others() -> None:
    assert all(rule.effect == "allow" and rule.verbs for rule in default_rules())
