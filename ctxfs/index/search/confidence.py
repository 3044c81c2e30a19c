"""The attribute `confidence` of files as a ranking signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ctxfs.index.search.features import Numbers
    from ctxfs.index.search.rank_fusion import Column
    from ctxfs.index.search.view import IndexView

# In the order of names: the attribute wins over a field of the text.
_SELECT = "SELECT file, value FROM attributes WHERE name IN ('confidence', 'text.confidence') AND file IN ({}) ORDER BY name DESC"


def confidence_column(view: IndexView, files: Numbers) -> Column | None:
    """Return the confidence of each file, from -1 to 1, and 0 without the attribute; None if no file has it."""
    numbers = list(set(files.tolist()))
    rows = view.catalog.select_among(_SELECT, [number for number in numbers if number > 0])
    values = {**view.overlay.confidences(), **{number: float(value) for number, value in rows}}
    if values.keys().isdisjoint(numbers):
        return None
    return np.array([2 * values.get(number, 0.5) - 1 for number in files.tolist()])
