"""Structure of Markdown by CommonMark: headings, and the labels in a text. The only module that imports markdown-it-py.

Only the block structure of a text is parsed, and the inline structure of its headings.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ctxfs.index.extract.front_matter import FrontMatter
from ctxfs.index.extract.front_matter_attributes import find_attributes

MAX_TITLE_CHARACTERS = 200  # each chunk below a title repeats it
_MAX_TITLE_SOURCE = 1_000
# A longer line is parsed without its middle, because only its ends determine the structure of blocks.
_MAX_LINE_CHARACTERS = 4_000
_HTML_HEADING = re.compile(r"\s{0,3}<h([1-6])(?:\s[^<>]*)?>((?:(?!</?h[1-6]).){0,1000}?)</h\1\s*>", re.I | re.DOTALL)
_HTML_TAG = re.compile(r"<[^<>]*>")
_HEADING_LINE = re.compile(r"^ {0,3}(?:#|=+[ \t]*\r?$|-+[ \t]*\r?$|<h[1-6])", re.M | re.I)
_INLINE_CODE = re.compile(r"(?<!`)(`++)[^`\n]{0,400}\1")
_WIKILINK = re.compile(r"\[\[([^\[\]|#^\n]{1,200})(?:[#^][^\[\]|\n]{0,200})?(?:\|[^\[\]\n]{0,200})?\]\]")
_HASHTAG = re.compile(r"(?<!\S)#(?=[\w/-]{0,64}[^\W\d])([^\W_][\w/-]{0,63})")
_TAG_SEPARATOR = re.compile(r"[,\s]+")
_MAX_TAGS = 200
_MAX_LINKS = 500
_MAX_LABEL_CHARACTERS = 100

_PARSER = MarkdownIt("commonmark")


class Heading(NamedTuple):
    """A heading that begins at line `line` (from 0)."""

    line: int
    level: int
    title: str


class Structure(NamedTuple):
    """The headings of a text, and the spans of lines (first, end) that are code."""

    headings: list[Heading]
    code: list[tuple[int, int]]


def parse_structure(lines: Sequence[str], skipped_lines: int = 0) -> Structure:
    """Return the structure of a text, without its first `skipped_lines` lines, which are front matter.

    Headings inside quotations and lists are none of the text.
    """
    text = "\n".join([""] * skipped_lines + [_shorten(line.rstrip("\r")) for line in lines[skipped_lines:]])
    structure = Structure([], [])
    if not _HEADING_LINE.search(text) and "#" not in text and "[[" not in text:
        return structure
    tokens: list[Token] = []
    _PARSER.block.parse(text, _PARSER, {}, tokens)
    for number, token in enumerate(tokens):
        if token.map is None:
            continue
        if token.type in ("fence", "code_block"):
            structure.code.append((token.map[0], token.map[1]))
        elif token.level == 0 and token.type == "heading_open":
            structure.headings.append(
                Heading(token.map[0], int(token.tag[1]), _plain_title(tokens[number + 1].content))
            )
        elif token.level == 0 and token.type == "html_block" and (match := _HTML_HEADING.match(token.content)):
            title = " ".join(_HTML_TAG.sub("", match[2]).split())
            structure.headings.append(Heading(token.map[0], int(match[1]), title[:MAX_TITLE_CHARACTERS]))
    return structure


def _shorten(line: str) -> str:
    half = _MAX_LINE_CHARACTERS // 2
    return line if len(line) <= _MAX_LINE_CHARACTERS else f"{line[:half]} {line[-half:]}"


def _plain_title(source: str) -> str:
    """Return the text of a heading without its markup."""
    children = (_PARSER.parseInline(source[:_MAX_TITLE_SOURCE])[0].children) or []
    text = "".join(_visible_texts(children))
    return " ".join(text.split())[:MAX_TITLE_CHARACTERS].rstrip()


def _visible_texts(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        match token.type:
            case "text" | "text_special" | "code_inline" | "image":
                yield token.content
            case "softbreak" | "hardbreak":
                yield " "


def find_labels(
    lines: Sequence[str], front_matter: FrontMatter, code: Sequence[tuple[int, int]]
) -> list[tuple[str, str]]:
    """Return the labels of a text as (name, value): `tags`, `alias`, `link`, and the attributes in its front matter.

    Tags are those of the front matter and each `#tag` outside code; `a/b` counts as `a`, too. Links are the pages in
    `[[…]]`.
    """
    links = dict.fromkeys(_find_links_in_fields(front_matter))
    tags = dict.fromkeys(_find_field_tags(front_matter))
    hidden = {number for start, end in code for number in range(start, end)}
    for number in range(front_matter.line_count, len(lines)):
        line = lines[number]
        if ("#" not in line and "[[" not in line) or number in hidden:
            continue
        plain = _INLINE_CODE.sub(" ", line) if "`" in line else line
        if len(links) < _MAX_LINKS:
            links.update(dict.fromkeys(_find_pages(plain)))
        if len(tags) < _MAX_TAGS:
            tags.update(dict.fromkeys(match[1].rstrip("/-") for match in _HASHTAG.finditer(plain)))
    aliases = [*front_matter.values("aliases"), *front_matter.values("alias")]
    return sorted(
        {*find_attributes(front_matter)} | {
            (name, value[:_MAX_LABEL_CHARACTERS])
            for name, values in (
                ("tags", list(_widen_tags(tags))[: 2 * _MAX_TAGS]), ("alias", aliases), ("link", list(links)[:_MAX_LINKS]),
            )
            for value in values
            if value and value.isprintable()
        }
    )  # fmt: skip


def _find_field_tags(front_matter: FrontMatter) -> Iterator[str]:
    """Yield the tags of the fields `tags`, `tag` and `keywords`; a scalar is a list separated by commas or spaces."""
    for name in ("tags", "tag", "keywords"):
        value = front_matter.fields.get(name)
        for text in front_matter.values(name):
            if isinstance(value, str):
                separated = text.split(",") if "," in text else _TAG_SEPARATOR.split(text)
                yield from (part.strip().strip("#[]\"'") for part in separated[:_MAX_TAGS])
            else:
                yield text.lstrip("#")
    taxonomies = front_matter.fields.get("taxonomies")  # of Zola
    if isinstance(taxonomies, dict):
        yield from FrontMatter(taxonomies).values("tags")


def _find_links_in_fields(front_matter: FrontMatter) -> Iterator[str]:
    for name in front_matter.fields:
        for text in front_matter.values(name):
            yield from _find_pages(text)


def _find_pages(text: str) -> Iterator[str]:
    """Yield the pages that `[[…]]` name, each also without its folders."""
    for match in _WIKILINK.finditer(text):
        page = match[1].strip().removesuffix(".md")
        yield page
        if "/" in page:
            yield page.rpartition("/")[2]


def _widen_tags(tags: Sequence[str] | dict[str, None]) -> Iterator[str]:
    """Yield each tag, its ancestors (`a` of `a/b`), and the same in small letters."""
    for tag in tags:
        parts = tag.split("/")
        for depth in range(1, min(len(parts), 8) + 1):
            name = "/".join(parts[:depth])
            yield name
            yield name.casefold()
