"""A scanner for secrets in memory and pads, independent of how they were written.

`ctxfs status` lists the files and lines.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path as HostPath

import trio

from ctxfs.context.build.secrets import find_secrets
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.model.path import encode_name
from ctxfs.store import rooted_fs
from ctxfs.threads import blocking

_MAX_FILE_BYTES = 1_000_000
_MAX_FILES = 1000
_MAX_PENDING = 10_000


class SecretScanner:
    """A queue of changed files that are scanned soon afterwards. Results of deleted and mended files are dropped."""

    def __init__(self, tree: HostPath, is_followed: Callable[[bytes], bool]) -> None:
        """Create a scanner; `tree` is the host folder with the areas.

        `is_followed` returns True for a file that another node of a shared store has written, and scans.
        """
        self._tree = tree
        self._is_followed = is_followed
        self._pending: dict[str, None] = {}
        self._changed_event = trio.Event()
        self._findings: dict[str, list[str]] = {}

    @property
    def findings(self) -> Mapping[str, list[str]]:
        """Return {path in the tree: [`line 3: AWS Access Key`, …]} of the files with likely secrets."""
        return self._findings

    def changed(self, area: str, paths: Iterable[Sequence[str]]) -> None:
        """Queue changed paths below an area."""
        for parts in paths:
            if len(self._pending) < _MAX_PENDING:
                self._pending["/".join((area, *parts))] = None
        self._changed_event.set()

    async def run(self) -> None:
        """Scan changed files until cancelled."""
        while True:
            await self._changed_event.wait()
            self._changed_event = trio.Event()
            waiting, self._pending = self._pending, {}
            for path in waiting:
                lines = await blocking(self._scan, path)
                if lines and len(self._findings) < _MAX_FILES:
                    self._findings[path] = lines
                else:
                    self._findings.pop(path, None)

    def _scan(self, path: str) -> list[str]:
        lines = _scan_file(str(self._tree), path)
        return [] if lines and self._is_followed(encode_name(path)) else lines


def _scan_file(tree: str, path: str) -> list[str]:
    try:
        data = rooted_fs.read_head(tree, path.split("/"), _MAX_FILE_BYTES)
    except OSError:
        return []  # deleted, a directory, a link
    text = read_text(data)
    return [f"line {secret.line}: {secret.kind}" for secret in find_secrets(text)] if text else []
