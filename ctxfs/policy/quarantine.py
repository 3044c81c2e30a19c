"""What is in quarantine, as whoever reads for an agent needs to know it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ctxfs.model.path import Path


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Paths of the tree, and contents as size in bytes → git ids. Immutable: threads and processes share it."""

    paths: frozenset[str] = frozenset()
    contents: Mapping[int, frozenset[str]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """True where nothing is in quarantine."""
        return not self.paths and not self.contents

    def covers(self, path: Path) -> bool:
        """True for a path in quarantine, and for what a view shows below it: its versions."""
        return bool(self.paths) and any(
            "/".join(path.parts[: depth + 1]) in self.paths for depth in range(len(path.parts))
        )

    def reaches_below(self, path: Path) -> bool:
        """True for a directory with something in quarantine in it."""
        start = f"{path}/" if path.parts else ""
        return any(each.startswith(start) for each in self.paths)

    @property
    def wire(self) -> list[object]:
        """As plain values, for other processes."""
        return [sorted(self.paths), {size: sorted(ids) for size, ids in self.contents.items()}]


NO_QUARANTINE = Quarantine()


def quarantine_from_wire(value: list[object]) -> Quarantine:
    """What `Quarantine.wire` made."""
    paths, contents = value
    assert isinstance(paths, list)
    assert isinstance(contents, dict)
    return Quarantine(frozenset(paths), {int(size): frozenset(ids) for size, ids in contents.items()})
