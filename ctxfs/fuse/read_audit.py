"""How the audit is told that a file was read: the same words each time, until something is renamed."""

import os

from ctxfs.eventlog.spool import said
from ctxfs.fuse.inodes import Node, NodeTable

_MOST = 16_384  # about 3 MB; no more files are kept open


class ReadAudit(dict[int, str]):
    """Number → what is said of a read of the file, made when it is first asked for."""

    def __init__(self, nodes: NodeTable) -> None:
        super().__init__()
        self._nodes = nodes
        self._as_of = 0
        self._above: tuple[Node | None, str] = (None, "")

    def renew(self) -> None:
        """Forget what may have another name now; to be called before it is asked for any."""
        if self._as_of != self._nodes.renames or len(self) > _MOST:
            self.clear()
            self._as_of, self._above = self._nodes.renames, (None, "")

    def __missing__(self, number: int) -> str:
        node = self._nodes[number]
        if node.parent is not self._above[0]:  # who reads many files reads those of one directory
            self._above = node.parent, node.parent.text_below(b"") if node.parent is not None else ""
        self[number] = what = said("read", self._above[1] + os.fsdecode(node.name))
        return what
