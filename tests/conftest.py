"""Fixtures: a corpus, stores, and one daemon with a real mount that most mount tests share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.fuse.mounting import clear_dead, dead_mounts
from ctxfs.store.layout import Layout, create_store
from tests.live import Live, make_corpus


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers() -> None:
    """A run that was killed, its daemons with it, leaves dead mounts in its temporary folders, and `ctxfs doctor` says so."""
    for at in dead_mounts():
        if at.is_relative_to(tempfile.gettempdir()) and not _is_of_running_session(at):
            clear_dead(at)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Stores of tests are not among those that the user has confirmed."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


def _is_of_running_session(at: Path) -> bool:
    """True below the folder of a session whose process lives: its tests may have killed the mount to look at it dead."""
    for folder in at.parents:
        lock = folder / ".lock"  # pytest's, with its pid
        if lock.exists():
            return Path(f"/proc/{lock.read_text().strip() or 0}").exists()
    return False


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An empty store."""
    return create_store(tmp_path / "store")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A small folder of real kinds of files."""
    return make_corpus(tmp_path / "corpus")


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A store with a corpus, its daemon and a mount point; shared, so tests use places of their own in it."""
    folder = tmp_path_factory.mktemp("live")
    made = Live(folder)
    made.corpus = make_corpus(folder / "corpus")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook")
    made.run("add", str(make_corpus(folder / "drafts")), "--name", "drafts", "--writable")
    made.run("mount", str(made.at))
    try:
        made.wait_idle()
        yield made
        assert made.errors() == [], "errors.jsonl is not empty after the tests"
    finally:
        made.close()


@pytest.fixture
def own_live(tmp_path: Path) -> Iterator[Live]:
    """A store, daemon and mount point of the test's own, for tests that break things."""
    made = Live(tmp_path)
    made.corpus = make_corpus(tmp_path / "corpus")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook")
    made.run("mount", str(made.at))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def offline(tmp_path: Path) -> Live:
    """A store with a source and no daemon."""
    made = Live(tmp_path)
    made.corpus = make_corpus(tmp_path / "corpus")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook")
    return made
