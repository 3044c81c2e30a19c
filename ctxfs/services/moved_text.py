"""The search for cited text that its source no longer has: in files with a new name, and by the words of the fact.

Each search opens a limited number of files. A file is a candidate only if it changed, or got its name, after the
citation: otherwise it is an older copy, and the text has not moved there. The same search finds the copies when a text is
cited, because a copy may change later.
"""

import contextlib
import itertools
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from ctxfs.index.query import Query
from ctxfs.index.search.results import Hit
from ctxfs.index.search.searcher import Searcher
from ctxfs.memory.citations import MAX_COPIES, Citation, Copies, FileMark, Span
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.services.caller_scope import CallerScope
from ctxfs.services.cited_sources import CitedSource, CitedSources
from ctxfs.services.file_marks import FileMarker
from ctxfs.store import rooted_fs

_QUOTING_AREAS = ("memory", "history", "human")
_BACKUP = re.compile(r"(~|\.(bak|orig|old|rej|swp|tmp|save))$|/(\.#|#)[^/]*$")  # copies that editors make at each save
_NOWHERE = "/"
_MAX_SIBLINGS = 16
_MAX_LISTED_NAMES = 2000
_MAX_SAME_NAME = 8
_MAX_HITS = 12
_MAX_WORDS = 16
_MAX_LEARNED = 8
_MAX_CACHED = 10_000
_CLOCK_TICK_NS = 20_000_000  # file times lag the clock by up to a tick of the kernel
_MAX_FACT_CHARS = 2000
_MAX_CITED_QUESTIONS = 16

Value = TypeVar("Value")


@dataclass(slots=True)
class Effort:
    """The work that a request may still cause: questions to the index, and bytes of files that are not in the cache."""

    questions: int = 1
    read_bytes: int = 8_000_000


class Fact(NamedTuple):
    """A file with citations: its path, and a function that returns its text."""

    path: str
    read: Callable[[], str]


def effort_of_many() -> Effort:
    """Return the effort for a request about many files."""
    return Effort(200, 64_000_000)


def effort_of_citing(texts: int) -> Effort:
    """Return the effort for a request that cites some texts."""
    return Effort(min(texts, _MAX_CITED_QUESTIONS), 8_000_000)


class Renames(Protocol):
    """The versions, as far as they record renames."""

    def names_since(self, path: str, time_ns: int) -> list[str]:
        """Return the later names of the file that had a path at a time, the newest first."""
        ...


