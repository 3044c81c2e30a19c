"""Time, size and cost of the page: `python -m benchmarks.web [--files 50000] [--versions 100000] [--records 1000000]
[--memories 10000] [--reviews 1000] [--rounds 30] [--folder DIR] [--meaning] [--browser]`.

First byte: from the request to the first byte of the response, over the loopback; beside it the processor time of the
page and the daemon for a request, which a load of the machine changes little. First paint: in Chromium (`--browser`, with
`make test-web` before). Memory: of the page's process. A named folder keeps the store for another run.
"""

import argparse
import html.parser
import http.client
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.harness import Bench, bench, memory_mb, processes_of, report, running_ns
from benchmarks.web_store import Numbers, make_web_store

_IDLE_SECONDS = 10.0
_EVENTS = 20
_MAX_FIRST_BYTE_MS, _MAX_PAGE_KB, _MAX_ROWS, _MAX_EVENT_MS, _MAX_PAINT_MS = 150, 200, 200, 300, 300
_MAX_IDLE_PERCENT, _MAX_MEMORY_MB = 0.2, 40
_QUIET_SECONDS = 5.0  # after which the page has returned its free memory
_MEMORY = "memory/agent-00/fact/00000.md"
_VERSIONED = "pad/versions/note-000.md"
_SCREENS = (
    "ask",
    "ask?q=signing+key+rotation",
    "now",
    "contexts",
    "contexts/state?task=task-000",
    "contexts/one?task=task-000",
    "contexts/one?task=task-000&view=excluded",
    "contexts/one?task=task-000&view=text",
    "contexts/compare?old=task-000&new=task-001",
    "memory",
    "memory?agent=agent-03&trust=untrusted",
    "memory?words=canteen+rotation",
    "memory?page=100",
    "memory/map",
    f"memory/edit?path={_MEMORY}",
    "review",
    "review?page=50",
    "time",
    f"time?path={_VERSIONED}",
    f"time/version?path={_VERSIONED}",
    f"time/file?path={_VERSIONED}",
    "access",
    "access/policy",
    "file?path=knowledge/corpus/00",
    f"file?path={_VERSIONED}",
    f"file?path={_VERSIONED}&view=metadata",
    f"file?path={_VERSIONED}&view=versions",
    f"file?path={_VERSIONED}&view=blame",
    f"file?path={_VERSIONED}&view=diff",
    f"file?path={_VERSIONED}&view=impact",
)


