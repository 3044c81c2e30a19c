"""The costs of a billion chunks and a hundred thousand agents: a simulation from measured constants.

`python -m benchmarks.internet_scale [--chunks 1e9] [--agents 1e5] [--generation 1e6] [--asked 20] [--replicas 2] [--json]`

The design is that of docs/decisions/0016-logs-by-store-generations-by-source.md. Knowledge is cut into generations of
about `--generation` chunks, each of which is served by `--replicas` nodes; a question goes to the `--asked` generations
that a table of terms and centroids names. Memories are in stores of their own, with a log each.

The simulation draws arrivals, service times and the choice of generations at random (`--seed`). Each request queues at
the machine that is free first among those with the generation, and a question waits for its slowest generation. Nothing
here was run at that size: the figures follow from the constants below, each of which names its measurement.
"""

import argparse
import heapq
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

# One generation, by `benchmarks.scale` (99,065 and 496,856 chunks: 3.7 and 6.5 ms p50; 493 and 1,182 MB), as a line.
_SERVICE_MS, _SERVICE_MS_PER_MILLION = 3.0, 7.0
_SERVICE_SPREAD = 0.39  # sigma of a lognormal distribution with p95 / p50 = 1.9, as with 496,856 chunks
_MEMORY_MB, _MEMORY_MB_PER_MILLION = 322.0, 1733.0
_DISK_KB_PER_CHUNK = 2.4  # the index of 17,040 chunks of Python's library takes 41 MB
_CHUNKS_PER_CORE_SECOND = 80.0  # embedded, `benchmarks.search`
_QUESTION_MS = 3.0  # the embedding of a question, `benchmarks.peers`
# The shared log, in the notes on the decision: PostgreSQL, turns, four writers; NOTIFY of one server.
_APPENDS_PER_LOG, _WAKE_UPS_PER_ENGINE = 99.0, 600.0
_NETWORK_MS, _NETWORK_SPREAD = 0.5, 0.5  # assumed: a round trip in one data centre, median and sigma
# A request: terms with their document frequencies, and the vector; a response: the signals of the best 400.
_REQUEST_BYTES, _RESPONSE_BYTES = 2_000, 400 * 60
_TERM_TABLE_BYTES = 16  # of a term in the table of document frequencies
_CENTROIDS, _VECTOR_BYTES = 256, 384
_TERMS_PER_GENERATION = 400_000
_CORES, _MEMORY_GB = 64, 256  # of a machine


@dataclass(frozen=True, slots=True)
class Load:
    """The size of the store and the work of its agents. `asked` is the number of generations a question goes to."""

    chunks: float = 1e9
    agents: float = 1e5
    generation: float = 1e6
    asked: int = 20
    replicas: int = 2
    questions_per_hour: float = 30.0
    writes_per_hour: float = 10.0
    changed_per_day: float = 0.01
    utilisation: float = 0.5

    @property
    def generations(self) -> int:
        """Return the number of generations."""
        return max(1, math.ceil(self.chunks / self.generation))

    @property
    def questions_per_second(self) -> float:
        """Return the questions of all agents."""
        return self.agents * self.questions_per_hour / 3600

    @property
    def service_ms(self) -> float:
        """Return the median processor time of a question in one generation."""
        return _SERVICE_MS + _SERVICE_MS_PER_MILLION * self.generation / 1e6


@dataclass(frozen=True, slots=True)
class Costs:
    """The needs of a load, apart from its latency."""

    generations: int
    machines: int
    cores: float
    memory_gb: float
    disk_tb: float
    network_gbit: float
    table_gb: float
    embedding_core_days: float
    daily_embedding_cores: float
    appends_per_second: float
    engines: int


