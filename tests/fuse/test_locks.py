"""Test locks and mappings between mount points and the folder behind a source, as programs see them."""

import contextlib
import errno
import fcntl
import mmap
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Live, code_of, eventually

pytestmark = pytest.mark.fuse

# A process that evaluates each line and prints the result, because locks belong to processes.
_CALLER = """
import errno, fcntl, os, signal, struct, sys

def ranged(command, fd, kind, start=0, length=0):
    packed = struct.pack("hhqqi4x", kind, 0, start, length, 0)
    return struct.unpack("hhqqi4x", fcntl.fcntl(fd, command, packed))

def posix(fd, kind, start=0, length=0): ranged(fcntl.F_SETLK, fd, kind, start, length)
def posix_wait(fd, kind, start=0, length=0): ranged(fcntl.F_SETLKW, fd, kind, start, length)
def ofd(fd, kind, start=0, length=0): ranged(fcntl.F_OFD_SETLK, fd, kind, start, length)
def ofd_wait(fd, kind, start=0, length=0): ranged(fcntl.F_OFD_SETLKW, fd, kind, start, length)
def asked(fd, kind, start=0, length=0): return ranged(fcntl.F_GETLK, fd, kind, start, length)
def flock(fd, kind): fcntl.flock(fd, {R: fcntl.LOCK_SH, W: fcntl.LOCK_EX, U: fcntl.LOCK_UN}[kind] | fcntl.LOCK_NB)
def flock_wait(fd, kind): fcntl.flock(fd, {R: fcntl.LOCK_SH, W: fcntl.LOCK_EX, U: fcntl.LOCK_UN}[kind])

R, W, U = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
def ring(number, frame): raise InterruptedError(errno.EINTR, "a signal")
signal.signal(signal.SIGUSR1, ring)
for line in sys.stdin:
    try:
        answer = eval(line)
    except OSError as error:
        answer = "EDEADLK" if error.errno == errno.EDEADLK else errno.errorcode[error.errno]
    print(repr(answer), flush=True)
"""


class Caller:
    """A separate process that opens and locks files."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CALLER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, line: str) -> None:
        """Send a line that may take long to evaluate."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Return the result of the line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, line: str) -> str:
        self.begin(line)
        return self.end()

    def open(self, path: Path, flags: int = os.O_RDWR) -> int:
        return int(self.do(f"os.open({str(path)!r}, {flags})"))

    def is_waiting(self) -> bool:
        """Return True while the process waits for a response in the kernel."""
        return Path(f"/proc/{self.process.pid}/wchan").read_text() in ("request_wait_answer", "fuse_simple_request")

    def kill(self) -> None:
        self.process.kill()
        with self.process, contextlib.suppress(ValueError):
            self.process.communicate()


GOT, BUSY = "None", "'EAGAIN'"
# Agents may change the source, so that their mounts and native programs write to the same files.
RULE = '\n[[rule]]\nprincipal = "agent:*"\npath = "knowledge/work/**"\nverbs = ["list", "read", "write", "create", "delete", "meta"]\n'


@pytest.fixture
def callers() -> Iterator[Callable[[], Caller]]:
    made: list[Caller] = []

    def make() -> Caller:
        made.append(Caller())
        return made[-1]

    yield make
    for caller in made:
        caller.kill()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with a writable source and two mount points of its owner, the second at `mnt-2`."""
    made = Live(tmp_path_factory.mktemp("locks"))
    made.run("init")
    made.corpus.mkdir()
    made.run("add", str(made.corpus), "--name", "work", "--writable")
    made.run("mount", str(made.at))
    made.run("mount", str(made.at.with_name("mnt-2")))
    yield made
    made.close()


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Yield a store with mount points of two agents, whose data the kernel does not pass through."""
    made = Live(tmp_path_factory.mktemp("agents"))
    made.run("init")
    made.corpus.mkdir()
    made.run("add", str(made.corpus), "--name", "work", "--writable")
    with (made.store / "ctxfs.toml").open("a") as config:
        config.write(RULE)
    made.run("mount", str(made.at), "--as", "agent:alice")
    made.run("mount", str(made.at.with_name("mnt-2")), "--as", "agent:bob")
    yield made
    made.close()


