"""Order of hits by validity: files that are no longer valid come last, and are marked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ctxfs.index.query import Query
from ctxfs.index.search.results import Hit, SearchResults
from ctxfs.memory.validity import UNTIL, validity_of

if TYPE_CHECKING:
    from ctxfs.index.search.view import IndexView

_RANK_STEP = 1e-5
_SHARE = "validity"


def rank_ended_last(view: IndexView, query: Query, results: SearchResults) -> SearchResults:
    """Return the results with the hits of files whose validity has ended last, unless the query names a time.

    The difference of their score is the share `validity`.
    """
    now = time.time()
    if query.valid is not None or not results.hits or not view.may_have_ended(now):
        return results
    attributes = view.attributes_of({hit.path for hit in results.hits})
    ended = {path: values[UNTIL] for path, values in attributes.items() if validity_of(values).is_over(now)}
    return replace(results, hits=_order(results.hits, ended)) if ended else results


def _order(hits: Sequence[Hit], ended: Mapping[str, str]) -> list[Hit]:
    valid = [hit for hit in hits if hit.path not in ended]
    lowest = min((hit.score for hit in valid), default=max(hit.score for hit in hits))
    out = list(valid)
    for rank, hit in enumerate((hit for hit in hits if hit.path in ended), 1):
        score = min(hit.score, lowest - _RANK_STEP * rank)
        shares = {**hit.shares, _SHARE: score - hit.score}
        out.append(replace(hit, score=score, shares=shares, valid_until=ended[hit.path]))
    return out
