"""Paths of the work tree as bytes, and how their names are spelled in git trees.

Beside a file or directory `name` with attributes that git cannot hold lies the blob `.x~name` (see `sidecar`). A real name
that starts like one of ours, or that git refuses in trees, is stored behind `.n~`. Every name can be stored and comes back.
"""

from ctxfs.model.path import NAME_MAX_BYTES, one_line

MAX_DEPTH = 256  # names in a path; what lies deeper has no versions
SIDE = b".x~"
_ESCAPE = b".n~"
# Names that git's own checks refuse or read as configuration, however they are spelled on other systems.
_REFUSED = frozenset((b".git", b"git~1", b".gitmodules", b"gitmod~1"))


def stored_name(name: bytes) -> bytes:
    """The tree entry of the real name `name`."""
    if name.startswith((SIDE, _ESCAPE)):
        return _ESCAPE + name
    if name.isascii() and b"git" not in name.lower():
        return name
    return _ESCAPE + name if _plain(name) in _REFUSED else name


def side_name(name: bytes) -> bytes:
    """The tree entry that holds the attributes of the real name `name`."""
    return SIDE + name


def real_name(stored: bytes) -> bytes | None:
    """The real name of a tree entry; None for a side-car."""
    if stored.startswith(SIDE):
        return None
    return stored[len(_ESCAPE) :] if stored.startswith(_ESCAPE) else stored


def is_name(name: bytes) -> bool:
    """True for what can be the name of a file."""
    return 0 < len(name) <= NAME_MAX_BYTES and name not in (b".", b"..") and not {0, 0x2F} & {*name}


def path_bytes(text: str) -> bytes:
    """A path as the host has it; texts carry what is not UTF-8 as surrogates."""
    return text.strip("/").encode("utf-8", "surrogateescape")


def path_text(path: bytes) -> str:
    """The text that `path_bytes` takes."""
    return path.decode("utf-8", "surrogateescape")


def split_path(path: bytes) -> tuple[bytes, ...]:
    """The names in a path; none for the root."""
    return tuple(path.split(b"/")) if path else ()


def shown_path(path: bytes) -> str:
    """For people: without surrogates, `/` for the root."""
    return one_line(path_text(path)) or "/"


def stored_path(path: bytes) -> bytes:
    """A slash-separated real path as git spells it."""
    return b"/".join(stored_name(name) for name in path.split(b"/")) if path else b""


def _plain(name: bytes) -> bytes:
    """`name` as a careless file system would compare it: no case, no stream suffix, no trailing dots, ASCII only."""
    ascii_only = bytes(byte for byte in name if byte < 0x80)
    return ascii_only.partition(b":")[0].rstrip(b". ").lower()
