"""The table of inode numbers and files, without descriptors and system calls.

A node lives from the first lookup reply to the kernel until its lookup count is 0 (FORGET). Backed files are identified
by device and inode, so that hard links share a node. Synthetic files are identified by parent and name.
"""

import errno
import itertools
import os
import stat as st
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, cast

from ctxfs.model.path import Path
from ctxfs.model.tables import Table
from ctxfs.policy.evaluate import Rights

ROOT_NUMBER = 1
_MAX_NAMES = 100  # per file: the kernel's next lookup adds further names again
_INODE_BITS = 48
_TYPE_MASK = st.S_IFMT(0xFFFF)
_MIN_SHRINK_NODES = 50_000
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
    def number_base(self) -> int:
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
        while node is not None and not node.is_top:
            names.append(node.name)
            node = node.parent
        return tuple(reversed(names)) in self.hidden


Version = tuple[int, int, int, int]  # mtime_ns, ctime_ns, size, mode


class DiskKey(NamedTuple):
    """The identity of a backed file: the index of its area, and device, inode and type (S_IFMT) of the host file."""

    area: int
    device: int
    inode: int
    kind: int


class PathKey(NamedTuple):
    """The identity of a synthetic file: the inode number of its directory, and its name. The root has number 0."""

    parent: int
    name: bytes


Key: TypeAlias = DiskKey | PathKey


class Node:
    """A file that the kernel references.

    `reported` is the version that was last reported to the kernel. `cached_version` is the version of the pages that the
    kernel may have cached.
    """

    __slots__ = (
        "area",
        "cached_version",
        "decision",
        "descriptors",
        "is_locked",
        "is_top",
        "key",
        "lookups",
        "name",
        "number",
        "other_names",
        "parent",
        "reported",
        "visible_names",
    )

    def __init__(self, number: int, key: Key, parent: "Node | None", name: bytes, area: Area | None) -> None:
        self.number = number
        self.key = key
        self.parent = parent
        self.name = name
        self.area = area
        self.is_top = False
        self.other_names: tuple[tuple[Node, bytes], ...] = ()  # further names of a file with hard links
        self.lookups = 0
        self.descriptors: AbstractSet[int] = _NO_DESCRIPTORS  # a shared empty set, because most files are never opened
        self.is_locked = False  # a caller has locked it: from then on the kernel sends FLUSH at each close
        self.reported: Version | None = None
        self.cached_version: Version | None = None
        # (epoch, names in the directory, those names that exist for the principal)
        self.visible_names: tuple[int, list[bytes], list[bytes]] | None = None
        # (epoch, rights of the principal, their verbs as a number, mask of mode bits that the principal may see)
        self.decision: tuple[int, Rights, int, int] | None = None

    @property
    def disk_key(self) -> DiskKey:
        """Return the key of a node with an area."""
        assert isinstance(self.key, DiskKey)
        return self.key

    def is_host_file(self, stat: os.stat_result) -> bool:
        """Return True if a stat result has the device and the inode of this node. The type is not compared."""
        key = self.key
        return type(key) is DiskKey and key.inode == stat.st_ino and key.device == stat.st_dev

    def add_fd(self, descriptor: int) -> None:
        """Add an open descriptor."""
        if self.descriptors is _NO_DESCRIPTORS:
            self.descriptors = {descriptor}
        else:
            cast(set[int], self.descriptors).add(descriptor)

    def remove_fd(self, descriptor: int) -> None:
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
    def path_text(self) -> str:
        """Return the path as text, without a `Path`, for the audit of every request."""
        names: list[bytes] = []
        node = self
        while (parent := node.parent) is not None:
            names.append(node.name)
            node = parent
        names.reverse()
        return os.fsdecode(b"/".join(names))

    def path_text_below(self, name: bytes) -> str:
        """Return the path of a name in this directory, as text."""
        path_text = self.path_text
        return f"{path_text}/{os.fsdecode(name)}" if path_text else os.fsdecode(name)


