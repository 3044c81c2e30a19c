"""Ingester: keep the catalog and the full-text index consistent with the files, also after a crash."""

import errno
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from stat import S_ISDIR, S_ISREG

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import FileStat, drop_columns, tree_path
from ctxfs.index.engines.corruption import CorruptIndex, describe_damage
from ctxfs.index.engines.embedding_requests import OWN_VECTORS, SHARED_VECTORS, EmbeddingRequests
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.engines.fulltext_document import FullTextDocument
from ctxfs.index.engines.word_split import WORDS_FORMAT, split_words
from ctxfs.index.extract.extractor import Extractor
from ctxfs.index.extract.file_reader import (
    LABEL_PREFIX,
    detect_kind,
    filter_values,
    front_matter_of,
    is_json,
    join_neighbours,
    labels_of,
    ranks_with_neighbours,
    read_attributes,
    to_file_stat,
)
from ctxfs.index.extract.formats import UnreadableFile, is_extracted, size_limit
from ctxfs.index.extract.ignore import IgnoreRules, walk_files
from ctxfs.index.extract.large_files import SearchedContent, is_searched_in_part, read_searched
from ctxfs.index.extract.noise_rules import NoiseRules
from ctxfs.index.extract.pieces import CUT_MARK
from ctxfs.index.extract.session_parts import KIND, labels_of_lines, session_parts
from ctxfs.index.ingest.crash_records import CrashRecords
from ctxfs.index.ingest.session_store import SessionStore
from ctxfs.index.options import IndexedRoot
from ctxfs.model.noise import is_marker
from ctxfs.model.path import printable
from ctxfs.store import rooted_fs
from ctxfs.store.derived_db import is_database_failure

log = logging.getLogger(__name__)

