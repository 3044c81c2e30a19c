"""Time of a hook, from the start of its process to its exit: `python -m benchmarks.capture [--runs 200]`.

Without a daemon and with one, interleaved: a hook that records a prompt, the same with 100 kB and with 10 MB on stdin,
and the bare start of the interpreter for comparison. Beside the time, the processor time of the process, which the load
of the machine changes least. With recall, the hook waits for an answer from a store with
the documentation.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.harness import Bench, bench, report

DOCS = Path(__file__).parent.parent / "docs"
PROGRAM = Path(sys.executable).with_name("ctxfs")
EVENT = {"session_id": "s", "transcript_path": "/t.jsonl", "cwd": "/project", "hook_event_name": "UserPromptSubmit"}


def hook(setup: Bench, prompt: str, *options: str) -> Callable[[], tuple[float, float]]:
    """Return a function that runs a hook, as a client does, and returns its seconds and those of the processor."""
    words = [str(PROGRAM)] if PROGRAM.exists() else [sys.executable, "-m", "ctxfs"]
    command = [*words, "--store", str(setup.store), "capture", "hook", "prompt", "--client", "claude-code", *options]
    stdin = json.dumps({**EVENT, "prompt": prompt}).encode()
    return lambda: measure(command, stdin)


def measure(command: list[str], stdin: bytes) -> tuple[float, float]:
    """Return the seconds of a command, and those of the processor. Raise RuntimeError if it fails or complains."""
    used, start = _processor_seconds(), time.perf_counter()
    done = subprocess.run(command, input=stdin, capture_output=True)
    seconds = time.perf_counter() - start
    if done.returncode or done.stderr:
        raise RuntimeError(f"{command}: {done.returncode} {done.stderr.decode(errors='replace')}")
    return seconds, _processor_seconds() - used


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def served(setup: Bench) -> Iterator[None]:
    """Mount a store with the documentation; wait until it is indexed."""
    setup.ctxfs("init")
    setup.ctxfs("add", str(DOCS), "--name", "docs")
    setup.ctxfs("mount", str(setup.mountpoint))
    setup.ctxfs("status", "--wait", "meaning")
    yield


def percentiles(times: Sequence[tuple[float, float]]) -> str:
    """Return the median and the 95th percentile of the times, and the median of the processor time, in milliseconds."""
    seconds, processor = zip(*times, strict=True)
    cut = statistics.quantiles(seconds, n=20)[-1]
    median, used = statistics.median(seconds), statistics.median(processor)
    return f"p50 {1000 * median:.1f} ms, p95 {1000 * cut:.1f} ms, processor {1000 * used:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    arguments = parser.parse_args()
    prompt = "How do we rotate the signing keys? <private>not this</private>"
    with bench() as alone, bench() as together, served(together):
        alone.ctxfs("init")
        candidates = {
            "python -c pass": lambda: measure([sys.executable, "-c", "pass"], b""),
            "no daemon": hook(alone, prompt),
            "daemon": hook(together, prompt),
            "no daemon, 100 kB": hook(alone, prompt + "x" * 100_000),
            "daemon, 100 kB": hook(together, prompt + "x" * 100_000),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
        for _ in range(arguments.runs):
            for name, run in candidates.items():
                times[name].append(run())
        few = max(5, arguments.runs // 20)
        large, recall = hook(alone, "x" * 10_500_000), hook(together, "What is a context?", "--recall")
        times["no daemon, 10 MB"] = [large() for _ in range(few)]
        times["daemon, with recall"] = [recall() for _ in range(few)]
        report({name: percentiles(seconds) for name, seconds in times.items()})


if __name__ == "__main__":
    main()
