"""Comparison of two statements with the same words in another order, and another value each. Pure.

"The rent of the studio is 700 euros" and "The studio rents for €850": no attribute has to be known, because the words
agree. Only verbs without content of their own may differ.
"""

from collections import Counter

from ctxfs.context.grounding import statement_words as words
from ctxfs.context.grounding.statement_scan import Token
from ctxfs.context.grounding.statements import Statement
from ctxfs.context.grounding.value_comparison import are_comparable, are_opposite_ends, values_match

_VALUE_KINDS = ("quantity", "date", "version", "clock")
_LIGHT_VERBS = frozenset(
    words.word_stem(verb)
    for verb in "come amount make take place happen occur get set hold be have run total equal cost stay remain".split()
)


def differing_values(first: Statement, second: Statement) -> tuple[str, str] | None:
    """Return the values of two statements that differ in one value and in the wording only; None for others."""
    ours, theirs = _only_value(first), _only_value(second)
    if ours is None or theirs is None or ours.kind != theirs.kind or not are_comparable(ours, theirs):
        return None
    shared = first.keys & second.keys
    if len(shared - _LIGHT_VERBS) < 1 or len(shared) < 2 or _word_counts(first) != _word_counts(second):
        return None
    if not (first.has_subject and second.has_subject) or first.qualifiers - shared != second.qualifiers - shared:
        return None
    if are_opposite_ends(ours, theirs) or values_match(ours, theirs):
        return None
    return ours.text, theirs.text


def _word_counts(statement: Statement) -> Counter[str]:
    return Counter(
        token.key
        for token in statement.tokens
        if token.kind in ("word", "name") and not token.is_aside and token.key not in _LIGHT_VERBS
    )


def _only_value(statement: Statement) -> Token | None:
    """Return the value of a statement that has one, outside of asides, and is no condition, label or open reference."""
    values = [token for token in statement.tokens if token.kind in _VALUE_KINDS]
    if len(values) != 1 or statement.is_deictic or statement.condition_denials:
        return None
    is_plain = not values[0].is_aside and not values[0].is_label and values[0].role != "subject"
    return values[0] if is_plain else None
