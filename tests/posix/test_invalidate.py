"""Test the invalidations for external changes: the kernel gets as many as it needs, and none for its own changes."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ctxfs.daemon.watch import group_by_directory
from ctxfs.fuse.invalidate import Invalidator, Notifier
from tests.posix.kernel import ROOT, PretendKernel


class Caches:
    """A recorder of invalidations."""

    can_expire = True

    def __init__(self) -> None:
        self.inodes: list[int] = []
        self.entries: list[tuple[int, bytes]] = []
        self.expired: list[tuple[int, bytes]] = []

    def invalidate_inode(self, number: int) -> None:
        self.inodes.append(number)

    def invalidate_attributes(self, number: int) -> None:
        self.inodes.append(number)

    def expire_entry(self, parent: int, name: bytes) -> None:
        self.expired.append((parent, name))

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self.entries.append((parent, name))


class Told(Notifier):
    """A notifier that sends at once."""

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self.stop()

    def _put(self, call, urgent: bool) -> None:  # type: ignore[no-untyped-def]
        call()


class Place:
    def __init__(self, folder: Path) -> None:
        self.top = folder / "top"
        self.top.mkdir()
        self.kernel = PretendKernel(self.top, folder / "journal")
        pad = self.kernel.lookup(ROOT, b"pad")
        assert pad is not None
        self.pad = pad.number
        self.caches = Caches()
        self.invalidator = Invalidator(self.kernel.state, Told(self.caches))

    def changed(self, *places: list[str]) -> None:
        self._tell(places, gone=False)

    def gone(self, *places: list[str]) -> None:
        """Report paths whose last event was a deletion."""
        self._tell(places, gone=True)

    def _tell(self, places: Iterable[list[str]], *, gone: bool) -> None:
        self.invalidator.invalidate_changes(str(self.top), group_by_directory({tuple(parts): gone for parts in places}))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.kernel.close()


def test_changes_by_the_mount_send_no_invalidation(place: Place) -> None:
    seen, fh = place.kernel.create(place.pad, b"f", 0o644, os.O_RDWR)
    place.kernel.release(seen.number, fh)
    place.kernel.getattr(seen.number)
    place.kernel.getattr(place.pad)
    place.changed(["f"])
    assert not place.caches.inodes and not place.caches.entries


def test_external_change_sends_an_invalidation(place: Place) -> None:
    (place.top / "f").write_text("one")
    seen = place.kernel.lookup(place.pad, b"f")
    assert seen is not None
    (place.top / "f").write_text("two, longer")
    place.changed(["f"])
    assert seen.number in place.caches.inodes


@pytest.mark.parametrize("can_expire", [True, False])
def test_creation_of_a_cached_absent_name_sends_an_invalidation(place: Place, can_expire: bool) -> None:
    """The name is only expired, because a process may have entered a new directory before the notice arrives."""
    place.caches.can_expire = can_expire
    assert place.kernel.lookup(place.pad, b"f") is None
    (place.top / "f").write_text("x")
    place.changed(["f"])
    assert place.caches.expired == ([(place.pad, b"f")] if can_expire else [])
    assert place.caches.entries == ([] if can_expire else [(place.pad, b"f")])


def test_deletion_of_a_cached_name_sends_an_invalidation(place: Place) -> None:
    (place.top / "f").write_text("one")
    assert place.kernel.lookup(place.pad, b"f") is not None
    (place.top / "f").unlink()
    place.gone(["f"])
    assert (place.pad, b"f") in place.caches.entries and place.pad in place.caches.inodes


def test_deletion_by_the_mount_sends_no_invalidation(place: Place) -> None:
    seen, fh = place.kernel.create(place.pad, b"f", 0o644, os.O_RDWR)
    place.kernel.release(seen.number, fh)
    place.kernel.unlink(place.pad, b"f")
    place.kernel.getattr(place.pad)
    place.gone(["f"])
    assert not place.caches.inodes and not place.caches.entries


def test_recreated_name_is_invalidated_when_its_event_arrives(place: Place) -> None:
    seen, fh = place.kernel.create(place.pad, b"f", 0o644, os.O_RDWR)
    place.kernel.release(seen.number, fh)
    place.kernel.unlink(place.pad, b"f")
    assert place.kernel.lookup(place.pad, b"f") is None
    (place.top / "f").write_text("another")
    place.gone(["f"])
    place.changed(["f"])
    assert (place.pad, b"f") in place.caches.expired and place.pad in place.caches.inodes


def test_listing_with_an_equal_time_stamp_is_read_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older kernels count time in steps of milliseconds: two changes may have the same time stamp."""
    monkeypatch.setattr("ctxfs.fuse.attributes.version_of", lambda found: (0, 0, 0, 0))
    place.kernel.names(place.pad, 4096)
    for node in place.kernel.state.nodes:
        node.reported = (0, 0, 0, 0)
    (place.top / "new").write_text("x")
    place.changed(["new"])
    assert place.pad in place.caches.inodes


def test_every_name_of_a_new_directory_is_revalidated(place: Place) -> None:
    """A new directory is not watched at first: files may come and go in it without an event."""
    (place.top / "d").mkdir()
    folder = place.kernel.lookup(place.pad, b"d")
    assert folder is not None
    (place.top / "d" / "gone").write_text("x")
    assert place.kernel.lookup(folder.number, b"gone") is not None
    assert place.kernel.lookup(folder.number, b"come") is None
    (place.top / "d" / "gone").unlink()
    (place.top / "d" / "come").write_text("x")
    place.changed(["d"], ["d", ""])
    assert (folder.number, b"gone") in place.caches.entries
    assert (folder.number, b"come") in place.caches.expired


def test_event_overflow_invalidates_all_cached_entries(place: Place) -> None:
    numbers = set()
    for name in (b"a", b"b"):
        (place.top / os.fsdecode(name)).write_text("x")
        seen = place.kernel.lookup(place.pad, name)
        assert seen is not None
        numbers.add(seen.number)
    place.changed([])
    assert numbers <= set(place.caches.inodes)
    assert {(place.pad, b"a"), (place.pad, b"b")} <= set(place.caches.expired)


def test_unchanged_directories_keep_their_entries_without_expiry(place: Place) -> None:
    """Before Linux 6.2, dropping an entry also drops the working directories below it."""
    place.caches.can_expire = False
    (place.top / "f").write_text("x")
    for name in (b"stays", b"goes"):
        (place.top / os.fsdecode(name)).mkdir()
    numbers = {}
    for name in (b"f", b"stays", b"goes"):
        seen = place.kernel.lookup(place.pad, name)
        assert seen is not None
        numbers[name] = seen.number
    (place.top / "goes").rmdir()
    place.changed([])
    assert set(place.caches.entries) >= {(place.pad, b"f"), (place.pad, b"goes")}
    assert (place.pad, b"stays") not in place.caches.entries and (ROOT, b"pad") not in place.caches.entries
    assert numbers[b"stays"] in place.caches.inodes
