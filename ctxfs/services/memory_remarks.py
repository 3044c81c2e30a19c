"""Remarks on a written memory: the statements that it contradicts or repeats. They never refuse a write.

Candidates are the memories that search finds by words for the calling principal, so that no remark names a file that
the caller may not read. The time of a write is bounded: at most _MAX_SEARCHED statements are searched and compared, and
after _MAX_SECONDS no further one.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ctxfs.index.extract.front_matter import read_front_matter
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.query import Query
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.results import SearchResults
from ctxfs.model.path import Path, one_line
from ctxfs.threads import blocking

if TYPE_CHECKING:
    # The rules import an engine, and a daemon mounts first.
    from ctxfs.context.grounding.statement_relations import StatementRelation
    from ctxfs.context.grounding.statement_split import LocatedStatement

log = logging.getLogger(__name__)

MEMORY = Path(("memory",))
MAX_COMPARED_BYTES = 2_000_000
_MAX_SEARCHED = 12  # statements of one write that are looked for
_MAX_SECONDS = 0.03  # after which no further search begins
_MAX_CHUNKS = 8  # that one search returns
_MAX_QUERY_WORDS = 12
_MAX_REMARKS = 6
_STRUCTURE = re.compile(r"\s{0,3}(?:#|```|~~~)")  # headings and fences, on which the meaning of other lines depends


class MemoryIndex(Protocol):
    """Search and file status, for the calling principal."""

    def search(self, query: Query, below: Path, limit: int) -> SearchResults:
        """Return the best `limit` chunks below a directory."""
        ...

    def statuses(self, paths: set[str]) -> Mapping[str, FileStatus]:
        """Return the search-relevant status of those of these files that have one."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryRemark:
    """The relation of a written line to a line of another memory, which it contradicts or repeats.

    `position` is `path:line` of the other line, `text` its statement.
    """

    is_contradiction: bool
    line: int
    position: str
    text: str
    differing: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if not self.is_contradiction:
            return f"line {self.line}: already known at {one_line(self.position)}"
        values = ", ".join(f"'{one}' here, '{other}' there" for one, other in self.differing)
        return f"line {self.line} contradicts {one_line(self.position)}: {one_line(values)}"


class MemoryRemarks:
    """Compares written memories with the others."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index

    async def compare(self, path: Path, data: bytes, before: bytes = b"") -> list[MemoryRemark]:
        """Return remarks on the statements of a file that `before`, its former content, did not contain.

        Return none for paths outside of memory/, and if the index cannot be searched.
        """
        if path.parts[:1] != MEMORY.parts or len(data) > MAX_COMPARED_BYTES:
            return []
        return await self.relations(await blocking(_added_statements, path, data, before))

    async def relations(self, statements: Sequence[LocatedStatement]) -> list[MemoryRemark]:
        """Return remarks on statements of one file; contradictions come first."""
        if not statements:
            return []
        try:
            found = await blocking(self._find, statements)
        except OSError as error:
            log.warning("a written memory could not be compared with the others: %s", error)
            return []
        remarks = list(dict.fromkeys(map(_remark_of, found)))
        remarks.sort(key=lambda remark: (not remark.is_contradiction, remark.line))
        return remarks[:_MAX_REMARKS]

    def _find(self, statements: Sequence[LocatedStatement]) -> list[StatementRelation]:
        from ctxfs.context.grounding.statement_relations import StatementIndex, content_words
        from ctxfs.context.grounding.statement_split import split_statements

        path = statements[0].path
        end = time.monotonic() + _MAX_SECONDS
        index = StatementIndex()
        searched: list[LocatedStatement] = []
        chunks: set[tuple[str, int]] = set()
        for statement in statements[:_MAX_SEARCHED]:
            if time.monotonic() > end:
                break
            words = tuple(sorted(content_words(statement.text), key=lambda word: (-len(word), word)))[:_MAX_QUERY_WORDS]
            if words:
                searched.append(statement)
                query = Query(text=" ".join(words), words=words, mode="words")
                hits = self._index.search(query, MEMORY, _MAX_CHUNKS).hits
                rows = [hit.chunk for hit in hits if hit.path != path and (hit.path, hit.chunk.first) not in chunks]
                chunks |= {(row.path, row.first) for row in rows}
                for row in rows:
                    for known in split_statements(row.path, row.text, row.first, row.heading):
                        index.add(known)
        relations = [relation for statement in searched for relation in index.relations(statement)]
        return list(self._valid(relations))

    def _valid(self, relations: Sequence[StatementRelation]) -> Iterable[StatementRelation]:
        """Yield the relations to files that are neither withdrawn, expired nor superseded."""
        statuses = self._index.statuses({relation.second.path for relation in relations})
        now = time.time_ns()
        for relation in relations:
            status = statuses.get(relation.second.path)
            if status is None or not _is_withdrawn(status, now):
                yield relation


def _added_statements(path: Path, data: bytes, before: bytes) -> list[LocatedStatement]:
    """Return the statements of a content that the former one did not contain."""
    from ctxfs.context.grounding.statement_split import split_statements

    text, old = read_text(data) or "", read_text(before) or ""
    if old:
        text, old = _without_common_paragraphs(text, old), _without_common_paragraphs(old, text)
    known = {statement.text for statement in split_statements(str(path), old)} if old else set()
    return [statement for statement in split_statements(str(path), text) if statement.text not in known]


def _without_common_paragraphs(text: str, other: str) -> str:
    """Return a text in which the lines of paragraphs that another text has, too, are empty, except for headings.

    Only the head of a large text is split into statements: so a change far behind it is compared, too.
    """
    known = set(other.split("\n"))
    lines = text.split("\n")
    start = read_front_matter(lines).line_count
    out, block = lines[:start], list[str]()
    for line in (*lines[start:], ""):
        block.append(line)
        if not line.strip():
            is_common = known.issuperset(block[:-1])
            out += [kept if not is_common or _STRUCTURE.match(kept) else "" for kept in block]
            block.clear()
    return "\n".join(out)


def _is_withdrawn(status: FileStatus, now_ns: int) -> bool:
    is_expired = status.expires_ns is not None and status.expires_ns <= now_ns
    return status.quarantined or bool(status.superseded_by) or is_expired


def _remark_of(relation: StatementRelation) -> MemoryRemark:
    is_contradiction = relation.comparison.relation.value == "contradicts"
    differing = relation.comparison.differing if is_contradiction else ()
    return MemoryRemark(
        is_contradiction, relation.first.line, relation.second.position, relation.second.text, differing
    )
