"""Validation against a JSON Schema. The library is imported at the first check, so that listing tools starts sooner.

Schemas come from servers and sources, values from agents. So a check is bounded in time (`allOf` over references can be
exponential), and patterns are matched in linear time.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from itertools import islice
from typing import Any

from ctxfs.model.path import printable

MAX_CPU_SECONDS = 1.0  # of one check
MAX_UNIQUE_ITEMS = 1000  # the library compares all pairs
_MAX_ERRORS = 100
_MAX_MESSAGE_CHARACTERS = 300
_deadline: ContextVar[float] = ContextVar("schema_deadline")  # of this thread's processor time

Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]


class UnusableSchema(ValueError):
    """A schema that cannot be checked within its bounds; the message gives the reason."""


class Schema:
    """A schema, compiled at its first use."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._validator: Any = None

    def describe_fault(self, arguments: Mapping[str, Any]) -> str:
        """Return the first error in the arguments, as a sentence that names the valid ones; empty if there is none."""
        fault = self.fault_in(arguments)
        if not fault:
            return ""
        names = ", ".join(self._schema.get("properties", {}))
        return f"{fault}. Arguments: {names or 'none'}."

    def fault_in(self, value: Any) -> str:
        """Return the first error in a value; empty if there is none."""
        if self._validator is None:
            import referencing

            # An empty registry: references to other documents are never fetched.
            self._validator = _bounded_validator()(dict(self._schema), registry=referencing.Registry())
        try:
            _check_bounds(self._schema)
            errors = _bounded_errors(self._validator, value)
        except Exception as error:  # the libraries raise various exceptions for unusable schemas
            return f"its schema cannot be used: {printable(str(error))[:_MAX_MESSAGE_CHARACTERS]}"
        if not errors:
            return ""
        location = ".".join(map(str, errors[0].path))
        message = printable(errors[0].message)
        if len(message) > _MAX_MESSAGE_CHARACTERS:
            message = f"{message[: _MAX_MESSAGE_CHARACTERS // 2]} … {message[-_MAX_MESSAGE_CHARACTERS // 2 :]}"
        return f"{f'{location}: ' if location else ''}{message}"


def fault_of(schema: Mapping[str, Any]) -> str:
    """Return why a value is no JSON Schema; empty if it is one."""
    validator = _bounded_validator()
    try:
        _check_bounds(schema)
        errors = _bounded_errors(validator(validator.META_SCHEMA), dict(schema))
    except (UnusableSchema, RecursionError) as error:
        return printable(str(error))[:_MAX_MESSAGE_CHARACTERS]
    return printable(errors[0].message)[:_MAX_MESSAGE_CHARACTERS] if errors else ""


def _bounded_errors(validator: Any, value: Any) -> list[Any]:
    """Return the first errors in the order of their paths.

    Raise UnusableSchema if a check takes more than MAX_CPU_SECONDS.
    """
    token = _deadline.set(time.thread_time() + MAX_CPU_SECONDS)
    try:
        return sorted(islice(validator.iter_errors(value), _MAX_ERRORS), key=lambda error: list(map(str, error.path)))
    finally:
        _deadline.reset(token)


@lru_cache(maxsize=1)
def _bounded_validator() -> Any:
    """Return the library's validator with a deadline at every keyword, and with the keywords for patterns replaced."""
    import jsonschema

    base = jsonschema.Draft202012Validator
    keywords: dict[str, Keyword] = {
        **base.VALIDATORS,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _few_items(base.VALIDATORS["uniqueItems"]),
    }
    return jsonschema.validators.extend(  # type: ignore[no-untyped-call]  # it has no annotations
        base, {name: _timed(check) for name, check in keywords.items()}
    )


def _timed(check: Keyword) -> Keyword:
    def timed(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if time.thread_time() > _deadline.get():
            raise UnusableSchema(f"a check takes more than {MAX_CPU_SECONDS:g} s")
        yield from check(validator, value, instance, schema) or ()

    return timed


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[Any]:
    import jsonschema

    if validator.is_type(instance, "string") and not _search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for name, value in instance.items():
            if _search(pattern, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
    import jsonschema

    if not validator.is_type(instance, "object"):
        return
    properties, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [name for name in instance if name not in properties and not any(_search(p, name) for p in patterns)]
    if validator.is_type(allowed, "object"):
        for name in extras:
            yield from validator.descend(instance[name], allowed, path=name)
    elif not allowed and extras:
        names = ", ".join(map(repr, extras[:10]))
        were = "was" if len(extras) == 1 else "were"
        yield jsonschema.ValidationError(f"Additional properties are not allowed ({names} {were} unexpected)")


def _search(pattern: str, text: str) -> bool:
    from ctxfs.exec.linear_patterns import search_linear

    return search_linear(pattern, text)


def _check_bounds(schema: Any) -> None:
    """Raise UnusableSchema for keywords that the library would evaluate unbounded, with its own pattern matching."""
    names: set[str] = set()
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            names.update(part)
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)
    unevaluated = names & {"unevaluatedProperties", "unevaluatedItems"}
    if unevaluated and (others := names & {"patternProperties", "dependentSchemas"}):
        raise UnusableSchema(f"{min(unevaluated)} beside {min(others)} cannot be checked in bounded time")


def _few_items(check: Keyword) -> Keyword:
    def guarded(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if isinstance(instance, list) and len(instance) > MAX_UNIQUE_ITEMS:
            raise UnusableSchema(f"uniqueItems is checked for {MAX_UNIQUE_ITEMS} items at most")
        yield from check(validator, value, instance, schema) or ()

    return guarded
