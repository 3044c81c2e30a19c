"""The tree in one version: entries, contents and attributes."""

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ctxfs.model.entry import Entry, directory
from ctxfs.model.errors import path_error
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.name_encoding import path_bytes, path_text, split_path
from ctxfs.versions.objects.sidecar import default_mode
from ctxfs.versions.objects.trees import MODE_DIR, MODE_LINK
from ctxfs.versions.recording.ledger import Ledger, State


@dataclass(frozen=True, slots=True)
class SnapshotEntry:
    """A file in a version; `data` is None if it does not exist there, or is `too_large`."""

    path: str
    data: bytes | None
    attributes: Mapping[str, bytes]
    too_large: bool = False

    @property
    def hidden(self) -> "SnapshotEntry":
        """The entry for a principal that may not see the file: one that does not exist."""
        return SnapshotEntry(self.path, None, {})


class SnapshotReader:
    """A reader of versions, from the ledger.

    Paths are texts, from the root of the tree. Used under the archive's lock.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def entry(self, commit: Commit, path: str, name: str) -> Entry:
        """Return the entry of a path. Raise `OSError` ENOENT."""
        return self._make_entry(self._state_of(commit, path), commit, name, with_size=True)

    def entries(self, commit: Commit, path: str) -> list[Entry]:
        """Return the sorted entries of a directory. Raise `OSError` ENOENT or ENOTDIR.

        File sizes are omitted, because each would need a git query of its own.
        """
        state = self._state_of(commit, path)
        assert state.entry is not None
        if state.entry.mode != MODE_DIR:
            raise path_error(errno.ENOTDIR, path)
        children = sorted(self._ledger.children(state.entry.oid).items())
        return [self._make_entry(inner, commit, path_text(name), with_size=False) for name, inner in children]

    def read(self, commit: Commit, path: str) -> bytes:
        """Return a file's content. Raise `OSError` ENOENT or EISDIR."""
        state = self._state_of(commit, path)
        assert state.entry is not None
        if state.entry.mode == MODE_DIR:
            raise path_error(errno.EISDIR, path)
        return self._ledger.read_content(state)

    def attributes(self, commit: Commit, path: str) -> dict[str, bytes]:
        """Return the extended attributes of a path. Raise `OSError` ENOENT."""
        return self.attributes_of(self._state_of(commit, path))[1]

    def attributes_of(self, state: State) -> tuple[int, dict[str, bytes]]:
        """Return (permission bits, extended attributes) of a state."""
        assert state.entry is not None
        side = self._ledger.read_sidecar(state.side)
        return side.mode if side.mode is not None else default_mode(state.entry.mode), dict(side.xattrs)

    def differences(self, commit: Commit, newest: Commit, most_bytes: int) -> Iterator[SnapshotEntry]:
        """Yield the state in a version of each file that differs from the newest one.

        Files over `most_bytes` have no content.
        """
        for change in self._ledger.compare_trees(commit.tree, newest.tree):
            state = self._ledger.state(commit.tree, split_path(change.path))
            was_file = state.entry is not None and state.entry.mode not in (MODE_DIR, MODE_LINK)
            if not was_file:
                yield SnapshotEntry(path_text(change.path), None, {})
            elif self._ledger.size(state) > most_bytes:
                yield SnapshotEntry(path_text(change.path), None, {}, too_large=True)
            else:
                yield SnapshotEntry(
                    path_text(change.path), self._ledger.read_content(state), self.attributes_of(state)[1]
                )

    def _state_of(self, commit: Commit, path: str) -> State:
        state = self._ledger.state(commit.tree, split_path(path_bytes(path)))
        if state.entry is None:
            raise path_error(errno.ENOENT, path, f"it did not exist in {commit.oid[:8]}")
        return state

    def _make_entry(self, state: State, commit: Commit, name: str, *, with_size: bool) -> Entry:
        assert state.entry is not None
        mode, oid = state.entry
        bits, _ = self.attributes_of(state)
        if mode == MODE_DIR:
            return directory(name, mode=bits | 0o555, mtime_ns=commit.time_ns, version=oid)
        if mode == MODE_LINK:
            target = self._ledger.repo.read(oid)
            return Entry(name, "link", oid, len(target), commit.time_ns, 0o777, path_text(target))
        size = self._ledger.size(state) if with_size else None
        return Entry(name, "file", version=oid + state.side, size=size, mtime_ns=commit.time_ns, mode=bits)
