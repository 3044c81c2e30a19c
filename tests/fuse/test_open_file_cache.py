"""Test the open file cache through the kernel: results do not differ from those of a mount without it."""

import contextlib
import errno
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Live, eventually

pytestmark = pytest.mark.fuse
NAMES = 400


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("kept"))
    made.run("init")
    made.run("mount", str(made.at))
    yield made
    made.close()


@pytest.fixture
def place(live: Live, request: pytest.FixtureRequest) -> Path:
    """Return a directory for one test in `pad`, on the mount."""
    made = live.at / "pad" / request.node.name
    made.mkdir()
    return made


def behind(live: Live, path: Path) -> Path:
    """Return the same file in the host folder behind the mount."""
    return live.store / "tree" / path.relative_to(live.at)


def held(live: Live) -> list[str]:
    """Return the files that the mount process has open."""
    folder, paths = Path(f"/proc/{live.mount_pid()}/fd"), []
    for entry in folder.iterdir():
        try:
            paths.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return paths


def read(path: Path) -> str:
    return path.read_text()


def test_file_stays_open_after_a_read_and_is_read_again(live: Live, place: Path) -> None:
    (place / "f").write_text("text")
    eventually("it stays open", lambda: read(place / "f") == "text" and str(behind(live, place / "f")) in held(live))
    assert [read(place / "f") for _ in range(3)] == ["text"] * 3


def test_large_reads_return_the_file_content(place: Path) -> None:
    data = os.urandom(200_001)
    (place / "f").write_bytes(data)
    for _ in range(3):
        with open(place / "f", "rb") as file:
            for offset, size in ((0, 200_001), (65_536, 131_072), (100_000, 100_001), (1, 80_000), (150_000, 100_000)):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # so that the kernel requests the data
                assert os.pread(file.fileno(), size, offset) == data[offset : offset + size]
    with open(place / "f", "r+b") as file:
        os.truncate(place / "f", 100_000)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(file.fileno(), 200_000, 0) == data[:100_000]


def test_external_change_is_read_at_the_next_open(live: Live, place: Path) -> None:
    (place / "f").write_text("turn 0")
    for turn in range(1, 6):
        assert [read(place / "f") for _ in range(2)] == [f"turn {turn - 1}"] * 2
        with open(behind(live, place / "f"), "r+") as file:  # same size, in place
            file.write(f"turn {turn}")
        assert read(place / "f") == f"turn {turn}"
    new = behind(live, place / "f").with_name("new")
    new.write_text("another file")
    os.replace(new, behind(live, place / "f"))
    assert read(place / "f") == "another file"


def test_deleted_or_replaced_file_does_not_stay_open(live: Live, place: Path) -> None:
    """Check that the disk space of a deleted or replaced file is free at once."""
    for name in ("deleted", "replaced", "moved", "elsewhere"):
        (place / name).write_text(name)
        assert [read(place / name) for _ in range(2)] == [name] * 2
    (place / "deleted").unlink()
    (place / "moved").rename(place / "replaced")
    behind(live, place / "elsewhere").unlink()
    gone = [f"{behind(live, place / name)} (deleted)" for name in ("deleted", "replaced", "elsewhere")]
    eventually("they are closed", lambda: not set(gone) & set(held(live)))
    assert read(place / "replaced") == "moved"


def test_listed_directory_shows_later_changes(live: Live, place: Path) -> None:
    for name in ("a", "b"):
        (place / name).touch()
        assert os.listdir(place) == os.listdir(place)
        assert name in os.listdir(place)
    behind(live, place / "c").touch()
    behind(live, place / "a").unlink()
    eventually("they are seen", lambda: sorted(os.listdir(place)) == ["b", "c"], 1.0)
    os.rmdir(make(place / "d"))
    assert sorted(os.listdir(place)) == ["b", "c"]


def make(folder: Path) -> Path:
    folder.mkdir()
    assert os.listdir(folder) == []
    return folder


