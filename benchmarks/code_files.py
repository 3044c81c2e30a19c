"""Search quality for files of code: questions with the files that answer them.

`python -m benchmarks.code_files [--questions TSV [--tree FOLDER]] [--commits REPOSITORY]… [--budget 2000] [--keep DIR]
[--leave-one-out] [--identifiers]`

--questions: a tab-separated file with a question and the files (comma-separated) of which one should come first, about
the tree in a folder [default: Python's library, as `make run` adds it]. --commits: a repository of git; a question is
the subject of a commit, and the answers are the one to four files that it changed, without changelogs, as they are in
HEAD. Figures: share of questions whose first file is right, nDCG@10 over distinct files (all right files count), the
share of licences and settings among the first ten, and the share of a context's tokens in right files. Exit code 1 if
hybrid search is behind full text in a collection.

--identifiers: also the share of names, defined once in the Python of a tree, whose definition is the first hit.

--leave-one-out fits the weights of code on all collections but one, and prints the figures of that one.
"""

import argparse
import ast
import json
import math
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.fitting import CodeSet, fit_code
from benchmarks.harness import make_store
from ctxfs.daemon.session import LocalSession
from ctxfs.index.search.file_roles import FileRole, role_of
from ctxfs.store.layout import find_store

_LIBRARY_EXCLUDES = ("test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3")
_MAX_COMMITS = 150
_MIN_SUBJECT_WORDS = 4
_MAX_CHANGED_FILES = 4
_NO_ANSWER = re.compile(r"chang|history|news|\.lock$|requirements|pyproject", re.IGNORECASE)
_NO_QUESTION = re.compile(r"(?:merge|bump|release|revert|version|update)\b", re.IGNORECASE)
_NDCG_FILES = 10
_SEARCHED_HITS = 300


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the paths that answer it."""

    text: str
    files: frozenset[str]


@dataclass(frozen=True, slots=True)
class Collection:
    """A tree, added as a source under its name, with questions."""

    name: str
    tree: Path
    questions: list[Question]
    excludes: tuple[str, ...] = ()


def read_questions(file: Path, tree: Path | None) -> Collection:
    """Return the collection of a tab-separated file of questions about a tree, or about Python's library."""
    rows = [line.split("\t") for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    name = tree.name if tree else "python"
    questions = [
        Question(text, frozenset(f"knowledge/{name}/{path.strip()}" for path in paths.split(",")))
        for text, paths in rows
    ]
    library = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    return Collection(name, tree or library, questions, () if tree else _LIBRARY_EXCLUDES)


def _run_git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, check=True).stdout


def read_commits(repository: Path, folder: Path) -> Collection:
    """Write the files in HEAD below a folder; return the collection of the commits that changed them."""
    name = repository.resolve().name
    tree = folder / name
    tree.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(tree)], input=_run_git(repository, "archive", "HEAD"), check=True)
    present = set(_run_git(repository, "ls-tree", "-r", "--name-only", "HEAD").decode().split("\n"))
    log = _run_git(repository, "log", "--no-merges", "--name-only", "--format=%x00%s%x01", "HEAD").decode(
        "utf-8", "replace"
    )
    questions: dict[str, Question] = {}
    for entry in log.split("\0")[1:]:
        subject, _, rest = entry.partition("\1")
        text = re.sub(r"\(#\d+\)|\"", " ", subject).strip()
        files = {path for path in rest.split("\n") if path in present and path and not _NO_ANSWER.search(path)}
        if (
            1 <= len(files) <= _MAX_CHANGED_FILES
            and len(text.split()) >= _MIN_SUBJECT_WORDS
            and not _NO_QUESTION.match(text)
        ):
            questions.setdefault(text, Question(text, frozenset(f"knowledge/{name}/{path}" for path in files)))
    step = max(1, len(questions) // _MAX_COMMITS)
    return Collection(name, tree, list(questions.values())[::step][:_MAX_COMMITS])


def score_files(question: Question, paths: list[str]) -> tuple[float, float]:
    """Return (1 if the first path is right, nDCG@10 over the distinct paths), of paths ordered best first."""
    files = list(dict.fromkeys(paths))[:_NDCG_FILES]
    gain = sum(1 / math.log2(rank + 1) for rank, path in enumerate(files, 1) if path in question.files)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(question.files), _NDCG_FILES) + 1))
    return float(bool(files) and files[0] in question.files), gain / ideal


def share_of_asides(hits: list[dict[str, str]]) -> float:
    """Return the share of licences and of settings of tools among the first ten files of hits."""
    kinds = dict(list({hit["path"]: hit["kind"] for hit in hits}.items())[:_NDCG_FILES])
    roles = [role_of(path, kind) for path, kind in kinds.items()]
    return fmean(role in (FileRole.LICENCE, FileRole.SETTINGS) for role in roles) if roles else 0.0


