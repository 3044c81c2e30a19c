"""Context construction: candidates from search, pins and recency, filtered, packed to the budget and rendered."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from ctxfs.context.build.candidate_filter import FilterCriteria, filter_candidates, mark_piece
from ctxfs.context.build.compress import compress
from ctxfs.context.build.conflicts import MemoryConflict, pack_with_conflicts
from ctxfs.context.build.limits import describe_limited_origins, limits_of
from ctxfs.context.build.manifest import Provenance, render_manifest, text_sha256
from ctxfs.context.build.pack import Plan, largest_fitting, pack
from ctxfs.context.build.piece import Exclusion, Piece, Why, without_secrets
from ctxfs.context.build.pins import read_pin, read_pinned, restrict
from ctxfs.context.build.render import render
from ctxfs.context.build.request import Request
from ctxfs.context.build.small_budget import describe_small_budget, truncate_heading
from ctxfs.context.build.tokens import Tokenizer, open_tokenizer
from ctxfs.index.query import Query, parse_query, parse_time
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import NOT_JUDGED, Answer, Hit, SearchResults, Verdict
from ctxfs.model.errors import invalid
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.threads import blocking

MAX_CANDIDATES = 400
# A context is empty below this probability of an answer. Above it, an unknown answer costs a context only its note.
_EMPTY_BELOW = 0.1
_SUMMARY_SHARE = 0.15  # share of the budget reserved for the summary


class TreeView(Protocol):
    """The tree that a context is built from, at present or as of a version."""

    revision: str

    async def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best `limit` chunks below a directory."""
        ...

    async def require(self, path: Path) -> None:
        """Return if the path exists; raise OSError ENOENT otherwise."""
        ...

    async def read(self, path: Path) -> bytes:
        """Return the content of a file; raise OSError."""
        ...

    async def statuses(self, paths: Collection[str]) -> Mapping[str, FileStatus]:
        """Return the search-relevant status of those of these files that have one."""
        ...

    async def broken(self, cites: Mapping[str, str]) -> Mapping[str, str]:
        """Return `changed` or `gone` for files whose cited lines no longer hold; `cites` are their attributes."""
        ...

    async def revisions(self, paths: Collection[str]) -> Mapping[str, str]:
        """Return the version of each versioned file."""
        ...

    def analyse(self, text: str) -> Sequence[str]:
        """Return the terms of a text as search indexes them."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Return notes on omitted parts of the tree, with the reasons."""
        ...

    @property
    def index(self) -> Mapping[str, object]:
        """Return the index parameters for the manifest."""
        ...


