"""Paths in the tree. They are checked on input, and every Path is valid."""

import errno
import re
from dataclasses import dataclass

from ctxfs.model.errors import invalid, path_error

NAME_MAX_BYTES = 255


def check_name(name: str) -> str:
    """Return `name` if it can be one path component.

    Names are text with surrogateescape, so that any byte string but NUL and `/` round-trips. Raise EINVAL for an empty
    name, `.`, `..`, NUL or `/`; ENAMETOOLONG beyond 255 bytes.
    """
    if name in ("", ".", ".."):
        raise invalid(name, "a name cannot be empty, '.' or '..'")
    if "\0" in name or "/" in name:
        raise invalid(name.replace("\0", "\\0"), "a name cannot hold NUL or '/'")
    # A character has at most 4 bytes: only long names need to be encoded.
    if len(name) * 4 > NAME_MAX_BYTES and len(encode_name(name)) > NAME_MAX_BYTES:
        raise path_error(errno.ENAMETOOLONG, name)
    return name


def encode_name(name: str) -> bytes:
    """Return the bytes of a name as the host file system stores them."""
    return name.encode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    """Return `text` without lone surrogates, for JSON and terminals; not reversible."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# Characters that end a line, move a cursor, change the writing direction or hide a text: C0, C1, line and paragraph
# separators, bidi controls, interlinear marks, tags.
_ACTIVE_CHARACTERS = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_NAMED_ESCAPES = {"\n": "\\n", "\r": "\\r"}


def one_line(text: str) -> str:
    """Return untrusted text (a name, a heading, a message) as a part of one line, with active characters escaped.

    Characters that could end the line or hide in it appear as `\\n`, `\\x1b`, `\\u202e` in a terminal, an audit line or
    a heading. Tabs stay. Not reversible.
    """
    return text if text.isascii() and text.isprintable() else _ACTIVE_CHARACTERS.sub(_escape, printable_text(text))


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


@dataclass(frozen=True, slots=True, order=True)
class Path:
    """The names from the root of a tree, or of a mount, downwards; the empty path is the root."""

    parts: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Path":
        """Parse `a/b/c`. Leading, trailing and doubled slashes are dropped. Raise EINVAL for `..`."""
        return cls(tuple(check_name(part) for part in text.split("/") if part not in ("", ".")))

    def __truediv__(self, name: str) -> "Path":
        return Path((*self.parts, check_name(name)))

    def join(self, other: "Path") -> "Path":
        """Return the path of `other` relative to this path."""
        return Path(self.parts + other.parts)

    def __str__(self) -> str:
        return "/".join(self.parts)

    @property
    def name(self) -> str:
        """The last component; empty for the root."""
        return self.parts[-1] if self.parts else ""

    @property
    def parent(self) -> "Path":
        """The directory of this path; the root is its own parent."""
        return Path(self.parts[:-1])

    @property
    def is_root(self) -> bool:
        """True for the empty path."""
        return not self.parts

    def is_below(self, other: "Path") -> bool:
        """Return True if `other` is this path or an ancestor of it, component by component."""
        return self.parts[: len(other.parts)] == other.parts

    def relative_to(self, other: "Path") -> "Path":
        """Return this path relative to `other`, an ancestor or the path itself. Raise ValueError if it is neither."""
        if not self.is_below(other):
            raise ValueError(f"{self} is not below {other}")
        return Path(self.parts[len(other.parts) :])

    def seen_from(self, directory: "Path") -> str:
        """Return the text of a relative link from `directory` to this path."""
        shared_depth = 0
        for own_part, other_part in zip(self.parts, directory.parts, strict=False):
            if own_part != other_part:
                break
            shared_depth += 1
        ups = [".."] * (len(directory.parts) - shared_depth)
        return "/".join([*ups, *self.parts[shared_depth:]]) or "."


ROOT = Path()
