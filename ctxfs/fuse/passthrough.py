"""FUSE passthrough: the kernel reads and writes the backing file itself (Linux 6.9, root).

No rule is checked on such a handle. So only handles of the store's owner use it, who has access to the files anyway.
Writes are not seen by this process: the file's version shows whether there were any. The kernel requires that all
handles of a file use passthrough, or none.
"""

import os
import stat as st

from ctxfs.fuse import attributes
from ctxfs.fuse.access import Access
from ctxfs.fuse.inodes import Node, Version
from ctxfs.fuse.interfaces import BackingFiles
from ctxfs.fuse.null_interfaces import NullBackingFiles

# A smaller file is read in a few requests and stays in the page cache. Passthrough costs an open and a close each time.
# With 256 KB, and 200 larger ones of 10,000 files, warm `rg` takes 5 to 9 % longer, and cold `rg` equally long.
_MIN_BYTES = 1024 * 1024
_NO_FILE_BYTES = 1 << 63  # above any file size


class Passthrough:
    """The handles that use passthrough, and their backing files."""

    def __init__(self, access: Access) -> None:
        """Create an empty table. The kernel may read and write unchecked only for a principal without restrictions."""
        self._backing_files: BackingFiles = NullBackingFiles()
        self.min_bytes = _NO_FILE_BYTES  # the size from which on files that are read use passthrough
        self._access = access
        self._files: dict[Node, tuple[int, set[int]]] = {}
        self._writers: dict[int, Version] = {}
        self._handles: set[int] = set()

    def connect(self, backing_files: BackingFiles) -> None:
        """Use the passthrough interface of a transport from now on."""
        self._backing_files, self.min_bytes = backing_files, _MIN_BYTES

    def open(self, fd: int, node: Node, stat: os.stat_result, *, writes: bool, any_size: bool = False) -> int:
        """Return the kernel's identifier of the backing file for a handle that was just added to its node, or 0.

        With `any_size` small files use passthrough, too.
        """
        if self.min_bytes == _NO_FILE_BYTES:
            return 0
        entry = self._files.get(node)
        if entry is not None:
            backing, handles = entry
        elif (
            len(node.descriptors) > 1
            or not self._is_eligible(stat.st_mode, stat.st_size, writes=writes or any_size)
            or not self._access.is_unrestricted
            or is_guarded(node)
        ):
            return 0
        else:
            backing, handles = self._backing_files.open_backing(fd), set()
            if not backing:
                return 0
            self._files[node] = backing, handles
        handles.add(fd)
        self._handles.add(fd)
        node.cached_version = None
        if writes:
            self._writers[fd] = attributes.version_of(stat)
        return backing

    def has_file(self, node: Node) -> bool:
        """Return True while a handle of the file uses passthrough, so that all its handles must."""
        return node in self._files

    def has_handle(self, fd: int) -> bool:
        """Return True for a handle that uses passthrough."""
        return fd in self._handles

    def applies_to(self, node: Node, mode: int, size: int) -> bool:
        """Return True for a file that uses passthrough when it is opened for reading."""
        is_eligible = size >= self.min_bytes and self._is_eligible(mode, size, writes=False)
        return is_eligible and self._access.is_unrestricted and not is_guarded(node)

    def release(self, fd: int, node: Node) -> bool:
        """Remove a closed handle; return True if its file has changed since the open, or since `take_written`."""
        entry = self._files.get(node)
        self._handles.discard(fd)
        if entry is not None and fd in entry[1]:
            entry[1].discard(fd)
            if not entry[1]:
                del self._files[node]
                self._backing_files.close_backing(entry[0])
        version = self._writers.pop(fd, None)
        if version is None:
            return False
        # The kernel drops the attributes after its own writes and requests them again, so no invalidation is needed.
        node.reported = attributes.version_of(os.fstat(fd))
        return node.reported != version

    def take_written(self) -> list[int]:
        """Return the handles for writing whose files have changed since the last call."""
        changed = []
        for fd, version in self._writers.items():
            current = attributes.version_of(os.fstat(fd))
            if current != version:
                self._writers[fd] = current
                changed.append(fd)
        return changed

    @staticmethod
    def _is_eligible(mode: int, size: int, *, writes: bool) -> bool:
        # The kernel writes with this process's credentials, which may keep set-user and set-group bits. Writes of other
        # users must clear them.
        if not st.S_ISREG(mode) or mode & (st.S_ISUID | st.S_ISGID):
            return False
        return writes or size >= _MIN_BYTES


def is_guarded(node: Node) -> bool:
    """Return True for a file of memory, which never uses passthrough.

    A person may freeze it while a handle is open, and each later write must be refused.
    """
    return node.area is not None and node.area.path.parts[:1] == ("memory",)
