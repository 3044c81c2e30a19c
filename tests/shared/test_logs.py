"""The contract of engines, over a folder and over PostgreSQL."""

import errno
import hashlib
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctxfs.model.errors import CommandError
from ctxfs.shared.engines import open_log
from ctxfs.shared.entries import FORMAT
from ctxfs.shared.log import (
    ANSWER_SECONDS,
    TURN,
    EntryKind,
    Head,
    LogDamaged,
    LogRefused,
    TurnLost,
    Unreachable,
    all_entries,
)
from tests.shared.conftest import Opener
from tests.shared.engines import PASSWORD, Postgres, Proxy
from tests.shared.writer import entry_after

SECONDS = 30


def test_entries_come_back_as_they_were_appended(opened: Opener) -> None:
    log = opened()
    assert log.head() == Head(0, "")
    assert log.entries(0, 10) == []
    first = replace(entry_after(log), kind=EntryKind.JOIN, anchor="a b", objects=bytes(range(256)))
    before = log.now()
    appended = log.append(first)
    after = log.now()
    assert before - 20_000_000 <= appended <= after + 20_000_000, "the time is the engine's"
    packs = tuple(hashlib.sha256(bytes([n])).hexdigest() for n in range(3))
    second = replace(entry_after(log), packs=packs)
    log.append(second)
    other = opened()
    assert other.head() == Head(2, second.head)
    assert [replace(entry, time_ns=0) for entry in other.entries(0, 10)] == [first, second]
    assert other.entries(0, 1)[0].time_ns == appended
    assert [entry.number for entry in other.entries(1, 10)] == [2]


def test_stores_of_one_engine_are_apart(opened: Opener) -> None:
    one, two = opened("one-store"), opened("another")
    before = one.head().number
    two.append(entry_after(two))
    assert one.head().number == before
    two.put(hashlib.sha256(b"x").hexdigest(), io.BytesIO(b"x"))
    with pytest.raises(FileNotFoundError):
        one.get(hashlib.sha256(b"x").hexdigest(), io.BytesIO(), 10)


def test_entry_that_does_not_continue_the_log_is_refused(opened: Opener) -> None:
    log, other = opened(), opened()
    stale = entry_after(log)
    log.append(entry_after(log))
    wrong = replace(entry_after(log), previous="f" * 40)
    ahead = replace(entry_after(log), number=3)
    for entry in (stale, wrong, ahead):
        with pytest.raises(TurnLost):
            other.append(entry)
    assert log.head().number == 1
    other.append(entry_after(other))
    assert log.head().number == 2


def test_wait_returns_when_another_node_appends(opened: Opener) -> None:
    log, other = opened(), opened()
    assert not log.wait(0, 0)
    woken = threading.Event()
    waiter = threading.Thread(target=lambda: log.wait(0, SECONDS) and woken.set())
    waiter.start()
    other.append(entry_after(other))
    assert woken.wait(SECONDS)
    waiter.join()
    assert log.wait(0, 0)


def test_contents_are_kept_by_their_hash(opened: Opener) -> None:
    log = opened()
    for data in (b"", b"x", os.urandom(2_500_000)):
        name = hashlib.sha256(data).hexdigest()
        log.put(name, io.BytesIO(data))
        log.put(name, io.BytesIO(b"not looked at"))
        target = io.BytesIO()
        opened().get(name, target, len(data))
        assert target.getvalue() == data
    with pytest.raises(OSError, match="refused") as error:
        log.get(name, io.BytesIO(), 1000)
    assert error.value.errno == errno.EFBIG
    with pytest.raises(FileNotFoundError):
        log.get("0" * 64, io.BytesIO(), 1000)
    false = hashlib.sha256(b"another").hexdigest()
    log.put(false, io.BytesIO(b"content"))
    with pytest.raises(OSError, match="damaged") as error:
        log.get(false, io.BytesIO(), 1000)
    assert error.value.errno == errno.EIO


def test_content_whose_transfer_was_cut_off_is_not_there(opened: Opener) -> None:
    class Cut(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise OSError(errno.EIO, "the disk fails")
            return data

    log, name = opened(), hashlib.sha256(b"x" * 10).hexdigest()
    with pytest.raises(OSError):
        log.put(name, Cut(b"x" * 10))
    with pytest.raises(FileNotFoundError):
        log.get(name, io.BytesIO(), 1000)
    log.put(name, io.BytesIO(b"x" * 10))
    log.get(name, io.BytesIO(), 1000)


def test_one_instance_at_a_time_has_the_turn(opened: Opener) -> None:
    log, other = opened(), opened()
    order: list[str] = []
    waiting = threading.Event()

    def wait_for_turn() -> None:
        waiting.set()
        with other.lease(TURN):
            order.append("other")
            other.append(entry_after(other))

    with log.lease(TURN):
        waiter = threading.Thread(target=wait_for_turn)
        waiter.start()
        waiting.wait(SECONDS)
        with opened().lease("index"):
            order.append("first")  # another lease is free meanwhile
        log.append(entry_after(log))
    waiter.join(SECONDS)
    assert order == ["first", "other"]
    assert log.head().number == 2
    with log.lease(TURN):
        pass  # a turn without an entry ends, too


def run_writer(url: str, store: str, mode: str, seconds: float) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "tests.shared.writer", url, store, mode, str(seconds)]
    environment = {**os.environ, "PGTEST": PASSWORD}
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[2]
    )


