"""Reader of HTML: the paragraphs of a page with their headings."""

import html.entities
import re
from collections.abc import Iterator

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats.markup import Element, parse_html, walk

_HIDDEN_TAGS = frozenset(("script", "style", "noscript", "template", "svg", "head", "iframe", "object"))
_HEADING_LEVELS = {f"h{level}": level for level in range(1, 7)}
_INLINE_TAGS = frozenset(
    "a abbr b bdi bdo big cite code data dfn del em font i img input ins kbd label mark q s samp small span strong sub sup "
    "time tt u var wbr".split()
)
_SPACES = re.compile(r"\s+")
# Matches in linear time: an unclosed element extends to the end of the text, and no tag contains another.
_TAG = re.compile(
    r"<(?:script|style)\b(?>.*?</(?:script|style)\s*+>|.*)|<!--(?>.*?-->|.*)|<[^<>]*+>", re.IGNORECASE | re.DOTALL
)


# Elements that XHTML may close at once, although HTML cannot: else they hide all that follows.
_CLOSED_AT_ONCE = re.compile(
    r"<(script|style|title|textarea|iframe|noscript|template|object|svg)\b([^<>]*+)(?<=/)>", re.IGNORECASE
)
_XHTML = re.compile(r"^\s*<\?xml\b|<html\b[^>]{0,400}?\bxmlns=", re.IGNORECASE)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_HEAD_CHARACTERS = 4096
_HIDDEN_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.IGNORECASE)
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{1,40});")
# References to control characters mean those of Windows-1252, as in browsers.
_WINDOWS_CHARACTERS = {
    code: character for code in range(0x80, 0xA0) if (character := bytes([code]).decode("cp1252", "ignore"))
}


def read_html(text: str) -> Iterator[Chunk]:
    """Yield the visible paragraphs of a page in order."""
    text = _prepare(text)
    root = parse_html(text)
    if root is None:
        yield from _strip_tags(text)
    else:
        yield from _Reader(root).passages()


def _prepare(text: str) -> str:
    """Return a page without constructs of XHTML and HTML 5 that the parser, which is older, takes for others."""
    if _XHTML.search(text[:_HEAD_CHARACTERS]):
        text = _CLOSED_AT_ONCE.sub(lambda match: f"<{match[1]}{match[2][:-1]}></{match[1]}>", text)
        text = _CDATA.sub(lambda match: match[1].replace("&", "&amp;").replace("<", "&lt;"), text)
    return _ENTITY.sub(_replace_entity, text) if "&" in text else text


def _replace_entity(match: re.Match[str]) -> str:
    name = match[1]
    return match[0] if name in html.entities.name2codepoint else html.entities.html5.get(f"{name};", match[0])


def _is_hidden(element: Element) -> bool:
    return element.get("hidden") is not None or bool(_HIDDEN_STYLE.search(element.get("style") or ""))


def _strip_tags(text: str) -> Iterator[Chunk]:
    plain = _SPACES.sub(" ", _TAG.sub(" ", text)).strip()
    if plain:
        yield Chunk(plain, 1, text.count("\n") + 1)


class _Reader:
    """An iterative walk of the element tree that collects text until a block element begins or ends."""

    def __init__(self, root: Element) -> None:
        self._root = root
        title = root.find(".//title")
        self._title = _SPACES.sub(" ", title.text or "").strip() if title is not None else ""
        self._trail: list[tuple[int, str]] = []
        self._parts: list[str] = []
        self._first = self._last = 1

    def passages(self) -> Iterator[Chunk]:
        """Yield the paragraphs, each with the trail of headings above it."""
        heading = 0
        events = walk(self._root)
        for event, element in events:
            name = element.tag if isinstance(element.tag, str) else ""
            if event == "start":
                if name in _HIDDEN_TAGS or _is_hidden(element):
                    events.skip_subtree()
                    continue
                if name not in _INLINE_TAGS:
                    yield from self._flush_paragraph(heading)
                    heading = _HEADING_LEVELS.get(name, heading)
                self._add_text(element.text, element.sourceline)
            else:
                if name not in _INLINE_TAGS and name not in _HIDDEN_TAGS:
                    yield from self._flush_paragraph(heading)
                    heading = 0 if name in _HEADING_LEVELS else heading
                self._add_text(element.tail, None)

    def _add_text(self, text: str | None, line: int | None) -> None:
        if text and not text.isspace():
            if not self._parts:
                self._first = max(line or self._last, self._last)
            self._parts.append(text.translate(_WINDOWS_CHARACTERS))
        self._last = max(self._last, line or 0) + (text.count("\n") if text else 0)

    def _flush_paragraph(self, heading: int) -> Iterator[Chunk]:
        text = _SPACES.sub(" ", "".join(self._parts)).strip()
        first = self._first
        self._parts = []
        if not text:
            return
        if heading:
            while self._trail and self._trail[-1][0] >= heading:
                self._trail.pop()
            self._trail.append((heading, text[:200]))
        names = [name for _, name in self._trail]
        headings = names if names[:1] == [self._title] or not self._title else [self._title, *names]
        yield Chunk(text, first, max(first, self._last), " > ".join(headings))
