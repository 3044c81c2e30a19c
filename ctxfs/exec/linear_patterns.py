"""Regular expressions of foreign schemas, matched in linear time. The only module that uses RE2.

The `pattern` of a schema comes from a server or a source, the text from an agent. Python's engine backtracks and cannot
be interrupted: `(a+)+$` on forty letters hangs a daemon. RE2 takes time in proportion to pattern and text. Its classes
(`\\d`, `\\w`) are ASCII like those of ECMA-262, which JSON Schema requires.
"""

from functools import lru_cache
from typing import Any

import re2

MAX_PATTERN_CHARS = 2000
# RE2's slow path takes some 50 ns an instruction and byte: this is at most seconds, outside of the interpreter's lock.
MAX_WORK = 50_000_000
_MAX_MEMORY_BYTES = 8 << 20


class UnusablePattern(ValueError):
    """A pattern that RE2 cannot match (look-around, back references), or a text that is too long for it.

    The message gives the reason.
    """


def search_linear(pattern: str, text: str) -> bool:
    """Return True if `pattern` matches somewhere in `text`. Raise UnusablePattern."""
    compiled = _compile(pattern)
    data = text.encode("utf-8", "replace")
    if compiled.programsize * len(data) > MAX_WORK:
        raise UnusablePattern(f"a text of {len(data)} bytes is too long for the pattern {pattern[:60]!r}")
    return compiled.search(data) is not None


@lru_cache(maxsize=256)
def _compile(pattern: str) -> Any:
    if len(pattern) > MAX_PATTERN_CHARS:
        raise UnusablePattern(f"a pattern has {MAX_PATTERN_CHARS} characters at most")
    options = re2.Options()
    options.max_mem, options.log_errors = _MAX_MEMORY_BYTES, False
    try:
        return re2.compile(pattern.encode("utf-8", "replace").decode(), options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        message = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise UnusablePattern(f"the pattern {pattern[:60]!r} cannot be matched in linear time: {message}") from error
