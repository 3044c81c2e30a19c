"""Definitions of an identifier among the candidates of a query, by the headings of code, and by its keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctxfs.index.search.view import IndexView

_MAX_CANDIDATES = 100
_SEPARATOR = re.compile(r"\.|::|->|#")
_LATER_PART_SCORE = 0.5  # of a definition that has several chunks
_OTHER_CASE_SCORE = 0.5
# Of a small definition that shares its chunk, and its heading, with others.
_SHARED_CHUNK_SCORE = 0.9
_KEYWORDS = (
    "class|def|define|enum|fn|func|function|interface|macro|macro_rules!|module|namespace|struct|trait|type|union"
)


def score_definitions(view: IndexView, identifier: str, scores: Mapping[int, float]) -> dict[int, float]:
    """Return the chunks that define an identifier, of the best by words (`scores`); the beginnings have 1.0."""
    best = sorted(scores, key=lambda chunk: (-scores[chunk], chunk))[:_MAX_CANDIDATES]
    names = _SEPARATOR.split(identifier)
    keyword = re.compile(rf"\b(?:{_KEYWORDS})\s{{1,8}}{re.escape(names[-1])}(?!\w)")
    definitions: dict[int, float] = {}
    beginnings: set[tuple[str, str]] = set()
    for row in sorted(view.rows(best).values(), key=lambda row: (row.path, row.first)):
        if row.kind != "code":
            continue
        defined = _SEPARATOR.split(row.heading)[-len(names) :]
        if len(names) == 1 and defined != names and keyword.search(row.text):
            definitions[row.id] = _SHARED_CHUNK_SCORE
        elif list(map(str.lower, defined)) == list(map(str.lower, names)):
            is_first = (row.path, row.heading) not in beginnings
            beginnings.add((row.path, row.heading))
            definitions[row.id] = (1.0 if is_first else _LATER_PART_SCORE) * (
                1.0 if defined == names else _OTHER_CASE_SCORE
            )
    return definitions
