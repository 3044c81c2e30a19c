"""The event log as a part of search: `python -m benchmarks.history [--records 1000000] [--files 2000] [--starts 5]
[--folder DIR]`.

Measures, with so many records (words only) beside so many files: the time of an append to the log, of a scan and of a
start of the daemon with and without such a log, of the view of a day, from an append on the mount until a search finds
the record, and of questions to files, to records and to both. With --quotes N, measures instead how records that quote N files, as the
transcripts of agents do, change the rank of these files (--meaning: with vectors).
`python -m benchmarks.locomo --form history` measures the quality of answers from records.
"""

import argparse
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from benchmarks.following import make_notes
from benchmarks.harness import Bench, bench, interleaved, processes_of, reindex, report, running_ns, timed
from ctxfs.eventlog.chain import Link, chain_record
from ctxfs.eventlog.log import EventLog
from ctxfs.rpc.client import Client

_RECORDS_PER_SESSION = 1000
_SESSIONS_PER_DAY = 10
_VOCABULARY_WORDS = 30_000
_MESSAGE_WORDS = 30
_HALVES = 5000  # of messages, which are combined
_QUESTIONS = 40
_QUOTED_WORDS = 60
_STARTS = 5
_APPENDS = 200


class Rows(dict[str, object]):
    """The measured rows; each is printed to stderr at once, because a run takes minutes."""

    def __setitem__(self, name: str, value: object) -> None:
        print(f"{name}: {value}", file=sys.stderr, flush=True)
        super().__setitem__(name, value)


