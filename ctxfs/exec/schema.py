"""Values against a JSON Schema. The library is loaded with the first check, so that whatever lists tools starts sooner."""

from collections.abc import Mapping
from typing import Any

from ctxfs.model.path import printable

_LONGEST = 300


class Schema:
    """A schema, compiled when it is first used."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._validator: Any = None

    def wrong(self, arguments: Mapping[str, Any]) -> str:
        """What is wrong with the arguments, in a sentence; empty if nothing is."""
        fault = self.fault_in(arguments)
        if not fault:
            return ""
        known = ", ".join(self._schema.get("properties", {}))
        return f"{fault}. Arguments: {known or 'none'}."

    def fault_in(self, value: Any) -> str:
        """What the schema says against a value; empty if nothing."""
        if self._validator is None:
            import jsonschema
            import referencing

            # An empty registry: what a schema refers to outside itself is never fetched.
            self._validator = jsonschema.Draft202012Validator(dict(self._schema), registry=referencing.Registry())
        try:
            errors = sorted(self._validator.iter_errors(value), key=lambda error: list(map(str, error.path)))
        except Exception as error:  # the libraries below raise what they like for a schema that cannot be used
            return f"its schema cannot be used: {printable(str(error))[:_LONGEST]}"
        if not errors:
            return ""
        at = ".".join(map(str, errors[0].path))
        said = printable(errors[0].message)
        if len(said) > _LONGEST:
            said = f"{said[: _LONGEST // 2]} … {said[-_LONGEST // 2 :]}"
        return f"{f'{at}: ' if at else ''}{said}"


def fault_of(schema: Mapping[str, Any]) -> str:
    """Why this is no JSON Schema; empty if it is one."""
    import jsonschema

    try:
        jsonschema.Draft202012Validator.check_schema(dict(schema))
    except jsonschema.SchemaError as error:
        return printable(error.message)[:_LONGEST]
    return ""
