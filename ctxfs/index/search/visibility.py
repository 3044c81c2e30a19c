"""The part of the index that a principal may see, and the statistics of that part."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import tree_path
from ctxfs.index.search.chunk_columns import ChunkColumns, CorpusCounts


class Reader(Protocol):
    """A principal with limited read permission. `key` changes whenever its results may change."""

    key: Hashable

    def may_read(self, path: str) -> bool:
        """Return True if the principal may read the content of the file at `path`."""
        ...

    @property
    def sees_quarantined(self) -> bool:
        """True for people, who find quarantined files."""
        ...


@dataclass(slots=True)
class Visibility:
    """The files that a reader may not see, and the statistics of the rest.

    `hidden_parts` is the number of hidden files that are parts of sessions' files.
    Invariant: no score may depend on content that the reader cannot see.
    """

    hidden_files: frozenset[int]
    hidden_parts: int
    corpus: CorpusCounts
    document_frequencies: dict[tuple[str, str], int] = field(default_factory=dict)


def find_visibility(catalog: Catalog, columns: ChunkColumns, reader: Reader) -> Visibility:
    """Return the part of the index that a reader may see. Decides on each file of the catalog."""
    hidden_files: set[int] = set()
    hidden_parts = 0
    for number, path in catalog.all_paths():
        if not reader.may_read(shown := tree_path(path)):
            hidden_files.add(number)
            hidden_parts += shown != path
    if not reader.sees_quarantined:
        hidden_files |= catalog.quarantined()
    hidden = frozenset(hidden_files)
    return Visibility(hidden, hidden_parts, columns.corpus_counts(hidden))


def may_see(reader: Reader, path: str, attributes: Sequence[tuple[str, str]]) -> bool:
    """Return True if a reader may see a file of the overlay."""
    is_shown = reader.sees_quarantined or ("quarantined", "true") not in attributes
    return is_shown and reader.may_read(tree_path(path))
