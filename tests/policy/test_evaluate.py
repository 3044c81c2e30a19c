"""Test the decision function: denials win, then the most specific rule; the default is no permission."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.evaluate import Policy, tree_path_of
from ctxfs.policy.rules import NOTHING, Rule, Verb, default_rules, parse_pattern, parse_policy

ALICE, BOB, ADA = Principal("agent", "alice"), Principal("agent", "bob"), Principal("human", "ada")
NOW = 1_700_000_000_000_000_000


def policy(text: str = "") -> Policy:
    rules, groups = parse_policy(tomllib.loads(text), "ctxfs.toml")
    return Policy((*default_rules(), *rules), groups)


def may(made: Policy, who: Principal, verb: Verb, path: str, now: int = NOW) -> bool:
    allowed = made.decide(who, verb, Path.parse(path), now).allowed
    assert (
        allowed == bool(made.rights(who, Path.parse(path), now).verbs & verb)
        or made.rights(who, Path.parse(path), now).leads
    )
    return allowed


def rule(principal: str, path: str, verbs: str = "r", effect: str = "allow", more: str = "") -> str:
    return f'[[rule]]\nprincipal = "{principal}"\npath = "{path}"\nverbs = "{verbs}"\neffect = "{effect}"\n{more}\n'


def test_agent_reads_shared_files_and_writes_its_own_by_default() -> None:
    made = policy()
    for path in ("knowledge/x/y.md", "memory/shared/fact/a.md", "AGENTS.md", "memory/alice/fact/a.md", "pad/t/x"):
        assert may(made, ALICE, Verb.READ, path), path
    for path in ("memory/alice/fact/a.md", "pad/t/x", "context/t/request.toml"):
        assert may(made, ALICE, Verb.WRITE, path), path
    for path in ("knowledge/x/y.md", "memory/shared/a.md", "memory/bob/a.md", "AGENTS.md"):
        assert not may(made, ALICE, Verb.WRITE, path), path
    for path in (
        "memory/bob",
        "memory/bob/fact/a.md",
        "human/review/x",
        ".ctxfs/policy.toml",
        "history/2026-01-01/s.jsonl",
    ):
        assert made.rights(ALICE, Path.parse(path), NOW).exists is False, path
        assert may(made, ADA, Verb.WRITE, path), path


def test_directory_on_the_way_to_a_permission_exists_and_shows_nothing_else() -> None:
    made = policy()
    rights = made.rights(ALICE, Path.parse("memory"), NOW)
    assert (rights.verbs, rights.leads, rights.exists) == (NOTHING, True, True)
    assert not made.rights(ALICE, Path.parse("memory"), NOW).verbs & Verb.CREATE
    assert made.rights(ALICE, Path(), NOW).leads


def test_denial_wins_over_any_specific_permission_and_covers_the_subtree() -> None:
    made = policy(
        rule("agent:alice", "knowledge/secret", effect="deny") + rule("agent:alice", "knowledge/secret/one.md")
    )
    assert not may(made, ALICE, Verb.READ, "knowledge/secret/one.md")
    assert not may(made, ALICE, Verb.LIST, "knowledge/secret")
    assert may(made, BOB, Verb.READ, "knowledge/secret/one.md")
    assert not made.rights(ALICE, Path.parse("knowledge/secret"), NOW).leads


def test_list_only_path_exists() -> None:
    made = policy(
        '[[rule]]\nprincipal = "agent:alice"\npath = "knowledge/x/*.key"\nverbs = ["read"]\neffect = "deny"\n'
    )
    rights = made.rights(ALICE, Path.parse("knowledge/x/prod.key"), NOW)
    assert rights.exists
    assert not rights.verbs & Verb.READ
    assert may(made, ALICE, Verb.READ, "knowledge/x/prod.keys")


def test_path_without_list_has_no_other_permission() -> None:
    made = policy('[[rule]]\nprincipal = "agent:alice"\npath = "human/**"\nverbs = ["read", "write"]\n')
    assert made.rights(ALICE, Path.parse("human/review"), NOW).verbs == NOTHING


def test_allowing_pattern_covers_its_matches_only() -> None:
    made = policy(rule("agent:alice", "human/*/open.md") + rule("agent:alice", "human/**/shared/?.md"))
    assert may(made, ALICE, Verb.READ, "human/a/open.md")
    assert not may(made, ALICE, Verb.READ, "human/a/open.md/deeper")
    assert not may(made, ALICE, Verb.READ, "human/a/b/open.md")
    assert may(made, ALICE, Verb.READ, "human/shared/1.md")
    assert may(made, ALICE, Verb.READ, "human/a/b/c/shared/1.md")
    assert not may(made, ALICE, Verb.READ, "human/a/b/c/shared/12.md")
    assert made.rights(ALICE, Path.parse("human/a"), NOW).leads
    assert not may(policy(rule("agent:alice", "human/[ab].md")), ALICE, Verb.READ, "human/a.md")


def test_groups_and_wildcards_name_many() -> None:
    made = policy('[groups]\nteam = ["agent:alice"]\n' + rule("group:team", "human/team/**") + rule("*", "human/all"))
    assert may(made, ALICE, Verb.READ, "human/team/x")
    assert not may(made, BOB, Verb.READ, "human/team/x")
    assert may(made, BOB, Verb.READ, "human/all")


def test_a_rule_ends_when_it_expires() -> None:
    made = policy(rule("agent:alice", "human/**", more="expires = 2026-12-01T00:00:00Z"))
    end = 1_796_083_200_000_000_000
    assert may(made, ALICE, Verb.READ, "human/x", end - 1)
    assert made.next_change(end - 1) == end
    assert not may(made, ALICE, Verb.READ, "human/x", end)
    assert made.next_change(end) is None


def test_the_same_name_in_another_normal_form_is_the_same_name() -> None:
    made = policy(rule("*", "knowledge/caf\u00e9", effect="deny"))
    assert not may(made, ALICE, Verb.READ, "knowledge/cafe\u0301/x")
    assert may(made, ALICE, Verb.READ, "knowledge/c\u0430fe/x"), "a look-alike is another name, with rights of its own"


def test_a_decision_names_its_rule_and_the_others_that_matched() -> None:
    made = policy(rule("agent:alice", "memory/shared/x/**", effect="deny"))
    decision = made.decide(ALICE, Verb.READ, Path.parse("memory/shared/x/y"), NOW)
    assert decision.why == "deny agent:alice list,read /memory/shared/x/** (ctxfs.toml, rule 1)"
    assert [match.where for match in decision.matched] == ["ctxfs.toml, rule 1", "default"]
    assert made.decide(BOB, Verb.READ, Path.parse("human/x"), NOW).why == "no rule allows it"


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("memory/bob/.versions/x.md/0001_a", "memory/bob/x.md/0001_a"),
        (".snapshots/1h-ago/memory/bob/x.md", "memory/bob/x.md"),
        (".snapshots", ""),
        ("memory/bob/.search/who am I/01", "memory/bob"),
        ("search/q/01", "search/q/01"),
    ],
)
def test_view_has_the_permissions_of_its_directory(path: str, real: str) -> None:
    assert str(tree_path_of(Path.parse(path))) == real


names = st.sampled_from(["a", "b", "ab", "*", "a*", "?", "**"])
rules = st.lists(
    st.builds(
        lambda who, pattern, verbs, effect: Rule(who, tuple(pattern), verbs, effect, "test"),
        st.sampled_from(["agent:alice", "agent:*", "human:*", "*"]),
        st.lists(names, min_size=1, max_size=4),
        st.sampled_from([Verb.LIST, Verb.READ, Verb.LIST | Verb.READ, Verb.LIST | Verb.WRITE]),
        st.sampled_from(["allow", "allow", "deny"]),
    ),
    max_size=8,
)


def matches(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Match a pattern by its definition, without optimisation."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(matches(pattern[1:], parts[at:]) for at in range(len(parts) + 1))
    if not parts:
        return False
    first = {"*": True, "?": len(parts[0]) == 1, "a*": parts[0].startswith("a")}.get(pattern[0], pattern[0] == parts[0])
    return first and matches(pattern[1:], parts[1:])


@settings(max_examples=400, deadline=None)
@given(rules, st.lists(st.sampled_from(["a", "b", "ab", "c"]), max_size=5))
def test_compiled_walk_agrees_with_the_patterns(made: list[Rule], parts: list[str]) -> None:
    path = tuple(parts)
    mine = [candidate for candidate in made if candidate.principal in ("agent:alice", "agent:*", "*")]
    allowed = denied = NOTHING
    for candidate in mine:
        if candidate.effect == "deny" and any(matches(candidate.pattern, path[:end]) for end in range(len(path) + 1)):
            denied |= candidate.verbs
        if candidate.effect == "allow" and matches(candidate.pattern, path):
            allowed |= candidate.verbs
    wanted = allowed & ~denied
    rights = Policy(made).rights(ALICE, Path(path), NOW)
    assert rights.verbs == (wanted if wanted & Verb.LIST else NOTHING)
    if any(Policy(made).rights(ALICE, Path((*path, *more)), NOW).verbs for more in (("a",), ("b", "a"), ("ab",))):
        assert rights.exists or denied & Verb.LIST, "allowed paths can be reached"


def test_patterns_of_rules_can_be_parsed_again() -> None:
    for default_rule in default_rules():
        assert parse_pattern("/".join(default_rule.pattern), "test") == default_rule.pattern


def test_expired_rule_reveals_no_directory() -> None:
    """The directories on the way to the expired permission disappear, too."""
    allow = Rule("agent:alice", ("memory", "bob", "**"), Verb(255), "allow", "test", NOW)
    made = Policy((*default_rules(), allow))
    paths = [Path(parts) for parts in (("memory", "bob"), ("memory", "bob", "x"), ("memory", "bob", "x", "y"))]
    assert all(made.rights(ALICE, path, NOW - 1).exists for path in paths)
    assert not any(made.rights(ALICE, path, NOW).exists for path in paths)
