"""Quality and cost of consolidation by rules: `python -m benchmarks.memory consolidate [--documents DIR]… [--scale N]`.

Facts are sentences of real documents (default: the documentation of this repository, of Debian and Python's library),
with duplicates, contradictions and look-alikes of a known relation (`memory_variants.py`). All proposals are accepted.
Measured are precision and recall of the proposed pairs, lost sentences, and R@10 of questions before and after. With
`--scale` also time and memory of a run over that many memories.
"""

import argparse
import json
import os
import random
import re
import resource
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.memory_variants import Fact, make_facts
from ctxfs.consolidation.law import names_in
from ctxfs.consolidation.memories import Memory
from ctxfs.consolidation.rules import RuleRun
from ctxfs.consolidation.text_units import units_of
from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import create_store

SEED = 26
_GROUP = "memory/bench/fact"
_QUESTIONS = 200
_RESULTS = 10
_DAY_NS = 86_400 * 10**9


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", action="append", type=Path, default=[], metavar="DIR")
    parser.add_argument("--counts", type=int, nargs=4, default=[1000, 200, 100, 100], metavar="N")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--scale", type=int, default=0, metavar="N", help="also a run over N memories")
    parser.add_argument("--words-only", action="store_true", help="without the embedding model")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N wrong and N missed pairs")
    options = parser.parse_args()
    folders = options.documents or [
        Path(__file__).parent.parent / "docs",
        Path("/usr/share/doc"),
        Path(os.path.realpath(sysconfig.get_path("stdlib"))),
    ]
    facts = make_facts(folders, tuple(options.counts), options.seed)
    result: dict[str, Any] = {"seed": options.seed, "facts": dict(Counter(fact.relation for fact in facts))}
    with tempfile.TemporaryDirectory(prefix="ctxfs-bench-") as folder:
        result |= _measure_store(Path(folder) / "store", facts, options)
    if options.scale:
        result["scale"] = _measure_scale(folders, options.scale, options.seed)
    print(json.dumps(result, indent=1))


def _measure_store(folder: Path, facts: Sequence[Fact], options: argparse.Namespace) -> dict[str, Any]:
    """Write the facts into a store, consolidate it, accept everything, and measure."""
    layout = create_store(folder)
    if options.words_only:
        layout.config.write_text(layout.config.read_text().replace("[index]", "[index]\nmeaning = false"))
    target = layout.tree / _GROUP
    target.mkdir(parents=True)
    for fact in facts:
        (target / f"{fact.name}.md").write_text(f"{fact.text}\n")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    session = LocalSession(layout)
    try:
        session.app.archive.commit([b"memory"])
        questions = _make_questions(facts, random.Random(options.seed))
        recall_before = _recall(session, questions)
        started = time.monotonic()
        report = session.call("consolidate", path=_GROUP)
        seconds = time.monotonic() - started
        quality = _judge(report, facts, session, options.show)
        for proposal in report["proposals"]:
            session.call("decide", id=proposal["id"], verdict="accept")
        return {
            "proposals": dict(Counter(item["rule"] for item in report["proposals"])),
            **quality,
            "lost_sentences": _count_lost(layout.tree, before),
            f"recall_at_{_RESULTS}": {"before": recall_before, "after": _recall(session, questions)},
            "seconds": round(seconds, 1),
        }
    finally:
        session.close()


