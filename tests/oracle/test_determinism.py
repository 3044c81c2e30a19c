"""Test that equal requests over equal trees give equal bytes, in any process, after a rebuild, on any CPU count."""

import os
import shutil
from pathlib import Path

import pytest

from tests.live import Live

REQUESTS = (
    ("how are signing keys rotated", "--budget", "400"),
    ("return a list of files below a directory", "--budget", "3000", "--format", "xml", "--order", "edges"),
    ("parse a date from text", "--budget", "1500", "--compress", "--quota", "code=40%"),
)


def contexts(live: Live, processors: set[int]) -> list[str]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        return [live.run("context", *request) + live.run("context", *request, "--manifest") for request in REQUESTS]
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    made = Live(tmp_path_factory.mktemp("same"))
    made.run("init")
    source = made.store.parent / "source"
    source.mkdir()
    library = Path(os.__file__).parent
    for name in ("glob.py", "shutil.py", "calendar.py"):
        shutil.copy(library / name, source)
    shutil.copytree(Path(__file__).parent.parent.parent / "docs", source / "docs")
    made.run("add", str(source), "--name", "source")
    (made.store / "tree" / "memory" / "shared" / "keys.md").write_text("Signing keys are rotated every ninety days.\n")
    made.run("reindex")
    return made


def lived(live: Live) -> list[str]:
    """Return contexts after repeated rewrites, moves and deletions of files that the index followed."""
    source = live.store.parent / "source"
    for turn in range(12):
        text = (source / "docs" / "reference.md").read_text()
        (source / "docs" / "again.md").write_text(text[turn * 200 :])
        (source / "glob.py").write_text(
            (source / "glob.py").read_text() + f"\n# signing keys, list of files, turn {turn}\n"
        )
        (source / f"calendar{turn}.py").write_text((source / "calendar.py").read_text())
        live.run("reindex")
        (source / f"calendar{turn}.py").unlink()
    (source / "docs" / "again.md").rename(source / "docs" / "once.md")
    (source / "shutil.py").unlink()
    live.run("reindex")
    return contexts(live, os.sched_getaffinity(0))


def everything_anew(live: Live) -> list[str]:
    shutil.rmtree(live.store / "index")
    live.run("reindex")
    return contexts(live, os.sched_getaffinity(0))


def test_processes_rebuilds_and_processors_make_no_difference(live: Live) -> None:
    everywhere = os.sched_getaffinity(0)
    first = contexts(live, everywhere)
    assert all(len(text) > 500 for text in first)
    assert contexts(live, everywhere) == first, "another process"
    assert contexts(live, {min(everywhere)}) == first, "one processor"
    shutil.rmtree(live.store / "index")
    os.environ["PYTHONHASHSEED"] = "12345"
    try:
        live.run("reindex")
        assert contexts(live, everywhere) == first, "an index that was made again"
    finally:
        del os.environ["PYTHONHASHSEED"]
    assert lived(live) == everything_anew(live), "an index that lived through edits"
    first = contexts(live, everywhere)
    config = live.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("# threads = 2", "threads = 1"))
    assert "threads = 1" in config.read_text()
    shutil.rmtree(live.store / "index")
    live.run("reindex")
    assert contexts(live, everywhere) == first, "an index that one thread made"
