"""JSON objects whose end is missing or damaged: the members before the damage. Pure; standard library only."""

import json
import re
from typing import Any, NamedTuple

_MEMBER = re.compile(r'\s*+,?\s*+("[^"\\]*+(?:\\.[^"\\]*+)*+")\s*+:\s*+')
_STRING_HEAD = re.compile(r'(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
# Not strict: texts of tools contain control characters. NaN and infinity are no JSON for other readers of the log.
LENIENT_DECODER = json.JSONDecoder(parse_constant=lambda _: None, strict=False)


class Members(NamedTuple):
    """The complete members of an object, and the name and the text of the value that the damage cut; both may be empty."""

    complete: dict[str, Any]
    cut_name: str = ""
    cut_value: str = ""


def parse_members(text: str) -> Members:
    """Return the members of an object up to its end or to the damage; none if the text begins with no object.

    Time and memory are linear in the length of the text.
    """
    members: dict[str, Any] = {}
    start = len(text) - len(text.lstrip())
    position = start + 1
    if text[start:position] != "{":
        return Members(members)
    while match := _MEMBER.match(text, position):
        try:
            name = str(LENIENT_DECODER.decode(match[1]))
        except ValueError:
            break
        try:
            members[name], position = LENIENT_DECODER.raw_decode(text, match.end())
        except (ValueError, RecursionError):
            return Members(members, name, text[match.end() :])
    return Members(members)


def decode_cut_text(value: str) -> str | None:
    """Return the text of a string that may have no end, without an incomplete escape; None for another value."""
    if value[:1] != '"':
        return None
    match = _STRING_HEAD.match(value, 1)
    return str(LENIENT_DECODER.decode(f'"{match[0]}"')) if match else ""
