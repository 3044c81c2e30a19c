"""Build a context: candidates from search and pins, packed to the budget, rendered, accounted for."""

import errno
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ctxfs.context.manifest import render_manifest
from ctxfs.context.pack import Piece, Plan, pack
from ctxfs.context.render import render_markdown
from ctxfs.context.request import Pin, Request
from ctxfs.context.tokens import Tokenizer, open_tokenizer
from ctxfs.index.answers import Answer, Hit
from ctxfs.index.query import Query, parse_query
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path, printable
from ctxfs.threads import blocking

CANDIDATES = 400

Search = Callable[[Query, Path, int], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Context:
    """A context and its account; `tokens` counts the whole of `text` and is never over the budget."""

    request: Request
    text: str
    plan: Plan
    notes: tuple[str, ...]
    found: int

    @property
    def tokens(self) -> int:
        """Tokens of the whole text by the request's tokenizer."""
        return self.plan.tokens

    @property
    def manifest(self) -> bytes:
        """manifest.json."""
        digest = hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()
        return render_manifest(self.request, self.plan, self.notes, digest)


class Constructor:
    """Builds contexts over one tree. Deterministic: equal requests over an equal tree and index give equal bytes."""

    def __init__(self, tree: Mount, search: Search) -> None:
        self._tree = tree
        self._search = search

    async def build(self, request: Request) -> Context:
        """Raises OSError: EINVAL for an unknown tokenizer or pins over the budget, ENOENT for a pin that is gone."""
        tokenizer = await blocking(open_tokenizer, request.tokenizer)
        pins = [await self._read_pin(pin) for pin in request.pins]
        answers = await self._ask(request)
        notes = tuple(dict.fromkeys(note for answer in answers for note in (*answer.notes, *answer.remarks)))
        hits = sorted(
            (hit for answer in answers for hit in answer.hits), key=lambda hit: (-hit.score, hit.path, hit.chunk.first)
        )
        return await blocking(assemble, request, pins, hits, notes, tokenizer)

    async def _ask(self, request: Request) -> list[Answer]:
        query = parse_query(request.query)
        if query.is_empty:
            return []
        query = _narrowed(query, request.kinds)
        return [await self._search(query, below, CANDIDATES) for below in request.paths or (ROOT,)]

    async def _read_pin(self, pin: Pin) -> Piece:
        try:
            data = await self._tree.read(pin.path)
        except FileNotFoundError as error:
            raise path_error(
                errno.ENOENT, pin.path, f"pinned file '{printable(str(pin.path))}' does not exist"
            ) from error
        lines = data.decode("utf-8", "replace").split("\n")
        last = min(pin.last or len(lines), len(lines))
        text = "\n".join(lines[pin.first - 1 : last]).strip("\n")
        digest = hashlib.sha256(data).hexdigest()
        return Piece(str(pin.path), pin.first, max(last, pin.first), text, sha256=digest, pinned=True)


def assemble(
    request: Request, pins: list[Piece], hits: list[Hit], notes: tuple[str, ...], tokenizer: Tokenizer
) -> Context:
    """Pack and render what was found. Pure but for the tokenizer; blocks for some milliseconds."""

    def render(pieces: "list[Piece] | tuple[Piece, ...]") -> str:
        return render_markdown(request.query, notes, pieces)

    if pins:
        needed = tokenizer.count(render(pins))
        if needed > request.budget:
            raise invalid(
                "pins", f"the pins alone need {needed} tokens, {needed - request.budget} more than the budget"
            )
    plan = pack([*pins, *map(_piece, hits)], request.budget, render, tokenizer.count)  # type: ignore[arg-type]  # any sequence of pieces renders
    text = _fitted(render(plan.chosen), plan, request.budget, tokenizer)
    plan.tokens = tokenizer.count(text)
    return Context(request, text, plan, notes, len(hits))


def _fitted(text: str, plan: Plan, budget: int, tokenizer: Tokenizer) -> str:
    """A budget too small even for the heading gets as much of it as fits: a ceiling has no exceptions."""
    if plan.chosen or tokenizer.count(text) <= budget:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tokenizer.count(text[:middle]) <= budget else (low, middle - 1)
    return text[:low]


def _narrowed(query: Query, kinds: tuple[str, ...]) -> Query:
    if not kinds:
        return query
    parsed = {name: getattr(query, name) for name in Query.__slots__}
    return Query(**{**parsed, "kinds": (*query.kinds, *kinds)})


def _piece(hit: Hit) -> Piece:
    chunk = hit.chunk
    return Piece(
        chunk.path,
        chunk.first,
        chunk.last,
        chunk.text,
        heading=chunk.heading,
        score=hit.score,
        signals=tuple((name, round(value, 4)) for name, value in sorted(hit.signals.items())),
        sha256=chunk.sha256,
        day=chunk.day,
    )
