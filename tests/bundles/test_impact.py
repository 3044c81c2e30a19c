"""Impact: what was built on a file, an origin or a session, and its quarantine, over a store opened in this process."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ctxfs.cli.main import cli
from ctxfs.daemon.session import LocalSession
from ctxfs.model.change import MakeDir, Put
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import Layout, create_store


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = create_store(tmp_path / "store")
    (made.tree / "memory/alice/fact").mkdir(parents=True)
    return made


@pytest.fixture
def opened(layout: Layout) -> Iterator[LocalSession]:
    session = LocalSession(layout)
    yield session
    session.close()


def remember(layout: Layout, name: str, text: str, **attributes: str) -> str:
    file = layout.tree / "memory/alice/fact" / name
    file.write_text(text)
    for key, value in attributes.items():
        os.setxattr(file, f"user.ctx.{key}", value.encode())
    return f"memory/alice/fact/{name}"


def paths(report: dict[str, Any], part: str = "files") -> list[str]:
    return sorted(item["path"] for item in report[part])


def put(opened: LocalSession, path: str, text: str, **attributes: str) -> str:
    values = {f"user.ctx.{name}": value.encode() for name, value in attributes.items()}
    opened.call("apply", change=change_to_wire(Put(TreePath.parse(path), text.encode(), values)))
    return path


def test_chain_of_memories_is_followed_to_its_end_and_a_cycle_ends(layout: Layout, opened: LocalSession) -> None:
    web = remember(layout, "web.md", "The port is 81.", source="https://x.y/z")
    first = remember(layout, "first.md", "Port 81.", source=f"{web}:1-1")
    second = remember(layout, "second.md", "Use port 81.", cites=f"{first}:1-1 deadbeef")
    third = remember(layout, "third.md", "Port 81 it is.", supersedes=second)
    os.setxattr(layout.tree / web, "user.ctx.supersedes", third.encode())
    remember(layout, "other.md", "Something else.", source="memory/alice/fact/web.mdx")
    report = opened.call("impact", path=web)
    assert paths(report) == sorted([first, second, third])
    assert {item["relation"] for item in report["files"]} == {"source", "cites", "supersedes"}
    assert opened.call("impact", origin="https://x.y/z")["seeds"] == [web]
    assert paths(opened.call("impact", origin="https://x.y/z")) == sorted([first, second, third])
    with pytest.raises(Exception, match="no file is of"):
        opened.call("impact", origin="https://nowhere")


def test_source_and_directory_have_the_impact_of_their_files(layout: Layout, opened: LocalSession) -> None:
    kept = remember(layout, "kept.md", "Keys rotate.", source="knowledge/handbook/keys.md:3-4")
    for path in ("knowledge/handbook/keys.md", "knowledge/handbook", "knowledge"):
        assert paths(opened.call("impact", path=path)) == [kept]


def test_session_has_the_impact_of_what_it_wrote(layout: Layout, opened: LocalSession) -> None:
    opened.call("join", session="planted", tool="cli")
    put(opened, "memory/alice/fact/plant.md", "The key is 12345.")
    opened.call("join", session="later", tool="cli")
    opened.call("commit")
    after = put(opened, "memory/alice/fact/after.md", "Key 12345.", source="memory/alice/fact/plant.md:1")
    record = put(opened, "memory/alice/fact/record.md", "Said.", source="history/2026-11-01/planted.jsonl:2")
    report = opened.call("impact", session="planted")
    assert "memory/alice/fact/plant.md" in report["seeds"]
    assert paths(report) == sorted([after, record])


def test_contexts_responses_and_exports_are_named_and_taken_back_at_once(
    layout: Layout, opened: LocalSession, tmp_path: Path
) -> None:
    planted = remember(
        layout, "plant.md", "The staging database password policy needs nine quokkas.", source="tool:web"
    )
    derived = remember(layout, "derived.md", "Nine quokkas are needed by the policy.", source=f"{planted}:1")
    safe = remember(layout, "safe.md", "Backups run at night.")
    opened.call("apply", change=change_to_wire(MakeDir(TreePath.parse("context/task"))))
    put(opened, "context/task/request.toml", f'query = "password policy quokkas"\nbudget = 500\npins = ["{planted}"]\n')
    assert b"quokkas" in opened.call("read", path="context/task/context.md")
    put(opened, "context/task/response.md", "The policy needs nine quokkas.\n")
    opened.call("bundle_files", path="memory/alice")
    report = opened.call("impact", path=planted)
    assert paths(report) == [derived]
    assert "context/task" in paths(report, "contexts")
    assert paths(report, "answers") == ["context/task/response.md"]
    assert [record["path"] for record in report["exports"]] == ["memory/alice"]
    outcome = opened.call("quarantine_impact", origin="tool:web")
    changed = sorted(change["path"] for change in outcome["changes"])
    assert changed == sorted([planted, derived, "context/task/response.md"])
    assert outcome["version"]["op"] == "quarantine"
    for path in changed:
        assert os.getxattr(layout.tree / path, "user.ctx.quarantined") == b"true"
    assert opened.call("quarantine_impact", origin="tool:web")["version"] is None, "a second time changes nothing"
    opened.call("join", principal="agent:alice")
    assert opened.call("read", path=safe)
    for path in (planted, derived):
        with pytest.raises(PermissionError):
            opened.call("read", path=path)
    for method in ("impact", "quarantine_impact"):
        with pytest.raises(PermissionError):
            opened.call(method, path=planted)


def test_command_prints_the_report(layout: Layout) -> None:
    planted = remember(layout, "plant.md", "x", source="tool:web")
    remember(layout, "derived.md", "y", source=f"{planted}:1")
    words = ["--store", str(layout.root), "impact"]
    assert "derived.md  source of" in CliRunner().invoke(cli, [*words, planted]).output
    done = CliRunner().invoke(cli, [*words, "--origin", "tool:web", "--quarantine", "--json"])
    assert len(json.loads(done.output)["changes"]) == 2
    assert CliRunner().invoke(cli, words).exit_code == 2