class Summarise(Protocol):
    """A summariser of pieces within a token limit. Users configure it, and a model may implement it."""

    async def __call__(self, query: str, pieces: Sequence[Piece], tokens: int) -> str:
        """Return the summary; raise OSError or CommandError if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """A context with the data of its manifest; `tokens` counts the whole of `text` and never exceeds the budget."""

    request: Request
    text: str
    plan: Plan
    notes: tuple[str, ...]
    candidate_count: int
    provenance: Provenance = field(default_factory=Provenance)
    answer: Answer = NOT_JUDGED
    conflicts: tuple[MemoryConflict, ...] = ()

    @property
    def tokens(self) -> int:
        """Return the tokens of the whole text by the request's tokenizer."""
        return self.plan.tokens

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the text as UTF-8, in hexadecimal."""
        return text_sha256(self.text)

    @property
    def manifest(self) -> bytes:
        """Return the content of manifest.json."""
        data = self.request, self.plan, self.notes, self.sha256, self.provenance, self.answer
        return render_manifest(*data, self.conflicts)


@dataclass(frozen=True, slots=True)
class Candidates:
    """All candidates of a context; `cited` are the paths of those files that name their source."""

    pins: Sequence[Piece]
    pieces: Sequence[Piece]
    excluded: Sequence[Exclusion] = ()
    notes: tuple[str, ...] = ()
    candidate_count: int = 0
    answer: Answer = NOT_JUDGED
    origin_share: float = 1.0  # of the budget, for the pieces of one origin
    cited: Collection[str] = ()


class Constructor:
    """A builder of contexts. Deterministic: equal requests over an equal tree give equal bytes."""

    def __init__(
        self,
        view_at: Callable[[str], TreeView],
        summarise: Summarise | None = None,
        origin_share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Use `view_at`: it returns the current tree for an empty text, else the tree as of a version or time.

        `origin_share` returns the share of a budget that the pieces of one origin may use.
        """
        self._view_at = view_at
        self._summarise = summarise
        self._origin_share = origin_share

    async def build(self, request: Request, principal: str = "") -> Context:
        """Build a context.

        Raise OSError: EINVAL for an unknown tokenizer or pins over the budget, ENOENT for a missing pin or version.
        """
        tokenizer = await blocking(open_tokenizer, request.tokenizer)
        view = await blocking(self._view_at, request.as_of)
        candidates = await self._gather_candidates(request, view, principal)
        if request.compress:
            # Withhold secrets before pieces are shortened, because half a key no longer matches a key's pattern.
            pinned = [piece for piece in candidates.pieces if piece.is_whole]
            cuttable = [piece for piece in candidates.pieces if not piece.is_whole]
            uncut = cuttable if request.secrets else list(map(without_secrets, cuttable))
            pieces = await blocking(compress, uncut, request.queries, view.analyse)
            candidates = replace(candidates, pieces=[*pinned, *pieces])
        if request.summarise:
            built = await self._assemble_with_summary(request, candidates, tokenizer)
        else:
            built = await blocking(assemble, request, candidates, tokenizer)
        paths = {piece.path for piece in built.plan.chosen if piece.path}
        revisions = await view.revisions(paths)
        tokens = await blocking(_count_pieces, built.plan.chosen, tokenizer)
        provenance = Provenance(principal, view.revision, view.index, revisions, tokens)
        return replace(built, provenance=provenance)

    async def _gather_candidates(self, request: Request, view: TreeView, principal: str) -> Candidates:
        for path in request.paths:
            await view.require(path)
        pins = [await read_pin(view, pin) for pin in request.pins]
        pinned = await read_pinned(view, request, principal)
        results = [await view.search(query, below, MAX_CANDIDATES) for query, below in _queries_of(request)]
        notes = tuple(dict.fromkeys((*view.notes, *(n for item in results for n in (*item.notes, *item.remarks)))))
        best: dict[tuple[str, int, int, str], Piece] = {}
        for piece in (piece for result in results for piece in _judged_pieces(result)):
            key = (piece.path, piece.first, piece.last, piece.text)
            if key not in best or _merit(best[key]) < _merit(piece):
                best[key] = piece
        for piece in await self._newest_pieces(request, view):
            key = (piece.path, piece.first, piece.last, piece.text)
            if key not in best or not best[key].is_relevant:
                best[key] = piece
        ordered = sorted(best.values(), key=lambda piece: (-round(piece.score, 6), piece.path, piece.first, piece.last))
        ordered = [*pinned, *ordered]
        statuses = await view.statuses({piece.path for piece in (*pins, *ordered)})
        cites = {path: status.cites for path, status in statuses.items() if status.cites and request.stale != "keep"}
        now = time.time_ns()
        rules = FilterCriteria(
            now,
            _parse_fresh(request.fresh, now),
            request.min_score,
            statuses,
            request.untrusted == "drop",
            request.fill,
            await view.broken(cites) if cites else {},
            request.stale == "drop",
        )
        pins = [mark_piece(pin, rules) for pin in pins]
        accepted, excluded = filter_candidates(pins, ordered, rules)
        if request.untrusted == "keep":
            pins, accepted = ([replace(piece, untrusted=False) for piece in item] for item in (pins, accepted))
        answer = _best_answer(results)
        notes = (*notes, *_unknown_notes(answer, can_fill=not accepted), *_supersession_notes(accepted, statuses))
        count, share, cited = len(accepted), self._origin_share(), _cited_paths(statuses)
        return Candidates(pins, accepted, excluded, notes, count, answer, share, cited)

    async def _newest_pieces(self, request: Request, view: TreeView) -> list[Piece]:
        """Return chunks of the newest files, with score 0, the mean of the search scores."""
        if not request.recent:
            return []
        pieces: list[Piece] = []
        for below in request.paths or (ROOT,):
            newest = await view.search(restrict(parse_query("since:1970-01-02"), request), below, request.recent)
            pieces += _pieces_of(newest.hits, "recent")
        pieces.sort(key=lambda piece: (-piece.mtime_ns, piece.path))
        return [replace(piece, score=0.0, signals={}, shares={}) for piece in pieces[: request.recent]]

    async def _assemble_with_summary(self, request: Request, candidates: Candidates, tokenizer: Tokenizer) -> Context:
        """Assemble a context, with a summary of the pieces that do not fit."""
        if self._summarise is None:
            raise invalid("summarise", "there is no summariser: set context.summariser in ctxfs.toml")
        summary_budget = int(request.budget * _SUMMARY_SHARE)
        smaller = replace(request, budget=max(1, request.budget - summary_budget))
        first = await blocking(assemble, smaller, candidates, tokenizer)
        remaining = [exclusion.piece for exclusion in first.plan.excluded if exclusion.reason in ("budget", "quota")]
        if not remaining:
            return await blocking(assemble, request, candidates, tokenizer)
        visible = remaining if request.secrets else list(map(without_secrets, remaining))
        summary = (await self._summarise(request.title, visible, summary_budget)).strip()
        origin = tuple(dict.fromkeys(piece.path for piece in remaining))
        derived = Piece("", 0, 0, summary, why="derived", origin=origin[:20])
        return await blocking(_append_derived, request, first, derived, tokenizer)


