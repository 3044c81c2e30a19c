"""Test one policy on all nodes: rules, credentials and approvals are entries of the log."""

import json
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ctxfs.exec.approvals import Approval, Approvals
from ctxfs.model.errors import CommandError
from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import Principal
from ctxfs.policy.credentials import issue_credential
from ctxfs.policy.engine import PolicyEngine
from ctxfs.policy.rule_history import RuleHistory
from ctxfs.policy.rules import Verb
from ctxfs.shared.engines import open_log
from ctxfs.shared.log import EntryKind, LogRefused, SharedLog
from ctxfs.shared.node import Node
from ctxfs.shared.node_state import NodeStateFile
from ctxfs.shared.policy_records import CredentialRecords, open_topics
from ctxfs.shared.records_topic import encode_changes
from ctxfs.store.credential_store import CredentialStore
from tests.versions.conftest import Past

ALICE = Principal("agent", "alice")
NOTE = TreePath(("memory", "shared", "note.md"))
WRITERS = """
[groups]
writers = ["agent:alice"]

[[rule]]
principal = "group:writers"
path = "memory/shared/**"
verbs = "rw"
"""
CLOSED = '[[rule]]\nprincipal = "agent:*"\npath = "memory/shared/**"\nverbs = "r"\neffect = "deny"\n'
Opener = Callable[[str], "Member"]


class Member:
    """A store with a policy, as a node without a daemon."""

    def __init__(self, folder: Path, name: str, connect: Callable[[], SharedLog]) -> None:
        self.past = Past(folder / name)
        self.name = name
        self.layout = self.past.layout
        self.tokens = CredentialStore(self.layout.tokens)
        self.approvals = Approvals(self.layout.approvals)
        self._connect = connect
        self.node = self._open()

    def _open(self) -> Node:
        return Node(
            self.past.archive.shared,
            NodeStateFile(self.layout.repo),
            "main",
            self.name,
            "human:owner",
            self._connect,
            open_topics(self.layout, RuleHistory(self.layout.policy_history)),
        )

    def restart(self) -> None:
        self.node.close()
        self.node = self._open()

    def close(self) -> None:
        self.node.close()
        self.past.close()

    def write_rules(self, text: str) -> None:
        """Replace the rules as an editor does that finished a minute ago."""
        self.layout.rules.write_text(text)
        then = time.time() - 60 + os.urandom(1)[0] / 256
        os.utime(self.layout.rules, (then, then))

    @property
    def rules(self) -> str:
        return self.layout.rules.read_text() if self.layout.rules.exists() else ""

    def may(self, principal: Principal, verb: Verb) -> bool:
        engine = PolicyEngine(
            (self.layout.config, self.layout.rules), self.tokens, RuleHistory(self.layout.policy_history)
        )
        return engine.is_allowed(principal, verb, NOTE)

    def is_known(self, secret: str) -> bool:
        try:
            self.tokens.principal_of(secret)
        except PermissionError:
            return False
        return True


@pytest.fixture
def open_node(tmp_path: Path) -> Iterator[Opener]:
    """Return a function that makes a store a node of a log in a folder."""
    (tmp_path / "engine").mkdir()
    opened: list[Member] = []

    def make(name: str) -> Member:
        opened.append(Member(tmp_path, name, lambda: open_log(f"file://{tmp_path}/engine", "main", create=True)))
        return opened[-1]

    yield make
    for node in opened:
        node.close()


def settle(*nodes: Member) -> None:
    for _ in range(2):
        for node in nodes:
            node.node.exchange()


def append(node: Member, kind: EntryKind, data: bytes) -> None:
    """Append an entry with data that this node's store would not make."""
    engine = node.node.connection
    assert engine is not None
    number = engine.head().number
    last = engine.entries(number - 1, 1)[0]
    engine.append(replace(last, number=number + 1, previous=last.head, kind=kind, objects=b"", packs=(), data=data))


