"""Very large numbers: `python -m benchmarks.many [--files 1000000]`. Needs 4 GB of memory for the files on tmpfs.

A million files, a directory of 100,000, a sparse file of 50 GB, 10,000 open descriptors, 64 processes; and the memory
of the mount process for each file that the kernel has cached. Needs root, because the kernel's caches are dropped.
"""

import argparse
import mmap
import multiprocessing
import os
import resource
import subprocess
import time
from pathlib import Path

from benchmarks.filesystem import drop_caches
from benchmarks.harness import Bench, bench, memory_mb, processes_of, report, timed

_DIRECTORY = 1000
_HUGE = 50 * 1024**3


def make_files(folder: Path, files: int) -> None:
    """Create empty files, a thousand in each directory."""
    for number in range(files // _DIRECTORY):
        place = folder / f"{number:04}"
        place.mkdir(parents=True)
        for name in range(_DIRECTORY):
            os.close(os.open(place / f"{name:03}", os.O_CREAT | os.O_WRONLY, 0o644))


def rss(pid: int) -> float:
    return memory_mb(pid)["rss"]


def forget(pid: int, least: float) -> float:
    """Return the memory in MB after the kernel has sent its FORGETs, which takes a moment."""
    drop_caches([pid])
    end = time.monotonic() + 60
    while rss(pid) > least and time.monotonic() < end:
        time.sleep(0.5)
    return rss(pid)


def count(folder: Path) -> tuple[float, int]:
    start = time.perf_counter()
    found = subprocess.run(["find", str(folder), "-type", "f"], capture_output=True, check=True).stdout.count(b"\n")
    return time.perf_counter() - start, found


def million(made: Bench, rows: dict[str, object], files: int) -> None:
    pid, at = processes_of(made.store)["mount"], made.at / "knowledge" / "million"
    before = rss(pid)
    seconds, found = count(at)
    assert found == files, f"{found} of {files} are there"
    full = rss(pid)
    known = files + files // _DIRECTORY
    after = forget(pid, before + (full - before) / 4)
    rows[f"find over {files:,} files, cold"] = f"{seconds:.1f} s"
    rows["memory of the mount process for it"] = (
        f"{full - before:.0f} MB, {(full - before) * 1e6 / known:.0f} bytes a file"
    )
    rows["… after the kernel has forgotten them"] = f"{after - before:.0f} MB"


def one_directory(made: Bench, rows: dict[str, object]) -> None:
    at = made.at / "knowledge" / "wide"
    drop_caches([processes_of(made.store)["mount"]])
    rows["ls -l of 100,000 in one directory, cold"] = f"{timed(['ls', '-l', str(at)]):.2f} s"
    rows["… again"] = f"{timed(['ls', '-l', str(at)]):.2f} s"
    assert len(os.listdir(at)) == 100_000


def huge(made: Bench, rows: dict[str, object]) -> None:
    path = made.at / "knowledge" / "wide-writable" / "huge"
    start = time.perf_counter()
    with open(path, "w+b") as file:
        os.truncate(path, _HUGE)
        for place in (1, _HUGE // 2, _HUGE - 5):
            os.pwrite(file.fileno(), b"data!", place)
            assert os.pread(file.fileno(), 5, place) == b"data!"
        assert os.lseek(file.fileno(), 4096 * 10, os.SEEK_DATA) >= _HUGE // 2 - 2**21
        with mmap.mmap(file.fileno(), 4096, offset=_HUGE - 4096, access=mmap.ACCESS_READ) as memory:
            assert memory[-5:] == b"data!"
    found = path.stat()
    assert found.st_size == _HUGE and found.st_blocks * 512 < 2**24, "it stays sparse"
    path.unlink()
    rows["a sparse file of 50 GB: written at three places, sought, mapped, removed"] = (
        f"{time.perf_counter() - start:.2f} s"
    )


def descriptors(made: Bench, rows: dict[str, object]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    at = made.at / "knowledge" / "million"
    held = []
    start = time.perf_counter()
    for number in range(10_000):
        held.append(os.open(at / f"{number // _DIRECTORY:04}" / f"{number % _DIRECTORY:03}", os.O_RDONLY))
    rows["10,000 files opened and held"] = f"{time.perf_counter() - start:.2f} s"
    assert all(os.fstat(fd).st_size == 0 for fd in held)
    for fd in held:
        os.close(fd)


def work(at: str, number: int) -> None:
    mine = Path(at) / f"process-{number}"
    mine.mkdir()
    for turn in range(50):
        (mine / f"{turn}").write_text(f"{number} {turn}\n" * 20)
    for turn in range(50):
        assert (mine / f"{turn}").read_text() == f"{number} {turn}\n" * 20
        (mine / f"{turn}").rename(mine / f"{turn}.done")
    assert len(os.listdir(mine)) == 50


def processes(made: Bench, rows: dict[str, object]) -> None:
    at = made.at / "pad" / "together"
    at.mkdir()
    start = time.perf_counter()
    running = [multiprocessing.Process(target=work, args=(str(at), number)) for number in range(64)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 64
    rows["64 processes, each 50 files written, read, renamed"] = f"{time.perf_counter() - start:.2f} s"


def run(made: Bench, files: int) -> dict[str, object]:
    folders = {name: made.folder / name for name in ("million", "wide", "wide-writable")}
    make_files(folders["million"], files)
    folders["wide"].mkdir()
    folders["wide-writable"].mkdir()
    for number in range(100_000):
        os.close(os.open(folders["wide"] / f"file-{number}", os.O_CREAT | os.O_WRONLY, 0o644))
    made.ctxfs("init")
    config = made.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    for name, folder in folders.items():
        options = ["--writable"] if name.endswith("writable") else []
        made.ctxfs("add", str(folder), "--name", name, "--exclude", "*", *options)
    made.ctxfs("mount", str(made.at))
    rows: dict[str, object] = {}
    million(made, rows, files)
    one_directory(made, rows)
    huge(made, rows)
    descriptors(made, rows)
    processes(made, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with bench() as made:
        report(run(made, arguments.files))


if __name__ == "__main__":
    main()
