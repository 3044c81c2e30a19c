"""Make the sample store of the present format: `python -m tests.store_formats.make`, once for each format that is released."""

import subprocess
import sys
import tempfile
from pathlib import Path

from ctxfs.store.store_format import FORMAT
from tests.store_formats.archive import FOLDER, pack


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "store"

        def ctxfs(*words: str, text: str | None = None) -> None:
            command = [sys.executable, "-m", "ctxfs", "--store", str(store), *words]
            subprocess.run(command, input=text, text=True, check=True, cwd=scratch)

        ctxfs("init")
        memory = store / "tree" / "memory" / "shared" / "fact"
        memory.mkdir(parents=True)
        for days in ("90", "30"):
            (memory / "keys.md").write_text(f"The signing keys rotate every {days} days.\n")
            ctxfs("commit")
        ctxfs("meta", "set", "memory/shared/fact/keys.md", "confidence=0.8")
        ctxfs("token", "issue", "agent:alice", "--ttl", "never")
        ctxfs("record", "We decided to rotate the signing keys on Mondays.")
        ctxfs("commit")
        pack(store, FOLDER / f"format-{FORMAT}.tar.gz")


if __name__ == "__main__":
    main()
