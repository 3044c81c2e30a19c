"""A parser of untrusted TOML in bounded time. Pure.

The standard parser recurses on nesting, and its time is quadratic in the parts of a dotted key: 40 KB of `a.a.a…` take
seconds.
"""

import json
import re
import tomllib
from typing import Any

MAX_BYTES = 256 * 1024
MAX_KEY_PARTS = 64

# Keys, bare or quoted; blanks; any other single character.
_TOKEN = re.compile(r"[\w-]+|\"[^\"\n]*\"|'[^'\n]*'|[ \t]+|.", re.DOTALL)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a document.

    Raise tomllib.TOMLDecodeError, also for a document that is too large or nested too deeply.
    """
    if len(text) > MAX_BYTES:
        raise tomllib.TOMLDecodeError(f"it is larger than {MAX_BYTES} characters")
    if _has_long_key(text):
        raise tomllib.TOMLDecodeError(f"a key has more than {MAX_KEY_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise tomllib.TOMLDecodeError("it is nested too deeply") from error
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # a number of too many digits, a date that does not exist
        raise tomllib.TOMLDecodeError(str(error)) from error


def quote_toml(text: str) -> str:
    """Return a text as a basic string of TOML, whose escapes are those of JSON, and one more."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _has_long_key(text: str) -> bool:
    parts, after_dot = 0, True
    for part in _TOKEN.findall(text):
        if part == ".":
            after_dot = True
        elif part[0] in " \t":
            continue
        elif part[0] in "\"'" or part[0].isalnum() or part[0] in "_-":
            parts = parts + 1 if after_dot else 1
            after_dot = False
            if parts > MAX_KEY_PARTS:
                return True
        else:
            parts, after_dot = 0, True
    return False
