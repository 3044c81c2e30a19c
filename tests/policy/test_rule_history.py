"""Test that versions are checked against the rules of today and of their time, and the stricter ones apply."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import Principal
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.policy.rules import Rule, default_rules, parse_pattern, parse_verbs
from ctxfs.rpc.client import Client
from tests.live import Live, eventually

ALICE = Principal("agent", "alice")
SHARED = TreePath.parse("memory/shared/plan.md")


def rule(path: str, effect: str = "deny", expires_ns: int = 0) -> Rule:
    verbs = parse_verbs("lrwxa", "test")
    return Rule("agent:*", parse_pattern(path, "test"), verbs, effect, "test", expires_ns)  # type: ignore[arg-type]


def test_visible_versions_begin_after_the_denial(tmp_path: Path) -> None:
    past = RuleHistory(tmp_path / "policy.jsonl")
    past.record(default_rules(), {})
    past.record((*default_rules(), rule("memory/shared/plan.md")), {})
    before = time.time_ns()
    past.record(default_rules(), {})
    assert before <= past.readable_since(ALICE, SHARED) <= time.time_ns()
    assert past.readable_since(ALICE, TreePath.parse("memory/shared/other.md")) == 0
    assert past.readable_since(ALICE, TreePath.parse("memory/shared"), below=True) >= before, (
        "not all below it was theirs"
    )
    assert past.readable_since(Principal("human", "ada"), SHARED) == 0
    again = RuleHistory(tmp_path / "policy.jsonl")
    assert again.readable_since(ALICE, SHARED) == past.readable_since(ALICE, SHARED)


def test_visible_versions_begin_with_the_first_permission(tmp_path: Path) -> None:
    past = RuleHistory(tmp_path / "policy.jsonl")
    past.record(default_rules(), {})
    bob = TreePath.parse("memory/bob/x.md")
    assert past.readable_since(ALICE, bob) == 1 << 62
    before = time.time_ns()
    past.record((*default_rules(), rule("memory/bob/**", "allow")), {})
    assert before <= past.readable_since(ALICE, bob) <= time.time_ns()


def test_a_denial_that_expired_counts_until_then(tmp_path: Path) -> None:
    past = RuleHistory(tmp_path / "policy.jsonl")
    expired = time.time_ns() + 3600 * 10**9
    past.record((*default_rules(), rule("memory/shared/plan.md", expires_ns=expired)), {})
    assert past.readable_since(ALICE, SHARED) == expired


def test_equal_rules_are_recorded_once_and_a_broken_line_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "policy.jsonl"
    for _ in range(3):
        RuleHistory(file).record(default_rules(), {"writers": frozenset({"agent:b", "agent:a"})})
    assert len(file.read_text().splitlines()) == 1
    with file.open("a") as out:
        out.write("[17, [[")
    assert RuleHistory(file).readable_since(ALICE, SHARED) == 0


def test_an_unwritable_file_stops_nothing(tmp_path: Path) -> None:
    past = RuleHistory(tmp_path / "gone" / "policy.jsonl")
    past.record(default_rules(), {})
    assert past.readable_since(ALICE, SHARED) == 0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with two files whose rules have changed.

    plan.md was shared, then sealed and written to, then shared again; moved.md was written in bob's memory and moved
    out.
    """
    live = Live(tmp_path_factory.mktemp("past"))
    live.run("init")
    config = live.store / "ctxfs.toml"
    allowed = '\n[[rule]]\nprincipal = "agent:alice"\npath = "memory/shared/**"\nverbs = "rw"\n'
    plain = config.read_text() + allowed
    config.write_text(plain)
    alice = live.at.parent / "mnt-alice"
    live.run("mount", str(live.at))
    live.run("mount", str(alice), "--as", "agent:alice")
    plan, bob = live.at / "memory" / "shared" / "plan.md", live.at / "memory" / "bob"

    def written(text: str) -> None:
        plan.write_text(text)
        live.run("commit")

    def ruled(text: str, done: Callable[[], bool]) -> None:
        config.with_suffix(".new").write_text(text)
        os.replace(config.with_suffix(".new"), config)
        eventually("the rules hold", done)

    seen = alice / "memory" / "shared" / "plan.md"
    written("open from the start\n")
    denial = '\n[[rule]]\nprincipal = "agent:*"\npath = "memory/shared/plan.md"\nverbs = "lr"\neffect = "deny"\n'
    ruled(plain + denial, lambda: not seen.exists())
    written("the vault code is 7741\n")
    live.run("snapshot", "sealed")
    written("nothing to see\n")
    ruled(plain, seen.exists)
    written("open again\n")
    bob.mkdir()
    (bob / "moved.md").write_text("bob's own words\n")
    live.run("commit")
    (bob / "moved.md").rename(live.at / "memory" / "shared" / "moved.md")
    live.run("commit")
    (live.at / "memory" / "shared" / "moved.md").write_text("for everybody\n")
    live.run("commit")
    yield live
    live.close()


