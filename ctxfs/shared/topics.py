"""Topics: shared data besides versions. All nodes take the entries of a topic in the order of the log."""

from typing import Protocol

from ctxfs.shared.log import Entry


class Topic(Protocol):
    """One kind of shared data. A node calls `pending` and `take` within its exchanges, one at a time."""

    fault: str
    """The reason why data of this node is not shared; empty without one."""

    def has_news(self) -> bool:
        """Return True if data may wait. It is fast, and for any thread."""
        ...

    def pending(self) -> bytes | None:
        """Return the data of the next entry that this node has to append; None if nothing waits."""
        ...

    def take(self, entry: Entry) -> None:
        """Apply an entry of any node, this one included. An entry can be taken again after a crash, in the same order.

        Raise `LogRefused` for data that no node can have written: nothing that follows is taken then.
        """
        ...
