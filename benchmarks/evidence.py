"""Evidence per token: the share of questions whose whole evidence is in a context of 500 to 8,000 tokens.

`python -m benchmarks.evidence [--data DIR] [--functions] [--folder DIR]… [--against FILE]… [--system NAME]…
[--unseen] [--questions N] [--budget N]… [--json] [--plot FILE] [--export DIR] [--keep DIR]`

--data: LoCoMo, the folder of locomo10.json; figures are of the conversations with an odd position, which are unseen,
and of all. --functions: functions of Python's library. --folder: a folder of {documents, questions, evidence}
(`benchmarks.evidence_sets` describes it). No model judges an answer. *By turn*: every line of the evidence is among the
lines that the context was built from. *By text*: the text of the evidence occurs in the context, both as folded words.

Systems are ctxfs, and bm25, dense and grep over the same passages (`benchmarks.evidence_contexts`), within the same
budget by the same tokenizer. --against: contexts that other systems publish, as JSON lines
`{"question": "conv-26:0", "budget": 2000, "context": "…"}`, compared by text; over a budget they are cut. --export
writes each set as a folder, with the ids of the questions, and the contexts of each system in that form.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from benchmarks.evidence_contexts import BuiltContext, ContextConstructor, System, cut_to_budget, open_system
from benchmarks.evidence_figures import Figures, Scores, format_table, summarise_scores, to_record
from benchmarks.evidence_plot import draw_plot
from benchmarks.evidence_sets import EvidenceSet, Question, folder_set, function_set, locomo_set, write_folder
from benchmarks.harness import make_store
from ctxfs.context.build.tokens import FileTokenizer, Tokenizer
from ctxfs.index.engines.model_files import default_model_folder

_BUDGETS = (500, 1000, 2000, 4000, 8000)
_SYSTEMS = ("ctxfs", "bm25", "dense", "grep")
Published = Mapping[tuple[str, int], str]


def read_published(file: Path) -> Published:
    """Return the contexts of a file by question and budget. Exit if a line is malformed."""
    contexts = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                record = json.loads(line)
                contexts[str(record["question"]), int(record["budget"])] = str(record["context"])
            except (ValueError, KeyError, TypeError) as error:
                form = '{"question": "conv-26:0", "budget": 2000, "context": "…"}'
                raise SystemExit(f"'{file}' line {number}: {error!r}; wanted: {form}") from error
    return contexts


def score_published(
    name: str, published: Published, questions: Sequence[Question], budgets: Sequence[int], tokenizer: Tokenizer
) -> Scores:
    """Score published contexts, cut to their budgets; budgets without any context are left out."""
    scores = Scores(name)
    ids = {question.id for question in questions}
    for budget in budgets:
        if not any((identifier, budget) in published for identifier in ids):
            continue
        for question in questions:
            text = published.get((question.id, budget))
            if text is None:
                scores.add(question, budget, None)
                continue
            tokens = tokenizer.count(text)
            if tokens > budget:
                text = cut_to_budget(text, budget, tokenizer)
                tokens = tokenizer.count(text)
            scores.add(question, budget, BuiltContext(text, tokens, None))
    return scores


def score_systems(
    chosen: EvidenceSet, names: Sequence[str], budgets: Sequence[int], tokenizer: Tokenizer, export: Path | None
) -> dict[str, dict[str, Scores]]:
    """Build all contexts and return their scores by system and part; with `export` also write the contexts there."""
    scores: dict[str, dict[str, Scores]] = {name: {} for name in names}
    files = {name: (export / f"{name}.jsonl").open("w", encoding="utf-8") for name in names} if export else {}
    for number, part in enumerate(chosen.parts, 1):
        store = make_store(part.folder, part.sources)
        for name in names:
            system = open_system(name, store, tokenizer)
            measured = scores[name][str(part.folder)] = Scores(name)
            for question in part.questions:
                for budget in budgets:
                    built = system.build(question, budget)
                    measured.add(question, budget, built)
                    _write_context(files.get(name), question, budget, built)
            _close(system)
        print(f"{chosen.name}: {number} of {len(chosen.parts)} stores", file=sys.stderr, flush=True)
    for file in files.values():
        file.close()
    return scores


def _write_context(file: TextIO | None, question: Question, budget: int, built: BuiltContext) -> None:
    if file is not None:
        record = {"question": question.id, "budget": budget, "context": built.text}
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _close(system: System) -> None:
    if isinstance(system, ContextConstructor):
        system.close()


def unseen_half(chosen: EvidenceSet) -> EvidenceSet:
    """Return the parts with an odd position, on which no weight was fitted; none for sets without halves."""
    odd = [part for part in chosen.parts if part.questions and part.questions[0].half == "odd"]
    return EvidenceSet(chosen.name, odd)


def halves_of(chosen: EvidenceSet) -> Iterator[tuple[str, EvidenceSet]]:
    """Yield the unseen half of a set by name, if it has one, and the whole set if there is more."""
    odd = unseen_half(chosen)
    if odd.parts:
        yield f"{chosen.name}, odd conversations (unseen)", odd
    if len(odd.parts) < len(chosen.parts):
        yield (f"{chosen.name}, all" if odd.parts else chosen.name), chosen


def thin_out(chosen: EvidenceSet, count: int) -> EvidenceSet:
    """Return a set with about `count` of its questions, spread evenly over each part."""
    total = sum(len(part.questions) for part in chosen.parts)
    step = max(1.0, total / count)
    parts = []
    for part in chosen.parts:
        positions = range(int(len(part.questions) / step))
        parts.append(replace(part, questions=[part.questions[int(position * step)] for position in positions]))
    return EvidenceSet(chosen.name, parts)


def join_scores(name: str, parts: Sequence[Scores]) -> Scores:
    """Return the scores of several parts, one after the other."""
    joined = Scores(name)
    for part in parts:
        for key, values in part.scores.items():
            joined.scores[key] += values
        for budget, counts in part.tokens.items():
            joined.tokens[budget] += counts
    return joined


def measure_set(chosen: EvidenceSet, arguments: argparse.Namespace, tokenizer: Tokenizer) -> list[Figures]:
    """Return the figures of a set, its unseen half first."""
    export = arguments.export / chosen.name if arguments.export else None
    if export:
        export.mkdir(parents=True, exist_ok=True)
        write_folder(chosen, export)
    scores = score_systems(chosen, arguments.system or _SYSTEMS, arguments.budget or _BUDGETS, tokenizer, export)
    figures = []
    for name, half in halves_of(chosen):
        questions = [question for part in half.parts for question in part.questions]
        measured = [
            join_scores(system, [by_part[str(part.folder)] for part in half.parts])
            for system, by_part in scores.items()
        ]
        measured += [
            score_published(file.stem, published, questions, arguments.budget or _BUDGETS, tokenizer)
            for file, published in arguments.published
        ]
        figures.append(summarise_scores(name, questions, measured))
    return figures


def make_sets(arguments: argparse.Namespace, root: Path) -> Iterator[EvidenceSet]:
    """Yield the chosen sets, with their stores below `root`."""
    if arguments.data:
        errors = {}
        if arguments.repaired:
            errors = {item["question_id"]: item for item in json.loads((arguments.data / "errors.json").read_text())}
        chosen = locomo_set(arguments.data, root / "locomo", errors, arguments.conversations)
        yield unseen_half(chosen) if arguments.unseen else chosen
    if arguments.functions:
        yield function_set(root / "functions", arguments.modules)
    for folder in arguments.folder:
        yield folder_set(folder, root / folder.name)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder of locomo10.json")
    parser.add_argument("--repaired", action="store_true", help="LoCoMo's citations as errors.json corrects them")
    parser.add_argument("--conversations", type=int, help="only so many of LoCoMo")
    parser.add_argument("--unseen", action="store_true", help="only LoCoMo's conversations with an odd position")
    parser.add_argument("--questions", type=int, help="only about so many of each set, spread evenly")
    parser.add_argument("--functions", action="store_true", help="functions of Python's library")
    parser.add_argument("--modules", type=int, default=150, help="modules of Python's library")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="documents/ and questions.jsonl")
    parser.add_argument("--against", type=Path, action="append", default=[], help="contexts of another system")
    parser.add_argument("--system", action="append", choices=[*_SYSTEMS, "ctxfs-fill"], help=f"[default: {_SYSTEMS}]")
    parser.add_argument("--budget", type=int, action="append", help=f"tokens of a context [default: {_BUDGETS}]")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json [default: the embedding model's]")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plot", type=Path, help="write the plot of the first figures of each set")
    parser.add_argument("--export", type=Path, help="write sets and contexts below this folder")
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use those that are there")
    return parser


def main() -> None:
    parser = make_parser()
    arguments = parser.parse_args()
    if not (arguments.data or arguments.functions or arguments.folder):
        parser.error("a set is needed: --data, --functions or --folder")
    arguments.published = [(file, read_published(file)) for file in arguments.against]
    tokenizer = FileTokenizer(arguments.tokenizer or default_model_folder() / "tokenizer.json")
    measured = []
    with tempfile.TemporaryDirectory(prefix="ctxfs-evidence-") as scratch:
        for chosen in make_sets(arguments, arguments.keep or Path(scratch)):
            if arguments.questions:
                chosen = thin_out(chosen, arguments.questions)
            measured.append(measure_set(chosen, arguments, tokenizer))
            if not arguments.json:
                print("\n".join(map(format_table, measured[-1])), flush=True)
    if arguments.json:
        print(json.dumps([to_record(figures) for group in measured for figures in group], indent=1))
    if arguments.plot:
        arguments.plot.write_text(draw_plot([group[0] for group in measured]), encoding="utf-8")


if __name__ == "__main__":
    main()
