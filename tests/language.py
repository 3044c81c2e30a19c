"""Count the words and names that the language rules limit (CONTRIBUTING.md): `python -m tests.language [PACKAGE …]`.

A row a package: rates per 1,000 words of docstrings and comments, and shares of docstrings. `tests/test_language.py` holds the limits.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOPS = ("ctxfs", "mounts", "mcp_server", "tools", "benchmarks", "tests")

PERSONS = re.compile(
    r"\b(somebody|nobody|whoever|whomever|everybody|everyone|someone|anyone|anybody|no one|who asks|who acts|whose account)\b",
    re.I,
)
CLAUSES = re.compile(r"\b(what|whatever|whichever|how manieth)\b", re.I)
SAYING = re.compile(
    r"\b(says?|said|saying|tells?|told|telling|hears?|heard|asks|asked|asking|knows|knew|speaks?|spoke|spoken)\b", re.I
)
QUESTION = re.compile(
    r"^(what|who|whom|whose|whether|which|where|when|why|how|of|by what|in what|from what|for whom)\b", re.I
)
VAGUE_LOCALS = ("found", "said", "each", "place", "known")
GOOD_CONSTANT = re.compile(r"^_?(.*_)?(MAX|MIN|DEFAULT)(_|$)")
BAD_CONSTANT = re.compile(r"^_?(.*_)?(MOST|LEAST|FEW|FEWEST|MUCH|MANY|LONGEST|LARGEST|SHORTEST|SMALLEST)(_|$)")


@dataclass(slots=True)
class Counts:
    """The counts of some files."""

    words: int = 0
    persons: int = 0
    clauses: int = 0
    saying: int = 0
    docstrings: int = 0
    questions: int = 0
    good_constants: int = 0
    bad_constants: int = 0
    locals: Counter[str] = field(default_factory=Counter)
    long_files: list[str] = field(default_factory=list)
    long_functions: list[str] = field(default_factory=list)

    def rate(self, count: int) -> float:
        """Return a count per 1,000 words."""
        return 1000 * count / max(1, self.words)

    @property
    def questions_percent(self) -> float:
        """The share of docstrings that begin with an interrogative word, in percent."""
        return 100 * self.questions / max(1, self.docstrings)


def files_of(top: str) -> list[Path]:
    """Return the tracked Python files below a folder of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z", top], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name.endswith((".py", ".pyi"))]


def count_file(path: Path, counts: Counts) -> None:
    """Add the counts of one file."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    if source.count("\n") > 450:
        counts.long_files.append(str(path.relative_to(ROOT)))
    texts = [
        token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                texts.append(docstring)
                counts.docstrings += 1
                counts.questions += bool(QUESTION.match(docstring))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            _count_function(node, path, counts)
    for statement in tree.body:
        targets = (
            statement.targets
            if isinstance(statement, ast.Assign)
            else [statement.target]
            if isinstance(statement, ast.AnnAssign)
            else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id.isupper():
                counts.good_constants += bool(GOOD_CONSTANT.match(target.id))
                counts.bad_constants += bool(BAD_CONSTANT.match(target.id))
    for text in texts:
        prose = re.sub(r"`[^`]*`|\"[^\"\n]*\"", " ", text)  # code and quotations are no prose
        counts.words += len(re.findall(r"[A-Za-z][A-Za-z'-]*", prose))
        counts.persons += len(PERSONS.findall(prose))
        counts.clauses += len(CLAUSES.findall(prose))
        counts.saying += len(SAYING.findall(prose))


def _count_function(node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path, counts: Counts) -> None:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > 50:
        counts.long_functions.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} ({lines})")
    names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)}
    for name in VAGUE_LOCALS:
        counts.locals[name] += name in names


def count(*tops: str) -> Counts:
    """Return the counts of all files below some folders."""
    counts = Counts()
    for top in tops:
        for path in files_of(top):
            count_file(path, counts)
    return counts


def packages() -> list[str]:
    """Return the folders that are counted one by one."""
    inner = sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "ctxfs").iterdir()
        if (path / "__init__.py").exists() and not path.is_symlink()
    )
    return [*inner, *(top for top in TOPS if top != "ctxfs")]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "packages", nargs="*", help="folders, such as ctxfs/fuse [default: all, and the sum of the product]"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="list long files and functions, and constants")
    arguments = parser.parse_args()
    header = f"{'':24} {'words':>7} {'persons':>8} {'clauses':>8} {'saying':>7} {'questions %':>12}"
    print(f"{header}  constants  locals ({', '.join(VAGUE_LOCALS)})")
    for name in arguments.packages or [*packages(), "ctxfs mounts mcp_server tools"]:
        counts = count(*name.split())
        rates = (
            f"{counts.rate(counts.persons):8.2f} {counts.rate(counts.clauses):8.2f} {counts.rate(counts.saying):7.2f}"
        )
        locals_ = " ".join(str(counts.locals[local]) for local in VAGUE_LOCALS)
        constants = f"{counts.good_constants:3}:{counts.bad_constants:<3}"
        print(f"{name:24.24} {counts.words:7} {rates} {counts.questions_percent:12.1f}  {constants}    {locals_}")
        if arguments.verbose:
            print(*(f"    {line}" for line in (*counts.long_files, *counts.long_functions)), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