def costs_of(load: Load) -> Costs:
    """Return the machines, traffic and first and daily embedding of a load."""
    asked = min(load.asked, load.generations)
    mean_ms = load.service_ms * math.exp(_SERVICE_SPREAD**2 / 2)
    work = load.questions_per_second * (asked * mean_ms + _QUESTION_MS) / 1000
    held = load.generations * load.replicas
    appends = load.agents * load.writes_per_hour / 3600
    tables = load.generations * (_TERMS_PER_GENERATION * _TERM_TABLE_BYTES + _CENTROIDS * _VECTOR_BYTES)
    cores = work / load.utilisation
    memory_gb = held * (_MEMORY_MB + _MEMORY_MB_PER_MILLION * load.generation / 1e6) / 1000
    return Costs(
        generations=load.generations,
        machines=max(load.replicas, math.ceil(cores / _CORES), math.ceil(memory_gb / _MEMORY_GB)),
        cores=cores,
        memory_gb=memory_gb,
        disk_tb=held * load.generation * _DISK_KB_PER_CHUNK / 1e9,
        network_gbit=load.questions_per_second * asked * (_REQUEST_BYTES + _RESPONSE_BYTES) * 8 / 1e9,
        table_gb=tables / 1e9,
        embedding_core_days=load.chunks / _CHUNKS_PER_CORE_SECOND / 86_400,
        daily_embedding_cores=load.chunks * load.changed_per_day / _CHUNKS_PER_CORE_SECOND / 86_400,
        appends_per_second=appends,
        engines=math.ceil(appends / _WAKE_UPS_PER_ENGINE),
    )


class Machine:
    """The processors of a machine, with one queue. Times are in milliseconds."""

    def __init__(self, chance: random.Random, service_ms: float) -> None:
        self._free_at = [0.0] * _CORES
        self._chance = chance
        self._service_ms = service_ms

    @property
    def free_at(self) -> float:
        """Return the time when a processor is free."""
        return self._free_at[0]

    def serve(self, at: float) -> float:
        """Return the time when a request that arrives `at` is answered."""
        started = max(at, self._free_at[0])
        ended = started + self._chance.lognormvariate(math.log(self._service_ms), _SERVICE_SPREAD)
        heapq.heapreplace(self._free_at, ended)
        return ended + self._chance.lognormvariate(math.log(_NETWORK_MS), _NETWORK_SPREAD)


def simulate(load: Load, questions: int, seed: int) -> list[float]:
    """Return the sorted latencies of questions in milliseconds."""
    chance = random.Random(seed)
    machines = [Machine(chance, load.service_ms) for _ in range(costs_of(load).machines)]
    held_by = [chance.sample(machines, load.replicas) for _ in range(load.generations)]
    asked = min(load.asked, load.generations)
    now, latencies = 0.0, []
    for _ in range(questions):
        now += chance.expovariate(load.questions_per_second / 1000)
        sent = now + _QUESTION_MS
        replicas = (held_by[number] for number in chance.sample(range(load.generations), asked))
        answered = [min(those, key=lambda machine: machine.free_at).serve(sent) for those in replicas]
        latencies.append(max(answered) - now)
    return sorted(latencies)


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Load()
    parser.add_argument("--chunks", type=float, default=default.chunks)
    parser.add_argument("--agents", type=float, default=default.agents)
    parser.add_argument("--generation", type=float, default=default.generation)
    parser.add_argument("--asked", type=int, default=default.asked)
    parser.add_argument("--replicas", type=int, default=default.replicas)
    parser.add_argument("--questions", type=int, default=20_000, help="questions to simulate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    load = Load(arguments.chunks, arguments.agents, arguments.generation, arguments.asked, arguments.replicas)
    latencies = simulate(load, arguments.questions, arguments.seed)
    quantiles = {f"p{share * 100:g}": round(quantile(latencies, share), 1) for share in (0.5, 0.95, 0.99)}
    costs = {name: round(value, 2) for name, value in asdict(costs_of(load)).items()}
    if arguments.json:
        print(json.dumps({"load": asdict(load), "costs": costs, "latency_ms": quantiles}))
        return
    print("\n".join(f"| {name.replace('_', ' ')} | {value:,} |" for name, value in costs.items()))
    print("| latency of a question | " + ", ".join(f"{name} {value:g}" for name, value in quantiles.items()) + " ms |")


if __name__ == "__main__":
    main()
