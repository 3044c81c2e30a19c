"""The attribute `confidence` of files as a ranking signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctxfs.index.query import Query
from ctxfs.model.path import ROOT

if TYPE_CHECKING:
    from ctxfs.index.search.features import Numbers
    from ctxfs.index.search.rank_fusion import Column
    from ctxfs.index.search.view import IndexView

# In the order of names: the attribute wins over a field of the text.
_SELECT = "SELECT file, value FROM attributes WHERE name IN ('confidence', 'text.confidence') AND file IN ({}) ORDER BY name DESC"

_ANY_CONFIDENCE = Query("", confidence=(0.0, 1.0))


def confidence_column(view: IndexView, files: Numbers) -> Column | None:
    """Return the confidence of each file, from -1 to 1, and 0 without the attribute; None if no file has it."""
    with_confidence = view.filtered_chunks(_ANY_CONFIDENCE, ROOT)  # cached: most trees have none
    if with_confidence is not None and not with_confidence.count and not view.overlay:
        return None
    numbers = list(set(files.tolist()))
    if with_confidence is not None and not with_confidence.count:
        numbers = [number for number in numbers if number < 0]
    rows = view.catalog.select_among(_SELECT, [number for number in numbers if number > 0])
    values = {**view.overlay.confidences(), **{number: float(value) for number, value in rows}}
    if values.keys().isdisjoint(numbers):
        return None
    return np.array([2 * values.get(number, 0.5) - 1 for number in files.tolist()])
