"""Selection of the pieces of a context. Pure: candidates and a counter in, a plan out.

Greedy by value, which is the score less a small penalty for length. A piece that does not fit is skipped, and smaller
ones of lower rank are still tried. The rendered whole is counted, because the tokens of parts do not add up to those of
the whole.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ctxfs.context.build.piece import Exclusion, Piece, Reason


@dataclass(slots=True)
class Plan:
    """The chosen pieces, in the order of choice, and the excluded ones."""

    chosen: list[Piece] = field(default_factory=list)
    excluded: list[Exclusion] = field(default_factory=list)
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """Token limits: of the whole, at most of a kind, and at least of a kind."""

    budget: int
    quotas: Mapping[str, int] = field(default_factory=dict)
    reserves: Mapping[str, int] = field(default_factory=dict)


_ROUNDS = 6
_THRIFT = 0.45  # in standard deviations of the scores, for a piece 2.7 times as long; measured on LoCoMo
_HEADER_TOKENS = 8  # "## [n] " and its blank lines
_CITATION_TOKENS = 4  # a line number; "[n:first-last] " and fences are a little more
_SURELY = 2.0  # factor by which an estimate has to exceed the remaining tokens, to be skipped uncounted
_FULL = 0.95  # share of the budget: below it the best of the long pieces is cut to fit
_CUTS = 40  # pieces tried
_LEAST_START = 40  # characters: shorter starts are useless

Render = Callable[[Sequence[Piece]], str]
Count = Callable[[str], int]
Shown = Callable[[Piece], Piece]


def most_that_fit(most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from 0 to `most` that fits, by bisection.

    0 is assumed to fit. Counts need not be strictly monotonic in the length of the text.
    """
    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        low, most = (middle, most) if fits(middle) else (low, middle - 1)
    return low


def pack(
    pieces: Sequence[Piece], limits: Limits, render: Render, count: Count, shown: Shown = lambda piece: piece
) -> Plan:
    """Return the best pieces whose rendering is within the budget; pins are assumed to fit (the caller checks).

    Costs of pieces are estimated one by one, and the whole is counted at the end. Pieces over the budget are removed
    from the lowest rank upwards. Pieces that were excluded by their estimate are tried again in the remaining space.
    `shown` returns the part of a piece that goes in; it is called only for pieces that may go in.
    """
    return _Packing(limits, render, count, shown).run(pieces)


