"""Results of searches and of status requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ctxfs.index.engines.catalog_schema import ChunkRow, Counts
from ctxfs.index.query import Query

_MIN_STEADY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked chunk: its score, the measured signals, and the contribution of each signal to the score."""

    chunk: ChunkRow
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The path of the chunk's file."""
        return self.chunk.path


@dataclass(frozen=True, slots=True)
class SearchResults:
    """Hits, best first.

    `notes` are the reasons why parts of the index could not be searched (empty: all were).
    `remarks` describe the interpretation of the query.
    `is_complete` is False if files may contain matches that the full-text index does not have yet.
    Then an empty result does not mean that there is no match.
    """

    query: Query
    hits: Sequence[Hit]
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class IndexState:
    """The state of the index: totals (None without an index), skipped files by reason, and the vectors of the model.

    `noise` is the number of files that are never embedded, by reason. `ignored_folders` is the number of folders of
    packages and caches that are not indexed, by name.
    `chunks_per_second` is the measured speed of embedding (0: unknown), `device` where it happened.
    `skipped_files` are (path, reason) of the first skipped files that may be texts.
    `meaning` is the reason why semantic search is unavailable, `damaged` why all search is; empty if available.
    """

    counts: Counts | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    vectors: int = 0
    model: str = ""
    meaning: str = ""
    damaged: str = ""
    skipped_files: Sequence[tuple[str, str]] = ()
    noise: Mapping[str, int] = field(default_factory=dict)
    ignored_folders: Mapping[str, int] = field(default_factory=dict)
    chunks_per_second: float = 0.0
    device: str = ""


class Generation(NamedTuple):
    """The state that results were computed from, for caches.

    `written` counts the reports of changed files, `indexed` the commits of the index.
    """

    written: int
    indexed: int

    def may_reuse(self, source: Generation, age_seconds: float) -> bool:
        """Return True if a result of generation `source`, `age_seconds` old, may be served again.

        A change of a file invalidates it at once. A commit of the index does so only after half a second.
        A listing stats each of its links, and these must not change under it while many files are being indexed.
        """
        return source == self or (source.written == self.written and age_seconds < _MIN_STEADY_SECONDS)
