"""Words of a question that name a date, which a passage has by its day instead of by its text. Pure.

Messages have their time beside the text. Without it, "October" and "2023" would be missing from all of them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

from ctxfs.index.extract.dates import DateMention, find_date_spans
from ctxfs.index.normal_form import normalise

_MONTH_LEVEL, _DAY_LEVEL = 1, 2  # of `DateMention.match_level`
_NUMBER = re.compile(r"\d+")


def match_days(
    words: Sequence[str],
    groups: Sequence[Sequence[str]],
    analyse: Callable[[str], Sequence[str]],
    days: Sequence[int | None],
) -> npt.NDArray[np.bool_]:
    """Return whether the day of a passage [n] is the date that a group of terms [m] is a part of, as an array [n, m].

    `groups` are the terms of the words of a question, each with its other forms. `days` are proleptic Gregorian
    ordinals. A day of the month counts if the day is the same, a month and a year if the month is.
    """
    is_named = np.zeros((len(days), len(groups)), dtype=np.bool_)
    columns: dict[str, list[int]] = {}
    for column, group in enumerate(groups):
        for term in group:
            columns.setdefault(term, []).append(column)
    text = normalise(" ".join(words))
    for (start, end), mention in find_date_spans(text):
        levels = np.array([_match_level(mention, day) for day in days], dtype=np.int64)
        for term in analyse(text[start:end]):
            for column in columns.get(term, ()):
                is_named[:, column] |= levels >= _level_of(term, mention)
    return is_named


def score_days(
    words: Sequence[str],
    weights: Mapping[tuple[str, ...], float],
    analyse: Callable[[str], Sequence[str]],
    days: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return for each day [n] the sum of the weights of the groups of terms that it is the date of."""
    distinct, positions = np.unique(days, return_inverse=True)
    is_named = match_days(words, list(weights), analyse, distinct.tolist())
    scores: npt.NDArray[np.float64] = is_named.astype(np.float64) @ np.array(list(weights.values()), dtype=np.float64)
    return scores[positions]


def _level_of(term: str, mention: DateMention) -> int:
    """Return the level of a match that a part of a date needs."""
    number = _NUMBER.match(term)
    return _DAY_LEVEL if number is not None and int(number[0]) == mention.day else _MONTH_LEVEL


def _match_level(mention: DateMention, day: int | None) -> int:
    is_day = day is not None and 0 < day <= date.max.toordinal()
    return mention.match_level(date.fromordinal(day)) if is_day and day is not None else 0
