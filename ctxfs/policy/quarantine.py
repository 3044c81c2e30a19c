"""The quarantine: paths and contents that agents cannot read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ctxfs.model.path import Path


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The quarantined paths of the tree, and the git ids of quarantined contents by size in bytes.

    The object is immutable, because threads and processes share it.
    """

    paths: frozenset[str] = frozenset()
    contents: Mapping[int, frozenset[str]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """True without quarantined paths and contents."""
        return not self.paths and not self.contents

    def covers(self, path: Path) -> bool:
        """Return True for a quarantined path, and for the paths of views below it, such as its versions."""
        return bool(self.paths) and any(
            "/".join(path.parts[: depth + 1]) in self.paths for depth in range(len(path.parts))
        )

    def reaches_below(self, path: Path) -> bool:
        """Return True for a directory with a quarantined path below it."""
        start = f"{path}/" if path.parts else ""
        return any(quarantined.startswith(start) for quarantined in self.paths)

    @property
    def wire(self) -> list[object]:
        """The quarantine as plain values, for other processes."""
        return [sorted(self.paths), {size: sorted(ids) for size, ids in self.contents.items()}]


NO_QUARANTINE = Quarantine()


class QuarantineSource(Protocol):
    """The marks of a store, as the policy needs them."""

    @property
    def quarantine(self) -> Quarantine:
        """The current quarantine."""
        ...


class NoMarks:
    """The substitute without a store: nothing is in quarantine."""

    quarantine = NO_QUARANTINE


def quarantine_from_wire(value: list[object]) -> Quarantine:
    """Return the quarantine from the value of `Quarantine.wire`."""
    paths, contents = value
    assert isinstance(paths, list)
    assert isinstance(contents, dict)
    return Quarantine(frozenset(paths), {int(size): frozenset(ids) for size, ids in contents.items()})
