"""Share of a context that is not text of its sources, and share of it that is from the right files.

`python -m benchmarks.overhead [--questions FILE.tsv --folder DIR] [--locomo DIR] [--keep DIR] [--words] [--answers]`

Collections: the documentation of this project, whose headings are the questions; with --questions, the files below
--folder (FILE.tsv has a question, a tab, and the files that answer it, by their paths in --folder, on each line; the
default folder is Python's own library); with --locomo, the first conversation of LoCoMo. Tokens are counted by the
built-in bound. Overhead is 1 less the tokens of the pieces' texts as a share of those of the context: headers,
citations, fences, headings. A heading that the text of a piece contains is text. With --answers, the responses of
`ctx_search` are measured instead: their tokens, and the share that is not text of their passages.
"""

import argparse
import json
import os
import re
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import trio

from benchmarks.harness import make_store
from benchmarks.locomo import questions_of, write_conversation
from ctxfs.context.build.request import make_request
from ctxfs.context.build.tokens import open_tokenizer
from ctxfs.daemon.session import LocalSession
from ctxfs.mcp_server.search_answers import DEFAULT_HITS, format_answer
from ctxfs.store.layout import find_store

BUDGETS = (500, 2000, 8000)
Questions = Sequence[tuple[str, frozenset[str]]]
_EXCLUDED = frozenset(("test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__"))
_PLACE = re.compile(r"\S.*:\d+(-\d+)?( |$)")
_HEADING = re.compile(r"^##+ (.+)$", re.MULTILINE)


def docs_collection(root: Path) -> tuple[Path, Questions]:
    """Copy the project's documentation; return (folder, its headings with the files that contain them)."""
    folder, docs = root / "docs-corpus", Path(__file__).parent.parent / "docs"
    if not folder.exists():
        shutil.copytree(docs, folder, ignore=shutil.ignore_patterns("*.py", "*.svg"))
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.md")):
        for title in _HEADING.findall(path.read_text()):
            found.setdefault(title, set()).add(str(path.relative_to(folder)))
    return folder, [(title, frozenset(paths)) for title, paths in found.items() if len(title.split()) >= 3]


def questions_collection(root: Path, source: Path, questions: Path) -> tuple[Path, Questions]:
    """Copy the Python files of a folder; return (copy, the questions of a table with their files)."""
    folder = root / "questions-corpus"
    if not folder.exists():
        for path in sorted(source.rglob("*.py")):
            relative = path.relative_to(source)
            if not _EXCLUDED & set(relative.parts):
                (folder / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / relative)
    rows = (
        line.split("\t") for line in questions.read_text().splitlines() if not line.startswith("#") and "\t" in line
    )
    return folder, [(question, frozenset(re.split(r"[ ,;|]+", files.strip()))) for question, files, *_ in rows]


def locomo_collection(root: Path, data: Path) -> tuple[Path, Questions]:
    """Write the first conversation of LoCoMo; return (folder, its questions with the files of the evidence)."""
    sample = json.loads((data / "locomo10.json").read_text())[0]
    folder = root / "locomo-corpus"
    places = write_conversation(sample, folder)
    gold = questions_of(sample, 0, places, "", {})
    return folder, [(item.question, frozenset(span.path.lstrip("/") for span in item.relevant)) for item in gold]


def measure(store: Path, name: str, questions: Questions) -> None:
    """Print a row for each budget."""
    session = LocalSession(find_store(str(store)))
    session.catch_up_once()
    count = open_tokenizer("bound").count
    for budget in BUDGETS:
        tokens = texts = pieces = answered = 0
        shares: list[float] = []
        start = time.perf_counter()
        for question, files in questions:
            context = trio.run(
                partial(session.app.contexts.builder.build, make_request({"query": question, "budget": budget}, 1))
            )
            chosen = context.plan.chosen
            sizes = [count(piece.text) for piece in chosen]
            on_right = sum(
                size
                for size, piece in zip(sizes, chosen, strict=True)
                if piece.path.removeprefix(f"knowledge/{name}/") in files
            )
            # Parts have more tokens than the whole by the bound, which rounds up.
            size = count("\n".join(piece.text for piece in chosen))
            tokens, texts, pieces = tokens + context.tokens, texts + size, pieces + len(chosen)
            shares.append(on_right / max(1, sum(sizes)))
            answered += bool(on_right)
        seconds = (time.perf_counter() - start) / len(questions)
        print(
            f"| {name} | {budget} | {1 - texts / tokens:.3f} | {sum(shares) / len(shares):.3f} | {answered / len(questions):.3f} | "
            f"{tokens / len(questions):.0f} | {pieces / len(questions):.1f} | {seconds * 1000:.0f} ms |",
            flush=True,
        )
    session.close()


def measure_answers(store: Path, name: str, questions: Questions) -> None:
    """Print a row for the responses of `ctx_search` to the questions."""
    session = LocalSession(find_store(str(store)))
    session.catch_up_once()
    count = open_tokenizer("bound").count
    tokens, texts, hits, found = 0, 0, 0, 0
    for question, files in questions:
        answer = session.call("search", question=question, limit=DEFAULT_HITS + 1, labels=True)
        response = format_answer(answer, 0, None)
        lines = response.split("\n")
        places = [line for line in lines if _PLACE.match(line)]
        passages = [line for line in lines if not _PLACE.match(line) and not line.startswith(("answer: ", "[more: "))]
        paths = [place.split(" ")[0].rpartition(":")[0] for place in places]
        # Parts have more tokens than the whole by the bound, which rounds up.
        tokens, texts, hits = tokens + count(response), texts + count("\n".join(passages)), hits + len(paths)
        found += not files.isdisjoint(path.removeprefix(f"knowledge/{name}/") for path in paths)
    size = len(questions)
    print(
        f"| {name} | {1 - texts / tokens:.3f} | {found / size:.3f} | {tokens / size:.0f} | {hits / size:.1f} |",
        flush=True,
    )
    session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    library = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    parser.add_argument("--questions", type=Path, help="a table of questions and files")
    parser.add_argument("--folder", type=Path, default=library, help="the files that --questions is about")
    parser.add_argument("--locomo", type=Path, help="the folder of locomo10.json")
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use those that are there")
    parser.add_argument("--answers", action="store_true", help="measure responses of ctx_search instead of contexts")
    parser.add_argument("--words", action="store_true", help="without the embedding model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ctxfs-overhead-") as scratch:
        root = arguments.keep or Path(scratch)
        root.mkdir(parents=True, exist_ok=True)
        collections = {"docs": docs_collection(root)}
        if arguments.locomo:
            collections["locomo"] = locomo_collection(root, arguments.locomo)
        if arguments.questions:
            collections["library"] = questions_collection(root, arguments.folder, arguments.questions)
        if arguments.answers:
            print("| collection | overhead | with a right file | tokens | passages |")
            print("|---|---|---|---|---|")
        else:
            print(
                "| collection | budget | overhead | texts of right files | with a right file | tokens | pieces | time |"
            )
            print("|---|---|---|---|---|---|---|---|")
        for name, (folder, questions) in collections.items():
            store = make_store(root / name, {name: folder}, meaning=not arguments.words)
            (measure_answers if arguments.answers else measure)(store, name, questions)


if __name__ == "__main__":
    main()
