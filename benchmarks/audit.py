"""Cost of the audit on the mount: `python -m benchmarks.audit [--files 2000] [--rounds 9]`.

Two stores that differ only in `history.audit`, interleaved: create, write and close of small files, and open, read and
close of them. The daemons' concurrent work (versions, indexing, the hash chain) runs on the same processors.
"""

import argparse
import os
import shutil
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import Bench, bench, interleaved, report


def create_mount(setup: Bench, *, audit: bool) -> Bench:
    """Create and mount a store without vectors, with the audit on or off."""
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    text = config.read_text().replace("[index]", "[index]\nmeaning = false")
    config.write_text(text if audit else text.replace("# audit = true", "audit = false"))
    setup.ctxfs("mount", str(setup.mountpoint))
    return setup


def measure_creates(folder: Path, files: int) -> float:
    """Return the seconds to create, write and close the files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    time.sleep(1.5)  # until the deferred work of the deletion has ended
    start = time.perf_counter()
    for number in range(files):
        fd = os.open(f"{folder}/{number}.md", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"some text of a small file\n")
        os.close(fd)
    return time.perf_counter() - start


def measure_reads(folder: Path, files: int) -> float:
    """Return the seconds to open, read and close the files."""
    start = time.perf_counter()
    for number in range(files):
        fd = os.open(f"{folder}/{number}.md", os.O_RDONLY)
        os.read(fd, 4096)
        os.close(fd)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with bench() as audited, bench() as unaudited:
        folders = {
            "on": create_mount(audited, audit=True).mountpoint / "pad" / "made",
            "off": create_mount(unaudited, audit=False).mountpoint / "pad" / "made",
        }
        rows: dict[str, object] = {}
        for name, measure in (("create, write, close", measure_creates), ("open, read, close", measure_reads)):
            seconds = interleaved(
                arguments.rounds,
                on=partial(measure, folders["on"], arguments.files),
                off=partial(measure, folders["off"], arguments.files),
            )
            on, off = (1e6 * seconds[side] / arguments.files for side in ("on", "off"))
            rows[name] = f"{on / off:.3f} × audit off ({on:.0f} / {off:.0f} µs)"
        report(rows)


if __name__ == "__main__":
    main()
