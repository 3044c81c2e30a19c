"""The objects of a repository that are in memory: those read or written lately, and those that are not stored yet.

The content of an id never changes, so a cached object is never stale. It can be deleted from the repository, by an
erasure for example: `clear` then.
"""

from collections import OrderedDict
from typing import NamedTuple

MAX_CACHED_BYTES = 4_000_000
MAX_CACHED_OBJECT_BYTES = 100_000
_OVERHEAD_BYTES = 300  # of a cached object, beside its content


class StoredObject(NamedTuple):
    """An object: `blob`, `tree`, `commit` or `tag`, and its content."""

    kind: str
    data: bytes


class ObjectMemory:
    """Objects by id. `pending` are those that the repository lacks on disk."""

    def __init__(self) -> None:
        self.pending: dict[str, StoredObject] = {}
        self.pending_bytes = 0
        self._cache: OrderedDict[str, StoredObject] = OrderedDict()
        self._cached_bytes = 0

    def find(self, oid: str) -> StoredObject | None:
        """Return an object that is in memory."""
        item = self._cache.get(oid)
        if item is not None:
            self._cache.move_to_end(oid)
            return item
        return self.pending.get(oid)

    def cache(self, oid: str, item: StoredObject) -> None:
        """Keep a small object of the repository for later reads."""
        if len(item.data) > MAX_CACHED_OBJECT_BYTES or oid in self._cache:
            return
        self._cache[oid] = item
        self._cached_bytes += len(item.data) + _OVERHEAD_BYTES
        while self._cached_bytes > MAX_CACHED_BYTES:
            _, dropped = self._cache.popitem(last=False)
            self._cached_bytes -= len(dropped.data) + _OVERHEAD_BYTES

    def add_pending(self, oid: str, item: StoredObject) -> None:
        """Keep an object until it is stored or dropped."""
        if oid not in self.pending:
            self.pending[oid] = item
            self.pending_bytes += len(item.data)

    def take_pending(self) -> dict[str, StoredObject]:
        """Return the objects that are to be stored, and keep none of them."""
        items, self.pending, self.pending_bytes = self.pending, {}, 0
        return items

    def clear(self) -> None:
        """Forget the cached objects."""
        self._cache.clear()
        self._cached_bytes = 0
