"""Context construction: candidates from search, pins and recency, filtered, packed to the budget and rendered."""

import errno
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from ctxfs.context.build.candidate_filter import Rules, select
from ctxfs.context.build.compress import compress
from ctxfs.context.build.manifest import Account, render_manifest, text_sha256
from ctxfs.context.build.pack import Limits, Plan, most_that_fit, pack
from ctxfs.context.build.piece import Exclusion, Piece, Why, without_secrets
from ctxfs.context.build.render import render
from ctxfs.context.build.request import Pin, Request
from ctxfs.context.build.tokens import Tokenizer, open_tokenizer
from ctxfs.index.query import Query, parse_query, parse_time
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import Hit, SearchResults
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.threads import blocking

CANDIDATES = 400
_SUMMARY_SHARE = 0.15  # share of the budget reserved for the summary


class TreeView(Protocol):
    """The tree that a context is built from, at present or as of a version."""

    revision: str

    async def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best `limit` chunks below a directory."""
        ...

    async def read(self, path: Path) -> bytes:
        """Return the content of a file; raise OSError."""
        ...

    async def standing(self, paths: Collection[str]) -> Mapping[str, FileStatus]:
        """Return the search-relevant status of those of these files that have one."""
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
    """Summarise pieces within a token limit. Users configure it, and a model may implement it."""

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
    found: int
    account: Account = field(default_factory=Account)

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
        return render_manifest(self.request, self.plan, self.notes, self.sha256, self.account)


@dataclass(frozen=True, slots=True)
class Candidates:
    """All candidates of a context."""

    pins: Sequence[Piece]
    pieces: Sequence[Piece]
    excluded: Sequence[Exclusion] = ()
    notes: tuple[str, ...] = ()
    found: int = 0


class Constructor:
    """A builder of contexts. Deterministic: equal requests over an equal tree give equal bytes."""

    def __init__(self, world: Callable[[str], TreeView], summarise: Summarise | None = None) -> None:
        """Take `world`: it returns the current tree for an empty text, else the tree as of a version or time."""
        self._world = world
        self._summarise = summarise

    async def build(self, request: Request, principal: str = "") -> Context:
        """Build a context.

        Raise OSError: EINVAL for an unknown tokenizer or pins over the budget, ENOENT for a missing pin or version.
        """
        tokenizer = await blocking(open_tokenizer, request.tokenizer)
        world = await blocking(self._world, request.as_of)
        found = await self._gather(request, world)
        if request.compress:
            # Withhold secrets before pieces are shortened, because half a key no longer matches a key's pattern.
            whole = found.pieces if request.secrets else list(map(without_secrets, found.pieces))
            pieces = await blocking(compress, whole, request.queries, world.analyse)
            found = replace(found, pieces=pieces)
        if request.summarise:
            built = await self._with_summary(request, found, tokenizer)
        else:
            built = await blocking(assemble, request, found, tokenizer)
        paths = {piece.path for piece in built.plan.chosen if piece.path}
        revisions = await world.revisions(paths)
        tokens = await blocking(_counted, built.plan.chosen, tokenizer)
        account = Account(principal, world.revision, world.index, revisions, tokens)
        return replace(built, account=account)

    async def _gather(self, request: Request, world: TreeView) -> Candidates:
        pins = [await _read_pin(world, pin) for pin in request.pins]
        answers = [await world.search(query, below, CANDIDATES) for query, below in _questions(request)]
        notes = tuple(dict.fromkeys((*world.notes, *(n for each in answers for n in (*each.notes, *each.remarks)))))
        best: dict[tuple[str, int, int, str], Piece] = {}
        for piece in (_piece(hit, "search") for answer in answers for hit in answer.hits):
            place = (piece.path, piece.first, piece.last, piece.text)
            if place not in best or best[place].score < piece.score:
                best[place] = piece
        for piece in await self._newest(request, world):
            best.setdefault((piece.path, piece.first, piece.last, piece.text), piece)
        ordered = sorted(best.values(), key=lambda piece: (-round(piece.score, 6), piece.path, piece.first, piece.last))
        standing = await world.standing({piece.path for piece in (*pins, *ordered)})
        pins = [replace(pin, untrusted=_is_untrusted(standing, pin)) for pin in pins]
        now = time.time_ns()
        rules = Rules(now, _since(request.fresh, now), request.min_score, standing, request.untrusted == "drop")
        kept, excluded = select(pins, ordered, rules)
        if request.untrusted == "keep":
            pins, kept = ([replace(piece, untrusted=False) for piece in each] for each in (pins, kept))
        return Candidates(pins, kept, excluded, (*notes, *_claims(kept, standing)), len(best))

    async def _newest(self, request: Request, world: TreeView) -> list[Piece]:
        """Return chunks of the newest files, with score 0, the mean of the search scores."""
        if not request.recent:
            return []
        pieces: list[Piece] = []
        for below in request.paths or (ROOT,):
            newest = await world.search(
                _narrowed(parse_query("since:1970-01-02"), request.kinds), below, request.recent
            )
            pieces += [_piece(hit, "recent") for hit in newest.hits]
        pieces.sort(key=lambda piece: (-piece.mtime_ns, piece.path))
        return [replace(piece, score=0.0, signals={}, shares={}) for piece in pieces[: request.recent]]

    async def _with_summary(self, request: Request, found: Candidates, tokenizer: Tokenizer) -> Context:
        """Assemble a context, with a summary of the pieces that do not fit."""
        if self._summarise is None:
            raise invalid("summarise", "there is no summariser: set context.summariser in ctxfs.toml")
        room = int(request.budget * _SUMMARY_SHARE)
        smaller = replace(request, budget=max(1, request.budget - room))
        first = await blocking(assemble, smaller, found, tokenizer)
        left = [out.piece for out in first.plan.excluded if out.reason in ("budget", "quota")]
        if not left:
            return await blocking(assemble, request, found, tokenizer)
        told = left if request.secrets else list(map(without_secrets, left))
        said = (await self._summarise(request.title, told, room)).strip()
        origin = tuple(dict.fromkeys(piece.path for piece in left))
        derived = Piece("", 0, 0, said, why="derived", origin=origin[:20])
        return await blocking(_append, request, first, derived, tokenizer)


def assemble(request: Request, found: Candidates, tokenizer: Tokenizer) -> Context:
    """Pack and render the candidates. Pure except for the tokenizer; blocks for some milliseconds."""

    def rendered(pieces: Sequence[Piece]) -> str:
        return render(request.title, found.notes, pieces, request.format, request.order)

    shown = _as_it_is if request.secrets else without_secrets
    pins = list(map(shown, found.pins))
    if pins:
        needed = tokenizer.count(rendered(pins))
        if needed > request.budget:
            raise invalid(
                "pins", f"the pins alone need {needed} tokens, {needed - request.budget} more than the budget"
            )
    limits = Limits(request.budget, request.quotas, request.reserves)
    plan = pack([*pins, *found.pieces], limits, rendered, tokenizer.count, shown)
    plan.excluded[:0] = found.excluded
    text = rendered(plan.chosen)
    plan.tokens = tokenizer.count(text)
    if not plan.chosen and plan.tokens > request.budget:
        text = _start_of(text, request, tokenizer)
        plan.tokens = tokenizer.count(text)
    return Context(request, text, plan, found.notes, found.found)


def _as_it_is(piece: Piece) -> Piece:
    return piece


def _start_of(text: str, request: Request, tokenizer: Tokenizer) -> str:
    """Return as much of the heading as a very small budget allows: the budget has no exceptions.

    A truncated heading is useful, a truncated JSON value is not: other formats are empty then.
    """
    if request.format != "markdown":
        return ""
    low = most_that_fit(len(text), lambda most: tokenizer.count(text[:most]) <= request.budget)
    # Half a word may have more tokens than the whole one, and counts need not grow with the text.
    while low and (not text[low : low + 1].isspace() or tokenizer.count(text[:low]) > request.budget):
        low -= 1
    return text[:low]


def _append(request: Request, built: Context, derived: Piece, tokenizer: Tokenizer) -> Context:
    """Append as many words of a derived piece to a context as the budget allows."""
    words = derived.text.split(" ")

    def whole(most: int) -> tuple[list[Piece], str]:
        part = replace(derived, text=" ".join(words[:most]), cut=most < len(words))
        chosen = [*built.plan.chosen, part]
        return chosen, render(request.title, built.notes, chosen, request.format, request.order)

    length = most_that_fit(len(words), lambda most: tokenizer.count(whole(most)[1]) <= request.budget)
    chosen, text = whole(length) if length else (built.plan.chosen, built.text)
    plan = Plan(chosen, built.plan.excluded, tokenizer.count(text))
    return replace(built, request=request, text=text, plan=plan)


def _counted(pieces: Sequence[Piece], tokenizer: Tokenizer) -> dict[int, int]:
    return {at: tokenizer.count(piece.text) for at, piece in enumerate(pieces)}


def _questions(request: Request) -> list[tuple[Query, Path]]:
    queries = [_narrowed(query, request.kinds) for query in map(parse_query, request.queries) if not query.is_empty]
    return [(query, below) for query in queries for below in request.paths or (ROOT,)]


def _narrowed(query: Query, kinds: tuple[str, ...]) -> Query:
    return replace(query, kinds=(*query.kinds, *kinds)) if kinds else query


def _claims(pieces: Sequence[Piece], standing: Mapping[str, FileStatus]) -> list[str]:
    """Return notes on files that claim to supersede a file whose content their author may not change."""
    said = {piece.path: standing[piece.path].claims for piece in pieces if piece.path in standing}
    return [f"'{new}' only claims to supersede '{old}'" for new, old in sorted(said.items()) if old]


def _is_untrusted(standing: Mapping[str, FileStatus], piece: Piece) -> bool:
    said = standing.get(piece.path)
    return said is not None and said.untrusted


def _since(fresh: str, now_ns: int) -> int:
    if not fresh:
        return 0
    since = parse_time(fresh, datetime.fromtimestamp(now_ns / 1e9, UTC))
    if since is None:
        raise invalid("fresh", f"fresh = '{printable(fresh)}': an age such as 7d, or a date, is needed")
    return since


async def _read_pin(world: TreeView, pin: Pin) -> Piece:
    try:
        data = await world.read(pin.path)
    except FileNotFoundError as error:
        raise path_error(errno.ENOENT, pin.path, f"pinned file '{printable(str(pin.path))}' does not exist") from error
    except OSError as error:
        raise path_error(
            error.errno or errno.EIO,
            pin.path,
            f"pinned file '{printable(str(pin.path))}' cannot be read: {error.strerror}",
        ) from error
    lines = data.decode("utf-8", "replace").split("\n")
    if pin.first > len(lines):
        raise invalid("pins", f"pin '{pin}': the file has {len(lines)} lines")
    last = min(pin.last or len(lines), len(lines))
    return Piece(
        str(pin.path),
        pin.first,
        last,
        pinned_text(lines, pin.first, last),
        sha256=hashlib.sha256(data).hexdigest(),
        why="pin",
    )


def pinned_text(lines: Sequence[str], first: int, last: int) -> str:
    """Return the text of a pin of these lines."""
    return "\n".join(lines[first - 1 : last]).strip("\n")


def _piece(hit: Hit, why: Why) -> Piece:
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
    )


def from_answer(
    request: Request, answer: SearchResults, tokenizer: Tokenizer, standing: Mapping[str, FileStatus]
) -> Context:
    """Build the context of existing search results, without another search."""
    hits = [_piece(hit, "search") for hit in answer.hits]
    kept, excluded = select((), hits, Rules(time.time_ns(), standing=standing))
    notes = (*answer.notes, *_claims(kept, standing))
    return assemble(request, Candidates((), kept, excluded, notes, len(hits)), tokenizer)
