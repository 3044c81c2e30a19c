"""Test the rules through the method `consolidate`: their proposals, and that accepting them loses nothing."""

import json
import time
from typing import Any

import pytest
import trio

from ctxfs.consolidation.memories import Memory
from ctxfs.consolidation.rules import RuleRun
from ctxfs.daemon.api.methods import METHODS, run_method
from tests.consolidation.conftest import Store

FACT = "memory/alice/fact"


def consolidate(store: Store, group: str = FACT, **options: object) -> dict[str, Any]:
    result: dict[str, Any] = store.call("consolidate", path=group, **options)
    return result


def rules_of(result: dict[str, Any]) -> list[str]:
    return [proposal["rule"] for proposal in result["proposals"]]


def accept_all(store: Store, result: dict[str, Any]) -> None:
    for proposal in result["proposals"]:
        store.call("decide", id=proposal["id"], verdict="accept")


def states(store: Store, group: str = FACT) -> dict[str, str]:
    return {file.name: store.label(f"{group}/{file.name}", "state") for file in sorted((store.tree / group).iterdir())}


def test_same_text_and_paraphrases_are_merged_into_the_best_cited(store: Store) -> None:
    store.write(f"{FACT}/a.md", "Access tokens expire after 90 days.\n")
    store.write(f"{FACT}/b.md", "Access tokens expire after 90 days.\n", source="knowledge/docs/tokens.md:3-3")
    store.write(f"{FACT}/c.md", "Note that access tokens expire after 90 days\n")
    result = consolidate(store)
    assert rules_of(result) == ["same", "repeated"]
    assert states(store) == {"a.md": "", "b.md": "", "c.md": ""}
    accept_all(store, result)
    assert states(store) == {"a.md": "merged", "b.md": "", "c.md": "merged"}
    assert store.label(f"{FACT}/b.md", "covers").split("\n") == [f"{FACT}/a.md", f"{FACT}/c.md"]
    assert consolidate(store)["proposals"] == []


def test_newer_of_a_contradiction_is_kept(store: Store) -> None:
    store.write(f"{FACT}/old.md", "Access tokens expire after 90 days.\n", valid_from="2026-01-01")
    store.write(f"{FACT}/new.md", "Access tokens expire after 30 days.\n", valid_from="2026-06-01")
    result = consolidate(store)
    assert rules_of(result) == ["contradiction"]
    why = store.review(result["proposals"][0]["id"], "why.md")
    assert "'90 days' and '30 days'" in why or "'30 days' and '90 days'" in why
    accept_all(store, result)
    assert states(store) == {"new.md": "", "old.md": "archived"}
    assert store.label(f"{FACT}/old.md", "valid_until") == "2026-05-31"
    assert store.label(f"{FACT}/new.md", "supersedes") == f"{FACT}/old.md"


def test_trust_and_citations_outweigh_a_newer_time(store: Store) -> None:
    store.write(f"{FACT}/good.md", "The retry limit is 5.\n", source="knowledge/docs/limits.md:1", confidence="0.9")
    store.write(f"{FACT}/bad.md", "The retry limit is 7.\n", trust="untrusted", confidence="0.2")
    result = consolidate(store)
    accept_all(store, result)
    assert states(store) == {"bad.md": "archived", "good.md": ""}


@pytest.mark.parametrize("label", ["frozen", "pinned"])
def test_fixed_memory_is_never_archived(store: Store, label: str) -> None:
    store.write(f"{FACT}/fixed.md", "The retry limit is 5.\n", valid_from="2020-01-01", **{label: "true"})
    store.write(f"{FACT}/new.md", "The retry limit is 7.\n", valid_from="2026-01-01", trust="trusted", confidence="1")
    store.write(f"{FACT}/same.md", "The retry limit is 5.\n", source="knowledge/x.md:1")
    result = consolidate(store)
    if label == "frozen":
        assert {proposal["rule"] for proposal in result["proposals"]} <= {"same", "contradiction"}
    for proposal in result["proposals"]:
        try:
            store.call("decide", id=proposal["id"], verdict="accept")
        except PermissionError:
            assert label == "frozen"
    assert states(store)["fixed.md"] == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The timeout of the reader is 30 s.", "The timeout of the writer is 60 s."),
        ("The default encoding is UTF-8 on Linux.", "The default encoding is CP1252 on Windows."),
        ("Alice likes tea.", "Bob likes tea."),
    ],
)
def test_look_alikes_stay(store: Store, one: str, other: str) -> None:
    store.write(f"{FACT}/one.md", f"{one}\n")
    store.write(f"{FACT}/other.md", f"{other}\n")
    assert consolidate(store)["proposals"] == []


