"""What a decision costs: `python -m benchmarks.policy [--rules 200]`.

Rules of the kinds that people write (areas of agents, denials of single files, patterns, groups) beside the defaults; paths of
real depth.
Cold: a path that was not asked about before; cached: one that was. Compiling happens once a principal.
"""

import argparse
import statistics
import time
import tomllib

from benchmarks.harness import report
from ctxfs.model.path import Path
from ctxfs.model.principal import Principal
from ctxfs.policy.decide import Policy
from ctxfs.policy.rules import default_rules, parse_policy

_PATHS = 20_000


def make_rules(count: int) -> str:
    lines = ['[groups]\nteam = ["agent:alice", "agent:bob"]\n']
    for number in range(count):
        who = ("agent:alice", "agent:*", "group:team", f"agent:other{number}")[number % 4]
        path = (
            f"memory/a{number}/**",
            f"knowledge/src{number}/*.key",
            f"**/secret{number}.md",
            f"pad/t{number}/x/y.md",
        )[number // 4 % 4]
        effect = "deny" if number % 3 == 0 else "allow"
        lines.append(f'[[rule]]\nprincipal = "{who}"\npath = "{path}"\nverbs = "rw"\neffect = "{effect}"\n')
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=200)
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


if __name__ == "__main__":
    main()
