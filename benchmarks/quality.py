"""Search quality on code and prose.

`python -m benchmarks.quality [--modules 150] [--pages 1500] [--only functions|manuals] [--sweep] [--embedded 1,10,…]
[--keep DIR]`

Two collections of installed texts. Functions: Python's own library without its docstrings; a question is the first line
of a docstring, and the answer its function. Manuals: manual pages without their NAME section; a question is the
description in that section, and the answer the page. Questions of fewer than four words, and those with two answers,
are excluded. Each runs with full text alone, vectors alone, and both; nDCG@10 and recall by the code of `ctxfs eval`.
Exit code 1 if both together are behind full text alone in a collection. `benchmarks.code_files` measures files of code.
--sweep tries weights for vectors on the questions with an even number; figures are for the odd ones. --embedded removes
vectors, so that only these percentages of the chunks have one, those that are embedded first: partial vectors must not
be worse than full text alone.
"""

import argparse
import ast
import gzip
import os
import re
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import ctxfs.index.search.rank_fusion as ranking
from benchmarks.harness import make_store, show
from ctxfs.cli.evaluation import measure
from ctxfs.context.retrieval_metrics import Gold, LineRange, Outcome, summarise
from ctxfs.daemon.session import LocalSession
from ctxfs.index.engines.catalog import Catalog
from ctxfs.store.layout import find_store

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SOURCE = "library"
_MANUALS = Path("/usr/share/man")
_MAX_FAMILY_PAGES = 10
_NAME = re.compile(r"^(?:.*\S\s)?\\?-+\s+(\S.*)$", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:f[BIRP]|f\(..|s[+-]?\d|\*\(..|[&/,|^]|e)|\\(?=[-.'])")


def functions(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Yield (qualified name, node) of every function and class."""
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, parent = pending.pop()
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, Function | ast.ClassDef):
                name = f"{prefix}.{node.name}"
                yield name, node
                pending.append((name, node))


def without_docstrings(source: str) -> tuple[str, dict[str, str]]:
    """Return (the source without docstrings, qualified name of each function → first line of its docstring)."""
    tree, lines = ast.parse(source), source.split("\n")
    summaries: dict[str, str] = {}
    for name, node in [("", tree), *functions(tree)]:
        text = ast.get_docstring(node)
        if not text or not node.body:
            continue
        if isinstance(node, Function):
            summaries[name] = text.split("\n")[0].strip()
        first = node.body[0]
        for index in range(first.lineno - 1, first.end_lineno or first.lineno):
            lines[index] = ""
        if len(node.body) == 1 and not isinstance(node, ast.Module):
            lines[first.lineno - 1] = " " * first.col_offset + "pass"
    return "\n".join(lines), summaries


def make_collection(folder: Path, modules: int) -> list[Gold]:
    """Write the modules below `folder`; return the questions."""
    library = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    files = [
        path
        for path in sorted(library.rglob("*.py"))
        if not {"test", "tests", "site-packages", "idlelib", "lib2to3"} & set(path.parts)
    ]
    questions: list[tuple[str, LineRange]] = []
    for path in files[:: max(1, len(files) // modules)]:
        try:
            text, summaries = without_docstrings(path.read_text(encoding="utf-8"))
            nodes = dict(functions(ast.parse(text)))
        except (SyntaxError, UnicodeDecodeError, ValueError):
            continue
        name = path.relative_to(library)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        for function, question in summaries.items():
            node = nodes.get(function)
            if node is not None and len(question.split()) >= 4:
                questions.append(
                    (question, LineRange(f"knowledge/{_SOURCE}/{name}", node.lineno, node.end_lineno or node.lineno))
                )
    counts = Counter(question for question, _ in questions)
    return [Gold(question.replace('"', " "), (position,)) for question, position in questions if counts[question] == 1]


def to_markdown(page: str) -> str:
    """Convert the source of a manual page to Markdown: its headings and its words."""
    out = []
    for line in page.split("\n"):
        text = _ESCAPE.sub("", line).replace("\\(aq", "'").replace("\\(co", "(c)")
        if text.startswith((".SH", ".Sh", ".SS", ".Ss")):
            out.append(f"\n## {text[3:].strip().strip(chr(34))}\n")
        elif text.startswith((".PP", ".P", ".LP", ".Pp", ".TP", ".IP")):
            out.append("\n" + text.partition(" ")[2].strip('"') if " " in text else "")
        elif text.startswith((".\\", "'\\", ".TH", ".de", ".if", ".ie", ".el", ".nr", ".ds", ".so", "..")):
            continue
        elif text.startswith((".", "'")):
            out.append(text.partition(" ")[2].replace('"', ""))
        else:
            out.append(text)
    return "\n".join(out)


def make_manuals(folder: Path, limit: int) -> list[Gold]:
    """Write manual pages below `folder`, without their NAME sections; return the questions."""
    questions: list[tuple[str, LineRange]] = []
    files = sorted(
        path
        for section in ("man1", "man5", "man7", "man8")
        for path in (_MANUALS / section).glob("*.gz")
        if not path.is_symlink() and path.stat().st_size < 60_000
    )
    families = Counter[str]()  # some programs have a similar page for each subcommand
    for path in files:
        family = re.split(r"[_.-]", path.name)[0]
        families[family] += 1
        if (
            families[family] > _MAX_FAMILY_PAGES
            or sum(min(count, _MAX_FAMILY_PAGES) for count in families.values()) > limit
        ):
            continue
        text = to_markdown(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
        before, _, rest = text.partition("\n## NAME\n")
        name_section, heading, after = rest.partition("\n## ")
        name = _NAME.match(" ".join(name_section.split()))
        if not rest or name is None or not after:
            continue
        target = folder / path.parent.name / f"{path.name.removesuffix('.gz')}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(before + heading + after, encoding="utf-8")
        if len(name[1].split()) >= 4:
            questions.append((name[1], LineRange(f"knowledge/{_SOURCE}/{path.parent.name}/{target.name}")))
    counts = Counter(question for question, _ in questions)
    return [Gold(question.replace('"', " "), (position,)) for question, position in questions if counts[question] == 1]


COLLECTIONS = {"functions": make_collection, "manuals": make_manuals}


def run_questions(session: LocalSession, gold: list[Gold], mode: str) -> list[Outcome]:
    """Run every question in one mode."""
    return measure(session, [Gold(f"mode:{mode} {item.question}", item.relevant) for item in gold], (), "bound")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", type=int, default=150)
    parser.add_argument("--pages", type=int, default=1500)
    parser.add_argument("--only", choices=list(COLLECTIONS))
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--embedded", type=lambda text: [float(part) for part in text.split(",")])
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use them if they are there")
    arguments = parser.parse_args()
    behind: list[str] = []
    with tempfile.TemporaryDirectory(prefix="ctxfs-quality-") as scratch:
        for name in [arguments.only] if arguments.only else list(COLLECTIONS):
            root = (arguments.keep or Path(scratch)) / name
            texts = root / _SOURCE
            texts.mkdir(parents=True, exist_ok=True)
            gold = COLLECTIONS[name](texts, arguments.modules if name == "functions" else arguments.pages)
            session = LocalSession(find_store(str(make_store(root, {_SOURCE: texts}))))
            even, odd = gold[0::2], gold[1::2]
            if arguments.embedded:
                partly_embedded(session, name, odd, arguments.embedded)
                continue
            if arguments.sweep:
                sweep(session, "code" if name == "functions" else "prose", even)
                continue
            figures = {mode: run_questions(session, odd, mode) for mode in ("words", "meaning", "hybrid")}
            for mode, outcomes in figures.items():
                show(f"{name} {mode}", outcomes)
            ndcg = {mode: summarise(outcomes)["ndcg@10"] for mode, outcomes in figures.items()}
            if ndcg["hybrid"] < ndcg["words"]:
                behind.append(name)
    if behind:
        sys.exit(f"hybrid search is behind full text in {', '.join(behind)}")


def partly_embedded(session: LocalSession, name: str, gold: list[Gold], percentages: list[float]) -> None:
    """Print nDCG@10 while only a part of the chunks has a vector."""
    catalog = Catalog(session.app.layout.index)
    vectors = dict(catalog._db.execute("SELECT id, vector FROM chunks WHERE vector IS NOT NULL"))
    try:
        catalog._db.execute("UPDATE chunks SET vector=NULL")
        queue = catalog.embeddings.queue()
        show(f"{name} words", run_questions(session, gold, "words"))
        for percentage in percentages:
            first = queue[: round(len(queue) * percentage / 100)]
            with catalog.transaction():
                catalog._db.execute("UPDATE chunks SET vector=NULL")
                catalog._db.executemany("UPDATE chunks SET vector=? WHERE id=?", [(vectors[n], n) for n in first])
                catalog._db.execute("INSERT INTO changes(file) VALUES(0)")
            session.app.searcher.refresh()
            show(f"{name} {percentage:g} %", run_questions(session, gold, "hybrid"))
    finally:
        with catalog.transaction():
            catalog._db.executemany("UPDATE chunks SET vector=? WHERE id=?", [(v, n) for n, v in vectors.items()])
            catalog._db.execute("INSERT INTO changes(file) VALUES(0)")
        catalog.close()


def sweep(session: LocalSession, profile: ranking.Profile, gold: list[Gold]) -> None:
    """Print the score of each weight for vectors."""
    for share in (0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95):
        ranking.WEIGHTS = {**ranking.WEIGHTS, profile: {"words": 1 - share, "meaning": share}}
        figures = summarise(run_questions(session, gold, "hybrid"))
        print(f"meaning {share:.2f}: nDCG@10 {figures['ndcg@10']:.4f}, recall@10 {figures['recall@10']:.4f}")


if __name__ == "__main__":
    main()
