"""A scanner for secrets in memory and pads, independent of how they were written.

`ctxfs status` lists the files and lines.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path as HostPath

import trio

from ctxfs.context.build.secrets import find_secrets
from ctxfs.store import rooted_fs
from ctxfs.threads import blocking

_LARGEST = 1_000_000
_MOST = 1000
_MOST_WAITING = 10_000


class SecretScanner:
    """A queue of changed files that are scanned soon afterwards. Results of deleted and mended files are dropped."""

    def __init__(self, tree: HostPath) -> None:
        """Create a scanner; `tree` is the host folder with the areas."""
        self._tree = tree
        self._waiting: dict[str, None] = {}
        self._news = trio.Event()
        self._found: dict[str, list[str]] = {}

    @property
    def found(self) -> Mapping[str, list[str]]:
        """Return {path in the tree: [`line 3: AWS Access Key`, …]} of the files with likely secrets."""
        return self._found

    def changed(self, area: str, places: Iterable[Sequence[str]]) -> None:
        """Queue changed paths below an area."""
        for parts in places:
            if len(self._waiting) < _MOST_WAITING:
                self._waiting["/".join((area, *parts))] = None
        self._news.set()

    async def run(self) -> None:
        """Scan changed files until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            waiting, self._waiting = self._waiting, {}
            for path in waiting:
                lines = await blocking(_look, str(self._tree), path)
                if lines and len(self._found) < _MOST:
                    self._found[path] = lines
                else:
                    self._found.pop(path, None)


def _look(tree: str, path: str) -> list[str]:
    try:
        data = rooted_fs.read_head(tree, path.split("/"), _LARGEST)
    except OSError:
        return []  # deleted, a directory, a link
    if b"\0" in data[:8192]:
        return []
    return [f"line {secret.line}: {secret.kind}" for secret in find_secrets(data.decode("utf-8", "replace"))]
