"""Test that a file with odd times, depth, size or name affects itself alone and is reported."""

import contextlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.extract.file_reader import to_file_stat
from ctxfs.model.host_numbers import MAX_INT64, MIN_INT64, file_numbers
from ctxfs.rpc.frames import pack_frame
from ctxfs.rpc.wire import entry_from_wire, entry_to_wire
from ctxfs.store.folder import Folder
from ctxfs.versions.objects.name_encoding import MAX_PATH_NAMES
from ctxfs.versions.recording.capture import Capture
from tests.versions.conftest import ALICE, BOB, Past, check_sound

ROOT = Path(__file__).parents[2]
DAYS = (10**10 * 10**9, -(10**10) * 10**9, 2**62 * 4, (1 << 63) - 1, -(1 << 63), -1)


def odd_stat(path: Path, **numbers: int) -> os.stat_result:
    """Return a stat result with numbers that some file systems have and this one may not."""
    real = path.stat()
    fields = {name: getattr(real, name) for name in dir(real) if name.startswith("st_")}
    fields |= numbers
    plain = [fields[f"st_{name}"] for name in "mode ino dev nlink uid gid size atime mtime ctime".split()]
    return os.stat_result(plain, fields)


def test_files_of_any_year_have_versions_and_stop_nothing(past: Past) -> None:
    for number, when in enumerate(DAYS):
        past.write(f"pad/odd-{number}.md", f"odd {number}")
        with contextlib.suppress(
            OverflowError, OSError
        ):  # the values that this file system cannot store are tested below
            os.utime(past.tree / f"pad/odd-{number}.md", ns=(when, when))
    past.write("memory/a/plain.md", "plain")
    past.archive.commit()
    assert past.archive.reader.show("memory/a/plain.md", "latest") == b"plain"
    for number, when in enumerate(DAYS):
        path = f"pad/odd-{number}.md"
        assert past.archive.reader.show(path, "latest") == f"odd {number}".encode()
        past.write(path, f"edited {number}")
        with contextlib.suppress(OverflowError, OSError):
            os.utime(past.tree / path, ns=(when, when))
    past.archive.commit()
    past.close()
    past.reopen()
    for number in range(len(DAYS)):
        assert past.archive.reader.show(f"pad/odd-{number}.md", "latest") == f"edited {number}".encode()
        past.archive.rollbacks.undo(f"pad/odd-{number}.md", ALICE)
        assert (past.tree / f"pad/odd-{number}.md").read_text() == f"odd {number}"
    check_sound(past)
    past.close()


@pytest.mark.parametrize("when", DAYS)
def test_host_numbers_fit_every_format_that_stores_them(tmp_path: Path, when: int) -> None:
    file = tmp_path / "x.md"
    file.write_text("x")
    attributes = odd_stat(file, st_mtime_ns=when, st_ctime_ns=when, st_ino=(1 << 64) - 5, st_size=(1 << 64) - 1)
    numbers = file_numbers(attributes)
    assert all(MIN_INT64 <= number <= MAX_INT64 for number in numbers)
    assert file_numbers(odd_stat(file, st_ino=(1 << 64) - 6)).inode != numbers.inode
    catalog = Catalog(tmp_path / "index")
    try:
        with catalog.transaction():
            catalog.update_stat(
                catalog.put_file("knowledge/x.md", "knowledge", to_file_stat(attributes), None, "text", "words", ""),
                to_file_stat(attributes),
                "",
            )
    finally:
        catalog.close()
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        assert db.execute("SELECT ?, ?, ?, ?, ?", numbers).fetchone() == tuple(numbers)


def test_listing_of_files_of_any_year_crosses_the_wire(tmp_path: Path) -> None:
    import trio

    for number, when in enumerate(DAYS):
        (tmp_path / f"{number}.md").write_text("x")
        with contextlib.suppress(OverflowError, OSError):
            os.utime(tmp_path / f"{number}.md", ns=(when, when))
    from ctxfs.model.path import Path as TreePath

    entries = trio.run(Folder(str(tmp_path), writable=False).list, TreePath())
    assert len(entries) == len(DAYS)
    for entry in entries:
        pack_frame([1, None, entry_to_wire(entry)])
        assert entry_from_wire(entry_to_wire(entry)) == entry


def test_host_numbers_are_read_in_one_module() -> None:
    raw = re.compile(r"(INSERT|UPDATE|Entry\(|packb|remember).*st_(mtime_ns|ctime_ns|ino)\b")
    for package in ("ctxfs", "mounts", "mcp_server"):
        for file in (ROOT / package).rglob("*.py"):
            assert not raw.search(file.read_text()), file
    for name in (
        "ctxfs/index",
        "ctxfs/versions/recording/capture.py",
        "ctxfs/versions/recording/pathindex.py",
        "ctxfs/eventlog",
    ):
        source = ROOT / name
        for file in source.rglob("*.py") if source.is_dir() else [source]:
            text = file.read_text().replace('(folder / "catalog.db").stat().st_ino', "")
            assert not re.search(r"\.st_(mtime_ns|ctime_ns|ino)\b", text), f"{file}: use ctxfs.model.host_numbers"


def make_deep(folder: Path, depth: int) -> None:
    """Make nested directories, deeper than a path can express."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("x.md", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)


def remove_deep(folder: Path) -> None:
    """Remove them without recursion: each directory moves up before it is removed."""
    while (folder / "d").exists():
        (folder / "d").rename(folder / "old")
        for inner in (folder / "old").iterdir():
            inner.unlink() if inner.is_file() else inner.rename(folder / "d")
        (folder / "old").rmdir()


@pytest.fixture
def deep(past: Past) -> Iterator[Past]:
    (past.tree / "pad/deep").mkdir()
    make_deep(past.tree / "pad/deep", 1050)
    yield past
    remove_deep(past.tree / "pad/deep")


def test_deeply_nested_directories_end_no_commit(deep: Past) -> None:
    past, started = deep, time.monotonic()
    past.note("tree", "pad/deep")
    for depth in (1, 10, MAX_PATH_NAMES - 2, 1050):
        past.note("write", "/".join(["pad/deep", *["d"] * depth]))
    past.write("memory/a/plain.md", "plain", BOB)
    past.archive.commit()
    assert past.archive.reader.show("memory/a/plain.md", "latest") == b"plain"
    deepest = "/".join(["pad/deep", *["d"] * (MAX_PATH_NAMES - 2)])
    assert past.archive.reader.was_directory(deepest)
    assert any("directories" in reason for reason in past.archive.status()["unversioned"].values())  # type: ignore[attr-defined]
    past.archive.rollbacks.undo("memory/a/plain.md", BOB)
    past.close()
    past.reopen()
    assert time.monotonic() - started < 120, "a commit of them takes no longer than their number"
    past.close()


def test_file_that_cannot_be_captured_costs_that_file_and_is_named(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = Capture._capture_content

    def failing(self: Capture, path: bytes, *arguments: object, **options: object) -> object:
        if path == b"pad/bad.md":
            raise OverflowError("a number of the host")
        return fresh(self, path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Capture, "_capture_content", failing)
    past.write("pad/bad.md", "bad")
    past.write("memory/a/good.md", "good", BOB)
    past.archive.commit()
    assert past.archive.reader.show("memory/a/good.md", "latest") == b"good"
    unversioned = past.archive.status()["unversioned"]
    assert isinstance(unversioned, dict) and "a number of the host" in unversioned["pad/bad.md"]
    monkeypatch.undo()
    past.version("pad/bad.md", "readable again")
    assert past.archive.status()["unversioned"] == {}
