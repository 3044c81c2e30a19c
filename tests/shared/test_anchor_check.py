"""Test that `history verify` checks the anchors of all nodes in the log, and names the node of a damaged chain."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctxfs.daemon.session import session
from ctxfs.eventlog.chain import Link
from ctxfs.model.errors import CommandError
from ctxfs.shared.anchor_check import ChainsState, NodeChains, compare_records, read_chains
from ctxfs.shared.engines import open_log
from ctxfs.shared.log import EMPTY, Entry, EntryKind, Head, LogRefused, SharedLog
from tests.live import Live
from tests.shared.test_health import engine, entry_files, make, write  # noqa: F401 — fixtures

ONE, TWO = "1" * 32, "2" * 32
HASHES = {seq: f"{seq:064x}" for seq in range(1, 10)}


def text_of(store: str, events: int, audit: int = 0, salt: str = "") -> str:
    links = {"events": events, "audit": audit}
    hashes = {name: (salt + HASHES.get(seq, "0" * 64))[:64] for name, seq in links.items()}
    return " ".join([store, *(f"{name}={seq}:{hashes[name]}" for name, seq in links.items())])


def log_of(folder: Path, *anchors: tuple[str, str]) -> SharedLog:
    """Return a log with an entry for each (store, anchor)."""
    folder.mkdir()
    log = open_log(str(folder), "main", create=True)
    previous = ""
    for number, (store, anchor) in enumerate(anchors, 1):
        head = f"{number:040x}"
        log.append(Entry(number, head, previous, EntryKind.VERSIONS, f"node-{store[0]}", store, anchor=anchor))
        previous = head
    return log


def chains_of(folder: Path, *anchors: tuple[str, str], own: str = ONE) -> dict[str, NodeChains]:
    return {chains.node: chains for chains in read_chains(log_of(folder, *anchors), EMPTY, own)}


def test_anchors_that_advance_agree_and_only_the_own_chain_is_verified(tmp_path: Path) -> None:
    nodes = chains_of(
        tmp_path / "log",
        (ONE, text_of(ONE, 2, 1)),
        (TWO, text_of(TWO, 1)),
        (TWO, text_of(ONE, 1)),  # of another store: passed on by an older ctxfs
        (ONE, text_of(ONE, 2, 3)),
        (TWO, ""),
        (TWO, text_of(TWO, 0)),
        (TWO, text_of(TWO, 5)),
    )
    compare_records(nodes["node-1"], {"events": HASHES, "audit": HASHES})
    assert [(chains.state, chains.anchors) for chains in nodes.values()] == [
        (ChainsState.VERIFIED, 2),
        (ChainsState.NOT_CHECKED, 3),
    ]
    assert nodes["node-2"].last["events"] == Link(5, HASHES[5])
    assert not nodes["node-1"].faults and not nodes["node-2"].faults


@pytest.mark.parametrize(
    ("last", "cause"),
    [
        (text_of(TWO, 3), "an older state was restored"),
        (text_of(TWO, 5, salt="f"), "written again, or there are two copies"),
        ("nonsense", "no valid anchor"),
    ],
)
def test_chain_of_another_node_that_goes_back_or_forks_is_found_anywhere(tmp_path: Path, last: str, cause: str) -> None:
    nodes = chains_of(tmp_path / "log", (ONE, text_of(ONE, 1)), (TWO, text_of(TWO, 5)), (TWO, last))
    assert nodes["node-1"].state is ChainsState.NOT_CHECKED
    assert nodes["node-2"].state is ChainsState.FAILED
    (fault,) = nodes["node-2"].faults
    assert cause in fault and "entry 3" in fault


@pytest.mark.parametrize(
    ("records", "cause"),
    [
        ({seq: HASHES[seq] for seq in (1, 2)}, "its end was cut"),
        ({**HASHES, 4: "f" * 64}, "written again"),
        ({seq: HASHES[seq] for seq in (1, 2, 3, 5)}, "is missing"),
    ],
)
def test_own_chain_without_the_anchored_record_fails(tmp_path: Path, records: dict[int, str], cause: str) -> None:
    node = chains_of(tmp_path / "log", (ONE, text_of(ONE, 1)), (ONE, text_of(ONE, 4)))["node-1"]
    compare_records(node, {"events": records, "audit": {}})
    assert node.state is ChainsState.FAILED
    (fault,) = node.faults
    assert "events:4" in fault and cause in fault


def test_log_that_was_rewound_or_split_is_no_evidence(tmp_path: Path) -> None:
    log = log_of(tmp_path / "log", (ONE, text_of(ONE, 1)), (ONE, text_of(ONE, 2)))
    assert read_chains(log, Head(2, f"{2:040x}"), ONE)
    for seen in (Head(3, f"{3:040x}"), Head(1, "f" * 40)):
        with pytest.raises(LogRefused):
            read_chains(log, seen, ONE)


def verified(live: Live) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return the exit code of `history verify`, its results by node, and its report."""
    done = live.try_run("history", "verify", "--json")
    report = json.loads(done.stdout)
    return done.returncode, {node["node"]: node for node in report["nodes"]}, report


