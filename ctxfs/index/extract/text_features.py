"""Features of a chunk's text besides its words, and the text that is embedded for it. Pure functions."""

import json
import re
from enum import IntFlag

_TIME_WORDS = re.compile(
    r"\b(yesterday|today|tonight|tomorrow|last|next|ago|week(?:end)?s?|months?|years?|days?|morning|evening|night|recently|"
    r"since|(?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|june|july|august|september|"
    r"october|november|december|(?:19|20)\d\d)\b",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(I|my|me|mine|we|our|us)\b")
_LEAD = re.compile(r"^\s{0,3}(?:\[[^\]\n]{1,40}\]\s*)?[^:\n]{1,60}:\s+")


class TextFeature(IntFlag):
    """Features of an author's text: it mentions a time, ends in a question mark, or uses the first person."""

    SAYS_WHEN = 1
    ASKS = 2
    FIRST_PERSON = 4


def traits(text: str, author: str) -> TextFeature:
    """Return the features of a text; none if it has no author."""
    found = TextFeature(0)
    if not author:
        return found
    if _TIME_WORDS.search(text):
        found |= TextFeature.SAYS_WHEN
    if text.rstrip().endswith("?"):
        found |= TextFeature.ASKS
    if _FIRST_PERSON.search(text):
        found |= TextFeature.FIRST_PERSON
    return found


def word_count(text: str) -> int:
    """Return the number of words in a text."""
    return len(text.split())


def essence(text: str, heading: str, author: str) -> str:
    """Return the text to embed: the heading and the text.

    A dialogue turn loses the name before it, which queries mention and which carries no meaning. A JSON record is
    reduced to its longest string value.
    """
    said = text
    if author:
        said = _values(text) if text.startswith("{") else _LEAD.sub("", text, count=1)
    return f"{heading}\n{said}" if heading else said


def _values(text: str) -> str:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return text
    values = [value for value in record.values() if isinstance(value, str)] if isinstance(record, dict) else []
    return max(values, key=len, default=text) if values else text
