"""RPC methods of bundles: the files of an export, and a staged import. Plain values in, plain values out.

An import is `bundle_begin`, `bundle_add` as often as needed, and `bundle_commit`, or `bundle_drop`.
"""

from dataclasses import dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.bundles.header import BundleEntry, parse_header
from ctxfs.daemon.api.params import NameParams, PathParams
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.daemon.api.results import ChangedPath, ImportedBundle, Version
from ctxfs.daemon.api.versions import actor_for
from ctxfs.model.errors import invalid
from ctxfs.model.path import ROOT, Path
from ctxfs.threads import blocking
from ctxfs.versions.objects.name_encoding import path_text
from ctxfs.vfs.session import Session


@dataclass(frozen=True, slots=True)
class BeginParams:
    """The bytes of a header, its signature (empty without one), and the target (the root: that of the header)."""

    header: bytes
    signature: bytes = b""
    to: Path = ROOT


@dataclass(frozen=True, slots=True)
class AddParams:
    """The id of an import, and parts of contents: lists of the number of a file in the header, and bytes."""

    name: str
    parts: list[Any]


@method("bundle_files", PathParams, needs=Check.BY_METHOD, audit=AuditEvent("export", "path"))
async def _files(app: App, caller: Session, params: PathParams) -> Any:
    """Return `files` and `directories` below a path as [path, mode, attributes], and the number of others, `left_out`."""
    export = await app.bundles.list_files(caller.tree, params.path)
    return {
        "files": [_row(entry) for entry in export.files],
        "directories": [_row(entry) for entry in export.directories],
        "left_out": export.left_out,
    }


def _row(entry: BundleEntry) -> list[Any]:
    return [str(entry.path), entry.mode, dict(entry.attributes)]


@method("bundle_begin", BeginParams, needs=Check.BY_METHOD)
async def _begin(app: App, caller: Session, params: BeginParams) -> Any:
    header = await blocking(parse_header, params.header)
    return {"name": await app.bundles.begin(caller.principal, params.header, header, params.signature, params.to)}


@method("bundle_add", AddParams, needs=Check.BY_METHOD)
async def _add(app: App, caller: Session, params: AddParams) -> None:
    parts: list[tuple[int, bytes]] = []
    for part in params.parts:
        match part:
            case [int(number), bytes(data)]:
                parts.append((number, data))
            case _:
                raise invalid("parts", "lists of a number and bytes are needed")
    await app.bundles.add(caller.principal, params.name, parts)


@method("bundle_drop", NameParams, needs=Check.BY_METHOD)
async def _drop(app: App, caller: Session, params: NameParams) -> None:
    await app.bundles.drop(caller.principal, params.name)


@method(
    "bundle_commit",
    NameParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("import", "name"),
    effects=Effect.COMMITS_FIRST | Effect.CHANGES_WORK_TREE,
)
async def _commit(app: App, caller: Session, params: NameParams) -> ImportedBundle:
    staged, outcome = await app.bundles.commit(caller.principal, params.name, actor_for(caller, ""))
    return ImportedBundle(
        version=Version.of(outcome.commit) if outcome.commit else None,
        changes=[ChangedPath.of(change) for change in outcome.changes],
        kept=[path_text(path) for path in outcome.kept],
        to=str(staged.target),
        signer=staged.signer,
        tree=staged.header.tree_hash,
    )
