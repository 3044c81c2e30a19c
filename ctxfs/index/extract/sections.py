"""Sections of documents: spans of lines below a trail of headings; author, day and labels of the whole file. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ctxfs.index.extract.front_matter import FrontMatter, read_front_matter
from ctxfs.index.extract.front_matter_attributes import FRONT_MATTER_LABEL

MAX_TITLE_CHARACTERS = 200  # each chunk below a title repeats it
_UNDERLINE = re.compile(r"([!-/:-@[-`{-~])\1{2,}\s*")  # any punctuation, as in reStructuredText
_ASCIIDOC_TITLE = re.compile(r"(={1,6}|#{1,6})\s+(\S.*)")
_ASCIIDOC_BLOCK = re.compile(r"(`{3,}|-{4,}|\.{4,}|/{4,}|\+{4,})\s*\w*\s*")  # literal text up to the same line
_NO_TITLE = ("-", "*", "|", ">", ".. ", ":")


class Section(NamedTuple):
    """Lines `start` to `end` (from 0, `end` excluded) below the headings of a trail."""

    start: int
    end: int
    heading: str


class Document(NamedTuple):
    """A document with headings: its sections, and the author, day and labels of the whole file."""

    sections: list[Section]
    author: str = ""
    day: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    front_matter_end: int = 0  # the number of lines of the front matter, which is no text of the document


def read_document(suffix: str, lines: Sequence[str]) -> Document:
    """Return the structure of a document by the suffix of its name: reStructuredText, AsciiDoc, or else Markdown."""
    if suffix == "rst":
        return Document(list(_cut(_find_underlined_titles(lines), len(lines))))
    if suffix in ("adoc", "asciidoc"):
        return Document(list(_cut(_find_asciidoc_titles(lines), len(lines))))
    from ctxfs.index.extract.markdown import find_labels, parse_structure

    front_matter = read_front_matter(lines)
    structure = parse_structure(lines, front_matter.line_count)
    labels = find_labels(lines, front_matter, structure.code)
    has_body = any(line.strip() for line in lines[front_matter.line_count :])
    end = front_matter.line_count if has_body else 0
    if end:
        labels.append((FRONT_MATTER_LABEL, "\n".join(lines[:end])))
    title = _find_title(front_matter, structure.headings) if end else ""
    sections = list(_cut(structure.headings, len(lines), title, end))
    return Document(sections, front_matter.author, front_matter.day, tuple(labels), end)


def _find_title(front_matter: FrontMatter, headings: Iterable[tuple[int, int, str]]) -> str:
    """Return the title in front matter; empty if a heading of the first level has it already."""
    title = next(iter(front_matter.values("title")), "")
    is_repeated = any(level == 1 and heading.casefold() == title.casefold() for _, level, heading in headings)
    return "" if is_repeated else title


def _cut(
    headings: Iterable[tuple[int, int, str]], line_count: int, title: str = "", start: int = 0
) -> Iterator[Section]:
    """Yield the sections from line `start`, between headings, each a (line, level, title), below the document's title."""
    trail: list[tuple[int, str]] = [(0, title)]
    for line, level, name in headings:
        if line > start:
            yield Section(start, line, _format_trail(trail))
        start = line
        while trail and trail[-1][0] >= level:
            trail.pop()
        trail.append((level, name))
    yield Section(start, line_count, _format_trail(trail))


def _find_underlined_titles(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield (line, level, title) of the titles of reStructuredText.

    The level is the order in which the style of a title, its underline and whether it has an overline, appears first.
    """
    styles: list[tuple[str, bool]] = []
    for number in range(len(lines) - 1):
        title, underline = lines[number].strip(), _UNDERLINE.fullmatch(lines[number + 1])
        if not underline or not title or _UNDERLINE.fullmatch(lines[number]) or title.startswith(_NO_TITLE):
            continue
        above = _UNDERLINE.fullmatch(lines[number - 1]) if number else None
        has_overline = above is not None and above[1] == underline[1] and len(above[0].strip()) >= len(title)
        is_long_enough = len(underline[0].strip()) >= min(len(title), 4)
        if not is_long_enough or (lines[number][0].isspace() and not has_overline):
            continue
        style = underline[1], has_overline
        if style not in styles:
            styles.append(style)
        yield number - has_overline, styles.index(style) + 1, title[:MAX_TITLE_CHARACTERS]


def _find_asciidoc_titles(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield (line, level, title) of the titles of AsciiDoc outside blocks of literal text."""
    delimiter = ""
    for number, line in enumerate(lines):
        block = _ASCIIDOC_BLOCK.fullmatch(line)
        if delimiter:
            delimiter = "" if line.strip() == delimiter else delimiter
        elif block:
            delimiter = block[1]
        elif match := _ASCIIDOC_TITLE.match(line):
            yield number, len(match[1]), match[2].strip().rstrip("=#").rstrip()[:MAX_TITLE_CHARACTERS]


def _format_trail(trail: list[tuple[int, str]]) -> str:
    return " > ".join(title for _, title in trail if title)
