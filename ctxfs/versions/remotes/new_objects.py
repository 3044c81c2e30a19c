"""The objects that commits add to a repository: their trees, blobs and large contents."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ctxfs.versions.objects.trees import MODE_DIR, TreeEntry, Trees


class NamedEntry(NamedTuple):
    """An entry of a tree with the name under which it is stored; the root of a version has no name."""

    stored: bytes
    entry: TreeEntry


def list_new_entries(trees: Trees, versions: Iterable[tuple[str | None, str]]) -> Iterator[NamedEntry]:
    """Yield each object of some trees once, without those that stay as they were. Raise ValueError for a damaged tree.

    `versions` are pairs (the tree before, the tree). Each tree object is visited once, so a tree bomb costs no time.
    """
    seen: set[str] = set()
    for before, after in versions:
        pending = [(before, NamedEntry(b"", TreeEntry(MODE_DIR, after)))] if before != after else []
        while pending:
            old, named = pending.pop()
            if named.entry.oid in seen:
                continue
            seen.add(named.entry.oid)
            yield named
            previous = trees.listing(old) if old else {}
            for stored, entry in trees.listing(named.entry.oid).items():
                counterpart = previous.get(stored)
                if counterpart == entry or entry.oid in seen:
                    continue
                if entry.mode == MODE_DIR:
                    is_directory = counterpart is not None and counterpart.mode == MODE_DIR
                    old_tree = counterpart.oid if is_directory and counterpart else None
                    pending.append((old_tree, NamedEntry(stored, entry)))
                else:
                    seen.add(entry.oid)
                    yield NamedEntry(stored, entry)
