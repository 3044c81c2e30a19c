"""What a line must contain to match a regular expression. Pure.

The answer is a list of alternatives, all of which are needed: `(foo|bar)baz+` needs one of {foo, bar} and one of {ba}. It is
allowed to ask for less than the expression does, never for more. Read from the standard library's own parse of the expression.
"""

import re
from collections.abc import Iterable
from re import _constants as sre  # type: ignore[attr-defined]  # there is no public parse of an expression
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

Needed = list[frozenset[str]]

LEAST = 3  # characters: shorter ones are in every file


def needed_literals(pattern: str, *, ignore_case: bool = False) -> Needed:
    """Alternatives of at least `LEAST` characters, in small letters. Raises `re.error` for what is no expression."""
    found = _of_sequence(parser.parse(pattern, re.IGNORECASE if ignore_case else 0))
    kept = (frozenset(text.lower() for text in alternatives) for alternatives in found)
    return list(dict.fromkeys(item for item in kept if all(len(text) >= LEAST for text in item)))


def _of_sequence(items: Iterable[tuple[Any, Any]]) -> Needed:
    needed: Needed = []
    run = ""
    for kind, value in items:
        if kind is sre.LITERAL:
            run += chr(value)
        elif kind is sre.AT:
            continue  # an anchor has no width: what stands around it stands together
        else:
            needed += [frozenset((run,))] if run else []
            run = ""
            needed += _of_item(kind, value)
    return needed + ([frozenset((run,))] if run else [])


def _of_item(kind: Any, value: Any) -> Needed:
    if kind is sre.SUBPATTERN:
        return _of_sequence(value[3])
    if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        return _of_sequence(value[2]) if value[0] >= 1 else []
    if kind is sre.ATOMIC_GROUP:
        return _of_sequence(value)
    if kind is sre.BRANCH:
        best = [max(_of_sequence(branch), key=_selective, default=None) for branch in value[1]]
        return [frozenset().union(*(item for item in best if item))] if all(best) else []
    return []  # sets, dots, look-arounds, back references: nothing that can be relied on


def _selective(alternatives: frozenset[str]) -> int:
    return min(map(len, alternatives))
