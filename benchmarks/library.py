"""The cost of the Python library over the requests under it, of its import, and of commands over the interpreter.

`python -m benchmarks.library [--rounds N] [--python FILE]`

The calls of a pair (library, request) take turns on one daemon; the ratio of their medians is printed. So do the commands
that start, and their processor time is printed, too.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import ctxfs
from benchmarks.harness import Bench, interleaved, served_notes
from ctxfs.model.change import Put
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.client import Client
from ctxfs.rpc.wire import change_to_wire

_STARTS = 40
_QUESTION = "how are the signing keys rotated?"
_FILE = "pad/bench/x.md"
_OTHER_FILE = "pad/bench/y.md"  # of another session, so that the writers do not take turns on one file


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure_calls(bench: Bench, rounds: int) -> None:
    """Print the times of calls of the library and of the requests under them."""
    with ctxfs.open(str(bench.store)) as store:
        client = Client(bench.store / "run")
        client.call("join")
        content = b"x" * 4096
        store.write(_FILE, content)
        put = change_to_wire(Put(TreePath.parse(_OTHER_FILE), content))
        pairs: dict[str, tuple[Callable[[], object], ...]] = {
            "stat": (lambda: store.stat(_FILE), lambda: client.call("stat", path=_FILE)),
            "read, 4 kB": (lambda: store.read(_FILE), lambda: client.call("read", path=_FILE)),
            "list, 200 files": (
                lambda: store.list("knowledge/notes"),
                lambda: client.call("list", path="knowledge/notes"),
            ),
            "write, 4 kB": (lambda: store.write(_FILE, content), lambda: client.call("apply", change=put)),
            "search": (lambda: store.search(_QUESTION), lambda: client.call("search", question=_QUESTION, labels=True)),
        }
        print(f"{'call':<18}{'library':>12}{'request':>12}{'ratio':>8}")
        for name, (library, request) in pairs.items():
            medians = interleaved(rounds, library=partial(seconds_of, library), request=partial(seconds_of, request))
            ratio = medians["library"] / medians["request"]
            print(f"{name:<18}{medians['library'] * 1e6:>9.0f} µs{medians['request'] * 1e6:>9.0f} µs{ratio:>8.2f}")
        client.close()


def processor_seconds(command: list[str]) -> tuple[float, float]:
    """Return the seconds and the processor seconds that a command takes; its output is dropped."""
    drop = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]
    start = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=drop)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    return seconds, usage.ru_utime + usage.ru_stime


def measure_starts(bench: Bench, python: str) -> None:
    """Print the start times of the interpreter, the import and commands, which take turns, and their ratios.

    `python` is an interpreter with ctxfs and its bytecode. The modules of its `.pth` files count for all rows.
    """
    program = os.path.join(os.path.dirname(python), "ctxfs")
    commands = {
        "python -c pass": [python, "-c", "pass"],
        "import ctxfs": [python, "-c", "import ctxfs"],
        "ctxfs --help": [program, "--help"],
        "ctxfs search": [program, "--store", str(bench.store), "search", _QUESTION],
    }
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(_STARTS):
        for name, command in commands.items():
            rows[name].append(processor_seconds(command))
    medians = {
        name: [statistics.median(values) for values in zip(*measured, strict=True)] for name, measured in rows.items()
    }
    bare = medians["python -c pass"]
    print(f"{'start':<18}{'time':>9}{'ratio':>11}{'processor':>12}{'ratio':>8}")
    for name, (wall, processor) in medians.items():
        print(
            f"{name:<18}{wall * 1e3:>6.1f} ms{wall / bare[0]:>11.2f}{processor * 1e3:>9.1f} ms{processor / bare[1]:>8.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environment that starts")
    options = parser.parse_args()
    with served_notes() as bench:
        measure_calls(bench, options.rounds)
        measure_starts(bench, options.python)


if __name__ == "__main__":
    main()
