"""Keep the catalog and the word index equal to the files: scan sources, take in changes, finish what a crash left."""

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from ctxfs.index.catalog import Catalog, FileStat
from ctxfs.index.chunks import MAX_LINE
from ctxfs.index.formats import Unreadable, chunks_of, is_extracted, size_limit
from ctxfs.index.ignore import IgnoreRules, walk
from ctxfs.index.options import IndexedRoot
from ctxfs.index.reading import around, kind_of, ranks_with_neighbours, read_attributes, stat_of
from ctxfs.index.words import WordDocument, Words, break_up
from ctxfs.model.path import printable
from ctxfs.store import beneath

_BATCH_FILES = 400
_CATALOG = "catalog"


@dataclass(frozen=True, slots=True)
class _Candidate:
    path: str
    parts: tuple[str, ...]
    stat: FileStat


class Follower:
    """Brings the catalog up to the files. One thread uses it; `stop` may be set from another."""

    def __init__(self, catalog: Catalog, words: Words, max_file_bytes: int, progress: Callable[[str], None]) -> None:
        self._catalog = catalog
        self._words = words
        self._writer = words.writer()
        self._max_file_bytes = max_file_bytes
        self._progress = progress
        self._roots: dict[str, tuple[IndexedRoot, IgnoreRules]] = {}
        self._done = self._total = 0
        self.stop = threading.Event()

    def set_roots(self, roots: Iterable[IndexedRoot]) -> None:
        """The sources as they are now; files of a source that is gone are dropped."""
        self._roots = {
            root.prefix: (root, IgnoreRules(root.root, root.exclude, gitignore=root.gitignore)) for root in roots
        }
        for source in self._catalog.sources() - set(self._roots):
            self._catalog.mark_source_gone(source)
        self.flush()

    def close(self) -> None:
        """Let another indexer in."""
        self._writer.close()
        self._catalog.close()

    def recover(self) -> None:
        """Finish what the last run began: commit pending files again, or everything if the word index is empty."""
        mark, born = self._words.folder / _CATALOG, self._catalog.born()
        if not mark.exists() or mark.read_text() != born:
            # The words are those of another catalog, where the same numbers are of other chunks.
            self._catalog.reset_words()
            self._writer.clear()
            self._writer.commit()
            self._words.refresh()
            mark.write_text(born)
        elif self._words.count == 0:
            self._catalog.reset_words()
        self.flush()

    def rebuild(self) -> None:
        """Empty the word index and read every file again."""
        self._writer.clear()
        for prefix in list(self._roots):
            self._catalog.mark_source_gone(prefix)
        self.flush()
        self.scan_all()

    def purge(self) -> None:
        """After an erasure: keep no trace of what is gone, in the catalog, its vectors or the word index."""
        self.scan_all()
        self._catalog.embeddings.drop_unused()
        self._catalog.reset_words()
        self._writer.clear()
        self._writer.commit()
        self.flush()
        self._catalog.compact()

    def scan_all(self) -> None:
        """Compare every source with the catalog."""
        self._done = self._total = 0
        for prefix, (_, rules) in list(self._roots.items()):
            rules.forget()
            self.scan(prefix, ())

    def scan(self, prefix: str, below: tuple[str, ...]) -> None:
        """Compare one source, or a folder in it, with the catalog; unchanged files are only stat-ed."""
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
        """Something happened at these places of sources, (prefix, parts): a file, a folder, or one that is no more.

        They are taken in together: a commit of the word index costs as much as many files. Sources that were removed are passed over.
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
        """The file there, if it is to be read; adds to `gone` what is not there any more. What is in a folder is taken in at once."""
        root, rules = self._roots[prefix]
        path = _join(prefix, parts)
        if parts and parts[-1] == ".gitignore" and root.gitignore:
            rules.forget()
            self.scan(prefix, parts[:-1])
            return None
        try:
            with beneath.directory_of(root.root, parts) as (folder, name):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            gone += (path, *self._catalog.paths_below(path))
            return None
        if _is_directory(found):
            if self._catalog.file(path) is not None:
                gone.append(path)  # the file whose place it has taken
            if not parts or not rules.ignores_path((*parts, "x")):
                self.scan(prefix, parts)
            return None
        gone += self._catalog.paths_below(path)  # in the folder whose place it has taken
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
                    self._store(root, candidate)
            self._done += len(candidates[start : start + _BATCH_FILES])
            self.flush()
        self.flush()

    def _store(self, root: IndexedRoot, candidate: _Candidate) -> None:
        """Put one file into the catalog as `pending`, or as `skipped` with the reason."""
        path = candidate.path
        name = printable(candidate.parts[-1])
        if candidate.stat[0] > size_limit(name, self._max_file_bytes):
            self._skip(root, candidate, None, "too large")
            return
        try:
            data = beneath.read_file(root.root, candidate.parts)
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
            chunks = chunks_of(name, data)
        except Unreadable as reason:
            self._skip(root, candidate, digest, str(reason))
            return
        file = self._catalog.put_file(path, root.prefix, candidate.stat, digest, "other", "pending", "")
        self._store_attributes(root, candidate, file, data, "pending")
        self._catalog.replace_chunks(file, chunks)

    def _skip(self, root: IndexedRoot, candidate: _Candidate, digest: bytes | None, note: str) -> None:
        """List a file that is not searched; what it said before is no longer found."""
        kind = "binary" if note == "binary" else "other"
        file = self._catalog.put_file(candidate.path, root.prefix, candidate.stat, digest, kind, "skipped", note)
        self._catalog.replace_chunks(file, ())

    def _store_attributes(self, root: IndexedRoot, candidate: _Candidate, file: int, data: bytes, state: str) -> None:
        """Keep `user.ctx.*`, and the kind that follows from it, the place or the text."""
        attributes = read_attributes(root.root, candidate.parts)
        if state == "words" and attributes == self._catalog.attributes(file):
            return
        self._catalog.set_attributes(file, attributes)
        self._catalog.set_kind(file, kind_of(candidate.path, attributes, data))

    def flush(self) -> None:
        """Bring the word index up to the catalog and commit; may be repeated after a crash at any point."""
        while True:
            pending = self._catalog.in_state("pending", _BATCH_FILES)
            gone = self._catalog.in_state("gone", 5 * _BATCH_FILES)
            if not pending and not gone:
                break
            for file, _, _, _ in gone:
                self._writer.remove_file(file)
            for file, path, kind, mtime_ns in pending:
                self._writer.remove_file(file)
                attributes = self._catalog.attributes(file)
                confidence = next((float(value) for name, value in attributes if name == "confidence"), None)
                chunks = self._catalog.chunks_of(file)
                texts = [break_up(text) for _, _, text, _ in chunks]
                near, extracted = ranks_with_neighbours(kind, [row[3] for row in chunks]), is_extracted(path)
                for at, (chunk, heading, text, author) in enumerate(chunks):
                    self._writer.add(
                        WordDocument(
                            chunk,
                            file,
                            texts[at],
                            heading,
                            path,
                            kind,
                            mtime_ns,
                            attributes,
                            confidence,
                            around(texts, at) if near else "",
                            author,
                            text,
                            extracted or any(len(line) >= MAX_LINE for line in text.split("\n")),
                        )
                    )
            self._writer.commit()
            with self._catalog.transaction():
                self._catalog.settle([row[0] for row in pending], [row[0] for row in gone])
            self._progress(f"{self._done}/{self._total}" if self._total else "")


def _join(prefix: str, parts: tuple[str, ...]) -> str:
    return "/".join((prefix, *parts))


def _is_directory(found: os.stat_result) -> bool:
    return (found.st_mode & 0o170000) == 0o040000


def _is_regular(found: os.stat_result) -> bool:
    return (found.st_mode & 0o170000) == 0o100000