def assemble(request: Request, candidates: Candidates, tokenizer: Tokenizer) -> Context:
    """Pack and render the candidates. Pure except for the tokenizer; blocks for some milliseconds."""
    notes = candidates.notes

    def rendered(pieces: Sequence[Piece]) -> str:
        return render(request.title, notes, pieces, request.format, request.order)

    show = _unchanged if request.secrets else without_secrets
    pins = list(map(show, candidates.pins))
    if pins:
        needed = tokenizer.count(rendered(pins))
        if needed > request.budget:
            raise invalid(
                "pins", f"the pins alone need {needed} tokens, {needed - request.budget} more than the budget"
            )
    limits = limits_of(request, candidates.pieces, candidates.origin_share)

    def packed(lines: Sequence[str]) -> Plan:
        nonlocal notes
        notes = (*lines, *candidates.notes)
        return pack([*pins, *candidates.pieces], limits, rendered, tokenizer.count, show)

    plan, lines, conflicts = pack_with_conflicts(packed, candidates.cited, request.budget, tokenizer.count)
    notes = (*lines, *candidates.notes)
    plan.excluded[:0] = candidates.excluded
    if not plan.chosen and candidates.pieces:
        notes = (*notes, describe_small_budget(candidates.pieces, rendered, request, tokenizer))
    text = rendered(plan.chosen)
    plan.tokens = tokenizer.count(text)
    if not plan.chosen and plan.tokens > request.budget:
        text = truncate_heading(text, request, tokenizer)
        plan.tokens = tokenizer.count(text)
    count = candidates.candidate_count
    return Context(request, text, plan, notes, count, answer=candidates.answer, conflicts=conflicts)


def _unchanged(piece: Piece) -> Piece:
    return piece


def _append_derived(request: Request, built: Context, derived: Piece, tokenizer: Tokenizer) -> Context:
    """Append as many words of a derived piece to a context as the budget allows."""
    words = derived.text.split(" ")

    def build_with(count: int) -> tuple[list[Piece], str]:
        part = replace(derived, text=" ".join(words[:count]), cut=count < len(words))
        chosen = [*built.plan.chosen, part]
        return chosen, render(request.title, built.notes, chosen, request.format, request.order)

    length = largest_fitting(len(words), lambda count: tokenizer.count(build_with(count)[1]) <= request.budget)
    chosen, text = build_with(length) if length else (built.plan.chosen, built.text)
    plan = Plan(chosen, built.plan.excluded, tokenizer.count(text))
    return replace(built, request=request, text=text, plan=plan)


def _count_pieces(pieces: Sequence[Piece], tokenizer: Tokenizer) -> dict[int, int]:
    return {index: tokenizer.count(piece.text) for index, piece in enumerate(pieces)}


def _queries_of(request: Request) -> list[tuple[Query, Path]]:
    queries = [restrict(query, request) for query in map(parse_query, request.queries) if not query.is_empty]
    return [(query, below) for query in queries for below in request.paths or (ROOT,)]


def _supersession_notes(pieces: Sequence[Piece], statuses: Mapping[str, FileStatus]) -> list[str]:
    """Return notes on files that claim to supersede a file whose content their author may not change."""
    claims = {piece.path: statuses[piece.path].claims for piece in pieces if piece.path in statuses}
    return [f"'{new}' only claims to supersede '{old}'" for new, old in sorted(claims.items()) if old]


