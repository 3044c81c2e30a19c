"""Open files whose bytes the kernel moves by itself, where it can: FUSE pass-through, Linux 6.9 and root.

No rule reaches a handle that is handed over: only those of the store's owner are, who has the files anyway. What is written then is not
seen here; whether it was is asked of the file when that matters. While one handle of a file is handed over
all its handles are, and while one is not none is: the kernel wants it so.
"""

import os
import stat as st
from collections.abc import Callable

from ctxfs.fuse import attributes
from ctxfs.fuse.inodes import Node, Version
from ctxfs.fuse.interfaces import BackingFiles

# A smaller file is read in a few requests, and stays in the page cache; one that is handed over is opened and closed here each time.
# With 256 KB, and 200 larger ones of 10,000 files, warm `rg` takes 5 to 9 % longer, and cold as long.
_LARGE = 1024 * 1024
_NO_FILE = 1 << 63


class Passthrough:
    """Which handles are handed over, and what has become of their files."""

    def __init__(self, is_allowed: Callable[[], bool]) -> None:
        """`is_allowed`: nothing that the kernel then does by itself has to be asked for."""
        self.hands: BackingFiles | None = None
        self._is_allowed = is_allowed
        self._files: dict[Node, tuple[int, set[int]]] = {}
        self._writers: dict[int, Version] = {}
        self._handles: set[int] = set()

    def open(self, fd: int, node: Node, found: os.stat_result, *, writes: bool, everything: bool = False) -> int:
        """The kernel's number for a handle that has just been added to its node, or 0. `everything`: small files, too."""
        if self.hands is None:
            return 0
        known = self._files.get(node)
        if known is not None:
            backing, handles = known
        elif (
            len(node.descriptors) > 1
            or not self._is_worth_it(found.st_mode, found.st_size, writes=writes or everything)
            or not self._is_allowed()
        ):
            return 0
        else:
            backing, handles = self.hands.hand_over(fd), set()
            if not backing:
                return 0
            self._files[node] = backing, handles
        handles.add(fd)
        self._handles.add(fd)
        node.cached = None
        if writes:
            self._writers[fd] = attributes.version_of(found)
        return backing

    def has_file(self, node: Node) -> bool:
        """True while a handle of a file is handed over: then all of its handles have to be."""
        return node in self._files

    def has(self, fd: int) -> bool:
        """True for a handle that is handed over."""
        return fd in self._handles

    @property
    def least(self) -> int:
        """Files with fewer bytes are not handed over when they are read."""
        return _LARGE if self.hands is not None else _NO_FILE

    def would_take(self, mode: int, size: int) -> bool:
        """True for a file that is handed over when it is read."""
        return size >= self.least and self._is_worth_it(mode, size, writes=False) and self._is_allowed()

    def release(self, fd: int, node: Node) -> bool:
        """A handle is closed. True if its file was written to meanwhile, by whomever."""
        known = self._files.get(node)
        self._handles.discard(fd)
        if known is not None and fd in known[1]:
            known[1].discard(fd)
            if not known[1] and self.hands is not None:
                del self._files[node]
                self.hands.take_back(known[0])
        before = self._writers.pop(fd, None)
        if before is None:
            return False
        # The kernel keeps nothing of what it wrote by itself, and asks: that it was written is no news to it.
        node.told = attributes.version_of(os.fstat(fd))
        return node.told != before

    def written(self) -> list[int]:
        """Handles for writing whose files have changed since this was last asked."""
        changed = []
        for fd, before in self._writers.items():
            now = attributes.version_of(os.fstat(fd))
            if now != before:
                self._writers[fd] = now
                changed.append(fd)
        return changed

    @staticmethod
    def _is_worth_it(mode: int, size: int, *, writes: bool) -> bool:
        # The kernel writes as we would, and we may keep the set-user and set-group bits: others must lose them.
        if not st.S_ISREG(mode) or mode & (st.S_ISUID | st.S_ISGID):
            return False
        return writes or size >= _LARGE
