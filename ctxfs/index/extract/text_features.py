"""What a unit of text is like, besides its words: who says it, when, and how. Pure."""

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
    """How something is said."""

    SAYS_WHEN = 1
    ASKS = 2
    FIRST_PERSON = 4


def traits(text: str, author: str) -> TextFeature:
    """Of what somebody says; a text of nobody's has none."""
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
    """Words in a text."""
    return len(text.split())


def essence(text: str, heading: str, author: str) -> str:
    """What is embedded: the heading and the text; of a turn without the name before it, which questions name and which says
    nothing; of a JSON record its values."""
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
