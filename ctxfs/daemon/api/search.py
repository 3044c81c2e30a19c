"""RPC methods on searches: by words and meaning, by attributes, by pattern, by name. Plain values in, plain values out."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from ctxfs.app import App
from ctxfs.context.retrieval_metrics import add_gold, parse_gold, parse_line_range
from ctxfs.daemon.api.labels import labels_of
from ctxfs.daemon.api.registry import AuditEvent, Check, Effect, method
from ctxfs.daemon.api.results import GlobPaths, GrepLines, SearchResult
from ctxfs.index.search.grep import Matcher
from ctxfs.index.search.snippets import question_words
from ctxfs.model.change import ABSENT, Put
from ctxfs.model.errors import invalid
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.mounts.search import hit_record
from ctxfs.vfs.session import Session

GOLD = Path(("human", "gold.jsonl"))
_MAX_FOUND_PATHS = 100_000
_MAX_LINES = 1_000_000
_MAX_GLOB_PATHS = 1_000_000
_INDEXED = Effect.READS_INDEX | Effect.CANCELLABLE


@dataclass(frozen=True, slots=True)
class SearchParams:
    """A question. `limit` None is that of the settings; with `labels` the labels of the files are returned."""

    question: str
    below: Path = ROOT
    limit: int | None = None
    labels: bool = False


@dataclass(frozen=True, slots=True)
class GoldParams:
    """A question, and the passages that answer it: `path`, `path:12` or `path:3-9`."""

    question: str
    relevant: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FindParams:
    """Filters by attributes, such as `tag:deploy since:2026-01-01`."""

    filters: str
    below: Path = ROOT
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class GrepParams:
    """A regular expression, or with `fixed` a text. `hidden` includes hidden files."""

    pattern: str
    below: Path = ROOT
    limit: int = 10_000
    fixed: bool = False
    word: bool = False
    ignore_case: bool = False
    hidden: bool = False
    only: Literal["lines", "first", "count"] = "lines"
    labels: bool = False


@dataclass(frozen=True, slots=True)
class GlobParams:
    """A pattern for paths."""

    pattern: str
    below: Path = ROOT
    limit: int = 1000


@method(
    "search",
    SearchParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("search", "question", is_query=True),
    effects=_INDEXED,
)
async def _search(app: App, caller: Session, params: SearchParams) -> SearchResult:
    limit = app.settings.search.results if params.limit is None else params.limit
    # A directory that is missing, or hidden from the caller, is an error: "nothing found" would be untrue.
    await caller.tree.stat(params.below)
    answer = await app.search.ask(params.question, params.below)
    if answer.query.is_empty:
        raise invalid(params.question[:80], "the question has no words to look for")
    hits = answer.hits[:limit]
    labels = await labels_of(app, (hit.chunk.path for hit in hits)) if params.labels else {}
    terms = question_words(answer.query)
    return SearchResult(
        notes=list(answer.notes),
        remarks=list(answer.remarks),
        complete=answer.is_complete,
        answer=answer.answer.as_record(),
        hits=[{**hit_record(hit, terms), "text": printable(hit.chunk.text)} for hit in hits],
        labels={printable(path): label for path, label in labels.items()},
        terms=terms,
    )


@method("add_gold", GoldParams, needs=Check.BY_METHOD, effects=Effect.CHANGES_FILES)
async def _add_gold(app: App, caller: Session, params: GoldParams) -> object:
    """Record passages that answer a question, for ctxfs eval; return the number of questions of the file.

    The file belongs to people: the tree decides on the rights. ESTALE if another writer was faster.
    """
    question = " ".join(params.question.split())
    for text in params.relevant:
        await caller.tree.stat(Path.parse(parse_line_range(text).path))
    try:
        before = await caller.tree.read(GOLD)
    except FileNotFoundError:
        before = None
    after = add_gold((before or b"").decode("utf-8", "replace"), question, params.relevant)
    expects = ABSENT if before is None else hashlib.sha256(before).hexdigest()
    await caller.tree.apply(Put(GOLD, after.encode("utf-8", "replace"), expects=expects))
    return {"path": str(GOLD), "questions": len(parse_gold(after))}


@method(
    "find",
    FindParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("search", "filters", is_query=True),
    effects=Effect.CANCELLABLE,
)
async def _find(app: App, caller: Session, params: FindParams) -> object:
    await caller.tree.stat(params.below)
    return await app.search.find(params.filters, params.below, max(1, min(params.limit, _MAX_FOUND_PATHS)))


@method(
    "grep",
    GrepParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("search", "pattern", is_query=True),
    effects=_INDEXED,
)
async def _grep(app: App, caller: Session, params: GrepParams) -> GrepLines:
    matcher = Matcher(params.pattern, fixed=params.fixed, word=params.word, ignore_case=params.ignore_case)
    limit = max(1, min(params.limit, _MAX_LINES))
    await caller.tree.stat(params.below)
    result = await app.search.grep(matcher, params.below, limit, params.only, hidden=params.hidden)
    labels = await labels_of(app, (path for path, *_ in result.lines)) if params.labels else {}
    return GrepLines([list(line) for line in result.lines], result.faults, result.more, labels)


@method(
    "glob",
    GlobParams,
    needs=Check.BY_METHOD,
    audit=AuditEvent("search", "pattern", is_query=True),
    effects=_INDEXED,
)
async def _glob(app: App, caller: Session, params: GlobParams) -> GlobPaths:
    await caller.tree.stat(params.below)
    paths = await app.search.glob(params.pattern, params.below, max(1, min(params.limit, _MAX_GLOB_PATHS)))
    fault = app.searcher.coverage_note()
    return GlobPaths(paths, [fault] if fault else [])
