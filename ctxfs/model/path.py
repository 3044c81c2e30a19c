"""Paths in the tree. They are checked on input, and every Path is valid."""

import errno
from dataclasses import dataclass

from ctxfs.model.errors import invalid, path_error
from ctxfs.model.escapes import lines_of as lines_of
from ctxfs.model.escapes import one_line as one_line
from ctxfs.model.escapes import printable as printable
from ctxfs.model.escapes import printable_text as printable_text

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
