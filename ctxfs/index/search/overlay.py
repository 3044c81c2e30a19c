"""In-memory index of the files that changed since the last commit of the full-text index, searched beside it.

Search therefore reads its own writes: a closed file is found, and a deleted file disappears, immediately.
The overlay contains a limited number of small files; larger changes are found after the next commit of the index.
"""

import contextlib
import copy
import errno
import hashlib
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from stat import S_ISREG

import numpy as np

from ctxfs.index.engines.catalog_schema import NOT_EMBEDDED, ChunkRow, FileStat, folder_of, tree_path
from ctxfs.index.extract.chunks import NEIGHBOUR_CHUNKS, Chunk
from ctxfs.index.extract.extractor import Extractor, ExtractorUnavailable, TooSlow
from ctxfs.index.extract.file_reader import (
    detect_kind,
    filter_values,
    join_neighbours,
    labels_of,
    ranks_with_neighbours,
    read_attributes,
    sound_attributes,
    to_file_stat,
    users_of,
)
from ctxfs.index.extract.formats import UnreadableFile, is_slow
from ctxfs.index.extract.ignore import IgnoreRules, walk_files
from ctxfs.index.extract.noise_rules import NoiseRules
from ctxfs.index.extract.session_parts import KIND, SplitPart, labels_of_lines
from ctxfs.index.extract.text_features import count_words, detect_features
from ctxfs.index.normal_form import fold_name
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import Query
from ctxfs.index.search.features import Candidates
from ctxfs.index.search.file_roles import role_of
from ctxfs.index.search.filter_values import contains_all, is_of_searched_kind, is_under, is_within, passes_attributes
from ctxfs.index.search.overlay_matching import (
    OverlayChunk,
    count_equal_chunks,
    has_phrase,
    iterate_ancestors,
    score_alternatives,
)
from ctxfs.model.noise import is_marker
from ctxfs.model.path import Path, printable
from ctxfs.store import rooted_fs

MAX_FILE_BYTES = 65_536
MAX_FILES = 200
MAX_FOLDER_FILES = 50

Analyse = Callable[[str], Sequence[str]]  # FullText.terms
Idf = Callable[[str], float]  # FullText.idf


@dataclass(frozen=True, slots=True)
class _OverlayFile:
    """A file in the overlay. `stat` is None for a deleted file; `users` are the names that it has of users, as JSON.

    `stale` are the stat values of an outdated part in the index, which stays hidden until the index has another one.
    """

    stat: FileStat | None
    sha256: str = ""
    attributes: Sequence[tuple[str, str]] = ()
    chunks: Sequence[OverlayChunk] = ()
    is_noise: bool = False
    folder: str = ""
    users: str = ""
    stale: FileStat | None = None
    line_labels: Callable[[int], Sequence[tuple[str, str]]] | None = None

    def attributes_at(self, line: int) -> Sequence[tuple[str, str]]:
        """Return the attributes of a line: of a part of a session's file, with the principal of the line alone."""
        return self.attributes if self.line_labels is None else self.line_labels(line)


