"""Reader of OpenDocument: texts (.odt), spreadsheets (.ods) and presentations (.odp), in an archive or as flat XML.

`first` and `last` are numbers of paragraphs, rows or slides.
"""

from collections.abc import Iterator

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import UnreadableFile
from ctxfs.index.extract.formats.archive import Archive
from ctxfs.index.extract.formats.markup import (
    Element,
    attribute,
    children,
    descendants,
    local_name,
    parse_xml,
)
from ctxfs.index.extract.formats.office import MAX_HEADING_CHARACTERS, Trail, read_properties
from ctxfs.index.extract.formats.workbook import MAX_ROWS, with_header

_SKIPPED = frozenset(("tracked-changes", "deletion", "forms", "sequence-decls", "scripts", "soft-page-break", "styles"))
_MAX_SPACES = 100
_MAX_DEPTH = 200


def read_opendocument(data: bytes) -> Iterator[Chunk]:
    """Yield the passages of a document of any kind."""
    if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<?xml"):
        root = parse_xml(data)
        properties = (
            read_properties(next(children(root, "meta"), root))
            if next(children(root, "meta"), None) is not None
            else None
        )
    else:
        archive = Archive(data)
        if b"encryption-data" in (archive.find("META-INF/manifest.xml") or b""):
            raise UnreadableFile("encrypted")
        root = parse_xml(archive.read("content.xml"))
        meta = archive.find("meta.xml")
        properties = read_properties(parse_xml(meta)) if meta else None
    title, author, day = properties or ("", "", None)
    for body in children(root, "body"):
        for content in body:
            for number, heading, text in _read_content(content, title):
                yield Chunk(text, number, number, heading, author, day)


def _read_content(content: Element, title: str) -> Iterator[tuple[int, str, str]]:
    match local_name(content):
        case "spreadsheet":
            for table in descendants(content, "table"):
                yield from with_header(attribute(table, "name")[:MAX_HEADING_CHARACTERS], _read_rows(table))
        case "presentation" | "drawing":
            for number, page in enumerate(children(content, "page"), 1):
                yield from _read_page(page, number, title)
        case _:
            yield from _read_text(content, title)


def _read_page(page: Element, number: int, title: str) -> Iterator[tuple[int, str, str]]:
    texts, name = list[str](), ""
    for frame in page:
        is_notes = local_name(frame) == "notes"
        frame_texts = [f"Notes: {text}" if is_notes else text for text, _ in _read_blocks(frame)]
        if attribute(frame, "class") == "title" and frame_texts and not name:
            name = " ".join(frame_texts)[:MAX_HEADING_CHARACTERS]
        texts += frame_texts
    heading = f"slide {number}: {name}" if name else f"slide {number}"
    yield from ((number, f"{title} > {heading}" if title else heading, text) for text in texts)


def _read_text(content: Element, title: str) -> Iterator[tuple[int, str, str]]:
    trail = Trail(title)
    for number, (text, level) in enumerate(_read_blocks(content), 1):
        if level:
            trail.add(level, text)
        yield number, str(trail), text


def _read_rows(table: Element) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, cells) of rows. Rows and cells that are repeated a million times are read once."""
    number = 1
    for row in descendants(table, "table-row"):
        cells = (cell for cell in row if local_name(cell) in ("table-cell", "covered-table-cell"))
        yield min(number, MAX_ROWS), [_read_cell(cell) for cell in cells]
        number += _count(attribute(row, "number-rows-repeated"), MAX_ROWS)


def _read_cell(cell: Element) -> str:
    text = " ".join(text for text, _ in _read_blocks(cell))
    return text or attribute(cell, "date-value") or attribute(cell, "string-value") or attribute(cell, "value")


def _read_blocks(element: Element, depth: int = 0) -> Iterator[tuple[str, int]]:
    """Yield (text, level of the heading or 0) of the paragraphs below an element; a row of a table is a paragraph."""
    if depth > _MAX_DEPTH:
        return
    for child in element:
        name = local_name(child)
        if name in _SKIPPED:
            continue
        if name in ("p", "h"):
            level = _count(attribute(child, "outline-level"), 10) if name == "h" else 0
            if text := " ".join("".join(_read_runs(child)).split()):
                yield text, level
        elif name == "table-row" and depth:
            cells = (" ".join(text for text, _ in _read_blocks(cell, depth + 1)) for cell in child)
            if row := " | ".join(filter(None, cells)):
                yield row, 0
        else:
            yield from _read_blocks(child, depth + 1)


def _read_runs(paragraph: Element) -> Iterator[str]:
    yield paragraph.text or ""
    for child in paragraph:
        match local_name(child):
            case "s":
                yield " " * _count(attribute(child, "c"), _MAX_SPACES)
            case "tab" | "line-break" | "p":
                yield " "
                yield from _read_runs(child)
            case name if name not in _SKIPPED:
                yield from _read_runs(child)
        yield child.tail or ""


def _count(label: str, limit: int) -> int:
    return max(1, min(int(label), limit)) if label.isdigit() and len(label) < 10 else 1