def test_memory_with_other_statements_is_not_archived_for_one_of_them(store: Store) -> None:
    store.write(f"{FACT}/one.md", "The retry limit is 5. Backups are made on Sundays by cron.\n")
    store.write(f"{FACT}/two.md", "The retry limit is 7.\n", valid_from="2030-01-01")
    result = consolidate(store)
    assert result["proposals"] == [] or result["proposals"][0]["paths"] != [f"{FACT}/one.md"]
    assert [remark["path"] for remark in result["remarks"]] == [f"{FACT}/one.md"]


def test_expired_and_superseded_memories_are_archived_by_name(store: Store) -> None:
    store.write(f"{FACT}/passed.md", "The offer is open.\n", expires_at="2020-01-01")
    store.write(f"{FACT}/open.md", "The offer of winter is open.\n", expires_at="2999-01-01")
    store.write(f"{FACT}/v1.md", "Deployments need one approval.\n")
    store.write(f"{FACT}/v2.md", "Deployments need a signed tag.\n", supersedes=f"{FACT}/v1.md")
    result = consolidate(store)
    assert sorted(rules_of(result)) == ["expired", "superseded"]
    accept_all(store, result)
    assert states(store) == {"open.md": "", "passed.md": "archived", "v1.md": "archived", "v2.md": ""}
    (note,) = (store.tree / "memory/alice/archive").iterdir()
    assert f"{FACT}/passed.md: expires_at is 2020-01-01" in note.read_text()
    assert store.label(str(note.relative_to(store.tree)), "covers") == f"{FACT}/passed.md"


def test_cycle_of_supersedes_is_remarked_and_archives_nothing(store: Store) -> None:
    store.write(f"{FACT}/a.md", "Deployments need one approval.\n", supersedes=f"{FACT}/b.md")
    store.write(f"{FACT}/b.md", "Releases are cut by hand.\n", supersedes=f"{FACT}/a.md")
    result = consolidate(store)
    assert result["proposals"] == [] and len(result["remarks"]) == 2


def test_unused_memories_are_proposed_after_the_configured_days() -> None:
    old = Memory(f"{FACT}/a.md", b"Nobody asks for this.\n", {}, 1, 1)
    used = Memory(f"{FACT}/b.md", b"Used.\n", {"user.ctx.last_used": b"2999-01-01"}, 1, 1)
    procedure = Memory("memory/alice/procedural/c.md", b"Steps.\n", {}, 1, 1)
    drafts = list(RuleRun([old, used, procedure], 10**18 * 2, unused_days=365).drafts())
    assert [(draft.rule, draft.base[0][0]) for draft in drafts] == [("unused", old.path)]


def test_memories_of_different_agents_are_never_compared(store: Store) -> None:
    store.write("memory/alice/fact/a.md", "Access tokens expire after 90 days.\n")
    store.write("memory/bob/fact/a.md", "Access tokens expire after 90 days.\n", by="agent:bob")
    groups = store.call("memory_groups", path="memory")
    assert groups == [f"memory/{name}/{folder}" for name in ("alice", "bob") for folder in ("episodic", "fact", "user")]
    assert all(consolidate(store, group)["proposals"] == [] for group in groups)


