"""Choose what goes into a context. Pure: candidates and a counter in, a plan out.

Greedy by value, which is the score less a little for length: whatever does not fit is skipped and smaller things behind it
still get their chance. The rendered whole is counted, because tokens of parts do not add up to the tokens of the whole.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

Reason = Literal["budget", "duplicate"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of lines that may go in; `rank` is its place among the candidates, pins come before all others."""

    path: str
    first: int
    last: int
    text: str
    heading: str = ""
    score: float = 0.0
    signals: tuple[tuple[str, float], ...] = ()
    sha256: str = ""
    pinned: bool = False
    day: int | None = None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A candidate that was left out."""

    piece: Piece
    reason: Reason


@dataclass(slots=True)
class Plan:
    """What goes in, in reading order of choice, and what does not."""

    chosen: list[Piece] = field(default_factory=list)
    excluded: list[Exclusion] = field(default_factory=list)
    tokens: int = 0


_ROUNDS = 6
_THRIFT = 0.25  # in standard deviations of the scores, for a piece 2.7 times as long; measured on LoCoMo
_HEADER_TOKENS = 8  # "## [n] " and its blank lines
_CITATION_TOKENS = 4  # a line number; "[n:first-last] " and fences are a little more
_MOST_CHARACTERS = 20  # no tokenizer gets more characters than this out of a token, over a whole piece

Render = Callable[[Sequence[Piece]], str]
Count = Callable[[str], int]


def pack(pieces: Sequence[Piece], budget: int, render: Render, count: Count) -> Plan:
    """The best pieces whose rendering is within `budget` tokens; pins are assumed to fit (the caller checks).

    Costs of pieces are estimated one by one and the whole is counted at the end; what is over is taken out from the
    lowest rank upwards, and what was left out for its estimate is tried again in the space that remains.
    """
    plan = Plan()
    seen: set[str] = set()
    waiting: list[tuple[Piece, int]] = []
    opened: set[str] = set()
    left = budget - count(render(()))
    for piece in _by_value(pieces):
        body = " ".join(piece.text.split())
        if body in seen and not piece.pinned:
            plan.excluded.append(Exclusion(piece, "duplicate"))
            continue
        seen.add(body)
        if not piece.pinned and len(body) > left * _MOST_CHARACTERS:
            plan.excluded.append(Exclusion(piece, "budget"))  # hopeless: not worth counting
            continue
        header = 0 if piece.path in opened else count(piece.path) + _HEADER_TOKENS
        cost = _body_cost(piece, count) + header
        if piece.pinned or cost <= left:
            plan.chosen.append(piece)
            opened.add(piece.path)
            left -= cost
        else:
            waiting.append((piece, cost))
    _shrink(plan, budget, render, count)
    _grow(plan, waiting, budget, render, count)
    plan.excluded.extend(Exclusion(piece, "budget") for piece, _ in waiting)
    return plan


def _by_value(pieces: Sequence[Piece]) -> list[Piece]:
    """Pins first; then by score, less for what takes more room. Equal values keep their order."""
    scores = [piece.score for piece in pieces if not piece.pinned]
    mean = fmean(scores) if scores else 0.0
    thrift = _THRIFT * math.sqrt(fmean((score - mean) ** 2 for score in scores)) if scores else 0.0
    pins = [piece for piece in pieces if piece.pinned]
    others = [piece for piece in pieces if not piece.pinned]
    return pins + sorted(others, key=lambda piece: thrift * math.log(len(piece.text) + 1) - piece.score)


def _shrink(plan: Plan, budget: int, render: Render, count: Count) -> None:
    plan.tokens = count(render(plan.chosen))
    while plan.tokens > budget:
        position = max((n for n, piece in enumerate(plan.chosen) if not piece.pinned), default=None)
        if position is None:
            return
        plan.excluded.append(Exclusion(plan.chosen.pop(position), "budget"))
        plan.tokens = count(render(plan.chosen))


def _grow(plan: Plan, waiting: list[tuple[Piece, int]], budget: int, render: Render, count: Count) -> None:
    """Estimates add up to more than the whole costs: use the difference, best first, with few counts of the whole."""
    estimated = max(1, sum(_body_cost(piece, count) for piece in plan.chosen))
    for _ in range(_ROUNDS):
        scale = min(1.0, plan.tokens / estimated)
        left = budget - plan.tokens
        added: list[tuple[Piece, int]] = []
        for item in waiting:
            if item[1] * scale <= left:
                added.append(item)
                left -= int(item[1] * scale)
        if not added:
            return
        tokens = plan.tokens
        while added:
            tokens = count(render([*plan.chosen, *(piece for piece, _ in added)]))
            if tokens <= budget:
                break
            del added[-max(1, len(added) // 4) :]
        if not added:
            return
        plan.chosen.extend(piece for piece, _ in added)
        plan.tokens = tokens
        estimated += sum(cost for _, cost in added)
        taken = {id(piece) for piece, _ in added}
        waiting[:] = [item for item in waiting if id(item[0]) not in taken]


def _body_cost(piece: Piece, count: Count) -> int:
    return count(piece.text) + count(piece.heading) + _CITATION_TOKENS
