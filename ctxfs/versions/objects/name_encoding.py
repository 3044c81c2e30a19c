"""The encoding of real names, as bytes, in git trees.

The attributes of `name` that git cannot hold are in the blob `.x~name` beside it (see `sidecar`). Real names that
begin with a prefix of this encoding, or that git refuses in trees, are stored with the prefix `.n~`. Every name can be
stored, and decodes to itself.
"""

from ctxfs.model.path import NAME_MAX_BYTES, one_line

MAX_PATH_NAMES = 256  # names in a path; deeper paths have no versions
SIDE_PREFIX = b".x~"
_ESCAPE_PREFIX = b".n~"
# Names that git's own checks refuse or read as configuration, in each spelling that other systems consider equal.
_REFUSED_NAMES = frozenset((b".git", b"git~1", b".gitmodules", b"gitmod~1"))


def stored_name(name: bytes) -> bytes:
    """Return the tree entry's name for the real name `name`."""
    if name.startswith((SIDE_PREFIX, _ESCAPE_PREFIX)):
        return _ESCAPE_PREFIX + name
    if name.isascii() and b"git" not in name.lower():
        return name
    return _ESCAPE_PREFIX + name if _fold_name(name) in _REFUSED_NAMES else name


def sidecar_name(name: bytes) -> bytes:
    """Return the name of the tree entry with the side-car of the real name `name`."""
    return SIDE_PREFIX + name


def real_name(stored: bytes) -> bytes | None:
    """Return the real name of a tree entry; None for a side-car."""
    if stored.startswith(SIDE_PREFIX):
        return None
    return stored[len(_ESCAPE_PREFIX) :] if stored.startswith(_ESCAPE_PREFIX) else stored


def is_valid_name(name: bytes) -> bool:
    """Return True if the bytes are a valid file name."""
    return 0 < len(name) <= NAME_MAX_BYTES and name not in (b".", b"..") and not {0, 0x2F} & {*name}


def path_bytes(text: str) -> bytes:
    """Return a path as the host encodes it. Bytes that are not UTF-8 are surrogates in the text."""
    return text.strip("/").encode("utf-8", "surrogateescape")


def path_text(path: bytes) -> str:
    """Return the text of a path, the inverse of `path_bytes`."""
    return path.decode("utf-8", "surrogateescape")


def split_path(path: bytes) -> tuple[bytes, ...]:
    """Return the names in a path; an empty tuple for the root."""
    return tuple(path.split(b"/")) if path else ()


def display_path(path: bytes) -> str:
    """Return a path for display: without surrogates, `/` for the root."""
    return one_line(path_text(path)) or "/"


def stored_path(path: bytes) -> bytes:
    """Return a slash-separated real path in the encoding of git trees."""
    return b"/".join(stored_name(name) for name in path.split(b"/")) if path else b""


def _fold_name(name: bytes) -> bytes:
    """Return `name` as a lenient file system compares it: no case, no stream suffix, no trailing dots, ASCII only."""
    ascii_only = bytes(byte for byte in name if byte < 0x80)
    return ascii_only.partition(b":")[0].rstrip(b". ").lower()