def test_cached_read_is_audited_under_its_current_path(live: Live, place: Path) -> None:
    (place / "old").write_text("text")
    for _ in range(4):
        read(place / "old")
    (place / "old").rename(place / "new")
    for _ in range(3):
        read(place / "new")

    def events() -> list[tuple[str, str]]:
        lines = [json.loads(line) for line in live.run("history", "audit", "--json").splitlines()]
        mine = [line for line in lines if f"{place.name}/" in line.get("path", "")]
        return [(line["op"], Path(line["path"]).name) for line in mine for _ in range(line.get("times", 1))]

    wanted = [("read", "old")] * 4 + [("rename", "old")] + [("read", "new")] * 3
    eventually("they are written", lambda: [event for event in events() if event[0] in ("read", "rename")] == wanted)


def test_few_descriptors_are_enough_for_many_files(tmp_path: Path) -> None:
    """Check that cached files are closed in favour of new opens."""
    live = Live(tmp_path)
    live.run("init")

    def read_all() -> bool:
        return [read(live.at / "pad" / str(number)) for number in range(NAMES)] == [str(n) for n in range(NAMES)]

    limited = ["prlimit", f"--nofile={NAMES - 50}:{NAMES - 50}", *live.command("mount", str(live.at))]
    subprocess.run(limited, check=True, capture_output=True)
    try:
        for number in range(NAMES):
            (live.at / "pad" / str(number)).write_text(str(number))
        eventually("more than half of the limit stays open", lambda: read_all() and len(held(live)) > NAMES / 2)
        opened = [os.open(live.at / "pad" / str(number), os.O_RDONLY) for number in range(NAMES - 150)]
        assert [os.pread(fd, 10, 0) for fd in opened] == [str(number).encode() for number in range(len(opened))]
        with pytest.raises(OSError, match="Too many open files") as refused:
            for number in range(len(opened), NAMES):
                opened.append(os.open(live.at / "pad" / str(number), os.O_RDONLY))
        assert refused.value.errno == errno.EMFILE
        for fd in opened:
            os.close(fd)
        assert read(live.at / "pad" / "0") == "0"
    finally:
        live.close()


@pytest.fixture
def beside(live: Live) -> Iterator[list[int]]:
    """Run the mount process and this one on the first of these processors."""
    mount = live.mount_pid()
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(mount, processors[:1])
    os.sched_setaffinity(0, processors[:1])
    yield processors
    os.sched_setaffinity(0, processors)
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(mount, processors)


def reads_until(live: Live, path: Path, policy: int) -> None:
    mount = live.mount_pid()

    def reads() -> bool:
        for _ in range(1000):
            read(path)
        return os.sched_getscheduler(mount) == policy

    eventually("the loop has the processor of its client", reads)


def test_process_on_the_same_processor_is_not_interrupted_by_background_work(
    live: Live, place: Path, beside: list[int]
) -> None:
    (place / "f").write_text("text")
    reads_until(live, place / "f", os.SCHED_BATCH)
    if len(beside) < 2:
        pytest.skip("THIS MACHINE HAS ONE PROCESSOR: nobody can run elsewhere than beside the mount")
    os.sched_setaffinity(0, beside[1:])
    reads_until(live, place / "f", os.SCHED_OTHER)


@pytest.mark.usefixtures("beside")
def test_request_loop_receives_other_events_while_it_waits_for_the_kernel(live: Live, place: Path) -> None:
    (place / "f").write_text("text")
    for turn in range(20):
        reads_until(live, place / "f", os.SCHED_BATCH)
        with open(behind(live, place / "f"), "a") as file:
            file.write("more")
        # The kernel answers from its caches: no request wakes the loop.
        eventually("the change is seen", lambda size=8 + 4 * turn: os.stat(place / "f").st_size == size)
        os.listdir(live.at / "search" / f"question {turn}")  # answered by the daemon


@pytest.mark.usefixtures("beside")
def test_request_loop_receives_signals_while_it_waits_for_the_kernel(live: Live, place: Path) -> None:
    (place / "f").write_text("text")
    reads_until(live, place / "f", os.SCHED_BATCH)
    os.kill(live.mount_pid(), signal.SIGTERM)
    eventually("it is unmounted", lambda: not os.path.ismount(live.at))
    live.run("mount", str(live.at))
