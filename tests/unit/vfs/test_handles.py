import errno
from collections.abc import Sequence

import pytest
import trio

from ctxfs.model.change import Change, Put
from ctxfs.model.entry import Entry
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path
from ctxfs.vfs.handles import Handles


class Shelf(Mount):
    """A mount that accepts every Put, or refuses each with EINVAL."""

    def __init__(self, refuse: bool = False) -> None:
        self.refuse = refuse
        self.taken: list[Change] = []

    async def stat(self, path: Path) -> Entry:
        raise NotImplementedError

    async def list(self, path: Path) -> Sequence[Entry]:
        raise NotImplementedError

    async def read(self, path: Path) -> bytes:
        raise NotImplementedError

    async def apply(self, change: Change) -> None:
        if self.refuse:
            raise OSError(errno.EINVAL, "refused")
        self.taken.append(change)


WHERE = Path.parse("context/t/request.toml")


def test_a_reader_keeps_its_snapshot() -> None:
    handles = Handles(Shelf())
    reader = handles.add(WHERE, b"old", writable=False)
    writer = handles.add(WHERE, b"old", writable=True)
    handles.write(writer, 0, b"new")
    assert handles.read(reader, 0, 10) == b"old"
    with pytest.raises(OSError) as caught:
        handles.write(reader, 0, b"x")
    assert caught.value.errno == errno.EBADF


def test_edits_are_put_back_whole_and_once() -> None:
    shelf = Shelf()
    handles = Handles(shelf)
    number = handles.add(WHERE, b"abcdef", writable=True)
    handles.write(number, 8, b"x")
    handles.truncate(number, 10)
    handles.append(number, b"!")
    trio.run(handles.commit, number)
    trio.run(handles.commit, number)
    assert shelf.taken == [Put(WHERE, b"abcdef\0\0x\0!")]


def test_refused_edit_stays_pending_until_it_is_dropped() -> None:
    handles = Handles(Shelf(refuse=True))
    number = handles.add(WHERE, b"", writable=True, dirty=True)
    with pytest.raises(OSError):
        trio.run(handles.commit, number)
    assert handles.pending == [number]
    handles.discard_edits(number)
    assert handles.pending == []


def test_a_gap_that_memory_should_not_hold_is_refused() -> None:
    handles = Handles(Shelf())
    number = handles.add(Path(("f",)), b"x", writable=True)
    for edit in (lambda: handles.write(number, 1 << 40, b"x"), lambda: handles.truncate(number, 1 << 40)):
        with pytest.raises(OSError) as refused:
            edit()
        assert refused.value.errno == errno.EFBIG
    assert handles.size(number) == 1
