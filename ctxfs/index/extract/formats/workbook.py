"""Reader of workbooks (.xlsx): the rows of each sheet under its name and header row, with dates as dates."""

import re
from collections.abc import Iterator
from datetime import date, timedelta

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import UnreadableFile
from ctxfs.index.extract.formats.markup import (
    Element,
    attribute,
    children,
    descendants,
    local_name,
    parse_xml,
    stream_xml,
)
from ctxfs.index.extract.formats.office import MAX_HEADING_CHARACTERS, Package

_MAX_SHEETS = 1_000
MAX_ROWS = 1_048_576
_MAX_CELL_CHARACTERS = 32_767
_DATE_FORMATS = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
_LITERALS = re.compile(r'"[^"]{0,255}+"|\\.|\[[^\]]{0,255}+\]|_.|\*.')  # a format has at most 255 characters
_DATE_CODE = re.compile(r"[ymdhs]", re.IGNORECASE)
_EPOCH = date(1899, 12, 30)
_EPOCH_1904 = date(1904, 1, 1)
_MAX_SERIAL = 2_958_465  # 9999-12-31
_SECONDS = 86_400


def read_workbook(data: bytes) -> Iterator[Chunk]:
    """Yield the rows of all sheets, with row numbers, then the comments on their cells."""
    package = Package(data)
    main = package.main_part()
    _, author, day = package.properties()
    root = parse_xml(package.archive.read(main))
    relations = package.relations(main)
    values = _CellValues(package, main, root)
    sheets = list(descendants(root, "sheet"))
    if len(sheets) > _MAX_SHEETS:
        raise UnreadableFile(f"more than {_MAX_SHEETS} sheets")
    for sheet in sheets:
        reference = next((str(value) for key, value in sheet.attrib.items() if str(key).endswith("}id")), "")
        part, kind = relations.get(reference, ("", ""))
        if kind != "worksheet":
            continue
        name = attribute(sheet, "name")[:MAX_HEADING_CHARACTERS]
        for number, heading, text in with_header(name, _read_rows(package.archive.read(part), values)):
            yield Chunk(text, number, number, heading, author, day)
        for comments in package.related(part, "comments"):
            for comment in descendants(parse_xml(package.archive.read(comments)), "comment"):
                text = "".join(child.text or "" for child in descendants(comment, "t"))
                cell = attribute(comment, "ref")
                row = min(int(re.sub(r"\D", "", cell[:20]) or "1"), MAX_ROWS) or 1
                yield Chunk(f"{cell}: {text}", row, row, f"{name} > Comments", author, day)


def with_header(sheet: str, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, str, str]]:
    """Yield (row number, heading, text) of rows that are not empty.

    The heading is the sheet's name and its header row: the first row of two cells or more, if none is a number.
    """
    heading, has_header = sheet, False
    for number, cells in rows:
        filled = [cell for cell in cells if cell]
        if not filled:
            continue
        if not has_header and len(filled) > 1:
            has_header = True
            if not any(cell.replace(".", "").replace("-", "").isdigit() for cell in filled):
                heading = f"{sheet} > {' | '.join(filled)[:MAX_HEADING_CHARACTERS]}"
        yield number, heading, " | ".join(filled)


def _read_rows(data: bytes, values: "_CellValues") -> Iterator[tuple[int, list[str]]]:
    number = 0
    for row in stream_xml(data, ("row",)):
        label = attribute(row, "r")
        number = min(int(label), MAX_ROWS) if label.isdigit() and len(label) < 8 and int(label) else number + 1
        yield number, [values.read(cell) for cell in children(row, "c")]


class _CellValues:
    """The values of cells as a workbook shows them: shared texts, dates, results of formulas."""

    def __init__(self, package: Package, main: str, root: Element) -> None:
        self._shared: list[str] = []
        for part in package.related(main, "sharedStrings"):
            self._shared = [_read_string(item) for item in stream_xml(package.archive.read(part), ("si",))]
        self._date_styles: set[int] = set()
        for part in package.related(main, "styles"):
            self._date_styles = _find_date_styles(parse_xml(package.archive.read(part)))
        is_1904 = any(attribute(child, "date1904") in ("1", "true") for child in descendants(root, "workbookPr"))
        self._epoch = _EPOCH_1904 if is_1904 else _EPOCH

    def read(self, cell: Element) -> str:
        """Return the text of a cell; the formula if it has no result."""
        kind = attribute(cell, "t")
        if kind == "inlineStr":
            return _read_string(cell)
        value = next((child.text or "" for child in children(cell, "v")), "")
        if kind == "s":
            return self._shared[int(value)] if value.isdigit() and int(value[:9]) < len(self._shared) else ""
        if kind == "b":
            return "TRUE" if value == "1" else "FALSE"
        if not value:
            formula = next((child.text or "" for child in children(cell, "f")), "")
            return f"={formula}"[:_MAX_CELL_CHARACTERS] if formula else ""
        style = attribute(cell, "s")
        is_date = kind in ("", "n") and style.isdigit() and int(style[:9]) in self._date_styles
        return (self._format_date(value) if is_date else "") or " ".join(value.split())[:_MAX_CELL_CHARACTERS]

    def _format_date(self, value: str) -> str:
        try:
            serial = float(value)
        except ValueError:
            return ""
        if not 0 <= serial <= _MAX_SERIAL:
            return ""
        days, seconds = int(serial), round(serial % 1 * _SECONDS)
        time = f"{seconds // 3600:02}:{seconds % 3600 // 60:02}" if seconds else ""
        return " ".join(filter(None, ((self._epoch + timedelta(days)).isoformat() if days else "", time)))


def _read_string(item: Element) -> str:
    """Return a text of several runs, without the phonetic guide of East Asian texts."""
    runs = (child for child in item.iter() if local_name(child) == "t" and local_name(child.getparent()) != "rPh")
    return " ".join("".join(run.text or "" for run in runs).split())[:_MAX_CELL_CHARACTERS]


def _find_date_styles(root: Element) -> set[int]:
    codes = {
        attribute(child, "numFmtId"): attribute(child, "formatCode")[:200] for child in descendants(root, "numFmt")
    }
    date_styles = set()
    for formats in children(root, "cellXfs"):
        for number, style in enumerate(children(formats, "xf")):
            identifier = attribute(style, "numFmtId")
            is_built_in = identifier.isdigit() and int(identifier[:9]) in _DATE_FORMATS
            code = _LITERALS.sub("", codes.get(identifier, ""))
            if is_built_in or (_DATE_CODE.search(code) and "0" not in code.split(".")[0]):
                date_styles.add(number)
    return date_styles
