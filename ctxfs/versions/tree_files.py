"""All files below a directory in one version, with their attributes and times, read in batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ctxfs.versions.archive_core import ArchiveAccess, ArchiveCore
from ctxfs.versions.objects.commits import Commit
from ctxfs.versions.objects.name_encoding import path_bytes, path_text, split_path
from ctxfs.versions.objects.trees import MODE_FILE, MODE_PROGRAM
from ctxfs.versions.recording.ledger import State
from ctxfs.versions.recording.pathindex import ContentTimes

_BATCH_FILES = 500


@dataclass(frozen=True, slots=True)
class VersionedFile:
    """A file in a version: content, attributes by their full names, and when this content and the path first existed."""

    path: str
    data: bytes
    attributes: dict[str, bytes]
    changed_ns: int
    created_ns: int


class TreeFiles:
    """The reader of whole directories. Paths are texts from the root of the tree, with surrogateescape."""

    def __init__(self, archive: ArchiveAccess) -> None:
        self._archive = archive

    def list_below(self, commit: Commit, path: str) -> list[str]:
        """Return the paths of the regular files at a path and below it in a version. Blocks."""
        with self._archive.locked() as core:
            return [name for name, _ in _list_files(core, commit, path)]

    def read_below(
        self, commit: Commit, path: str, max_bytes: int, is_wanted: Callable[[str], bool]
    ) -> Iterator[list[VersionedFile]]:
        """Yield the wanted regular files of at most `max_bytes` below a directory, in batches. Blocks.

        The lock is held for a batch at a time. The order is that of the directories' names.
        """
        with self._archive.locked() as core:
            listed = _list_files(core, commit, path)
            times = core.index.content_times(path_bytes(path))
        wanted = [(name, state) for name, state in listed if is_wanted(name)]
        for start in range(0, len(wanted), _BATCH_FILES):
            yield self._read_batch(wanted[start : start + _BATCH_FILES], times, max_bytes)

    def _read_batch(
        self, batch: list[tuple[str, State]], times: dict[bytes, ContentTimes], max_bytes: int
    ) -> list[VersionedFile]:
        with self._archive.locked() as core:
            ledger = core.ledger
            ledger.prefetch_sidecars(state.side for _, state in batch)
            sizes = ledger.repo.sizes(state.entry.oid for _, state in batch if state.entry is not None)
            small = [
                (name, state)
                for name, state in batch
                if state.entry is not None
                and sizes[state.entry.oid] <= max_bytes
                and ledger.read_sidecar(state.side).large is None
            ]
            contents = ledger.repo.read_many(state.entry.oid for _, state in small if state.entry is not None)
            unknown = ContentTimes(0, 0)
            files = []
            for name, state in small:
                assert state.entry is not None
                changed, created = times.get(path_bytes(name), unknown)
                attributes = dict(ledger.read_sidecar(state.side).xattrs)
                files.append(VersionedFile(name, contents[state.entry.oid], attributes, changed, created))
            return files


def _list_files(core: ArchiveCore, commit: Commit, path: str) -> list[tuple[str, State]]:
    return [
        (path_text(b"/".join(parts)), state)
        for parts, state in core.ledger.walk(commit.tree, split_path(path_bytes(path)))
        if state.entry is not None and state.entry.mode in (MODE_FILE, MODE_PROGRAM)
    ]
