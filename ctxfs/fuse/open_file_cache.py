"""Files that stay open when their readers have closed them, for whoever opens them next; and files that may be opened for reading
without asking.

The transport answers those by itself, if it can. Nobody else sees a difference: whatever would, ends it first.
"""

from collections.abc import Callable, Sequence

from ctxfs.fuse.inodes import Node
from ctxfs.fuse.interfaces import OpenCacheBackend


class OpenFileCache:
    """What the transport keeps, and who closes it."""

    def __init__(self) -> None:
        self.keeper: OpenCacheBackend | None = None
        self.close: Callable[[int], None] = _nobody
        # An absent ACL is answered with ENODATA, as natively. Where the kernel keeps no ACLs not before one has been met.
        self.answers_acls = False

    def expect(self, directory: int, nodes: Sequence[Node]) -> None:
        """Files that were just found in a directory, a descriptor: see Keeper."""
        if self.keeper is not None and nodes:
            # Keys of disk nodes are (area, device, inode, kind).
            self.keeper.expect(directory, [(node.number, *node.key[1:3], node.name) for node in nodes])  # type: ignore[index]

    def unexpect(self, number: int) -> None:
        """See Keeper."""
        if self.keeper is not None:
            self.keeper.unexpect(number)

    def closed(self, directory: int) -> None:
        """See Keeper."""
        if self.keeper is not None:
            self.keeper.closed(directory)

    def ends(self, node: Node, place: int) -> None:
        """See Keeper."""
        if self.keeper is not None:
            self.keeper.ends(node.number, place)

    def bare(self, node: Node) -> None:
        """See Keeper."""
        if self.keeper is not None:
            self.keeper.bare(node.number)

    def answer_acls(self) -> None:
        """From now on an absent ACL is answered with ENODATA."""
        self.answers_acls = True
        if self.keeper is not None:
            self.keeper.answer_acls()

    def watch_closes(self, watches: bool) -> None:
        """See Keeper."""
        if self.keeper is not None:
            self.keeper.watch_closes(watches)

    def end(self, node: Node) -> None:
        """What is open of this file is closed when its last reader closes it, as if it had never been kept."""
        if self.keeper is not None and (closes := self.keeper.end(node.number)) is not None:
            self.close(closes)

    def end_all(self) -> None:
        """The same of everything: what was allowed, or where things are, has changed."""
        if self.keeper is not None:
            for closes in self.keeper.end_all():
                self.close(closes)

    @property
    def noted(self) -> bool:
        """True if files were opened that nobody has asked about yet."""
        return self.keeper is not None and self.keeper.noted

    def opened(self) -> list[tuple[int, int]]:
        """(number, time in nanoseconds) of what was opened again since this was last asked."""
        return self.keeper.take_notes() if self.keeper is not None else []


def _nobody(handle: int) -> None:
    raise AssertionError("nothing is kept before somebody closes it")
