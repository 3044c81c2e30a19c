"""Kinds that memory.toml declares: found by `kind:`, shown by attributes, and shown in contexts, as the built-in ones."""

import contextlib
import json
import os
from collections.abc import Iterator

import pytest

from ctxfs.daemon.session import LocalSession
from ctxfs.model.change import Put, SetMeta
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import Layout

RULES = "[kind.decision]\nmust = ['reason']\n"
FILES = {
    "memory/alice/decision/rotate.md": "We rotate the quokka keys in May.\nReason: the audit.\n",
    "memory/bob/decision/deep/leaf.md": "We buy the quokka leaves at the market.\nReason: the price.\n",
    "memory/alice/fact/quokka.md": "A quokka eats leaves.\n",
    "memory/alice/notes/quokka.md": "A quokka sleeps.\n",
    "pad/t/decision/quokka.md": "A quokka in a pad is no decision.\n",
}
DECISIONS = {path for path in FILES if path.startswith("memory/") and "/decision/" in path}


@pytest.fixture
def session(layout: Layout) -> Iterator[LocalSession]:
    config = layout.config
    denied = '\n[[rule]]\nprincipal = "agent:alice"\npath = "memory/bob"\nverbs = "lrwxa"\neffect = "deny"\n'
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false") + denied)
    for path, text in FILES.items():
        file = layout.tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with contextlib.closing(LocalSession(layout)) as opened:
        opened.call("apply", change=change_to_wire(Put(TreePath.parse(".ctxfs/memory.toml"), RULES.encode())))
        yield opened


def found(session: LocalSession, question: str) -> set[str]:
    return {hit["path"] for hit in session.call("search", question=question, limit=50)["hits"]}


def test_declared_kind_is_found_by_its_folder(session: LocalSession) -> None:
    assert found(session, "kind:decision") == DECISIONS
    assert found(session, "kind:decision quokka") == DECISIONS
    assert set(session.call("find", filters="kind:decision")) == DECISIONS
    assert found(session, "kind:decision kind:fact quokka") == {*DECISIONS, "memory/alice/fact/quokka.md"}
    assert found(session, "kind:fact quokka") == {"memory/alice/fact/quokka.md"}
    remarks = session.call("search", question="kind:decision quokka")["remarks"]
    assert not [remark for remark in remarks if "no file is of this kind" in remark]


def test_folder_without_a_declaration_is_no_kind(session: LocalSession) -> None:
    assert found(session, "kind:notes") == set()
    assert "no file is of this kind" in str(session.call("search", question="kind:notes")["remarks"])
    session.call(
        "apply", change=change_to_wire(Put(TreePath.parse(".ctxfs/memory.toml"), b"[kind.notes]\nmust = []\n"))
    )
    assert found(session, "kind:notes") == {"memory/alice/notes/quokka.md"}
    assert found(session, "kind:decision") == set()


def test_own_attribute_precedes_the_folder(session: LocalSession) -> None:
    path = "memory/alice/decision/rotate.md"
    session.call("apply", change=change_to_wire(SetMeta(TreePath.parse(path), "user.ctx.kind", b"fact")))
    other = "memory/alice/notes/quokka.md"
    session.call("apply", change=change_to_wire(SetMeta(TreePath.parse(other), "user.ctx.kind", b"decision")))
    assert found(session, "kind:decision") == {*DECISIONS, other} - {path}
    assert path in found(session, "kind:fact")


def test_context_of_a_declared_kind_has_its_files_only(session: LocalSession) -> None:
    session.call("search", question="quokka")
    request = {"query": "quokka keys and leaves", "kinds": ["decision"], "budget": 900}
    manifest = json.loads(session.call("context", request=request)["manifest"])
    assert {item["path"] for item in manifest["items"]} == DECISIONS


def test_kind_of_another_agent_is_neither_found_nor_named(session: LocalSession, layout: Layout) -> None:
    os.remove(layout.tree / "memory/alice/decision/rotate.md")
    with contextlib.closing(LocalSession(layout)) as alice:
        alice.call("join", principal="agent:alice")
        assert found(alice, "kind:decision") == set()
        assert "no file is of this kind" in str(alice.call("search", question="kind:decision")["remarks"])


def test_declared_kind_is_that_of_results_and_of_quotas(session: LocalSession) -> None:
    hits = session.call("search", question="quokka", limit=50)["hits"]
    kinds = {hit["path"]: hit["kind"] for hit in hits}
    assert {path for path, kind in kinds.items() if kind == "decision"} == DECISIONS
    assert kinds["memory/alice/fact/quokka.md"] == "fact"
    assert "decision" not in kinds["pad/t/decision/quokka.md"]
    session.call("search", question="quokka")
    for quota, expected in (({"decision": 1}, set[str]()), ({"fact": 1}, DECISIONS)):
        request = {"query": "quokka keys and leaves", "budget": 900, "quota": quota}
        manifest = json.loads(session.call("context", request=request)["manifest"])
        assert {item["path"] for item in manifest["items"]} & DECISIONS == expected
        assert ("quota" in {item["reason"] for item in manifest["excluded"]}) == (not expected or "fact" in quota)
