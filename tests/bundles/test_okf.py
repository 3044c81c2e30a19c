"""The Open Knowledge Format: conformance, export of memories, and import as untrusted files."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from ctxfs.bundles.okf import check_concept, check_index, check_log
from ctxfs.cli.main import cli
from ctxfs.store.layout import Layout, create_store


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = create_store(tmp_path / "store")
    (made.tree / "memory/alice/fact").mkdir(parents=True)
    return made


def run(layout: Layout, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["--store", str(layout.root), *words])
    assert done.exit_code == code, (done.output, done.exception)
    return done.output


def test_only_a_type_is_required_and_all_else_is_a_remark() -> None:
    assert check_concept({"type": "Metric"}) == ([], [])
    assert check_concept({"type": "Metric", "unknown": {"a": 1}, "tags": ["x"], "status": "draft"}) == ([], [])
    assert check_concept(None)[0]
    for kind in (None, "", "  ", ["a"], 3):
        assert check_concept({"type": kind})[0] == ["has no type"]
    odd = {"type": "x", "tags": "a b", "status": "old", "stale_after": "soon", "verified": [{}], "sources": ["x"]}
    faults, remarks = check_concept(odd)
    assert not faults
    assert len(remarks) == 5
    assert check_concept({"type": "x", "verified": {"by": "human:ada", "at": "2026-01-01"}}) == ([], [])


@pytest.mark.parametrize(
    ("text", "is_root", "is_sound"),
    [
        ('---\nokf_version: "0.2"\n---\n# A\n\n* [One](one.md) - first\n', True, True),
        ('---\nokf_version: "0.2"\n---\n# A\n', False, False),
        ("---\ntype: Metric\n---\n", True, False),
        ("# A\n\n* [One](one.md)\n* [Two](two/)\n", False, True),
        ("# A\n\n* One\n", False, False),
    ],
)
def test_index_has_links_and_no_front_matter(text: str, is_root: bool, is_sound: bool) -> None:
    assert (not check_index(text, is_root=is_root)) is is_sound


def test_log_has_dates_the_newest_first() -> None:
    assert not check_log("# Log\n\n## 2026-05-22\n* **Update**: x\n\n## 2026-05-15: start\n* y\n")
    assert check_log("## 2026-05-15\n\n## 2026-05-22\n")
    assert check_log("## yesterday\n")


def test_exported_memories_conform_and_come_back_untrusted(layout: Layout, tmp_path: Path) -> None:
    root = layout.tree / "memory/alice/fact"
    (root / "plain.md").write_text("Keys rotate every 90 days.\n")
    for name, value in {
        "kind": "fact",
        "tags": "keys,ops",
        "source": "knowledge/h/keys.md:3",
        "confidence": "0.8",
    }.items():
        os.setxattr(root / "plain.md", f"user.ctx.{name}", value.encode())
    (root / "own.md").write_text("---\ntitle: Own [one]\nowner: ada\n---\nBody.\n")
    (root / "whole.md").write_text("---\ntype: Metric\ntitle: Whole\n---\nBody.\n")
    assert "has no front matter" in run(layout, "okf", "check", "memory/alice", code=6)
    run(layout, "okf", "export", "memory/alice", str(tmp_path / "okf"))
    fact = tmp_path / "okf/fact"
    assert (fact / "whole.md").read_text() == "---\ntype: Metric\ntitle: Whole\n---\nBody.\n", "it is as it was"
    assert (fact / "own.md").read_text().startswith("---\ntitle: Own [one]\nowner: ada\ntype: ")
    plain = (fact / "plain.md").read_text()
    assert plain.startswith("---\ntype: fact\ntags: [keys, ops]\n") and plain.endswith("\nKeys rotate every 90 days.\n")
    assert "[Own (one)](own.md)" in (fact / "index.md").read_text()
    assert 'okf_version: "0.2"' in (tmp_path / "okf/index.md").read_text()
    os.symlink("/etc/passwd", fact / "link.md")
    (fact / ".hidden.md").write_text("x")
    assert "untrusted" in run(layout, "okf", "import", str(tmp_path / "okf"), "memory/bob")
    assert json.loads(run(layout, "okf", "check", "memory/bob", "--json"))["conformant"]
    imported = layout.tree / "memory/bob/fact"
    assert sorted(path.name for path in imported.iterdir()) == ["index.md", "own.md", "plain.md", "whole.md"]
    assert os.getxattr(imported / "plain.md", "user.ctx.trust") == b"untrusted"
    attributes = json.loads(run(layout, "meta", "get", "memory/bob/fact/plain.md", "--json"))
    assert attributes["kind"] == "fact"
    assert attributes["tags"] == "keys, ops"
    assert attributes["confidence"] == "0.8"


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"---\n" + b"[" * 30_000 + b"\n---\nx\n", b"---\na: &x 1\nb: *x\n---\n", b"---\n"]
)
def test_hostile_file_costs_only_itself(layout: Layout, text: bytes) -> None:
    (layout.tree / "memory/alice/fact/bad.md").write_bytes(text)
    (layout.tree / "memory/alice/fact/good.md").write_text("---\ntype: Metric\n---\nx\n")
    report = json.loads(run(layout, "okf", "check", "memory/alice", "--json", code=6))
    assert [row["path"] for row in report["findings"]] == ["fact/bad.md"]
