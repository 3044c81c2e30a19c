"""The cost of the Python library over the requests under it, of its import, and of commands over the interpreter.

`python -m benchmarks.library [--rounds N]`

The calls of a pair (library, request) take turns on one daemon; the ratio of their medians is printed. Start times are the
least of a few runs.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import ctxfs
from benchmarks.harness import Bench, interleaved, served_notes, timed
from ctxfs.model.change import Put
from ctxfs.model.path import Path as TreePath
from ctxfs.rpc.client import Client
from ctxfs.rpc.wire import change_to_wire

_STARTS = 15
_QUESTION = "how are the signing keys rotated?"
_FILE = "pad/bench/x.md"
_OTHER_FILE = "pad/bench/y.md"  # of another session, so that the writers do not take turns on one file


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def start_time(*command: str) -> float:
    """Return the least seconds that a command takes, of a few runs."""
    return min(timed(list(command)) for _ in range(_STARTS))


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


def measure_starts(bench: Bench) -> None:
    """Print the start times of the interpreter, the import and commands."""
    bare = start_time(sys.executable, "-c", "pass")
    commands = {
        "import ctxfs": ("-c", "import ctxfs"),
        "ctxfs --help": ("-m", "ctxfs", "--help"),
        "ctxfs search": ("-m", "ctxfs", "--store", str(bench.store), "search", _QUESTION),
    }
    print(f"{'python -c pass':<18}{bare * 1e3:>9.0f} ms")
    for name, command in commands.items():
        seconds = start_time(sys.executable, *command)
        print(f"{name:<18}{seconds * 1e3:>9.0f} ms{seconds / bare:>8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    with served_notes() as bench:
        measure_calls(bench, options.rounds)
        measure_starts(bench)


if __name__ == "__main__":
    main()
