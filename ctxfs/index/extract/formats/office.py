"""Readers of Office Open XML: the text of documents (.docx), workbooks (.xlsx) and presentations (.pptx).

`first` and `last` are numbers of paragraphs, rows or slides; those of notes and comments follow the last paragraph.
Names of elements are compared without their namespaces, which differ between the transitional and the strict form.
"""

import re
from collections.abc import Iterator

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.dates import find_first_day
from ctxfs.index.extract.formats.archive import Archive, join_name
from ctxfs.index.extract.formats.markup import (
    Element,
    attribute,
    children,
    descendants,
    local_name,
    parse_xml,
    walk,
)

MAX_HEADING_CHARACTERS = 200
_MAX_STYLE_DEPTH = 10
_MAX_SLIDES = 5_000
_HEADING_STYLE = re.compile(r"heading\s?(\d)", re.IGNORECASE)
# Deleted text, and the second form of a drawing for old programs.
_SKIPPED = frozenset(("del", "moveFrom", "Fallback", "instrText", "delText", "pPr", "rPr", "sectPr"))
_NOTES = (("footnotes", "Footnotes"), ("endnotes", "Endnotes"), ("header", "Header"), ("footer", "Footer"))


class Package:
    """An archive of Office Open XML: parts, and the relations between them."""

    def __init__(self, data: bytes) -> None:
        self.archive = Archive(data)

    def main_part(self) -> str:
        """Return the name of the part that the others belong to."""
        return next(iter(self.related("", "officeDocument")), "")

    def related(self, part: str, kind: str) -> list[str]:
        """Return the names of the parts of a kind that a part refers to; those of the package for an empty name."""
        return [name for name, relation in self.relations(part).values() if relation == kind]

    def relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return (name, kind) of the parts that a part refers to, by the identifier of the relation."""
        folder, _, name = part.rpartition("/")
        data = self.archive.find(f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels")
        if data is None:
            return {}
        return {
            relation.get("Id", ""): (
                join_name(part, relation.get("Target", "")),
                relation.get("Type", "").rpartition("/")[2],
            )
            for relation in children(parse_xml(data), "Relationship")
            if relation.get("TargetMode") != "External"
        }

    def properties(self) -> tuple[str, str, int | None]:
        """Return (title, author, day of the last change) of the document."""
        part = next(iter(self.related("", "core-properties")), "")
        data = self.archive.find(part) if part else None
        return read_properties(parse_xml(data)) if data else ("", "", None)


def read_properties(root: Element) -> tuple[str, str, int | None]:
    """Return (title, author, day) by the elements of Dublin Core below an element."""
    values: dict[str, str] = {}
    for element in root.iter():
        if element.text and element.text.strip():
            values.setdefault(local_name(element), " ".join(element.text.split()))
    day = next(
        (day for name in ("modified", "date", "created") if (day := find_first_day(values.get(name, "")[:40]))), None
    )
    author = values.get("creator", values.get("initial-creator", ""))
    return values.get("title", "")[:MAX_HEADING_CHARACTERS], author[:80], day


class Trail:
    """The headings above a passage."""

    def __init__(self, title: str = "") -> None:
        self._title = title
        self._headings: list[tuple[int, str]] = []

    def add(self, level: int, heading: str) -> None:
        """Begin a section, which ends those of its level and below."""
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self._headings.append((level, heading[:MAX_HEADING_CHARACTERS]))

    def __str__(self) -> str:
        names = [name for _, name in self._headings]
        return " > ".join(names if not self._title or names[:1] == [self._title] else [self._title, *names])


def read_word(data: bytes) -> Iterator[Chunk]:
    """Yield the paragraphs and rows of tables of a document, then its notes, comments, headers and footers."""
    package = Package(data)
    main = package.main_part()
    title, author, day = package.properties()
    levels = _read_heading_levels(package, main)
    trail = Trail(title)
    number = 0
    for number, (text, style) in enumerate(_read_blocks(parse_xml(package.archive.read(main))), 1):
        if text and (level := levels.get(style)) is not None:
            trail.add(level, text)
        if text:
            yield Chunk(text, number, number, str(trail), author, day)
    for kind, name in _NOTES:
        for part in package.related(main, kind):
            for text in (text for text, _ in _read_blocks(parse_xml(package.archive.read(part))) if text):
                number += 1
                yield Chunk(text, number, number, name, author, day)
    for part in package.related(main, "comments"):
        for comment in descendants(parse_xml(package.archive.read(part)), "comment"):
            text = "\n".join(text for text, _ in _read_blocks(comment) if text)
            writer, comment_day = attribute(comment, "author")[:80], find_first_day(attribute(comment, "date"))
            number += 1
            yield Chunk(text, number, number, "Comments", writer, comment_day)


def _read_heading_levels(package: Package, main: str) -> dict[str, int]:
    """Return the level of each style of a heading. Titles have level 0."""
    part = next(iter(package.related(main, "styles")), "")
    data = package.archive.find(part) if part else None
    if data is None:
        return {}
    own, parents = dict[str, int](), dict[str, str]()
    for style in children(parse_xml(data), "style"):
        style_id = attribute(style, "styleId")
        name = next((attribute(child, "val") for child in children(style, "name")), "")
        parents[style_id] = next((attribute(child, "val") for child in children(style, "basedOn")), "")
        outline = next((attribute(child, "val") for child in descendants(style, "outlineLvl")), "")
        if match := _HEADING_STYLE.match(name):
            own[style_id] = int(match[1])
        elif name.lower() == "title":
            own[style_id] = 0
        elif outline.isdigit() and int(outline) < 9:
            own[style_id] = int(outline) + 1
    levels = {}
    for style_id in parents:
        ancestor, depth = style_id, 0
        while ancestor not in own and parents.get(ancestor) and depth < _MAX_STYLE_DEPTH:
            ancestor, depth = parents[ancestor], depth + 1
        if ancestor in own:
            levels[style_id] = own[ancestor]
    return levels


def _read_blocks(root: Element) -> Iterator[tuple[str, str]]:
    """Yield (text, style) of each paragraph, and of each row of a table, whose cells are joined, in order."""
    parts, cells = list[str](), list[str]()
    style, depth = "", 0
    events = walk(root)
    for event, element in events:
        name = local_name(element)
        if event == "start":
            if name == "pPr" and not depth:
                style = next((attribute(child, "val") for child in children(element, "pStyle")), "")
            if name in _SKIPPED:
                events.skip_subtree()
            depth += name == "tr"
            parts += _text_of_run(element, name)
        elif name == "p" and not depth:
            yield " ".join("".join(parts).split()), style
            parts, style = [], ""
        elif name == "p":
            parts.append(" ")
        elif name == "tc" and depth == 1:
            cells.append(" ".join("".join(parts).split()))
            parts = []
        elif name == "tr":
            depth -= 1
            if not depth:
                yield " | ".join(filter(None, cells)), ""
                cells = []


_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}


def _text_of_run(element: Element, name: str) -> list[str]:
    if name == "t":
        return [element.text or ""]
    return [_BREAKS[name]] if name in _BREAKS else []


def read_slides(data: bytes) -> Iterator[Chunk]:
    """Yield the paragraphs of each slide under its number and title, then its notes."""
    package = Package(data)
    main = package.main_part()
    title, author, day = package.properties()
    relations = package.relations(main)
    entries = descendants(parse_xml(package.archive.read(main)), "sldId")
    # The identifier of a slide is an attribute, too: that of its relation has a namespace.
    references = [str(value) for entry in entries for key, value in entry.attrib.items() if str(key).endswith("}id")]
    parts = [relations[reference][0] for reference in references if reference in relations]
    for number, part in enumerate(parts[:_MAX_SLIDES], 1):
        texts, slide_title = _read_slide(parse_xml(package.archive.read(part)))
        for diagram in package.related(part, "diagramData"):
            texts += _read_slide(parse_xml(package.archive.read(diagram)))[0]
        for notes in package.related(part, "notesSlide"):
            note_texts = _read_slide(parse_xml(package.archive.read(notes)))[0]
            texts += [f"Notes: {text}" for text in note_texts if not text.isdigit()]
        heading = f"slide {number}: {slide_title}" if slide_title else f"slide {number}"
        names = f"{title} > {heading}" if title else heading
        yield from (Chunk(text, number, number, names[: 2 * MAX_HEADING_CHARACTERS], author, day) for text in texts)


def _read_slide(root: Element) -> tuple[list[str], str]:
    """Return the paragraphs of a slide, and its title."""
    texts, title = list[str](), ""
    for shape in root.iter():
        name = local_name(shape)
        if name == "sp":
            kinds = {attribute(child, "type") for child in descendants(shape, "ph")}
            paragraphs = [text for child in descendants(shape, "p") if (text := _read_paragraph(child))]
            if kinds & {"title", "ctrTitle"} and paragraphs and not title:
                title = " ".join(paragraphs)[:MAX_HEADING_CHARACTERS]
            texts += paragraphs
        elif name == "tr":
            cells = (
                " ".join(filter(None, map(_read_paragraph, descendants(cell, "p")))) for cell in children(shape, "tc")
            )
            texts += [row] if (row := " | ".join(filter(None, cells))) else []
        elif name == "pt":  # of a diagram
            texts += [text for child in descendants(shape, "p") if (text := _read_paragraph(child))]
    return texts, title


def _read_paragraph(paragraph: Element) -> str:
    runs = (
        " " if local_name(child) == "br" else child.text or ""
        for child in paragraph.iter()
        if local_name(child) in ("t", "br")
    )
    return " ".join("".join(runs).split())
