"""Comparison of values with the filters of a query, as the full-text index compares them. Pure."""

from collections.abc import Iterable, Sequence

from ctxfs.index.normal_form import fold_name
from ctxfs.index.query import Query
from ctxfs.memory.states import ACTIVE
from ctxfs.memory.validity import validity_of
from ctxfs.model.path import printable


def fold_values(attributes: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return (name, value) pairs in the form that filters compare."""
    return {(name, fold_name(printable(value))) for name, value in attributes}


def is_under(path: str, folder: str) -> bool:
    """Return True for a folder itself and the paths below it."""
    return path == folder or path.startswith(folder + "/")


def contains_all(terms: Sequence[str], required: Sequence[str]) -> bool:
    """Return True if all required terms, at least one, are among the terms."""
    return bool(required) and set(required) <= set(terms)


def has_confidence_in(attributes: Sequence[tuple[str, str]], bounds: tuple[float, float]) -> bool:
    """Return True if the attribute `confidence` is within inclusive bounds."""
    return any(name == "confidence" and bounds[0] <= float(value) <= bounds[1] for name, value in attributes)


def passes_attributes(attributes: Sequence[tuple[str, str]], query: Query) -> bool:
    """Return True if the attributes of a file have the values, state, confidence and validity of a query."""
    if query.attributes and not fold_values(query.attributes) <= fold_values(attributes):
        return False
    if query.without_attributes and fold_values(query.without_attributes) & fold_values(attributes):
        return False
    if not has_state_of(query, attributes):
        return False
    if query.valid is not None and not validity_of(dict(attributes)).overlaps(query.valid):
        return False
    return query.confidence is None or has_confidence_in(attributes, query.confidence)


def passes_kinds(kind: str, attributes: Iterable[tuple[str, str]], required: Sequence[str]) -> bool:
    """Return True if the kind of a file, or the type in its front matter, is among the required ones; or without any."""
    if not required or kind in required:
        return True
    types = {fold_name(value) for name, value in attributes if name == "kind"}
    return not types.isdisjoint(map(fold_name, required))


def is_of_searched_kind(query: Query, path: str, kind: str, attributes: Iterable[tuple[str, str]]) -> bool:
    """Return True if a file is of one of the kinds that a query searches."""
    if kind in query.without_kinds:
        return False
    return passes_kinds(kind, attributes, query.kinds) or query.kind_folders.contains(path, kind)


def is_within(value: int | None, low: int | None, high: int | None) -> bool:
    """Return True if a value is known and within inclusive bounds; None is no bound."""
    return value is not None and (low is None or low <= value) and (high is None or value <= high)


def has_state_of(query: Query, attributes: Iterable[tuple[str, str]]) -> bool:
    """Return True if a query searches files in the state that the attributes give."""
    state = next((value for name, value in attributes if name == "state"), ACTIVE)
    return state in query.states if query.states else state not in query.without_states
