"""Contexts of questions that one line of the documentation answers: their tokens, and whether they contain the line.

`python -m benchmarks.short_answers [--budget 8000] [--keep DIR] [--beside FOLDER]…`

The documentation of this project is one source; the packages `email`, `http` and `json` of Python's library stand
beside it, or the folders of --beside. Contexts are built as `ctxfs context` builds them, and once more with
`fill = true`, which goes on until the budget is used. Exit code 1 if a line of the questions is not in the files.
"""

import argparse
import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from statistics import fmean, median

from benchmarks.abstention import read_table
from benchmarks.harness import make_store
from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import find_store

_QUESTIONS = Path(__file__).parent / "questions" / "docs_one_line.tsv"
_DOCS = Path(__file__).parent.parent / "docs"
_BESIDE = ("email", "http", "json")


def measure(session: LocalSession, question: str, answer: str, budget: int, *, fill: bool) -> tuple[int, bool]:
    """Return (the tokens of the context of a question, whether it contains the answer)."""
    request = {"query": question, "budget": budget, "paths": ["knowledge"], "fill": fill}
    context = session.call("context", request=request)
    return context["tokens"], answer in context["text"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=8000)
    parser.add_argument("--keep", type=Path, help="keep the store here, and use the one that is there")
    parser.add_argument("--beside", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    questions = read_table(_QUESTIONS)
    lost = [answer for _, file, answer in questions if answer not in (_DOCS / file).read_text()]
    if lost:
        sys.exit(f"the documentation has no line with {lost}")
    library = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    beside = arguments.beside or [library / name for name in _BESIDE]
    with tempfile.TemporaryDirectory(prefix="ctxfs-short-") as scratch:
        store = make_store(
            arguments.keep or Path(scratch), {"docs": _DOCS} | {folder.name: folder for folder in beside}
        )
        session = LocalSession(find_store(str(store)))
        session.catch_up_once()
        for fill in (False, True):
            measured = [measure(session, row[0], row[2], arguments.budget, fill=fill) for row in questions]
            tokens = [count for count, _ in measured]
            print(
                f"{'filled ' if fill else 'trimmed'} {len(measured)} questions  tokens: median {median(tokens):.0f},"
                f" mean {fmean(tokens):.0f}  with the line {fmean(found for _, found in measured):.3f}"
            )


if __name__ == "__main__":
    main()
