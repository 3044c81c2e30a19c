"""Candidate filter: excludes expired, deprecated, superseded, quarantined, stale, low-scoring and duplicate pieces. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ctxfs.context.build.copy_detection import CopyDetector
from ctxfs.context.build.piece import Exclusion, Piece, Reason
from ctxfs.index.search.file_status import FileStatus
from ctxfs.memory.validity import UNTIL, validity_of


@dataclass(frozen=True, slots=True)
class FilterCriteria:
    """The exclusion criteria of a request; `now_ns` decides on expiry, `since_ns` (0: no limit) on staleness.

    `broken` has the state, `changed` or `gone`, of files whose cited lines no longer hold. `min_score` is a probability.
    `should_fill` accepts hits that are not relevant.
    """

    now_ns: int
    since_ns: int = 0
    min_score: float | None = None
    statuses: Mapping[str, FileStatus] = field(default_factory=dict)
    should_drop_untrusted: bool = False
    should_fill: bool = False
    broken: Mapping[str, str] = field(default_factory=dict)
    should_drop_stale: bool = False


def filter_candidates(
    pins: Sequence[Piece], candidates: Iterable[Piece], rules: FilterCriteria
) -> tuple[list[Piece], list[Exclusion]]:
    """Return the accepted candidates and the exclusions with reasons, in the order given. Pins are always accepted."""
    accepted: list[Piece] = []
    exclusions: list[Exclusion] = []
    bodies = {pin.body: pin.path for pin in pins}
    lines: dict[str, list[tuple[int, int]]] = {}
    pieces = [*pins, *candidates]
    copies = CopyDetector(pieces)
    for pin in pins:
        lines.setdefault(pin.path, []).append((pin.first, pin.last))
    seen_keys = set[tuple[str, int, int]]()
    for piece in pieces[len(pins) :]:
        if piece.is_pinned or (key := (piece.path, piece.first, piece.last)) in seen_keys:
            continue  # another query matched it, too
        seen_keys.add(key)
        status = rules.statuses.get(piece.path)
        reason, other = _refusal_of(piece, status, rules)
        if reason is None and (original := copies.original_of(piece)) is not None:
            # A refusal of the original applies to its copy, too; otherwise the original represents both.
            reason, other = _refusal_of(original, rules.statuses.get(original.path), rules)
            reason, other = reason or "recalled", other or original.path
        if reason is None:
            body = piece.body
            is_covered = any(first <= piece.first and piece.last <= last for first, last in lines.get(piece.path, ()))
            if is_covered or body in bodies:
                reason, other = "duplicate", piece.path if is_covered else bodies[body]
            else:
                bodies[body] = piece.path
        if reason is None and piece.is_whole:
            lines.setdefault(piece.path, []).append((piece.first, piece.last))
        if reason is None:
            accepted.append(mark_piece(piece, rules))
        else:
            exclusions.append(Exclusion(piece, reason, other))
    return accepted, exclusions


def mark_piece(piece: Piece, rules: FilterCriteria) -> Piece:
    """Return the piece with the marks and the origin of its file.

    The marks: untrusted, resting on lines that no longer hold, no longer valid.
    """
    status, stale = rules.statuses.get(piece.path), rules.broken.get(piece.path, "")
    if status is None and not stale:
        return piece
    status = status or FileStatus()
    has_ended = validity_of({UNTIL: status.valid_until}).is_over(rules.now_ns / 1e9)
    return replace(
        piece,
        untrusted=status.untrusted,
        source=status.source,
        stale=stale,
        valid_until=status.valid_until if has_ended else "",
    )


def _refusal_of(piece: Piece, status: FileStatus | None, rules: FilterCriteria) -> tuple[Reason | None, str]:
    if status is not None:
        if status.quarantined:
            return "quarantined", ""
        if status.expires_ns is not None and status.expires_ns <= rules.now_ns:
            return "expired", ""
        if status.deprecated:
            return "deprecated", ""
        if status.conflict_of:
            return "conflict", status.conflict_of
        if status.untrusted and rules.should_drop_untrusted:
            return "untrusted", ""
        if status.superseded_by:
            return "superseded", status.superseded_by
    if rules.should_drop_stale and piece.path in rules.broken:
        return "source-changed", ""
    if piece.mtime_ns < rules.since_ns and not piece.is_whole:
        return "stale", ""
    if piece.why == "search" and _is_too_weak(piece, rules):
        return "low-score", ""
    return None, ""


def _is_too_weak(piece: Piece, rules: FilterCriteria) -> bool:
    if rules.min_score is not None:
        # The score of a piece without a probability is 1 or more if it passes a filter or has exact words.
        return (piece.score if piece.p is None else piece.p) < rules.min_score
    return not piece.is_relevant and not rules.should_fill
