"""Audit records of file reads, cached by file: the text stays the same until something is renamed."""

import os

from ctxfs.eventlog.spool import said
from ctxfs.fuse.inodes import Node, NodeTable

_MOST = 16_384  # about 3 MB; as many as the open file cache holds


class ReadAudit(dict[int, str]):
    """A mapping from node number to the audit record of a read, which is built on first use."""

    def __init__(self, nodes: NodeTable) -> None:
        super().__init__()
        self._nodes = nodes
        self._as_of = 0
        self._above: tuple[Node | None, str] = (None, "")

    def renew(self) -> None:
        """Clear the records after a rename, or if there are too many. To be called before a series of lookups."""
        if self._as_of != self._nodes.renames or len(self) > _MOST:
            self.clear()
            self._as_of, self._above = self._nodes.renames, (None, "")

    def __missing__(self, number: int) -> str:
        node = self._nodes[number]
        if node.parent is not self._above[0]:  # consecutive reads are often in one directory
            self._above = node.parent, node.parent.text_below(b"") if node.parent is not None else ""
        self[number] = what = said("read", self._above[1] + os.fsdecode(node.name))
        return what