def doors(live: Live, name: str) -> dict[str, Path]:
    """Return one file of a writable source, by each path to it."""
    (live.corpus / name).write_bytes(b"x" * 100)
    tree = Path("knowledge", "work", name)
    at = {"mount": live.at / tree, "other mount": live.at.with_name("mnt-2") / tree, "folder": live.corpus / name}
    for path in at.values():
        eventually("it is there", lambda path=path: path.exists())  # type: ignore[misc]
    return at


KINDS = ("flock", "posix", "ofd")
PAIRS = [("mount", "mount"), ("mount", "other mount"), ("mount", "folder"), ("folder", "mount")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_lock_conflicts_through_every_path_to_the_file(
    live: Live, callers: Callable[[], Caller], kind: str, one: str, two: str
) -> None:
    at = doors(live, f"door-{kind}-{one}-{two}".replace(" ", ""))
    first, second = callers(), callers()
    held, wanted = first.open(at[one]), second.open(at[two])
    for mine, its, answer in (("W", "W", BUSY), ("W", "R", BUSY), ("R", "W", BUSY), ("R", "R", GOT)):
        assert first.do(f"{kind}({held}, {mine})") == GOT
        assert second.do(f"{kind}({wanted}, {its})") == answer
        assert first.do(f"{kind}({held}, U)") == GOT
        assert second.do(f"{kind}({wanted}, {its})") == GOT
        assert second.do(f"{kind}({wanted}, U)") == GOT


@pytest.mark.parametrize("kind", ("posix", "ofd"))
def test_disjoint_ranges_are_locked_side_by_side(live: Live, callers: Callable[[], Caller], kind: str) -> None:
    at = doors(live, f"ranges-{kind}")
    first, second = callers(), callers()
    held, wanted = first.open(at["mount"]), second.open(at["other mount"])
    assert first.do(f"{kind}({held}, W, 0, 30)") == first.do(f"{kind}({held}, U, 10, 10)") == GOT
    for start, answer in ((0, BUSY), (9, BUSY), (10, GOT), (19, GOT), (20, BUSY), (29, BUSY), (30, GOT)):
        assert second.do(f"{kind}({wanted}, W, {start}, 1)") == answer, start
    assert second.do(f"{kind}({wanted}, W, {1 << 62}, 0)") == GOT


def test_owner_of_a_lock_is_named(live: Live, callers: Callable[[], Caller]) -> None:
    at = doors(live, "named")
    first, second = callers(), callers()
    held, wanted = first.open(at["mount"]), second.open(at["mount"])
    assert second.do(f"asked({wanted}, W, 5, 10)[0] == U") == "True"
    first.do(f"posix({held}, W, 7, 3)")
    assert second.do(f"asked({wanted}, R, 5, 10)") == str((fcntl.F_WRLCK, 0, 7, 3, first.process.pid))
    native = callers()
    native.do(f"posix({native.open(at['folder'])}, R, 50, 1)")
    assert second.do(f"asked({wanted}, W, 50, 1)") == str((fcntl.F_RDLCK, 0, 50, 1, native.process.pid))


@pytest.mark.parametrize("mode", (os.O_RDONLY, os.O_RDWR))
def test_open_files_that_share_a_descriptor_do_not_share_their_locks(
    live: Live, callers: Callable[[], Caller], mode: int
) -> None:
    """Check files in the open file cache: each reader is a separate lock owner."""
    at = doors(live, f"shared-{mode}")
    for _ in range(3):
        at["mount"].read_bytes()
    one, two = callers(), callers()
    first, second = one.open(at["mount"], mode), two.open(at["mount"], mode)
    third = two.open(at["mount"], mode)
    assert one.do(f"flock({first}, W)") == GOT
    assert two.do(f"flock({second}, W)") == two.do(f"flock({third}, R)") == BUSY
    two.do(f"os.close({second})")
    assert two.do(f"flock({third}, R)") == BUSY, "another reader has closed, not the holder"
    one.do(f"os.close({first})")
    eventually("it is released", lambda: two.do(f"flock({third}, W)") == GOT)
    assert two.do(f"ofd({third}, R)") == GOT
    assert one.do(f"ofd({one.open(at['other mount'])}, W)") == BUSY
    two.do(f"os.close({third})")
    eventually("it is released", lambda: one.do(f"ofd({one.open(at['mount'])}, W)") == GOT)


def test_posix_locks_end_when_their_process_closes_any_descriptor(live: Live, callers: Callable[[], Caller]) -> None:
    at = doors(live, "closed")
    one, two = callers(), callers()
    held, wanted = one.open(at["mount"]), two.open(at["other mount"])
    for close in (
        f"os.close(os.open({str(at['mount'])!r}, os.O_RDONLY))",
        f"os.close(os.open({str(at['mount'])!r}, os.O_WRONLY))",
        f"os.close(os.dup({held}))",
    ):
        assert one.do(f"posix({held}, W)") == GOT
        assert two.do(f"posix({wanted}, W)") == BUSY
        one.do(close)
        assert two.do(f"posix({wanted}, W)") == GOT, close
        two.do(f"posix({wanted}, U)")
    assert one.do(f"ofd({held}, W)") == GOT
    one.do(f"os.close(os.dup({held}))")
    assert two.do(f"posix({wanted}, W)") == BUSY, "OFD locks stay until the last one is closed"


@pytest.mark.parametrize("flags", (os.O_RDONLY, os.O_WRONLY, os.O_RDWR))
@pytest.mark.parametrize("kind", KINDS)
def test_locks_of_a_killed_process_are_released(
    live: Live, callers: Callable[[], Caller], kind: str, flags: int
) -> None:
    at = doors(live, f"killed-{kind}-{flags}")
    one, two = callers(), callers()
    lock = "R" if flags == os.O_RDONLY and kind != "flock" else "W"
    assert one.do(f"{kind}({one.open(at['mount'], flags)}, {lock})") == GOT
    wanted = two.open(at["folder"])
    assert two.do(f"{kind}({wanted}, W)") == BUSY
    one.kill()
    eventually("it is released", lambda: two.do(f"{kind}({wanted}, W)") == GOT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("two", ("mount", "other mount", "folder"))
def test_wait_for_a_lock_ends_on_release_and_blocks_no_other_process(
    live: Live, callers: Callable[[], Caller], kind: str, two: str
) -> None:
    at = doors(live, f"wait-{kind}-{two}".replace(" ", ""))
    holder, waiters = callers(), [callers() for _ in range(12)]
    held = holder.open(at[two])
    holder.do(f"{kind}({held}, W)")
    for waiter in waiters:
        waiter.begin(f"{kind}_wait({waiter.open(at['mount'])}, R)")
    for waiter in waiters:
        eventually("it waits", waiter.is_waiting)
    assert at["mount"].read_bytes() == b"x" * 100
    (at["mount"].with_name(f"new-{kind}-{two}")).write_text("others go on")
    holder.do(f"{kind}({held}, U)")
    assert [waiter.end() for waiter in waiters] == [GOT] * len(waiters)


@pytest.mark.parametrize("kind", KINDS)
def test_signal_ends_the_wait_for_a_lock(live: Live, callers: Callable[[], Caller], kind: str) -> None:
    at = doors(live, f"signal-{kind}")
    holder, waiter, third = callers(), callers(), callers()
    held = holder.open(at["other mount"])
    holder.do(f"{kind}({held}, W)")
    wanted = waiter.open(at["mount"])
    for number in range(3):
        waiter.begin(f"{kind}_wait({wanted}, W)")
        eventually("it waits", waiter.is_waiting)
        waiter.process.send_signal(signal.SIGUSR1)
        assert waiter.end() == "'EINTR'", number
    waiter.begin(f"{kind}_wait({wanted}, W)")
    eventually("it waits", waiter.is_waiting)
    waiter.kill()
    holder.do(f"{kind}({held}, U)")
    assert third.do(f"{kind}({third.open(at['mount'])}, W)") == GOT, "a killed process holds no lock"


def test_deadlock_is_reported_to_the_process(live: Live, callers: Callable[[], Caller]) -> None:
    at, other = doors(live, "deadlock-1"), doors(live, "deadlock-2")
    one, two = callers(), callers()
    mine, its = one.open(at["mount"]), one.open(other["mount"])
    ours, theirs = two.open(other["mount"]), two.open(at["mount"])
    assert one.do(f"posix({mine}, W)") == two.do(f"posix({ours}, W, 10, 10)") == GOT
    one.begin(f"posix_wait({its}, W)")
    eventually("it waits", one.is_waiting)
    assert two.do(f"posix_wait({theirs}, R, 3, 4)") == "'EDEADLK'"
    two.do(f"posix({ours}, U)")
    assert one.end() == GOT


def test_locks_of_synthetic_files_are_those_of_the_mount_point(live: Live, callers: Callable[[], Caller]) -> None:
    one, two = callers(), callers()
    status_file = live.at / ".ctxfs" / "status"
    held, wanted = one.open(status_file, os.O_RDONLY), two.open(status_file, os.O_RDONLY)
    assert one.do(f"flock({held}, W)") == one.do(f"posix({held}, R)") == GOT
    assert two.do(f"flock({wanted}, R)") == BUSY
    one.kill()
    eventually("it is released", lambda: two.do(f"flock({wanted}, W)") == GOT)


def test_lock_holder_reads_all_earlier_writes(agents: Live, callers: Callable[[], Caller]) -> None:
    """A native program writes under a lock, and the reader must not depend on a change notification."""
    at = doors(agents, "read-locked")
    one, native = callers(), callers()
    held, writes = one.open(at["mount"], os.O_RDONLY), native.open(at["folder"])
    for turn in range(50):
        assert native.do(f"posix_wait({writes}, W)") == GOT
        native.do(f"os.pwrite({writes}, b'{turn:03}', 0)")
        native.do(f"posix({writes}, U)")
        assert one.do(f"posix_wait({held}, R)") == GOT
        assert one.do(f"os.pread({held}, 3, 0)") == repr(f"{turn:03}".encode())
        one.do(f"posix({held}, U)")


_WRITER = """
import os, sqlite3, sys
path, count = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(path, timeout=60, isolation_level=None)
db.execute("pragma synchronous=off")
for number in range(count):
    db.execute("begin immediate")
    (value,) = db.execute("select n from c").fetchone()
    db.execute("update c set n=?", (value + 1,))
    db.execute("insert into l values(?, ?, ?)", (os.getpid(), number, os.urandom(200)))
    db.execute("commit")
"""


@pytest.mark.parametrize("mode", ("wal", "delete"))
@pytest.mark.parametrize("two", ("other mount", "folder"))
def test_sqlite_over_two_paths_keeps_every_transaction(live: Live, mode: str, two: str) -> None:
    at = doors(live, f"{mode}-{two}.db".replace(" ", ""))
    os.truncate(at["folder"], 0)
    make_database(at["mount"], mode)
    transactions, writers = (
        40,
        [
            subprocess.Popen([sys.executable, "-c", _WRITER, str(path), "40"], stderr=subprocess.PIPE, text=True)
            for path in (at["mount"], at[two]) * 2
        ],
    )
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    assert errors == [""] * len(writers)
    assert counted(at[two]) == counted(at["mount"]) == (transactions * len(writers), transactions * len(writers), "ok")


def make_database(path: Path, mode: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"pragma journal_mode={mode}")
        db.execute("create table c(n)")
        db.execute("create table l(p, i, b)")
        db.execute("insert into c values(0)")


def counted(path: Path) -> tuple[int, int, str]:
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as db:
        (number,) = db.execute("select n from c").fetchone()
        (rows,) = db.execute("select count(*) from l").fetchone()
        (state,) = db.execute("pragma integrity_check").fetchone()
    return number, rows, state


@pytest.mark.parametrize("two", ("other mount", "folder"))
def test_sqlite_of_agents_keeps_every_transaction_or_reports_an_error(agents: Live, two: str) -> None:
    at = doors(agents, f"agents-{two}.db".replace(" ", ""))
    os.truncate(at["folder"], 0)
    make_database(at["folder"], "delete")
    command = [sys.executable, "-c", _WRITER]
    writers = [subprocess.Popen([*command, str(at[door]), "30"]) for door in ("mount", two, "mount", two)]
    assert [writer.wait(60) for writer in writers] == [0] * len(writers)
    assert counted(at["folder"]) == counted(at["mount"]) == (120, 120, "ok")
    with contextlib.closing(sqlite3.connect(at["folder"])) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("update c set n=0")
        db.commit()
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            counted(at["mount"])
    assert counted(at["folder"]) == (0, 120, "ok")


def map_of(path: Path, access: int, flags: int) -> mmap.mmap:
    with open(path, "r+b" if access == mmap.ACCESS_WRITE else "rb") as file:
        return mmap.mmap(file.fileno(), 8192, access=access)


def test_memory_mapped_over_two_paths_is_shared(live: Live) -> None:
    at = doors(live, "mapped")
    os.truncate(at["folder"], 8192)
    maps = [map_of(path, mmap.ACCESS_WRITE, os.O_RDWR) for path in at.values()]
    maps += [map_of(at[door], mmap.ACCESS_READ, os.O_RDONLY) for door in ("mount", "other mount")]
    for turn, written in enumerate(maps[:3]):
        written[4096:4099] = b"%03d" % turn
        assert [mapped[4096:4099] for mapped in maps] == [b"%03d" % turn] * len(maps)
    os.pwrite(fd := os.open(at["other mount"], os.O_RDWR), b"last", 100)
    os.close(fd)
    assert [mapped[100:104] for mapped in maps] == [b"last"] * len(maps)
    for mapped in maps:
        mapped.close()


@pytest.mark.parametrize("area", ("pad", "knowledge/work"))
@pytest.mark.parametrize("access", (mmap.ACCESS_READ, mmap.ACCESS_WRITE))
def test_mapping_that_could_not_be_shared_is_refused(agents: Live, area: str, access: int) -> None:
    path = agents.at / area / f"apart-{access}"
    path.write_bytes(bytes(8192))
    for at in (path, agents.at.with_name("mnt-2") / area / path.name):
        assert code_of(lambda at=at: map_of(at, access, 0)) == errno.ENODEV  # type: ignore[misc]
    with map_of(path, mmap.ACCESS_COPY, os.O_RDONLY) as private:
        private[0:2] = b"ok"


def test_mapping_made_before_the_second_mount_point_stays_coherent(own_live: Live) -> None:
    """An agent has mapped a file while its mount was the only one; a later mount point must not map it."""
    agent, person = own_live.at.with_name("mnt-agent"), own_live.at
    own_live.run("unmount", str(person))
    own_live.run("mount", str(agent), "--as", "agent:alice")
    (agent / "pad" / "f").write_bytes(bytes(8192))
    with map_of(agent / "pad" / "f", mmap.ACCESS_WRITE, os.O_RDWR) as mapped:
        mapped[0:5] = b"alone"
        own_live.run("mount", str(person))
        late = person / "pad" / "f"
        assert code_of(lambda: map_of(late, mmap.ACCESS_WRITE, os.O_RDWR)) == errno.ENODEV
        mapped[0:5] = b"still"
        mapped.flush()
        assert late.read_bytes()[:5] == b"still"


def test_locks_end_with_the_mount_process(own_live: Live, callers: Callable[[], Caller]) -> None:
    path = own_live.at / "pad" / "f"
    path.write_text("x")
    holder, native = callers(), callers()
    for kind in KINDS[:2]:
        assert holder.do(f"{kind}({holder.open(path)}, W)") == GOT
    real = native.open(own_live.store / "tree" / "pad" / "f")
    assert native.do(f"flock({real}, W)") == native.do(f"posix({real}, W)") == BUSY
    os.kill(own_live.mount_pid(), signal.SIGKILL)
    for kind in KINDS[:2]:
        eventually("it is released", lambda kind=kind: native.do(f"{kind}({real}, W)") == GOT)  # type: ignore[misc]