@pytest.fixture
def holder(engine_url: str, store_name: str, opened: Opener) -> Iterator["subprocess.Popen[str]"]:
    """Yield a process that has the turn, for half a second of silence at most."""
    opened()
    process = run_writer(engine_url, store_name, "hold", 0.5)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_turn_ends_with_its_process(opened: Opener, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    log = opened()
    with log.lease(TURN, 0.5):
        log.append(entry_after(log))
    assert log.head().number == 1


def test_turn_of_a_stopped_process_ends_and_its_late_entry_is_refused(
    opened: Opener, holder: "subprocess.Popen[str]"
) -> None:
    holder.send_signal(signal.SIGSTOP)
    log = opened()
    with log.lease(TURN, 0.5):
        mine = entry_after(log)
        log.append(mine)
    holder.send_signal(signal.SIGCONT)
    out, _ = holder.communicate("\n", timeout=SECONDS)
    assert out == "lost\n"
    assert log.head() == Head(1, mine.head)


@pytest.mark.long
def test_writers_take_turns_and_each_entry_is_there_once(engine_url: str, store_name: str, opened: Opener) -> None:
    opened()
    writers = [run_writer(engine_url, store_name, "append", 5) for _ in range(4)]
    for writer in writers:
        writer.communicate(timeout=SECONDS)
        assert writer.returncode == 0
    entries = list(all_entries(opened(), 0, 7))
    assert [entry.number for entry in entries] == list(range(1, 101))
    assert all(after.previous == before.head for before, after in itertools.pairwise(entries))
    assert (
        sorted(sum(entry.node == node for entry in entries) for node in {entry.node for entry in entries}) == [25] * 4
    )


def test_store_that_was_never_shared_is_refused(opened: Opener) -> None:
    with pytest.raises(LogRefused, match="holds no shared store"):
        opened("nothing", create=False)


@pytest.mark.parametrize("url", ["", "relative/folder", "http://example.org/x", "file://host/x", "postgresql:", "//["])
def test_wrong_url_is_refused(url: str) -> None:
    with pytest.raises((CommandError, Unreachable)):
        open_log(url, "store", create=True).close()


def test_wrong_name_of_a_store_is_refused(tmp_path: Path) -> None:
    for name in ("", "..", "a/b", "x" * 65, "a b"):
        with pytest.raises(CommandError, match="cannot name"):
            open_log(f"file://{tmp_path}", name, create=True)


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogRefused, match="is not a folder"):
        open_log(f"file://{tmp_path}/missing", "store", create=True)


def test_log_of_another_format_is_refused(tmp_path: Path) -> None:
    open_log(f"file://{tmp_path}", "store", create=True)
    (tmp_path / "store/format").write_text(str(FORMAT + 1))
    with pytest.raises(LogRefused, match=f"format '{FORMAT + 1}'"):
        open_log(f"file://{tmp_path}", "store")


def test_folder_that_disappears_is_unreachable(tmp_path: Path) -> None:
    log = open_log(f"file://{tmp_path}/", "store", create=True)
    (tmp_path / "store").rename(tmp_path / "away")
    for act in (log.head, lambda: log.entries(0, 1), lambda: log.wait(0, 0), log.now):
        with pytest.raises(Unreachable):
            act()
    (tmp_path / "away").rename(tmp_path / "store")
    log.append(entry_after(log))


def test_damaged_or_missing_files_of_entries_are_refused(tmp_path: Path) -> None:
    log = open_log(f"file://{tmp_path}", "store", create=True)
    for _ in range(3):
        log.append(entry_after(log))
    entry = tmp_path / "store/entries/000/000000000002"
    whole = entry.read_bytes()
    entry.unlink()
    (tmp_path / "secret").write_bytes(whole)
    for damage in (
        lambda: None,
        lambda: entry.symlink_to(tmp_path / "secret"),
        lambda: os.mkfifo(entry),
        lambda: entry.mkdir(),
        lambda: entry.write_bytes(whole[:-1]),
        lambda: entry.write_bytes((entry.parent / "000000000001").read_bytes()),
    ):
        damage()
        with pytest.raises(LogDamaged, match="entry 2"):
            log.entries(0, 10)
        if entry.is_dir() and not entry.is_symlink():
            entry.rmdir()
        else:
            entry.unlink(missing_ok=True)


