"""Test the reports of the folder watcher, with real directories and inotify."""

from collections.abc import Callable
from pathlib import Path

import trio

from ctxfs.daemon.watch import Changes, FolderWatch, Watcher, group_by_directory


def seen(top: Path, act: Callable[[], object]) -> Changes:
    """Return the report of the changes that `act` makes."""
    reported: Changes = {}

    async def run() -> None:
        watcher = Watcher(reported.update)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watcher.run)
            await watcher.set_roots([str(top)], [])
            act()
            await watcher.report()
            nursery.cancel_scope.cancel()

    trio.run(run)
    return reported


def test_name_is_reported_gone_only_if_its_last_event_is_a_deletion(tmp_path: Path) -> None:
    names = ("deleted", "replaced", "moved", "changed", "stays")
    for name in names:
        (tmp_path / name).write_text("x")

    def act() -> None:
        (tmp_path / "deleted").unlink()
        (tmp_path / "replaced").unlink()
        (tmp_path / "replaced").write_text("y")
        (tmp_path / "moved").rename(tmp_path / "target")
        (tmp_path / "changed").write_text("y")
        (tmp_path / "brief").write_text("x")
        (tmp_path / "brief").unlink()

    assert seen(tmp_path, act) == {
        str(tmp_path): {
            ("deleted",): True,
            ("replaced",): False,
            ("moved",): True,
            ("target",): False,
            ("changed",): False,
            ("brief",): True,
        }
    }


def test_all_names_in_a_new_directory_are_reported(tmp_path: Path) -> None:
    def act() -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "unseen").write_text("x")

    assert seen(tmp_path, act)[str(tmp_path)] == {("new",): False, ("new", ""): False}


def test_watchers_receive_changes_by_directory() -> None:
    places = {("a", "x"): False, ("a", "y"): True, ("z",): True}
    assert group_by_directory(places) == [(["a"], ["x"], ["y"]), ([], [], ["z"])]
    assert group_by_directory({("a", "x"): False, (): False}) == [([], [], [])]


def test_folder_watch_sees_each_way_of_changing_a_file_but_nothing_below(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "rules").write_text("x")

    async def run() -> dict[str, bool]:
        watch = FolderWatch(str(tmp_path))
        results = {}
        for name, act in {
            "nothing": lambda: None,
            "written": lambda: (tmp_path / "rules").write_text("y"),
            "created": lambda: (tmp_path / "new").touch(),
            "renamed": lambda: (tmp_path / "new").rename(tmp_path / "rules"),
            "deleted": lambda: (tmp_path / "rules").unlink(),
            "below": lambda: (tmp_path / "below" / "x").write_text("z"),
        }.items():
            act()
            results[name] = await watch.wait(0.01)
        watch.close()
        return results

    assert trio.run(run) == {
        "nothing": False, "written": True, "created": True, "renamed": True, "deleted": True, "below": False,
    }  # fmt: skip


def test_folder_watch_of_a_missing_folder_is_inactive(tmp_path: Path) -> None:
    async def run() -> bool:
        watch = FolderWatch(str(tmp_path / "gone"))
        try:
            return watch.is_active or await watch.wait(0.01)
        finally:
            watch.close()

    assert trio.run(run) is False
