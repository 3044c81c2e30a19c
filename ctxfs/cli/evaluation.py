"""The commands eval and gold: measure search and contexts by questions with known answers."""

import json
import time
from pathlib import Path as HostPath
from typing import Any

import click

from ctxfs.cli import completion_values
from ctxfs.cli.options import below_option, json_option
from ctxfs.cli.output import print_json, print_line, warn
from ctxfs.cli.progress import counted
from ctxfs.context.retrieval_metrics import (
    Gold,
    LineRange,
    Outcome,
    by_category,
    parse_gold,
    regressions,
    score_context,
    score_hits,
    summarise,
)
from ctxfs.daemon.session import LocalSession, StoreSession, session
from ctxfs.model.errors import EXIT_UNHEALTHY, EXIT_USAGE, CommandError

_GOLD = "human/gold.jsonl"
BUDGETS = (500, 1000, 2000, 4000)


@click.command(name="eval")
@click.argument("gold", required=False, type=click.Path(exists=True, dir_okay=False, path_type=HostPath))
@below_option("Directory for questions without one")
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    type=click.IntRange(1),
    help="Token budget of a context; repeatable [default: 500, 1000, 2000, 4000]",
)
@click.option("--tokenizer", default="bound", show_default=True, help="Tokenizer: bound, or a tokenizer.json")
@click.option(
    "--baseline", type=click.Path(path_type=HostPath), help="File with figures to compare with; exit code 6 if worse"
)
@click.option("--save", is_flag=True, help="Write the figures to the file of --baseline")
@click.option("--tolerance", default=0.005, show_default=True, help="Accepted loss against the baseline")
@json_option("Print JSON, by category too")
@click.pass_obj
def evaluate(
    store: str | None,
    gold: HostPath | None,
    below: str,
    budgets: tuple[int, ...],
    tokenizer: str,
    baseline: HostPath | None,
    save: bool,
    tolerance: float,
    as_json: bool,
) -> None:
    """Measure search against known answers

    Without GOLD, human/gold.jsonl of the tree (ctxfs gold) is measured. GOLD has a question and its answers a line, as JSON:

    \b
    {"question": "how often?", "relevant": ["knowledge/handbook/keys.md:5-7"]}

    A relevant passage is a path, a path:line or a path:first-last. "category" and "below" are optional. Figures:
    recall@1, @5 and @10, nDCG@10, the share of questions whose whole evidence is in a context of 500, 1000, 2000 and
    4000 tokens, and the time to find. Exit code 6 when a figure is worse than in --baseline.
    """
    if save and baseline is None:
        raise CommandError("--save needs a place", "name the file: --baseline FILE --save", EXIT_USAGE)
    text = gold.read_text(encoding="utf-8") if gold is not None else None
    before = _read_baseline(baseline) if baseline is not None and not save else {}
    with session(store) as opened:
        if text is None:
            text = opened.call("read", path=_GOLD).decode("utf-8", "replace")
        questions = parse_gold(text)
        outcomes, notes = measure(opened, questions, budgets or BUDGETS, tokenizer, below)
    for note in notes:
        warn(note)
    summary, categories = summarise(outcomes), by_category(outcomes)
    worse = regressions(summary, before, tolerance)
    if as_json:
        print_json({**summary, "categories": categories, "notes": notes, "worse": worse})
    else:
        _show({"all": summary, **categories})
    if save and baseline is not None:
        baseline.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for line in worse:
        warn(f"worse than {baseline}: {line}")
    if worse:
        raise click.exceptions.Exit(EXIT_UNHEALTHY)


@click.command()
@click.argument("question")
@click.argument(
    "relevant", metavar="PATH[:LINES]…", nargs=-1, required=True, shell_complete=completion_values.tree_paths
)
@json_option()
@click.pass_obj
def gold(store: str | None, question: str, relevant: tuple[str, ...], as_json: bool) -> None:
    """Add an answer for ctxfs eval

    The passages are added to human/gold.jsonl of the tree, which ctxfs eval measures without GOLD.

    \b
    ctxfs gold "how often do keys change?" knowledge/handbook/keys.md:5-7
    """
    with session(store) as opened:
        opened.call("join", tool="cli")
        result = opened.call("add_gold", question=question, relevant=list(relevant))
    if as_json:
        print_json(result)
    else:
        print_line(f"{result['path']}: {result['questions']} questions")


def measure(
    opened: StoreSession, questions: list[Gold], budgets: tuple[int, ...], tokenizer: str, below: str = ""
) -> tuple[list[Outcome], list[str]]:
    """Return an outcome for each question, and notes on the files that search did not cover."""
    outcomes, notes = [], dict[str, None]()
    if isinstance(opened, LocalSession):
        opened.catch_up_once()
    for gold in counted(questions, "questions"):
        outcome = Outcome(gold)
        directory = gold.below or below
        start = time.perf_counter()
        answer = opened.call("search", question=gold.question, below=directory, limit=10)
        outcome.seconds = time.perf_counter() - start
        notes.update(dict.fromkeys(answer["notes"]))
        score_hits(outcome, [_passage_of(hit) for hit in answer["hits"]])
        for budget in budgets:
            request = {
                "query": gold.question,
                "budget": budget,
                "tokenizer": tokenizer,
                "paths": [directory] if directory else [],
            }
            manifest = json.loads(opened.call("context", request=request)["manifest"])
            score_context(outcome, budget, map(_passage_of, manifest["items"]))
        outcomes.append(outcome)
    return outcomes, list(notes)


def _passage_of(item: dict[str, Any]) -> LineRange:
    return LineRange(item["path"], item["first"], item["last"])


def _read_baseline(file: HostPath) -> dict[str, Any]:
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(
            f"cannot read the baseline '{file}': {error}", "write one: --baseline FILE --save"
        ) from error
    if not isinstance(figures, dict):
        raise CommandError(f"'{file}' is no baseline", "write one: --baseline FILE --save")
    return figures


def _show(rows: dict[str, dict[str, float]]) -> None:
    width = max(map(len, rows))
    names = list(rows["all"])
    print_line(" " * width + "  " + "  ".join(f"{name:>9}" for name in names))
    for row, figures in rows.items():
        cells = [f"{figures[name]:9.0f}" if name == "questions" else f"{figures[name]:9.3f}" for name in names]
        print_line(f"{row:<{width}}  " + "  ".join(cells))
