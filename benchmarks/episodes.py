"""Time, memory and size of the summary of a very long session, and of the records that came after it.

`python -m benchmarks.episodes [--records 100000] [--megabytes 200]`: the session repeats sentences of this repository's
documentation. A fourth of the records are inputs, answers, calls of tools and results each.
"""

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ctxfs.context.episodes.builder import EpisodeBuilder
from ctxfs.context.episodes.render import render_episode
from ctxfs.eventlog.log import EventLog
from ctxfs.eventlog.record_text import parse_line
from ctxfs.eventlog.session_files import SessionFile, SessionFiles, lines_of_file

_SEED = 7
_SHARES = {"input": 0.03, "output": 0.12, "tool_result": 0.85}  # of the characters
_BATCH_RECORDS = 1_000


def make_records(count: int, megabytes: float) -> Iterator[dict[str, object]]:
    """Yield records with about as many characters in all."""
    chance = random.Random(_SEED)
    words = " ".join(file.read_text() for file in sorted(Path("docs").glob("*.md"))).split()
    average = len(" ".join(words)) / len(words)
    turns = max(1, count // 4)
    lengths = {kind: max(1, int(share * megabytes * 1e6 / turns / average)) for kind, share in _SHARES.items()}
    for turn in range(turns):
        for kind in ("input", "tool_call", "tool_result", "output"):
            record: dict[str, object] = {"principal": "agent:bench", "kind": kind, "tool": "Edit", "call": str(turn)}
            if kind == "tool_call":
                yield {**record, "arguments": {"path": f"src/file{turn % 3000}.py"}}
                continue
            start = chance.randrange(max(1, len(words) - lengths[kind]))
            text = " ".join(words[start : start + lengths[kind]])
            yield {**record, "text": f"We decided to use variant {turn}. {text}" if kind == "output" else text}


def _add_records(episode: EpisodeBuilder, file: SessionFile, offset: int, number: int) -> tuple[int, int]:
    """Add the records from a position on; return the position of the next one."""
    for line_number, next_offset, line in lines_of_file(file, offset, number):
        record = parse_line(line.data, is_head=line.is_head)
        if record is not None:
            episode.add(f"{file.name}:{line_number}", record)
        offset, number = next_offset, line_number + 1
    return offset, number


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--megabytes", type=float, default=200.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = EventLog(Path(folder))
        batch: list[dict[str, object]] = []
        for record in make_records(options.records, options.megabytes):
            batch.append(record)
            if len(batch) == _BATCH_RECORDS:
                log.append("bench", batch)
                batch = []
        log.append("bench", batch)
        (file,) = SessionFiles(Path(folder)).of_session("bench")
        episode = EpisodeBuilder()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        position = _add_records(episode, file, 0, 1)
        text = render_episode("bench", episode)
        first = time.process_time() - started
        log.append("bench", [{"principal": "agent:bench", "kind": "input", "text": "And now?"}])
        started = time.process_time()
        _add_records(episode, file, *position)
        assert "And now?" in render_episode("bench", episode)
        again = time.process_time() - started
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    figures = {
        "records": episode.records,
        "megabytes": round(file.size / 1e6, 1),
        "cpu_seconds": round(first, 2),
        "cpu_seconds_after_one_more_record": round(again, 4),
        "memory_growth_megabytes": round(grown / 1024, 1),
        "lines": text.count("\n"),
        "characters": len(text),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