def test_rows_that_no_node_has_written_are_refused(postgres: Postgres, store_name: str) -> None:
    import psycopg

    log = open_log(postgres.url(), store_name, PASSWORD, create=True)
    insert = "insert into ctxfs_entries (store, number, head, data) values (%s, %s, '', %s)"
    with psycopg.connect(postgres.url(), password=PASSWORD, autocommit=True) as connection:
        connection.execute(insert, (store_name, 1, b"\x91\x01"))
        with pytest.raises(LogDamaged, match="format"):
            log.entries(0, 10)
        connection.execute("delete from ctxfs_entries where store = %s", (store_name,))
        log.append(entry_after(log))
        connection.execute(insert, (store_name, 3, b"x"))
        with pytest.raises(LogDamaged, match="it is missing"):
            log.entries(0, 10)
        large = (
            "update ctxfs_entries set number = 2, data = repeat('x', 5000000)::bytea where store = %s and number = 3"
        )
        connection.execute(large, (store_name,))
        with pytest.raises(LogDamaged, match="it has more than"):
            log.entries(0, 10)
    log.close()


def test_wrong_password_and_database_are_refused(postgres: Postgres) -> None:
    for url, password in (
        (postgres.url(), "wrong"),
        (postgres.url(), ""),
        (postgres.url(database="nothing"), PASSWORD),
        (f"{postgres.url()}?nonsense=1", PASSWORD),
    ):
        with pytest.raises(LogRefused) as error:
            open_log(url, "store", password, create=True)
        assert "wrong" not in error.value.message
    with pytest.raises(LogRefused) as error:
        open_log(f"postgresql://ctxfs:secret-word@127.0.0.1:{postgres.port}/postgres", "store", create=True)
    assert "secret-word" not in error.value.message + error.value.remedy


def test_engine_that_is_not_there_is_unreachable() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(Unreachable):
        open_log("postgresql://ctxfs@127.0.0.1:1/postgres", "store")


@pytest.mark.long
def test_silent_engine_is_noticed_within_five_seconds_and_used_again_when_it_answers(
    postgres: Postgres, store_name: str
) -> None:
    proxy = Proxy(postgres.port)
    log = open_log(postgres.url(proxy.port), store_name, PASSWORD, create=True)
    try:
        log.append(entry_after(log))
        proxy.cut()
        started = time.monotonic()
        with pytest.raises(Unreachable):
            log.head()
        assert time.monotonic() - started < ANSWER_SECONDS + 1
        started = time.monotonic()
        with pytest.raises(Unreachable):
            log.head()
        assert time.monotonic() - started < ANSWER_SECONDS + 1
        proxy.heal()
        assert log.head().number == 1
        with pytest.raises(TurnLost), log.lease(TURN):
            log.append(replace(entry_after(log), number=9))
        with log.lease(TURN):
            log.append(entry_after(log))
    finally:
        log.close()
        proxy.close()


@pytest.mark.long
def test_append_that_waits_for_a_lost_standby_is_given_up(postgres: Postgres, store_name: str) -> None:
    """A COMMIT that waits for a standby obeys no timeout of the server."""
    import psycopg

    log = open_log(postgres.url(), store_name, PASSWORD, create=True)
    with psycopg.connect(postgres.url(), password=PASSWORD, autocommit=True) as connection:
        connection.execute("alter system set synchronous_standby_names = 'nowhere'")
        connection.execute("select pg_reload_conf()")
        answered = 0  # before a process of the server has read its new settings
        try:
            with pytest.raises(Unreachable):
                while answered < 10_000:
                    started = time.monotonic()
                    with log.lease(TURN):
                        log.append(entry_after(log))
                    answered += 1
        finally:
            connection.execute("alter system reset synchronous_standby_names")
            connection.execute("select pg_reload_conf()")
        assert time.monotonic() - started < ANSWER_SECONDS + 2
    assert log.head().number in (answered, answered + 1), "an entry without an answer is there, or is not"
    log.close()


def test_erasure_removes_objects_and_contents_and_keeps_the_chain(opened: Opener) -> None:
    log = opened()
    names = [hashlib.sha256(text).hexdigest() for text in (b"old pack", b"new pack", b"large", b"other")]
    for text in (b"old pack", b"new pack", b"large" * 1, b"other"):
        log.put(hashlib.sha256(text).hexdigest(), io.BytesIO(text))
    log.append(replace(entry_after(log), objects=b"inline", packs=(names[0], names[1]), data=b"a topic"))
    log.append(replace(entry_after(log), objects=b"inline"))
    log.append(replace(entry_after(log), kind=EntryKind.ERASE, packs=(names[1],), data=b"the plan"))
    before = list(all_entries(log, 0))
    for _ in range(2):  # it can be repeated
        log.erase(3, [names[2]])
    after = [replace(entry, time_ns=0) for entry in all_entries(opened(), 0)]
    stripped = [replace(entry, objects=b"", packs=(), time_ns=0) for entry in before[:2]]
    assert after == [*stripped, replace(before[2], time_ns=0)]
    for name in (names[0], names[2]):
        with pytest.raises(FileNotFoundError):
            log.get(name, io.BytesIO(), 100)
    for name in (names[1], names[3]):
        log.get(name, io.BytesIO(), 100)
    assert log.head() == opened().head() == Head(3, before[2].head)
    log.append(entry_after(log))
    assert log.head().number == 4
