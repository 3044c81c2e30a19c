"""The units of a text that consolidation must not lose: its sentences, list items, cells' rows and lines of code. Pure.

Unlike `context.build.sentences`, which prefers whole sentences of prose, nothing is left out here.
"""

import re
from collections.abc import Iterator

# The mark of a list item, a heading or a quotation, which a merged text may write differently.
_MARK = re.compile(r"(?:[>#*+•-]{1,6}|\d{1,3}[.)])\s+")
_STOP = re.compile(r"(?<=[.!?])[\"')\]]{0,3}\s+|(?<=[。！？])")
_MAX_MARKS = 4


def units_of(data: bytes) -> frozenset[str]:
    """Return the units of a file's content, with single spaces and without marks of Markdown.

    Of a content that is not UTF-8 the whole is one unit.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return frozenset((data.hex(),))
    return frozenset(_iterate_units(text))


def _iterate_units(text: str) -> Iterator[str]:
    paragraph: list[str] = []
    for line in (*text.splitlines(), ""):
        content, has_mark = _strip_marks(line.strip())
        if has_mark or not content or content.startswith(("|", "```", "~~~")) or line.startswith(("    ", "\t")):
            yield from _split(paragraph)
            paragraph = []
        if content:
            paragraph.append(content)
    yield from _split(paragraph)


def _strip_marks(line: str) -> tuple[str, bool]:
    has_mark = False
    for _ in range(_MAX_MARKS):
        match = _MARK.match(line)
        if match is None:
            break
        line, has_mark = line[match.end() :].lstrip(), True
    return line, has_mark


def _split(lines: list[str]) -> Iterator[str]:
    for sentence in _STOP.split(" ".join(lines)):
        unit = " ".join(sentence.split())
        if any(character.isalnum() for character in unit):
            yield unit
