"""Memories that do not fit their kind are named, in bounded time, and not once they fit."""

import os
from pathlib import Path

from ctxfs.services.kind_remarks import KindRemarks
from ctxfs.store.memory_file import MemoryFile


def write(tree: Path, path: str, text: str = "The keys are rotated.\n", **attributes: str) -> Path:
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    for name, value in attributes.items():
        os.setxattr(file, f"user.ctx.{name}", value.encode())
    return file


def remarks_of(tmp_path: Path) -> KindRemarks:
    return KindRemarks(tmp_path, MemoryFile(tmp_path / "memory.toml"))


def test_memories_are_checked_by_attribute_folder_and_front_matter(tmp_path: Path) -> None:
    whole = {"source": "a.md", "confidence": "0.9"}
    write(tmp_path, "memory/alice/fact/whole.md", **whole)
    write(tmp_path, "memory/alice/fact/poor.md")
    write(tmp_path, "memory/alice/notes/labelled.md", kind="fact")
    write(tmp_path, "memory/shared/typed.md", "---\ntype: fact\nsource: x\n---\n\nOne.\n")
    write(tmp_path, "memory/alice/notes/free.md")
    write(tmp_path, "memory/alice/procedural/deploy/SKILL.md", "---\nname: deploy\n---\n")
    write(tmp_path, "memory/alice/procedural/deploy/run/x.sh")
    write(tmp_path, "memory/alice/procedural/alone.md")
    write(tmp_path, "pad/t/fact/x.md", kind="fact")
    report = remarks_of(tmp_path).check(60)
    assert report.is_complete
    assert dict(report.remarks) == {
        "memory/alice/fact/poor.md": "fact: no source; no confidence",
        "memory/alice/notes/labelled.md": "fact: no source; no confidence",
        "memory/shared/typed.md": "fact: no confidence",
        "memory/alice/procedural/alone.md": "procedural: no SKILL.md in its folder",
    }


def test_remark_disappears_with_its_cause_and_with_its_file(tmp_path: Path) -> None:
    file = write(tmp_path, "memory/alice/fact/poor.md")
    gone = write(tmp_path, "memory/alice/fact/gone.md")
    remarks = remarks_of(tmp_path)
    assert len(remarks.check(60).remarks) == 2
    os.setxattr(file, "user.ctx.source", b"a.md")
    gone.unlink()
    assert dict(remarks.check(60).remarks) == {"memory/alice/fact/poor.md": "fact: no confidence"}
    (tmp_path / "memory.toml").write_text("[kind.fact]\nmust = ['source']\n")
    os.utime(tmp_path / "memory.toml", (1, 1))
    assert dict(remarks.check(60).remarks) == {}


def test_many_memories_are_checked_in_turn(tmp_path: Path) -> None:
    for number in range(100):
        write(tmp_path, f"memory/alice/fact/{number}.md")
    clock = iter(range(1_000_000))
    remarks = KindRemarks(tmp_path, MemoryFile(tmp_path / "memory.toml"), lambda: float(next(clock)))
    first = remarks.check(2)
    assert not first.is_complete
    assert 0 < first.checked < 100
    while not (report := remarks.check(2)).is_complete:
        pass
    assert report.checked == len(report.remarks) == 100
