"""RPC methods on memories: their table, promotion and correction. Plain values in, plain values out."""

from dataclasses import asdict, dataclass
from typing import Any

from ctxfs.app import App
from ctxfs.daemon.api.params import NoParams
from ctxfs.daemon.api.reasons import with_reason
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.memory.citations import HOLDS
from ctxfs.memory.table import TRUST_LEVELS, MemoryFilter
from ctxfs.model.errors import invalid
from ctxfs.model.metadata import STATES
from ctxfs.model.path import Path
from ctxfs.services.memory_table import MAX_ROWS
from ctxfs.threads import blocking
from ctxfs.vfs.session import Session

_AREA = Path(("memory",))
_MAX_WORDS = 20


@dataclass(frozen=True, slots=True)
class MemoriesParams:
    """Filters of the table of memories, each empty for any; `pattern` are words that must all occur.

    `holds` is a state of citations, `broken` for changed or gone, or `none` for a file without citations.
    """

    path: Path = _AREA
    agent: str = ""
    kind: str = ""
    state: str = ""
    trust: str = ""
    holds: str = ""
    pattern: str = ""
    offset: int = 0
    limit: int = MAX_ROWS


@dataclass(frozen=True, slots=True)
class PromoteParams:
    """A file, and the folder of memory that it is moved to. `reason` replaces that of the session."""

    path: Path
    to: Path
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CorrectParams:
    """A line of a file as it should read, and the reason; `was` is the line as the caller has read it.

    `line` 0 stands for the only statement of the file.
    """

    path: Path
    text: str
    because: str
    line: int = 0
    was: str = ""


@method(
    "memories",
    MemoriesParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("search", "pattern", is_query=True),
    effects=Effect.CANCELLABLE,
)
async def _memories(app: App, caller: Session, params: MemoriesParams) -> Any:
    """Return {rows, total, counts, complete}: memories that the caller may read, by agent and kind, at most 200 rows."""
    wanted = await _parse_filter(caller, params)
    page = await app.derived_memory.table.rows(
        params.path, wanted, params.holds, max(0, params.offset), max(1, min(params.limit, MAX_ROWS))
    )
    return {"rows": list(page.rows), "total": page.total, "counts": page.counts, "complete": page.is_complete}


@method(
    "memory_sizes",
    MemoriesParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("search", "pattern", is_query=True),
    effects=Effect.CANCELLABLE,
)
async def _memory_sizes(app: App, caller: Session, params: MemoriesParams) -> Any:
    """Return the number, the tokens and the newest change of memories by agent, kind and folder, the largest first."""
    if params.holds:
        raise invalid("holds", "sizes have no such filter")
    wanted = await _parse_filter(caller, params)
    return [asdict(part) for part in await app.derived_memory.table.sums(params.path, wanted)]


@method("prepare_tables", NoParams, needs=Check.BY_METHOD, effects=Effect.CANCELLABLE)
async def _prepare(app: App, caller: Session, params: NoParams) -> Any:
    """Read all memories and reviews, so that the first screen of them does not wait for that. Return nothing of them."""
    await blocking(app.derived_memory.table.prepare)
    await app.memory.curator.reviews()


async def _parse_filter(caller: Session, params: MemoriesParams) -> MemoryFilter:
    if params.path.parts[:1] != _AREA.parts:
        raise invalid(params.path, "name a path in memory")
    await caller.tree.stat(params.path)
    for name, value, known in (
        ("state", params.state, STATES),
        ("trust", params.trust, TRUST_LEVELS),
        ("holds", params.holds, HOLDS),
    ):
        if value and value not in known:
            raise invalid(name, f"one of {', '.join(known)} is needed")
    words = tuple(params.pattern.casefold().split()[:_MAX_WORDS])
    return MemoryFilter(params.agent, params.kind, params.state, params.trust, words)


@method("promote", PromoteParams, needs=Check.BY_METHOD, audit=AuditEvent("move", "path"), effects=Effect.CHANGES_FILES)
async def _promote(app: App, caller: Session, params: PromoteParams) -> Any:
    """Move a file to memory; with reasons against it, open a review instead and return its id with the reasons."""
    async with with_reason(app, caller, params.reason) as session:
        result = await app.memory.changes.promote(session, params.path, params.to)
    return {"path": result.path, "review": result.review, "reasons": list(result.reasons)}


@method(
    "correct", CorrectParams, needs=Check.BY_METHOD, audit=AuditEvent("write", "path"), effects=Effect.CHANGES_FILES
)
async def _correct(app: App, caller: Session, params: CorrectParams) -> Any:
    """Write the corrected version of a line; return its path, the corrected line, its old text, and remarks."""
    result = await app.memory.changes.correct(
        caller, params.path, params.line, params.text, params.because, was=params.was
    )
    return {"path": result.path, "corrects": result.corrects, "was": result.was, "remarks": list(result.remarks)}
