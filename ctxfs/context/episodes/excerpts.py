"""Bounded collections of an episode: excerpts with their citations, and the files that tools touched. Pure."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_MAX_SEEN = 20_000  # texts by which repeated ones are recognised
_MAX_FILES = 5_000
_MAX_VALUES = 400  # of the arguments of a call
_MAX_PATH_CHARS = 300
_PATH_NAMES = frozenset(
    "path paths file files file_path filepath filename notebook_path target_file absolute_path relative_path uri".split()
)
_PATCH_MARKS = ("*** Update File: ", "*** Add File: ", "*** Delete File: ")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A short text of a record: the citation of the record, the speaker, and the text without control characters."""

    cite: str
    speaker: str
    text: str


class Excerpts:
    """The first and the last excerpts of a long session; repeated texts count once. `count` is the number of all."""

    def __init__(self, head: int, tail: int) -> None:
        self.count = 0
        self._head: list[Excerpt] = []
        self._tail = deque[Excerpt](maxlen=tail)
        self._max_head = head
        self._seen = set[int]()

    def add(self, excerpt: Excerpt) -> None:
        """Add an excerpt, unless its text is there already."""
        key = hash(excerpt.text.casefold())
        if key in self._seen:
            return
        if len(self._seen) < _MAX_SEEN:
            self._seen.add(key)
        self.count += 1
        if len(self._head) < self._max_head:
            self._head.append(excerpt)
        else:
            self._tail.append(excerpt)

    @property
    def head(self) -> list[Excerpt]:
        """The first excerpts."""
        return list(self._head)

    @property
    def tail(self) -> list[Excerpt]:
        """The last excerpts that are not in `head`."""
        return list(self._tail)

    @property
    def omitted(self) -> int:
        """The number of excerpts between `head` and `tail`."""
        return self.count - len(self._head) - len(self._tail)


@dataclass(slots=True)
class TouchedFile:
    """A file that tools of a session used: the number of calls, and the citation of the last one."""

    calls: int
    cite: str


class TouchedFiles:
    """The files in the calls of tools, by path; at most 5,000."""

    def __init__(self) -> None:
        self.by_path: dict[str, TouchedFile] = {}
        self.has_more = False

    def add(self, path: str, cite: str) -> None:
        """Count a call."""
        entry = self.by_path.get(path)
        if entry is not None:
            entry.calls, entry.cite = entry.calls + 1, cite
        elif len(self.by_path) < _MAX_FILES:
            self.by_path[path] = TouchedFile(1, cite)
        else:
            self.has_more = True

    def most_used(self, limit: int) -> list[tuple[str, TouchedFile]]:
        """Return (path, file) of the files with the most calls, in the order of paths."""
        most = sorted(self.by_path.items(), key=lambda item: (-item[1].calls, item[0]))[:limit]
        return sorted(most)


def paths_in(arguments: object) -> list[str]:
    """Return the paths in the arguments of a call: values of members such as `path`, and the files of a patch.

    At most 400 values are examined, so that the time is bounded.
    """
    paths: dict[str, None] = {}
    for name, value in _values_of(arguments):
        if name in _PATH_NAMES and _is_path(value):
            paths[value] = None
        elif _PATCH_MARKS[0][:4] in value[:4_000]:
            marked = (
                line.removeprefix(mark) for line in value[:40_000].split("\n") for mark in _PATCH_MARKS if mark in line
            )
            paths.update((path.strip(), None) for path in marked if _is_path(path.strip()))
    return list(paths)


def _is_path(value: str) -> bool:
    return 0 < len(value) <= _MAX_PATH_CHARS and value.isprintable() and "://" not in value[:12]


def _values_of(arguments: object) -> Iterator[tuple[str, str]]:
    """Yield (name of the member, text) of the texts in a JSON value, breadth first."""
    queue = deque[tuple[str, Any]]([("", arguments)])
    for _ in range(_MAX_VALUES):
        if not queue:
            return
        name, value = queue.popleft()
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, Mapping):
            queue.extend((str(key).casefold(), item) for key, item in list(value.items())[:_MAX_VALUES])
        elif isinstance(value, list):
            queue.extend((name, item) for item in value[:_MAX_VALUES])
