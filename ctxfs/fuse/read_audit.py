"""Audit records of file reads, cached by file: the text stays the same until something is renamed."""

import os

from ctxfs.eventlog.spool import encode_event
from ctxfs.fuse.inodes import Node, NodeTable

_MAX_RECORDS = 16_384  # about 3 MB; as many as the open file cache holds


class ReadAudit(dict[int, str]):
    """A mapping from node number to the audit record of a read, which is built on first use."""

    def __init__(self, nodes: NodeTable) -> None:
        super().__init__()
        self._nodes = nodes
        self._rename_count = 0
        self._parent: tuple[Node | None, str] = (None, "")

    def renew(self) -> None:
        """Clear the records after a rename, or if there are too many. To be called before a series of lookups."""
        if self._rename_count != self._nodes.renames or len(self) > _MAX_RECORDS:
            self.clear()
            self._rename_count, self._parent = self._nodes.renames, (None, "")

    def __missing__(self, number: int) -> str:
        node = self._nodes[number]
        if node.parent is not self._parent[0]:  # consecutive reads are often in one directory
            self._parent = node.parent, node.parent.path_text_below(b"") if node.parent is not None else ""
        self[number] = record = encode_event("read", self._parent[1] + os.fsdecode(node.name))
        return record
