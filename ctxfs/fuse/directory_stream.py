"""Directory streams: readdir cookies that stay valid while names are added and removed.

The cookie of a name is 1 … 2⁶³ - 1; `.` and `..` have the first two. A read continues after a cookie. On disk the
cookie follows from the name alone, and names are sorted by cookie. Every reader of a directory therefore continues with
the same names, and no state per reader is needed.
"""

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ctxfs.fuse.inodes import Node
from ctxfs.model.entry import Entry

DOT, DOTS = 1, 2
_HASH_BITS = 32


def cookie_of(name: bytes) -> int:
    """Return the readdir cookie of a name on disk.

    Two names of one directory collide once in 2⁶² pairs. The seed of the hash is private to this process, so that
    callers cannot choose colliding names. `fastpath.Loop.entries` computes the same cookies.
    """
    return max((hash(name) >> 1) + (1 << 62), DOTS + 1)


@dataclass(slots=True)
class DirectoryStream:
    """A directory that is being read: its names as of the last rewind."""

    node: Node
    has_handle: bool = False  # OPENDIR was received, so RELEASEDIR follows
    fd: int | None = None  # the descriptor of an opened directory on disk
    names: list[bytes] | None = None
    # Names may change without a new modification time: the kernel must not cache them.
    is_volatile: bool = False
    # The entries of a synthetic directory.
    entries: Mapping[bytes, Entry] = field(default_factory=dict)

    def set_names(self, names: Iterable[bytes]) -> list[bytes]:
        """Store the names of a directory on disk and return them, sorted by cookie."""
        self.names = sorted(names, key=hash)
        return self.names

    def index_after(self, cookie: int) -> int:
        """Return the index in `names` of the first name after a cookie; cookie 0 precedes all names."""
        return bisect.bisect_right(self.names or (), cookie, key=cookie_of) if cookie else 0

    # Synthetic entries keep the tree's order: in a task the request is last, because its removal removes the others.

    def set_entries(self, entries: Mapping[bytes, Entry]) -> list[bytes]:
        """Store the entries of a synthetic directory and return their names, in the order of the tree."""
        self.entries, self.names = entries, list(entries)
        return self.names

    def entry_cookie(self, index: int) -> int:
        """Return the readdir cookie of a synthetic name: its index and a hash of the name."""
        assert self.names is not None
        return (index + 1) << _HASH_BITS | _name_hash(self.names[index])

    def entry_index_after(self, cookie: int) -> int:
        """Return the index at which a synthetic directory continues after a cookie.

        It follows the same name, wherever that is now. If the name is gone, the index is the former one.
        """
        names, index = self.names or [], cookie >> _HASH_BITS
        name_hash = cookie & (1 << _HASH_BITS) - 1
        if not index or (index <= len(names) and _name_hash(names[index - 1]) == name_hash):
            return index
        return next(
            (position + 1 for position, name in enumerate(names) if _name_hash(name) == name_hash),
            min(index, len(names)),
        )


def _name_hash(name: bytes) -> int:
    return hash(name) & (1 << _HASH_BITS) - 1
