"""Selection of the pieces of a context. Pure: candidates and a counter in, a plan out.

Greedy by value (`piece_order.py`). A piece that does not fit is skipped, and smaller ones of lower rank are still
tried. The rendered whole is counted, because the tokens of parts do not add up to those of the whole.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ctxfs.context.build.piece import Exclusion, Piece
from ctxfs.context.build.piece_order import PieceOrder
from ctxfs.eventlog.record_marks import is_record_path


@dataclass(slots=True)
class Plan:
    """The chosen pieces, in the order of choice, and the excluded ones."""

    chosen: list[Piece] = field(default_factory=list)
    excluded: list[Exclusion] = field(default_factory=list)
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Token limits: of the whole, at most of a kind, at least of a kind, and at most of one origin (`Piece.source`).

    `soft_quotas` hold only while pieces of other kinds want the tokens: the rest of the budget is free for all.
    """

    budget: int
    quotas: Mapping[str, int] = field(default_factory=dict)
    reserves: Mapping[str, int] = field(default_factory=dict)
    soft_quotas: Mapping[str, int] = field(default_factory=dict)
    origin_quota: int | None = None


_MAX_ROUNDS = 6
_HEADER_TOKENS = 8  # "## [n] " and its blank lines
_RECORD_TOKENS = 1  # the mark of a source of records below their notice; elsewhere it is longer
_CITATION_TOKENS = 4  # a line number; "[n:first-last] " and fences are a little more
_OVERSIZE_FACTOR = 2.0  # factor by which an estimate has to exceed the remaining tokens, to be skipped uncounted
_FULL_SHARE = 0.95  # share of the budget: below it the best of the long pieces is cut to fit
_MAX_CUTS = 40  # pieces tried
_MIN_PREFIX_CHARS = 200  # characters: the header of a shorter start would be longer than the text
_MIN_ONLY_PREFIX_CHARS = 40  # the same if nothing else is in the context

Render = Callable[[Sequence[Piece]], str]
Count = Callable[[str], int]
VisiblePart = Callable[[Piece], Piece]


