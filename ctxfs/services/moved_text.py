"""The search for cited text that its source no longer has: in files with a new name, and by the words of the fact.

Each search opens a limited number of files. A file is a candidate only if it changed, or got its name, after the
citation: otherwise it is an older copy, and the text has not moved there.
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
from ctxfs.memory.citations import Citation, Span
from ctxfs.model.mount import Mount
from ctxfs.model.path import ROOT, Path
from ctxfs.services.caller_scope import CallerScope
from ctxfs.services.cited_sources import CitedSources
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


class Renames(Protocol):
    """The versions, as far as they record renames."""

    def names_since(self, path: str) -> list[str]:
        """Return the later names of a path that was renamed, the newest first."""
        ...


class MovedText:
    """Finds moved text among the files that the calling principal may read. Blocks."""

    def __init__(
        self, tree: Mount, sources: CitedSources, searcher: Searcher, renames: Renames, scope: CallerScope
    ) -> None:
        self._tree = tree
        self._sources = sources
        self._searcher = searcher
        self._renames = renames
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
        answer_key = (*key, fact.path, citation.digest)
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

    def _search(self, citation: Citation, fact: Fact, effort: Effort, key: tuple[Hashable, ...]) -> Span | None:
        path = citation.span.path
        learned = self._learned.get(path, list[str])
        for candidate in (*learned, *self._candidates.get(key, lambda: list(dict.fromkeys(self._find_named(path))))):
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
        area, own_area = (name.partition("/")[0] for name in (path, citation.span.path))
        if path in (citation.span.path, fact.path) or (area in _QUOTING_AREAS and area != own_area):
            return None
        if _BACKUP.search(path):
            return None
        since_ns = citation.cited_ms * 1_000_000 - _CLOCK_TICK_NS
        before = self._sources.read_bytes
        with contextlib.suppress(OSError):
            source = self._sources.open(Path.parse(path), since_ns, effort.read_bytes)
            effort.read_bytes -= self._sources.read_bytes - before
            return source.stream.find(citation, path)
        return None

    def _find_named(self, path: str) -> Iterator[str]:
        """Yield the files that may be the source under another name: by versions, in its directory, by its name."""
        with contextlib.suppress(OSError):
            yield from self._renames.names_since(path)
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
        effort.questions -= 1
        words = tuple(dict.fromkeys(fact.read()[:_MAX_FACT_CHARS].split()))[:_MAX_WORDS]
        if not words:
            return None
        query = Query(text=" ".join(words), words=words, mode="words")
        hits: Sequence[Hit] = ()
        with contextlib.suppress(OSError):  # the words are too long
            hits = self._searcher.search(query, ROOT, _MAX_HITS).hits
        found = (self._find_in(path, citation, fact, effort) for path in dict.fromkeys(hit.path for hit in hits))
        return next((span for span in found if span is not None), None)


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
