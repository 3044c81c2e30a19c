"""Noise that stays out of vectors, versions and the audit: `python -m benchmarks.noise [--tree DIR] [--files N]`.

Index: the chunks to embed of a tree with and without the patterns of noise. DIR is a folder with code, for example a
checkout with its `node_modules` and lock files; without one, a virtual environment with pip, lock files and packages
are made. Mount: the versions that reads make (`cat` of each context, `rg`, `grep -r`), the versions and the time of
`python -m venv` in a pad, and the records of the audit of one `grep -r`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Bench, bench, report
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import IndexedRoot


def make_tree(folder: Path) -> Path:
    """Write a small project: notes, code, a virtual environment with pip, packages, and lock files."""
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    modules = folder / "web" / "node_modules"
    for number in range(200):
        package = modules / f"package-{number}"
        package.mkdir(parents=True)
        (package / "index.js").write_text(f"function part{number}(left, right) {{\n  return left + right;\n}}\n" * 20)
    lock = "".join(f'[[package]]\nname = "package-{number}"\nversion = "1.{number}"\n\n' for number in range(2000))
    for name in ("uv.lock", "Cargo.lock", "poetry.lock"):
        (folder / name).write_text(lock)
    for number in range(50):
        (folder / f"note-{number}.md").write_text(f"# Note {number}\n\nThe part {number} rotates its keys each week.\n")
        (folder / f"part_{number}.py").write_text(f'def part_{number}() -> int:\n    """Return it."""\n    return 1\n')
    return folder


def count_chunks(tree: Path, include: tuple[str, ...]) -> tuple[int, int, dict[str, int]]:
    """Return (chunks, chunks to embed, files of noise by reason) of a tree, with `.gitignore` files ignored."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog(Path(folder))
        ingester = Ingester(catalog, FullText(Path(folder) / "words", make=True), 4_000_000, lambda _: None)
        ingester.recover()
        ingester.set_roots([IndexedRoot("knowledge/tree", str(tree), gitignore=False, include=include)])
        ingester.scan_all()
        counts, noise = catalog.counts(), catalog.noise_counts()
        ingester.close()
        return counts.chunks, counts.embeddable, noise


def version_count(made: Bench) -> int:
    """Commit waiting changes, and return the number of versions."""
    made.ctxfs("commit")
    for _ in range(100):
        versions = made.status()["versions"]
        if versions["state"] == "ok":
            return int(versions["commits"])
        time.sleep(0.2)
    raise TimeoutError(f"the versions are {versions['state']}")


def audit_count(made: Bench, before: int) -> int:
    """Return the lines of the audit once their number has been steady for two seconds and is above `before`."""
    count, steady = -1, 0
    while steady < 10 or count <= before:
        lines = sum(file.read_bytes().count(b"\n") for file in (made.store / "history" / "audit").rglob("audit.jsonl"))
        steady, count = (steady + 1, count) if lines == count else (0, lines)
        time.sleep(0.2)
    return count


def measure_mount(made: Bench, files: int) -> dict[str, object]:
    """Return the versions and the audit records of reads, and of a virtual environment in a pad."""
    rows: dict[str, object] = {}
    made.ctxfs("init")
    config = made.store / "ctxfs.toml"
    config.write_text(config.read_text().replace("[index]", "[index]\nmeaning = false"))
    made.ctxfs("mount", str(made.mountpoint))
    notes = made.mountpoint / "memory" / "shared" / "notes"
    notes.mkdir(parents=True)
    for number in range(files):
        (notes / f"{number}.md").write_text(f"note {number}: keys rotate\n")
    for number in range(20):
        (made.mountpoint / "context" / f"keys-{number}").mkdir()
    before, audited = version_count(made), audit_count(made, 0)
    for task in (made.mountpoint / "context").iterdir():
        (task / "context.md").read_bytes()
    for command in (["rg", "keys"], ["grep", "-rn", "keys"]):
        subprocess.run([*command, str(made.mountpoint)], capture_output=True, check=False)
    rows["versions of reads: `cat` of 20 contexts, `rg`, `grep -r`"] = version_count(made) - before
    audited = audit_count(made, audited)
    subprocess.run(["grep", "-rn", "keys", str(notes)], capture_output=True, check=False)
    rows[f"audit records of a `grep -r` over {files} files"] = audit_count(made, audited) - audited
    before = version_count(made)
    (made.mountpoint / "pad" / "job").mkdir()
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", str(made.mountpoint / "pad" / "job" / "env")], check=True)
    seconds = time.perf_counter() - start
    rows["versions of `mkdir` and `python -m venv` in a pad"] = version_count(made) - before
    rows["files of it without versions"] = json.dumps(made.status()["versions"]["scratch"])
    rows["seconds of `python -m venv` on the mount"] = f"{seconds:.1f}"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, help="a folder with code [default: one that is made]")
    parser.add_argument("--files", type=int, default=5000, help="files that grep reads on the mount")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = arguments.tree or make_tree(Path(folder))
        before, after = count_chunks(tree, ("*",)), count_chunks(tree, ())
    rows: dict[str, object] = {
        "chunks": before[0],
        "chunks to embed, without the patterns": before[1],
        "chunks to embed": f"{after[1]} ({100 * after[1] / max(1, before[1]):.0f} %)",
        "files of noise": json.dumps(after[2]),
    }
    with bench() as made:
        rows |= measure_mount(made, arguments.files)
    report(rows)


if __name__ == "__main__":
    main()
