"""Conflicts among the memories of a context: their values, the preferred side, and the lines that name them. Pure.

Only pieces below memory/ are compared, and only with those of other files. The more trusted side is preferred, then the
newer one by days, then the one with a source, then the newer one.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ctxfs.context.build.pack import Plan
from ctxfs.context.build.piece import Piece
from ctxfs.model.path import one_line, printable

_AREA = "memory/"
_MAX_PIECES = 100  # pieces of memory that are compared
_MAX_LINES = 5  # conflicts that a context names; the manifest lists all
_LINES_SHARE = 0.25  # share of the budget that these lines may use
_MAX_ROUNDS = 3
_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class ConflictSide:
    """One of two statements that contradict each other: the file and line, and its value."""

    path: str
    line: int
    value: str

    def record(self) -> dict[str, object]:
        """Return the side as plain values."""
        return {"path": printable(self.path), "line": self.line, "value": printable(self.value)}


@dataclass(frozen=True, slots=True)
class MemoryConflict:
    """Two statements that contradict each other; `why` is the reason of the preference, empty if there is none."""

    preferred: ConflictSide
    other: ConflictSide
    why: str

    @property
    def text(self) -> str:
        """Return the line that names the conflict at the top of a context."""
        sides = (f"'{side.value}' ({side.path}:{side.line})" for side in (self.preferred, self.other))
        return one_line(
            f"conflict: {' against '.join(sides)}; {f'the first is {self.why}' if self.why else 'undecided'}"
        )

    def record(self) -> dict[str, object]:
        """Return the conflict as plain values, for the manifest."""
        return {"preferred": self.preferred.record(), "other": self.other.record(), "why": self.why}


def find_conflicts(pieces: Sequence[Piece], cited: Collection[str] = ()) -> list[MemoryConflict]:
    """Return the conflicts between pieces of memory in their order; `cited` are the files that name a source."""
    memories = [piece for piece in pieces if piece.path.startswith(_AREA)][:_MAX_PIECES]
    if len({piece.path for piece in memories}) < 2:
        return []
    # The rules take a while to compile, and few contexts contain two memories.
    from ctxfs.context.grounding.statement_comparison import Relation
    from ctxfs.context.grounding.statement_relations import find_relations
    from ctxfs.context.grounding.statement_split import LocatedStatement, split_statements

    piece_of: dict[LocatedStatement, Piece] = {}
    for piece in memories:
        for statement in split_statements(piece.path, piece.text, piece.first, piece.heading):
            piece_of.setdefault(statement, piece)
    conflicts = []
    for relation in find_relations(list(piece_of)):
        if relation.comparison.relation is Relation.CONTRADICTS:
            values = [", ".join(side) for side in zip(*relation.comparison.differing, strict=True)]
            statements = (relation.first, relation.second)
            sides = [ConflictSide(item.path, item.line, value) for item, value in zip(statements, values, strict=True)]
            is_first, why = _prefer(piece_of[relation.first], piece_of[relation.second], cited)
            preferred, rest = sides if is_first else sides[::-1]
            conflicts.append(MemoryConflict(preferred, rest, why))
    return conflicts


def _prefer(one: Piece, other: Piece, cited: Collection[str]) -> tuple[bool, str]:
    """Return (True if the first piece is preferred, reason)."""
    if one.untrusted != other.untrusted:
        return other.untrusted, "more trusted"
    is_dated = bool(one.mtime_ns and other.mtime_ns)
    if is_dated and one.mtime_ns // _DAY_NS != other.mtime_ns // _DAY_NS:
        return one.mtime_ns > other.mtime_ns, "newer"
    if (one.path in cited) != (other.path in cited):
        return one.path in cited, "with a source"
    if is_dated and one.mtime_ns != other.mtime_ns:
        return one.mtime_ns > other.mtime_ns, "newer"
    return one.path <= other.path, ""


def pack_with_conflicts(
    pack: Callable[[Sequence[str]], Plan], cited: Collection[str], budget: int, count: Callable[[str], int]
) -> tuple[Plan, tuple[str, ...], tuple[MemoryConflict, ...]]:
    """Pack pieces beside the lines that name their conflicts; return (plan, those lines, all conflicts).

    `pack` returns the plan of a context whose notes begin with these lines. The lines take space, so that the pieces are
    packed again; a plan without conflicts is the first one, unchanged.
    """
    plan = pack(())
    lines: tuple[str, ...] = ()
    conflicts = find_conflicts(plan.chosen, cited)
    for _ in range(_MAX_ROUNDS):
        wanted = _fitting_lines(conflicts, budget, count)
        if set(wanted) <= set(lines):
            break
        lines = tuple(dict.fromkeys((*wanted, *lines)))[:_MAX_LINES]
        plan = pack(lines)
        conflicts = find_conflicts(plan.chosen, cited)
    named = {conflict.text for conflict in conflicts}
    if conflicts:
        plan.chosen[:] = _preferred_first(plan.chosen, conflicts)
    return plan, tuple(line for line in lines if line in named), tuple(conflicts)


def _fitting_lines(conflicts: Sequence[MemoryConflict], budget: int, count: Callable[[str], int]) -> list[str]:
    lines = list(dict.fromkeys(conflict.text for conflict in conflicts))[:_MAX_LINES]
    while lines and count("\n".join(lines)) > _LINES_SHARE * budget:
        lines.pop()
    return lines


def _preferred_first(chosen: Sequence[Piece], conflicts: Sequence[MemoryConflict]) -> list[Piece]:
    """Return the pieces with each preferred file before the file that it contradicts; pins stay where they are."""
    order = list(chosen)
    for conflict in conflicts:
        preferred = [piece for piece in order if piece.path == conflict.preferred.path and not piece.is_pinned]
        position = next((n for n, piece in enumerate(order) if piece.path == conflict.other.path), len(order))
        late = [piece for piece in preferred if order.index(piece) > position]
        if len(late) == len(preferred) and late and not order[position].is_pinned:
            order = [piece for piece in order if piece not in late]
            order[position:position] = late
    return order
