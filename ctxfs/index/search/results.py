"""What a search answers with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ctxfs.index.engines.catalog import ChunkRow, Counts
from ctxfs.index.query import Query

_STEADY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that answers: its score, what each signal measured, and how much of the score each one made."""

    chunk: ChunkRow
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The file it is in."""
        return self.chunk.path


@dataclass(frozen=True, slots=True)
class SearchResults:
    """Hits, best first; `notes` say what could not be looked at and why (empty: everything could), `remarks` how it was read.

    `is_complete` is False where files may hold answers that words cannot find yet: then "no hits" means "not known".
    """

    query: Query
    hits: Sequence[Hit]
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class IndexState:
    """What there is to search: totals (None without an index), why files are skipped, how many vectors of which model.

    `skipped_files` are (path, why) of the first that may be texts.
    `meaning` and `damaged` say why meaning, or anything, cannot be searched; empty if it can.
    """

    counts: Counts | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    vectors: int = 0
    model: str = ""
    meaning: str = ""
    damaged: str = ""
    skipped_files: Sequence[tuple[str, str]] = ()


class Generation(NamedTuple):
    """What answers were made of: how often somebody has written, and how often the index has moved on."""

    written: int
    indexed: int

    def allows(self, made: Generation, age: float) -> bool:
        """True if an answer of generation `made`, `age` seconds old, may be given again.

        Not once somebody has written. But a listing looks at each of its links, and while much is being indexed they must not change
        under it.
        """
        return made == self or (made.written == self.written and age < _STEADY_SECONDS)
