"""Test profiles: values with their time and lines; a change of mind keeps the earlier value."""

from collections.abc import Mapping

import pytest

from ctxfs.consolidation.memories import Memory
from ctxfs.consolidation.profile import find_profile, parse_profile
from ctxfs.consolidation.user_statements import statements_in
from ctxfs.eventlog.log import EventLog
from tests.consolidation.conftest import Store

USER = "memory/alice/user"


def propose_and_accept(store: Store) -> list[str]:
    result = store.call("consolidate", path=USER)
    for proposal in result["proposals"]:
        store.call("decide", id=proposal["id"], verdict="accept")
    return [proposal["rule"] for proposal in result["proposals"]]


def test_change_of_mind_keeps_the_earlier_value_with_its_validity(store: Store) -> None:
    store.write(f"{USER}/march.md", "Time zone: CET\nMy favourite colour is blue.\n", valid_from="2026-03-01")
    assert propose_and_accept(store) == ["profile"]
    profile = (store.tree / USER / "profile.md").read_text()
    assert f"- Time zone: CET\n  - since 2026-03-01\n  - from {USER}/march.md:1\n" in profile
    assert "- Favourite colour: blue\n" in profile
    assert propose_and_accept(store) == []
    store.write(f"{USER}/october.md", "Time zone: PST\n", valid_from="2026-10-05")
    assert "profile" in propose_and_accept(store)
    profile = (store.tree / USER / "profile.md").read_text()
    assert f"- Time zone: CET\n  - since 2026-03-01\n  - from {USER}/march.md:1\n  - until 2026-10-05\n" in profile
    assert f"- Time zone: PST\n  - since 2026-10-05\n  - from {USER}/october.md:1\n" in profile
    entries = {(entry.value, entry.until) for entry, _ in parse_profile(profile).entries if entry.key == "time zone"}
    assert entries == {("CET", "2026-10-05"), ("PST", "")}
    assert propose_and_accept(store) == []


def test_lines_of_people_in_a_profile_stay(store: Store) -> None:
    store.write(f"{USER}/profile.md", "# Ada\n\nShe hates meetings.\n\n- Time zone: CET\n", by="human:ada")
    store.write(f"{USER}/note.md", "The user lives in Lyon.\nTime zone: CET\n")
    assert propose_and_accept(store) == ["profile"]
    text = (store.tree / USER / "profile.md").read_text()
    assert text.startswith("# Ada\n\nShe hates meetings.\n\n- Time zone: CET\n- Home: Lyon\n")


def test_untrusted_memory_does_not_reach_a_trusted_profile() -> None:
    memories = [
        Memory(f"{USER}/profile.md", b"# Ada\n", {}, 1, 1),
        Memory(f"{USER}/web.md", b"Employer: Evil\n", {"user.ctx.trust": b"untrusted"}, 2, 2),
    ]
    assert list(find_profile(memories)) == []
    (draft,) = find_profile(memories[1:])
    assert draft.edits[0].attributes["user.ctx.trust"] == b"untrusted"


def test_ended_and_retired_memories_are_no_current_values() -> None:
    memories = [
        Memory(
            f"{USER}/a.md",
            b"City: Oslo\n",
            {"user.ctx.valid_from": b"2020-01-01", "user.ctx.valid_until": b"2021-01-01"},
            1,
            1,
        ),
        Memory(f"{USER}/b.md", b"City: Rome\n", {"user.ctx.state": b"archived"}, 2, 2),
    ]
    (draft,) = find_profile(memories)
    assert draft.edits[0].data is not None
    assert b"- City: Oslo\n  - since 2020-01-01" in draft.edits[0].data and b"until 2021-01-01" in draft.edits[0].data
    assert b"Rome" not in draft.edits[0].data


def test_hostile_lines_take_linear_time() -> None:
    data = ("a" * 499 + "\n").encode() * 100 + b"my " + b"x " * 200 + b"is\n" + b"- a: b\n" * 3_000
    memories = [Memory(f"{USER}/x.md", data, {}, 1, 1)]
    assert len(list(find_profile(memories))) == 1


def say(
    store: Store, session: str, *texts: str, by: str = "agent:alice", day: str = "2026-03-01", **members: str
) -> str:
    """Append inputs of the user to a session; return the path of its file."""
    log = EventLog(store.layout.history)
    log.append(
        session,
        [{"principal": by, "kind": "input", "text": text, "said_at": f"{day}T10:00:00Z", **members} for text in texts],
    )
    return f"history/{log.days_of(session)[-1]}/{session}.jsonl"


def test_statements_of_the_user_in_records_reach_the_profile(store: Store) -> None:
    file = say(store, "s-one", "Fix the build, please.", "Thanks! My time zone is CET. I live in Lyon now.")
    assert propose_and_accept(store) == ["profile"]
    profile = (store.tree / USER / "profile.md").read_text()
    assert f"- Time zone: CET\n  - since 2026-03-01\n  - from {file}:2\n" in profile
    assert f"- Home: Lyon\n  - since 2026-03-01\n  - from {file}:2\n" in profile
    assert store.label(f"{USER}/profile.md", "trust") == "untrusted", "the agent has written these records"
    assert propose_and_accept(store) == []
    later = say(store, "s-two", "By the way, hello.", "I moved to Graz.", day="2026-10-05")
    assert propose_and_accept(store) == ["profile"]
    profile = (store.tree / USER / "profile.md").read_text()
    assert f"- Home: Lyon\n  - since 2026-03-01\n  - from {file}:2\n  - until 2026-10-05\n" in profile
    assert f"- Home: Graz\n  - since 2026-10-05\n  - from {later}:2\n" in profile


def test_records_of_other_agents_do_not_reach_the_profile(store: Store) -> None:
    say(store, "s-bob", "My time zone is CET.", by="agent:bob")
    assert propose_and_accept(store) == []
    say(store, "s-own", "My time zone is PST.")
    say(store, "s-own", "I live in Oslo.", by="agent:bob")
    assert store.call_as("agent:alice", "consolidate", path=USER)["proposals"] == []


@pytest.mark.parametrize(
    "members",
    [
        {"text": "My question is why the build fails."},
        {"text": "My time zone is not CET."},
        {"text": "Is my name Ada?"},
        {"text": "Her name is Ada."},
        {"text": "My config is broken: name = x"},
        {"text": "timezone: CET"},
        {"text": "My name is " + "very " * 50 + "long."},
        {"text": "I live in Lyon.", "speaker": "Caroline"},
        {"text": "I live in Lyon.", "kind": "output"},
        {"text": "I live in Lyon.", "kind": "tool_result"},
        {"text": "I live in Lyon.", "said_at": "never", "at": "never"},
        {"text": "I live in Lyon. " * 1000},
    ],
)  # fmt: skip
def test_other_text_of_records_is_no_statement_of_the_user(members: Mapping[str, str]) -> None:
    record = {"kind": "input", "principal": "human:ada", "said_at": "2026-03-01", "hash": "x", **members}
    assert list(statements_in(record, "history/2026-03-01/s.jsonl:1")) == []


def test_record_of_a_person_is_trusted() -> None:
    record = {"kind": "input", "principal": "human:ada", "said_at": "2026-03-01", "text": "I'm called Ada, hello."}
    (statement,) = statements_in(record, "history/2026-03-01/s.jsonl:1")
    assert (statement.attribute, statement.value, statement.is_trusted) == ("Name", "Ada", True)
    (draft,) = find_profile([], [statement], "alice")
    assert "user.ctx.trust" not in draft.edits[0].attributes
