"""The time of requests over HTTP, beside the same requests on the daemon's socket.

`python -m benchmarks.http [--rounds N]`

One connection stays open. The calls take turns in a random order; medians and the 95th percentile are printed.
"""

import argparse
import http.client
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.harness import served_notes
from ctxfs.rpc.client import Client

_QUESTION = "how are the signing keys rotated?"
_FILE = "pad/bench/x.md"
_CONTENT_BYTES = 4096
_WARM_UP_ROUNDS = 50


class Connection:
    """An open connection to `ctxfs serve`, with a token."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self._token = token

    def send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Return the body of the response. Raise RuntimeError for a failed request."""
        self._connection.request(method, path, body, {"Authorization": f"Bearer {self._token}"})
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {content!r}")
        return content

    def post(self, path: str, value: Mapping[str, Any]) -> None:
        """Send JSON."""
        self.send("POST", path, json.dumps(value).encode())


def measure(rounds: int, calls: Mapping[str, Callable[[], object]]) -> Mapping[str, tuple[float, float]]:
    """Return the median and the 95th percentile of each call in milliseconds.

    The calls take turns. Each round has another order, because a call after a search, or after a call that the
    server takes no part in, waits longer.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls.items())
    for number in range(_WARM_UP_ROUNDS + rounds):
        random.shuffle(order)
        for name, call in order:
            start = time.perf_counter()
            call()
            if number >= _WARM_UP_ROUNDS:
                seconds[name].append(time.perf_counter() - start)
    return {
        name: (statistics.median(times) * 1e3, statistics.quantiles(times, n=20)[-1] * 1e3)
        for name, times in seconds.items()
    }


def measure_requests(connection: Connection, client: Client, rounds: int) -> None:
    """Print the rows."""
    connection.send("PUT", f"/files/{_FILE}", b"x" * _CONTENT_BYTES)
    read = {"method": "read", "params": {"path": f"/{_FILE}"}}
    stat = {"method": "stat", "params": {"path": f"/{_FILE}"}}
    calls: dict[str, Callable[[], object]] = {
        "socket: read, 4 kB": lambda: client.call("read", path=_FILE),
        "/rpc read, 4 kB": lambda: connection.post("/rpc", read),
        "/rpc stat": lambda: connection.post("/rpc", stat),
        "/api/read, 4 kB": lambda: connection.post("/api/read", {"path": _FILE}),
        "/files, 4 kB": lambda: connection.send("GET", f"/files/{_FILE}"),
        "socket: search": lambda: client.call("search", question=_QUESTION),
        "/api/search": lambda: connection.post("/api/search", {"question": _QUESTION}),
        "/openapi.json": lambda: connection.send("GET", "/openapi.json"),
    }
    print(f"{'request':<22}{'p50':>10}{'p95':>12}")
    for name, (median, slow) in measure(rounds, calls).items():
        print(f"{name:<22}{median:>7.2f} ms{slow:>9.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    options = parser.parse_args()
    with served_notes() as bench:
        command = [sys.executable, "-m", "ctxfs", "--store", str(bench.store), "serve", "--http", "127.0.0.1:0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            match = re.search(r":(\d+);", server.stderr.readline())
            assert match is not None
            client = Client(bench.store / "run")
            token = bench.ctxfs("token", "issue", "agent:bench").strip()
            measure_requests(Connection(int(match[1]), token), client, options.rounds)
            client.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


if __name__ == "__main__":
    main()
