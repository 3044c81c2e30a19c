"""Text as HTML: source code with its syntax, Markdown without raw HTML and without images of other hosts.

The libraries that do it run in a process of their own (`rendering_process`), because texts of agents can be made to take
long. This is the only module that imports Pygments.
"""

from collections.abc import Sequence
from html import escape
from typing import Any
from urllib.parse import quote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import lex
from pygments.lexer import Lexer
from pygments.lexers import get_lexer_for_filename
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

_MAX_FRONT_MATTER_CHARACTERS = 20_000
_OUTER_SCHEMES = ("http", "https", "mailto")


def render_code(name: str, text: str) -> list[str]:
    """Return the lines of a file as HTML; empty if its syntax is not known."""
    try:
        lexer: Lexer = get_lexer_for_filename(name, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return []
    lines, line = [], ""
    for kind, value in lex(text, lexer):
        css = _css_class(kind)
        for number, part in enumerate(value.split("\n")):
            if number:
                lines.append(line)
                line = ""
            if part:
                line += f'<span class="{css}">{escape(part)}</span>' if css else escape(part)
    return [*lines, line]


def _css_class(kind: Any) -> str:
    while kind is not None and kind not in STANDARD_TYPES:
        kind = kind.parent
    return str(STANDARD_TYPES.get(kind, ""))


def render_markdown(text: str, base: Sequence[str], file_url: str) -> str:
    """Return Markdown as HTML.

    Relative links lead to files of the tree: `base` is the directory of the text, `file_url` the address that a path is
    added to. Other links show where they lead. Images are links, too: none is loaded.
    """
    front, text = _split_front_matter(text)
    parser = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")
    tokens = parser.parse(text)
    _fit_headings(tokens)
    for token in tokens:
        for child in token.children or ():
            if child.type == "link_open":
                _rewrite_link(child, base, file_url)
    html: str = parser.renderer.render(tokens, parser.options, {})
    return (f'<pre class="front">{escape(front)}</pre>\n' if front else "") + html


def _split_front_matter(text: str) -> tuple[str, str]:
    """Return (front matter, rest) of a text; without its fences, and empty if there is none."""
    end = text.find("\n---\n", 3, _MAX_FRONT_MATTER_CHARACTERS) if text.startswith("---\n") else -1
    return (text[4:end], text[end + 5 :]) if end >= 0 else ("", text)


def _fit_headings(tokens: Sequence[Token]) -> None:
    """Move headings below that of the page, without a level that is left out: readers find their way by levels."""
    level = 1
    for token in tokens:
        if token.type == "heading_open":
            level = min(6, int(token.tag[1]) + 1, level + 1)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{level}"


def _rewrite_link(token: Token, base: Sequence[str], file_url: str) -> None:
    href = str(token.attrs.get("href", ""))
    try:
        parts = urlsplit(href)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme in _OUTER_SCHEMES or parts.netloc:
        token.attrs = {"href": href, "rel": "noreferrer noopener nofollow", "class": "outer", "title": href}
        return
    path = _join_path(base, parts.path) if parts.path else None
    token.attrs = {"href": f"{file_url}{quote(path)}"} if path is not None else {"href": "#"}


def _join_path(base: Sequence[str], relative: str) -> str | None:
    """Return a path of the tree; None for one that leads out of it."""
    names = [] if relative.startswith("/") else list(base)
    for part in relative.split("/"):
        if part == "..":
            if not names:
                return None
            names.pop()
        elif part not in ("", "."):
            names.append(part)
    return "/".join(names)
