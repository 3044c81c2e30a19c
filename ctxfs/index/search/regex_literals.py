"""Literals that every line must contain in order to match a regular expression. Pure.

The result is a list of sets. A line must contain one text of each set.
For example, `(foo|bar)baz+` needs one of {foo, bar} and one of {ba}.
Literals and lines are compared in the form of `fold_literal`, which equates more than the expression does.
The condition may be weaker than the expression, never stronger.
It is derived from the standard library's own parse of the expression.
"""

import re
from collections.abc import Iterable
from re import _constants as sre  # type: ignore[attr-defined]  # no public parser of expressions exists
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from ctxfs.index.normal_form import fold_literal

Needed = list[frozenset[str]]

MIN_LITERAL_CHARS = 3  # the index consists of trigrams, and shorter literals are in every file


def needed_literals(pattern: str, *, ignore_case: bool = False) -> Needed:
    """Return the sets of folded literals, each of at least `MIN_LITERAL_CHARS` characters.

    Raise `re.error` for an invalid expression.
    """
    literals = _collect_from_sequence(parser.parse(pattern, re.IGNORECASE if ignore_case else 0))
    folded = (frozenset(map(fold_literal, alternatives)) for alternatives in literals)
    return list(dict.fromkeys(item for item in folded if all(len(text) >= MIN_LITERAL_CHARS for text in item)))


def _collect_from_sequence(items: Iterable[tuple[Any, Any]]) -> Needed:
    needed: Needed = []
    run = ""
    for kind, value in items:
        if kind is sre.LITERAL:
            run += chr(value)
        elif kind is sre.AT:
            continue  # an anchor has no width, so that the literals around it are adjacent
        else:
            needed += [frozenset((run,))] if run else []
            run = ""
            needed += _collect_from_item(kind, value)
    return needed + ([frozenset((run,))] if run else [])


def _collect_from_item(kind: Any, value: Any) -> Needed:
    if kind is sre.SUBPATTERN:
        return _collect_from_sequence(value[3])
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        return _collect_from_sequence(value[2]) if value[0] >= 1 else []
    if kind is sre.ATOMIC_GROUP:
        return _collect_from_sequence(value)
    if kind is sre.BRANCH:
        best = [max(_collect_from_sequence(branch), key=_min_length, default=None) for branch in value[1]]
        return [frozenset().union(*(item for item in best if item))] if all(best) else []
    return []  # sets, dots, look-arounds and back references require no literal


def _min_length(alternatives: frozenset[str]) -> int:
    return min(map(len, alternatives))
