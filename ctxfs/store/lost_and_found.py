"""`found/`: files that were written to a mount point while nothing was mounted there, a folder each time.

A folder `<UTC time>-<number>` holds `from`, the mount point as text, and `files/`. It lies outside the tree, since rules of the tree
held for none of these files: a person looks at them and takes them over.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as HostPath

from ctxfs.store.config import replace_file

_MAX_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class LostAndFound:
    """One folder: the mount point, where its files are now, and how many (at most 10,000 are counted)."""

    at: str
    files: HostPath
    count: int

    @property
    def text(self) -> str:
        """What people are told."""
        return (
            f"{self.count} files that were written to '{self.at}' while nothing was mounted there are in '{self.files}'"
        )

    @property
    def remedy(self) -> str:
        """The command that takes them into the tree and replaces nothing."""
        return f"take them over: cp -an '{self.files}/.' '{self.at}/'; then: rm -r '{self.files.parent}'"


def found_folder(store: HostPath) -> HostPath:
    """Where they are in a store."""
    return store / "found"


def make_found_folder(store: HostPath, at: str) -> HostPath:
    """Make a new folder for files from the mount point `at`; returns its `files`."""
    stem = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1000):
        folder = found_folder(store) / f"{stem}-{number}"
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            continue
        replace_file(folder / "from", os.fsencode(at))
        (folder / "files").mkdir(mode=0o700)
        return folder / "files"
    raise FileExistsError(str(found_folder(store)))


def list_found(store: HostPath) -> list[LostAndFound]:
    """What waits there for a person, the oldest first."""
    try:
        folders = sorted(found_folder(store).iterdir())
    except FileNotFoundError:
        return []
    listed = []
    for folder in folders:
        try:
            at = os.fsdecode((folder / "from").read_bytes())
        except OSError:
            continue
        listed.append(LostAndFound(at, folder / "files", _count(folder / "files")))
    return listed


def _count(folder: HostPath) -> int:
    count = 0
    for _, _, files in os.walk(folder):
        count += len(files)
        if count >= _MAX_COUNTED:
            return _MAX_COUNTED
    return count
