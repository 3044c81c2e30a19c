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

MAX_PREPARED = 1000
_PAUSE_FACTOR = 5  # of the duration of a copy that a writer invalidated


class LargeCapture:
    """The requested and copied large files. Call `want` and `take` under the archive's lock, `prepare` without it."""

    def __init__(self, root: str, large: LargeStore, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.may_wait = False  # if True, a commit may leave a large file to the next commit
        self._work = WorkTree(root)  # a separate instance: the ledger's belongs to the holder of the lock
        self._large = large
        self._turn = threading.Lock()
        self._wanted: dict[bytes, Actor] = {}
        self._read: set[bytes] = set()
        self._prepared: dict[FileNumbers, Large] = {}
        self._not_before: dict[bytes, float] = {}

    @property
    def delay(self) -> float:
        """Return the seconds until a file is due to be read; infinite if there is none."""
        due = [self._not_before.get(path, 0.0) for path in list(self._wanted) if path not in self._read]
        return max(0.0, min(due) - time.monotonic()) if due else math.inf

    def want(self, path: bytes, actor: Actor) -> None:
        """Request a copy of this file, whose content was written by the actor."""
        self._wanted[path] = actor
        self._read.discard(path)

    def take(self, numbers: FileNumbers) -> Large | None:
        """Return the copied content of a file with these attributes; None if there is none."""
        return self._prepared.get(numbers)

    def ready(self, *, everything: bool) -> dict[Actor, list[bytes]]:
        """Remove the requests whose files were read (`everything`: all of them), and return them by actor."""
        found = dict[Actor, list[bytes]]()
        for path, actor in list(self._wanted.items()):
            if everything or path in self._read:
                del self._wanted[path]
                self._read.discard(path)
                found.setdefault(actor, []).append(path)
        return found

    def prepare(self) -> None:
        """Copy the requested files that are due into the store of large contents."""
        with self._turn:
            now = time.monotonic()
            for path in list(self._wanted):
                if path in self._read or self._not_before.get(path, 0.0) > now:
                    continue
                is_read = True
                with contextlib.suppress(OSError):  # the commit that follows fails on it, too, and reports it
                    is_read = self._prepare(path)
                if is_read:
                    self._read.add(path)

    def _prepare(self, path: bytes) -> bool:
        """Copy a file. Return False if it was written meanwhile."""
        started = time.monotonic()
        with self._work.opened(split_path(path)) as fd:
            numbers = file_numbers(os.fstat(fd))
            if numbers in self._prepared or numbers.size > self.max_bytes:
                return True
            large = self._large.add(fd, is_wanted=lambda: file_numbers(os.fstat(fd)) == numbers)
        if large is None:  # it has a writer, whose close makes another version
            self._not_before[path] = time.monotonic() + max(1.0, _PAUSE_FACTOR * (time.monotonic() - started))
            return False
        self._not_before.pop(path, None)
        while len(self._prepared) >= MAX_PREPARED:
            self._prepared.pop(next(iter(self._prepared)), None)
        self._prepared[numbers] = large
        return True