def largest_fitting(high: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from 0 to `high` that fits, by bisection.

    0 is assumed to fit. Counts need not be strictly monotonic in the length of the text.
    """
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def pack(
    pieces: Sequence[Piece],
    limits: Limits,
    render: Render,
    count: Count,
    visible_part: VisiblePart = lambda piece: piece,
) -> Plan:
    """Return the best pieces whose rendering is within the budget; pins are assumed to fit (the caller checks).

    Costs of pieces are estimated one by one, and the whole is counted at the end. Pieces over the budget are removed
    from the lowest rank upwards. Pieces that were excluded by their estimate are tried again in the remaining space.
    `visible_part` returns the part of a piece that goes in; it is called only for pieces that may go in.
    """
    return _Packing(limits, render, count, visible_part).run(pieces)


class _Packing:
    """The state of one packing: chosen pieces, waiting pieces, and the tokens used by each kind."""

    def __init__(self, limits: Limits, render: Render, count: Count, visible_part: VisiblePart) -> None:
        self._visible_part_of = visible_part
        self._visible_cache: dict[int, tuple[Piece, Piece]] = {}
        self._limits = limits
        self._render = render
        self._count = count
        self._plan = Plan()
        self._waiting: list[tuple[Piece, int]] = []
        self._open_paths: set[str] = set()
        self._used_tokens = Counter[str]()
        self._used_of_origins = Counter[str]()
        self._soft_quotas = limits.soft_quotas
        self._remaining = limits.budget - count(render(()))
        self._counted_totals = [1, 1]  # tokens, characters of the pieces that have been counted
        self._token_cache: dict[str, int] = {}

    def run(self, pieces: Sequence[Piece]) -> Plan:
        """Choose pins, then pinned memories that fit, the reserves of kinds, and the other pieces by value."""
        order = PieceOrder([piece for piece in pieces if not piece.is_whole], self._limits.budget)
        for pin in (piece for piece in pieces if piece.is_pinned):
            self._choose(pin, self._estimate_cost(pin))
        for pinned in (piece for piece in pieces if piece.is_whole and not piece.is_pinned):
            self._consider(pinned)
        reserved_ids = self._choose_reserved(order.by_value())
        for piece in order:
            if id(piece) in reserved_ids or self._consider(piece):
                order.open_source(piece)
        self._shrink()
        self._soft_quotas = {}
        self._grow()
        self._cut_to_fit()
        self._plan.excluded.extend(self._exclude(piece, cost) for piece, cost in self._waiting)
        return self._plan

    def _choose_reserved(self, pieces: Sequence[Piece]) -> set[int]:
        minimums = {kind: minimum for kind, minimum in self._limits.reserves.items() if minimum}
        chosen_ids: set[int] = set()
        for piece in pieces if minimums else ():
            if self._used_tokens[piece.kind] < minimums.get(piece.kind, 0):
                cost = self._estimate_cost(piece)
                if cost <= self._remaining and self._is_allowed(piece, cost):
                    self._choose(piece, cost)
                    chosen_ids.add(id(piece))
        return chosen_ids

    def _consider(self, piece: Piece) -> bool:
        """Choose a piece if its estimate fits, else let it wait; return True if it is chosen."""
        guess = len(piece.text) * self._counted_totals[0] // self._counted_totals[1] + _CITATION_TOKENS
        if guess > _OVERSIZE_FACTOR * self._remaining:
            self._waiting.append(
                (piece, guess)
            )  # most candidates, once the budget is nearly spent: counting them is not worthwhile
            return False
        cost = self._estimate_cost(piece)
        if cost <= self._remaining and self._is_allowed(piece, cost):
            self._choose(piece, cost)
            return True
        self._waiting.append((piece, cost))
        return False

    def _visible_piece(self, piece: Piece) -> Piece:
        """Return the shown part of a piece; the cache holds the piece, because ids of freed objects are reused."""
        cached = self._visible_cache.get(id(piece))
        if cached is None:
            cached = self._visible_cache[id(piece)] = (piece, self._visible_part_of(piece))
        return cached[1]

    def _choose(self, piece: Piece, cost: int) -> None:
        self._plan.chosen.append(self._visible_piece(piece))
        self._open_paths.add(piece.path)
        self._used_tokens[piece.kind] += cost
        self._used_of_origins[piece.source] += cost
        self._remaining -= cost

    def _estimate_cost(self, piece: Piece) -> int:
        header = 0
        if piece.path not in self._open_paths:
            header = self._count(piece.path) + _HEADER_TOKENS + _RECORD_TOKENS * is_record_path(piece.path)
        text = self._visible_piece(piece).text
        tokens = self._token_cache.get(text)
        if tokens is None:
            tokens = self._token_cache[text] = self._count(text)
        self._counted_totals[0] += tokens
        self._counted_totals[1] += len(text)
        return tokens + self._count(piece.heading) + _CITATION_TOKENS + header

    def _is_allowed(self, piece: Piece, cost: int, origin_cost: int | None = None) -> bool:
        """Return True if the quotas permit `cost` more tokens of the piece's kind, and `origin_cost` of its origin."""
        used = self._used_tokens[piece.kind] + cost
        quotas = (self._limits.quotas.get(piece.kind), self._soft_quotas.get(piece.kind))
        is_within = all(quota is None or used <= quota for quota in quotas)
        return is_within and self._may_add_of_origin(piece, cost if origin_cost is None else origin_cost)

    def _may_add_of_origin(self, piece: Piece, cost: int) -> bool:
        quota = self._limits.origin_quota
        return quota is None or not piece.source or self._used_of_origins[piece.source] + cost <= quota

    def _exclude(self, piece: Piece, cost: int) -> Exclusion:
        if not self._may_add_of_origin(piece, cost):
            return Exclusion(piece, "origin", piece.source)
        is_over_quota = cost <= self._limits.budget and not self._is_allowed(piece, cost)
        return Exclusion(piece, "quota" if is_over_quota else "budget")

    def _count_whole(self, extra: Sequence[Piece] = ()) -> int:
        return self._count(self._render([*self._plan.chosen, *map(self._visible_piece, extra)]))

    def _shrink(self) -> None:
        """Remove the excess, from the last chosen piece backwards, so that reserved pieces are removed last."""
        plan = self._plan
        plan.tokens = self._count_whole()
        while plan.tokens > self._limits.budget:
            index = next((n for n in range(len(plan.chosen) - 1, -1, -1) if not plan.chosen[n].is_pinned), None)
            if index is None:
                return
            piece = plan.chosen.pop(index)
            cost = self._estimate_cost(piece)
            self._used_tokens[piece.kind] -= cost
            self._used_of_origins[piece.source] -= cost
            self._waiting.append((piece, cost))
            plan.tokens = self._count_whole()

    def _grow(self) -> None:
        """Use the tokens by which estimates exceed the whole, best pieces first, with few counts of the whole."""
        plan, budget = self._plan, self._limits.budget
        estimated = max(1, sum(self._estimate_cost(piece) for piece in plan.chosen))
        for _ in range(_MAX_ROUNDS):
            scale = min(1.0, plan.tokens / estimated)
            remaining = budget - plan.tokens
            added: list[tuple[Piece, int]] = []
            used, used_of_origins = Counter[str](), Counter[str]()
            for piece, cost in self._waiting:
                of_origin = used_of_origins[piece.source] + cost
                if cost * scale <= remaining and self._is_allowed(piece, used[piece.kind] + cost, of_origin):
                    added.append((piece, cost))
                    used[piece.kind] += cost
                    used_of_origins[piece.source] = of_origin
                    remaining -= int(cost * scale)
            tokens = plan.tokens
            while added:
                tokens = self._count_whole([piece for piece, _ in added])
                if tokens <= budget:
                    break
                del added[-max(1, len(added) // 4) :]
            if not added:
                return
            for piece, cost in added:
                self._choose(piece, cost)
            plan.tokens = tokens
            estimated += sum(cost for _, cost in added)
            added_ids = {id(piece) for piece, _ in added}
            self._waiting[:] = [item for item in self._waiting if id(item[0]) not in added_ids]

    def _cut_to_fit(self) -> None:
        """If much space is left and only long pieces wait, add the first lines of the best of them."""
        plan, budget = self._plan, self._limits.budget
        for item in self._waiting[:_MAX_CUTS]:
            if plan.tokens >= _FULL_SHARE * budget:
                return
            cut = self._longest_prefix(item[0])
            if cut is not None and self._is_allowed(cut, cost := self._estimate_cost(cut)):
                self._choose(cut, cost)
                plan.tokens = self._count_whole()
                self._waiting.remove(item)

    def _longest_prefix(self, piece: Piece) -> Piece | None:
        """Return as many of its first lines as fit, or words of its first line; None if none fits."""
        visible = self._visible_piece(piece)
        return self._cut_at("\n", visible) or self._cut_at(" ", visible)

    def _cut_at(self, separator: str, piece: Piece) -> Piece | None:
        parts = piece.text.split(separator)
        length = largest_fitting(
            len(parts) - 1,
            lambda end: self._count_whole([_shorten(piece, separator, parts[:end])]) <= self._limits.budget,
        )
        cut = _shorten(piece, separator, parts[:length])
        least = _MIN_PREFIX_CHARS if self._plan.chosen else _MIN_ONLY_PREFIX_CHARS
        return cut if length and len(cut.body) >= min(least, len(piece.body)) else None


def _shorten(piece: Piece, separator: str, parts: Sequence[str]) -> Piece:
    text = separator.join(parts).rstrip("\n")
    return piece.shortened(text + (" …" if separator == " " else ""), piece.first + text.count("\n"))
