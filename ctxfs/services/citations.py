"""Facts held against their sources: the citations of files, and their states as the calling principal sees them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from ctxfs.index.query import Query
from ctxfs.index.search.searcher import Searcher
from ctxfs.memory.citations import (
    CITES_ATTRIBUTE,
    MIN_TOKENS,
    MIN_TOKENS_ELSEWHERE,
    SOURCE_ATTRIBUTE,
    Citation,
    Holding,
    NoText,
    Span,
    State,
    format_citations,
    is_url,
    parse_citations,
    parse_span,
    worst_state,
)
from ctxfs.model.errors import invalid, path_error
from ctxfs.model.metadata import MAX_BYTES
from ctxfs.model.mount import Backing, Mount
from ctxfs.model.path import ROOT, Path, one_line
from ctxfs.services.caller_scope import CallerScope
from ctxfs.services.cited_sources import CitedSources
from ctxfs.services.moved_text import Effort, Fact, MovedText, effort_of_citing, effort_of_many
from ctxfs.store import rooted_fs
from ctxfs.threads import blocking

if TYPE_CHECKING:
    from ctxfs.memory.token_stream import TokenStream

CITES, SOURCE = CITES_ATTRIBUTE, SOURCE_ATTRIBUTE
_WALKED_AREAS = ("memory", "pad", "human")
_MAX_FILES = 100_000
_BATCH_FILES = 200
_FACT_BYTES = 4000
_SUMMARY_FILES = 200
_SUMMARY_SECONDS = 0.25
_SUMMARY_LIFE_SECONDS = 5.0
_MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file with citations; `state` is the worst of theirs."""

    path: str
    state: State
    holdings: Sequence[Holding]

    def as_record(self) -> dict[str, object]:
        """Return the file as plain values; `at` is the present position of a text, absent if there is none."""
        citations = [
            {
                "cites": str(holding.citation.span),
                "holds": holding.state.value,
                **({"at": str(holding.current)} if holding.current else {}),
            }
            for holding in self.holdings
        ]
        return {"path": self.path, "holds": self.state.value, "citations": citations}


