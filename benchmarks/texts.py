"""Files of odd forms that must be found: scripts, charsets, mail, transcripts, notebooks, logs.

`python -m benchmarks.texts DIR [--only ID…] [--words] [--hits]`

DIR holds a folder `files` and a table `checks.tsv`. A row has an id, a question, and a part of the path of a file that
must be among the first ten hits (in Normalization Form C, too). `NOT:` before the part means that no hit may have it.
`NFD:` means that the path has it in Normalization Form D. A row without a part must not fail. Comments begin with `#`.
The files are copied and indexed without a daemon; --words embeds nothing. The exit status is 1 if a check fails.
"""

import argparse
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import make_store
from ctxfs.daemon.session import LocalSession
from ctxfs.store.layout import find_store

_HITS = 10


class Check(NamedTuple):
    """A question, and a part of a path that must be (or, `is_excluded`, must not be) among the hits."""

    id: str
    question: str
    part: str
    is_excluded: bool

    def passes(self, paths: list[str]) -> bool:
        """Return True if the paths of the hits satisfy the check."""
        composed = [unicodedata.normalize("NFC", path) for path in paths]
        return not self.part or any(self.part in path for path in (*paths, *composed)) != self.is_excluded


def read_checks(file: Path) -> Iterator[Check]:
    """Yield the checks of a table."""
    for line in file.read_text(encoding="utf-8").split("\n"):
        if line and not line.startswith("#"):
            name, question, part = (*line.split("\t"), "")[:3]
            is_excluded = part.startswith("NOT:")
            part = part.removeprefix("NOT:")
            if part.startswith("NFD:"):
                part = unicodedata.normalize("NFD", part.removeprefix("NFD:"))
            yield Check(name, question, part, is_excluded)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--only", nargs="+", default=[], help="only the checks with these ids")
    parser.add_argument(
        "--words", action="store_true", help="do not embed the files: faster, and hybrid questions run by words"
    )
    parser.add_argument("--hits", action="store_true", help="print the hits of failed checks")
    arguments = parser.parse_args()
    checks = [
        c for c in read_checks(arguments.directory / "checks.tsv") if not arguments.only or c.id in arguments.only
    ]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="ctxfs-texts-") as scratch:
        files = Path(scratch) / "files"
        shutil.copytree(arguments.directory / "files", files, symlinks=True)
        session = LocalSession(find_store(str(make_store(Path(scratch), {"s": files}, meaning=not arguments.words))))
        session.catch_up_once()
        for check in checks:
            try:
                answer = session.call("search", question=check.question, below="", limit=_HITS)
                paths = [hit["path"] for hit in answer["hits"]]
                fault = "" if check.passes(paths) else "FAIL"
            except OSError as error:
                paths, fault = [], f"ERROR {error}"
            failed += bool(fault)
            print(f"{check.id}\t{fault or 'ok'}\t{check.question}\t{check.part}")
            if fault and arguments.hits:
                print("".join(f"\t{path!r}\n" for path in paths), end="")
        session.close()
    print(f"{len(checks) - failed} of {len(checks)} pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
