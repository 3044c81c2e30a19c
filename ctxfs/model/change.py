"""The six things that can be done to a tree. A closed union: a `match` over it ends in assert_never."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ctxfs.model.path import Path

ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Put:
    """Make `path` a file whose whole content is `data`, atomically; creates or replaces.

    What attributes (`user.*`) a file has stay, but for those given here by their full names: whoever writes to a file takes no mark
    from it. `expects`: the sha256, or its first digits, of what is to be replaced, or ABSENT; empty: whatever is there.
    """

    path: Path
    data: bytes
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    expects: str = ""


MAX_LINE = 4_000_000  # bytes of a line that is appended


@dataclass(frozen=True, slots=True)
class Append:
    """Add `data`, lines of at most MAX_LINE, to the end of the file `path`, wherever that is; only where files do nothing but grow."""

    path: Path
    data: bytes


@dataclass(frozen=True, slots=True)
class MakeDir:
    """Make an empty directory; EEXIST if anything is there."""

    path: Path


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file, a link or an empty directory."""

    path: Path


@dataclass(frozen=True, slots=True)
class Move:
    """Rename within one mount, replacing a file at `to`."""

    path: Path
    to: Path


@dataclass(frozen=True, slots=True)
class SetMeta:
    """Set the extended attribute `name`, or remove it when `value` is None."""

    path: Path
    name: str
    value: bytes | None


Change = Put | Append | MakeDir | Remove | Move | SetMeta
