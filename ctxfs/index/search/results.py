"""Results of searches and of status requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from ctxfs.index.engines.catalog_schema import ChunkRow, Counts
from ctxfs.index.query import Query

_MIN_STEADY_SECONDS = 0.5


class Verdict(StrEnum):
    """The judgement on a question: hits answer it, hits may answer it, or the searched files do not answer it."""

    KNOWN = "known"
    WEAK = "weak"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The raw signals of a question.

    `cosine` is the largest one, None without vectors. `coverage` is the share of the IDF of the question's words that
    the best chunk contains, `missing` the share of words that no file contains, named in `missing_words`.
    `author_margin` is the excess of the best statements of the named authors over those of others, None if no author
    is named, or no other one found. `names_author`: the question names the author of a hit. `is_literal`: each hit
    contains a required word or phrase. `is_dialogue`: the best hits are turns.
    """

    cosine: float | None
    coverage: float
    missing: float = 0.0
    missing_words: tuple[str, ...] = ()
    author_margin: float | None = None
    names_author: bool = False
    is_literal: bool = False
    is_dialogue: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict on a question, and the probability `p` that the searched files answer it; None if not measured.

    `reasons` describe an unknown answer to people; `evidence` are the signals that `p` follows from.
    """

    verdict: Verdict = Verdict.WEAK
    p: float | None = None
    reasons: tuple[str, ...] = ()
    evidence: Evidence | None = None

    @classmethod
    def of_filters(cls, has_hits: bool) -> Answer:
        """Return the verdict on filters and exact words, which a file satisfies or not."""
        return cls(Verdict.KNOWN, 1.0) if has_hits else cls(Verdict.UNKNOWN, 0.0, ("no file matches",))

    def as_record(self) -> dict[str, object]:
        """Return the answer as plain values."""
        return {"verdict": self.verdict.value, "p": None if self.p is None else round(self.p, 3)}


NOT_JUDGED = Answer()


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked chunk: its score, the measured signals, and the contribution of each signal to the score.

    `p` is the probability that the chunk helps to answer the question; None if not measured.
    `is_relevant` is False if it is so small, beside that of the best hit, that a context ends before the chunk.
    `valid_until` is the end of the file's validity if that has passed; else empty.
    """

    chunk: ChunkRow
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    p: float | None = None
    is_relevant: bool = True
    valid_until: str = ""

    @property
    def path(self) -> str:
        """The path of the chunk's file."""
        return self.chunk.path

    @property
    def why(self) -> str:
        """The signals that found the chunk and raised its score, the strongest first; empty if none did."""
        names = [name for name, share in self.shares.items() if share > 0 and self.signals.get(name, 0.0) > 0]
        names.sort(key=lambda name: -self.shares[name])
        return ", ".join(names or (sorted(self.signals) if not self.shares else ()))


@dataclass(frozen=True, slots=True)
class SearchResults:
    """Hits, best first.

    `notes` are the reasons why parts of the index could not be searched (empty: all were).
    `remarks` describe the interpretation of the query.
    `is_complete` is False if files may contain matches that the full-text index does not have yet.
    Then an empty result does not mean that there is no match.
    `answer` is the verdict; it is never `unknown` if a part of the search failed or is missing.
    """

    query: Query
    hits: Sequence[Hit]
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()
    is_complete: bool = True
    answer: Answer = NOT_JUDGED

    @property
    def is_unknown(self) -> bool:
        """True if everything was searched and does not answer the question."""
        return self.answer.verdict is Verdict.UNKNOWN


@dataclass(frozen=True, slots=True)
class IndexState:
    """The state of the index: totals (None without an index), skipped files by reason, and the vectors of the model.

    `partial` is the number of large files of which a part is searched; `skipped_files` names them, too.
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
    partial: int = 0


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
