"""Test shared stores whose engine is far away, and publications of many files that are interrupted."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from ctxfs.shared.engines import open_log
from ctxfs.shared.log import SharedLog, Unreachable
from tests.shared.engines import PASSWORD, Postgres, Proxy
from tests.shared.test_node import Member, check_equal, settle

_DELAY_SECONDS = 0.1  # in each direction
_MAX_REQUESTS = 4  # of a publication: the turn, the entries of others, the entry
_MAX_SECONDS = 5.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str, Callable[[], SharedLog]], Member]]:
    """Return a function that makes a node from its name and the function that opens its engine."""
    with contextlib.ExitStack() as stack:

        def make_member(name: str, connect: Callable[[], SharedLog]) -> Member:
            member = Member(tmp_path, name, "s", connect)
            stack.callback(member.close)
            return member

        yield make_member


def test_engine_of_high_latency_is_used_with_few_requests(
    postgres: Postgres, store_name: str, make: Callable[[str, Callable[[], SharedLog]], Member]
) -> None:
    proxy = Proxy(postgres.port)
    proxy.delay_seconds = _DELAY_SECONDS
    try:
        one, two = (
            make(name, lambda: open_log(postgres.url(proxy.port), store_name, PASSWORD, create=True))
            for name in ("one", "two")
        )
        settle(one, two)
        two.write("memory/a/two.md", "2\n")
        two.node.exchange()
        one.write("memory/a/one.md", "1\n")
        before, start = proxy.requests, time.monotonic()
        result = one.node.exchange()
        assert (result.taken, result.published) == (1, 1)
        assert time.monotonic() - start < _MAX_SECONDS
        assert proxy.requests - before <= _MAX_REQUESTS
        settle(two, one)
        check_equal(one, two)
        one.close()
        two.close()
    finally:
        proxy.close()


class Interrupted:
    """An engine that becomes unreachable after some contents were sent."""

    def __init__(self, log: SharedLog, puts: int) -> None:
        self._log = log
        self._left = puts

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def put(self, sha256: str, source: BinaryIO) -> None:
        if not self._left:
            raise Unreachable("cut off")
        self._left -= 1
        self._log.put(sha256, source)


@pytest.mark.long
def test_first_publication_that_is_interrupted_sends_the_rest(
    tmp_path: Path, make: Callable[[str, Callable[[], SharedLog]], Member]
) -> None:
    """The packs that the engine has are not sent again; others see nothing before all are there."""
    (tmp_path / "engine").mkdir()
    limits = [2, 1]

    def connect() -> SharedLog:
        log = open_log(f"file://{tmp_path}/engine", "s", create=True)
        return Interrupted(log, limits.pop(0)) if limits else log  # type: ignore[return-value]

    one = make("one", connect)
    for number in range(4):
        one.write(f"pad/{number}.bin", bytes([number]) * 90_000)
    for number in range(400):
        one.write(f"memory/a/{number}.md", f"{number}\n" * 20_000)
    with pytest.raises(Unreachable):
        one.node.exchange()
    contents = {file.name: file.stat().st_ino for file in (tmp_path / "engine/s/contents").glob("*/*")}
    assert len(contents) == 2
    one.restart()
    with pytest.raises(Unreachable):
        one.node.exchange()
    one.restart()
    two = make("two", lambda: open_log(f"file://{tmp_path}/engine", "s"))
    assert two.node.connection is None
    settle(one, two)
    check_equal(one, two)
    now = {file.name: file.stat().st_ino for file in (tmp_path / "engine/s/contents").glob("*/*")}
    assert contents.items() <= now.items()


@pytest.mark.long
def test_ten_thousand_files_at_once_reach_the_other_node(
    tmp_path: Path, make: Callable[[str, Callable[[], SharedLog]], Member]
) -> None:
    (tmp_path / "engine").mkdir()
    one, two = (make(name, lambda: open_log(f"file://{tmp_path}/engine", "s", create=True)) for name in ("one", "two"))
    settle(one, two)
    two.write("memory/b/two.md", "2\n")
    for number in range(10_000):
        file = one.past.tree / f"memory/a/{number % 100}/{number}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}\n")
    one.past.note("tree", "memory/a")
    result = one.node.exchange()
    assert result.published == 1
    settle(two, one)
    assert sum(1 for _ in (two.past.tree / "memory/a").glob("*/*.md")) == 10_000
    check_equal(one, two)