def share_in_context(session: LocalSession, question: Question, budget: int) -> float:
    """Return the share (0 to 1) of a context's tokens that are in right files."""
    answer = session.call("context", request={"query": question.text, "budget": budget, "paths": ["knowledge"]})
    items = json.loads(answer["manifest"])["items"]
    total = sum(item["tokens"] for item in items)
    return sum(item["tokens"] for item in items if item["path"] in question.files) / total if total else 0.0


def show_modes(session: LocalSession, collection: Collection, budget: int) -> dict[str, float]:
    """Print the figures of each mode; return the nDCG@10 of each."""
    by_mode = {}
    for mode in ("words", "meaning", "hybrid"):
        pairs, asides = [], []
        for question in collection.questions:
            answer = session.call(
                "search", question=f"mode:{mode} {question.text}", below="knowledge", limit=_SEARCHED_HITS
            )
            pairs.append(score_files(question, [hit["path"] for hit in answer["hits"]]))
            asides.append(share_of_asides(answer["hits"]))
        by_mode[mode] = fmean(ndcg for _, ndcg in pairs)
        print(
            f"{collection.name} {mode:<8} first {fmean(first for first, _ in pairs):.3f}  nDCG@10 {by_mode[mode]:.3f}"
            f"  licences and settings {fmean(asides):.3f}"
        )
    if budget:
        share = fmean(share_in_context(session, question, budget) for question in collection.questions)
        print(f"{collection.name} context of {budget} tokens: {share:.3f} of it in right files")
    return by_mode


def show_identifiers(session: LocalSession, collection: Collection) -> None:
    """Print the share of names, defined once in the Python of a tree, of which the first hit is the definition."""
    defined: dict[str, list[tuple[str, int, int]]] = {}
    for file in sorted(collection.tree.rglob("*.py")):
        relative_path = file.relative_to(collection.tree)
        if not set(_LIBRARY_EXCLUDES) & set(relative_path.parts):
            for name, node in _definitions_in(file):
                defined.setdefault(name, []).append(
                    (f"knowledge/{collection.name}/{relative_path}", node.lineno, node.end_lineno or 0)
                )
    names = [(name, places[0]) for name, places in sorted(defined.items()) if len(places) == 1 and len(name) > 3]
    names = names[:: max(1, len(names) // _MAX_COMMITS)][:_MAX_COMMITS]
    right = 0
    for name, (path, first, last) in names:
        hits = session.call("search", question=name, below="knowledge", limit=1)["hits"]
        right += any(hit["path"] == path and hit["first"] <= last and hit["last"] >= first for hit in hits)
    print(
        f"{collection.name} identifiers: {right / max(len(names), 1):.3f} of {len(names)} have their definition first"
    )


def _definitions_in(file: Path) -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    try:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    except (SyntaxError, ValueError):
        return []
    return [
        (node.name, node) for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]


def _open_collections(arguments: argparse.Namespace, scratch: Path) -> Iterator[tuple[Collection, LocalSession]]:
    collections = [read_questions(arguments.questions, arguments.tree)] if arguments.questions else []
    collections += [read_commits(repository, scratch / "trees") for repository in arguments.commits]
    for collection in collections:
        store = make_store(scratch / collection.name, {collection.name: collection.tree}, excludes=collection.excludes)
        session = LocalSession(find_store(str(store)))
        session.catch_up_once()
        yield collection, session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=Path)
    parser.add_argument("--tree", type=Path)
    parser.add_argument("--commits", type=Path, action="append", default=[])
    parser.add_argument("--budget", type=int, default=2000, help="tokens of a context; 0: only search")
    parser.add_argument("--keep", type=Path, help="keep the stores here, and use those that are there")
    parser.add_argument("--leave-one-out", action="store_true")
    parser.add_argument("--identifiers", action="store_true")
    arguments = parser.parse_args()
    behind = []
    with tempfile.TemporaryDirectory(prefix="ctxfs-code-") as scratch:
        opened = list(_open_collections(arguments, arguments.keep or Path(scratch)))
        if arguments.leave_one_out:
            fit_code(
                [
                    CodeSet.collect(name.name, session.app.searcher, [(q.text, q.files) for q in name.questions])
                    for name, session in opened
                ]
            )
            return
        for collection, session in opened:
            by_mode = show_modes(session, collection, arguments.budget)
            if arguments.identifiers:
                show_identifiers(session, collection)
            if by_mode["hybrid"] < by_mode["words"]:
                behind.append(collection.name)
    if behind:
        sys.exit(f"hybrid search is behind full text in {', '.join(behind)}")


if __name__ == "__main__":
    main()
