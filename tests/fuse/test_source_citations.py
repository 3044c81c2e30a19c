"""Citations of files whose `user.ctx.source` is set with the kernel's calls."""

import hashlib
import itertools
import os
import subprocess
from pathlib import Path

import pytest

from tests.live import Live

pytestmark = pytest.mark.fuse

SOURCE = "knowledge/handbook/rotation.md"
CITES, HOLDS, NAME = "user.ctx.cites", "user.ctx.holds", "user.ctx.source"


@pytest.fixture
def folder(live: Live, request: pytest.FixtureRequest) -> Path:
    """Return a directory in memory for this test alone."""
    made = live.at / "memory" / "cited" / "fact" / hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    made.mkdir(parents=True)
    return made


def cited(file: Path) -> list[str]:
    """Return the lines that a file cites."""
    if CITES not in os.listxattr(file):
        return []
    return [line.split(" ")[0] for line in os.getxattr(file, CITES).decode().splitlines()]


def fact(file: Path, source: str = "") -> Path:
    file.write_text("Signing keys are rotated every ninety days with keyctl.\n")
    if source:
        os.setxattr(file, NAME, source.encode())
    return file


@pytest.mark.parametrize(("lines", "cites"), [(":7", ":7-7"), (":5-7", ":5-7"), ("#L7", ":7-7"), ("#L5-L7", ":5-7")])
def test_source_with_lines_is_cited_when_its_attribute_is_set(folder: Path, lines: str, cites: str) -> None:
    file = fact(folder / "a.md")
    subprocess.run(["setfattr", "-n", NAME, "-v", SOURCE + lines, str(file)], check=True)
    assert cited(file) == [SOURCE + cites]
    assert os.getxattr(file, HOLDS) == b"holds"


@pytest.mark.parametrize(
    "source", [SOURCE, f"{SOURCE}:999", "mail:123#4-9", "knowledge/handbook/none.md:1", "a.md:1 x"]
)
def test_source_without_lines_of_the_tree_is_not_cited(folder: Path, source: str) -> None:
    file = fact(folder / "a.md", source)
    assert os.getxattr(file, NAME) == source.encode()
    assert not cited(file)


def test_another_source_replaces_the_citations(folder: Path) -> None:
    file = fact(folder / "a.md", f"{SOURCE}:7")
    os.setxattr(file, NAME, f"{SOURCE}:5".encode())
    assert cited(file) == [f"{SOURCE}:5-5"]
    with file.open("a") as opened:
        os.setxattr(opened.fileno(), NAME, f"{SOURCE}:3".encode())
        assert cited(file) == [f"{SOURCE}:3-3"]


def test_explicit_citations_are_kept_by_the_first_source(live: Live, folder: Path) -> None:
    file = fact(folder / "a.md")
    live.run("cite", str(file.relative_to(live.at)), f"{SOURCE}:3")
    os.setxattr(file, NAME, f"{SOURCE}:7".encode())
    assert cited(file) == [f"{SOURCE}:3-3"]


def test_files_copied_in_a_batch_have_citations(folder: Path, tmp_path: Path) -> None:
    """The copied files come from elsewhere, so they have a source and no citations."""
    for number in range(20):
        fact(tmp_path / f"{number:02}.md", f"{SOURCE}:{number % 7 // 2 * 2 + 1}")
    subprocess.run(["cp", "-a", f"{tmp_path}/.", str(folder / "copies")], check=True)
    copies = sorted((folder / "copies").iterdir())
    assert [os.getxattr(file, HOLDS) for file in copies] == [b"holds"] * 20


@pytest.mark.parametrize("order", list(itertools.permutations((NAME, CITES))))
@pytest.mark.parametrize("old", ["", f"{SOURCE}:7", "memory/cited/source.md:1"])
def test_copy_keeps_the_citations_of_its_original(live: Live, folder: Path, order: tuple[str, str], old: str) -> None:
    """A copy of a fact whose source has changed must not hold: its citation is that of the original."""
    source = live.at / "memory" / "cited" / "source.md"
    source.write_text("Rotate the signing keys every ninety days with keyctl, then tell the auditors of it.\n")
    original = fact(folder / "a.md", "memory/cited/source.md:1")
    source.write_text("Nothing is written here any more.\n")
    copy = fact(folder / f"{order.index(NAME)}-{old.count('/')}.md", old)
    for name in order:
        os.setxattr(copy, name, os.getxattr(original, name))
    assert os.getxattr(copy, CITES) == os.getxattr(original, CITES)
    assert os.getxattr(copy, HOLDS) == b"gone"


def test_agent_gets_citations_of_what_it_may_read_only(own_live: Live) -> None:
    live = own_live
    config = live.store / "ctxfs.toml"
    denied = 'principal = "agent:*"\npath = "knowledge/handbook/src"\nverbs = "lrwxa"\neffect = "deny"\n'
    config.write_text(config.read_text() + f"\n[[rule]]\n{denied}")
    live.run("unmount", "--all")
    at = live.at.parent / "mnt-alice"
    live.run("mount", str(at), "--as", "agent:alice")
    (at / "memory" / "alice" / "fact").mkdir(parents=True)
    hidden = fact(at / "memory/alice/fact/hidden.md", "knowledge/handbook/src/retry.py:1")
    assert os.getxattr(hidden, NAME) == b"knowledge/handbook/src/retry.py:1"
    assert not cited(hidden)
    seen = fact(at / "memory/alice/fact/seen.md", f"{SOURCE}:7")
    assert cited(seen) == [f"{SOURCE}:7-7"]
