"""Run the checker without pytest: `python -m tests.shared.checking --seed 7 --nodes 3 --rounds 1000`.

It prints a line a run, and the faults of the first run that has some. The same arguments replay a run.
"""

import argparse
import faulthandler
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.shared.checking.run import check_world
from tests.shared.engines import running_postgres

_MAX_SECONDS = 600  # of a run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.shared.checking", description="Check shared stores.")
    parser.add_argument("--seed", type=int, default=1, help="first seed [default: 1]")
    parser.add_argument("--runs", type=int, default=1, help="number of seeds [default: 1]")
    parser.add_argument("--nodes", type=int, default=0, help="2, 3 or 4; 0: in turn [default: 0]")
    parser.add_argument("--rounds", type=int, default=1000, help="operations of a run [default: 1000]")
    parser.add_argument("--engine", choices=("folder", "postgres"), default="folder")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no run after this time")
    parser.add_argument("--below", help="folder for the stores")
    options = parser.parse_args()
    if options.engine == "postgres":
        with running_postgres() as server:
            return _run(options, server.url())
    return _run(options, "")


def _run(options: argparse.Namespace, url: str) -> int:
    started = time.monotonic()
    for seed in range(options.seed, options.seed + options.runs):
        if time.monotonic() - started > options.seconds:
            break
        nodes = options.nodes or 2 + seed % 3
        folder = Path(tempfile.mkdtemp(prefix="ctxfs-checking-", dir=options.below))
        begun = time.monotonic()
        faulthandler.dump_traceback_later(_MAX_SECONDS, exit=True)
        try:
            (folder / "engine").mkdir()
            world = check_world(folder, url or f"file://{folder}/engine", f"s{seed}", seed, nodes, options.rounds)
        except BaseException:
            traceback.print_exc()
            print(f"FAULT: --seed {seed} --nodes {nodes} --rounds {options.rounds} --engine {options.engine}")
            return 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        counts = " ".join(f"{label}={count}" for label, count in sorted(world.counts.items()))
        seconds = time.monotonic() - begun
        print(f"seed {seed}: {nodes} nodes, {len(world.entries)} entries, {seconds:.0f} s, {counts}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
