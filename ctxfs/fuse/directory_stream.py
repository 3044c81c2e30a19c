"""Listings that go on where they stopped, whatever has come and gone meanwhile.

A listing goes on after the *place* of a name, 1 … 2⁶³ - 1: those of `.` and `..` are the first. On disk the place follows from the
name alone, and names come in the order of their places: what comes after one is the same in every reading of a directory, and nobody
has to be remembered who reads one.
"""

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ctxfs.fuse.inodes import Node
from ctxfs.model.entry import Entry

DOT, DOTS = 1, 2
_HASH_BITS = 32


def place_of(name: bytes) -> int:
    """The place of a name on disk. Two names of one directory share theirs once in 2⁶² pairs, and nobody who makes names knows the seed
    of this process. `fastpath.Loop.entries` has the same.
    """
    return max((hash(name) >> 1) + (1 << 62), DOTS + 1)


@dataclass(slots=True)
class DirectoryStream:
    """A directory that is read: its names as of the last rewind."""

    node: Node
    opens: bool = False  # it has been opened, and will be closed
    held: int | None = None  # a descriptor, of one on disk that has been opened
    names: list[bytes] | None = None
    # It may have other names at the same time: the kernel must not keep them.
    fleeting: bool = False
    # Of a directory that the tree makes.
    made: Mapping[bytes, Entry] = field(default_factory=dict)

    def take(self, names: Iterable[bytes]) -> list[bytes]:
        """These are in it, on disk. Returns them in the order of their places."""
        self.names = sorted(names, key=hash)
        return self.names

    def after(self, place: int) -> int:
        """Where in `names` it goes on after a place; 0 is before all."""
        return bisect.bisect_right(self.names or (), place, key=place_of) if place else 0

    # What the tree makes has an order: in that of a task the request comes last, for with it the others go.

    def take_made(self, made: Mapping[bytes, Entry]) -> list[bytes]:
        """The same, of what the tree makes: in its order."""
        self.made, self.names = made, list(made)
        return self.names

    def place_made(self, index: int) -> int:
        """The place of a name that the tree has made, by where it is and what it is."""
        assert self.names is not None
        return (index + 1) << _HASH_BITS | _short_hash(self.names[index])

    def after_made(self, place: int) -> int:
        """Where it goes on: behind the same name, wherever that is by now; where it was if it is gone."""
        names, index = self.names or [], place >> _HASH_BITS
        short = place & (1 << _HASH_BITS) - 1
        if not index or (index <= len(names) and _short_hash(names[index - 1]) == short):
            return index
        return next((at + 1 for at, name in enumerate(names) if _short_hash(name) == short), min(index, len(names)))


def _short_hash(name: bytes) -> int:
    return hash(name) & (1 << _HASH_BITS) - 1