def _judge(report: dict[str, Any], facts: Sequence[Fact], session: LocalSession, show: int) -> dict[str, Any]:
    """Return precision and recall of the pairs (rule, leaving memory, staying memory) against the known relations."""
    by_name = {fact.name: fact for fact in facts}
    counts, wrong, correct = Counter[str](), list[str](), set[str]()
    for proposal in report["proposals"]:
        changes = session.app.archive.proposals.changes(proposal["id"])
        leaving = [
            Path(item.path).stem
            for item in changes
            if item.after and b"user.ctx.state" in str(item.after.attributes).encode()
        ]
        staying = [Path(item.path).stem for item in changes if Path(item.path).stem not in leaving]
        wanted = "contradiction" if proposal["rule"] == "contradiction" else "duplicate"
        for name in leaving:
            variants = [by_name[item] for item in (name, *staying) if item in by_name and by_name[item].origin >= 0]
            origins = {item.split("-")[0] for item in (name, *staying)}
            is_right = len(origins) == 1 and bool(variants) and all(item.relation == wanted for item in variants)
            counts[f"{wanted} {'right' if is_right else 'wrong'}"] += 1
            if is_right:
                correct.update(item.name for item in variants)
            else:
                wrong.append(f"{proposal['rule']}: {by_name[name].text} <> {[by_name[item].text for item in staying]}")
    gold = [fact for fact in facts if fact.relation in ("duplicate", "contradiction")]
    missed = [fact for fact in gold if fact.name not in correct]
    for line in wrong[:show]:
        print(f"wrong   {line}")
    base = {int(fact.name.split("-")[0]): fact.text for fact in facts if fact.origin < 0}
    for fact in missed[:show]:
        print(f"missed  {fact.relation}: {base[fact.origin]} <> {fact.text}")
    right = counts["duplicate right"] + counts["contradiction right"]
    total = sum(counts.values())
    recalls = {
        relation: round(
            1 - sum(f.relation == relation for f in missed) / max(1, sum(f.relation == relation for f in gold)), 3
        )
        for relation in ("duplicate", "contradiction")
    }
    return {
        "precision": round(right / max(1, total), 3),
        "recall": round(1 - len(missed) / max(1, len(gold)), 3),
        "recall_by_relation": recalls,
        "pairs": dict(counts),
    }


def _count_lost(tree: Path, before: dict[str, bytes]) -> int:
    """Return the number of sentences that are in no file any more, or in a retired file that no other file names."""
    files = [path for path in (tree / "memory").rglob("*") if path.is_file()]
    labels = {path: {name: os.getxattr(path, name) for name in os.listxattr(path)} for path in files}
    named = {name for values in labels.values() for name in names_in(values)}
    kept: set[str] = set()
    for path in files:
        is_retired = labels[path].get("user.ctx.state") in (b"archived", b"merged")
        if not is_retired or str(path.relative_to(tree)) in named or path.parent.name == "archive":
            kept |= units_of(path.read_bytes())
    return len({unit for data in before.values() for unit in units_of(data)} - kept)


def _make_questions(facts: Sequence[Fact], chance: random.Random) -> list[tuple[str, set[str]]]:
    """Return questions of half of a fact's words, and the names of the facts that answer each: it and its duplicates."""
    base = [fact for fact in facts if fact.origin < 0]
    chance.shuffle(base)
    questions = []
    for fact in base[:_QUESTIONS]:
        words = re.findall(r"\w{3,}", fact.text)
        chosen = sorted(chance.sample(range(len(words)), max(3, len(words) // 2)))
        number = fact.name.split("-")[0]
        answers = {item.name for item in facts if item.name.startswith(f"{number}-") and item.relation != "look-alike"}
        questions.append((" ".join(words[index] for index in chosen), answers))
    return questions


def _recall(session: LocalSession, questions: Sequence[tuple[str, set[str]]]) -> float:
    session.catch_up_once()
    found = 0
    for question, answers in questions:
        hits = session.call("search", question=question, below="memory", limit=_RESULTS)["hits"]
        found += bool({Path(hit["path"]).stem for hit in hits} & answers)
    return round(found / max(1, len(questions)), 3)


def _measure_scale(folders: Sequence[Path], count: int, seed: int) -> dict[str, Any]:
    """Return time and memory of the rules over many memories: variants of the facts with other names and numbers."""
    chance = random.Random(seed)
    texts = [fact.text for fact in make_facts(folders, (1000, 200, 100, 100), seed)]
    memories = []
    for number in range(count):
        text = texts[number % len(texts)]
        mark = f"Host{number // len(texts)}"
        data = f"On {mark}, {text[0].lower()}{text[1:]} Its port is {chance.randrange(60_000)}.\n".encode()
        memories.append(Memory(f"{_GROUP}/{number:06}.md", data, {}, number + 1, number + 1))
    started, cpu, rss = time.monotonic(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    drafts = sum(1 for _ in RuleRun(memories, 10**18).drafts())
    return {
        "memories": count,
        "drafts": drafts,
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(time.process_time() - cpu, 1),
        "grown_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) // 1024,
    }


if __name__ == "__main__":
    main()
