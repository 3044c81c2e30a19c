"""Parsers of HTML and XML, without entities, DTDs and the network. The only module that imports lxml."""

import io
from collections.abc import Collection, Iterator
from typing import Any

from lxml import etree

from ctxfs.index.extract.formats import UnreadableFile

Element = Any  # lxml has no types
_HTML = {"recover": True, "remove_comments": True, "remove_pis": True, "huge_tree": True, "encoding": "utf-8"}
# `huge_tree` is off: the parser ends at 256 levels, and at texts of 10 MB.
_XML = {
    "resolve_entities": False, "load_dtd": False, "no_network": True, "huge_tree": False, "remove_comments": True,
    "remove_pis": True,
}  # fmt: skip


def parse_html(text: str) -> Element | None:
    """Return the root of a page; None if it has no elements, or is nested too deep for the parser."""
    parser = etree.HTMLParser(**_HTML)
    try:
        root = etree.fromstring(text.encode("utf-8", "surrogatepass"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    # Pages nested deeper than the parser's limit (thousands of levels) are read without their structure.
    is_too_deep = any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log)
    return None if is_too_deep else root


def walk(root: Element) -> etree.iterwalk:
    """Return an iterator over (event, element): `start` and `end` of each element, in order."""
    return etree.iterwalk(root, events=("start", "end"))


def parse_xml(data: bytes) -> Element:
    """Return the root of a document. Raise `UnreadableFile` if it is malformed, or nested too deep."""
    try:
        return etree.fromstring(data, etree.XMLParser(**_XML))
    except (etree.XMLSyntaxError, ValueError) as error:
        raise UnreadableFile(f"malformed XML ({' '.join(str(error).split())[:80]})") from error


def stream_xml(data: bytes, names: Collection[str]) -> Iterator[Element]:
    """Yield the elements with these local names at their ends, and drop them afterwards, so that memory is bounded."""
    try:
        for _, element in etree.iterparse(io.BytesIO(data), events=("end",), **_XML):
            if local_name(element) not in names:
                continue
            yield element
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    except (etree.XMLSyntaxError, ValueError) as error:
        raise UnreadableFile(f"malformed XML ({' '.join(str(error).split())[:80]})") from error


def local_name(element: Element) -> str:
    """Return the name of an element without its namespace; empty for an unresolved entity."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Element, name: str) -> str:
    """Return the value of the first attribute with this local name; empty without one."""
    plain = element.get(name)
    if plain is not None:
        return str(plain)
    return next((str(value) for key, value in element.attrib.items() if str(key).rpartition("}")[2] == name), "")


def children(element: Element, name: str) -> Iterator[Element]:
    """Yield the children with this local name."""
    return (child for child in element if local_name(child) == name)


def descendants(element: Element, name: str) -> Iterator[Element]:
    """Yield the descendants with this local name."""
    return (child for child in element.iter() if local_name(child) == name)
