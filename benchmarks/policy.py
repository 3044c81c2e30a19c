"""Cost of a policy decision: `python -m benchmarks.policy [--rules 200] [--mount]`.

Rules of the usual kinds (areas of agents, denials of single files, patterns, groups) beside the defaults; paths of
realistic depth. Cold: a path without an earlier decision; cached: one with a decision. Rules are compiled once for each
principal.
"""

import argparse
import contextlib
import os
import statistics
import time
import tomllib

from benchmarks.corpus import make_corpus
from benchmarks.harness import Bench, bench, interleaved, report, timed
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.evaluate import Policy
from ctxfs.policy.rules import default_rules, parse_policy

_PATHS = 20_000


def make_rules(count: int) -> str:
    lines = ['[groups]\nteam = ["agent:alice", "agent:bob"]\n']
    for number in range(count):
        principal = ("agent:alice", "agent:*", "group:team", f"agent:other{number}")[number % 4]
        path = (
            f"memory/a{number}/**",
            f"knowledge/src{number}/*.key",
            f"**/secret{number}.md",
            f"pad/t{number}/x/y.md",
        )[number // 4 % 4]
        effect = "deny" if number % 3 == 0 else "allow"
        lines.append(f'[[rule]]\nprincipal = "{principal}"\npath = "{path}"\nverbs = "rw"\neffect = "{effect}"\n')
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=200)
    parser.add_argument("--mount", action="store_true", help="also what the mount of an agent costs, and a revoke")
    parser.add_argument("--files", type=int, default=10_000)
    arguments = parser.parse_args()
    rules, groups = parse_policy(tomllib.loads(make_rules(arguments.rules)), "made up")
    policy, alice, now = Policy((*default_rules(), *rules), groups), Principal("agent", "alice"), time.time_ns()
    paths = [Path.parse(f"knowledge/src{n % 300}/docs/part{n % 17}/file{n}.md") for n in range(_PATHS)]
    start = time.perf_counter()
    policy.rights(alice, Path(), now)
    compiled = time.perf_counter() - start
    rows: dict[str, object] = {"rules": len(rules), "compiled in": f"{compiled * 1000:.1f} ms"}
    for name in ("cold", "cached"):
        times = []
        for path in paths:
            start = time.perf_counter_ns()
            policy.rights(alice, path, now)
            times.append(time.perf_counter_ns() - start)
        rows[f"{name}, median / 99 %"] = (
            f"{statistics.median(times) / 1000:.2f} / {statistics.quantiles(times, n=100)[98] / 1000:.2f} µs"
        )
    report(rows)
    if arguments.mount:
        with bench() as setup:
            report(on_a_mount(setup, arguments.files, make_rules(arguments.rules)))


def on_a_mount(setup: Bench, files: int, rules: str) -> dict[str, object]:
    """Compare mounts of an unrestricted person and of an agent, and measure the delay of a revocation."""
    make_corpus(setup.corpus, files)
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false") + rules)
    setup.ctxfs("add", str(setup.corpus), "--name", "corpus")
    agent_mountpoint = setup.mountpoint.parent / "mnt-agent"
    setup.ctxfs("mount", str(setup.mountpoint))
    setup.ctxfs("mount", str(agent_mountpoint), "--as", "agent:alice")
    setup.wait(300, lambda index: index["state"] == "idle")
    rg = ["rg", "-c", "import", "--no-ignore", "--hidden", "-j", "2"]
    unrestricted, restricted = (
        [*rg, str(mountpoint / "knowledge" / "corpus")] for mountpoint in (setup.mountpoint, agent_mountpoint)
    )
    timed(unrestricted), timed(restricted)
    seconds = interleaved(21, free=lambda: timed(unrestricted), ruled=lambda: timed(restricted))
    rows: dict[str, object] = {
        "rg -c import, warm": f"{seconds['ruled'] / seconds['free']:.3f} × no policy"
        f" ({seconds['ruled'] * 1000:.0f} / {seconds['free'] * 1000:.0f} ms)",
    }
    times, text = [], config.read_text()
    denial = '\n[[rule]]\nprincipal = "agent:*"\npath = "knowledge/corpus"\nverbs = "lrwxa"\neffect = "deny"\n'
    for _ in range(10):
        config.write_text(text)
        while not (agent_mountpoint / "knowledge" / "corpus").exists():
            time.sleep(0.01)
        file = next(
            path
            for path in (agent_mountpoint / "knowledge" / "corpus").rglob("*")
            if path.is_file() and path.stat().st_size
        )
        fd = os.open(file, os.O_RDONLY)
        os.pread(fd, 1, 0)
        config.write_text(text + denial)
        start = time.perf_counter()
        with contextlib.suppress(OSError):
            while os.pread(fd, 1, 0):
                pass
        times.append(time.perf_counter() - start)
        os.close(fd)
        while (agent_mountpoint / "knowledge" / "corpus").exists():
            pass
    rows["a revoke reaches an open file after, median / most"] = (
        f"{statistics.median(times) * 1000:.0f} / {max(times) * 1000:.0f} ms"
    )
    return rows


if __name__ == "__main__":
    main()
