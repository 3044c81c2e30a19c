"""The cosines of a question to unrelated chunks, which put those of other models on the scale of the built-in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ctxfs.index.engines.model_files import MODEL_NAME

if TYPE_CHECKING:
    # Imported by the view: see `searcher`.
    from ctxfs.index.engines.vectors import Vectors
    from ctxfs.index.search.features import Numbers
    from ctxfs.index.search.view import IndexView

_BACKGROUND_CHUNKS = 256

# The vector of a question, the visible vectors, and the mean and deviation of its cosines to them; None without any.
MeasuredBackground = tuple["Vectors", "Numbers", tuple[float, float] | None]


def measure_background(view: IndexView, vector: Vectors) -> tuple[float, float] | None:
    """Return mean and deviation of the cosines of a question to visible chunks, spread over the index.

    None for the built-in model, whose cosines are the scale of all thresholds, and without vectors.
    """
    if view.vectors is None or view.model is None or view.model.name.startswith(MODEL_NAME):
        return None
    living, measured = view.living_vectors(), view.measured_background
    # Measured twice for a question; the living vectors are the same object until the next commit.
    if measured is not None and measured[0] is vector and measured[1] is living:
        return measured[2]
    sample = view.vectors.cosines(vector, living[:: max(1, len(living) // _BACKGROUND_CHUNKS)])
    sample = sample[~np.isnan(sample)]
    background = (float(sample.mean()), float(sample.std())) if len(sample) else None
    view.measured_background = vector, living, background
    return background
