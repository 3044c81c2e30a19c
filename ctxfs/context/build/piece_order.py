"""Order in which pieces are tried for a context. Pure.

The value of a piece is its score less a small penalty for length. A piece of a source that the context already has
costs less, and its reader has the surroundings: it has a bonus, which is small in a small budget, where other sources
are worth more. The head of a function comes before its other parts.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean

from ctxfs.context.build.piece import Piece

# In standard deviations of the scores.
_LENGTH_PENALTY = 0.45  # for a piece 2.7 times as long; measured on LoCoMo
_OPEN_SOURCE_BONUS = 0.6  # measured on questions about Python's library; single lines (LoCoMo) lose by it
_ADJACENT_BONUS = 0.8  # for a piece beside a chosen one: it needs no citation of its own
_FULL_BONUS_TOKENS = 4000  # budget from which the bonuses count in full


class PieceOrder:
    """The candidates of a context; iteration yields each once, the best first."""

    def __init__(self, pieces: Sequence[Piece], budget: int) -> None:
        self._pieces = pieces
        self._deviation = _deviation_of(pieces)
        self._bonus_unit = self._deviation * min(1.0, budget / _FULL_BONUS_TOKENS)
        self._by_end = {(piece.path, piece.last): piece for piece in pieces}
        self._by_above = {(piece.path, piece.above): piece for piece in pieces if piece.above}
        self._by_path: defaultdict[str, list[int]] = defaultdict(list)
        self._values = self._base_values()
        self._is_tried = [False] * len(pieces)
        self._numbers = {id(piece): number for number, piece in enumerate(pieces)}
        for number, piece in enumerate(pieces):
            self._by_path[piece.path].append(number)
        self._heap = [(-value, number) for number, value in enumerate(self._values)]
        heapq.heapify(self._heap)
        self._open_paths: set[str] = set()

    def by_value(self) -> list[Piece]:
        """Return all pieces by value, without regard to opened sources. Equal values keep their order."""
        return [self._pieces[number] for number in sorted(range(len(self._pieces)), key=lambda n: -self._values[n])]

    def __iter__(self) -> Iterator[Piece]:
        """Yield the untried piece with the highest value, with its head before it, until none is left."""
        while self._heap:
            _, number = heapq.heappop(self._heap)
            if self._is_tried[number]:
                continue
            head = self._numbers[id(self._head_of(self._pieces[number]))]
            for candidate in (head, number):
                if not self._is_tried[candidate]:
                    self._is_tried[candidate] = True
                    yield self._pieces[candidate]

    def open_source(self, piece: Piece) -> None:
        """Raise the value of the untried pieces of a chosen piece's source, most of those beside it."""
        if piece.path not in self._open_paths:
            self._open_paths.add(piece.path)
            for number in self._by_path[piece.path]:
                self._raise(number, _OPEN_SOURCE_BONUS)
        above, below = self._by_end.get((piece.path, piece.above)), self._by_above.get((piece.path, piece.last))
        for neighbour in (above, below):
            if neighbour is not None:
                self._raise(self._numbers[id(neighbour)], _ADJACENT_BONUS)

    def _raise(self, number: int, bonus: float) -> None:
        piece = self._pieces[number]
        if not self._is_tried[number] and piece.first != piece.last:
            self._values[number] += bonus * self._bonus_unit
            heapq.heappush(self._heap, (-self._values[number], number))

    def _base_values(self) -> list[float]:
        penalty = _LENGTH_PENALTY * self._deviation
        values = [piece.score - penalty * math.log(len(piece.text) + 1) for piece in self._pieces]
        if values:
            # The best hit is first, however long it is.
            values[max(range(len(values)), key=lambda number: self._pieces[number].score)] = math.inf
        # Files that are no longer valid come after all others.
        return [-math.inf if piece.valid_until else value for piece, value in zip(self._pieces, values, strict=True)]

    def _head_of(self, piece: Piece) -> Piece:
        """Return the first part of the function that a piece of code belongs to, if all parts up to it are candidates."""
        head = piece
        while piece.kind == "code" and head.heading and head.above:
            part = self._by_end.get((head.path, head.above))
            if part is None or part.heading != piece.heading:
                break
            head = part
        return head


def _deviation_of(pieces: Sequence[Piece]) -> float:
    if not pieces:
        return 0.0
    mean = fmean(piece.score for piece in pieces)
    return math.sqrt(fmean((piece.score - mean) ** 2 for piece in pieces))
