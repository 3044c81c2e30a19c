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

_DIRECTORY_FILES = 1000
_SPARSE_BYTES = 50 * 1024**3


def make_files(folder: Path, files: int) -> None:
    """Create empty files, a thousand in each directory."""
    for number in range(files // _DIRECTORY_FILES):
        directory = folder / f"{number:04}"
        directory.mkdir(parents=True)
        for name in range(_DIRECTORY_FILES):
            os.close(os.open(directory / f"{name:03}", os.O_CREAT | os.O_WRONLY, 0o644))


def rss(pid: int) -> float:
    return memory_mb(pid)["rss"]


def forget(pid: int, threshold: float) -> float:
    """Return the memory in MB after the kernel has sent its FORGETs, which takes a moment."""
    drop_caches([pid])
    end = time.monotonic() + 60
    while rss(pid) > threshold and time.monotonic() < end:
        time.sleep(0.5)
    return rss(pid)


def count(folder: Path) -> tuple[float, int]:
    start = time.perf_counter()
    number = subprocess.run(["find", str(folder), "-type", "f"], capture_output=True, check=True).stdout.count(b"\n")
    return time.perf_counter() - start, number


def million(setup: Bench, rows: dict[str, object], files: int) -> None:
    pid, folder = processes_of(setup.store)["mount"], setup.mountpoint / "knowledge" / "million"
    before = rss(pid)
    seconds, number = count(folder)
    assert number == files, f"{number} of {files} are there"
    full = rss(pid)
    entries = files + files // _DIRECTORY_FILES
    after = forget(pid, before + (full - before) / 4)
    rows[f"find over {files:,} files, cold"] = f"{seconds:.1f} s"
    rows["memory of the mount process for it"] = (
        f"{full - before:.0f} MB, {(full - before) * 1e6 / entries:.0f} bytes a file"
    )
    rows["… after the kernel has forgotten them"] = f"{after - before:.0f} MB"


def one_directory(setup: Bench, rows: dict[str, object]) -> None:
    folder = setup.mountpoint / "knowledge" / "wide"
    drop_caches([processes_of(setup.store)["mount"]])
    rows["ls -l of 100,000 in one directory, cold"] = f"{timed(['ls', '-l', str(folder)]):.2f} s"
    rows["… again"] = f"{timed(['ls', '-l', str(folder)]):.2f} s"
    assert len(os.listdir(folder)) == 100_000


def huge(setup: Bench, rows: dict[str, object]) -> None:
    path = setup.mountpoint / "knowledge" / "wide-writable" / "huge"
    start = time.perf_counter()
    with open(path, "w+b") as file:
        os.truncate(path, _SPARSE_BYTES)
        for offset in (1, _SPARSE_BYTES // 2, _SPARSE_BYTES - 5):
            os.pwrite(file.fileno(), b"data!", offset)
            assert os.pread(file.fileno(), 5, offset) == b"data!"
        assert os.lseek(file.fileno(), 4096 * 10, os.SEEK_DATA) >= _SPARSE_BYTES // 2 - 2**21
        with mmap.mmap(file.fileno(), 4096, offset=_SPARSE_BYTES - 4096, access=mmap.ACCESS_READ) as memory:
            assert memory[-5:] == b"data!"
    stat = path.stat()
    assert stat.st_size == _SPARSE_BYTES and stat.st_blocks * 512 < 2**24, "it stays sparse"
    path.unlink()
    rows["a sparse file of 50 GB: written at three places, sought, mapped, removed"] = (
        f"{time.perf_counter() - start:.2f} s"
    )


def descriptors(setup: Bench, rows: dict[str, object]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = setup.mountpoint / "knowledge" / "million"
    open_files = []
    start = time.perf_counter()
    for number in range(10_000):
        open_files.append(
            os.open(folder / f"{number // _DIRECTORY_FILES:04}" / f"{number % _DIRECTORY_FILES:03}", os.O_RDONLY)
        )
    rows["10,000 files opened and held"] = f"{time.perf_counter() - start:.2f} s"
    assert all(os.fstat(fd).st_size == 0 for fd in open_files)
    for fd in open_files:
        os.close(fd)


def work(folder: str, number: int) -> None:
    directory = Path(folder) / f"process-{number}"
    directory.mkdir()
    for file_number in range(50):
        (directory / f"{file_number}").write_text(f"{number} {file_number}\n" * 20)
    for file_number in range(50):
        assert (directory / f"{file_number}").read_text() == f"{number} {file_number}\n" * 20
        (directory / f"{file_number}").rename(directory / f"{file_number}.done")
    assert len(os.listdir(directory)) == 50


def processes(setup: Bench, rows: dict[str, object]) -> None:
    folder = setup.mountpoint / "pad" / "together"
    folder.mkdir()
    start = time.perf_counter()
    running = [multiprocessing.Process(target=work, args=(str(folder), number)) for number in range(64)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * 64
    rows["64 processes, each 50 files written, read, renamed"] = f"{time.perf_counter() - start:.2f} s"


def run(setup: Bench, files: int) -> dict[str, object]:
    folders = {name: setup.folder / name for name in ("million", "wide", "wide-writable")}
    make_files(folders["million"], files)
    folders["wide"].mkdir()
    folders["wide-writable"].mkdir()
    for number in range(100_000):
        os.close(os.open(folders["wide"] / f"file-{number}", os.O_CREAT | os.O_WRONLY, 0o644))
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    for name, folder in folders.items():
        options = ["--writable"] if name.endswith("writable") else []
        setup.ctxfs("add", str(folder), "--name", name, "--exclude", "*", *options)
    setup.ctxfs("mount", str(setup.mountpoint))
    rows: dict[str, object] = {}
    million(setup, rows, files)
    one_directory(setup, rows)
    huge(setup, rows)
    descriptors(setup, rows)
    processes(setup, rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with bench() as setup:
        report(run(setup, arguments.files))


if __name__ == "__main__":
    main()
