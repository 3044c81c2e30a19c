"""The table of inode numbers and files, without descriptors and system calls.

A node lives from the first lookup reply to the kernel until its lookup count is 0 (FORGET). Backed files are identified
by device and inode, so that hard links share a node. Synthetic files are identified by parent and name.
"""

import errno
import itertools
import os
import stat as st
from collections.abc import Hashable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import cast

from ctxfs.model.path import Path
from ctxfs.model.tables import Table
from ctxfs.policy.evaluate import Rights

ROOT_NUMBER = 1
_MOST_NAMES = 100  # per file: the kernel's next lookup adds further names again
_INODE_BITS = 48
_KIND = st.S_IFMT(0xFFFF)
_MUCH = 50_000
_NO_DESCRIPTORS: frozenset[int] = frozenset()


@dataclass(eq=False, slots=True)
class Area:
    """A directory of the tree with backed files: `path` in the tree, below the host folder `root`.

    `index`, `path` and `root` never change, because the inode numbers follow from them. The other fields may change.
    """

    index: int
    path: Path
    root: str
    writable: bool
    hidden: frozenset[tuple[bytes, ...]] = frozenset()
    versioned: bool = False

    @property
    def numbers(self) -> int:
        """Return the prefix of the area's inode numbers.

        Combined with a host inode by `|` it is the number of a file, unless another node has that number.
        """
        return (self.index + 1) << _INODE_BITS

    def hides(self, parent: "Node", name: bytes) -> bool:
        """Return True for a path below the root that does not exist in the tree."""
        if not self.hidden:
            return False
        names = [name]
        node: Node | None = parent
        while node is not None and not node.top:
            names.append(node.name)
            node = node.parent
        return tuple(reversed(names)) in self.hidden


Version = tuple[int, int, int, int]  # mtime_ns, ctime_ns, size, mode


class Node:
    """A file that the kernel references.

    `told` is the version that was last reported to the kernel; `cached` is the version that the kernel may cache pages
    of.
    """

    __slots__ = (
        "area",
        "cached",
        "descriptors",
        "key",
        "listed",
        "locked",
        "lookups",
        "name",
        "number",
        "others",
        "parent",
        "rights",
        "told",
        "top",
    )

    def __init__(self, number: int, key: Hashable, parent: "Node | None", name: bytes, area: Area | None) -> None:
        self.number = number
        self.key = key
        self.parent = parent
        self.name = name
        self.area = area
        self.top = False
        self.others: tuple[tuple[Node, bytes], ...] = ()  # further names of a file with hard links
        self.lookups = 0
        self.descriptors: AbstractSet[int] = _NO_DESCRIPTORS  # a shared empty set, because most files are never opened
        self.locked = False  # a caller has locked it: from then on the kernel sends FLUSH at each close
        self.told: Version | None = None
        self.cached: Version | None = None
        # (epoch, names in the directory, those names that exist for the principal)
        self.listed: tuple[int, list[bytes], list[bytes]] | None = None
        # (epoch, rights of the principal, their verbs as a number, mask of mode bits that the principal may see)
        self.rights: tuple[int, Rights, int, int] | None = None

    def hold(self, descriptor: int) -> None:
        """Add an open descriptor."""
        if self.descriptors is _NO_DESCRIPTORS:
            self.descriptors = {descriptor}
        else:
            cast(set[int], self.descriptors).add(descriptor)

    def let_go(self, descriptor: int) -> None:
        """Remove a closed descriptor."""
        cast(set[int], self.descriptors).discard(descriptor)
        if not self.descriptors:
            self.descriptors = _NO_DESCRIPTORS

    @property
    def path(self) -> Path:
        """Return the path in the tree, by the name of the last lookup."""
        names: list[str] = []
        node: Node | None = self
        while node is not None and node.parent is not None:
            names.append(os.fsdecode(node.name))
            node = node.parent
        return Path(tuple(reversed(names)))

    @property
    def text(self) -> str:
        """Return the path as text, without a `Path`, for the audit of every request."""
        names: list[bytes] = []
        node = self
        while (parent := node.parent) is not None:
            names.append(node.name)
            node = parent
        names.reverse()
        return os.fsdecode(b"/".join(names))

    def text_below(self, name: bytes) -> str:
        """Return the path of a name in this directory, as text."""
        here = self.text
        return f"{here}/{os.fsdecode(name)}" if here else os.fsdecode(name)


