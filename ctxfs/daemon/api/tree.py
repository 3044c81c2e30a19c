"""RPC methods on files and directories: plain values in, plain values out."""

import errno
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ctxfs.app import App
from ctxfs.context.build.copied_text import CopiedText
from ctxfs.context.build.secrets import find_secrets
from ctxfs.daemon.api.labels import label_of
from ctxfs.daemon.api.params import PathParams
from ctxfs.daemon.api.reasons import with_reason
from ctxfs.daemon.api.registry import AuditEvent, ChangeEvent, Check, Effect, method
from ctxfs.eventlog.record_marks import label_of_text
from ctxfs.index.extract.extractor import pack_chunks
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.extract.text_formats import is_text_itself
from ctxfs.memory.states import STATE_ATTRIBUTES
from ctxfs.model.change import Append, Change, Put, SetMeta
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.path import Path
from ctxfs.policy.evaluate import tree_path_of
from ctxfs.policy.rules import Verb
from ctxfs.rpc.wire import change_from_wire, entry_to_wire
from ctxfs.services.citations import CITES, SOURCE
from ctxfs.services.memory_remarks import MAX_COMPARED_BYTES, MEMORY
from ctxfs.threads import blocking, in_turn
from ctxfs.versions.objects.fingerprint import blob_id
from ctxfs.versions.objects.name_encoding import path_bytes
from ctxfs.vfs.access_control import WITHHELD
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class ContentParams:
    """A path, and the first digits of the sha256 of a content."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class ApplyParams:
    """A change, see `rpc.wire.change_to_wire`. `reason` replaces that of the session."""

    change: list[Any]
    reason: str = ""


@method("stat", PathParams, needs=Check.BY_METHOD)
async def _stat(app: App, caller: Session, params: PathParams) -> Any:
    return entry_to_wire(await caller.tree.stat(params.path))


@method("list", PathParams, needs=Check.BY_METHOD)
async def _list(app: App, caller: Session, params: PathParams) -> Any:
    return [entry_to_wire(entry) for entry in await caller.tree.list(params.path)]


@method("read", PathParams, needs=Check.BY_METHOD, audit=AuditEvent("read", "path"))
async def _read(app: App, caller: Session, params: PathParams) -> Any:
    return await caller.tree.read(params.path)


@method("read_labelled", PathParams, needs=Check.BY_METHOD, audit=AuditEvent("read", "path"))
async def _read_labelled(app: App, caller: Session, params: PathParams) -> Any:
    """Read a file; `label` is the warning to show beside its text, see `distrust_label`."""
    data = await caller.tree.read(params.path)
    label = await label_of(app, params.path) or label_of_text(str(params.path), data)
    return {"data": data, "label": label}


@method("read_extracted", PathParams, needs=Check.BY_METHOD, audit=AuditEvent("read", "path"))
async def _read_extracted(app: App, caller: Session, params: PathParams) -> Any:
    """Read the text of a PDF, office file, book, mail or notebook; `format` is empty for a file that is text itself.

    `passages` are rows of `index.extract.extractor.pack_chunks`. `data` is the content of a file that is read as it is,
    because a second read of a file such as a stream would return other content.
    """
    data = await caller.tree.read(params.path)
    extracted = await app.extraction.extract(params.path, data)
    is_source = not extracted.file_format or (extracted.reason and is_text_itself(extracted.file_format))
    return {
        "format": extracted.file_format,
        "unit": extracted.unit,
        "passages": pack_chunks(extracted.passages),
        "note": extracted.note,
        "reason": extracted.reason,
        "data": data if is_source else b"",
        "label": await label_of(app, params.path) or label_of_text(str(params.path), data),
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@method("metadata", PathParams, needs=Check.BY_METHOD)
async def _metadata(app: App, caller: Session, params: PathParams) -> Any:
    return {**await app.metadata.read(params.path), **await app.derived_memory.use.attributes(params.path)}


@method("content_of", ContentParams, needs=Check.BY_METHOD)
async def _content_of(app: App, caller: Session, params: ContentParams) -> Any:
    """Return the current or former content of a file whose sha256 begins with these digits.

    `data` is None if no version has it.
    """
    digits, path = params.sha256, params.path
    if len(digits) < 8:
        raise invalid(digits, "give at least 8 digits of the sha256")
    data = await app.resolver.fetch(str(path), digits, "")
    if data is not None and await blocking(lambda: app.scope.is_withheld(path, data)):
        raise path_error(errno.EACCES, path, WITHHELD)
    return {"data": data}


@method("apply", ApplyParams, needs=Check.BY_METHOD, audit=ChangeEvent(), effects=Effect.CHANGES_FILES)
async def _apply(app: App, caller: Session, params: ApplyParams) -> Any:
    """Apply a change.

    `warnings` lists likely secrets, text that is copied from the tree, and contradictions or repetitions among memories;
    none of them prevents the write.
    """
    async with with_reason(app, caller, params.reason) as session:
        return await _apply_change(app, session, change_from_wire(params.change))


async def _apply_change(app: App, caller: Session, change: Change) -> Mapping[str, Any]:
    before = await _read_memory(caller, change.path) if isinstance(change, Put) else b""
    recalled: Sequence[CopiedText] = ()
    marks: Mapping[str, bytes] = {}
    if isinstance(change, Put):
        recalled, marks = await app.contexts.builder.copied(change)
        if app.policy.is_allowed(caller.principal, Verb.META, change.path):
            change = replace(change, attributes={**marks, **change.attributes})
            marks = {}
        existing = await blocking(_existing_marks, app, change)
        marks = {**marks, **{name: value for name, value in existing.items() if change.attributes.get(name) != value}}
    if isinstance(change, SetMeta) and change.name in STATE_ATTRIBUTES:
        await _change_state(app, caller, change)
    else:
        await caller.tree.apply(await _with_citations(app, change))
    for name, value in marks.items():  # a caller with permission to write, but not `meta`, cannot remove a mark
        await app.namespace.apply(SetMeta(change.path, name, value))
    if isinstance(change, SetMeta) and change.name == SOURCE and change.value:
        await _cite_source(app, caller, change)
    data = change.data if isinstance(change, Put | Append) else b""
    secrets = await blocking(lambda: find_secrets(read_text(data) or "")) if data else []
    warnings = [f"line {secret.line} looks like a secret ({secret.kind})" for secret in secrets]
    remarks = await app.memory.remarks.compare(change.path, data, before)
    copied = {original.path for original in recalled}
    warnings += [str(remark) for remark in remarks if remark.position.rpartition(":")[0] not in copied]
    return {"warnings": [*warnings, *map(str, recalled)]}


async def _change_state(app: App, caller: Session, change: SetMeta) -> None:
    """Change a state in a version of its own, so that earlier and later writers are not named for the transition."""
    await in_turn(app.archive.commit_nowait)
    await caller.tree.apply(change)
    await in_turn(app.archive.commit_nowait)


async def _read_memory(caller: Session, path: Path) -> bytes:
    """Return the present content of a memory, empty if the caller may not read it: only new lines are compared."""
    if path.parts[:1] != MEMORY.parts:
        return b""
    with suppress(OSError):
        if ((await caller.tree.stat(path)).size or 0) <= MAX_COMPARED_BYTES:
            return await caller.tree.read(path)
    return b""


async def _with_citations(app: App, change: Change) -> Change:
    """Return a Put that sets `source` to lines of the tree with the citations of these, unless it has its own."""
    if not isinstance(change, Put) or CITES in change.attributes or SOURCE not in change.attributes:
        return change
    cites = await app.memory.citations.cite_source(change.attributes[SOURCE].decode("utf-8", "replace"))
    return change if cites is None else replace(change, attributes={**change.attributes, CITES: cites})


async def _cite_source(app: App, caller: Session, change: SetMeta) -> None:
    """Set the citations of a file whose `source` has been set to lines of the tree."""
    assert change.value is not None
    cites = await app.memory.citations.cite_source(change.value.decode("utf-8", "replace"))
    if cites is not None:
        await caller.tree.apply(SetMeta(change.path, CITES, cites))


def _existing_marks(app: App, change: Put) -> Mapping[str, bytes]:
    """Return the marks that the path of a change, or its content, has already. Blocks."""
    path = path_bytes(str(tree_path_of(change.path)))
    return app.archive.marks.required_marks(path, blob_id(change.data), change.data)