_BATCH_FILES = 400
_BATCH_SESSIONS = 8  # a session's file may have as many parts as a folder has files
_ENDED_INDEXERS = "the indexer ended twice while it was at this file"
_CATALOG_MARK = "catalog"
NO_STAT: FileStat = (0, 0, 0, 0)


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
        self._noise: dict[str, NoiseRules] = {}
        self._done_files = self._total_files = 0
        self._extractor = Extractor()
        self._sessions = SessionStore(catalog)
        self._crash_records = CrashRecords(words.folder.parent, _BATCH_FILES)
        self.stop = threading.Event()

    def set_roots(self, roots: Iterable[IndexedRoot]) -> None:
        """Replace the list of sources, and drop the files of removed sources from the index."""
        self._roots = {
            root.prefix: (root, IgnoreRules(root.root, root.exclude, gitignore=root.gitignore, include=root.include))
            for root in roots
        }
        self._noise = {prefix: NoiseRules(root) for prefix, (root, _) in self._roots.items()}
        for source in self._catalog.sources() - set(self._roots):
            self._catalog.mark_source_gone(source)
        self._sessions.drop_old_parts(root for root, _ in self._roots.values() if root.holds_records)
        self.flush()

    def prepare_to_stop(self) -> None:
        """Stop at the next batch, and clear the crash record, because the process may be killed. Thread-safe."""
        self._crash_records.disarm()
        self.stop.set()

    def close(self) -> None:
        """Close the extractor and the engines, which releases the index for another indexer."""
        self._extractor.close()
        self._crash_records.close()
        self._writer.close()
        self._catalog.close()

    def recover(self) -> None:
        """Complete the last run: index its pending files, or all files if the full-text index is empty or foreign."""
        mark, owner = self._words.folder / _CATALOG_MARK, f"{self._catalog.identifier()} {WORDS_FORMAT}"
        if not mark.exists() or rooted_fs.read_path(mark).decode("utf-8", "replace") != owner:
            # The full-text index belongs to another catalog, in which the same numbers denote other chunks,
            # or its words were split by other rules.
            self._empty_words()
            self._words.refresh()
            mark.write_text(owner)
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
        drop_columns(self._words.folder.parent)
        for kind in (OWN_VECTORS, SHARED_VECTORS):
            requests = EmbeddingRequests(self._words.folder.parent, kind)
            requests.clear()
            requests.close()
        self._empty_words()
        self.flush()
        self._catalog.compact()

    def _empty_words(self) -> None:
        self._catalog.reset_words()
        self._writer.clear()
        self._writer.commit()

    def scan_all(self) -> None:
        """Compare every source with the catalog and index the differences."""
        self._done_files = self._total_files = 0
        for prefix, (_, rules) in list(self._roots.items()):
            rules.clear_cache()
            self._noise[prefix].clear_cache()
            self.scan(prefix, ())
        if not self.stop.is_set():
            self._catalog.set_ignored_folders(
                sum((rules.count_ignored_packages() for _, rules in self._roots.values()), Counter())
            )
            self._crash_records.reset_batch_size()

    def scan(self, prefix: str, below: tuple[str, ...]) -> None:
        """Compare one source, or a folder in it, with the catalog, and index the differences.

        Unchanged files are not read, but only their stat.
        """
        root, rules = self._roots[prefix]
        if root.holds_records:
            gone, sessions = self._sessions.find_changes(root, below)
            self._mark_gone(gone)
            self._index_files(prefix, [_Candidate(_join_path(prefix, parts), parts, NO_STAT) for parts in sessions])
            return
        rows = self._catalog.files_of(prefix)
        if below:
            start = _join_path(prefix, below) + "/"
            rows = {path: row for path, row in rows.items() if path.startswith(start)}
        changed: list[_Candidate] = []
        noise = self._noise[prefix]
        for parts, host_stat in walk_files(root.root, below, rules):
            path = _join_path(prefix, parts)
            stat = to_file_stat(host_stat)
            row = rows.pop(path, None)
            if row is None or row.stat != stat or noise.has_changed(parts, row.noise):
                changed.append(_Candidate(path, parts, stat))
        self._mark_gone(rows)
        self._index_files(prefix, changed)

    def index_changes(self, paths: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        """Index the changes at paths of sources, each (prefix, parts): a file, a folder, or a deleted one.

        The paths form one batch, because a commit of the full-text index costs as much as many files. Paths of removed
        sources are ignored.
        """
        candidates: dict[str, list[_Candidate]] = {}
        deleted_paths: list[str] = []
        for prefix, parts in paths:
            if prefix in self._roots and (candidate := self._examine_path(prefix, parts, deleted_paths)) is not None:
                candidates.setdefault(prefix, []).append(candidate)
        self._mark_gone(deleted_paths)
        self.flush()
        for prefix, changed in candidates.items():
            self._index_files(prefix, changed)

    def _examine_path(self, prefix: str, parts: tuple[str, ...], deleted_paths: list[str]) -> _Candidate | None:
        """Return the file at a path if it must be read, else None.

        Append the paths of deleted files to `deleted_paths`. Scan a folder at once.
        """
        root, rules = self._roots[prefix]
        path = _join_path(prefix, parts)
        if root.holds_records:
            session = session_parts(parts)
            if session is None and len(parts) < 2:
                self.scan(prefix, parts)
            return _Candidate(_join_path(prefix, session), session, NO_STAT) if session is not None else None
        if parts and (is_marker(parts[-1]) or (parts[-1] == ".gitignore" and root.gitignore)):
            rules.clear_cache()
            self._noise[prefix].clear_cache()
            if not rules.ignores_path((*parts[:-1], "x")):
                self.scan(prefix, parts[:-1])
            return None
        try:
            with rooted_fs.directory_of(root.root, parts) as (folder, name):
                host_stat = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            deleted_paths += (path, *self._catalog.paths_below(path))
            return None
        if S_ISDIR(host_stat.st_mode):
            if self._catalog.file(path) is not None:
                deleted_paths.append(path)  # the file that the folder has replaced
            if not parts or not rules.ignores_path((*parts, "x")):
                self.scan(prefix, parts)
            return None
        deleted_paths += self._catalog.paths_below(path)  # files of the folder that the file has replaced
        if not S_ISREG(host_stat.st_mode) or rules.ignores_path(parts):
            deleted_paths.append(path)
            return None
        row, stat = self._catalog.file(path), to_file_stat(host_stat)
        return _Candidate(path, parts, stat) if row is None or row.stat != stat else None

    def _mark_gone(self, paths: Collection[str]) -> None:
        if paths:
            with self._catalog.transaction():
                for path in paths:
                    self._catalog.mark_gone(path)

    def _index_files(self, prefix: str, candidates: list[_Candidate]) -> None:
        root, _ = self._roots[prefix]
        self._total_files += len(candidates)
        size = _BATCH_SESSIONS if root.holds_records else _BATCH_FILES
        for start in range(0, len(candidates), size):
            if self.stop.is_set():
                return
            with self._catalog.transaction():
                for candidate in candidates[start : start + size]:
                    self._index_file(root, candidate)
            self._done_files += len(candidates[start : start + size])
            self.flush()
        self.flush()

    def _index_file(self, root: IndexedRoot, candidate: _Candidate) -> None:
        """Put one file into the catalog. An error that the file causes skips only that file."""
        path = candidate.path
        if self._crash_records.has_ended_indexers(path):
            self._store_skipped(root, candidate, None, _ENDED_INDEXERS)
            self._crash_records.reset_count(path)  # so that it is tried again after it changes
            return
        self._crash_records.record_file(path)
        try:
            self._store_file(root, candidate)
        except Exception as error:
            if _is_machine_error(error):
                self._crash_records.clear()
                raise
            log.warning("%s is not indexed: %s", printable(path), type(error).__name__, exc_info=True)
            try:
                self._store_skipped(root, candidate, None, f"cannot be indexed ({type(error).__name__})")
            except OverflowError:  # even its stat does not fit into the catalog
                self._catalog.mark_gone(path)
        self._crash_records.clear()

    def _store_file(self, root: IndexedRoot, candidate: _Candidate) -> None:
        """Put one file into the catalog as `pending`, or as `skipped` with the reason."""
        path = candidate.path
        if root.holds_records:
            self._sessions.store(root, candidate.parts)
            return
        name = printable(candidate.parts[-1])
        if candidate.stat[0] > size_limit(name, self._max_file_bytes) and not is_searched_in_part(name):
            self._store_skipped(root, candidate, None, "too large")
            return
        try:
            content = self._read_content(root, candidate, name)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._catalog.mark_gone(path)
            else:
                self._store_skipped(root, candidate, None, f"unreadable: {os.strerror(error.errno or errno.EIO)}")
            return
        data, digest = content.data, content.digest
        row, noise = self._catalog.file(path), self._noise[root.prefix].noise(candidate.parts, data)
        is_same = row is not None and (row.sha256, row.noise) == (digest, noise) and row.state in ("words", "pending")
        if row is not None and is_same:
            self._catalog.update_stat(row.id, candidate.stat, content.note)
            self._store_attributes(root, candidate, row.id, data, row.state, self._labels_of(row.id))
            return
        try:
            chunks = self._extractor.extract_chunks(name, data)
        except UnreadableFile as reason:
            self._store_skipped(root, candidate, digest, str(reason))
            return
        file = self._catalog.put_file(path, root.prefix, candidate.stat, digest, "other", "pending", content.note)
        self._catalog.set_noise(file, noise)
        self._catalog.replace_chunks(file, chunks)
        self._store_attributes(root, candidate, file, data, "pending", labels_of(chunks))

    def _read_content(self, root: IndexedRoot, candidate: _Candidate, name: str) -> SearchedContent:
        with open(rooted_fs.open_file(root.root, candidate.parts), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return read_searched(file, name, size, self._max_file_bytes)

    def _labels_of(self, file: int) -> list[tuple[str, str]]:
        return [pair for pair in self._catalog.attributes(file) if pair[0].startswith(LABEL_PREFIX)]

    def _store_skipped(self, root: IndexedRoot, candidate: _Candidate, digest: bytes | None, note: str) -> None:
        """Record a file without chunks and the reason for it; searches no longer return its earlier content."""
        kind = "binary" if note == "binary" else "other"
        file = self._catalog.put_file(candidate.path, root.prefix, candidate.stat, digest, kind, "skipped", note)
        self._catalog.replace_chunks(file, ())

    def _store_attributes(
        self,
        root: IndexedRoot,
        candidate: _Candidate,
        file: int,
        data: bytes,
        state: str,
        labels: Collection[tuple[str, str]],
    ) -> None:
        """Store the attributes `user.ctx.*` and the labels of the text, and the kind of the file."""
        attributes = sorted([*read_attributes(root.root, candidate.parts), *labels])
        if state == "words" and attributes == self._catalog.attributes(file):
            return
        self._catalog.set_attributes(file, attributes)
        chunks = self._catalog.chunks_of(file) if is_json(printable(candidate.parts[-1])) else ()
        passages = ((chunk[3], chunk[2]) for chunk in chunks)
        self._catalog.set_kind(file, detect_kind(candidate.path, attributes, data, passages))

    def flush(self) -> None:
        """Apply the catalog's pending changes to the full-text index and commit. Idempotent, after any crash."""
        while True:
            pending = self._catalog.files_in_state("pending", self._crash_records.batch_files)
            deleted = self._catalog.files_in_state("gone", 5 * _BATCH_FILES)
            if not pending and not deleted:
                break
            for file, _, _, _ in deleted:
                self._writer.remove_file(file)
            indexed = [row for row in pending if self._add_words(*row)]
            if len(indexed) == 1:
                self._crash_records.record_file(indexed[0][1])
            elif indexed:
                self._crash_records.record_batch(len(indexed))
            try:
                self._writer.commit()
            except Exception as error:
                if _is_machine_error(error):
                    self._crash_records.clear()
                raise
            self._crash_records.clear()
            with self._catalog.transaction():
                self._catalog.record_commit([row[0] for row in indexed], [row[0] for row in deleted])
            for _, path, _, _ in indexed:
                self._crash_records.reset_count(path)
            self._progress(f"{self._done_files}/{self._total_files}" if self._total_files else "")

    def _add_words(self, file: int, path: str, kind: str, mtime_ns: int) -> bool:
        """Add a file's chunks to the full-text index. Return False if the file is skipped."""
        self._writer.remove_file(file)
        if self._crash_records.has_ended_indexers(path):
            self._catalog.mark_skipped(file, _ENDED_INDEXERS)
            self._crash_records.reset_count(path)
            return False
        self._crash_records.record_file(path)
        try:
            for document in self._build_documents(file, path, kind, mtime_ns):
                self._writer.add(document)
        except Exception as error:
            self._crash_records.clear()
            if _is_machine_error(error) or describe_damage(error):
                raise
            log.warning("%s is not indexed: %s", printable(path), type(error).__name__, exc_info=True)
            self._writer.remove_file(file)
            self._catalog.mark_skipped(file, f"cannot be indexed ({type(error).__name__})")
            return False
        self._crash_records.clear()
        return True

    def _build_documents(self, file: int, path: str, kind: str, mtime_ns: int) -> Iterator[FullTextDocument]:
        stored = self._catalog.attributes(file)
        attributes, front_matter = filter_values(stored), front_matter_of(stored)
        confidence = next((float(value) for name, value in attributes if name == "confidence"), None)
        attributes_of = labels_of_lines(attributes) if kind == KIND else lambda line: attributes
        chunks = self._catalog.chunks_of(file)
        texts = [split_words(row[2]) for row in chunks]
        has_neighbours = ranks_with_neighbours(kind, [row[3] for row in chunks])
        is_text_extracted = is_extracted(path) or kind == "mail"
        for index, (chunk, heading, text, author, first, last, said) in enumerate(chunks):
            # A literal may begin in one piece of a long line and end in the next.
            is_cut = (
                is_text_extracted
                or CUT_MARK in text
                or (
                    kind != KIND
                    and any(
                        first <= row[5] and row[4] <= last
                        for row in (*chunks[max(index - 1, 0) : index], *chunks[index + 1 : index + 2])
                    )
                )
            )
            neighbours = join_neighbours(texts, index) if has_neighbours else ""
            literal = f"{front_matter}\n{text}" if front_matter and not index else text
            yield FullTextDocument(
                chunk, file, texts[index], heading, tree_path(path), kind, mtime_ns, attributes_of(first), confidence,
                neighbours, author, literal, is_cut, said,
            )  # fmt: skip


def _is_machine_error(error: BaseException) -> bool:
    """Return True for an error that no file causes: a full disk, too few descriptors, an unwritable catalog."""
    if isinstance(error, CorruptIndex):
        return not describe_damage(error)
    return isinstance(error, OSError | MemoryError) or is_database_failure(error)


def _join_path(prefix: str, parts: tuple[str, ...]) -> str:
    return "/".join((prefix, *parts))