def test_agent_consolidates_only_its_own_memories(store: Store) -> None:
    for name in ("alice", "bob"):
        for number in (1, 2):
            store.write(f"memory/{name}/fact/{number}.md", f"The badge of {name} is green.\n", by=f"agent:{name}")
    groups = store.call_as("agent:alice", "memory_groups", path="memory")
    assert groups == ["memory/alice/episodic", "memory/alice/fact", "memory/alice/user"]
    result = store.call_as("agent:alice", "consolidate", path="memory/bob/fact")
    assert (result["memories"], result["proposals"]) == (0, [])
    result = store.call_as("agent:alice", "consolidate", path="memory/alice/fact")
    assert rules_of(result) == ["same"]
    with pytest.raises(PermissionError, match="only people name a command"):
        store.call_as("agent:alice", "consolidate", path="memory/alice/fact", command="cat")


def test_dry_run_stores_nothing(store: Store) -> None:
    store.write(f"{FACT}/a.md", "Access tokens expire after 90 days.\n")
    store.write(f"{FACT}/b.md", "Access tokens expire after 90 days.\n")
    assert rules_of(consolidate(store, dry_run=True)) == ["same"]
    assert store.app.archive.proposals.names() == [] and store.call("reviews") == []


def test_second_run_keeps_proposals_that_still_apply_and_withdraws_others(store: Store) -> None:
    store.write(f"{FACT}/a.md", "Access tokens expire after 90 days.\n")
    store.write(f"{FACT}/b.md", "Access tokens expire after 90 days.\n")
    first, second = consolidate(store), consolidate(store)
    assert [item["id"] for item in first["proposals"]] == [item["id"] for item in second["proposals"]]
    assert not second["proposals"][0]["new"] and second["withdrawn"] == []
    store.write(f"{FACT}/b.md", "Backups are made on Sundays by cron.\n")
    third = consolidate(store)
    assert third["proposals"] == [] and third["withdrawn"] == [first["proposals"][0]["id"]]
    assert store.app.archive.proposals.names() == []


def test_only_pairs_with_a_changed_memory_are_proposed_since_a_time(store: Store) -> None:
    store.write(f"{FACT}/a.md", "Access tokens expire after 90 days.\n")
    store.write(f"{FACT}/b.md", "Access tokens expire after 90 days.\n")
    now = store.app.archive.proposals.base().time_ns
    assert consolidate(store, since_ns=now + 1)["proposals"] == []
    store.write(f"{FACT}/c.md", "Access tokens expire after 90 days.\n")
    assert rules_of(consolidate(store, since_ns=now + 1)) == ["same"]


def test_many_copies_are_covered_by_notes_where_the_attribute_is_full(store: Store) -> None:
    for number in range(90):
        path = store.tree / f"{FACT}/{'x' * 40}-{number:03}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Access tokens expire after 90 days.\n")
    store.write(f"{FACT}/last.md", "Access tokens expire after 90 days.\n")
    store.app.archive.commit([b"memory"])
    result = consolidate(store)
    assert set(rules_of(result)) == {"same"} and len(result["proposals"]) > 1
    accept_all(store, result)
    assert len([state for state in states(store).values() if not state]) == 1


def test_ended_session_without_an_episode_becomes_one(store: Store) -> None:
    group = "memory/bob/episodic"
    for name, principal in (("mine", "agent:bob"), ("other", "agent:eve")):
        records = [{"principal": principal, "kind": "input", "text": f"How do we rotate keys, {name}?"}]
        store.app.history.append(name, [*records, {"principal": principal, "kind": "session_end", "text": ""}])
    store.app.history.append("open", [{"principal": "agent:bob", "kind": "input", "text": "Not over yet?"}])
    store.write("memory/bob/fact/a.md", "The badge of bob is green.\n", by="agent:bob")
    first, second = consolidate(store, group), consolidate(store, group)
    assert rules_of(first) == ["episode"] and first["proposals"][0]["id"] == second["proposals"][0]["id"]
    accept_all(store, first)
    (file,) = (store.tree / group).iterdir()
    assert file.name.endswith("-mine.md") and "How do we rotate keys, mine?" in file.read_text()
    assert store.label(f"{group}/{file.name}", "trust") == "untrusted"
    assert consolidate(store, group)["proposals"] == []
    assert store.call_as("agent:eve", "consolidate", path=group)["proposals"] == []


