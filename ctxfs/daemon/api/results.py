"""The results of methods as frozen dataclasses, and as the plain values that are sent."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ctxfs.model.path import printable
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.versions.recording.pathindex import PathChange


@dataclass(frozen=True, slots=True)
class Result:
    """A result whose fields are the keys of its record."""

    def as_record(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {field.name: as_plain(getattr(self, field.name)) for field in fields(self)}


def as_plain(value: Any) -> Any:
    """Return a value with each result, also in a list, replaced by its record."""
    if isinstance(value, Result):
        return value.as_record()
    if isinstance(value, list) and value and isinstance(value[0], Result):
        return [item.as_record() for item in value]
    return value


@dataclass(frozen=True, slots=True)
class SearchResult(Result):
    """Hits, with the verdict, notes on unsearched parts and the labels of the files that have one.

    `terms` are the words to look for in the texts of the hits, in lower case.
    """

    notes: list[str]
    remarks: list[str]
    complete: bool
    answer: dict[str, object]
    hits: list[dict[str, object]]
    labels: dict[str, str]
    terms: list[str]


@dataclass(frozen=True, slots=True)
class GrepLines(Result):
    """Matching lines, unreadable files with reasons, and True if lines beyond the limit match."""

    lines: list[list[Any]]
    faults: list[str]
    more: bool
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class GlobPaths(Result):
    """Matching paths, and the reasons why some may be missing."""

    paths: list[str]
    faults: list[str]


@dataclass(frozen=True, slots=True)
class Version(Result):
    """A version, as a reader may see it."""

    revision: str
    time: str
    time_ns: int
    principal: str
    session: str
    tool: str
    reason: str
    op: str
    subject: str

    @classmethod
    def of(cls, commit: Commit, reader: str = "") -> "Version":
        """Return a commit as a reader may see it.

        `reader` is a restricted principal, or empty. Reason and subject of other principals' versions are blank for it,
        because they may name paths that it cannot see.
        """
        actor, is_visible = commit.actor, reader in ("", commit.actor.principal)
        return cls(
            revision=commit.oid,
            time=commit.time_text,
            time_ns=commit.time_ns,
            principal=actor.principal,
            session=actor.session,
            tool=actor.tool,
            reason=actor.reason if is_visible else "",
            op=commit.op,
            subject=printable(commit.subject) if is_visible else "",
        )


@dataclass(frozen=True, slots=True)
class Snapshot(Result):
    """A version with the name of its snapshot."""

    name: str
    version: Version

    def as_record(self) -> dict[str, Any]:
        """Return the name and the fields of the version in one record."""
        return {"name": self.name, **self.version.as_record()}


@dataclass(frozen=True, slots=True)
class ChangedPath(Result):
    """A changed path with the kind of change and the new size in bytes."""

    path: str
    what: str
    size: int

    @classmethod
    def of(cls, change: PathChange) -> "ChangedPath":
        """Return a change of the path index."""
        return cls(path_text(change.path), change.op, change.size)


@dataclass(frozen=True, slots=True)
class BranchRecord(Result):
    """A branch with its author, its newest revision, and the changes that main lacks and the caller may read."""

    name: str
    by: str
    created_at: str
    revision: str
    changed_at: str
    versions: int
    changes: list[ChangedPath]


@dataclass(frozen=True, slots=True)
class BranchMerge(Result):
    """A proposed merge: the id of its review, and its changes that the caller may read."""

    review: str
    changes: list[ChangedPath]


@dataclass(frozen=True, slots=True)
class LogEntry(Result):
    """A version of a log, with its changes if they were requested."""

    version: Version
    changes: Sequence[ChangedPath] | None

    def as_record(self) -> dict[str, Any]:
        """Return the fields of the version, and the changes, in one record."""
        record = self.version.as_record()
        if self.changes is not None:
            record["changes"] = [change.as_record() for change in self.changes]
        return record


@dataclass(frozen=True, slots=True)
class BlamedLine(Result):
    """A line and the version that it is from."""

    revision: str
    principal: str
    time_ns: int
    line: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Rollback(Result):
    """The new version (None without changes), its changes, and the skipped paths with reasons."""

    version: Version | None
    changes: list[ChangedPath]
    kept: list[str]
    reasons: list[str]
    diff: bytes


@dataclass(frozen=True, slots=True)
class ImportedBundle(Result):
    """The version of an imported bundle (None if its files exist already), its changes and skipped paths.

    `to` is the target, `signer` the allowed signer (empty: the files are untrusted), `tree` the hash of its tree.
    """

    version: Version | None
    changes: list[ChangedPath]
    kept: list[str]
    to: str
    signer: str
    tree: str


@dataclass(frozen=True, slots=True)
class ErasedPath(Result):
    """A path whose content was erased."""

    path: str


@dataclass(frozen=True, slots=True)
class Erasure(Result):
    """The erased versions, contents and paths, the remaining copies, and the derived records that were erased."""

    versions: int
    blobs: int
    changes: list[ErasedPath]
    elsewhere: list[str]
    copies: list[str]
    derived: dict[str, int]
    remotes: list[str]


@dataclass(frozen=True, slots=True)
class Synchronised(Result):
    """The outcome of exchanges with a shared store: numbers of entries, conflicts, and changes of the work tree."""

    taken: int
    published: int
    conflicts: list[str]
    changes: list[ChangedPath]


@dataclass(frozen=True, slots=True)
class Pulled(Result):
    """The outcome of a pull: its state, the number of new versions, conflicts, and changes of the work tree."""

    state: str
    versions: int
    conflicts: list[str]
    changes: list[ChangedPath]
