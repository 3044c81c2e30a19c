"""The replacement of a path in the work tree: the states that may be replaced, and the new contents."""

import os
from collections.abc import Sequence

from ctxfs.versions.objects.trees import Parts
from ctxfs.versions.recording.capture import Capture
from ctxfs.versions.recording.ledger import Ledger, State
from ctxfs.versions.recording.pathindex import PathChange
from ctxfs.versions.recording.worktree import git_mode
from ctxfs.versions.rollback_plan import are_alike

_MAX_BATCH_BYTES = 16_000_000


class Target:
    """A path to be replaced, and the states in which it may be replaced."""

    def __init__(self, capture: Capture, parts: Parts, expected: Sequence[State]) -> None:
        self._capture = capture
        self.parts = parts
        self._expected = expected
        self.state = expected[0]

    def is_expected(self, stat: os.stat_result | None) -> bool:
        """Return True if the current state is expected, and record it."""
        if stat is not None and not git_mode(stat):
            return False  # not a versioned type of file, such as a FIFO
        self.state = self._capture.capture_path(self.parts, stat, self._expected[0])
        return any(are_alike(self.state, state) for state in self._expected)

    def has_content(self, oid: str) -> bool:
        """Return True if every expected state has this content."""
        return all(state.entry is not None and state.entry.oid == oid for state in self._expected)


class Contents:
    """The blobs of changes in their order, read in batches."""

    def __init__(self, ledger: Ledger, changes: Sequence[PathChange]) -> None:
        self._repo = ledger.repo
        self._blobs = [
            (c.oid, c.size) for c in changes if c.oid and (not c.side or ledger.read_sidecar(c.side).large is None)
        ]
        self._position = 0
        self._batch: dict[str, bytes] = {}

    def of(self, oid: str) -> bytes:
        """Return the content of a blob."""
        while oid not in self._batch and self._position < len(self._blobs):
            self._batch, total = {}, 0
            part: list[str] = []
            while self._position < len(self._blobs) and (
                not part or total + self._blobs[self._position][1] <= _MAX_BATCH_BYTES
            ):
                part.append(self._blobs[self._position][0])
                total += self._blobs[self._position][1]
                self._position += 1
            self._batch = self._repo.read_many(part)
        return self._batch[oid] if oid in self._batch else self._repo.read(oid)