class _Packing:
    """The state of one packing: chosen pieces, waiting pieces, and the tokens used by each kind."""

    def __init__(self, limits: Limits, render: Render, count: Count, shown: Shown) -> None:
        self._show = shown
        self._shown_as: dict[int, tuple[Piece, Piece]] = {}
        self._limits = limits
        self._render = render
        self._count = count
        self._plan = Plan()
        self._waiting: list[tuple[Piece, int]] = []
        self._opened: set[str] = set()
        self._used = Counter[str]()
        self._left = limits.budget - count(render(()))
        self._counted = [1, 1]  # tokens, characters of the pieces that have been counted
        self._tokens: dict[str, int] = {}

    def run(self, pieces: Sequence[Piece]) -> Plan:
        """Choose pins, then the reserves of kinds, then the other pieces by value."""
        pins = [piece for piece in pieces if piece.pinned]
        others = _by_value([piece for piece in pieces if not piece.pinned])
        for pin in pins:
            self._take(pin, self._cost(pin))
        taken = self._take_reserved(others)
        for piece in others:
            if id(piece) not in taken:
                self._offer(piece)
        self._shrink()
        self._grow()
        self._cut_to_fit()
        self._plan.excluded.extend(Exclusion(piece, self._reason(piece, cost)) for piece, cost in self._waiting)
        return self._plan

    def _take_reserved(self, pieces: Sequence[Piece]) -> set[int]:
        open_for = {kind: least for kind, least in self._limits.reserves.items() if least}
        taken: set[int] = set()
        for piece in pieces if open_for else ():
            if self._used[piece.kind] < open_for.get(piece.kind, 0):
                cost = self._cost(piece)
                if cost <= self._left and self._allows(piece, cost):
                    self._take(piece, cost)
                    taken.add(id(piece))
        return taken

    def _offer(self, piece: Piece) -> None:
        guess = len(piece.text) * self._counted[0] // self._counted[1] + _CITATION_TOKENS
        if guess > _SURELY * self._left:
            self._waiting.append(
                (piece, guess)
            )  # most candidates, once the budget is nearly spent: counting them is not worthwhile
            return
        cost = self._cost(piece)
        if cost <= self._left and self._allows(piece, cost):
            self._take(piece, cost)
        else:
            self._waiting.append((piece, cost))

    def _shown(self, piece: Piece) -> Piece:
        """Return the shown part of a piece; the cache holds the piece, because ids of freed objects are reused."""
        known = self._shown_as.get(id(piece))
        if known is None:
            known = self._shown_as[id(piece)] = (piece, self._show(piece))
        return known[1]

    def _take(self, piece: Piece, cost: int) -> None:
        self._plan.chosen.append(self._shown(piece))
        self._opened.add(piece.path)
        self._used[piece.kind] += cost
        self._left -= cost

    def _cost(self, piece: Piece) -> int:
        header = 0 if piece.path in self._opened else self._count(piece.path) + _HEADER_TOKENS
        text = self._shown(piece).text
        tokens = self._tokens.get(text)
        if tokens is None:
            tokens = self._tokens[text] = self._count(text)
        self._counted[0] += tokens
        self._counted[1] += len(text)
        return tokens + self._count(piece.heading) + _CITATION_TOKENS + header

    def _allows(self, piece: Piece, cost: int) -> bool:
        quota = self._limits.quotas.get(piece.kind)
        return quota is None or self._used[piece.kind] + cost <= quota

    def _reason(self, piece: Piece, cost: int) -> Reason:
        return "quota" if cost <= self._limits.budget and not self._allows(piece, cost) else "budget"

    def _whole(self, more: Sequence[Piece] = ()) -> int:
        return self._count(self._render([*self._plan.chosen, *map(self._shown, more)]))

    def _shrink(self) -> None:
        """Remove the excess, from the last chosen piece backwards, so that reserved pieces are removed last."""
        plan = self._plan
        plan.tokens = self._whole()
        while plan.tokens > self._limits.budget:
            at = next((n for n in range(len(plan.chosen) - 1, -1, -1) if not plan.chosen[n].pinned), None)
            if at is None:
                return
            piece = plan.chosen.pop(at)
            cost = self._cost(piece)
            self._used[piece.kind] -= cost
            self._waiting.append((piece, cost))
            plan.tokens = self._whole()

    def _grow(self) -> None:
        """Use the tokens by which estimates exceed the whole, best pieces first, with few counts of the whole."""
        plan, budget = self._plan, self._limits.budget
        estimated = max(1, sum(self._cost(piece) for piece in plan.chosen))
        for _ in range(_ROUNDS):
            scale = min(1.0, plan.tokens / estimated)
            left = budget - plan.tokens
            added: list[tuple[Piece, int]] = []
            used = Counter[str]()
            for piece, cost in self._waiting:
                if cost * scale <= left and self._allows(piece, used[piece.kind] + cost):
                    added.append((piece, cost))
                    used[piece.kind] += cost
                    left -= int(cost * scale)
            tokens = plan.tokens
            while added:
                tokens = self._whole([piece for piece, _ in added])
                if tokens <= budget:
                    break
                del added[-max(1, len(added) // 4) :]
            if not added:
                return
            for piece, cost in added:
                self._take(piece, cost)
            plan.tokens = tokens
            estimated += sum(cost for _, cost in added)
            taken = {id(piece) for piece, _ in added}
            self._waiting[:] = [item for item in self._waiting if id(item[0]) not in taken]

    def _cut_to_fit(self) -> None:
        """If much space is left and only long pieces wait, add the first lines of the best of them."""
        plan, budget = self._plan, self._limits.budget
        for item in self._waiting[:_CUTS]:
            if plan.tokens >= _FULL * budget:
                return
            cut = self._longest_start(item[0])
            if cut is not None and self._allows(cut, cost := self._cost(cut)):
                self._take(cut, cost)
                plan.tokens = self._whole()
                self._waiting.remove(item)

    def _longest_start(self, piece: Piece) -> Piece | None:
        """Return as many of its first lines as fit, or words of its first line; None if none fits."""
        whole = self._shown(piece)
        return self._start_by("\n", whole) or self._start_by(" ", whole)

    def _start_by(self, separator: str, piece: Piece) -> Piece | None:
        parts = piece.text.split(separator)
        length = most_that_fit(
            len(parts) - 1,
            lambda most: self._whole([_start(piece, separator, parts[:most])]) <= self._limits.budget,
        )
        cut = _start(piece, separator, parts[:length])
        return cut if length and len(cut.body) >= min(_LEAST_START, len(piece.body)) else None


def _start(piece: Piece, separator: str, parts: Sequence[str]) -> Piece:
    text = separator.join(parts).rstrip("\n")
    return piece.shortened(text + (" …" if separator == " " else ""), piece.first + text.count("\n"))


def _by_value(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the best piece, then the others by score less a penalty for length. Equal values keep their order."""
    if not pieces:
        return []
    mean = fmean(piece.score for piece in pieces)
    thrift = _THRIFT * math.sqrt(fmean((piece.score - mean) ** 2 for piece in pieces))
    best = max(pieces, key=lambda piece: piece.score)
    return sorted(pieces, key=lambda piece: (piece is not best, thrift * math.log(len(piece.text) + 1) - piece.score))
