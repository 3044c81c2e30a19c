"""Git trees as values: parse, edit, compare. This module has no access to files or processes."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

MODE_DIR = 0o040000
MODE_FILE = 0o100644
MODE_PROGRAM = 0o100755
MODE_LINK = 0o120000
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

Parts = tuple[bytes, ...]


class TreeEntry(NamedTuple):
    """The target of a name in a tree: a git mode and the hexadecimal id of a blob or tree."""

    mode: int
    oid: str


Listing = Mapping[bytes, TreeEntry]


class ObjectDatabase(Protocol):
    """An object database."""

    def read(self, oid: str) -> bytes:
        """Return the content of an object. Raise OSError EIO if it is missing."""
        ...

    def write(self, kind: str, data: bytes) -> str:
        """Store an object of the kind `blob`, `tree` or `commit` and return its id."""
        ...


class Change(NamedTuple):
    """A path whose entry differs between two trees; None stands for absence."""

    parts: Parts
    old: TreeEntry | None
    new: TreeEntry | None


def parse_tree(data: bytes) -> dict[bytes, TreeEntry]:
    """Return the entries of a tree object. Raise ValueError if the data is not a tree."""
    entries: dict[bytes, TreeEntry] = {}
    offset = 0
    while offset < len(data):
        space = data.index(b" ", offset)
        end = data.index(b"\0", space)
        entries[data[space + 1 : end]] = TreeEntry(int(data[offset:space], 8), data[end + 1 : end + 21].hex())
        offset = end + 21
    if offset != len(data):
        raise ValueError("the last entry of a tree is truncated")
    return entries


def encode_tree(listing: Listing) -> bytes:
    """Return the tree object of a listing, in git's order: directories sort as if their name ended in a slash."""
    ordered = sorted(listing.items(), key=lambda item: item[0] + b"/" if item[1].mode == MODE_DIR else item[0])
    return b"".join(b"%o %b\0" % (entry.mode, name) + bytes.fromhex(entry.oid) for name, entry in ordered)


