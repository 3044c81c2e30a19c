"""The token limits of a context: those of its request, the share of records, and the share of one origin. Pure."""

from collections.abc import Sequence

from ctxfs.context.build.pack import Limits, Plan
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.request import Request
from ctxfs.model.path import one_line

HISTORY_KIND = "history"
_MAX_NAMES, _MAX_NAME_CHARS = 3, 80
_HISTORY_SHARE = 0.5  # share of the budget that records may use while files want the rest


def limits_of(request: Request, pieces: Sequence[Piece], origin_share: float) -> Limits:
    """Return the limits for packing `pieces`. `origin_share` is the share of the budget that one origin may use."""
    origin_quota = int(request.budget * max(origin_share, 0.0)) if origin_share < 1 else None
    return Limits(request.budget, request.quotas, request.reserves, _soft_quotas(request, pieces), origin_quota)


def describe_limited_origins(plan: Plan, origin_share: float) -> str:
    """Return a note on the origins of which pieces are left out because of their share; empty for none."""
    origins = dict.fromkeys(one_line(item.other) for item in plan.excluded if item.reason == "origin")
    if not origins:
        return ""
    names = ", ".join(f"'{name[:_MAX_NAME_CHARS]}'" for name in list(origins)[:_MAX_NAMES])
    more = f" and {len(origins) - _MAX_NAMES} others" if len(origins) > _MAX_NAMES else ""
    return f"more from {names}{more} is left out: one origin has at most {origin_share:.0%} of a context"


def _soft_quotas(request: Request, pieces: Sequence[Piece]) -> dict[str, int]:
    """Return the default quota of records: a share of the budget, as long as files want the rest.

    Transcripts repeat the files that were read in them, so that the records of one session may rank before every file.
    A quota of the request replaces the default, and so does a request for records alone.
    """
    has_files = any(piece.kind != HISTORY_KIND for piece in pieces)
    if HISTORY_KIND in request.quotas or not has_files:
        return {}
    return {HISTORY_KIND: int(request.budget * _HISTORY_SHARE)}
