"""Sentence splitting, with line numbers. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A stop ends a sentence if space and a possible beginning of a sentence follow, except after these abbreviations.
_CAPITALS = "A-Z0-9\u00c0-\u024f\u0386-\u03ab\u0400-\u042f\u0531-\u0556\u0590-\uffff"  # and scripts without case
_STOP = re.compile(rf"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[*_`]*[{_CAPITALS}])|(?<=[。！？])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|vs|etc|e\.g|i\.e|cf|approx|No|Nos|Fig|Figs|Eq|vol|pp?|ca|Inc|Ltd|Co)\.)$"
)
_LIST = re.compile(r"\s{0,8}(?:[-*+•]|\d{1,3}[.)])\s+")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_BREAK = re.compile(r"\s*(?:#{1,6}\s|\||>|---|===|\Z)")
_MAX_SENTENCE_CHARS = 600


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and its lines, numbered from 1."""

    text: str
    first: int
    last: int


def sentences(text: str, *, code: bool = False) -> Iterator[Sentence]:
    """Yield the sentences of prose and Markdown; a list item, a table row and a heading each end one.

    Fenced code is skipped, unless `code` is set: then each of its lines is one sentence.
    """
    paragraph: list[tuple[int, str]] = []
    fenced = False
    for number, line in enumerate(text.split("\n"), 1):
        if _FENCE.match(line):
            fenced = not fenced
            yield from _split_paragraph(paragraph)
            paragraph = []
        elif fenced:
            if code and line.strip():
                yield Sentence(line.strip(), number, number)
        elif _BREAK.match(line) or _LIST.match(line):
            yield from _split_paragraph(paragraph)
            paragraph = [(number, line)] if line.strip() else []
            if not _LIST.match(line):
                yield from _split_paragraph(paragraph)
                paragraph = []
        else:
            paragraph.append((number, line))
    yield from _split_paragraph(paragraph)


def _split_paragraph(lines: list[tuple[int, str]]) -> Iterator[Sentence]:
    """Yield the sentences of a paragraph."""
    if not lines:
        return
    joined = "\n".join(line for _, line in lines)
    start = 0
    ends = [
        match.end()
        for match in _STOP.finditer(joined)
        if not _ABBREVIATION.search(joined[max(0, match.start() - 12) : match.start()])
    ]
    for end in (*ends, len(joined)):
        part = joined[start:end]
        if len(part) > _MAX_SENTENCE_CHARS and "\n" in part.strip():
            # No sentence is that long: this is a list, a table or a poem, and each line counts as one.
            first = lines[0][0] + joined.count("\n", 0, start)
            for number, line in enumerate(part.split("\n"), first):
                if line.strip():
                    yield Sentence(" ".join(line.split()), number, number)
        elif part.strip():
            skipped = len(part) - len(part.lstrip())
            first = lines[0][0] + joined.count("\n", 0, start + skipped)
            yield Sentence(" ".join(part.split()), first, first + part.strip().count("\n"))
        start = end
