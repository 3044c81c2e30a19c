"""Reader of books (.epub): the chapters in their order, under the title of the book. `first` and `last` are chapters."""

import re
from collections.abc import Iterator
from dataclasses import replace

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import UnreadableFile
from ctxfs.index.extract.formats.archive import Archive, join_name
from ctxfs.index.extract.formats.html import read_html
from ctxfs.index.extract.formats.markup import attribute, descendants, parse_xml
from ctxfs.index.extract.formats.office import read_properties
from ctxfs.index.extract.text_decoding import read_text

_MAX_CHAPTERS = 5_000
_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGE = re.compile(r"\.x?html?$", re.IGNORECASE)


def read_epub(data: bytes) -> Iterator[Chunk]:
    """Yield the paragraphs of all chapters."""
    archive = Archive(data)
    package = next(
        (attribute(file, "full-path") for file in descendants(parse_xml(archive.read(_CONTAINER)), "rootfile")), ""
    )
    root = parse_xml(archive.read(package))
    title, author, day = next((read_properties(metadata) for metadata in descendants(root, "metadata")), ("", "", None))
    files = {attribute(item, "id"): join_name(package, attribute(item, "href")) for item in descendants(root, "item")}
    chapters = [files[label] for item in descendants(root, "itemref") if (label := attribute(item, "idref")) in files]
    chapters = list(dict.fromkeys(chapters)) or [name for name in archive.names if _PAGE.search(name)]
    encrypted = _find_encrypted(archive)
    for number, name in enumerate(chapters[:_MAX_CHAPTERS], 1):
        if name in encrypted:
            raise UnreadableFile("encrypted")
        page = archive.find(name)
        text = read_text(page) if page else None
        for passage in read_html(text) if text else ():
            heading = passage.heading
            if title and heading != title and not heading.startswith(f"{title} > "):
                heading = f"{title} > {heading}" if heading else title
            yield replace(passage, first=number, last=number, heading=heading, author=author, day=day)


def _find_encrypted(archive: Archive) -> set[str]:
    """Return the encrypted members. The fonts of a book often are, though its pages are not."""
    data = archive.find(_ENCRYPTION)
    references = descendants(parse_xml(data), "CipherReference") if data else iter(())
    return {join_name("", attribute(reference, "URI")) for reference in references}
