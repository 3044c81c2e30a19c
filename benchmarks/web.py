"""Time, size and cost of the page: `python -m benchmarks.web [--files 2000] [--rounds 30]`.

First byte: from the request to the first byte of the response, over the loopback. The memory is that of the page's
process, its processor time that of ten seconds with one open event stream.
"""

import argparse
import http.client
import subprocess
import sys
import time
from urllib.parse import parse_qs, urlsplit

from benchmarks.corpus import make_corpus
from benchmarks.harness import Bench, bench, cpu_seconds, memory_mb, report

_IDLE_SECONDS = 10.0
_SCREENS = (
    "ask",
    "ask?q=open+a+file+safely",
    "contexts",
    "contexts/one?task=measured",
    "contexts/one?task=measured&view=excluded",
    "file?path=knowledge",
    "file?path=memory/note.md",
    "file?path=memory/note.md&view=versions",
    "file?path=memory/note.md&view=blame",
    "memory",
    "memory/map",
    "review",
    "now",
    "time",
    "time/version?path=memory/note.md",
    "time/file?path=memory/note.md",
    "access",
)


class _Visitor:
    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.port, self.prefix = parts.port or 0, f"/{parts.path.split('/')[1]}"
        self.headers = {"Sec-Fetch-Site": "none"}
        secret = parse_qs(parts.query)["secret"][0]
        _, response = self.request(f"open?secret={secret}")
        cookie = str(response.headers["set-cookie"]).partition(";")[0]
        self.headers = {"Sec-Fetch-Site": "same-origin", "Cookie": cookie}

    def request(self, screen: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", f"{self.prefix}/{screen}", headers=self.headers)
        return connection, connection.getresponse()

    def measure(self, screen: str) -> tuple[float, int]:
        """Return (seconds to the first byte, size in bytes)."""
        begin = time.perf_counter()
        connection, response = self.request(screen)
        seconds, size = time.perf_counter() - begin, len(response.read())
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{screen}: {response.status}")
        return seconds, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    with bench() as setup:
        _prepare(setup, options.files)
        command = [sys.executable, "-m", "ctxfs", "--store", str(setup.store), "web", "--no-open"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                _measure(_Visitor(process.stdout.readline().strip()), process.pid, options.rounds)
            finally:
                process.terminate()


def _prepare(setup: Bench, files: int) -> None:
    make_corpus(setup.corpus, files)
    setup.ctxfs("init")
    setup.ctxfs("add", str(setup.corpus), "--name", "corpus")
    setup.ctxfs("mount", str(setup.mountpoint))
    setup.wait(1800, lambda index: bool(index["searchable"]) and index["state"] in ("embedding", "idle"))
    for number in range(20):
        (setup.mountpoint / "memory" / "note.md").write_text(f"Note {number}.\n" * (number + 1))
        setup.ctxfs("commit")
    task = setup.mountpoint / "context" / "measured"
    task.mkdir()
    (task / "request.toml").write_text('query = "open a file safely"\nbudget = 4000\n')


def _measure(visitor: _Visitor, pid: int, rounds: int) -> None:
    rows: dict[str, object] = {}
    for screen in _SCREENS:
        visitor.measure(screen)  # templates are compiled at their first use
        runs = [visitor.measure(screen) for _ in range(rounds)]
        times = sorted(seconds for seconds, _ in runs)
        p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
        size = max(size for _, size in runs)
        rows[f"`{screen}`: first byte, size"] = f"p95 {1000 * p95:.0f} ms, {size / 1000:.0f} kB"
    connection, _ = visitor.request("now/live?principal=human:nobody")
    before = cpu_seconds(pid)
    time.sleep(_IDLE_SECONDS)
    rows["processor time of the page with an open stream"] = (
        f"{100 * (cpu_seconds(pid) - before) / _IDLE_SECONDS:.2f} %"
    )
    connection.close()
    memory = memory_mb(pid)
    rows["memory of the page"] = f"{memory['rss']:.0f} MB RSS, {memory['pss']:.0f} MB PSS"
    report(rows)


if __name__ == "__main__":
    main()
