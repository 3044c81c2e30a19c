"""Features of a chunk's text besides its words, and the text that is embedded for it. Pure functions."""

import json
import re
from enum import IntFlag

from ctxfs.index.extract.dialogue import strip_marker
from ctxfs.model.path import printable

_MAX_PATH_NAMES = 3
_MAX_PATH_CHARS = 120

_WORD = re.compile(r"\w+")
_TIME_WORDS = frozenset(
    (
        "yesterday today tonight tomorrow last next ago week weeks weekend weekends month months year years day days "
        "morning evening night recently since monday tuesday wednesday thursday friday saturday sunday january february "
        "march april june july august september october november december"
    ).split()
) | frozenset(map(str, range(1900, 2100)))
_FIRST_PERSON = frozenset("I my me mine we our us".split())


class TextFeature(IntFlag):
    """Features of an author's text: it mentions a time, ends in a question mark, or uses the first person."""

    MENTIONS_TIME = 1
    IS_QUESTION = 2
    FIRST_PERSON = 4


def detect_features(text: str, author: str) -> TextFeature:
    """Return the features of a text; none if it has no author."""
    features = TextFeature(0)
    if not author:
        return features
    words = set(_WORD.findall(text))  # a search for the words of the lists takes several times as long
    if not _TIME_WORDS.isdisjoint(map(str.lower, words)):
        features |= TextFeature.MENTIONS_TIME
    if text.rstrip().endswith("?"):
        features |= TextFeature.IS_QUESTION
    if not _FIRST_PERSON.isdisjoint(words):
        features |= TextFeature.FIRST_PERSON
    return features


def count_words(text: str) -> int:
    """Return the number of words in a text."""
    return len(text.split())


def build_embedding_text(text: str, heading: str, author: str, path: str = "") -> str:
    """Return the text to embed: the end of the path, the heading and the text. The path is one in the tree.

    The name of a file is often the only place that contains its subject; it does not count for a dialogue turn.
    A dialogue turn loses the name before it, which queries mention and which carries no meaning. A JSON record is
    reduced to its longest string value.
    """
    body = text
    if author:
        body = _longest_value(text) if text.startswith("{") else strip_marker(text, author)
    parts = ("" if author else _end_of_path(path), heading, body)
    return "\n".join(part for part in parts if part)


def _end_of_path(path: str) -> str:
    """Return the last names of a path, without the area of the tree and the name of the source."""
    names = printable(path).split("/")
    inside = names[2:] if names[0] == "knowledge" else names[1:]
    return "/".join(inside[-_MAX_PATH_NAMES:])[-_MAX_PATH_CHARS:]


def _longest_value(text: str) -> str:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return text
    values = [value for value in record.values() if isinstance(value, str)] if isinstance(record, dict) else []
    return max(values, key=len, default=text) if values else text
