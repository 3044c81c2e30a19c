"""Reader of PDF: the text page by page. The only module that imports pdfium."""

import re
from collections.abc import Iterator

import pypdfium2

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import UnreadableFile
from ctxfs.index.extract.text_cleaning import clean

_MAX_PAGES = 5000
_MAX_CHARACTERS = 5_000_000
# A hyphen at the end of a line, which pdfium marks so or leaves as U+FFFE in some fonts; the word goes on below it.
_LINE_HYPHEN = re.compile(r"[\x02\ufffe\xad][ \t]{0,9}\r?\n?[ \t]{0,9}([A-Z0-9]?)")


def read_pdf(data: bytes) -> Iterator[Chunk]:
    """Yield the paragraphs of every page, with page numbers as lines. Raise `UnreadableFile` if no page has text."""
    has_text = False
    for number, page in enumerate(_read_pages(data), 1):
        for paragraph in clean(_join_hyphens(page)).split("\n\n"):
            if paragraph.strip():
                has_text = True
                yield Chunk(paragraph, number, number, f"page {number}")
    if not has_text:
        raise UnreadableFile("PDF: no text in it (scanned pages?)")


def _join_hyphens(page: str) -> str:
    """Return the text of a page with the words joined that its lines divide.

    Before a capital or a digit the hyphen belongs to the word.
    """
    return _LINE_HYPHEN.sub(lambda match: f"-{match[1]}" if match[1] else "", page)


def _read_pages(data: bytes) -> Iterator[str]:
    """Yield the text of each page, within the limits, up to the first malformed page.

    Raise `UnreadableFile` if the first page or the document cannot be read.
    """
    remaining, page_count = _MAX_CHARACTERS, 0
    try:
        document = pypdfium2.PdfDocument(data)
        try:
            while page_count < min(len(document), _MAX_PAGES) and remaining > 0:
                page = document[page_count]
                text = page.get_textpage().get_text_bounded()[:remaining]
                page.close()
                remaining -= len(text)
                page_count += 1
                yield text
        finally:
            document.close()
    except pypdfium2.PdfiumError as error:
        if not page_count:
            raise UnreadableFile(f"PDF: cannot be read ({' '.join(str(error).split())[-120:]})") from error
