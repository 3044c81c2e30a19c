"""Use as a signal of ranking: would the use of a file by earlier questions find the evidence of later ones (LoCoMo)?

    python -m benchmarks.memory use --data DIR [--conversations 10] [--hits 50]

The questions with an even position are the past: the files and the turns that answer them have been of use. Those with an
odd position are held out. The best hits of each (by words) are ranked again by score + weight × z(log(1 + use)), for
the use of the file and of the turn. Recall at 10 is the share of the relevant turns.
"""

import argparse
import json
import math
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import make_store, report
from benchmarks.locomo import questions_of, write_conversation
from ctxfs.context.retrieval_metrics import Gold
from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import Layout

_WEIGHTS = (0.0, 0.1, 0.2, 0.4, 0.8)
_TOP = 10

Hit = dict[str, Any]


def _recall(question: Gold, hits: Sequence[Hit]) -> float:
    """Return the share of the relevant line ranges that one of the hits overlaps."""
    found = sum(
        any(hit["path"] == part.path and hit["first"] <= part.last and part.first <= hit["last"] for hit in hits)
        for part in question.relevant
    )
    return found / len(question.relevant)


def _rank(hits: Sequence[Hit], use: Callable[[Hit], int], weight: float) -> list[Hit]:
    values = [math.log1p(use(hit)) for hit in hits]
    mean, spread = statistics.fmean(values), statistics.pstdev(values) or 1.0
    scores = [hit["score"] + weight * (value - mean) / spread for hit, value in zip(hits, values, strict=True)]
    order = sorted(range(len(hits)), key=lambda index: -scores[index])
    return [hits[index] for index in order]


def _measure(store: Path, questions: Sequence[Gold], limit: int, recalls: dict[tuple[str, float], list[float]]) -> None:
    past, held_out = questions[::2], questions[1::2]
    files = Counter(part.path for question in past for part in question.relevant)
    turns = Counter(
        (part.path, line)
        for question in past
        for part in question.relevant
        for line in range(part.first, part.last + 1)
    )

    def use_of_turn(hit: Hit) -> int:
        return sum(turns[hit["path"], line] for line in range(hit["first"], hit["last"] + 1))

    opened = LocalSession(Layout(store))
    try:
        opened.catch_up_once()
        for question in held_out:
            hits = opened.call("search", question=question.question, limit=limit)["hits"]
            if not hits:
                continue
            for weight in _WEIGHTS:
                for name, use in (("file", lambda hit: files[hit["path"]]), ("turn", use_of_turn)):
                    recalls.setdefault((name, weight), []).append(_recall(question, _rank(hits, use, weight)[:_TOP]))
    finally:
        opened.close()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--conversations", type=int, default=10)
    parser.add_argument("--hits", type=int, default=50)
    options = parser.parse_args()
    samples = json.loads((options.data / "locomo10.json").read_text())[: options.conversations]
    recalls: dict[tuple[str, float], list[float]] = {}
    for index, sample in enumerate(samples):
        with tempfile.TemporaryDirectory() as folder:
            places = write_conversation(sample, Path(folder) / "talk")
            store = make_store(Path(folder), {"talk": Path(folder) / "talk"}, meaning=False)
            questions = questions_of(sample, index, places, "knowledge/talk", {})
            _measure(store, questions, options.hits, recalls)
    count = len(recalls["file", 0.0])
    rows: dict[str, object] = {"held-out questions": count}
    for (name, weight), values in sorted(recalls.items()):
        rows[f"recall@{_TOP}, use of the {name}, weight {weight}"] = f"{statistics.fmean(values):.3f}"
    report(rows)


if __name__ == "__main__":
    main()