def test_two_runs_at_once_make_one_proposal_and_two_verdicts_at_once_one_merge(store: Store) -> None:
    for name in ("a", "b", "c"):
        store.write(f"{FACT}/{name}.md", "Access tokens expire after 90 days.\n")
    results: list[dict[str, Any]] = []
    refusals: list[OSError] = []

    async def run(method: str, **arguments: object) -> None:
        caller = store.app.session(store.app.principal)
        try:
            results.append(await run_method(store.app, caller, METHODS[method], arguments))
        except OSError as error:
            refusals.append(error)
        finally:
            caller.close()

    async def at_once(method: str, **arguments: object) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(lambda: run(method, **arguments))

    trio.run(lambda: at_once("consolidate", path=FACT))
    assert len({proposal["id"] for result in results for proposal in result["proposals"]}) == 1 and not refusals
    (name,) = store.app.archive.proposals.names()
    store.app.archive.commit()
    commits = store.app.archive.status()["commits"]
    trio.run(lambda: at_once("decide", id=name, verdict="accept"))
    assert len(refusals) == 2 and sorted(states(store).values()) == ["", "merged", "merged"]
    assert store.app.archive.status()["commits"] == int(str(commits)) + 2  # the proposal's own and the merge


def test_delivered_memory_is_in_use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(f"{FACT}/a.md", "The badge of alice is green.\n")
    (store.layout.deliveries / "task").mkdir()
    delivered = {"principal": "agent:alice", "at": "2999-01-01T00:00:00Z", "loaded": [f"{FACT}/a.md:1-1"]}
    (store.layout.deliveries / "task" / "loads.jsonl").write_text(json.dumps(delivered) + "\n")
    store.write("context/task/request.toml", 'query = "badge"\n')
    later = time.time_ns() + 1_000 * 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert consolidate(store, dry_run=True)["proposals"] == []
    (store.layout.deliveries / "task" / "loads.jsonl").unlink()
    assert rules_of(consolidate(store, dry_run=True)) == ["unused"]


def test_memory_whose_source_has_changed_counts_as_uncited(store: Store) -> None:
    store.write("memory/alice/notes/limits.md", "The retry limit is 5.\n")
    store.write(f"{FACT}/cited.md", "The retry limit is 5.\n", valid_from="2026-01-01")
    store.write(f"{FACT}/other.md", "The retry limit is 7.\n", valid_from="2026-01-01")
    store.call("cite", path=f"{FACT}/cited.md", sources=["memory/alice/notes/limits.md:1"])
    why = store.review(consolidate(store)["proposals"][0]["id"], "why.md")
    assert f"'{FACT}/cited.md' is kept: better cited" in why
    store.write("memory/alice/notes/limits.md", "Retries are unlimited now.\n")
    again = consolidate(store)
    assert "better cited" not in store.review(again["proposals"][0]["id"], "why.md")


def test_timer_is_off_by_default_and_consolidates_every_group_when_it_is_due(store: Store) -> None:
    service, stamp = store.app.derived_memory.consolidation, store.layout.run / "consolidated"
    assert not service.is_due()
    config = store.layout.config
    config.write_text(config.read_text().replace("# consolidate_hours = 0", "consolidate_hours = 1"))
    store.app.sources.reload()
    assert store.app.settings.memory.consolidate_hours == 1 and service.is_due()
    for owner in ("alice", "bob"):
        for name in ("a", "b"):
            store.write(f"memory/{owner}/fact/{name}.md", f"The badge of {owner} is green.\n")
    reports = store.run(lambda: service.run_all(store.app.principal))
    assert [proposal.rule for report in reports for proposal in report.proposals] == ["same", "same"]
    stamp.touch()
    assert not service.is_due()
