"""Comparison of two values of statements: quantities of any unit, dates, clocks, versions. Pure."""

from fractions import Fraction

from ctxfs.context.grounding.quantities import CURRENCIES, SAME_DEGREES, Match, Quantity
from ctxfs.context.grounding.sentence_values import differing_dates
from ctxfs.context.grounding.statement_scan import Token

_BEGINNINGS = frozenset(("from", "since", "after"))
_ENDS = frozenset(("until", "till", "to", "by", "through", "before"))
_SPANS = frozenset(("time", "calendar"))
_MONTH_SECONDS = Fraction(2_629_746)  # a mean month
_SPAN_SHARE = Fraction(1, 15)  # by which a month may differ from 30 days
_BINARY_RATIOS = frozenset(Fraction(1024**power, 1000**power) for power in range(1, 5))


def values_match(a: Token, b: Token) -> bool:
    """Return True if two values may be the same: one is a bound that allows the other, or a date is less exact."""
    if a.is_label and b.is_label and is_part(a.text, b.text):
        return True
    if a.quantity is not None and b.quantity is not None:
        return _quantities_match(a.quantity, b.quantity)
    if a.date is not None and b.date is not None:
        return not differing_dates((a.date,), (b.date,))
    return a.key == b.key


def is_inexact(a: Token, b: Token) -> bool:
    """Return True if two values that match are not the same."""
    if a.quantity is None or b.quantity is None:
        return a.date is not None and b.date is not None and a.key != b.key
    return Match.EQUAL not in (a.quantity.compare(b.quantity), b.quantity.compare(a.quantity))


def are_comparable(a: Token, b: Token) -> bool:
    """Return True if one value could stand in the place of the other."""
    if a.quantity is not None and b.quantity is not None:
        dimensions = {a.quantity.beside(b.quantity).dimension, b.quantity.beside(a.quantity).dimension}
        is_one = len(dimensions) == 1 or dimensions <= CURRENCIES or dimensions <= _SPANS or dimensions in SAME_DEGREES
        return is_one and a.is_label == b.is_label
    return (":" in a.key) == (":" in b.key)


def are_opposite_ends(a: Token, b: Token) -> bool:
    """Return True for the beginning and the end of a time or range: "open from 9:00" and "open until 18:00"."""
    return (a.before in _BEGINNINGS and b.before in _ENDS) or (a.before in _ENDS and b.before in _BEGINNINGS)


def is_part(one: str, other: str) -> bool:
    """Return True for versions of which one is the other or a part of it: 3 and 3.2."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _quantities_match(one: Quantity, other: Quantity) -> bool:
    one, other = one.beside(other), other.beside(one)
    if Match.DIFFERENT not in (one.compare(other), other.compare(one)):
        return True
    if {one.dimension, other.dimension} == _SPANS:
        first, second = _seconds(one), _seconds(other)
        return abs(first - second) <= _SPAN_SHARE * max(first, second)
    if one.dimension != other.dimension or one.rate != other.rate:
        return False
    if one.dimension == "data" and one.value and other.value:
        larger, smaller = max(one.value, other.value), min(one.value, other.value)
        if larger / smaller in _BINARY_RATIOS:
            return True
    return _allows(one, other) or _allows(other, one)


def _allows(bound: Quantity, value: Quantity) -> bool:
    """Return True for a bound that an exact value keeps: at least 30 days, and 90 days."""
    if value.bound or bound.bound not in ("at least", "at most"):
        return False
    return value.value >= bound.value if bound.bound == "at least" else value.value <= bound.value


def _seconds(quantity: Quantity) -> Fraction:
    return quantity.value * (_MONTH_SECONDS if quantity.dimension == "calendar" else 1)
