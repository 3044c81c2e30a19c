"""Comparison of two attribute claims: another value of the same attribute and subject. Pure."""

import re
from dataclasses import replace

from ctxfs.context.grounding import statement_words as words
from ctxfs.context.grounding.attribute_claims import TIME, VERSION, AttributeClaim, value_tokens
from ctxfs.context.grounding.statement_scan import Token
from ctxfs.context.grounding.value_comparison import are_comparable, is_part, values_match

_LIMITS = frozenset(("limit", "minimum"))
_VERSION = re.compile(r"(?:(?:version|release)\s)?v?(\d+(?:\.\d+)*(?:-[a-z0-9.]{1,20})?)", re.IGNORECASE)
_ONE = re.compile(r"\b(?:one|an?)\s(?=(?:minute|hour|day|week|month|quarter|year|decade)\b)", re.IGNORECASE)
_WORD = re.compile(r"[^\W_][\w'’+#.-]*")


def differing_claims(one: AttributeClaim | None, other: AttributeClaim | None) -> tuple[str, str] | None:
    """Return the values of two claims that give an attribute of a subject different values; None if they do not."""
    if one is None or other is None or (one.attribute, one.subject) != (other.attribute, other.subject):
        return None
    return (one.value, other.value) if _exclude_each_other(one, other) else None


def _exclude_each_other(one: AttributeClaim, other: AttributeClaim) -> bool:
    if one.attribute.endswith(VERSION):
        versions = _VERSION.fullmatch(one.value), _VERSION.fullmatch(other.value)
        return versions[0] is not None and versions[1] is not None and not is_part(versions[0][1], versions[1][1])
    ours, theirs = _values(one), _values(other)
    if ours or theirs:
        return (
            len(ours) == len(theirs) == 1
            and ours[0].kind == theirs[0].kind
            and (one.attribute != TIME or ours[0].kind in ("clock", "date"))
            and are_comparable(ours[0], theirs[0])
            and not values_match(ours[0], theirs[0])
        )
    if one.attribute == TIME:
        return False
    first, second = _keys(one.value), _keys(other.value)
    return bool(first and second) and not (first <= second or second <= first)


def _values(claim: AttributeClaim) -> list[Token]:
    tokens = value_tokens(_ONE.sub("1 ", claim.value))
    if claim.attribute not in _LIMITS:
        return tokens
    return [replace(token, quantity=replace(token.quantity, bound="")) if token.quantity else token for token in tokens]


def _keys(value: str) -> frozenset[str]:
    found = (match[0].lower() for match in _WORD.finditer(value))
    return frozenset(words.word_stem(word) for word in found if word not in words.FUNCTION_WORDS)
