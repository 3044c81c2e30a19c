"""The folder `found/`: stray files, written below a mount point while it was not mounted.

A folder `<UTC time>-<number>` holds `from`, the mount point as text, and `files/`. It is outside of the tree, because
the rules of the tree did not apply to these files: a person reviews and imports them.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as HostPath

from ctxfs.store.durable_file import replace_file

_MAX_COUNTED_FILES = 10_000


@dataclass(frozen=True, slots=True)
class StrayFiles:
    """A folder of stray files: the mount point, their present folder, and their count (at most 10,000 are counted)."""

    mount_point: str
    files: HostPath
    count: int

    @property
    def text(self) -> str:
        """Return the message for people."""
        return f"{self.count} files that were written to '{self.mount_point}' while nothing was mounted there are in '{self.files}'"

    @property
    def remedy(self) -> str:
        """Return the command that copies the files into the tree and replaces none."""
        return f"take them over: cp -an '{self.files}/.' '{self.mount_point}/'; then: rm -r '{self.files.parent}'"


def stray_folder(store: HostPath) -> HostPath:
    """Return the folder of stray files in a store."""
    return store / "found"


def make_stray_folder(store: HostPath, at: str) -> HostPath:
    """Create a new folder for files from the mount point `at`; return its `files`."""
    stem = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1000):
        folder = stray_folder(store) / f"{stem}-{number}"
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            continue
        replace_file(folder / "from", os.fsencode(at))
        (folder / "files").mkdir(mode=0o700)
        return folder / "files"
    raise FileExistsError(str(stray_folder(store)))


def list_stray_files(store: HostPath) -> list[StrayFiles]:
    """Return the folders of stray files, the oldest first."""
    try:
        folders = sorted(stray_folder(store).iterdir())
    except FileNotFoundError:
        return []
    listed = []
    for folder in folders:
        try:
            mount_point = os.fsdecode((folder / "from").read_bytes())
        except OSError:
            continue
        listed.append(StrayFiles(mount_point, folder / "files", _count_files(folder / "files")))
    return listed


def _count_files(folder: HostPath) -> int:
    count = 0
    for _, _, files in os.walk(folder):
        count += len(files)
        if count >= _MAX_COUNTED_FILES:
            return _MAX_COUNTED_FILES
    return count