class Citations:
    """Makes and judges citations for the calling principal. `judge` blocks; the other methods use worker threads."""

    def __init__(
        self, namespace: Mount, sources: CitedSources, moved: MovedText, searcher: Searcher, scope: CallerScope
    ) -> None:
        self._tree = namespace
        self._sources = sources
        self._moved = moved
        self._searcher = searcher
        self._scope = scope
        self._summaries = dict[object, tuple[float, dict[str, object]]]()

    # judging

    def judge(self, value: bytes, fact: Fact, effort: Effort | None = None) -> list[Holding]:
        """Return the state of each citation in a value of `user.ctx.cites` of a fact."""
        effort = effort or Effort()
        return [self._judge_one(citation, fact, effort) for citation in parse_citations(value)]

    def _judge_one(self, citation: Citation, fact: Fact, effort: Effort) -> Holding:
        if citation.is_url:
            return Holding(citation, State.UNSEEN)
        min_tokens = MIN_TOKENS_ELSEWHERE
        try:
            holding = self._sources.open(Path.parse(citation.span.path)).stream.judge(citation)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG) and not _is_binary(error):
                return Holding(citation, State.UNSEEN)
            holding, min_tokens = Holding(citation, State.GONE), MIN_TOKENS  # the file may have been renamed
        is_lost = holding.state is State.GONE or (holding.state is State.CHANGED and not holding.is_certain)
        if is_lost and citation.count >= min_tokens and (span := self._moved.find(citation, fact, effort)) is not None:
            return Holding(citation, State.MOVED, span)
        return holding

    async def describe(self, path: Path, value: bytes) -> dict[str, str]:
        """Return the computed attributes `holds` and `holds_at` of a file with citations."""
        holdings = await blocking(self.judge, value, self._fact_at(path))
        state = worst_state(holding.state for holding in holdings)
        if state is None:
            return {}
        positions = [one_line(str(holding.current)) for holding in holdings if holding.current is not None]
        return {"holds": state.value, "holds_at": "\n".join(positions)}

    def broken(self, values: Mapping[str, bytes]) -> dict[str, list[Holding]]:
        """Return the citations that no longer hold, of files with these values of `cites`. Blocks."""
        effort = effort_of_many()
        judged = {path: self.judge(value, self._fact_at(Path.parse(path)), effort) for path, value in values.items()}
        broken = {
            path: [holding for holding in holdings if holding.state.is_broken] for path, holdings in judged.items()
        }
        return {path: holdings for path, holdings in broken.items() if holdings}

    def broken_states(self, cites: Mapping[str, str]) -> Mapping[str, str]:
        """Implement `context.build.tree_view.HeldFacts`."""
        broken = self.broken({path: value.encode("utf-8", "surrogateescape") for path, value in cites.items()})
        states = {path: worst_state(holding.state for holding in holdings) for path, holdings in broken.items()}
        return {path: state.value for path, state in states.items() if state is not None}

    def _fact_at(self, path: Path) -> Fact:
        def read() -> str:
            backing = self._tree.backing(path)
            if backing is None:
                return ""
            with contextlib.suppress(OSError):
                head = rooted_fs.read_head(backing.root, backing.relative.parts, _FACT_BYTES)
                return head.decode("utf-8", "replace")
            return ""

        return Fact(str(path), read)

    # citing

    async def cite(self, texts: Sequence[str]) -> list[Citation]:
        """Return citations of the present text of `path:12-14`, `path:12` or a URL.

        Raise OSError: EINVAL for a text without lines, for lines without text and for a source that cannot be compared,
        and the errors of reading the source.
        """
        effort = effort_of_citing(len(texts))
        return await blocking(lambda: [self._cite_one(text, effort) for text in texts])

    def _cite_one(self, text: str, effort: Effort) -> Citation:
        if is_url(text):
            return Citation(Span(text, 0, 0))
        span = parse_span(text)
        if span is None:
            raise invalid(one_line(text[:200]), "this names no lines → as: knowledge/handbook/keys.md:12-14")
        path = Path.parse(span.path)
        source = self._sources.open(path)
        citation = _cite_span(span, source.stream)
        return self._with_copies(
            citation, source.inode, lambda: self._sources.read_lines(path, span.first, span.last), effort
        )

    def _with_copies(self, citation: Citation, inode: int, read: Callable[[], str], effort: Effort) -> Citation:
        """Return a citation with the marks of the files that have the same text now; `read` returns the cited text."""
        if citation.count >= MIN_TOKENS:
            with contextlib.suppress(OSError):
                return replace(citation, copies=self._moved.find_copies(citation, read(), inode, effort))
        return citation

    async def cite_source(self, source: str) -> bytes | None:
        """Return the value of `cites` for a value of `source`; None unless it names readable lines of the tree."""
        if parse_span(source) is None:
            return None
        with contextlib.suppress(OSError):
            value = format_citations(await self.cite([source]))
            return value if len(value) <= MAX_BYTES else None
        return None

    async def cite_content(self, span: Span, data: bytes) -> bytes:
        """Return the value of `cites` for lines of a content of a source, current or former; empty without any."""
        with contextlib.suppress(OSError):
            return format_citations([await blocking(self._cite_content, span, data)])
        return b""

    def _cite_content(self, span: Span, data: bytes) -> Citation:
        path = Path.parse(span.path)
        citation = _cite_span(span, self._sources.parse(data, path))
        inode = 0  # of no file
        with contextlib.suppress(OSError):
            inode = self._sources.open(path).inode
        return self._with_copies(
            citation, inode, lambda: self._sources.excerpt(data, path, span.first, span.last), effort_of_citing(1)
        )

    # checking

    async def check(self, path: Path) -> list[CheckedFile]:
        """Return the files at and below a path that have citations, in order, each judged."""
        return await self.check_values(await blocking(lambda: sorted(islice(self._citing_files(path), _MAX_FILES))))

    async def check_values(self, values: Sequence[tuple[str, bytes]]) -> list[CheckedFile]:
        """Return files with these values of `cites`, by path, each judged. The caller has checked that it may read them."""
        effort = effort_of_many()
        checked = list[CheckedFile]()
        for start in range(0, len(values), _BATCH_FILES):
            checked += await blocking(
                lambda part: list(self._check(part, effort)), values[start : start + _BATCH_FILES]
            )
        return checked

    def _check(self, values: Iterable[tuple[str, bytes]], effort: Effort) -> Iterator[CheckedFile]:
        for path, value in values:
            holdings = self.judge(value, self._fact_at(Path.parse(path)), effort)
            if (state := worst_state(holding.state for holding in holdings)) is not None:
                yield CheckedFile(path, state, holdings)

    async def summary(self) -> dict[str, object]:
        """Return the numbers of checked and of broken files, and some broken ones, for the status.

        The newest files are checked, for a limited time; the numbers are some seconds old.
        """
        key, now = self._scope.cache_key(), time.monotonic()
        cached = self._summaries.get(key)
        if cached is None or cached[0] < now:
            summary = await blocking(self._summarise)
            self._summaries = {key: (now + _SUMMARY_LIFE_SECONDS, summary)}
            return summary
        return cached[1]

    def _summarise(self) -> dict[str, object]:
        end, checked, broken = time.monotonic() + _SUMMARY_SECONDS, 0, list[str]()
        for file in self._check(self._indexed_files(ROOT, _SUMMARY_FILES), Effort(0, 0)):
            checked += 1
            broken += [file.path] * file.state.is_broken
            if time.monotonic() > end:
                break
        return {"checked": checked, "broken": len(broken), "examples": broken[:_MAX_EXAMPLES]}

    def _citing_files(self, path: Path) -> Iterator[tuple[str, bytes]]:
        """Yield (path, value of `cites`) of the readable files at and below a path."""
        for area in _WALKED_AREAS if path.is_root else ():
            yield from self._walk(Path((area,)))
        if path.is_root or path.parts[0] not in _WALKED_AREAS:
            yield from self._indexed_files(path, _MAX_FILES)
        else:
            yield from self._walk(path)

    def _walk(self, top: Path) -> Iterator[tuple[str, bytes]]:
        pending = [top]
        while pending:
            path = pending.pop()
            backing = self._tree.backing(path)
            if backing is None:
                continue
            try:
                with rooted_fs.listed_directory(backing.root, backing.relative.parts) as folder:
                    for entry in os.scandir(folder):
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(Path((*path.parts, entry.name)))
                        elif value := _read_cites(folder, entry.name):
                            yield from self._readable(Path((*path.parts, entry.name)), value)
            except NotADirectoryError:
                with contextlib.suppress(OSError):
                    yield from self._readable(path, _cites_of(backing))
            except OSError:
                continue

    def _indexed_files(self, below: Path, limit: int) -> Iterator[tuple[str, bytes]]:
        query = Query(text="", attributes=(("has", "cites"),))
        for hit in self._searcher.search(query, below, limit).hits:
            path = Path.parse(hit.path)
            if path.parts[0] in _WALKED_AREAS and below.is_root and limit == _MAX_FILES:
                continue  # the walk has it
            if (backing := self._tree.backing(path)) is not None:
                with contextlib.suppress(OSError):
                    yield from self._readable(path, _cites_of(backing))

    def _readable(self, path: Path, value: bytes) -> Iterator[tuple[str, bytes]]:
        reader = self._scope.reader()
        if value and (reader is None or reader.may_read(str(path))):
            yield str(path), value

    def forget(self) -> None:
        """Drop all cached texts and answers, after an erasure."""
        self._sources.forget()
        self._moved.forget()


