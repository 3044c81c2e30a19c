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


class Objects(Protocol):
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
    found: dict[bytes, TreeEntry] = {}
    at = 0
    while at < len(data):
        space = data.index(b" ", at)
        end = data.index(b"\0", space)
        found[data[space + 1 : end]] = TreeEntry(int(data[at:space], 8), data[end + 1 : end + 21].hex())
        at = end + 21
    if at != len(data):
        raise ValueError("the last entry of a tree is cut")
    return found


def encode_tree(listing: Listing) -> bytes:
    """Return the tree object of a listing, in git's order: directories sort as if their name ended in a slash."""
    ordered = sorted(listing.items(), key=lambda item: item[0] + b"/" if item[1].mode == MODE_DIR else item[0])
    return b"".join(b"%o %b\0" % (entry.mode, name) + bytes.fromhex(entry.oid) for name, entry in ordered)


class Trees:
    """The trees of one repository, behind an LRU cache of at most `keep_entries` entries.

    One thread at a time uses an instance.
    """

    def __init__(self, objects: Objects, keep_entries: int = 100_000) -> None:
        self._objects = objects
        self._cache: OrderedDict[str, dict[bytes, TreeEntry]] = OrderedDict()
        self._keep = keep_entries
        self._held = 0

    def listing(self, oid: str) -> Listing:
        """Return the entries of the tree `oid`. The caller must not change them."""
        found = self._cache.get(oid)
        if found is not None:
            self._cache.move_to_end(oid)
            return found
        found = {} if oid == EMPTY_TREE else parse_tree(self._objects.read(oid))
        self._remember(oid, found)
        return found

    def clear(self) -> None:
        """Empty the cache."""
        self._cache.clear()
        self._held = 0

    def find(self, root: str, parts: Parts) -> TreeEntry | None:
        """Return the entry at `parts` below the tree `root`, or None."""
        entry = TreeEntry(MODE_DIR, root)
        for name in parts:
            if entry.mode != MODE_DIR:
                return None
            deeper = self.listing(entry.oid).get(name)
            if deeper is None:
                return None
            entry = deeper
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
        inside = _by_directory(changes)
        listings: dict[Parts, dict[bytes, TreeEntry]] = {}
        pending: list[tuple[Parts, str]] = [((), root)]
        while pending:
            at, oid = pending.pop()
            listing = listings[at] = dict(self.listing(oid))
            for name, entry in inside[at].entries.items():
                if entry is None:
                    listing.pop(name, None)
                else:
                    listing[name] = entry
            for name in inside[at].deeper:
                old, below = listing.get(name), (*at, name)
                if old is not None and old.mode == MODE_DIR:
                    pending.append((below, old.oid))
                elif inside[below].makes:
                    pending.append((below, EMPTY_TREE))
        for at in reversed(listings):
            if at:
                listings[at[:-1]][at[-1]] = TreeEntry(MODE_DIR, self.write(listings[at]))
        return self.write(listings[()])

    def write(self, listing: Listing) -> str:
        """Store a tree and return its id."""
        oid = self._objects.write("tree", encode_tree(listing))
        if oid not in self._cache:
            self._remember(oid, dict(listing))
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
            was = change.old.oid if change.old and change.old.mode == MODE_DIR else None
            now = change.new.oid if change.new and change.new.mode == MODE_DIR else None
            if was != now:
                levels.append(self._differences(was, now, change.parts))

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
            at, entries = levels[-1]
            name, entry = next(entries, (b"", None))
            if entry is None:
                levels.pop()
                continue
            yield (*at, name), entry
            if entry.mode == MODE_DIR:
                levels.append(((*at, name), iter(sorted(self.listing(entry.oid).items()))))

    def _remember(self, oid: str, listing: dict[bytes, TreeEntry]) -> None:
        self._cache[oid] = listing
        self._held += len(listing) + 1
        while self._held > self._keep and len(self._cache) > 1:
            _, dropped = self._cache.popitem(last=False)
            self._held -= len(dropped) + 1


class _Directory:
    """The changes of one directory: its own `entries`, and the names (`deeper`) below which there are others.

    `makes` is True if one of them adds an entry.
    """

    __slots__ = ("deeper", "entries", "makes")

    def __init__(self) -> None:
        self.entries: dict[bytes, TreeEntry | None] = {}
        self.deeper: dict[bytes, None] = {}
        self.makes = False


def _by_directory(changes: Mapping[Parts, TreeEntry | None]) -> dict[Parts, _Directory]:
    """Return changes by the directory that contains them, with every directory above."""
    found: dict[Parts, _Directory] = {(): _Directory()}
    for parts, entry in changes.items():
        at, missing = parts[:-1], list[Parts]()
        while at not in found:
            found[at] = _Directory()
            missing.append(at)
            at = at[:-1]
        for each in missing:
            found[each[:-1]].deeper[each[-1]] = None
        found[parts[:-1]].entries[parts[-1]] = entry
        at = parts[:-1]
        while entry is not None and not found[at].makes:
            found[at].makes = True
            at = at[:-1]
    return found