class MovedText:
    """Finds moved text among the files that the calling principal may read. Blocks."""

    def __init__(
        self,
        tree: Mount,
        sources: CitedSources,
        searcher: Searcher,
        renames: Renames,
        marker: FileMarker,
        scope: CallerScope,
    ) -> None:
        self._tree = tree
        self._sources = sources
        self._searcher = searcher
        self._renames = renames
        self._marker = marker
        self._scope = scope
        self._learned = _Cache[list[str]]()  # path of a source → where its texts were found
        self._candidates = _Cache[list[str]]()
        self._answers = _Cache[str]()  # the path of the file with a text, or _NOWHERE

    def find(self, citation: Citation, fact: Fact, effort: Effort) -> Span | None:
        """Return the present lines of a cited text in another file; None if it was not found.

        The words of the fact are searched. The fact itself may quote the text, and so may memories, records and reviews:
        these are copies, unless the source was one of them.
        """
        key = (self._searcher.generation, self._scope.cache_key(), citation.span.path)
        answer_key = (*key, fact.path, citation)
        answer = self._answers.get(answer_key, lambda: "")
        if answer == _NOWHERE:
            return None
        if answer and (span := self._find_in(answer, citation, fact, effort)) is not None:
            return span
        has_questions = effort.questions > 0
        span = self._search(citation, fact, effort, key)
        if span is not None or has_questions:
            self._answers.put(answer_key, span.path if span is not None else _NOWHERE)
        return span

    def find_copies(self, citation: Citation, text: str, inode: int, effort: Effort) -> Copies | None:
        """Return the other files that have a cited text now, at most MAX_COPIES; None if there are none.

        `text` is the cited text, whose words are searched, and `inode` that of the source.
        """
        candidates = self._find_named(citation.span.path)
        if effort.questions > 0:
            candidates = itertools.chain(self._hits(text, effort), candidates)
        files = list[FileMark]()
        for path in dict.fromkeys(candidates):
            if path == citation.span.path or (file := self._open(path, citation, effort)) is None:
                continue
            if file.stream.find(citation, path) is not None:
                if len(files) == MAX_COPIES:
                    return self._copies(citation, inode, files, has_more=True)
                files.append(self._marker.mark(citation.digest, path, file.inode))
        return self._copies(citation, inode, files) if files else None

    def _copies(self, citation: Citation, inode: int, files: Sequence[FileMark], *, has_more: bool = False) -> Copies:
        source = self._marker.mark(citation.digest, citation.span.path, inode)
        return Copies(source.inode, tuple(files), has_more)

    def _search(self, citation: Citation, fact: Fact, effort: Effort, key: tuple[Hashable, ...]) -> Span | None:
        path = citation.span.path
        learned = self._learned.get(path, list[str])
        named = self._candidates.get(key, lambda: list(dict.fromkeys(self._find_named(path))))
        for candidate in dict.fromkeys((*self._names_since(path, citation.cited_ms), *learned, *named)):
            if (span := self._find_in(candidate, citation, fact, effort)) is not None:
                return span
        span = self._ask(citation, fact, effort) if effort.questions > 0 else None
        if span is not None and span.path not in learned:
            self._learned.put(path, [span.path, *learned][:_MAX_LEARNED])
        return span

    def forget(self) -> None:
        """Drop all cached answers, after an erasure."""
        for cache in (self._learned, self._candidates, self._answers):
            cache.clear()

    def _find_in(self, path: str, citation: Citation, fact: Fact, effort: Effort) -> Span | None:
        if path in (citation.span.path, fact.path):
            return None
        since_ns = citation.cited_ms * 1_000_000 - _CLOCK_TICK_NS
        file = self._open(path, citation, effort, since_ns)
        return file.stream.find(citation, path) if file and self._is_move(citation, path, file.inode) else None

    def _is_move(self, citation: Citation, path: str, inode: int) -> bool:
        """Return True unless a file had the text already when it was cited."""
        if citation.copies is None:
            return True
        with contextlib.suppress(OSError):
            return citation.copies.is_move(self._marker.mark(citation.digest, path, inode))
        return False

    def _open(self, path: str, citation: Citation, effort: Effort, since_ns: int = 0) -> CitedSource | None:
        """Return a file that changed since a time; None if texts of the source do not move to such a file."""
        area, own_area = (name.partition("/")[0] for name in (path, citation.span.path))
        if (area in _QUOTING_AREAS and area != own_area) or _BACKUP.search(path):
            return None
        before = self._sources.read_bytes
        with contextlib.suppress(OSError):
            source = self._sources.open(Path.parse(path), since_ns, effort.read_bytes)
            effort.read_bytes -= self._sources.read_bytes - before
            return source
        return None

    def _names_since(self, path: str, cited_ms: int) -> list[str]:
        """Return the names that versions record for a source since a citation."""
        with contextlib.suppress(OSError):
            return self._renames.names_since(path, cited_ms * 1_000_000)
        return []

    def _find_named(self, path: str) -> Iterator[str]:
        """Yield the files that may be the source under another name: in its directory, and by its name."""
        yield from self._siblings(path)
        name = path.rpartition("/")[2]
        with contextlib.suppress(OSError):
            hits = self._searcher.search(Query(text=name, paths=(name,)), ROOT, _MAX_SAME_NAME).hits
            yield from (hit.path for hit in hits)

    def _siblings(self, path: str) -> list[str]:
        """Return the files in the directory of a path that changed last."""
        parent = Path.parse(path).parent
        backing = self._tree.backing(parent)
        if backing is None:
            return []
        reader = self._scope.reader()
        times = list[tuple[int, str]]()
        with contextlib.suppress(OSError), rooted_fs.listed_directory(backing.root, backing.relative.parts) as folder:
            names = (str(parent / name) for name in os.listdir(folder))
            readable = (name for name in names if reader is None or reader.may_read(name))
            for name in itertools.islice(readable, _MAX_LISTED_NAMES):
                with contextlib.suppress(OSError):
                    stat = os.stat(name.rpartition("/")[2], dir_fd=folder, follow_symlinks=False)
                    times.append((stat.st_ctime_ns, name))
        return [name for _, name in sorted(times, reverse=True)[:_MAX_SIBLINGS]]

    def _ask(self, citation: Citation, fact: Fact, effort: Effort) -> Span | None:
        """Search the words of the fact, and return the lines of the first hit that has the cited text."""
        found = (self._find_in(path, citation, fact, effort) for path in self._hits(fact.read(), effort))
        return next((span for span in found if span is not None), None)

    def _hits(self, text: str, effort: Effort) -> Sequence[str]:
        """Return the files whose chunks have the first words of a text, the best one first."""
        effort.questions -= 1
        words = tuple(dict.fromkeys(text[:_MAX_FACT_CHARS].split()))[:_MAX_WORDS]
        if not words:
            return ()
        query = Query(text=" ".join(words), words=words, mode="words")
        hits: Sequence[Hit] = ()
        with contextlib.suppress(OSError):  # the words are too long
            hits = self._searcher.search(query, ROOT, _MAX_HITS).hits
        return list(dict.fromkeys(hit.path for hit in hits))


class _Cache(Generic[Value]):
    """The most recent values by key, for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value of a key, computed and stored if it is absent. Two threads may compute the same."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = compute()
        self.put(key, value)
        return value

    def put(self, key: Hashable, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > _MAX_CACHED:
                self._values.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
