"""Text that its author excludes from the event log, between `<private>` and `</private>`. Pure; standard library only.

Tags may be in any case, contain spaces and attributes, or be escaped as in JSON strings (`\\u003c`) and HTML (`&lt;`).
They nest. A tag without its end hides the rest of the text.
"""

import re
from collections.abc import Callable
from typing import Any

_WORD = "private"
# Each repetition is bounded or cannot match at two positions, so that a search is linear.
_TAG = re.compile(
    rf"(?:<|\\u003c|&lt;)\s{{0,9}}(?P<end>/\s{{0,9}})?{_WORD}(?:[\s/][^<>&\\]{{0,100}})?(?:>|\\u003e|&gt;)",
    re.IGNORECASE,
)


def strip_private(text: str) -> str:
    """Return the text without its private parts and their tags. Linear in the length of the text."""
    if "<" not in text and "\\" not in text and "&" not in text:
        return text
    parts: list[str] = []
    depth, begin = 0, 0
    for match in _TAG.finditer(text):
        if not depth:
            parts.append(text[begin : match.start()])
        depth = max(0, depth - 1) if match["end"] else depth + 1
        begin = match.end()
    if not begin:
        return text
    if not depth:
        parts.append(text[begin:])
    return "".join(parts)


def strip_private_values(value: Any) -> Any:
    """Return a JSON value whose texts, at any depth, are without private parts."""
    return map_texts(value, strip_private)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with each of its texts, at any depth, changed. Names of members stay.

    The depth of the value is that of `json.loads`, which limits it.
    """
    match value:
        case str():
            return change(value)
        case list():
            return [map_texts(item, change) for item in value]
        case dict():
            return {name: map_texts(item, change) for name, item in value.items()}
        case _:
            return value
