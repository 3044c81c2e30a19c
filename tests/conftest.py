"""Provide a corpus, stores, and one shared daemon with a real mount to the tests."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.fuse.mounting import clear_dead, dead_mounts
from ctxfs.store.layout import Layout, create_store
from tests.live import Live, make_corpus

HERE = Path(__file__).parent
# Slow modules and folders. They run only if the command line names files or a mark (`-m long`), so that the default run
# stays below seven minutes. `make test-long`, `test-leaks` and `test-crash` run them.
LONG = [
    HERE / name
    for name in (
        "crash",
        "exec",
        "fuse/test_acl.py",
        "fuse/test_agents_md.py",
        "fuse/test_contexts.py",
        "fuse/test_corruption.py",
        "fuse/test_external_changes.py",
        "fuse/test_host_failures.py",
        "fuse/test_lifecycle.py",
        "fuse/test_locks.py",
        "fuse/test_open_file_cache.py",
        "fuse/test_policy.py",
        "fuse/test_read_only.py",
        "fuse/test_service.py",
        "fuse/test_versions.py",
        "fuse/test_working_directory.py",
        "mcp_client",
        "mcp_server/test_clients.py",
        "policy/test_rule_history.py",
        "posix/test_random.py",
        "serve",
        "spec/test_leaks.py",
        "test_contexts_cli.py",
        "trust/test_derived_text.py",
        "trust/test_expressions.py",
        "trust/test_forged_names.py",
        "trust/test_frozen.py",
        "trust/test_git_environment.py",
        "trust/test_git_folders.py",
        "trust/test_hostile_files.py",
        "trust/test_injected_transcripts.py",
        "trust/test_marks.py",
        "trust/test_network_neighbours.py",
        "trust/test_orphans.py",
        "trust/test_other_users.py",
        "trust/test_patterns.py",
        "trust/test_store_discovery.py",
        "trust/test_supersedes.py",
        "web/test_access.py",
        "web/test_contexts.py",
        "web/test_hostile_content.py",
        "web/test_now.py",
        "web/test_rights.py",
        "web/test_time.py",
    )
]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the modules and folders of `LONG` by default."""
    return True if collection_path in LONG and not _is_named(config) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the mark `long` to the tests of `LONG`, and leave out the tests with this mark by default."""
    for item in items:
        if any(item.path.is_relative_to(entry) for entry in LONG):
            item.add_marker("long")
    if not _is_named(config):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]


def _is_named(config: pytest.Config) -> bool:
    """Return True if the command line names files or a mark."""
    return bool(config.args_source is pytest.Config.ArgsSource.ARGS or config.option.markexpr)


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers() -> None:
    """Remove dead mounts of an earlier run that was killed with its daemons, because `ctxfs doctor` reports them."""
    for at in dead_mounts():
        if at.is_relative_to(tempfile.gettempdir()) and not _is_of_running_session(at):
            clear_dead(at)


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the stores of tests out of the user's list of confirmed stores."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


def _is_of_running_session(at: Path) -> bool:
    """Return True for a path of a pytest run that is still alive.

    Its tests may have killed the mount in order to examine a dead one.
    """
    for folder in at.parents:
        lock = folder / ".lock"  # pytest's lock file, with its pid
        if lock.exists():
            return Path(f"/proc/{lock.read_text().strip() or 0}").exists()
    return False


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Return an empty store."""
    return create_store(tmp_path / "store")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a small folder with real kinds of files."""
    return make_corpus(tmp_path / "corpus")


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a shared store with a corpus, its daemon and a mount point; each test uses its own paths in it."""
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
    """Yield a store, daemon and mount point of the test's own, for tests that break things."""
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
    """Return a store with a source and without a daemon."""
    made = Live(tmp_path)
    made.corpus = make_corpus(tmp_path / "corpus")
    made.run("init")
    made.run("add", str(made.corpus), "--name", "handbook")
    return made
