"""Test that a change by a session is not attributed to the store's owner, however slow it is."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from ctxfs.app import App
from ctxfs.daemon.commit_service import CommitService
from ctxfs.daemon.mountpoints import Mountpoints
from ctxfs.model.change import Change, Put
from ctxfs.model.path import Path as TreePath
from ctxfs.model.principal import parse_principal
from ctxfs.store.layout import create_store
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.recording.changes_in_progress import ChangesInProgress
from ctxfs.vfs.mount_wrapper import MountWrapper
from ctxfs.vfs.session import SessionTree
from tests.versions.conftest import Past

AGENT = parse_principal("agent:slow")
PATH = "memory/slow/x.md"


class Changes(ChangesInProgress):
    """Changes in progress with an event for a thread that waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.is_waited_for = threading.Event()

    def wait(self, seconds: float) -> bool:
        self.is_waited_for.set()
        return super().wait(seconds)


class SlowTree(MountWrapper):
    """A tree whose changes are on the disk long before they end: they end when a thread waits for them."""

    def __init__(self, app: App, changes: Changes) -> None:
        super().__init__(app.tree)
        self._changes = changes
        self.changed = trio.Event()

    async def apply(self, change: Change) -> None:
        await super().apply(change)
        self.changed.set()
        assert await trio.to_thread.run_sync(self._changes.is_waited_for.wait, 30)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    made = App(create_store(tmp_path / "store"))
    yield made
    made.grep_pool.close()
    made.archive.close()
    made.spool.close()


@pytest.mark.long  # waits until the work tree has been quiet for two seconds
def test_slow_change_of_a_session_is_attributed_to_its_agent(app: App) -> None:
    changes = app.archive.changes = Changes()
    (app.layout.tree / "memory/slow").mkdir()
    edited = app.layout.tree / "memory/edited.md"
    app.archive.open()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            service = CommitService(app, Mountpoints(app, nursery, None, trio.lowlevel.checkpoint))
            nursery.start_soon(service.run)
            tree = SlowTree(app, changes)
            journal = app.archive.writer(Actor(str(AGENT), "s1", "mcp"))
            session = SessionTree(tree, None, journal)
            nursery.start_soon(session.apply, Put(TreePath.parse(f"/{PATH}"), b"by the agent"))
            await tree.changed.wait()
            edited.write_text("directly, by the owner")
            service.changed(str(app.layout.tree / "memory"), {("slow", "x.md"), ("edited.md",)})
            with trio.fail_after(30):
                while len(made := _authors(app)) < 2:
                    await trio.sleep(0.02)
            assert made == {PATH: str(AGENT), "memory/edited.md": str(app.principal)}
            journal.close()
            nursery.cancel_scope.cancel()

    trio.run(main)


def _authors(app: App) -> dict[str, str]:
    """Return the author of the newest version of each file of the test."""
    versions = {path: app.archive.reader.versions(path) for path in (PATH, "memory/edited.md")}
    return {path: shown[0].commit.actor.principal for path, shown in versions.items() if shown}


def test_changes_after_a_time_are_left_out_of_direct_edits(past: Past) -> None:
    old, new, gone = (past.tree / "memory/a" / name for name in ("old.md", "new.md", "gone/x.md"))
    past.version("memory/a/gone/x.md", "x")
    old.write_text("old")
    while (before_ns := _file_time(past.tree / "pad/clock")) <= old.stat().st_ctime_ns:
        pass
    gone.unlink()
    paths = [b"memory/a"]
    (made,) = past.archive.commit_nowait(paths, before_ns)
    assert made.subject == "outside memory/a/old.md"
    assert past.archive.commit_nowait(paths, before_ns) == []
    (made,) = past.archive.commit_nowait(paths)
    assert made.subject == "outside: remove memory/a/gone/x.md"
    new.write_text("new")
    assert past.archive.commit_nowait(paths, before_ns) == []
    (made,) = past.archive.commit_nowait(paths)
    assert made.subject == "outside memory/a/new.md"


def _file_time(file: Path) -> int:
    """Return the time that a change of a file has now."""
    file.write_text("x")
    return file.stat().st_ctime_ns


def test_waiting_for_a_change_ends_after_a_time() -> None:
    changes = ChangesInProgress()
    assert changes.wait(0)
    with changes.change():
        assert not changes.wait(0.01)
    assert changes.wait(0)
