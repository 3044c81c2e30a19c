"""Bundles: time and identity of a round trip of very many files, by the real command line.

    python -m benchmarks.memory bundles [--files 10000] [--tree DIR]

Paragraphs of the documents below DIR (default: Python's library) become memories with attributes. They are exported
with a signature, imported into a second store that allows the key, and exported again. The git trees of both stores, and
the tree hashes of both bundles, must be equal. Without the signature, the time of an untrusted import is measured.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import report

_KINDS = ("fact", "episodic", "experiential")


def paragraphs(tree: Path, limit: int) -> Iterator[str]:
    """Yield paragraphs of 200 characters or more of the text files below a folder, in the order of their paths."""
    count = 0
    for file in sorted((*tree.rglob("*.py"), *tree.rglob("*.md"), *tree.rglob("*.txt"))):
        for part in file.read_text(errors="replace").split("\n\n"):
            if len(part) >= 200:
                yield part
                count += 1
                if count == limit:
                    return


def _run(store: Path, *words: str) -> tuple[str, float]:
    command = [sys.executable, "-m", "ctxfs", "--store", str(store), *words]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")
    return done.stdout, time.perf_counter() - started


def _git_tree(store: Path) -> str:
    command = ["git", "-C", str(store / "repo.git"), "rev-parse", "main:memory/bench"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _fill(store: Path, tree: Path, files: int) -> None:
    for number, text in enumerate(paragraphs(tree, files)):
        kind = _KINDS[number % len(_KINDS)]
        file = store / "tree/memory/bench" / kind / f"{number // 500:03}" / f"{number:05}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.setxattr(file, "user.ctx.kind", kind.encode())
        if number % 10 == 0:
            os.setxattr(file, "user.ctx.pinned", b"true")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--tree", type=Path, default=Path(sysconfig.get_path("stdlib")))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ctxfs-bundles-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        stores = [folder / name for name in ("first", "second", "third")]
        for store in stores:
            _run(store, "init")
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        (stores[1] / "allowed_signers").write_text(f"bench {key.with_suffix('.pub').read_text()}")
        _fill(stores[0], options.tree, options.files)
        _, commit = _run(stores[0], "commit")
        first, export = _run(stores[0], "export", "memory/bench", str(folder / "a.tar"), "--sign", str(key), "--json")
        second, signed = _run(stores[1], "import", "bundle", str(folder / "a.tar"), "--json")
        _, untrusted = _run(stores[2], "import", "bundle", str(folder / "a.tar"), "--json")
        third, again = _run(stores[1], "export", "memory/bench", str(folder / "b.tar"), "--json")
        trees = [json.loads(text)["tree"] for text in (first, second, third)]
        report(
            {
                "files": json.loads(first)["files"],
                "bytes": json.loads(first)["bytes"],
                "same tree hash in both bundles": len(set(trees)) == 1,
                "same git tree in both stores": _git_tree(stores[0]) == _git_tree(stores[1]),
                "versions of the import": len(json.loads(_run(stores[1], "log", "memory/bench", "--json")[0])),
                "seconds of the first commit": round(commit, 1),
                "seconds of the export": round(export, 1),
                "seconds of the signed import": round(signed, 1),
                "seconds of the untrusted import": round(untrusted, 1),
                "seconds of the second export": round(again, 1),
            }
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