def _cite_span(span: Span, stream: TokenStream) -> Citation:
    try:
        return stream.cite(span, time.time_ns() // 1_000_000)
    except NoText as reason:
        raise invalid(one_line(str(span)), str(reason)) from reason


def add_citations(value: bytes, added: Sequence[Citation]) -> bytes:
    """Return a value of `cites` with more citations; one of the same lines is replaced. Raise E2BIG if it is too long."""
    spans = {citation.span for citation in added}
    kept = [citation for citation in parse_citations(value) if citation.span not in spans]
    new = format_citations([*kept, *added])
    if len(new) > MAX_BYTES:
        raise path_error(
            errno.E2BIG,
            CITES,
            f"{len(kept) + len(added)} citations are too many for one file → cite fewer, or clear them",
        )
    return new


def _is_binary(error: OSError) -> bool:
    return error.errno == errno.EINVAL and "binary" in (error.strerror or "")


def _cites_of(backing: Backing) -> bytes:
    with rooted_fs.directory_of(backing.root, backing.relative.parts) as (folder, name):
        return _read_cites(folder, name)


def _read_cites(folder: int, name: str) -> bytes:
    try:
        return os.getxattr(rooted_fs.magic_path(folder, name), CITES, follow_symlinks=False)
    except OSError:
        return b""