class _Visitor:
    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.port, self.prefix = parts.port or 0, f"/{parts.path.split('/')[1]}"
        self.headers = {"Sec-Fetch-Site": "none"}
        secret = parse_qs(parts.query)["secret"][0]
        _, response = self.request(f"open?secret={secret}")
        self.cookie = str(response.headers["set-cookie"]).partition(";")[0]
        self.headers = {"Sec-Fetch-Site": "same-origin", "Cookie": self.cookie}

    def request(self, screen: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("GET", f"{self.prefix}/{screen}", headers=self.headers)
        return connection, connection.getresponse()

    def measure(self, screen: str) -> tuple[float, bytes]:
        """Return (milliseconds to the first byte, the page)."""
        begin = time.perf_counter()
        connection, response = self.request(screen)
        milliseconds, data = 1000 * (time.perf_counter() - begin), response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{screen}: {response.status}")
        return milliseconds, data


class _RowCounter(html.parser.HTMLParser):
    """Counts the rows of the longest table or list of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = self._count = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("table", "ol", "ul"):
            self._count = 0
        self._count += tag in ("tr", "li")
        self.rows = max(self.rows, self._count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("files", "versions", "records", "memories", "reviews", "contexts"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Numbers(), name))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", default="", metavar="TEXT", help="measure the screens whose address has this text")
    parser.add_argument("--meaning", action="store_true", help="embed the files, too")
    parser.add_argument("--browser", action="store_true", help="measure the first paint in Chromium")
    options = parser.parse_args()
    numbers = Numbers(*(getattr(options, name) for name in Numbers.__dataclass_fields__))
    with bench(options.folder) as setup:
        make_web_store(setup, numbers, meaning=options.meaning)
        setup.ctxfs("mount", str(setup.mountpoint))
        setup.wait(3600, lambda index: index["state"] == "idle")
        daemon = processes_of(setup.store)["daemon"]
        before, unstarted = memory_mb(daemon)["rss"], processes_without_page(setup)
        command = [sys.executable, "-m", "ctxfs", "--store", str(setup.store), "web", "--no-open"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            try:
                assert process.stdout is not None
                address = process.stdout.readline().strip()
                rows = measure_screens(_Visitor(address), (process.pid, daemon), options.rounds, options.only)
                rows |= measure_stream(setup, _Visitor(_another_address(setup)), (process.pid, daemon))
                if options.browser:
                    rows |= measure_paint(_another_address(setup), options.rounds)
                rows |= measure_memory(process.pid) | unstarted
                rows["memory of the daemon before and after"] = (
                    f"{before:.0f} and {memory_mb(daemon)['rss']:.0f} MB RSS"
                )
            finally:
                process.terminate()
        report(rows)


def _another_address(setup: Bench) -> str:
    return setup.ctxfs("web", "--no-open").strip()


def _p95(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def measure_screens(visitor: _Visitor, processes: Sequence[int], rounds: int, only: str) -> dict[str, object]:
    """Return the figures of each screen; one over its bound is marked."""
    rows: dict[str, object] = {}
    for screen in (screen for screen in _SCREENS if only in screen):
        first, _ = visitor.measure(screen)  # templates are compiled at their first use
        begin = sum(map(running_ns, processes))
        runs = [visitor.measure(screen) for _ in range(rounds)]
        cpu_ms = (sum(map(running_ns, processes)) - begin) / 1e6 / rounds
        counter = _RowCounter()
        page = max((data for _, data in runs), key=len)
        counter.feed(page.decode())
        p95, size = _p95([milliseconds for milliseconds, _ in runs]), len(page) / 1000
        is_over = p95 > _MAX_FIRST_BYTE_MS or size > _MAX_PAGE_KB or counter.rows > _MAX_ROWS + 1
        text = (
            f"p95 {p95:.0f} (limit {_MAX_FIRST_BYTE_MS}) ms, processor {cpu_ms:.0f} ms, first {first:.0f} ms, "
            f"{size:.0f} (limit {_MAX_PAGE_KB}) kB, {counter.rows} (limit {_MAX_ROWS}) rows"
        )
        rows[f"`{screen}`"] = text + (" (over)" if is_over else "")
        print(f"{screen}: {rows[f'`{screen}`']}", file=sys.stderr, flush=True)
    return rows


def measure_stream(setup: Bench, visitor: _Visitor, processes: tuple[int, int]) -> dict[str, object]:
    """Return the cost of an idle page with an event stream, and the time from a write on the mount until its row arrives.

    The cost of the stream for the daemon is the difference to that without one.
    """
    alone = _idle_percents(processes)
    connection, response = visitor.request("now/live?principal=human:nobody")
    response.readline()
    open_stream = _idle_percents(processes)
    connection.close()
    page, daemon = open_stream[0], open_stream[1] - alone[1]
    rows: dict[str, object] = {
        "idle page with an open event stream": f"{page:.2f} (limit {_MAX_IDLE_PERCENT}) % of a processor; the daemon "
        f"{alone[1]:.2f} % without it, {daemon:+.2f} % by it" + " (over)" * (page > _MAX_IDLE_PERCENT)
    }
    connection, response = visitor.request("now/live")
    delays = []
    for number in range(_EVENTS):
        name = f"event-{number}-{time.time_ns()}.md"
        (setup.mountpoint / "pad" / name).write_text("x\n")
        written = time.perf_counter()
        while name.encode() not in response.readline():
            pass
        delays.append(1000 * (time.perf_counter() - written))
    connection.close()
    p95 = _p95(delays)
    rows["from `close` to the row in the event stream"] = _limited_ms(p95, _MAX_EVENT_MS)
    return rows


def _idle_percents(processes: tuple[int, int]) -> tuple[float, float]:
    """Return the share of a processor, in per cent, that the page and the daemon take while nothing happens."""
    begin = running_ns(processes[0]), _process_seconds(processes[1])
    time.sleep(_IDLE_SECONDS)
    page = (running_ns(processes[0]) - begin[0]) / 1e9
    return 100 * page / _IDLE_SECONDS, 100 * (_process_seconds(processes[1]) - begin[1]) / _IDLE_SECONDS


def _process_seconds(pid: int) -> float:
    """Return the processor time of a process with that of its threads that have ended, in clock ticks of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _limited_ms(p95: float, limit: float) -> str:
    return f"p95 {p95:.0f} (limit {limit:.0f}) ms" + " (over)" * (p95 > limit)


def measure_paint(address: str, rounds: int) -> dict[str, object]:
    """Return the first contentful paint of the screens in Chromium."""
    rows: dict[str, object] = {}
    driver: Any = importlib.import_module("playwright.sync_api")  # installed by `make test-web`
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("nav")
        base = address.rpartition("/")[0]
        for screen in ("ask", "now", "contexts", "contexts/one?task=task-000", "memory", "review", "time", "access"):
            paints = []
            for _ in range(max(3, rounds // 5)):
                page.goto(f"{base}/{screen}")
                entry = "performance.getEntriesByName('first-contentful-paint')"
                page.wait_for_function(f"{entry}.length")
                paints.append(float(page.evaluate(f"{entry}[0].startTime")))
            p95 = _p95(paints)
            rows[f"`{screen}`: first paint"] = _limited_ms(p95, _MAX_PAINT_MS)
        browser.close()
    return rows


def measure_memory(pid: int) -> dict[str, object]:
    """Return the memory of the page's process, and of the process for code and Markdown, which ends after a minute."""
    time.sleep(_QUIET_SECONDS)
    memory = memory_mb(pid)
    text = f"{memory['rss']:.0f} (limit {_MAX_MEMORY_MB}) MB RSS, {memory['pss']:.0f} MB PSS"
    rows: dict[str, object] = {"memory of the page": text + " (over)" * (memory["rss"] > _MAX_MEMORY_MB)}
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    others = [f"{memory_mb(int(child))['rss']:.0f} MB RSS" for child in children]
    return rows | {"memory of the renderer": ", ".join(others) or "none runs"}


def processes_without_page(setup: Bench) -> dict[str, object]:
    """Return the processes of the page in the store before it is started: none."""
    commands = [Path(f"/proc/{name}/cmdline") for name in os.listdir("/proc") if name.isdigit()]
    named = []
    for command in commands:
        with suppress(OSError):
            words = command.read_bytes().split(b"\0")
            named += [words] if b"web" in words and os.fsencode(setup.store) in words else []
    return {"processes of the page before its start": f"{len(named)} (limit 0)" + " (over)" * bool(named)}


if __name__ == "__main__":
    main()
