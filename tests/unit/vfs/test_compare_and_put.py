"""Test that the second of two edits of one file version is refused, for any content."""

import errno
import hashlib
from pathlib import Path

import pytest
import trio

from ctxfs.model.change import ABSENT, Move, Put, Remove
from ctxfs.model.path import Path as TreePath
from ctxfs.store.folder import Folder
from ctxfs.vfs.compare_and_put import CompareAndPut

FILE = TreePath.parse("notes/x.md")


@pytest.fixture
def tree(tmp_path: Path) -> CompareAndPut:
    (tmp_path / "notes").mkdir()
    return CompareAndPut(Folder(str(tmp_path), writable=True))


def revision(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def refused(tree: CompareAndPut, data: bytes, expects: str) -> int | None:
    with pytest.raises(OSError) as caught:
        trio.run(tree.apply, Put(FILE, data, {}, expects))
    return caught.value.errno


def test_put_replaces_the_expected_content_only(tree: CompareAndPut) -> None:
    assert refused(tree, b"one", revision(b"none")) == errno.ESTALE
    trio.run(tree.apply, Put(FILE, b"one", {}, ABSENT))
    assert refused(tree, b"two", ABSENT) == errno.EEXIST
    trio.run(tree.apply, Put(FILE, b"two", {}, revision(b"one")[:8]))
    assert refused(tree, b"three", revision(b"one")) == errno.ESTALE
    assert refused(tree, b"three", "two") == errno.EINVAL
    assert refused(tree, b"three", revision(b"two")[:7]) == errno.EINVAL
    assert trio.run(tree.read, FILE) == b"two"
    trio.run(tree.apply, Put(FILE, b"free"))


def test_a_file_is_removed_and_renamed_in_the_expected_version_only(tree: CompareAndPut) -> None:
    trio.run(tree.apply, Put(FILE, b"one"))
    other = TreePath.parse("notes/y.md")
    for change in (Remove(FILE, revision(b"two")), Move(FILE, other, revision(b"two"))):
        with pytest.raises(OSError) as caught:
            trio.run(tree.apply, change)
        assert caught.value.errno == errno.ESTALE
    trio.run(tree.apply, Move(FILE, other, revision(b"one")))
    trio.run(tree.apply, Remove(other, revision(b"one")))
    with pytest.raises(OSError) as caught:
        trio.run(tree.apply, Remove(other, revision(b"one")))
    assert caught.value.errno == errno.ESTALE


def test_one_of_many_simultaneous_puts_wins(tree: CompareAndPut) -> None:
    trio.run(tree.apply, Put(FILE, b"base"))
    won: list[int] = []

    async def write(number: int) -> None:
        try:
            await tree.apply(Put(FILE, b"%d" % number, {}, revision(b"base")))
        except OSError as error:
            assert error.errno == errno.ESTALE
        else:
            won.append(number)

    async def race() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(write, number)

    trio.run(race)
    assert len(won) == 1
    assert trio.run(tree.read, FILE) == b"%d" % won[0]