@pytest.fixture
def alice(served: Live) -> Iterator[Client]:
    client = Client(served.store / "run", timeout=20)
    client.call("join", principal="agent:alice")
    yield client
    client.close()


@pytest.mark.fuse
def test_versions_stay_hidden_from_a_denied_principal(served: Live) -> None:
    versions = served.at.parent / "mnt-alice" / "memory" / "shared" / ".versions" / "plan.md"
    texts = [(versions / name).read_text() for name in sorted(os.listdir(versions)) if name[0].isdigit()]
    assert texts == ["open again\n"]
    assert "0001_" in (versions / "log").read_text(), "the number of earlier versions is not revealed"
    assert len((versions / "log").read_text().splitlines()) == 1
    by_people = served.at / "memory" / "shared" / ".versions" / "plan.md"
    assert len([name for name in os.listdir(by_people) if name[0].isdigit()]) == 4


@pytest.mark.fuse
def test_snapshot_of_the_denied_time_hides_the_file(served: Live) -> None:
    at = served.at.parent / "mnt-alice" / ".snapshots" / "sealed" / "memory" / "shared"
    assert not (at / "plan.md").exists()
    assert "plan.md" not in os.listdir(at)
    assert (served.at / ".snapshots" / "sealed" / "memory" / "shared" / "plan.md").read_text().startswith("the vault")


@pytest.mark.fuse
def test_moved_file_has_no_visible_versions_at_its_hidden_path(served: Live, alice: Client) -> None:
    versions = served.at.parent / "mnt-alice" / "memory" / "shared" / ".versions" / "moved.md"
    texts = [(versions / name).read_text() for name in sorted(os.listdir(versions)) if name[0].isdigit()]
    assert texts[-1] == "for everybody\n"
    log = alice.call("log", path="memory/shared/moved.md", changes=True)
    assert "bob" not in repr(log)
    first = served.run("log", "memory/shared/moved.md", "--json")
    oldest = json.loads(first)[-1]["revision"]
    with pytest.raises(FileNotFoundError):
        alice.call("show", path="memory/shared/moved.md", at=oldest)


def test_log_show_diff_and_restore_hide_the_versions(served: Live, alice: Client) -> None:
    everything = Client(served.store / "run", timeout=20)
    everything.call("ping")
    steps = everything.call("log", path="memory/shared/plan.md")
    assert len(alice.call("log", path="memory/shared/plan.md")) == 1
    for step in steps[1:]:
        for ask in (
            {"method": "show", "at": step["revision"]},
            {"method": "diff", "old": step["revision"], "new": "latest"},
            {"method": "blame", "at": step["revision"]},
            {"method": "restore", "to": step["revision"], "dry_run": True},
        ):
            with pytest.raises(FileNotFoundError):
                alice.call(ask.pop("method"), path="memory/shared/plan.md", **ask)  # type: ignore[arg-type]
    assert alice.call("show", path="memory/shared/plan.md", at=steps[0]["revision"]) == b"open again\n"
    assert "vault" in repr(everything.call("show", path="memory/shared/plan.md", at=steps[2]["revision"]))
    everything.close()


def test_context_as_of_the_denied_time_excludes_the_file(served: Live, alice: Client) -> None:
    request = {"query": "vault code", "as_of": "sealed", "budget": 500}
    assert "7741" not in alice.call("context", request=request)["text"]
    everything = Client(served.store / "run", timeout=20)
    assert "7741" in everything.call("context", request=request)["text"]
    everything.close()