def write_log(folder: Path, count: int) -> None:
    """Write an event log with `count` records of made-up messages, as `EventLog` writes them."""
    chooser = random.Random(7)
    words = [
        f"{a}{b}{number}" for number in range(_VOCABULARY_WORDS // 100) for a in "abcdefghij" for b in "klmnopqrst"
    ]
    weights = [1 / (rank + 10) for rank in range(len(words))]
    halves = [" ".join(chooser.choices(words, weights, k=_MESSAGE_WORDS // 2)) for _ in range(_HALVES)]
    link, first_day = Link(), datetime.now(UTC) - timedelta(days=count // _RECORDS_PER_SESSION // _SESSIONS_PER_DAY + 1)
    for session in range(-(-count // _RECORDS_PER_SESSION)):
        start = first_day + timedelta(days=session // _SESSIONS_PER_DAY, hours=session % _SESSIONS_PER_DAY)
        lines = bytearray()
        for number in range(min(_RECORDS_PER_SESSION, count - session * _RECORDS_PER_SESSION)):
            text = f"{chooser.choice(halves)} {chooser.choice(halves)}"
            body = {
                "at": (start + timedelta(seconds=number)).isoformat(timespec="milliseconds"),
                "session": f"s{session}",
                "principal": "agent:bench",
                "kind": "output" if number % 2 else "input",
                "text": text,
            }
            line, link = chain_record(body, link)
            lines += line
        file = folder / start.date().isoformat() / f"s{session}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(lines)
    (folder / "head").write_text(f"{link.seq} {link.hash}\n-\n")


def append_seconds(log: EventLog, *, durable: bool) -> float:
    """Return the median time of an append of one record."""
    times = []
    for number in range(_APPENDS):
        start = time.perf_counter()
        log.append("bench", [{"kind": "note", "principal": "human:b", "text": f"append {number}"}], durable=durable)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def start_seconds(setup: Bench) -> tuple[float, float]:
    """Return (seconds, processor seconds) of a mount that starts the daemon, until the command ends.

    The indexer, which starts later and scans, is left out.
    """
    setup.mountpoint.mkdir(exist_ok=True)
    try:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall = timed([sys.executable, "-m", "ctxfs", "--store", str(setup.store), "mount", str(setup.mountpoint)])
        lasting = processes_of(setup.store)
        running = sum(running_ns(pid) for role, pid in lasting.items() if role != "indexer") / 1e9
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, running + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    finally:
        setup.ctxfs("unmount", "--all")


def measure_starts(plain: Bench, full: Bench, rounds: int, rows: Rows) -> None:
    """Add the times of starts without and with the log, which alternate, and the median of the differences of pairs."""
    pairs = [(start_seconds(plain), start_seconds(full)) for _ in range(rounds)]
    for index, unit in enumerate(("", ", of a processor")):
        values = [(1000 * without[index], 1000 * having[index]) for without, having in pairs]
        medians = [statistics.median(column) for column in zip(*values, strict=True)]
        difference = statistics.median(having - without for without, having in values)
        text = f"{medians[0]:.0f} ms, {medians[1]:.0f} ms, {difference:+.0f} ms"
        rows[f"start of the daemon{unit}: no log, this log, difference of pairs"] = text


def make_plain(plain: Bench, corpus: Path) -> None:
    """Make a store with the same files and no records."""
    plain.folder.mkdir()
    open_store(plain, corpus)
    reindex(plain.store)


def open_store(setup: Bench, corpus: Path, *, meaning: bool = False) -> None:
    """Make a store with a folder of files."""
    setup.ctxfs("init")
    config = setup.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", f"[index]\nmeaning = {str(meaning).lower()}"))
    # The daemon would compress the old days during the measurement.
    config.write_text(config.read_text().replace("[history]", "[history]\npack_after_days = 36500"))
    setup.ctxfs("add", str(corpus), "--name", "corpus")


def append_row(empty: EventLog, log: EventLog, *, durable: bool) -> str:
    """Return the times of an append to an empty log and to a full one."""
    times = interleaved(
        3, empty=partial(append_seconds, empty, durable=durable), full=partial(append_seconds, log, durable=durable)
    )
    return ", ".join(f"{1000 * value:.2f} ms" for value in times.values())


def question_times(client: Client, questions: list[str], *, seconds: float = 60.0) -> list[float]:
    """Return the seconds of each question, the first of which opens the index."""
    times, end = [], time.perf_counter() + seconds
    for question in questions:
        start = time.perf_counter()
        client.call("search", question=question, limit=20)
        times.append(time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return times


def found_seconds(setup: Bench, client: Client, rounds: int = 10) -> Iterator[float]:
    """Yield the seconds from an append on the mount until a search finds the record."""
    file = setup.mountpoint / "history" / datetime.now(UTC).date().isoformat() / "found.jsonl"
    for number in range(rounds):
        word = f"zanzibar{number}x{time.time_ns()}"
        with file.open("a") as stream:
            stream.write(json.dumps({"kind": "output", "text": f"we go to {word}"}) + "\n")
        start = time.perf_counter()
        while not client.call("search", question=f"mode:words +{word}", limit=1)["hits"]:
            if time.perf_counter() - start > 30:
                raise TimeoutError(word)
            time.sleep(0.01)
        yield time.perf_counter() - start


def questions_of(store: Path, rng: random.Random) -> tuple[list[str], list[str]]:
    """Return questions of four words that files, and that records contain."""
    notes = [
        path.read_text(errors="replace").split() for path in sorted(store.parent.glob("corpus/*/*.md"))[:_QUESTIONS]
    ]
    files = [" ".join(rng.choices([word for word in words if word.isalpha()] or ["note"], k=4)) for words in notes]
    log = EventLog(store / "history")
    lines = log.read(log.days()[0], log.sessions(log.days()[0])[0]).splitlines()[: _QUESTIONS * 7 : 7]
    records = [" ".join(json.loads(line)["text"].split()[:4]) for line in lines]
    return files, records


def quote_files(files: list[Path], log: EventLog) -> None:
    """Append three records for each file: the result of a tool that read it, a remark of an agent, and a question."""
    for number, file in enumerate(files):
        text = file.read_text(errors="replace")
        words = " ".join(text.split()[:_QUOTED_WORDS])
        records = (
            {"kind": "tool_result", "tool": "Read", "text": text},
            {"kind": "output", "text": f"I have read it. It begins with: {words}"},
            {"kind": "input", "text": f"Please look at {file.name} again: {words}"},
        )
        log.append(f"quotes-{number % 10}", [{"principal": "agent:bench", **record} for record in records])


def rank_of(client: Client, question: str, path: str) -> int:
    """Return the rank of a file among the hits of a question; 0 if it is not among the first ten."""
    paths = list(dict.fromkeys(hit["path"] for hit in client.call("search", question=question, limit=20)["hits"]))
    return paths.index(path) + 1 if path in paths[:10] else 0


def measure_quotes(count: int, *, meaning: bool) -> None:
    """Print how often the right file is the first hit, and among the first three and ten, without and with records."""
    rng = random.Random(3)
    with bench() as setup:
        make_notes(setup.corpus, count)
        files = sorted(setup.corpus.glob("*/*.md"))
        questions = {}
        for file in files:
            words = sorted(
                {word for word in file.read_text(errors="replace").split() if word.isalpha() and len(word) > 4}
            )
            questions[file] = " ".join(rng.sample(words, min(5, len(words)))) or file.stem
        ranks: dict[str, list[int]] = {}
        for name in ("without records", "with records"):
            store = Bench(setup.folder / name.split()[0])
            store.folder.mkdir()
            open_store(store, setup.corpus, meaning=meaning)
            if name == "with records":
                quote_files(files, EventLog(store.store / "history"))
            reindex(store.store)
            store.mountpoint.mkdir()
            store.ctxfs("mount", str(store.mountpoint))
            store.wait(600, lambda index: index.get("state") == "idle")
            client = Client(store.store / "run", timeout=60)
            paths = {file: f"knowledge/corpus/{file.relative_to(setup.corpus)}" for file in files}
            ranks[name] = [rank_of(client, question, paths[file]) for file, question in questions.items()]
            client.close()
            store.ctxfs("unmount", "--all")
    rows = Rows()
    for name, values in ranks.items():
        shares = [sum(0 < rank <= limit for rank in values) / len(values) for limit in (1, 3, 10)]
        rows[f"right file at rank 1, 3, 10: {name}"] = ", ".join(f"{share:.3f}" for share in shares)
    report(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--quotes", type=int, help="measure the rank of so many quoted files instead")
    parser.add_argument("--meaning", action="store_true", help="with --quotes: search by meaning, too")
    parser.add_argument("--starts", type=int, default=_STARTS, help="starts of the daemon with each store")
    parser.add_argument("--folder", type=Path, help="keep the stores here, and use those that are here")
    arguments = parser.parse_args()
    if arguments.quotes:
        measure_quotes(arguments.quotes, meaning=arguments.meaning)
        return
    rows = Rows()
    with bench(arguments.folder) as setup:
        plain = Bench(setup.folder / "plain")
        if not setup.store.exists():
            make_notes(setup.corpus, arguments.files)
            make_store_of_records(setup, arguments.records, rows)
            make_plain(plain, setup.corpus)
        empty, log = EventLog(setup.folder / "empty"), EventLog(setup.store / "history")
        rows["append: empty log, this log"] = append_row(empty, log, durable=False)
        rows["append and fsync: empty log, this log"] = append_row(empty, log, durable=True)
        reindex(setup.store)
        times = interleaved(3, plain=partial(scan_seconds, plain), full=partial(scan_seconds, setup))
        rows["a scan without a change, with the start of the command: no log, this log"] = ", ".join(
            f"{value:.2f} s" for value in times.values()
        )
        measure_starts(plain, setup, arguments.starts, rows)
        measure_day(setup, rows)
        measure_questions(setup, rows)
    report(rows)


def make_store_of_records(setup: Bench, records: int, rows: Rows) -> None:
    """Make a store with so many records, index it, and add the rows of that."""
    open_store(setup, setup.corpus)
    write_log(setup.store / "history", records)
    start = time.perf_counter()
    reindex(setup.store)
    seconds = time.perf_counter() - start
    rows[f"{records:,} records indexed by words"] = f"{seconds:.0f} s, {records / seconds:.0f}/s"
    sizes = {name: folder_megabytes(setup.store / name) for name in ("history", "index")}
    rows["size of the log, of the index"] = f"{sizes['history']:.0f} MB, {sizes['index']:.0f} MB"


def scan_seconds(setup: Bench) -> float:
    """Return the time of a scan that finds no change."""
    start = time.perf_counter()
    reindex(setup.store)
    return time.perf_counter() - start


def measure_day(setup: Bench, rows: Rows) -> None:
    """Add the times of `ctxfs history day` of the oldest day, without a daemon; the first one derives the days of all files."""
    day = EventLog(setup.store / "history").days()[0]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        setup.ctxfs("history", "day", day, "--no-pager")
        times.append(time.perf_counter() - start)
    rows["history day of the oldest day: first, later"] = f"{times[0]:.2f} s, {min(times[1:]):.2f} s"


def measure_questions(setup: Bench, rows: Rows) -> None:
    """Mount the store and add the times of questions and of freshness."""
    setup.ctxfs("mount", str(setup.mountpoint))
    client = Client(setup.store / "run", timeout=120)
    setup.wait(600, lambda index: index.get("state") in ("idle", "embedding"))
    files, records = questions_of(setup.store, random.Random(1))
    rows["first question, which opens the index"] = f"{question_times(client, files[:1])[0]:.2f} s"
    daemon = processes_of(setup.store)["daemon"]
    sets = {
        "files": [f"path:knowledge {question}" for question in files],
        "records": [f"kind:history {question}" for question in records],
        "both": files[::2] + records[::2],
    }
    for name, questions in sets.items():
        before = running_ns(daemon)
        times = question_times(client, questions)
        processor = (running_ns(daemon) - before) / 1e6 / len(times)
        p50, p95 = statistics.median(times), sorted(times)[int(0.95 * len(times))]
        values = ", ".join(f"{1000 * value:.0f} ms" for value in (p50, p95, max(times)))
        rows[f"question to {name}: p50, p95, worst; mean of a processor"] = f"{values}; {processor:.0f} ms"
    delays = list(found_seconds(setup, client))
    rows["append on the mount → found by words: p50, worst"] = (
        f"{1000 * statistics.median(delays):.0f} ms, {1000 * max(delays):.0f} ms"
    )
    client.close()


def folder_megabytes(folder: Path) -> float:
    """Return the size of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    main()
