"""The record of an unfinished follow: the trees of others that the work tree has been brought to, in part or whole.

`<repository>/ctxfs-follow` has one tree id a line. A start that finds it brings the work tree back to the newest version.
Without it, the next commit would take the changes of others for local ones, and a merge would add their lines twice.
"""

import os
from pathlib import Path as HostPath

from ctxfs.versions.objects.git import is_oid

_NAME = "ctxfs-follow"


class FollowIntent:
    """The file with the trees."""

    def __init__(self, repo: HostPath) -> None:
        self._file = repo / _NAME

    def trees(self) -> list[str]:
        """Return the trees, oldest first; none if no follow is unfinished."""
        try:
            lines = self._file.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if is_oid(line)]

    def add(self, tree: str) -> None:
        """Record a tree before the work tree follows it."""
        temporary = self._file.with_suffix(".new")
        temporary.write_text("".join(f"{each}\n" for each in (*self.trees(), tree)), encoding="ascii")
        os.replace(temporary, self._file)

    def remove(self) -> None:
        """End the follow: the work tree equals the newest version."""
        self._file.unlink(missing_ok=True)