def _cited_paths(statuses: Mapping[str, FileStatus]) -> Collection[str]:
    return {path for path, status in statuses.items() if status.source}


def _parse_fresh(fresh: str, now_ns: int) -> int:
    if not fresh:
        return 0
    since = parse_time(fresh, datetime.fromtimestamp(now_ns / 1e9, UTC))
    if since is None:
        raise invalid("fresh", f"fresh = '{printable(fresh)}': an age such as 7d, or a date, is needed")
    return since


def _pieces_of(hits: Sequence[Hit], why: Why) -> list[Piece]:
    chunks = {hit.chunk.id: hit.chunk for hit in hits}
    pieces = []
    for hit in hits:
        number = hit.chunk.id
        above = chunks.get(number - 1 if number > 0 else number + 1)  # the overlay counts downwards
        is_adjacent = above is not None and above.path == hit.path and above.last < hit.chunk.first
        pieces.append(_piece_of(hit, why, above.last if above is not None and is_adjacent else 0))
    return pieces


def _piece_of(hit: Hit, why: Why, above: int) -> Piece:
    chunk = hit.chunk
    return Piece(
        chunk.path,
        chunk.first,
        chunk.last,
        chunk.text,
        heading=chunk.heading,
        score=hit.score,
        signals=hit.signals,
        shares=hit.shares,
        sha256=chunk.sha256,
        why=why,
        day=chunk.day,
        kind=chunk.kind,
        mtime_ns=chunk.mtime_ns,
        above=above,
        origin=(chunk.named_by,) if chunk.named_by else (),
        p=hit.p,
        is_relevant=hit.is_relevant,
    )


def _judged_pieces(results: SearchResults) -> list[Piece]:
    """Return the pieces of all hits. None is relevant if the searched files surely do not answer the question.

    A question about an author of statements in the files is never sure to be unanswered. "Would Ann be called religious?"
    shares no word with the statements of Ann that it follows from.
    """
    pieces = _pieces_of(results.hits, "search")
    names_author = results.answer.evidence is not None and results.answer.evidence.names_author
    is_empty = results.is_unknown and (results.answer.p or 0.0) < _EMPTY_BELOW and not names_author
    return [replace(piece, is_relevant=False) for piece in pieces] if is_empty else pieces


def _merit(piece: Piece) -> tuple[bool, float]:
    return piece.is_relevant, piece.score


def _best_answer(results: Sequence[SearchResults]) -> Answer:
    """Return the most probable of the answers to several questions."""
    answers = [result.answer for result in results]
    return max(answers, key=lambda answer: (answer.verdict is not Verdict.UNKNOWN, answer.p or 0.0), default=NOT_JUDGED)


def _unknown_notes(answer: Answer, *, can_fill: bool = False) -> list[str]:
    """Return a note if the files that were searched do not answer the request; `can_fill`: with the remedy."""
    if answer.verdict is not Verdict.UNKNOWN:
        return []
    reasons = "".join(f"; {reason}" for reason in answer.reasons[:1])
    remedy = " → fill = true takes the nearest passages" if can_fill else ""
    return [f"unknown: the searched files do not seem to answer this{reasons}{remedy}"]


def context_of_results(
    request: Request,
    answer: SearchResults,
    tokenizer: Tokenizer,
    statuses: Mapping[str, FileStatus],
    broken: Mapping[str, str],
    origin_share: float = 1.0,
) -> Context:
    """Build the context of existing search results, without another search.

    It has no manifest, so a note names the origins of which passages are left out because of their share.
    """
    hits = _judged_pieces(answer)
    accepted, excluded = filter_candidates((), hits, FilterCriteria(time.time_ns(), statuses=statuses, broken=broken))
    notes = (*answer.notes, *_unknown_notes(answer.answer), *_supersession_notes(accepted, statuses))
    cited = _cited_paths(statuses)
    candidates = Candidates((), accepted, excluded, notes, len(hits), answer.answer, origin_share, cited)
    context = assemble(request, candidates, tokenizer)
    if limited := describe_limited_origins(context.plan, origin_share):
        context = assemble(request, replace(candidates, notes=(*notes, limited)), tokenizer)
    return context