class Trees:
    """The trees of one repository, behind an LRU cache of at most `max_entries` entries.

    One thread at a time uses an instance.
    """

    def __init__(self, objects: ObjectDatabase, max_entries: int = 100_000) -> None:
        self._objects = objects
        self._cache: OrderedDict[str, dict[bytes, TreeEntry]] = OrderedDict()
        self._max_entries = max_entries
        self._cached_entries = 0

    def listing(self, oid: str) -> Listing:
        """Return the entries of the tree `oid`. The caller must not change them."""
        listing = self._cache.get(oid)
        if listing is not None:
            self._cache.move_to_end(oid)
            return listing
        listing = {} if oid == EMPTY_TREE else parse_tree(self._objects.read(oid))
        self._cache_listing(oid, listing)
        return listing

    def clear(self) -> None:
        """Empty the cache."""
        self._cache.clear()
        self._cached_entries = 0

    def find(self, root: str, parts: Parts) -> TreeEntry | None:
        """Return the entry at `parts` below the tree `root`, or None."""
        entry = TreeEntry(MODE_DIR, root)
        for name in parts:
            if entry.mode != MODE_DIR:
                return None
            child = self.listing(entry.oid).get(name)
            if child is None:
                return None
            entry = child
        return entry

    def edit(self, root: str, changes: Mapping[Parts, TreeEntry | None]) -> str:
        """Return the id of the tree `root` with `changes` applied, each to the last name of its path.

        Only trees on changed paths are written. Missing directories of new entries are created. A removal below a
        missing path has no effect. A path and a path below it may both be given: the upper one is applied first.
        """
        if () in changes:
            top = changes[()]
            root = top.oid if top else EMPTY_TREE
            changes = {parts: entry for parts, entry in changes.items() if parts}
            if not changes:
                return root
        directories = _group_by_directory(changes)
        listings: dict[Parts, dict[bytes, TreeEntry]] = {}
        pending: list[tuple[Parts, str]] = [((), root)]
        while pending:
            directory, oid = pending.pop()
            listing = listings[directory] = dict(self.listing(oid))
            for name, entry in directories[directory].entries.items():
                if entry is None:
                    listing.pop(name, None)
                else:
                    listing[name] = entry
            for name in directories[directory].changed_names:
                old, child = listing.get(name), (*directory, name)
                if old is not None and old.mode == MODE_DIR:
                    pending.append((child, old.oid))
                elif directories[child].has_additions:
                    pending.append((child, EMPTY_TREE))
        for directory in reversed(listings):
            if directory:
                listings[directory[:-1]][directory[-1]] = TreeEntry(MODE_DIR, self.write(listings[directory]))
        return self.write(listings[()])

    def write(self, listing: Listing) -> str:
        """Store a tree and return its id."""
        oid = self._objects.write("tree", encode_tree(listing))
        if oid not in self._cache:
            self._cache_listing(oid, dict(listing))
        return oid

    def compare(self, old: str | None, new: str | None, below: Parts = ()) -> Iterator[Change]:
        """Yield every path whose entry differs between two trees, parents before children.

        Directories are compared as well as files. `below` is the path of both trees.
        """
        # A stack, here and elsewhere: trees can be deeper than the interpreter's recursion limit.
        levels = [self._differences(old, new, below)]
        while levels:
            change = next(levels[-1], None)
            if change is None:
                levels.pop()
                continue
            yield change
            old_tree = change.old.oid if change.old and change.old.mode == MODE_DIR else None
            new_tree = change.new.oid if change.new and change.new.mode == MODE_DIR else None
            if old_tree != new_tree:
                levels.append(self._differences(old_tree, new_tree, change.parts))

    def _differences(self, old: str | None, new: str | None, below: Parts) -> Iterator[Change]:
        """Yield the names in two trees whose entries differ."""
        before = self.listing(old) if old and old != new else {}
        after = self.listing(new) if new and old != new else {}
        for name in sorted({name for name, _ in before.items() ^ after.items()}):
            yield Change((*below, name), before.get(name), after.get(name))

    def walk(self, root: str, below: Parts = ()) -> Iterator[tuple[Parts, TreeEntry]]:
        """Yield every entry below a tree, parents first."""
        levels = [(below, iter(sorted(self.listing(root).items())))]
        while levels:
            directory, entries = levels[-1]
            name, entry = next(entries, (b"", None))
            if entry is None:
                levels.pop()
                continue
            yield (*directory, name), entry
            if entry.mode == MODE_DIR:
                levels.append(((*directory, name), iter(sorted(self.listing(entry.oid).items()))))

    def _cache_listing(self, oid: str, listing: dict[bytes, TreeEntry]) -> None:
        self._cache[oid] = listing
        self._cached_entries += len(listing) + 1
        while self._cached_entries > self._max_entries and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._cached_entries -= len(dropped) + 1


class _DirectoryChanges:
    """The changes of one directory: its own `entries`, and the names (`changed_names`) below which there are others.

    `has_additions` is True if one of them adds an entry.
    """

    __slots__ = ("changed_names", "entries", "has_additions")

    def __init__(self) -> None:
        self.entries: dict[bytes, TreeEntry | None] = {}
        self.changed_names: dict[bytes, None] = {}
        self.has_additions = False


def _group_by_directory(changes: Mapping[Parts, TreeEntry | None]) -> dict[Parts, _DirectoryChanges]:
    """Return changes by the directory that contains them, with every directory above."""
    directories: dict[Parts, _DirectoryChanges] = {(): _DirectoryChanges()}
    for parts, entry in changes.items():
        directory, missing = parts[:-1], list[Parts]()
        while directory not in directories:
            directories[directory] = _DirectoryChanges()
            missing.append(directory)
            directory = directory[:-1]
        for added in missing:
            directories[added[:-1]].changed_names[added[-1]] = None
        directories[parts[:-1]].entries[parts[-1]] = entry
        directory = parts[:-1]
        while entry is not None and not directories[directory].has_additions:
            directories[directory].has_additions = True
            directory = directory[:-1]
    return directories
