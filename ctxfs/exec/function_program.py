"""A Python function as a program: `python function_program.py module:function [--schema]`; arguments are JSON on stdin.

The type hints of the parameters make the schema; the docstring is the description. The return value is the output: text
as it is, anything else as JSON.
"""

import hashlib
import importlib.util
import inspect
import json
import os
import sys
from typing import Any

import pydantic
import pydantic_core


def main() -> int:
    """Run the function, or print its definition. Return 1, with a line on stderr, if the function raises."""
    del sys.path[0]  # the folder of this file, whose modules could shadow others
    module, _, name = sys.argv[1].partition(":")
    function: Any = approved_module(module, os.environ.get("CTXFS_APPROVED", ""), sys.argv[1])
    for part in name.split("."):
        function = getattr(function, part)
    if "--schema" in sys.argv[2:]:
        print(json.dumps(definition(function)))
        return 0
    arguments = json.loads(sys.stdin.buffer.read() or b"{}")
    try:
        result = pydantic.TypeAdapter(function).validate_python(pydantic_core.ArgsKwargs((), arguments))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(result if isinstance(result, str) else pydantic_core.to_json(result, indent=1).decode() + "\n")
    return 0


def approved_module(name: str, approved: str, function: str) -> Any:
    """Return the module, compiled from the source whose digest is `approved`, never from a compiled file beside it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise SystemExit(f"the module '{name}' has no source")
    with open(spec.origin, "rb") as file:
        source = file.read()
    if approved and hashlib.sha256(f"{function}\0".encode() + source).hexdigest() != approved:
        raise SystemExit("it has changed since it was approved")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(source, spec.origin, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - approved source
    return module


def definition(function: Any) -> dict[str, Any]:
    """Return the definition of a function with the keys of a tool.toml.

    `read_only` and the like are attributes of the function; without them the defaults for the riskiest tool apply.
    """
    doc = inspect.getdoc(function) or function.__name__
    schema = pydantic.TypeAdapter(function).json_schema()
    fields = {"description": " ".join(doc.split("\n\n")[0].split())[:300], "input": schema}
    marks = ("read_only", "destructive", "open_world", "timeout_seconds", "memory_mb")
    return {**fields, **{mark: getattr(function, mark) for mark in marks if hasattr(function, mark)}}


if __name__ == "__main__":
    sys.exit(main())
