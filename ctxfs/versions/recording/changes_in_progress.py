"""Changes in progress: those that sessions of this process have begun to make and not yet journalled.

A session changes the disk before it journals the change, because only a change that succeeded is journalled. Without this
list, a commit of direct edits between the two would attribute the change to the store's owner.
"""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ChangesInProgress:
    """The changes that sessions of this process have begun. Thread-safe."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._running: set[int] = set()
        self._ended = threading.Condition()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Hold while a change is applied and journalled."""
        with self._ended:
            number = next(self._ids)
            self._running.add(number)
        try:
            yield
        finally:
            with self._ended:
                self._running.remove(number)
                self._ended.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait for the changes that have begun before this call, and return False if one lasts longer than `seconds`."""
        with self._ended:
            begun = set(self._running)
            return self._ended.wait_for(lambda: not begun & self._running, seconds)