def test_rules_of_one_node_are_in_force_on_all(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    settle(one, two)
    assert not two.may(ALICE, Verb.WRITE)
    one.write_rules(WRITERS)
    assert one.node.has_topic_news()
    settle(one, two)
    assert two.may(ALICE, Verb.WRITE) and one.may(ALICE, Verb.WRITE)
    two.write_rules(CLOSED)
    settle(two, one)
    assert not one.may(ALICE, Verb.READ)
    assert not one.node.has_topic_news() and not two.node.has_topic_news()


def test_removed_rules_are_removed_on_all_nodes(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    one.write_rules(WRITERS)
    settle(one, two)
    one.layout.rules.unlink()
    settle(one, two)
    assert two.rules == "" and one.rules == ""


def test_node_that_joins_takes_the_rules_and_keeps_its_own_as_a_copy(open_node: Opener) -> None:
    one, late = open_node("one"), open_node("late")
    one.write_rules(CLOSED)
    settle(one)
    late.write_rules(WRITERS)
    settle(late, one)
    assert late.rules == one.rules == CLOSED
    assert late.layout.rules.with_name("policy.toml.overtaken").read_text() == WRITERS


def test_later_of_two_concurrent_changes_wins_and_both_are_in_the_history(open_node: Opener) -> None:
    one, two, three = open_node("one"), open_node("two"), open_node("three")
    settle(one, two, three)
    one.write_rules(CLOSED)
    two.write_rules(WRITERS)
    settle(one, two, three)
    assert one.rules == two.rules == three.rules == WRITERS
    for node in (one, two, three):
        engine = PolicyEngine((node.layout.config, node.layout.rules), past=RuleHistory(node.layout.policy_history))
        assert engine.readable_since(ALICE, NOTE) > 0, "the time without the right to read is in the history"


def test_broken_rules_stay_on_their_node_and_name_the_fault(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    one.write_rules(CLOSED)
    settle(one, two)
    one.write_rules("[[rule]]\nprincipal = 5\n")
    settle(one, two)
    assert "rule 1" in one.node.topic_fault
    assert two.rules == CLOSED
    two.write_rules(WRITERS)
    settle(two, one)
    assert one.rules == WRITERS, "the broken text would keep the rules of others out"
    assert not one.node.topic_fault


def test_rules_with_groups_of_the_settings_are_not_shared(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    with one.layout.config.open("a") as file:
        file.write('\n[groups]\nteam = ["agent:alice"]\n')
    one.write_rules('[[rule]]\nprincipal = "group:team"\npath = "memory/**"\nverbs = "rw"\n')
    settle(one, two)
    assert "team" in one.node.topic_fault
    assert two.rules == ""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no stream",
        zlib.compress(b"[]"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b'"' + b"a" * 9_000_000 + b'"'),
        zlib.compress(b'{"policy.toml": 5}'),
        zlib.compress(b'{"policy.toml": "\\ud800"}'),
        encode_changes({"policy.toml": "[[rule]]\n"}),
        encode_changes({"policy.toml": "[versions]\n"}),
        encode_changes({"policy.toml": "a." * 5000 + "a = 1"}),
        encode_changes({"../ctxfs.toml": ""}),
    ],
)
def test_broken_rules_in_the_log_are_refused_with_the_node(open_node: Opener, data: bytes) -> None:
    one, two = open_node("one"), open_node("two")
    one.write_rules(CLOSED)
    settle(one, two)
    append(one, EntryKind.RULES, data)
    with pytest.raises(LogRefused, match=r"node '(one|two)'"):
        two.node.exchange()
    assert two.rules == CLOSED
    assert not two.may(ALICE, Verb.READ)


def test_credential_is_good_on_all_nodes_until_one_revokes_it(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    settle(one, two)
    credential, secret = one.tokens.issue(ALICE, ["memory/**:r"], 3600)
    settle(one, two)
    assert two.tokens.principal_of(secret) == credential.narrowed_principal
    assert secret.rpartition("_")[2].encode() not in two.layout.tokens.read_bytes()
    two.tokens.revoke(credential.id)
    other, other_secret = one.tokens.issue(ALICE, [], None)  # at the same time, in a file that has the first one, too
    settle(one, two)
    assert not one.is_known(secret) and not two.is_known(secret)
    assert two.is_known(other_secret) and one.is_known(other_secret)
    late = open_node("late")
    settle(late)
    assert [token.id for token in late.tokens.load()] == [other.id]


def test_credential_for_a_person_is_refused(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    settle(one, two)
    credential, secret = issue_credential(ALICE, [], time.time_ns(), None)
    values = {**asdict(credential), "principal": "human:owner"}
    append(one, EntryKind.CREDENTIALS, encode_changes({credential.id: json.dumps(values, sort_keys=True)}))
    with pytest.raises(LogRefused, match="human:owner"):
        two.node.exchange()
    assert not two.is_known(secret) and two.tokens.load() == []


@pytest.mark.parametrize(
    "change",
    [
        {"principal": "agent:alice#01234567"},
        {"principal": "root"},
        {"allow": ["../**:rwxa"]},
        {"allow": ["**:r"] * 101},
        {"expires_ns": -1},
        {"issued_ns": 1.5},
        {"sha256": "x"},
        {"id": "zzzzzzzz"},
        {"more": 1},
    ],
)
def test_credential_that_no_store_issues_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    credential, _ = issue_credential(ALICE, [], time.time_ns(), None)
    records = CredentialRecords(CredentialStore(tmp_path / "tokens.json"))
    records.check({credential.id: json.dumps(asdict(credential), sort_keys=True)})
    values = json.dumps({**asdict(credential), **change}, sort_keys=True)
    with pytest.raises((ValueError, CommandError)):
        records.check({credential.id: values})


def test_approval_reaches_all_nodes(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    settle(one, two)
    definition = {"name": "t", "description": "ü"}
    one.approvals.add({"t": Approval("a" * 64, definition), "server/x": Approval("b" * 64, {})})
    settle(one, two)
    assert two.approvals.all() == one.approvals.all()
    two.approvals.drop("server/")
    settle(two, one)
    assert list(one.approvals.all()) == ["t"]
    assert not one.node.exchange().published
    append(one, EntryKind.APPROVALS, encode_changes({"t": json.dumps(["short", {}])}))
    with pytest.raises(LogRefused, match="approvals"):
        two.node.exchange()
    assert two.approvals.all()["t"].digest == "a" * 64


def test_entries_that_are_taken_again_change_nothing(open_node: Opener) -> None:
    one, two = open_node("one"), open_node("two")
    one.write_rules(CLOSED)
    _, secret = one.tokens.issue(ALICE, [], None)
    settle(one, two)
    one.write_rules(WRITERS)
    one.tokens.revoke("agent:alice")
    settle(one, two)
    NodeStateFile(two.layout.repo).remove()
    two.restart()
    two.node.exchange()
    assert two.rules == WRITERS and not two.is_known(secret)
    assert not two.node.has_topic_news()
