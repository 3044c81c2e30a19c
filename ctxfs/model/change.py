"""The six changes of a tree. A closed union: a `match` over it ends in assert_never."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ctxfs.model.path import Path

ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Put:
    """Make `path` a file with exactly the content `data`, atomically: create or replace it.

    Attributes (`user.*`) of the file stay, except those that are given here by full name: a writer cannot remove a
    mark. `expects` is the sha256 of the content to replace, or its first digits, or ABSENT; if it is empty any content
    is replaced.
    """

    path: Path
    data: bytes
    attributes: Mapping[str, bytes] = field(default_factory=dict)
    expects: str = ""


MAX_LINE = 4_000_000  # bytes of an appended line


@dataclass(frozen=True, slots=True)
class Append:
    """Append `data`, lines of at most MAX_LINE bytes, to the file `path`.

    Only append-only mounts accept it.
    """

    path: Path
    data: bytes


@dataclass(frozen=True, slots=True)
class MakeDir:
    """Make an empty directory; EEXIST if the path exists."""

    path: Path


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file, a link or an empty directory. `expects` is the content of the file, as in `Put`."""

    path: Path
    expects: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """Rename within one mount, replacing a file at `to`. `expects` is the content of the renamed file, as in `Put`."""

    path: Path
    to: Path
    expects: str = ""


@dataclass(frozen=True, slots=True)
class SetMeta:
    """Set the extended attribute `name`, or remove it when `value` is None."""

    path: Path
    name: str
    value: bytes | None


Change = Put | Append | MakeDir | Remove | Move | SetMeta
