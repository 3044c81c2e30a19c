"""Turns that repeat a question: the record of a prompt has all words of the question, and no answer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ctxfs.index.query import Query
    from ctxfs.index.search.rank_fusion import Flags

_MIN_SHARE = 0.8  # of the terms of the question
_MIN_TERMS = 2  # a turn of one word may be the answer
_MAX_LENGTH_RATIO = 2


def flag_repetitions(
    texts: Sequence[str], are_questions: Flags, query: Query, analyse: Callable[[str], list[str]]
) -> Flags:
    """Return True for each text [n] without a term beside those of the question that is a question, or has most of them.

    `texts` are the statements of turns without their speakers, empty for hits that are no turns. "Tabs." has no term
    beside those of "tabs or spaces", and may be the answer.
    """
    flags = np.zeros(len(texts), dtype=np.bool_)
    max_characters = _MAX_LENGTH_RATIO * len(query.text)
    short = [(index, text) for index, text in enumerate(texts) if 0 < len(text) <= max_characters]
    if not short or query.phrases or query.must:
        return flags
    asked = set(analyse(query.plain_text))
    if len(asked) < _MIN_TERMS:
        return flags
    allowed = asked.union(analyse(query.text))  # with the names of authors, which the hints may have taken out
    for index, text in short:
        terms = set(analyse(text))
        has_most = len(terms & asked) >= max(_MIN_TERMS, _MIN_SHARE * len(asked))
        flags[index] = terms <= allowed and (has_most or bool(are_questions[index]))
    return flags
