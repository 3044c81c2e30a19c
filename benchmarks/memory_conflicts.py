"""Contradictions by names, numbers, days, versions, prices and units, and look-alikes: precision and recall of the rules.

`python -m benchmarks.memory conflicts [--count 40] [--seed 26] [--show KIND] [--write] [--model]`. The pairs are made
from templates: of those that the rules were developed with at first and later, and of others that were held out
(`memory_conflict_templates.py`, `memory_conflict_held_out.py`). With `--write` the time to write a memory of 1 MB with
remarks is measured, too; with `--model`, the repetitions in other words.
"""

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path as HostPath

from benchmarks.memory_conflict_held_out import HELD_OUT, SEEN
from benchmarks.memory_conflict_templates import DEVELOPED, FIRST_HELD_OUT, Pair, Template, fill, make_pairs
from ctxfs.context.grounding.statement_comparison import Relation, compare
from ctxfs.daemon.session import LocalSession
from ctxfs.model.change import Put
from ctxfs.model.path import Path
from ctxfs.rpc.wire import change_to_wire
from ctxfs.store.layout import create_store


def measure(templates: Sequence[Template], count: int, seed: int, show: str) -> dict[str, object]:
    """Return precision, and recall by group and by kind, over the distinct pairs of some templates."""
    pairs: dict[Pair, str] = {}
    for template in templates:
        chance = random.Random(f"{seed} {template.name}")
        pairs.update(dict.fromkeys(make_pairs(template, chance, count), template.group))
    found, total, wrong = Counter[str](), Counter[str](), Counter[str]()
    for pair, group in pairs.items():
        is_found = compare(pair.one, pair.other).relation is Relation.CONTRADICTS
        if show and pair.kind.startswith(show) and is_found is not pair.is_conflict:
            print(f"{pair.kind}: {pair.one} | {pair.other}")
        if pair.is_conflict:
            for name in (group, pair.kind, "all"):
                total[name] += 1
                found[name] += is_found
        else:
            total["look-alikes"] += 1
            wrong[pair.kind] += is_found
    false = sum(wrong.values())
    return {
        "pairs": len(pairs),
        "conflicts": total["all"],
        "precision": round(found["all"] / max(1, found["all"] + false), 4),
        "recall": {name: round(found[name] / total[name], 4) for name in total if name != "look-alikes"},
        "wrong": {"all": false, **{kind: number for kind, number in wrong.items() if number}},
    }


def measure_paraphrases(templates: Sequence[Template], count: int, seed: int) -> dict[str, object]:
    """Return precision and recall of repetitions in another wording, by words and with the embedding model.

    A paraphrase has another wording with the same subject and value; the other pairs have another subject or value.
    """
    chance = random.Random(seed)
    pairs: dict[tuple[str, str], bool] = {}
    for template in templates:
        for _ in range(count if len(template.wordings) > 1 else 0):
            first, second = chance.sample(template.wordings, 2)
            subjects, values = chance.sample(template.subjects, 2), chance.sample(template.values, 2)
            one = fill(first, subjects[0], values[0][0])
            pairs[one, fill(second, subjects[0], values[0][0])] = True
            pairs[one, fill(second, subjects[1], values[0][0])] = False
            pairs[one, fill(second, subjects[0], values[1][0])] = False
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    with tempfile.TemporaryDirectory() as folder, closing(LocalSession(create_store(HostPath(folder) / "s"))) as opened:
        vectors = dict(zip(texts, opened.app.searcher.embed(texts), strict=True))
    out: dict[str, object] = {"pairs": len(pairs), "paraphrases": sum(pairs.values())}
    for name, has_model in (("by words", False), ("with the model", True)):
        found = {
            pair: compare(*pair, float(vectors[pair[0]] @ vectors[pair[1]]) if has_model else None).relation
            is Relation.REPEATED
            for pair in pairs
        }
        right = sum(found[pair] for pair, is_same in pairs.items() if is_same)
        out[name] = {
            "precision": round(right / max(1, sum(found.values())), 4),
            "recall": round(right / max(1, sum(pairs.values())), 4),
        }
    return out


def measure_write(size: int) -> dict[str, object]:
    """Return the seconds of a write of a memory of many contradictions beside 300 others, without and with former text."""
    line = "The cache of service {} keeps entries for {} days in the region north{}."
    text = "\n\n".join(line.format(number, number + 1, number % 7) for number in range(size // 78))
    with tempfile.TemporaryDirectory() as folder:
        layout = create_store(HostPath(folder) / "store")
        layout.config.write_text("[index]\nmeaning = false\n")
        facts = layout.tree / "memory" / "shared" / "fact"
        facts.mkdir(parents=True)
        for number in range(300):
            (facts / f"f{number}.md").write_text(line.format(number, number, number % 7))
        with closing(LocalSession(layout)) as opened:
            opened.call("search", question="cache")
            seconds = []
            for content in (text, text + "\n\nThe cache of service 7 keeps entries for 90 days in the region north0."):
                change = change_to_wire(Put(Path.parse("memory/shared/fact/large.md"), content.encode()))
                start = time.perf_counter()
                remarks = (opened.call("apply", change=change) or {}).get("warnings", ())
                seconds.append({"seconds": round(time.perf_counter() - start, 3), "remarks": len(remarks)})
    return {"bytes": len(text), "new": seconds[0], "one line added": seconds[1]}


def main() -> None:
    """Print the measurements as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="pairs of a kind and template")
    parser.add_argument("--seed", type=int, default=26)
    parser.add_argument("--show", default="", metavar="KIND", help="print wrong pairs of the developed templates")
    parser.add_argument("--write", action="store_true", help="measure a write of 1 MB")
    parser.add_argument("--model", action="store_true", help="measure paraphrases with the embedding model")
    options = parser.parse_args()
    report: dict[str, object] = {
        "developed": measure(DEVELOPED, options.count, options.seed, options.show),
        "developed later": measure([*FIRST_HELD_OUT, *SEEN], options.count, options.seed, options.show),
        "held out": measure(HELD_OUT, options.count, options.seed, ""),
    }
    if options.model:
        report["paraphrases"] = measure_paraphrases([*DEVELOPED, *FIRST_HELD_OUT], options.count, options.seed)
    if options.write:
        report["write"] = measure_write(1_000_000)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
