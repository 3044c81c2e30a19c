"""Benchmark input: real files of this machine, copied to tmpfs so that the disk is not measured."""

import itertools
import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path


def real_files() -> Iterator[tuple[str, Path]]:
    """Yield (path in the corpus, file): Python's library, then /usr/share/doc, then installed packages."""
    library = Path(os.path.realpath(sysconfig.get_path("stdlib")))
    packages = library / "site-packages"
    for folder in (library, Path("/usr/share/doc"), packages, Path("/usr/share"), Path("/usr/lib/python3")):
        for root, folders, names in os.walk(folder):
            folders[:] = sorted(f for f in folders if f != "__pycache__" and Path(root, f) != packages)
            for name in sorted(names):
                path = Path(root, name)
                if path.is_file() and not path.is_symlink() and path.stat().st_size < 1_000_000:
                    yield f"{folder.name}/{path.relative_to(folder)}", path


def make_corpus(target: Path, files: int) -> int:
    """Copy up to `files` real files below `target`; return their number."""
    count = 0
    for relative_path, path in itertools.islice(real_files(), files):
        target_path = target / relative_path
        target_path.parent.mkdir(parents=True, exist_ok=True)
        if not target_path.exists():
            shutil.copyfile(path, target_path)
        count += 1
    return count