def publish(live: Live, text: str) -> None:
    """Record an event, write a file, and publish both."""
    line = json.dumps({"kind": "message", "content": text})
    done = live.try_run("record", "--principal", "agent:alice", "--session", "s1", "--jsonl", input=f"{line}\n")
    assert done.returncode == 0, done.stderr
    write(live, f"{text}.md", f"{text}\n")
    live.run("sync")


@pytest.mark.long
def test_any_node_names_a_node_that_was_restored_from_a_backup(
    make: Callable[[str], Live],  # noqa: F811 — the fixture
    engine: Path,  # noqa: F811 — the fixture
) -> None:
    one, two = make("one"), make("two")
    for number, live in enumerate((one, two, one)):
        publish(live, f"text {number}")
    code, nodes, report = verified(two)
    assert (code, report["log_fault"]) == (0, "")
    assert {name: node["state"] for name, node in nodes.items()} == {"one": "not checked here", "two": "verified"}
    assert [nodes[name]["up_to"]["events"] for name in ("one", "two")] == [2, 1]
    assert "node one: not checked here" in two.run("history", "verify")
    backup = one.store.with_name("backup")
    shutil.copytree(one.store, backup, symlinks=True)
    for number in range(3):
        publish(one, f"later {number}")
    assert verified(one)[0] == 0
    shutil.rmtree(one.store)
    backup.rename(one.store)
    code, nodes, _ = verified(one)
    assert code == 1 and nodes["one"]["state"] == "failed" and nodes["two"]["state"] == "not checked here"
    assert "its end was cut" in nodes["one"]["faults"][0]
    publish(one, "after the backup")
    code, nodes, report = verified(two)
    assert (code, nodes["one"]["state"], nodes["two"]["state"]) == (1, "failed", "verified")
    assert not report["faults"], "its own chains are whole"
    shown = two.try_run("history", "verify")
    assert "node one: events:" in shown.stderr and "an older state was restored" in shown.stderr
    engine.rename(engine.with_name("away"))
    code, nodes, report = verified(two)
    assert code == 1 and not nodes and report["log_fault"]


@pytest.mark.long
def test_erasure_of_one_version_is_refused_and_names_the_command_for_all_nodes(
    make: Callable[[str], Live],  # noqa: F811 — the fixture
    engine: Path,  # noqa: F811 — the fixture
) -> None:
    one = make("one")
    write(one, "x.md", "the first text, which is longer than thirty-two bytes\n")
    one.run("sync")
    (version, *_) = json.loads(one.run("log", "memory/shared/x.md", "--json"))
    write(one, "x.md", "the second text\n")
    one.run("sync")
    before = [file.read_bytes() for file in entry_files(engine)]
    with session(str(one.store)) as opened, pytest.raises(CommandError, match="this store is shared") as refused:
        opened.call("redact_version", path="memory/shared/x.md", at=version["revision"])
    assert "ctxfs forget PATH" in refused.value.remedy
    assert [file.read_bytes() for file in entry_files(engine)] == before
    assert "the first text" in one.run("show", "memory/shared/x.md", "--at", version["revision"])
    one.run("forget", "memory/shared/x.md", "--yes")
    assert not any(b"the first text" in file.read_bytes() for file in entry_files(engine))