class Overlay:
    """The current state of files that are not indexed yet. One thread at a time uses it.

    Chunk numbers are negative, so that they never collide with those of the catalog.
    """

    def __init__(
        self,
        analyse: Analyse,
        analyse_split: Analyse,
        split_words: Callable[[str], str],
        author_terms: Callable[[str], Sequence[str]],
        extractor: Extractor,
        *,
        beside: bool = False,
    ) -> None:
        """With `beside`, its files are searched beside those of the current overlay, whose numbers it does not use."""
        self._is_beside = beside
        self._extractor = extractor
        self._analyse = analyse
        self._analyse_split = analyse_split
        self._split_words = split_words
        self._author_terms = author_terms
        self._files: OrderedDict[str, _OverlayFile] = OrderedDict()
        self._rules: dict[IndexedRoot, IgnoreRules] = {}
        self._noise: dict[IndexedRoot, NoiseRules] = {}
        self._last = -(1 << 40) if beside else 0

    def __bool__(self) -> bool:
        return bool(self._files)

    @property
    def paths(self) -> Iterable[str]:
        """The paths of the files to search here instead of in the index."""
        return self._files.keys()

    def existing_files(self, labels: Sequence[tuple[str, str]] = ()) -> Iterator[str]:
        """Yield the paths in the tree of the files that exist and have all labels; a session's file once for each part."""
        for path, file in self._files.items():
            if file.stat is not None and set(labels) <= set(file.attributes):
                yield tree_path(path)

    def digest(self, path: str) -> str:
        """Return the hexadecimal sha256 of a file's content in the overlay; empty if there is none."""
        file = self._files.get(path)
        return file.sha256 if file else ""

    def stat(self, path: str) -> FileStat | None:
        """Return the stat values of a file in the overlay; None if it is deleted or not in the overlay."""
        file = self._files.get(path)
        return file.stat if file else None

    def is_gone(self, path: str) -> bool:
        """Return True if the overlay records the file as deleted."""
        file = self._files.get(path)
        return file is not None and file.stat is None

    def record_deletion(self, path: str) -> None:
        """Record that no file exists at `path` any more."""
        self._put(path, _OverlayFile(None))

    def record_folder_deletions(self, folders: AbstractSet[str], indexed: Iterable[str]) -> None:
        """Record the deletion of folders, with the files `indexed` below them and those in the overlay."""
        existing = [path for path in self._files if not folders.isdisjoint(iterate_ancestors(path))]
        for path in (*indexed, *existing):
            self._put(path, _OverlayFile(None))

    def filtered(self, may_see: Callable[[str, Sequence[tuple[str, str]]], bool]) -> "Overlay":
        """Return the overlay of the files for which `may_see(path, attributes)` is True."""
        view = copy.copy(self)
        view._files = OrderedDict((path, file) for path, file in self._files.items() if may_see(path, file.attributes))
        return view

    def over(self, current: "Overlay") -> "Overlay":
        """Return the overlay to be searched in place of the current one: beside it, with those files that this one lacks."""
        if not self._is_beside:
            return self
        joined = copy.copy(self)
        joined._files = OrderedDict({**current._files, **self._files})
        return joined

    def drop(self, path: str) -> None:
        """Remove a file, because the index is up to date for it."""
        self._files.pop(path, None)

    def keep_sources(self, prefixes: AbstractSet[str]) -> None:
        """Remove the files of all sources except these."""
        for path in [path for path in self._files if prefixes.isdisjoint(iterate_ancestors(path))]:
            del self._files[path]

    def drop_indexed(self, indexed: Callable[[str], FileStat | None]) -> None:
        """Remove the files for which `indexed` returns the stat values in the overlay (None: not in the index)."""
        for path, file in list(self._files.items()):
            stat = indexed(path)
            if stat == file.stat or (file.stale is not None and stat != file.stale):
                del self._files[path]

    def files_in_folder(self, root: IndexedRoot, parts: tuple[str, ...]) -> list[tuple[str, ...]] | None:
        """Return the files in a new folder: empty if it is no folder, None if it contains too many."""
        files = walk_files(root.root, parts, self._get_rules(root), MAX_FOLDER_FILES)
        return [inner for inner, _ in files] if len(files) <= MAX_FOLDER_FILES else None

    def _get_rules(self, root: IndexedRoot) -> IgnoreRules:
        return self._rules.setdefault(
            root, IgnoreRules(root.root, root.exclude, gitignore=root.gitignore, include=root.include)
        )

    def _find_noise(self, root: IndexedRoot, parts: tuple[str, ...], data: bytes) -> bool:
        """Return True if a file is noise."""
        rules = self._noise.setdefault(root, NoiseRules(root))
        if is_marker(parts[-1]):
            rules.clear_cache()
        return bool(rules.noise(parts, data))

    def update(self, root: IndexedRoot, parts: tuple[str, ...]) -> bool:
        """Read a path of a source. Return False if it has to wait for the index (a folder, a large file)."""
        path = "/".join((root.prefix, *parts))
        rules = self._get_rules(root)
        if parts[-1:] == (".gitignore",):
            rules.clear_cache()
        try:
            with rooted_fs.directory_of(root.root, parts) as (folder, name):
                stat = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not S_ISREG(stat.st_mode) or stat.st_size > MAX_FILE_BYTES or is_slow(parts[-1]):
                return False
            if rules.ignores_path(parts):
                return True
            data = rooted_fs.read_file(root.root, parts, MAX_FILE_BYTES)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._put(path, _OverlayFile(None))
            return error.errno != errno.EFBIG  # the index reports why other files cannot be read
        try:
            file = self._build_file(
                path, read_attributes(root.root, parts), to_file_stat(stat), data, is_interactive=True
            )
            file = replace(file, is_noise=self._find_noise(root, parts, data))
        except (TooSlow, ExtractorUnavailable):
            return False
        except UnreadableFile:
            file = _OverlayFile(to_file_stat(stat))
        self._put(path, file)
        return True

    def add_past(self, path: str, data: bytes | None, attributes: Mapping[str, bytes], when_ns: int) -> None:
        """Add the content of a file at another time; None if it did not exist. The number of files is not limited."""
        file = _OverlayFile(None)
        if data is not None:
            stat = (len(data), when_ns, 0, 0)
            with contextlib.suppress(UnreadableFile):
                file = self._build_file(path, sound_attributes(attributes), stat, data)
        self._files[path] = file

    def put_part(self, path: str, split: SplitPart, stat: FileStat, sha256: str) -> None:
        """Add a part of a session's file, or replace it. Records that it had before are not analysed again."""
        earlier = self._files[path].chunks if path in self._files else ()
        self._put(path, self._index_chunks(path, KIND, split.labels, stat, sha256, split.chunks, earlier))

    @property
    def part_bytes(self) -> int:
        """The number of bytes of the parts of sessions' files."""
        return sum(
            file.stat[0] for path, file in self._files.items() if file.stat is not None and path != tree_path(path)
        )

    def hide_part(self, path: str, stale: FileStat) -> None:
        """Hide a part of a file that was written again, as long as the index has it with these stat values."""
        self._put(path, _OverlayFile(None, stale=stale))

    def _put(self, path: str, file: _OverlayFile) -> None:
        self._files[path] = file
        self._files.move_to_end(path)
        if file.stat is None:
            return
        # Only changes are evicted: without its deletion a file would reappear, but a change is only found later.
        changes = [old for old, entry in self._files.items() if entry.stat is not None]
        for old in changes[: max(0, len(self._files) - MAX_FILES)]:
            del self._files[old]

    def _build_file(
        self,
        path: str,
        attributes: Sequence[tuple[str, str]],
        stat: FileStat,
        data: bytes,
        *,
        is_interactive: bool = False,
    ) -> _OverlayFile:
        """Chunk a file; if `is_interactive`, for a caller that waits."""
        name = printable(path.rpartition("/")[2])
        extractor = self._extractor
        extract = extractor.extract_chunks_interactively if is_interactive else extractor.extract_chunks
        pieces = extract(name, data)
        kind = detect_kind(path, attributes, data, ((piece.author, piece.text) for piece in pieces))
        labels, digest = labels_of(pieces), hashlib.sha256(data).hexdigest()
        file = self._index_chunks(path, kind, filter_values([*attributes, *labels]), stat, digest, pieces)
        return replace(file, users=users_of(labels))

    def _index_chunks(
        self,
        path: str,
        kind: str,
        attributes: Sequence[tuple[str, str]],
        stat: FileStat,
        digest: str,
        pieces: Sequence[Chunk],
        earlier: Sequence[OverlayChunk] = (),
    ) -> _OverlayFile:
        """Return a file with the terms of its chunks. Of its `earlier` chunks, those that are equal are used again."""
        shown_path = tree_path(path)
        path_terms = self._analyse_split(self._split_words(printable(shown_path)))
        self._last -= 1
        file = self._last
        # The neighbourhood of the last equal chunks changes with the chunks that follow.
        kept = max(0, count_equal_chunks((chunk.row for chunk in earlier), pieces) - NEIGHBOUR_CHUNKS)
        chunks = [replace(chunk, file=file) for chunk in earlier[:kept]]
        skipped = max(0, kept - NEIGHBOUR_CHUNKS)
        broken = [""] * skipped + [self._split_words(chunk.text) for chunk in pieces[skipped:]]
        has_neighbours = ranks_with_neighbours(kind, [chunk.author for chunk in pieces])
        for index, chunk in enumerate(pieces[kept:], kept):
            self._last -= 1
            row = ChunkRow(
                self._last, shown_path, chunk.first, chunk.last, chunk.heading, chunk.text, kind, stat[1], digest,
                chunk.author, chunk.day, chunk.said,
            )  # fmt: skip
            features = (int(detect_features(chunk.text, chunk.author)), count_words(chunk.text))
            heading_terms = self._analyse_split(self._split_words(chunk.heading))
            fields = (self._analyse_split(broken[index]), heading_terms, path_terms)
            counts = Counter(term for field in fields for term in field)
            neighbourhood = Counter(self._analyse_split(join_neighbours(broken, index) if has_neighbours else ""))
            authors = self._author_terms(chunk.author)
            chunks.append(OverlayChunk(row, file, *features, fields, counts, neighbourhood, authors, chunk.embeddable))
        line_labels = labels_of_lines(attributes) if kind == KIND else None
        return _OverlayFile(stat, digest, attributes, chunks, folder=folder_of(path), line_labels=line_labels)

    def search(
        self, query: Query, below: Path, terms: Sequence[Sequence[str]], idf: Idf
    ) -> tuple[dict[int, float], dict[int, float]]:
        """Return two maps from chunk to score, by the words of the chunk, and by those of its neighbourhood.

        The scores have the scale of the full-text index.
        """
        weights = [{term: idf(term) for term in alternatives} for alternatives in terms]
        required = [self._analyse(text) for text in (*query.phrases, *query.must)]
        excluded = [self._analyse(text) for text in query.must_not]
        extra = sum(map(idf, {term for phrase in required for term in phrase}))
        own_scores: dict[int, float] = {}
        neighbour_scores: dict[int, float] = {}
        for chunk in self._filter_chunks(query, below):
            if not all(has_phrase(chunk.fields, phrase) for phrase in required if phrase):
                continue
            if any(has_phrase(chunk.fields, phrase) for phrase in excluded if phrase):
                continue
            for out, counts in ((own_scores, chunk.counts), (neighbour_scores, chunk.neighbourhood)):
                if score := extra + sum(score_alternatives(terms, counts) for terms in weights):
                    out[chunk.row.id] = score
        # Operators apply to a chunk's own words.
        if required or excluded:
            neighbour_scores = {chunk: score for chunk, score in neighbour_scores.items() if chunk in own_scores}
        return own_scores, neighbour_scores

    def has_term(self, term: str) -> bool:
        """Return True if a chunk contains a term in its text, heading or path."""
        return any(term in chunk.counts for _, chunk in self._iterate_chunks())

    def has_kind_of(self, query: Query) -> bool:
        """Return True if a file is of one of the kinds that a query searches."""
        files = ((file, chunk.row) for file, chunk in self._iterate_chunks())
        return any(is_of_searched_kind(query, printable(row.path), row.kind, file.attributes) for file, row in files)

    def first_passing(self, query: Query, below: Path) -> list[int]:
        """Return the first chunk of each file that passes the filters, the newest file first."""
        first: dict[str, tuple[int, int]] = {}
        for chunk in self._filter_chunks(query, below):
            first.setdefault(chunk.row.path, (-chunk.row.mtime_ns, chunk.row.id))
        return [number for _, number in sorted(first.values())]

    def newest_passing(self, query: Query, below: Path, limit: int) -> list[int]:
        """Return at most `limit` chunks that pass the filters, those of the file that was updated last first."""
        chunks = list(self._filter_chunks(query, below))
        return [chunk.row.id for chunk in sorted(chunks, key=lambda chunk: (chunk.file, -chunk.row.id))][:limit]

    def passing_texts(self, query: Query, below: Path) -> Iterator[tuple[int, int, str]]:
        """Yield (file, chunk, text) of the chunks that pass the filters, like `Catalog.texts_of`."""
        for chunk in self._filter_chunks(query, below):
            yield chunk.file, chunk.row.id, chunk.row.text

    def candidates(self, chunks: Iterable[int], folder_number: Callable[[str], int]) -> Candidates:
        """Return the ranking columns of these chunks, sorted by number."""
        numbers = set(chunks)
        found = sorted(
            ((file, chunk) for file, chunk in self._iterate_chunks() if chunk.row.id in numbers),
            key=lambda item: item[1].row.id,
        )
        picked = [chunk for _, chunk in found]
        rows = [chunk.row for chunk in picked]
        return Candidates(
            np.array([row.id for row in rows], dtype=np.int64),
            np.array([chunk.file for chunk in picked], dtype=np.int64),
            np.array([folder_number(file.folder) for file, _ in found], dtype=np.int64),
            np.array([row.kind for row in rows], dtype=np.object_),
            np.array([row.author for row in rows], dtype=np.object_),
            np.array([row.day or 0 for row in rows], dtype=np.int64),
            np.array([chunk.traits for chunk in picked], dtype=np.int64),
            np.array([chunk.words for chunk in picked], dtype=np.int64),
            np.array(
                [NOT_EMBEDDED if file.is_noise or not chunk.embeddable else -1 for file, chunk in found], dtype=np.int64
            ),
            np.array([role_of(row.path, row.kind) for row in rows], dtype=np.int64),
        )

    def rows(self) -> dict[int, ChunkRow]:
        """Return the rows of all chunks by number."""
        return {chunk.row.id: chunk.row for _, chunk in self._iterate_chunks()}

    def attributes(self, path: str) -> Sequence[tuple[str, str]] | None:
        """Return the (name, value) pairs of a file's attributes; None if it is not in the overlay."""
        file = self._files.get(path)
        return file.attributes if file is not None else None

    def user_lists(self) -> list[tuple[str, str]]:
        """Return (path, names of users by id as JSON) of the files that list users."""
        return [(path, file.users) for path, file in self._files.items() if file.users]

    def confidences(self) -> dict[int, float]:
        """Return the attribute `confidence` by the number of the file."""
        return {
            file.chunks[0].file: float(value)
            for file in self._files.values()
            if file.chunks
            for name, value in file.attributes
            if name == "confidence"
        }

    def authors(self) -> set[str]:
        """Return the authors of the chunks."""
        return {chunk.row.author for _, chunk in self._iterate_chunks()} - {""}

    def _iterate_chunks(self) -> Iterator[tuple[_OverlayFile, OverlayChunk]]:
        for file in self._files.values():
            for chunk in file.chunks:
                yield file, chunk

    def _filter_chunks(self, query: Query, below: Path) -> Iterator[OverlayChunk]:
        """Yield the chunks that pass the filters, which match like those of the full-text index."""
        for file, chunk in self._iterate_chunks():
            path, path_terms = printable(chunk.row.path), chunk.fields[2]
            if not below.is_root and not is_under(path, printable(str(below))):
                continue
            if query.paths and not any(
                is_under(path, value) or contains_all(path_terms, self._analyse(value)) for value in query.paths
            ):
                continue
            if not is_of_searched_kind(query, path, chunk.row.kind, file.attributes):
                continue
            if query.authors and not set(map(fold_name, query.authors)) & set(chunk.authors):
                continue
            is_by_line = query.attributes or query.without_attributes
            if not passes_attributes(file.attributes_at(chunk.row.first) if is_by_line else file.attributes, query):
                continue
            times = {"mtime": chunk.row.mtime_ns, "said": chunk.row.said}
            if not all(is_within(times[name], low, high) for name, low, high in query.time_ranges):
                continue
            yield chunk
