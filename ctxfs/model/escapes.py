"""Untrusted text for terminals, logs and JSON. It imports few modules, so that commands start fast."""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    import re

# Characters that end a line, move a cursor, change the writing direction or hide a text: C0, C1, line and paragraph
# separators, bidi controls, interlinear marks, tags.
_ACTIVE_CHARACTERS = (
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r"}


def printable(text: str) -> str:
    """Return `text` without lone surrogates, for JSON and terminals; not reversible."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def one_line(text: str) -> str:
    """Return untrusted text (a name, a heading, a message) as a part of one line, with active characters escaped.

    Characters that could end the line or hide in it appear as `\\n`, `\\x1b`, `\\u202e` in a terminal, an audit line or
    a heading. Tabs stay. Not reversible.
    """
    if text.isprintable():  # no active character is printable: they are Cc, Cf, Cs, Zl, Zp or unassigned
        return text
    import re  # most texts do not need it

    return re.sub(_ACTIVE_CHARACTERS, _escape, printable_text(text))  # compiled once: re has a cache


def lines_of(text: str) -> str:
    """Return text of several lines for a terminal, with each line escaped as in `one_line`."""
    return "\n".join(map(one_line, text.split("\n")))


def printable_text(text: str) -> str:
    """Return `text` with bytes that are not UTF-8 replaced by U+FFFD."""
    try:
        return printable(text)
    except UnicodeEncodeError:  # a lone surrogate
        return text.encode("utf-8", "replace").decode()


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return _NAMED_ESCAPES.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
