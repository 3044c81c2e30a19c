"""Ingester: keep the catalog and the full-text index consistent with the files, also after a crash."""

import errno
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from ctxfs.index.engines.catalog import Catalog, FileStat
from ctxfs.index.engines.corruption import CorruptIndex, damage
from ctxfs.index.engines.fulltext import FullText, FullTextDocument, break_up
from ctxfs.index.extract.chunks import MAX_LINE
from ctxfs.index.extract.extractor import Extractor
from ctxfs.index.extract.file_reader import around, kind_of, ranks_with_neighbours, read_attributes, stat_of
from ctxfs.index.extract.formats import UnreadableFile, is_extracted, size_limit
from ctxfs.index.extract.ignore import IgnoreRules, walk
from ctxfs.index.ingest.crash_records import CrashRecords
from ctxfs.index.options import IndexedRoot
from ctxfs.model.path import printable
from ctxfs.store import rooted_fs
from ctxfs.store.derived_db import is_database_failure

log = logging.getLogger(__name__)

_BATCH_FILES = 400
_ENDED_INDEXERS = "the indexer ended twice while it was at this file"
_CATALOG = "catalog"


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: str
    parts: tuple[str, ...]
    stat: FileStat


class Ingester:
    """The writer of the catalog and the full-text index. Only one thread may use it; any thread may set `stop`."""

    def __init__(self, catalog: Catalog, words: FullText, max_file_bytes: int, progress: Callable[[str], None]) -> None:
        self._catalog = catalog
        self._words = words
        self._writer = words.writer()
        self._max_file_bytes = max_file_bytes
        self._progress = progress
        self._roots: dict[str, tuple[IndexedRoot, IgnoreRules]] = {}
        self._done = self._total = 0
        self._extractor = Extractor()
        self._suspects = CrashRecords(words.folder.parent, _BATCH_FILES)
        self.stop = threading.Event()

    def set_roots(self, roots: Iterable[IndexedRoot]) -> None:
        """Replace the list of sources, and drop the files of removed sources from the index."""
        self._roots = {
            root.prefix: (root, IgnoreRules(root.root, root.exclude, gitignore=root.gitignore)) for root in roots
        }
        for source in self._catalog.sources() - set(self._roots):
            self._catalog.mark_source_gone(source)
        self.flush()

    def prepare_to_end(self) -> None:
        """Stop at the next batch, and clear the crash record, because the process may be killed. Thread-safe."""
        self._suspects.disarm()
        self.stop.set()

    def close(self) -> None:
        """Close the extractor and the engines, which releases the index for another indexer."""
        self._extractor.close()
        self._suspects.close()
        self._writer.close()
        self._catalog.close()

    def recover(self) -> None:
        """Complete the last run: index its pending files, or all files if the full-text index is empty or foreign."""
        mark, born = self._words.folder / _CATALOG, self._catalog.born()
        if not mark.exists() or rooted_fs.read_path(mark).decode("utf-8", "replace") != born:
            # The full-text index belongs to another catalog, in which the same numbers denote other chunks.
            self._catalog.reset_words()
            self._writer.clear()
            self._writer.commit()
            self._words.refresh()
            mark.write_text(born)
        elif self._words.count == 0:
            self._catalog.reset_words()
        self.flush()

    def rebuild(self) -> None:
        """Empty the full-text index and read every file again."""
        self._writer.clear()
        for prefix in list(self._roots):
            self._catalog.mark_source_gone(prefix)
        self.flush()
        self.scan_all()

    def purge(self) -> None:
        """Remove every trace of deleted files from the catalog, its vectors and the full-text index."""
        self.scan_all()
        self._catalog.embeddings.drop_unused()
        self._catalog.reset_words()
        self._writer.clear()
        self._writer.commit()
        self.flush()
        self._catalog.compact()

    def scan_all(self) -> None:
        """Compare every source with the catalog and index the differences."""
        self._done = self._total = 0
        for prefix, (_, rules) in list(self._roots.items()):
            rules.forget()
            self.scan(prefix, ())
        if not self.stop.is_set():
            self._suspects.acquit_batches()

    def scan(self, prefix: str, below: tuple[str, ...]) -> None:
        """Compare one source, or a folder in it, with the catalog, and index the differences.

        Unchanged files are not read, but only their stat.
        """
        root, rules = self._roots[prefix]
        known = self._catalog.files_of(prefix)
        if below:
            start = _join(prefix, below) + "/"
            known = {path: row for path, row in known.items() if path.startswith(start)}
        changed: list[_Candidate] = []
        for parts, found in walk(root.root, below, rules):
            path = _join(prefix, parts)
            stat = stat_of(found)
            row = known.pop(path, None)
            if row is None or row.stat != stat:
                changed.append(_Candidate(path, parts, stat))
        self._mark_gone(known)
        self._take_in(prefix, changed)

    def changed(self, places: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Index the changes at paths of sources, each (prefix, parts): a file, a folder, or a deleted one.

        The paths form one batch, because a commit of the full-text index costs as much as many files. Paths of removed
        sources are ignored.
        """
        candidates: dict[str, list[_Candidate]] = {}
        gone: list[str] = []
        for prefix, parts in places:
            if prefix in self._roots and (found := self._look_at(prefix, parts, gone)) is not None:
                candidates.setdefault(prefix, []).append(found)
        self._mark_gone(gone)
        self.flush()
        for prefix, changed in candidates.items():
            self._take_in(prefix, changed)

    def _look_at(self, prefix: str, parts: tuple[str, ...], gone: list[str]) -> _Candidate | None:
        """Return the file at a path if it must be read, else None.

        Append the paths of deleted files to `gone`. Scan a folder at once.
        """
        root, rules = self._roots[prefix]
        path = _join(prefix, parts)
        if parts and parts[-1] == ".gitignore" and root.gitignore:
            rules.forget()
            self.scan(prefix, parts[:-1])
            return None
        try:
            with rooted_fs.directory_of(root.root, parts) as (folder, name):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            gone += (path, *self._catalog.paths_below(path))
            return None
        if _is_directory(found):
            if self._catalog.file(path) is not None:
                gone.append(path)  # the file that the folder has replaced
            if not parts or not rules.ignores_path((*parts, "x")):
                self.scan(prefix, parts)
            return None
        gone += self._catalog.paths_below(path)  # files of the folder that the file has replaced
        if not _is_regular(found) or rules.ignores_path(parts):
            gone.append(path)
            return None
        row, stat = self._catalog.file(path), stat_of(found)
        return _Candidate(path, parts, stat) if row is None or row.stat != stat else None

    def _mark_gone(self, paths: Collection[str]) -> None:
        if paths:
            with self._catalog.transaction():
                for path in paths:
                    self._catalog.mark_gone(path)

    def _take_in(self, prefix: str, candidates: list[_Candidate]) -> None:
        root, _ = self._roots[prefix]
        self._total += len(candidates)
        for start in range(0, len(candidates), _BATCH_FILES):
            if self.stop.is_set():
                return
            with self._catalog.transaction():
                for candidate in candidates[start : start + _BATCH_FILES]:
                    self._take_in_file(root, candidate)
            self._done += len(candidates[start : start + _BATCH_FILES])
            self.flush()
        self.flush()

    def _take_in_file(self, root: IndexedRoot, candidate: _Candidate) -> None:
        """Put one file into the catalog. An error that the file causes skips only that file."""
        path = candidate.path
        if self._suspects.has_ended_indexers(path):
            self._skip(root, candidate, None, _ENDED_INDEXERS)
            self._suspects.acquit(path)  # so that it is tried again after it changes
            return
        self._suspects.accuse(path)
        try:
            self._store(root, candidate)
        except Exception as error:
            if _is_about_the_machine(error):
                self._suspects.clear()
                raise
            log.warning("%s is not indexed: %s", printable(path), type(error).__name__, exc_info=True)
            try:
                self._skip(root, candidate, None, f"cannot be indexed ({type(error).__name__})")
            except OverflowError:  # even its stat does not fit into the catalog
                self._catalog.mark_gone(path)
        self._suspects.clear()

    def _store(self, root: IndexedRoot, candidate: _Candidate) -> None:
        """Put one file into the catalog as `pending`, or as `skipped` with the reason."""
        path = candidate.path
        name = printable(candidate.parts[-1])
        limit = size_limit(name, self._max_file_bytes)
        if candidate.stat[0] > limit:
            self._skip(root, candidate, None, "too large")
            return
        try:
            data = rooted_fs.read_file(root.root, candidate.parts, limit)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._catalog.mark_gone(path)
            else:
                self._skip(root, candidate, None, f"unreadable: {os.strerror(error.errno or errno.EIO)}")
            return
        digest = hashlib.sha256(data).digest()
        row = self._catalog.file(path)
        if row is not None and row.sha256 == digest and row.state in ("words", "pending"):
            self._catalog.touch(row.id, candidate.stat)
            self._store_attributes(root, candidate, row.id, data, row.state)
            return
        try:
            chunks = self._extractor.chunks_of(name, data)
        except UnreadableFile as reason:
            self._skip(root, candidate, digest, str(reason))
            return
        file = self._catalog.put_file(path, root.prefix, candidate.stat, digest, "other", "pending", "")
        self._store_attributes(root, candidate, file, data, "pending")
        self._catalog.replace_chunks(file, chunks)

    def _skip(self, root: IndexedRoot, candidate: _Candidate, digest: bytes | None, note: str) -> None:
        """Record a file without chunks and the reason for it; searches no longer return its earlier content."""
        kind = "binary" if note == "binary" else "other"
        file = self._catalog.put_file(candidate.path, root.prefix, candidate.stat, digest, kind, "skipped", note)
        self._catalog.replace_chunks(file, ())

    def _store_attributes(self, root: IndexedRoot, candidate: _Candidate, file: int, data: bytes, state: str) -> None:
        """Store the attributes `user.ctx.*`, and the kind that follows from them, the path or the text."""
        attributes = read_attributes(root.root, candidate.parts)
        if state == "words" and attributes == self._catalog.attributes(file):
            return
        self._catalog.set_attributes(file, attributes)
        self._catalog.set_kind(file, kind_of(candidate.path, attributes, data))

    def flush(self) -> None:
        """Apply the catalog's pending changes to the full-text index and commit. Idempotent, after any crash."""
        while True:
            pending = self._catalog.in_state("pending", self._suspects.batch_files)
            gone = self._catalog.in_state("gone", 5 * _BATCH_FILES)
            if not pending and not gone:
                break
            for file, _, _, _ in gone:
                self._writer.remove_file(file)
            taken = [row for row in pending if self._add_words(*row)]
            if len(taken) == 1:
                self._suspects.accuse(taken[0][1])
            elif taken:
                self._suspects.accuse_batch(len(taken))
            try:
                self._writer.commit()
            except Exception as error:
                if _is_about_the_machine(error):
                    self._suspects.clear()
                raise
            self._suspects.clear()
            with self._catalog.transaction():
                self._catalog.settle([row[0] for row in taken], [row[0] for row in gone])
            for _, path, _, _ in taken:
                self._suspects.acquit(path)
            self._progress(f"{self._done}/{self._total}" if self._total else "")

    def _add_words(self, file: int, path: str, kind: str, mtime_ns: int) -> bool:
        """Add a file's chunks to the full-text index. Return False if the file is skipped."""
        self._writer.remove_file(file)
        if self._suspects.has_ended_indexers(path):
            self._catalog.skip(file, _ENDED_INDEXERS)
            self._suspects.acquit(path)
            return False
        self._suspects.accuse(path)
        try:
            for document in self._documents_of(file, path, kind, mtime_ns):
                self._writer.add(document)
        except Exception as error:
            self._suspects.clear()
            if _is_about_the_machine(error) or damage(error):
                raise
            log.warning("%s is not indexed: %s", printable(path), type(error).__name__, exc_info=True)
            self._writer.remove_file(file)
            self._catalog.skip(file, f"cannot be indexed ({type(error).__name__})")
            return False
        self._suspects.clear()
        return True

    def _documents_of(self, file: int, path: str, kind: str, mtime_ns: int) -> Iterator[FullTextDocument]:
        attributes = self._catalog.attributes(file)
        confidence = next((float(value) for name, value in attributes if name == "confidence"), None)
        chunks = self._catalog.chunks_of(file)
        texts = [break_up(text) for _, _, text, _ in chunks]
        near, extracted = ranks_with_neighbours(kind, [row[3] for row in chunks]), is_extracted(path)
        for at, (chunk, heading, text, author) in enumerate(chunks):
            cut = extracted or any(len(line) >= MAX_LINE for line in text.split("\n"))
            neighbours = around(texts, at) if near else ""
            yield FullTextDocument(
                chunk, file, texts[at], heading, path, kind, mtime_ns, attributes, confidence, neighbours, author, text, cut
            )  # fmt: skip


def _is_about_the_machine(error: BaseException) -> bool:
    """Return True for an error that no file causes: a full disk, too few descriptors, an unwritable catalog."""
    if isinstance(error, CorruptIndex):
        return not damage(error)
    return isinstance(error, OSError | MemoryError) or is_database_failure(error)


def _join(prefix: str, parts: tuple[str, ...]) -> str:
    return "/".join((prefix, *parts))


def _is_directory(found: os.stat_result) -> bool:
    return (found.st_mode & 0o170000) == 0o040000


def _is_regular(found: os.stat_result) -> bool:
    return (found.st_mode & 0o170000) == 0o100000
