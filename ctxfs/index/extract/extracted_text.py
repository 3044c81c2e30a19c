"""Text extracted from files whose bytes people do not read: PDF, office files, books, mail, notebooks. Pure.

The text consists of the passages that search cites, under the same numbers: of pages, paragraphs, rows, slides, chapters,
or lines of the file.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import format_of, is_slow
from ctxfs.index.extract.formats.mail_detection import is_mail, may_be_mail
from ctxfs.index.extract.text_formats import SOURCE_FORMATS

_UNITS = {"PDF": "page", "Word": "paragraph", "Excel": "row", "PowerPoint": "slide", "EPUB": "chapter"}
_OPENDOCUMENT_UNITS = {".ods": "row", ".fods": "row", ".odp": "slide", ".odg": "slide", ".fodp": "slide"}


@dataclass(frozen=True, slots=True)
class ExtractedText:
    """The passages of a file with the name of its format; `unit` is the noun that their numbers count.

    `note` states which part of a large file they are from. `reason` is why there are none: the file is damaged,
    encrypted, too large, or contains no text.
    """

    file_format: str
    unit: str
    passages: Sequence[Chunk] = ()
    note: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """A line of an extracted text, and the first and last number of its passage."""

    first: int
    last: int
    text: str


def may_be_extracted(name: str) -> bool:
    """Return True if `format_to_extract` has to look at the content of a file with this name."""
    return is_slow(name) or format_of(name) in SOURCE_FORMATS or may_be_mail(name)


def format_to_extract(name: str, data: bytes) -> str:
    """Return the format of a file that is read by its extracted text; empty for one that is read as it is."""
    file_format = format_of(name)
    if is_slow(name) or file_format in SOURCE_FORMATS:
        return file_format
    return "mail" if may_be_mail(name) and is_mail(data) else ""


def unit_of(name: str, file_format: str) -> str:
    """Return the noun of the numbers that passages of a format have."""
    if file_format == "OpenDocument":
        return _OPENDOCUMENT_UNITS.get(os.path.splitext(name)[1].lower(), "paragraph")
    return _UNITS.get(file_format, "line")


def number_lines(passages: Sequence[Chunk]) -> list[NumberedLine]:
    """Return the lines of passages, each below a line `[3-5] heading (author, day)`, whose parts stand where they change."""
    lines: list[NumberedLine] = []
    title = ""
    for passage in passages:
        previous, title = title, _title_of(passage)
        numbers = str(passage.first) if passage.first == passage.last else f"{passage.first}-{passage.last}"
        head = f"[{numbers}] {title}" if title != previous else f"[{numbers}]"
        lines += [
            NumberedLine(passage.first, passage.last, line) for line in (head.rstrip(), *passage.text.split("\n"))
        ]
    return lines


def _title_of(passage: Chunk) -> str:
    day = date.fromordinal(passage.day).isoformat() if passage.day is not None else ""
    origin = ", ".join(filter(None, (passage.author, day)))
    return f"{passage.heading} ({origin})" if origin else passage.heading
