"""Promotion of scratch notes to memories, and correction of memories and sources, for the calling principal.

A promotion passes gates, or waits for a person under human/review/. A correction is a new file that supersedes the old
one, cites the corrected line, and names its author and reason. Neither deletes a text that a person cannot get back.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

import trio

from ctxfs.consolidation.desk import ProposalDesk
from ctxfs.consolidation.draft import Draft, Evidence, digest_of
from ctxfs.index.extract.editable_text import CharsetConflict, EditableText, parse_editable_text
from ctxfs.memory.citations import format_citations
from ctxfs.memory.kinds import FACT, KIND_ATTRIBUTE, USER, kind_by_folder
from ctxfs.memory.states import ARCHIVED, STATE_ATTRIBUTE, STATE_ATTRIBUTES, is_frozen
from ctxfs.model.change import ABSENT, MakeDir, Put, Remove, SetMeta
from ctxfs.model.errors import invalid, not_permitted, path_error
from ctxfs.model.metadata import COMPUTED, PREFIX, SETTABLE
from ctxfs.model.mount import Mount
from ctxfs.model.path import Path, one_line
from ctxfs.services.citations import CITES, SOURCE, Citations
from ctxfs.services.memory_remarks import MemoryRemark, MemoryRemarks
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.archive import Archive
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.fingerprint import blob_id
from ctxfs.versions.objects.name_encoding import path_bytes
from ctxfs.versions.proposals import FileEdit

if TYPE_CHECKING:
    from ctxfs.model.principal import Principal

_RULE = "promotion"
_MAX_BYTES = 1_000_000
_TRUST, _QUARANTINED, _SUPERSEDES = (f"{PREFIX}{name}" for name in ("trust", "quarantined", "supersedes"))
_CORRECTED_BY = "user.correctedBy"  # path of the correction, on the corrected file
_PROMOTED_FROM = "user.promotedFrom"
# Kinds whose files make claims: these need a source or a citation.
_CLAIMING_KINDS = (FACT, USER)
_NOT_COPIED = (CITES, _SUPERSEDES, *STATE_ATTRIBUTES, _QUARANTINED, _CORRECTED_BY)
_MAX_EVIDENCE_CHARS = 2000


class Caller(Protocol):
    """A session: the tree as its principal sees it."""

    @property
    def tree(self) -> Mount:
        """The tree, with access control and journal."""
        ...

    @property
    def actor(self) -> Actor:
        """The author of its versions."""
        ...

    @property
    def principal(self) -> Principal:
        """The calling principal."""
        ...


@dataclass(frozen=True, slots=True)
class Promotion:
    """The result of a promotion: the new path, or the id of the review and the reasons for it."""

    path: str
    review: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Correction:
    """The result of a correction: the new file, the corrected line with its old text, and remarks on the new text."""

    path: str
    corrects: str
    was: str
    remarks: tuple[str, ...] = ()


class MemoryChanges:
    """Promotes and corrects. Corrections and promotions run one at a time, so that two of one file exclude each other."""

    def __init__(
        self,
        remarks: MemoryRemarks,
        citations: Citations,
        desk: ProposalDesk,
        archive: Archive,
        kinds: Callable[[], Container[str]],
    ) -> None:
        """`kinds` returns the kinds that a folder may imply, with those of memory.toml."""
        self._kinds = kinds
        self._remarks = remarks
        self._citations = citations
        self._desk = desk
        self._archive = archive
        self._lock = trio.Lock()

    # promotion

    async def promote(self, caller: Caller, path: Path, to: Path) -> Promotion:
        """Move a file to a folder of memory if it passes the gates, else open a review.

        Raise OSError: EINVAL for a target outside of memory/<agent>/<kind>/ and for a binary file, EISDIR for a directory,
        EEXIST for an existing target, EPERM for a frozen file, EACCES and ENOENT by the rights of the caller.
        """
        async with self._lock:
            data, attributes = await _read_text_file(caller.tree, path)
            target = await _promotion_target(caller.tree, path, to)
            _require_thawed(path, attributes)
            # A copy of a marked text has its marks, also before a version of it exists.
            marks = self._archive.marks
            attributes = {
                **attributes,
                **await blocking(marks.required_marks, path_bytes(str(path)), blob_id(data), data),
            }
            kept = _kept_attributes(attributes, caller.principal, kind_by_folder(target.parts, self._kinds()))
            reasons = await self._find_reasons(path, target, data, kept, attributes)
            if reasons:
                return await self._propose(caller, path, target, data, kept, reasons)
            await _make_parents(caller.tree, target)
            await caller.tree.apply(Put(target, data, kept, ABSENT))
            await _remove_unchanged(caller.tree, path, target, data)
            return Promotion(str(target))

    async def _find_reasons(
        self, path: Path, target: Path, data: bytes, kept: Mapping[str, bytes], attributes: Mapping[str, bytes]
    ) -> list[str]:
        """Return the reasons why a person decides on a promotion; none if it passes all gates."""
        reasons = []
        if attributes.get(_QUARANTINED) == b"true":
            reasons.append("it is quarantined")
        if attributes.get(_TRUST) == b"untrusted":
            reasons.append("it is untrusted")
        cites = attributes.get(CITES, b"")
        kind = kept.get(KIND_ATTRIBUTE, b"").decode("utf-8", "replace") or kind_by_folder(target.parts)
        if kind in _CLAIMING_KINDS and not cites and SOURCE not in attributes:
            reasons.append("nothing supports it: it has neither a source nor citations")
        if cites:
            holds = (await self._citations.describe(path, cites)).get("holds", "")
            if holds in ("changed", "gone"):
                reasons.append(f"a line that it cites is {holds}")
        remarks = await self._remarks.compare(Path(("memory", *path.parts)) if path.parts[0] == "pad" else path, data)
        return [*reasons, *(str(remark) for remark in remarks if _is_path(remark) != str(path))]

    async def _propose(
        self,
        caller: Caller,
        path: Path,
        target: Path,
        data: bytes,
        kept: Mapping[str, bytes],
        reasons: Sequence[str],
    ) -> Promotion:
        base = await in_turn(self._archive.proposals.base)
        text = data.decode("utf-8", "replace")
        evidence = Evidence(str(path), 1, 1 + text.count("\n"), text[:_MAX_EVIDENCE_CHARS], "promoted")
        title = f"promote {one_line(str(path))} to {one_line(str(target))}"
        edit = FileEdit(str(target), data, dict(kept))
        draft = Draft(
            _RULE, title, (edit,), (evidence,), tuple(reasons), ((str(path), digest_of(data)),), is_advised=False
        )
        opened = await self._desk.open(draft, base, caller.actor, caller.principal)
        if opened is None:
            raise not_permitted(path, f"a person has decided against this already: review {draft.id}")
        return Promotion(str(target), opened.id, tuple(reasons))

    # correction

    async def correct(
        self, caller: Caller, path: Path, line: int, text: str, because: str, *, was: str = ""
    ) -> Correction:
        """Write the corrected version of a line; `line` 0 stands for the only statement of the file.

        `was` is the line as the caller has read it: the line is looked for if it has moved since, and ESTALE is raised
        if it is gone. A file that the caller may not write is left as it is: the correction is then a fact of its own
        that cites the line. Raise OSError: EINVAL for an empty text or reason, a binary file and a line beyond the end,
        EISDIR for a directory, EPERM for a frozen file, ESTALE for a file that is corrected already.
        """
        new, reason = " ".join(text.split()), " ".join(because.split())
        if not new or not reason:
            raise invalid(path, "the corrected text and the reason are needed")
        async with self._lock:
            data, attributes = await _read_text_file(caller.tree, path)
            try:
                editable = parse_editable_text(data)
            except CharsetConflict as conflict:
                raise invalid(path, str(conflict)) from conflict
            number = _find_line(path, editable.text, line, was)
            old = editable.text.split("\n")[number - 1].strip()
            if _bare(old) == _bare(new):
                raise invalid(path, f"line {number} reads so already")
            note = _provenance(caller.principal, path, number, old, reason)
            cites = format_citations(await self._citations.cite([f"{path}:{number}"]))
            if path.parts[0] == "memory" and await _may_supersede(caller.tree, path, attributes):
                target = await self._supersede(caller, path, number, new, note, editable, attributes, cites)
            else:
                target = await self._write_fact(caller, f"{path}:{number}", new, note, cites)
        remarks = await self._remarks.compare(target, f"{new}\n".encode("utf-8", "replace"))
        shown = tuple(str(remark) for remark in remarks if _is_path(remark) not in (str(path), str(target)))
        return Correction(str(target), f"{path}:{number}", old, shown)

    async def _supersede(
        self,
        caller: Caller,
        path: Path,
        number: int,
        new: str,
        note: str,
        editable: EditableText,
        attributes: Mapping[str, bytes],
        cites: bytes,
    ) -> Path:
        """Write the corrected file beside the old one, and archive the old one; return the new path."""
        _require_thawed(path, attributes)
        lines = editable.text.split("\n")
        old = lines[number - 1]
        mark = re.match(r"\s*(?:[-*+]\s+|\d{1,3}[.)]\s+|#{1,6}\s+)?", old)
        lines[number - 1] = f"{mark[0] if mark else ''}{new}"
        corrected = "\n".join(lines).rstrip("\n") + f"\n\n{note}"
        try:
            data = editable.encode(corrected)
        except CharsetConflict as conflict:
            raise invalid(path, str(conflict)) from conflict
        stem, dot, suffix = path.name.rpartition(".")
        digest = hashlib.sha256(corrected.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        base = re.sub(r"-c[0-9a-f]{8}$", "", stem or suffix)
        target = path.parent / f"{base}-c{digest}{dot}{suffix if stem else ''}"
        kept = _kept_attributes(attributes, caller.principal, kind_by_folder(target.parts, self._kinds()))
        kept = {name: value for name, value in kept.items() if name not in (*_NOT_COPIED, _PROMOTED_FROM)}
        labels = {**kept, _SUPERSEDES: str(path).encode("utf-8", "surrogateescape"), CITES: cites}
        await caller.tree.apply(Put(target, data, labels, ABSENT))
        try:
            await caller.tree.apply(SetMeta(path, _CORRECTED_BY, str(target).encode("utf-8", "surrogateescape")))
            await caller.tree.apply(SetMeta(path, STATE_ATTRIBUTE, ARCHIVED.encode()))
        except OSError:
            with contextlib.suppress(OSError):
                await caller.tree.apply(Remove(target))
            raise
        return target

    async def _write_fact(self, caller: Caller, span: str, new: str, note: str, cites: bytes) -> Path:
        """Write a correction of a source as a fact of the caller, which cites the line; return its path."""
        owner = "shared" if caller.principal.is_person else caller.principal.name
        slug = re.sub(r"[^a-z0-9]+", "-", new.lower()).strip("-")[:40].rstrip("-") or "correction"
        digest = hashlib.sha256(f"{span} {new}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
        target = Path(("memory", owner, FACT, f"{slug}-{digest}.md"))
        labels = {KIND_ATTRIBUTE: FACT.encode(), SOURCE: span.encode("utf-8", "replace"), CITES: cites}
        await _make_parents(caller.tree, target)
        await caller.tree.apply(Put(target, f"{new}\n\n{note}".encode("utf-8", "replace"), labels, ABSENT))
        return target


def _is_path(remark: MemoryRemark) -> str:
    return remark.position.rpartition(":")[0]


async def _read_text_file(tree: Mount, path: Path) -> tuple[bytes, Mapping[str, bytes]]:
    """Return content and attributes of a text file. Raise EISDIR for a directory, EINVAL for other files."""
    entry = await tree.stat(path)
    if entry.is_dir:
        raise path_error(errno.EISDIR, path)
    if entry.kind != "file" or (entry.size or 0) > _MAX_BYTES:
        raise invalid(path, f"a text file of at most {_MAX_BYTES} bytes is needed")
    data = await tree.read(path)
    if b"\0" in data:
        raise invalid(path, "it is binary: a text is needed")
    return data, await tree.metadata(path)


async def _promotion_target(tree: Mount, path: Path, to: Path) -> Path:
    """Return the new path: `to`, or the name of the file in the folder `to`. Raise EEXIST if it exists."""
    if path.parts[:1] not in (("pad",), ("memory",)):
        raise invalid(path, "only files of pad/ and memory/ are promoted")
    is_folder = len(to.parts) <= 3 or "." not in to.name
    target = to / path.name if is_folder else to
    if len(target.parts) < 4 or target.parts[0] != "memory":
        raise invalid(to, "the target is a folder such as memory/alice/fact")
    try:
        await tree.stat(target)
    except FileNotFoundError:
        return target
    raise path_error(errno.EEXIST, target)


def _kept_attributes(attributes: Mapping[str, bytes], principal: Principal, kind: str) -> dict[str, bytes]:
    """Return the attributes that a file keeps at its new path: those that the caller may set, and distrust.

    `kind` is that of its new folder, which replaces its own; empty for none.
    """
    kept = {
        name: value
        for name, value in attributes.items()
        if name.startswith("user.")
        and name.removeprefix(PREFIX) not in COMPUTED
        and (not name.startswith(PREFIX) or name.removeprefix(PREFIX) in SETTABLE)
        and name not in (*STATE_ATTRIBUTES, _QUARANTINED)
    }
    if _TRUST in kept and kept[_TRUST] != b"untrusted" and not principal.is_person:
        del kept[_TRUST]  # agents do not raise trust
    if kind:
        kept[KIND_ATTRIBUTE] = kind.encode()
    return kept


def _require_thawed(path: Path, attributes: Mapping[str, bytes]) -> None:
    if is_frozen(attributes):
        raise not_permitted(path, "it is frozen")


async def _make_parents(tree: Mount, path: Path) -> None:
    for length in range(2, len(path.parts)):
        with contextlib.suppress(FileExistsError):
            await tree.apply(MakeDir(Path(path.parts[:length])))


async def _remove_unchanged(tree: Mount, path: Path, target: Path, data: bytes) -> None:
    """Remove a file that has been promoted. If it has changed or cannot be removed, remove the new one instead, and raise."""
    try:
        if await tree.read(path) != data:
            raise path_error(errno.ESTALE, path, "it has changed meanwhile; nothing was promoted")
        await tree.apply(Remove(path))
    except OSError:
        with contextlib.suppress(OSError):
            await tree.apply(Remove(target))
        raise


async def _exists(tree: Mount, path: Path) -> bool:
    try:
        await tree.stat(path)
    except OSError:
        return False
    return True


async def _may_supersede(tree: Mount, path: Path, attributes: Mapping[str, bytes]) -> bool:
    """Return True if the caller may write a file. Raise ESTALE if it is corrected already."""
    successor = attributes.get(_CORRECTED_BY, b"").decode("utf-8", "surrogateescape")
    if successor and await _exists(tree, Path.parse(successor)):
        raise path_error(errno.ESTALE, path, f"it is corrected already: correct '{one_line(successor)}'")
    return bool((await tree.stat(path)).mode & 0o200)


def _find_line(path: Path, text: str, line: int, was: str) -> int:
    """Return the number of the line to correct. Raise EINVAL or ESTALE."""
    from ctxfs.context.grounding.statement_split import split_statements

    lines = text.split("\n")
    expected = _bare(was)
    if expected:
        numbers = [number for number, content in enumerate(lines, 1) if _bare(content) == expected]
        if line in numbers:
            return line
        if len(numbers) == 1:
            return numbers[0]
        raise path_error(errno.ESTALE, path, "the line has changed since it was read: read the file again")
    if line:
        count = len(lines) - (lines[-1] == "")
        if line > count or not lines[line - 1].strip():
            reason = f"the file has {count} lines" if line > count else f"line {line} is empty"
            raise invalid(path, f"{reason}: there is nothing to correct")
        return line
    statements = list(split_statements(str(path), text))
    if len(statements) != 1:
        numbers_text = ", ".join(str(statement.line) for statement in statements[:20])
        raise invalid(path, f"it has {len(statements)} statements: name the line ({numbers_text})")
    return statements[0].line


def _bare(line: str) -> str:
    """Return a line without list marks and repeated spaces, for comparison."""
    return re.sub(r"^(?:[-*+]|\d{1,3}[.)]|#{1,6})\s+", "", " ".join(line.split()))


def _provenance(principal: Principal, path: Path, number: int, old: str, because: str) -> str:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return (
        f"Corrected: {now} by {one_line(str(principal))}\n"
        f"Corrects: {one_line(str(path))}:{number} {one_line(old)}\n"
        f"Because: {one_line(because)}\n"
    )
