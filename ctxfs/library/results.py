"""The results of the library as frozen dataclasses, made from the plain values of responses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from ctxfs.model.entry import Entry

__all__ = ["Entry"]

Verdict = Literal["known", "weak", "unknown"]
State = Literal["holds", "moved", "changed", "gone", "unseen"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage: the lines `first` to `last` of a file, counted from 1.

    `score` ranks the hits of one answer; `probability` that the passage answers is comparable between answers, and None
    where it is not known. `label` is the warning to show beside a text that is not trusted, empty for none. `said` is
    the time of a message of the event log.
    """

    path: str
    first: int
    last: int
    heading: str
    kind: str
    text: str
    snippet: str
    score: float
    probability: float | None
    is_relevant: bool
    author: str
    said: datetime | None
    label: str
    shares: Mapping[str, float]

    @property
    def place(self) -> str:
        """The path and the lines, as a citation: `knowledge/handbook/keys.md:3-9`."""
        return f"{self.path}:{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The hits of a question, the best first, and the verdict on the whole answer.

    `unknown` means that the searched files do not answer. `is_complete` is False where a part could not be searched yet;
    `notes` name it.
    """

    hits: tuple[Hit, ...]
    verdict: Verdict
    probability: float | None
    is_complete: bool
    notes: tuple[str, ...]
    remarks: tuple[str, ...]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)

    def __getitem__(self, index: int) -> Hit:
        return self.hits[index]


@dataclass(frozen=True, slots=True)
class Match:
    """A line that matches a pattern, counted from 1."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class GrepMatches:
    """The matches of a pattern; `faults` name the files that were not searched, `has_more` is True if further lines match."""

    matches: tuple[Match, ...]
    faults: tuple[str, ...]
    has_more: bool

    def __iter__(self) -> Iterator[Match]:
        return iter(self.matches)

    def __len__(self) -> int:
        return len(self.matches)


@dataclass(frozen=True, slots=True)
class Context:
    """A context for a question: `text` of `tokens` tokens, at most the budget, packed from `pieces` of `found` candidates.

    `manifest` is the parsed manifest.json: each piece with its place, hash and tokens, and the excluded pieces with reasons.
    `manifest_bytes` is its exact content, for `verify_context`.
    """

    text: str
    tokens: int
    pieces: int
    found: int
    verdict: Verdict
    notes: tuple[str, ...]
    manifest: Mapping[str, Any] = field(repr=False)
    manifest_bytes: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome of a write: the sha256 of the content, and warnings (secrets, copies, contradictions)."""

    path: str
    revision: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the tree. `changed` has its changes, None if they were not requested."""

    revision: str
    time: datetime
    principal: str
    session: str
    tool: str
    reason: str
    operation: str
    subject: str
    changed: "tuple[Change, ...] | None" = None


@dataclass(frozen=True, slots=True)
class Change:
    """A changed path with the kind of change and the new size in bytes."""

    path: str
    kind: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Rollback:
    """The outcome of an undo, redo or restore.

    `version` is None if nothing changed. `kept` are paths that stayed as they are, with the reason of each.
    """

    version: Version | None
    changes: tuple[Change, ...]
    kept: Mapping[str, str]
    diff: str


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the event log; `raw` has all of its members."""

    kind: str
    text: str
    principal: str
    session: str
    time: datetime | None
    speaker: str
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Citation:
    """Cited lines and whether they still have the text that was cited; `at` is the present place of a moved text."""

    cites: str
    state: State
    at: str


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file with citations; `state` is the worst of theirs."""

    path: str
    state: State
    citations: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Promotion:
    """The outcome of a promotion to `path`; if `review` is not empty the file was not moved, and this review waits.

    `reasons` are those against the promotion.
    """

    path: str
    review: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Correction:
    """A corrected memory: its path, the corrected line, the old text, and remarks on contradictions."""

    path: str
    corrects: str
    was: str
    remarks: tuple[str, ...]


def hit_from(record: Mapping[str, Any], labels: Mapping[str, str]) -> Hit:
    """Return a hit from its record."""
    said = record.get("said")
    return Hit(
        path=record["path"],
        first=record["first"],
        last=record["last"],
        heading=record["heading"],
        kind=record["kind"],
        text=record["text"],
        snippet=record["snippet"],
        score=record["score"],
        probability=record["p"],
        is_relevant=record["relevant"],
        author=record["author"],
        said=datetime.fromisoformat(said) if said else None,
        label=labels.get(record["path"], ""),
        shares=record["shares"],
    )


def version_from(record: Mapping[str, Any]) -> Version:
    """Return a version from its record."""
    changes = record.get("changes")
    return Version(
        revision=record["revision"],
        time=datetime.fromtimestamp(record["time_ns"] / 1e9, UTC),
        principal=record["principal"],
        session=record["session"],
        tool=record["tool"],
        reason=record["reason"],
        operation=record["op"],
        subject=record["subject"],
        changed=None if changes is None else changes_from(changes),
    )


def changes_from(records: Sequence[Mapping[str, Any]]) -> tuple[Change, ...]:
    """Return changes from their records."""
    return tuple(Change(record["path"], record["what"], record["size"]) for record in records)


def rollback_from(record: Mapping[str, Any]) -> Rollback:
    """Return the outcome of a rollback from its record."""
    return Rollback(
        version=version_from(record["version"]) if record["version"] else None,
        changes=changes_from(record["changes"]),
        kept=dict(zip(record["kept"], record["reasons"], strict=True)),
        diff=record["diff"].decode("utf-8", "replace"),
    )


def record_from(raw: Mapping[str, Any]) -> Record:
    """Return a record of the event log from its members."""
    at = raw.get("at")
    return Record(
        kind=str(raw.get("kind", "")),
        text=str(raw.get("text", "")),
        principal=str(raw.get("principal", "")),
        session=str(raw.get("session", "")),
        time=datetime.fromisoformat(at) if isinstance(at, str) else None,
        speaker=str(raw.get("speaker", "")),
        raw=raw,
    )


def checked_from(record: Mapping[str, Any]) -> CheckedFile:
    """Return a file with citations from its record."""
    citations = tuple(Citation(item["cites"], item["holds"], item.get("at", "")) for item in record["citations"])
    return CheckedFile(record["path"], record["holds"], citations)