class NodeTable:
    """Nodes by number, by identity and by name. Used by one thread."""

    def __init__(self) -> None:
        self._by_number: Table[Node] = Table(errno.ESTALE)
        self._by_key: dict[Hashable, Node] = {}
        self._by_name: dict[int, dict[bytes, Node]] = {}  # directory → its names
        self._dropped = 0
        self.renames = 0  # the count of renames of nodes: a change makes cached paths invalid
        # Far above any (area, inode) number.
        self._spare = itertools.count(1 << 62)
        self.root = Node(ROOT_NUMBER, "root", None, b"", None)
        self._by_number[ROOT_NUMBER] = self.root

    def __len__(self) -> int:
        return len(self._by_number)

    def __getitem__(self, number: int) -> Node:
        return self._by_number[number]

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._by_number.values()))

    def on_disk(self, parent: Node, name: bytes, area: Area, device: int, inode: int, kind: int) -> Node:
        """Return the node of the host file `name` in `parent`, or add one.

        Its number is derived from the host's inode if no other node has that number.
        """
        key = (area.index, device, inode, kind)
        node = self._by_key.get(key)
        if node is None:
            number = area.numbers | inode
            if inode >> _INODE_BITS or number in self._by_number:
                number = next(self._spare)
            node = self._add(Node(number, key, parent, name, area))
        if node.parent is not parent or node.name != name:
            self._keep_name(node)
            node.parent, node.name, node.rights, node.listed = parent, name, None, None
            self.renames += 1
        self._call(node, parent, name)
        return node

    def listed(
        self, parent: Node, area: Area, names: list[bytes], seen: Iterable[tuple[int, int, int, int, Version]]
    ) -> list[tuple[int, int, Node]]:
        """Add the nodes of many listed files; increment their lookup counts and set their reported versions.

        `seen` has the layout of `interfaces.Seen`. Return (offset in the reply, number by inode, node) of the files
        that have another number, are open or are locked.
        """
        numbers, by_key, by_number = area.numbers, self._by_key, self._by_number
        inside = self._by_name.setdefault(parent.number, {})
        others: list[tuple[int, int, Node]] = []
        for position, at, device, inode, version in seen:
            name, number = names[position], numbers | inode
            key = (area.index, device, inode, version[3] & _KIND)
            node = by_key.get(key)
            if node is None and number not in by_number and not inode >> _INODE_BITS:
                node = by_key[key] = by_number[number] = Node(number, key, parent, name, area)
            elif node is None or node.parent is not parent or node.name != name:
                node = self.on_disk(parent, name, area, device, inode, version[3] & _KIND)
            inside[name] = node
            node.told = version
            node.lookups += 1
            if node.number != number or node.descriptors or node.locked:
                others.append((at, number, node))
        if not inside:
            del self._by_name[parent.number]
        return others

    def _keep_name(self, node: Node) -> None:
        """Keep the current name of a node as a further name, if it may still exist."""
        here = (node.parent, node.name)
        known = [(at, name) for at, name in (*node.others, here) if at is not None and self._is_called(node, at, name)]
        node.others = tuple(dict.fromkeys(known))[-_MOST_NAMES:]

    def _is_called(self, node: Node, parent: Node, name: bytes) -> bool:
        return self.named(parent, name) is node

    def synthetic(self, parent: Node, name: bytes) -> Node:
        """Return the node of a synthetic file, which its path identifies, or add one."""
        key = ("path", parent.number, name)
        node = self._by_key.get(key)
        if node is None:
            node = self._add(Node(next(self._spare), key, parent, name, None))
            self._call(node, parent, name)
        return node

    def named(self, parent: Node, name: bytes) -> Node | None:
        """Return the node last looked up as `name` in `parent`, if the kernel still references it; otherwise None."""
        inside = self._by_name.get(parent.number)
        return inside.get(name) if inside is not None else None

    def has_name(self, node: Node) -> bool:
        """Return False for a file without any name."""
        return self._by_key.get(node.key) is node

    def inside(self, parent: Node) -> list[tuple[bytes, Node]]:
        """Return the (name, node) pairs of a directory that the kernel may reference."""
        return list(self._by_name.get(parent.number, {}).items())

    def _call(self, node: Node, parent: Node, name: bytes) -> None:
        inside = self._by_name.get(parent.number)
        if inside is None:
            inside = self._by_name[parent.number] = {}
        inside[name] = node

    def _uncall(self, parent: Node, name: bytes) -> Node | None:
        inside = self._by_name.get(parent.number)
        if inside is None:
            return None
        node = inside.pop(name, None)
        if not inside:
            del self._by_name[parent.number]
        return node

    def unlinked(self, parent: Node, name: bytes) -> Node | None:
        """Remove the name from the table and return its node, or None.

        A node without other names is no longer found by identity.
        """
        node = self._uncall(parent, name)
        if node is not None and node.parent is parent and node.name == name:
            left = [other for other in node.others if self._is_called(node, *other)]
            if left:
                (node.parent, node.name), node.others = left[-1], tuple(left[:-1])
                self.renames += 1
            else:
                self._by_key.pop(node.key, None)
        return node

    def renamed(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """Move a node to a new name, replacing the node of that name. Nodes below a directory move with it."""
        if (parent.number, name) == (new_parent.number, new_name):
            return
        self.unlinked(new_parent, new_name)
        node = self._uncall(parent, name)
        if node is not None:
            self._keep_name(node)  # its last lookup may have been by a name that stays
            node.parent, node.name = new_parent, new_name
            self.renames += 1
            self._call(node, new_parent, new_name)

    def exchanged(self, parent: Node, name: bytes, other_parent: Node, other_name: bytes) -> None:
        """Swap the nodes of two names."""
        one, two = self.named(parent, name), self.named(other_parent, other_name)
        changes = ((one, other_parent, other_name), (two, parent, name))
        for node, at, called in changes:
            if node is None:
                self._uncall(at, called)
            else:
                self._call(node, at, called)
        for node, at, called in changes:
            if node is not None:
                self._keep_name(node)
                node.parent, node.name = at, called
                self.renames += 1

    def forget(self, number: int, lookups: int) -> Node | None:
        """Decrement the lookup count by `lookups`; return the node if the count is now 0, otherwise None.

        A node without open descriptors is removed from the table.
        """
        node = self._by_number.get(number)
        if node is None or node is self.root:
            return None
        node.lookups -= lookups
        if node.lookups > 0:
            return None
        if not node.descriptors:
            self._drop(node)
        return node

    def _add(self, node: Node) -> Node:
        self._by_number[node.number] = node
        self._by_key[node.key] = node
        return node

    def _drop(self, node: Node) -> None:
        del self._by_number[node.number]
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]
        for parent, name in ((node.parent, node.name), *node.others):
            if parent is not None and self._is_called(node, parent, name):
                self._uncall(parent, name)
        self._dropped += 1
        if self._dropped > _MUCH and self._dropped > 4 * len(self):
            self._shrink()

    def _shrink(self) -> None:
        """Copy the dictionaries, because a dictionary keeps the capacity of its largest size."""
        by_number: Table[Node] = Table(errno.ESTALE)
        by_number.update(self._by_number)
        self._by_number, self._by_key = by_number, dict(self._by_key)
        self._by_name = {number: dict(inside) for number, inside in self._by_name.items()}
        self._dropped = 0
