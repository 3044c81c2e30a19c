"""Search for written text that the tree already contains, and the trust marks that it inherits from there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from ctxfs.context.build.copy_detection import units
from ctxfs.index.query import Query, parse_query
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import SearchResults
from ctxfs.model.metadata import PREFIX
from ctxfs.model.path import ROOT, Path, one_line

_MAX_UNITS = 16
_MAX_QUERY_WORDS = 12
_SOURCE_KEY = f"{PREFIX}source"


class Index(Protocol):
    """Search and file status, for the calling principal."""

    def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best `limit` chunks below a directory."""
        ...

    def statuses(self, paths: set[str]) -> Mapping[str, FileStatus]:
        """Return the search-relevant status of those of these files that have one."""
        ...


@dataclass(frozen=True, slots=True)
class CopiedText:
    """A repeated text: the file and line that already contain it, and the trust of that file."""

    path: str
    first: int
    untrusted: bool

    def __str__(self) -> str:
        doubt = ", and is not to be trusted" if self.untrusted else ""
        return f"{one_line(self.path)}:{self.first} says this already{doubt}: it is no new evidence"


def find_copied_text(index: Index, path: str, text: str) -> list[CopiedText]:
    """Return the files that already contain the longest units of a text for `path`. Blocks.

    Only files that the caller may read are returned.
    """
    longest = sorted(units(text), key=lambda unit: (-len(unit), unit))
    hits: dict[str, int] = {}
    for unit in islice(longest, _MAX_UNITS):
        words = " ".join(unit.decode("utf-8", "replace").split()[:_MAX_QUERY_WORDS])
        for hit in index.search(parse_query(f'mode:words "{words}"'), ROOT, 5).hits:
            if hit.path != path and unit in units(hit.chunk.text):
                hits.setdefault(hit.path, hit.chunk.first)
    statuses = index.statuses(set(hits))
    return [
        CopiedText(original, first, original in statuses and statuses[original].untrusted)
        for original, first in sorted(hits.items())
    ]


def inherited_trust(doubtful: Sequence[Mapping[str, bytes]]) -> dict[str, bytes]:
    """Return the trust attributes that a copy inherits from untrusted originals.

    The copy is untrusted, too. If all originals have the same source, it inherits the source's name.
    """
    if not doubtful:
        return {}
    sources = {attributes.get(_SOURCE_KEY, b"") for attributes in doubtful}
    only = sources.pop() if len(sources) == 1 else b""
    return {f"{PREFIX}trust": b"untrusted", **({_SOURCE_KEY: only} if only else {})}
