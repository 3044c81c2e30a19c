"""The background capture of large files, which are read and hashed without blocking commits.

A commit that meets a large file leaves its old state and requests its content here. The content is copied without the
archive's lock. The next commit takes it if the file's attributes are still the same.
"""

import contextlib
import math
import os
import threading
import time

from ctxfs.model.host_numbers import FileNumbers, file_numbers
from ctxfs.versions.objects.commits import Actor
from ctxfs.versions.objects.large_objects import LargeStore
from ctxfs.versions.objects.name_encoding import split_path
from ctxfs.versions.objects.sidecar import Large
from ctxfs.versions.recording.worktree import WorkTree

MAX_PREPARED_FILES = 1000
_PAUSE_FACTOR = 5  # of the duration of a copy that a writer invalidated


class LargeCapture:
    """The requested and copied large files. Call `copy_due` without the archive's lock, the others with it."""

    def __init__(self, root: str, large: LargeStore, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.can_postpone = False  # if True, a commit may leave a large file to the next commit
        self._work = WorkTree(root)  # a separate instance: the ledger's belongs to the holder of the lock
        self._large = large
        self._copy_lock = threading.Lock()
        self._requests: dict[bytes, Actor] = {}
        self._read_paths: set[bytes] = set()
        self._contents: dict[FileNumbers, Large] = {}
        self._retry_times: dict[bytes, float] = {}

    @property
    def seconds_until_due(self) -> float:
        """Return the seconds until a file is due to be read; infinite if there is none."""
        due = [self._retry_times.get(path, 0.0) for path in list(self._requests) if path not in self._read_paths]
        return max(0.0, min(due) - time.monotonic()) if due else math.inf

    def request(self, path: bytes, actor: Actor) -> None:
        """Request a copy of this file, whose content was written by the actor."""
        self._requests[path] = actor
        self._read_paths.discard(path)

    def content_of(self, numbers: FileNumbers) -> Large | None:
        """Return the copied content of a file with these attributes; None if there is none."""
        return self._contents.get(numbers)

    def pop_copied(self, *, everything: bool) -> dict[Actor, list[bytes]]:
        """Remove the requests whose files were read (`everything`: all of them), and return them by actor."""
        paths = dict[Actor, list[bytes]]()
        for path, actor in list(self._requests.items()):
            if everything or path in self._read_paths:
                del self._requests[path]
                self._read_paths.discard(path)
                paths.setdefault(actor, []).append(path)
        return paths

    def copy_due(self) -> None:
        """Copy the requested files that are due into the store of large contents."""
        with self._copy_lock:
            now = time.monotonic()
            for path in list(self._requests):
                if path in self._read_paths or self._retry_times.get(path, 0.0) > now:
                    continue
                is_read = True
                with contextlib.suppress(OSError):  # the commit that follows fails on it, too, and reports it
                    is_read = self._copy_file(path)
                if is_read:
                    self._read_paths.add(path)

    def _copy_file(self, path: bytes) -> bool:
        """Copy a file. Return False if it was written meanwhile."""
        start = time.monotonic()
        with self._work.open_file(split_path(path)) as fd:
            numbers = file_numbers(os.fstat(fd))
            if numbers in self._contents or numbers.size > self.max_bytes:
                return True
            large = self._large.add(fd, is_wanted=lambda: file_numbers(os.fstat(fd)) == numbers)
        if large is None:  # it has a writer, whose close makes another version
            self._retry_times[path] = time.monotonic() + max(1.0, _PAUSE_FACTOR * (time.monotonic() - start))
            return False
        self._retry_times.pop(path, None)
        while len(self._contents) >= MAX_PREPARED_FILES:
            self._contents.pop(next(iter(self._contents)), None)
        self._contents[numbers] = large
        return True
