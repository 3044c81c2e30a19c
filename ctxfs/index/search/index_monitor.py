"""The interface of the process that runs the indexer, as search needs it."""

from pathlib import Path as HostPath
from typing import Protocol

from ctxfs.index.engines.corruption import mark_damaged


class IndexMonitor(Protocol):
    """A supervisor of the indexer. Methods may be called from any thread."""

    def behind(self) -> str:
        """Return why full-text search may miss files; empty if it covers all of them."""
        ...

    def repair(self, reason: str) -> None:
        """Start the repair of a damaged index."""
        ...


class NoIndexMonitor:
    """The substitute while this process runs no indexer: the next indexer repairs the index."""

    def __init__(self, folder: HostPath) -> None:
        self._folder = folder

    def behind(self) -> str:
        """Return an empty text: a local session indexes all changes before it searches."""
        return ""

    def repair(self, reason: str) -> None:
        """Mark the index as damaged."""
        mark_damaged(self._folder, reason)