class NodeTable:
    """Nodes by number, by identity and by name. Used by one thread."""

    def __init__(self) -> None:
        self._by_number: Table[Node] = Table(errno.ESTALE)
        # A `DiskKey` equals the tuple of its fields. Lookups use a tuple, which takes a quarter of the time to construct.
        self._by_key: dict[tuple[object, ...], Node] = {}
        self._by_name: dict[int, dict[bytes, Node]] = {}  # directory → its names
        self._removed_count = 0
        self.renames = 0  # the count of renames of nodes: a change makes cached paths invalid
        # Far above any (area, inode) number.
        self._spare_numbers = itertools.count(1 << 62)
        self.root = Node(ROOT_NUMBER, PathKey(0, b""), None, b"", None)
        self._by_number[ROOT_NUMBER] = self.root

    def __len__(self) -> int:
        return len(self._by_number)

    def __getitem__(self, number: int) -> Node:
        return self._by_number[number]

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self._by_number.values()))

    def backed_node(self, parent: Node, name: bytes, area: Area, device: int, inode: int, kind: int) -> Node:
        """Return the node of the host file `name` in `parent`, or add one.

        Its number is derived from the host's inode if no other node has that number.
        """
        node = self._by_key.get((area.index, device, inode, kind))
        if node is None:
            number = area.number_base | inode
            if inode >> _INODE_BITS or number in self._by_number:
                number = next(self._spare_numbers)
            node = self._add(Node(number, DiskKey(area.index, device, inode, kind), parent, name, area))
        if node.parent is not parent or node.name != name:
            self._add_other_name(node)
            node.parent, node.name, node.decision, node.visible_names = parent, name, None, None
            self.renames += 1
        self._bind_name(node, parent, name)
        return node

    def node_for(self, parent: Node, name: bytes, area: Area, stat: os.stat_result) -> Node:
        """Return the node of a host file by its stat result."""
        return self.backed_node(parent, name, area, stat.st_dev, stat.st_ino, st.S_IFMT(stat.st_mode))

    def top_node(self, parent: Node, name: bytes, area: Area, stat: os.stat_result) -> Node:
        """Return the node of the root directory of an area."""
        node = self.node_for(parent, name, area, stat)
        node.is_top = True
        return node

    def add_listed(
        self, parent: Node, area: Area, names: list[bytes], files: Iterable[tuple[int, int, int, int, Version]]
    ) -> list[tuple[int, int, Node]]:
        """Add the nodes of many listed files; increment their lookup counts and set their reported versions.

        `files` has the layout of `interfaces.PackedFiles`. Return (offset in the reply, number by inode, node) of the
        files that have another number, are open or are locked.
        """
        numbers, by_key, by_number = area.number_base, self._by_key, self._by_number
        children = self._by_name.setdefault(parent.number, {})
        corrections: list[tuple[int, int, Node]] = []
        for position, offset, device, inode, version in files:
            name, number = names[position], numbers | inode
            key = (area.index, device, inode, version[3] & _TYPE_MASK)
            node = by_key.get(key)
            if node is None and number not in by_number and not inode >> _INODE_BITS:
                node = by_key[key] = by_number[number] = Node(number, DiskKey(*key), parent, name, area)
            elif node is None or node.parent is not parent or node.name != name:
                node = self.backed_node(parent, name, area, device, inode, version[3] & _TYPE_MASK)
            children[name] = node
            node.reported = version
            node.lookups += 1
            if node.number != number or node.descriptors or node.is_locked:
                corrections.append((offset, number, node))
        if not children:
            del self._by_name[parent.number]
        return corrections

    def _add_other_name(self, node: Node) -> None:
        """Keep the current name of a node as a further name, if it may still exist."""
        current = (node.parent, node.name)
        names = [
            (parent, name)
            for parent, name in (*node.other_names, current)
            if parent is not None and self._has_name(node, parent, name)
        ]
        node.other_names = tuple(dict.fromkeys(names))[-_MAX_NAMES:]

    def _has_name(self, node: Node, parent: Node, name: bytes) -> bool:
        return self.node_named(parent, name) is node

    def synthetic_node(self, parent: Node, name: bytes) -> Node:
        """Return the node of a synthetic file, which its path identifies, or add one."""
        key = PathKey(parent.number, name)
        node = self._by_key.get(key)
        if node is None:
            node = self._add(Node(next(self._spare_numbers), key, parent, name, None))
            self._bind_name(node, parent, name)
        return node

    def node_named(self, parent: Node, name: bytes) -> Node | None:
        """Return the node last looked up as `name` in `parent`, if the kernel still references it; otherwise None."""
        children = self._by_name.get(parent.number)
        return children.get(name) if children is not None else None

    def has_name(self, node: Node) -> bool:
        """Return False for a file without any name."""
        return self._by_key.get(node.key) is node

    def is_referenced(self, node: Node) -> bool:
        """Return False for a node that the kernel has forgotten."""
        return self._by_number.get(node.number) is node

    def names_in(self, parent: Node) -> list[tuple[bytes, Node]]:
        """Return the (name, node) pairs of a directory that the kernel may reference."""
        return list(self._by_name.get(parent.number, {}).items())

    def _bind_name(self, node: Node, parent: Node, name: bytes) -> None:
        children = self._by_name.get(parent.number)
        if children is None:
            children = self._by_name[parent.number] = {}
        children[name] = node

    def _unbind_name(self, parent: Node, name: bytes) -> Node | None:
        children = self._by_name.get(parent.number)
        if children is None:
            return None
        node = children.pop(name, None)
        if not children:
            del self._by_name[parent.number]
        return node

    def remove_name(self, parent: Node, name: bytes) -> Node | None:
        """Remove the name from the table and return its node, or None.

        A node without other names is no longer found by identity.
        """
        node = self._unbind_name(parent, name)
        if node is not None and node.parent is parent and node.name == name:
            remaining = [other for other in node.other_names if self._has_name(node, *other)]
            if remaining:
                (node.parent, node.name), node.other_names = remaining[-1], tuple(remaining[:-1])
                self.renames += 1
            else:
                self._by_key.pop(node.key, None)
        return node

    def rename(self, parent: Node, name: bytes, new_parent: Node, new_name: bytes) -> None:
        """Move a node to a new name, replacing the node of that name. Nodes below a directory move with it."""
        if (parent.number, name) == (new_parent.number, new_name):
            return
        self.remove_name(new_parent, new_name)
        node = self._unbind_name(parent, name)
        if node is not None:
            self._add_other_name(node)  # its last lookup may have been by a name that stays
            node.parent, node.name = new_parent, new_name
            self.renames += 1
            self._bind_name(node, new_parent, new_name)

    def relocate(self, node: Node, top: Node, names: Sequence[bytes]) -> None:
        """Give a node that has lost its name the path `names` below `top`, the root directory of its area.

        Directories on the way that the kernel does not reference are represented by nodes outside the table.
        """
        parent = top
        for name in names[:-1]:
            known = self.node_named(parent, name)
            if known is None:
                number = next(self._spare_numbers)
                known = Node(number, PathKey(parent.number, name), parent, name, node.area)
            parent = known
        node.parent, node.name, node.other_names = parent, names[-1], ()
        node.decision = node.visible_names = None
        self.renames += 1

    def exchange(self, parent: Node, name: bytes, other_parent: Node, other_name: bytes) -> None:
        """Swap the nodes of two names."""
        node_a, node_b = self.node_named(parent, name), self.node_named(other_parent, other_name)
        changes = ((node_a, other_parent, other_name), (node_b, parent, name))
        for node, new_parent, new_name in changes:
            if node is None:
                self._unbind_name(new_parent, new_name)
            else:
                self._bind_name(node, new_parent, new_name)
        for node, new_parent, new_name in changes:
            if node is not None:
                self._add_other_name(node)
                node.parent, node.name = new_parent, new_name
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
            self._remove(node)
        return node

    def _add(self, node: Node) -> Node:
        self._by_number[node.number] = node
        self._by_key[node.key] = node
        return node

    def _remove(self, node: Node) -> None:
        del self._by_number[node.number]
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]
        for parent, name in ((node.parent, node.name), *node.other_names):
            if parent is not None and self._has_name(node, parent, name):
                self._unbind_name(parent, name)
        self._removed_count += 1
        if self._removed_count > _MIN_SHRINK_NODES and self._removed_count > 4 * len(self):
            self._shrink()

    def _shrink(self) -> None:
        """Copy the dictionaries, because a dictionary keeps the capacity of its largest size."""
        by_number: Table[Node] = Table(errno.ESTALE)
        by_number.update(self._by_number)
        self._by_number, self._by_key = by_number, dict(self._by_key)
        self._by_name = {number: dict(children) for number, children in self._by_name.items()}
        self._removed_count = 0
