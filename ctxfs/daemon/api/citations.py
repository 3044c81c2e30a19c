"""RPC methods on citations: cite lines of sources, and check files against them. Plain values in, plain values out."""

from dataclasses import dataclass, field
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.memory.citations import parse_citations
from ctxfs.model.change import SetMeta
from ctxfs.model.errors import invalid
from ctxfs.model.path import ROOT, Path
from ctxfs.services.citations import CITES, add_citations
from ctxfs.vfs.session import Session

_MAX_SOURCES = 100


@dataclass(frozen=True, slots=True)
class CiteParams:
    """A file, and sources as `path:12-14` or URLs. With `replace` they replace the citations that the file has."""

    path: Path
    sources: tuple[str, ...]
    replace: bool = False


@dataclass(frozen=True, slots=True)
class CiteSourceParams:
    """A value of `user.ctx.source`."""

    source: str


@dataclass(frozen=True, slots=True)
class CheckParams:
    """A file or a directory; the root for the whole tree."""

    path: Path = field(default=ROOT)


@method(
    "cite",
    CiteParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("meta", "path"),
    effects=Effect.CHANGES_FILES,
)
async def _cite(app: App, caller: Session, params: CiteParams) -> Any:
    """Add citations of the present text of these lines to a file; return the lines of all of its citations."""
    if len(params.sources) > _MAX_SOURCES:
        raise invalid("sources", f"{_MAX_SOURCES} at most")
    value = (await caller.tree.metadata(params.path)).get(CITES, b"")
    value = add_citations(b"" if params.replace else value, await app.memory.citations.cite(params.sources))
    await caller.tree.apply(SetMeta(params.path, CITES, value or None))
    return {"citations": [str(citation.span) for citation in parse_citations(value)]}


@method("cite_source", CiteSourceParams, needs=Check.BY_METHOD)
async def _cite_source(app: App, caller: Session, params: CiteSourceParams) -> Any:
    """Return the value of `cites` for a source, None unless it names lines of the tree that the caller may read."""
    return await app.memory.citations.cite_source(params.source)


@method("check", CheckParams, needs=Check.BY_METHOD, effects=Effect.READS_INDEX | Effect.CANCELLABLE)
async def _check(app: App, caller: Session, params: CheckParams) -> Any:
    """Return the files at and below a path that have citations, with the states of these, as the caller sees them."""
    await caller.tree.stat(params.path)
    return [file.as_record() for file in await app.memory.citations.check(params.path)]
