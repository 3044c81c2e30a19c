"""The searcher: serves queries by words and by meaning with one score, from living chunks only."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path as HostPath
from typing import TYPE_CHECKING

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.corruption import CorruptIndex, damage, mark_damaged
from ctxfs.index.extract.chunks import NEIGHBOURS, Chunk
from ctxfs.index.extract.extractor import INTERACTIVE, Extractor
from ctxfs.index.options import EmbedderSpec, IndexedRoot
from ctxfs.index.query import Query
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.query_hints import QueryHints, read_hints
from ctxfs.index.search.regex_literals import MIN_LITERAL_CHARS
from ctxfs.index.search.results import Generation, Hit, IndexState, SearchResults
from ctxfs.model.errors import CommandError, invalid
from ctxfs.model.path import ROOT, Path

if TYPE_CHECKING:
    # The engines take a tenth of a second to import,
    # so that a daemon mounts first and imports them for the first query.
    from ctxfs.index.engines.embedders import Embedder
    from ctxfs.index.engines.vectors import Neighbours, Vectors
    from ctxfs.index.search.features import Candidates
    from ctxfs.index.search.overlay import Overlay
    from ctxfs.index.search.rank_fusion import Column, Scored
    from ctxfs.index.search.view import Binds, IndexView, Reader

log = logging.getLogger(__name__)

# path, content (None: the file did not exist), attributes by their full names, nanoseconds since the epoch
PastFile = tuple[str, bytes | None, Mapping[str, bytes], int]

MAX_QUESTION_CHARS = 20_000
DEFAULT_POOL_CHUNKS = 400
# Few chunks that pass a filter are compared one by one. For many, the graph returns so many that some of them pass.
_MAX_COMPARED_CHUNKS = 6000
_MAX_WIDENED_POOL = 4 * DEFAULT_POOL_CHUNKS
_MIN_PASSING = 50
_MIN_FILTERED_HITS = 25
_CHUNKS_PER_HIDDEN_FILE = 4
_MAX_HIDDEN_CHUNKS = 10_000
# The size of a full pool after cutting, if the result must not depend on the history of the index.
_MAX_EXACT_POOL = 300
_MAX_EXACT_PROSE_POOL = 200
_MAX_FILTERED_CHUNKS = 1_000_000
_MAX_OPERATOR_CHUNKS = 5000
_RETRY_SECONDS = 10.0
_MAX_SKIPPED_LISTED = 1000
_MAX_UNCOVERED = 1000
_BEHIND_NOTE = "the index is behind: files may be missing"
_UNCOVERED_NOTE = "what was just written is still being indexed by words: some of it may be missing"
_OFF_NOTE = "search by meaning is switched off (index.meaning = false)"


@dataclass(frozen=True, slots=True)
class _EmbeddedQuery:
    """A query with its hints and its vector, or the reason why it has none (`note`).

    `model` is the model whose vectors it may be compared with.
    `exact`: compare it with all vectors instead of the graph, so that every index gives the same result.
    """

    hints: QueryHints
    vector: Vectors | None = None
    model: int = 0
    note: str = ""
    exact: bool = False


class Searcher:
    """A reader of the index while the indexer writes it. Methods block; they may be called from several threads."""

    def __init__(
        self,
        folder: HostPath,
        embedder: EmbedderSpec | None,
        reader: Callable[[], Reader | None] = lambda: None,
        binds: Binds = lambda new, old: True,
    ) -> None:
        """Take the folder of the index and the spec of the embedder.

        `reader` returns the calling principal if its read permission is limited; it is called for each query.
        `binds` returns True if a file may supersede the file that its attribute names.
        """
        self._binds = binds
        self._folder = folder
        self._reader = reader
        self._spec = embedder
        self._lock = threading.Lock()
        self._embedder_lock = threading.Lock()
        self._view: IndexView | None = None
        self._embedder: Embedder | None = None
        self._opened_spec: EmbedderSpec | None = None
        self._fault = ""
        self._fault_until = 0.0
        self._vector_executor = ThreadPoolExecutor(1, "ctxfs-meaning")
        self._extractor = Extractor(INTERACTIVE)
        self.on_damage: Callable[[str], None] = partial(mark_damaged, folder)
        self.generation = Generation(0, 0)
        self._pending_changes: list[tuple[IndexedRoot, Sequence[tuple[str, ...]], Sequence[tuple[str, ...]]]] = []
        # Returns why words may miss files; empty if they cover all files. Set by the process that runs the indexer.
        self.behind: Callable[[], str] = str
        # Changed files that only the index will find, at most `_MAX_UNCOVERED`.
        self._uncovered: dict[str, None] = {}
        self._roots: Sequence[IndexedRoot] | None = None
        # Prefixes of the sources whose folders are unchanged since the last query; None: all.
        self._unchanged_prefixes: AbstractSet[str] | None = None

    def extract(self, name: str, data: bytes) -> list[Chunk]:
        """Return the chunks of a file, read in a sandboxed process. Raise UnreadableFile or ExtractorDown."""
        return self._extractor.chunks_of(name, data)

    # keeping up

    def refresh(self, graph: bool = False) -> None:
        """Load the newest commit of the indexer; `graph` is True if it has built a new graph."""
        view = self._view
        # Outside the lock, because a large graph takes seconds to read and to check, and queries continue meanwhile.
        newer_graph = view.newer_graph() if graph and view is not None else None
        was_open = view is not None
        with self._locked_view(at_changes=False) as view:
            if view is None:
                return
            if was_open:
                view.load_commits(newer_graph)
            self.generation = self.generation._replace(indexed=self.generation.indexed + 1)

    def set_roots(self, roots: Sequence[IndexedRoot]) -> None:
        """Set the current sources.

        Unindexed changes of a removed source, or of one whose folder changed, are no longer found.
        Before the first call, changes of any source are accepted.
        """
        with self._lock:
            previous = {(root.prefix, root.root) for root in (roots if self._roots is None else self._roots)}
            unchanged = {root.prefix for root in roots if (root.prefix, root.root) in previous}
            self._unchanged_prefixes = (
                unchanged if self._unchanged_prefixes is None else self._unchanged_prefixes & unchanged
            )
            self._pending_changes = [change for change in self._pending_changes if change[0] in roots]
            self._roots = roots
            self.generation = self.generation._replace(written=self.generation.written + 1)

    def changed(
        self, root: IndexedRoot, paths: Sequence[tuple[str, ...]], maybe_deleted: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """Report written or deleted paths, so that search sees them before the index does.

        For the paths `maybe_deleted`, only deletions are applied.
        The next query, or `look`, reads the files, so that a burst of writes is not delayed.
        """
        with self._lock:
            if self._roots is not None and root not in self._roots:
                return
            self._pending_changes.append((root, paths, maybe_deleted))
            self.generation = self.generation._replace(written=self.generation.written + 1)

    def caught_up(self) -> None:
        """Record that the index contains all changes."""
        self._uncovered.clear()
        self.move_on()

    def missing(self) -> str:
        """Return why words may miss files that the caller may see; empty if they cover all of them."""
        reader, behind = self._reader(), self.behind()
        if reader is None:
            return behind or (_UNCOVERED_NOTE if self._uncovered else "")
        # A limited reader gets neither the number of files nor a hint of changes that it may not see.
        return _BEHIND_NOTE if behind else _UNCOVERED_NOTE if any(map(reader.may_read, list(self._uncovered))) else ""

    def move_on(self) -> None:
        """Invalidate cached results."""
        self.generation = self.generation._replace(indexed=self.generation.indexed + 1)

    def look(self) -> None:
        """Apply the pending changes now, so that the next query need not."""
        with self._locked_view():
            pass

    @property
    def model(self) -> str:
        """The name of the serving model; empty before the first query, and without a model."""
        view = self._view
        return view.model.name if view is not None and view.model is not None else ""

    def close(self) -> None:
        """Close all files; the next query opens them again."""
        with self._lock:
            self._close_view()
            self._embedder = None
        self._extractor.close()

    def forget(self) -> None:
        """Drop all content in memory after an erasure."""
        with self._lock:
            self._close_view()
            self.generation = self.generation._replace(indexed=self.generation.indexed + 1)

    @contextlib.contextmanager
    def _locked_view(self, *, at_changes: bool = True) -> Iterator[IndexView | None]:
        """Lock the index for this thread and yield it; None if it does not exist.

        With `at_changes`, apply the pending changes first. Report damage to `on_damage` and raise CorruptIndex.
        """
        with self._lock:
            try:
                view = self._open_view()
                if at_changes:
                    self._apply_changes(view)
                yield view
            except BaseException as error:
                if not (reason := damage(error)):
                    raise
                self._close_view()
                self.on_damage(reason)
                raise CorruptIndex(reason) from error

    def _apply_changes(self, view: IndexView | None) -> None:
        changes, self._pending_changes = self._pending_changes, []
        unchanged, self._unchanged_prefixes = self._unchanged_prefixes, None
        if view is None:
            return
        if unchanged is not None:
            view.keep_sources(unchanged)
        for root in dict.fromkeys(root for root, _, _ in changes):
            root_changes = [
                (paths, maybe_deleted) for changed_root, paths, maybe_deleted in changes if changed_root == root
            ]
            paths = [parts for paths, _ in root_changes for parts in paths]
            maybe_deleted = [parts for _, maybe_deleted in root_changes for parts in maybe_deleted]
            try:
                uncovered = view.apply_changes(root, list(dict.fromkeys(reversed(paths)))[::-1], maybe_deleted)
            except Exception as error:
                if damage(error):
                    raise
                uncovered = ["/".join((root.prefix, *parts)) for parts in (*paths, *maybe_deleted)]
                log.exception("a change is found later, with the index")
            self._uncovered.update(dict.fromkeys(uncovered[: max(0, _MAX_UNCOVERED - len(self._uncovered))]))

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def _open_view(self) -> IndexView | None:
        """Return the index once the indexer has created it; reopen it if it was recreated."""
        if self._view is not None and not self._view.is_current:
            self._close_view()
            if not Catalog.exists(self._folder):
                raise CorruptIndex("catalog: the file is gone")
        if self._view is None and Catalog.exists(self._folder):
            from ctxfs.index.search.view import IndexView

            self._view = IndexView(self._folder, self._extractor)
        return self._view

    # queries

    def past(self, files: Iterable[PastFile]) -> Overlay:
        """Return an overlay with the content of files at another time, to be searched in place of the current one."""
        from ctxfs.index.engines.fulltext import analyse, author_terms, break_up
        from ctxfs.index.search.overlay import Overlay

        overlay = Overlay(analyse, break_up, author_terms, self._extractor)
        for file in files:
            overlay.add_past(*file)
        return overlay

    def search(
        self, query: Query, below: Path, limit: int, past: Overlay | None = None, *, exact: bool = False
    ) -> SearchResults:
        """Return the best `limit` chunks below a directory.

        A failed search has notes; an empty result without notes means that there is no match.
        `past` is the content of some files at another time, in place of the current one.
        `exact`: search without the vector graph, so that a rebuilt index gives the same result.
        Raise OSError EINVAL for an overlong query.
        """
        if len(query.text) > MAX_QUESTION_CHARS:
            raise invalid(
                f"{query.text[:40]}…", f"a question has {MAX_QUESTION_CHARS} characters at most: ask for its point"
            )
        try:
            results = self._search(query, below, limit, past, exact)
            behind = self.missing()
            if behind and (results.is_complete or results.hits):
                return replace(results, notes=(*results.notes, behind), is_complete=False)
            return results
        except CorruptIndex as error:
            return SearchResults(query, (), (error.strerror or str(error),), is_complete=False)

    def _search(self, query: Query, below: Path, limit: int, past: Overlay | None, exact: bool) -> SearchResults:
        results = self._attempt(query, below, limit, past, exact)
        if not results.hits and query.has_words and query.mode != "exact" and query.phrases and query.words:
            # A title in a question is quoted as a title, not as a required phrase.
            loose = replace(query, words=(*query.words, *" ".join(query.phrases).split()), phrases=())
            loose_results = self._attempt(loose, below, limit, past, exact)
            if loose_results.hits:
                remark = f"nothing contains {_quote(query.phrases)} as it stands: its words were looked for"
                return replace(loose_results, query=query, remarks=(remark,))
        return results

    def _attempt(self, query: Query, below: Path, limit: int, past: Overlay | None, exact: bool) -> SearchResults:
        reader = self._reader()
        embedded = replace(self._embed_query(query, reader), exact=exact or reader is not None)
        with self._locked_view() as view:
            if view is None:
                return SearchResults(
                    query, (), ("the index is empty: nothing has been indexed yet",), is_complete=False
                )
            if past is not None:
                view = view.with_overlay(past)
            view = view.for_reader(reader)
            if not query.has_words:
                return SearchResults(query, _search_filters(view, query, below, limit))
            if query.mode == "exact":
                return SearchResults(query, _search_exact(view, query, below, limit))
            scored, notes = _search_ranked(view, embedded, below, limit, self._vector_executor)
            return SearchResults(query, _build_hits(view, scored), tuple(notes))

    def find(self, query: Query, below: Path, limit: int) -> list[str]:
        """Return the paths of the files that pass the filters of a query, newest first.

        Raise OSError EINVAL if the query has words, or no filters.
        """
        if query.has_words or not query.has_filters:
            examples = "kind:fact, tag:deploy, confidence:>0.8, pinned:true, trust:trusted, path:, since:"
            raise invalid(query.text[:80], f"only filters can be asked for here: {examples}")
        return [hit.path for hit in self.search(query, below, limit).hits]

    def may_hold(self, needed: Sequence[Collection[str]], below: Path) -> list[str] | None:
        """Return the sorted files that may have a line with a text of each set in `needed`; a superset.

        Return None without an index.
        """
        reader = self._reader()
        with self._locked_view() as view:
            if view is None:
                return None
            view = view.for_reader(reader)
            files = view.full_text.files_with_literals(needed, below)
            paths = {path for file, path in view.catalog.paths_of(files).items() if file not in view.hidden}
            paths.update(path for path in view.catalog.unsearchable_paths() if reader is None or reader.may_read(path))
            paths.update(path for path in view.overlay.paths if not view.overlay.is_gone(path))
            prefix = str(below)
            return sorted(path for path in paths if below.is_root or path == prefix or path.startswith(prefix + "/"))

    def standing(self, paths: Collection[str], past: Overlay | None = None) -> dict[str, FileStatus]:
        """Return the status of those of these files that are quarantined, expired, superseded or untrusted."""
        try:
            with self._locked_view() as view:
                if view is not None and past is not None:
                    view = view.with_overlay(past)
                return view.for_reader(self._reader()).statuses(paths, self._binds) if view is not None else {}
        except CorruptIndex:
            return {}

    def distrusted(self) -> list[str]:
        """Return the paths of all indexed files that are marked untrusted or quarantined, regardless of the caller."""
        with self._locked_view(at_changes=False) as view:
            return view.catalog.distrusted() if view is not None else []

    def state(self) -> IndexState:
        """Return the state of the index; never fails."""
        fault = self._semantic_fault()
        try:
            with self._locked_view() as view:
                if view is None:
                    return IndexState(meaning=fault)
                return IndexState(
                    view.catalog.counts(),
                    view.catalog.skipped(),
                    view.vectors.count if view.vectors else 0,
                    view.model.name if view.model else "",
                    fault,
                    skipped_files=view.catalog.skipped_files(_MAX_SKIPPED_LISTED),
                )
        except CorruptIndex as error:
            return IndexState(meaning=fault, damaged=error.strerror or str(error))

    def seen(self, path: str) -> tuple[str, str]:
        """Return (hexadecimal sha256 of the content that full-text search uses, reason why the file is not indexed).

        Both may be empty.
        """
        with self._locked_view() as view:
            if view is None:
                return "", ""
            if digest := view.overlay.digest(path):
                return digest, ""
            row = view.catalog.file(path)
            if row is None:
                return "", ""
            if row.state == "skipped":
                return "", f"skipped: {view.catalog.note(row.id)}"
            return (row.sha256.hex() if row.sha256 and row.state == "words" else ""), ""

    # meaning

    def _semantic_fault(self) -> str:
        """Return why semantic search is unavailable; empty if it is available."""
        if self._spec is None:
            return _OFF_NOTE
        try:
            with self._locked_view() as view:
                spec = view.model.spec if view is not None and view.model is not None else self._spec
        except CorruptIndex:
            return ""
        # Outside the lock, because a model takes a fifth of a second to load.
        return "" if self._open_embedder(spec) else self._fault

    def _embed_query(self, query: Query, reader: Reader | None) -> _EmbeddedQuery:
        """Embed the query with the serving model. The lock is released meanwhile, for other queries."""
        with self._locked_view() as view:
            hints = read_hints(query, view.for_reader(reader).names if view is not None else {})
            model = view.model if view is not None and view.vectors is not None and view.vectors.count else None
        if query.mode in ("words", "exact") or not query.has_words:
            return _EmbeddedQuery(hints)
        if self._spec is None:
            return _EmbeddedQuery(hints, note="" if query.mode == "hybrid" else _OFF_NOTE)
        embedder = self._open_embedder(model.spec if model is not None else self._spec)
        if embedder is None:
            return _EmbeddedQuery(hints, note=self._fault)
        if model is None:
            return _EmbeddedQuery(hints, note="nothing has been embedded yet: words only for now")
        if not hints.query.plain:
            return _EmbeddedQuery(hints)
        try:
            vector = embedder.embed_question(hints.query.plain)
        except CommandError as error:
            return _EmbeddedQuery(hints, note=f"{error.message}: words only. {error.remedy}")
        return _EmbeddedQuery(hints, vector, model.id)

    def can_embed(self) -> bool:
        """Return True if semantic search is available. Loads the model, which may take a fifth of a second."""
        return not self._semantic_fault()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts with the serving model: float32 [len(texts), dimensions]. Raise CommandError on failure."""
        with self._locked_view() as view:
            spec = view.model.spec if view is not None and view.model is not None else self._spec
        embedder = self._open_embedder(spec) if spec is not None else None
        if embedder is None:
            raise CommandError(self._fault or _OFF_NOTE, "")
        return embedder.embed(texts)

    def _open_embedder(self, spec: EmbedderSpec) -> Embedder | None:
        """Return the embedder of a spec; None if it cannot be opened, with the reason in `_fault`.

        A failure is retried after `_RETRY_SECONDS`.
        """
        with self._embedder_lock:
            if self._opened_spec == spec and (self._embedder is not None or time.monotonic() < self._fault_until):
                return self._embedder
            from ctxfs.index.engines.embedders import open_embedder

            self._opened_spec, self._embedder, self._fault = spec, None, ""
            try:
                self._embedder = open_embedder(spec, 1)
            except CommandError as error:
                self._fault = f"{error.message}: words only. {error.remedy}"
                self._fault_until = time.monotonic() + _RETRY_SECONDS
            return self._embedder


def _search_filters(view: IndexView, query: Query, below: Path, limit: int) -> list[Hit]:
    """Return a hit for each file that passes the filters of a query without words, newest first."""
    # The files in the overlay are newer than those in the index.
    overlay_chunks = view.overlay.first_passing(query, below)
    indexed_chunks = view.catalog.first_chunks(
        view.full_text.chunks_passing(query, below, _MAX_FILTERED_CHUNKS), limit, view.hidden
    )
    chunks = [*overlay_chunks, *indexed_chunks][:limit]
    rows = view.rows(chunks)
    return [Hit(rows[chunk], 1.0, {"filter": 1.0}) for chunk in chunks if chunk in rows]


def _search_exact(view: IndexView, query: Query, below: Path, limit: int) -> list[Hit]:
    """Return a hit for each file that matches the keywords: its chunk with the most occurrences.

    The file with the most occurrences comes first.
    """
    keywords = query.keywords
    keyword_sets = [{word} for word in keywords.every] or [set(keywords.some)]
    # Trigrams are looked up chunk by chunk, but the keywords of a file may be in different chunks.
    lookups = [
        [words] for words in keyword_sets if all(len(word) >= MIN_LITERAL_CHARS and " " not in word for word in words)
    ]
    file_sets = [set(view.full_text.files_with_literals(needed, below)) for needed in lookups or [[]]]
    files = sorted(set.intersection(*file_sets) - view.hidden)
    texts = view.catalog.texts_of(files)
    if query.has_filters:
        passing = set(view.full_text.chunks_passing(query, below, _MAX_FILTERED_CHUNKS))
        texts = (row for row in texts if row[1] in passing)
    ranked: list[tuple[int, int]] = []
    for _, rows in groupby(chain(view.overlay.passing_texts(query, below), texts), key=lambda row: row[0]):
        chunks = list(rows)
        counts = keywords.count([text for _, _, text in chunks])
        if any(counts):
            ranked.append((sum(counts), chunks[counts.index(max(counts))][1]))
    ranked.sort(key=lambda item: (-item[0], item[1]))
    rows_by_chunk = view.rows([chunk for _, chunk in ranked[:limit]])
    return [
        Hit(rows_by_chunk[chunk], float(n), {"exact": float(n)}, {"exact": float(n)})
        for n, chunk in ranked[:limit]
        if chunk in rows_by_chunk
    ]


def _search_ranked(
    view: IndexView, embedded: _EmbeddedQuery, below: Path, limit: int, executor: Executor
) -> tuple[list[Scored], list[str]]:
    """Return the best `limit` candidates of all engines, and the reasons why engines could not be searched."""
    hints, notes = embedded.hints, [embedded.note] if embedded.note else []
    query = hints.query
    # Hidden chunks must not displace visible ones from the pool.
    pool = DEFAULT_POOL_CHUNKS + min(_CHUNKS_PER_HIDDEN_FILE * len(view.hidden), _MAX_HIDDEN_CHUNKS)
    # A named author is one of many, so that the author's chunks get a pool of their own.
    has_named_authors = hints.authors and not query.authors
    queries = [query, replace(query, authors=tuple(hints.authors))] if has_named_authors else [query]
    # Before the vector search starts, because it shares the cache of filters with this thread.
    indexed = _omit_idle_filters(view, queries, below)
    vector = embedded.vector if view.vectors is not None and view.vectors.model == embedded.model else None
    # Few vectors have few near ones: a full pool would contain all of them, regardless of distance.
    share = view.share_embedded(query, below) if vector is not None else 1.0
    vector_limit = max(1, pool - DEFAULT_POOL_CHUNKS + round(DEFAULT_POOL_CHUNKS * share))
    # Both engines release the interpreter lock while they search, so that they run in parallel.
    vector_scores = (
        executor.submit(_nearest_of_queries, view, vector, queries, below, vector_limit, embedded.exact)
        if vector is not None
        else None
    )
    scores_by_signal = _search_words(view, indexed, pool) if query.mode != "meaning" else {}
    full_signals = {name for name, scores in scores_by_signal.items() if len(scores) >= pool}
    if embedded.exact:
        scores_by_signal |= _score_again(view, query, scores_by_signal, full_signals)
    if query.mode != "words":
        scores_by_signal["meaning"] = vector_scores.result() if vector_scores is not None else {}
        if view.behind and scores_by_signal["meaning"]:
            notes.append(view.behind)
    candidates = _collect_candidates(view, query, below, scores_by_signal)
    return _fuse_signals(view, hints, vector, candidates, scores_by_signal, full_signals, limit, share), notes


def _omit_idle_filters(view: IndexView, queries: Sequence[Query], below: Path) -> list[tuple[Query, Path]]:
    """Return (query, folder) for the full-text index, without filters that every chunk passes.

    Such a filter costs the full-text index as much as one that excludes chunks.
    """
    return [
        (query, below) if view.filtered_chunks(query, below) is not None else (query.without_filters(), ROOT)
        for query in queries
    ]


def _search_words(view: IndexView, indexed: Sequence[tuple[Query, Path]], pool: int) -> dict[str, dict[int, float]]:
    """Return the scores of the signals `words` and `around` by chunk, merged over queries with different filters."""
    full_text = view.full_text
    return {
        "words": {chunk: score for query, folder in indexed for chunk, score in full_text.search(query, folder, pool)},
        "around": {
            chunk: score for query, folder in indexed for chunk, score in full_text.search_around(query, folder, pool)
        },
    }


def _collect_candidates(
    view: IndexView, query: Query, below: Path, scores_by_signal: Mapping[str, dict[int, float]]
) -> Candidates:
    """Return the chunks of all signals, with those of the overlay. Add the scores of the overlay to the signals."""
    chunks = {chunk for scores in scores_by_signal.values() for chunk in scores}
    if query.must or query.phrases or query.must_not:
        # Operators apply to words: a chunk that the full-text index does not return does not satisfy them.
        chunks &= {chunk for chunk, _ in view.full_text.search(query, below, _MAX_OPERATOR_CHUNKS)}
    candidates = view.columns.candidates(chunks, view.hidden)
    if not view.overlay or query.mode == "meaning":
        return candidates
    own_scores, neighbour_scores = view.overlay.search(query, below, view.full_text.question_terms(query), view.idf)
    scores_by_signal["words"].update(own_scores)
    scores_by_signal["around"].update(neighbour_scores)
    unindexed = view.overlay.candidates({*own_scores, *neighbour_scores}, view.columns.folder_number)
    return unindexed.followed_by(candidates)


def _fuse_signals(
    view: IndexView,
    hints: QueryHints,
    vector: Vectors | None,
    candidates: Candidates,
    scores_by_signal: Mapping[str, Mapping[int, float]],
    full_signals: AbstractSet[str],
    limit: int,
    share: float,
) -> list[Scored]:
    """Return the best `limit` candidates by the fusion of their signals; `full_signals` are cut off at the pool."""
    from ctxfs.index.search.features import signal_columns
    from ctxfs.index.search.rank_fusion import fuse, mixed_weights

    # A chunk that is absent from all matches has none of the words; absent from a full pool, it may have some.
    complete = {name for name in ("words", "around") if name in scores_by_signal and name not in full_signals}
    signals = signal_columns(candidates, scores_by_signal, hints, complete)
    if vector is not None and scores_by_signal["meaning"]:
        signals |= _cosines(view, vector, candidates, signals["meaning"])
    return fuse(
        candidates.chunks,
        signals,
        mixed_weights(candidates.profiles()),
        ("meaning", "nearby") if view.behind else (),
        limit,
        candidates.folders if candidates.turns.any() else None,
        candidates.vectors < 0,
        share,
    )


def _score_again(
    view: IndexView, query: Query, scores_by_signal: Mapping[str, Mapping[int, float]], full_signals: set[str]
) -> dict[str, dict[int, float]]:
    """Score the results of the word search again, from the current content alone.

    Cut the last results of a full pool, because another index might have others in their place.
    Add the signals that are cut here to `full_signals`.
    """
    if "words" not in scores_by_signal:
        return {}
    terms = list(dict.fromkeys((*view.full_text.question_terms(query), *view.full_text.required_terms(query))))
    has_turns = bool(view.columns.candidates(scores_by_signal["around"]).turns.any())
    max_candidates, pool_limit = (
        (len(scores_by_signal["words"]), _MAX_EXACT_POOL) if has_turns else (_MAX_EXACT_POOL, _MAX_EXACT_PROSE_POOL)
    )
    # Without dialogue, neighbours do not count, and chunks are large, so that fewer of them are useful.
    words = dict(islice(scores_by_signal["words"].items(), max_candidates))
    if len(words) < len(scores_by_signal["words"]):
        full_signals.add("words")
    own_scores, neighbour_scores = view.score_candidates(words, scores_by_signal["around"] if has_turns else {}, terms)
    scored = {"words": own_scores, "around": neighbour_scores}
    return {
        name: _select_best(scores, pool_limit) if name in full_signals else scores for name, scores in scored.items()
    }


def _select_best(scores: Mapping[int, float], limit: int) -> dict[int, float]:
    """Return the best `limit` scores, and all that tie with the last of them."""
    threshold = sorted(scores.values(), reverse=True)[:limit][-1:] or [0.0]
    return {chunk: score for chunk, score in scores.items() if score >= threshold[0]}


def _nearest_of_queries(
    view: IndexView, vector: Vectors, queries: Sequence[Query], below: Path, pool: int, exact: bool
) -> dict[int, float]:
    """Return the cosines by chunk, merged over queries with the same words and different filters."""
    return {chunk: cosine for query in queries for chunk, cosine in _nearest(view, vector, query, below, pool, exact)}


def _nearest(
    view: IndexView, vector: Vectors, query: Query, below: Path, pool: int, exact: bool
) -> list[tuple[int, float]]:
    """Return (chunk, cosine) of the nearest chunks that pass the filters."""
    import numpy as np

    assert view.vectors is not None

    def nearest(limit: int) -> list[tuple[int, float]]:
        assert view.vectors is not None
        if exact:
            return _chunks_of_vectors(view, view.vectors.search_among(vector, view.living_vectors(), limit))
        return _chunks_of_vectors(view, view.vectors.search(vector, limit))

    passing = view.filtered_chunks(query, below)
    if passing is None:
        return nearest(pool)[:pool]
    if passing.count > _MAX_COMPARED_CHUNKS:
        widened = nearest(max(pool, min(_MAX_WIDENED_POOL, _MIN_PASSING * len(view.columns) // passing.count)))
        passing_chunks = passing.among([chunk for chunk, _ in widened])
        scored = [pair for pair in widened if pair[0] in passing_chunks]
        if len(scored) >= _MIN_FILTERED_HITS or passing.listed is None:
            return scored[:pool]
    assert passing.listed is not None
    _, _, vectors = view.columns.vectors_of(passing.listed)
    among = _chunks_of_vectors(view, view.vectors.search_among(vector, np.unique(vectors), pool))
    # Chunks that do not pass may share a vector with chunks that do.
    passing_chunks = passing.among([chunk for chunk, _ in among])
    return [pair for pair in among if pair[0] in passing_chunks][:pool]


def _chunks_of_vectors(view: IndexView, neighbours: Neighbours) -> list[tuple[int, float]]:
    """Return (chunk, cosine), nearest first, for each chunk that has one of the found vectors."""
    chunks, positions = view.columns.chunks_with(neighbours[0])
    return list(zip(chunks.tolist(), neighbours[1][positions].tolist(), strict=True))


def _cosines(view: IndexView, vector: Vectors, candidates: Candidates, found_cosines: Column) -> dict[str, Column]:
    """Return the cosine of each candidate, and the mean cosine of each turn and its neighbours.

    `found_cosines` contains the cosines that semantic search found, NaN for the other candidates.
    """
    import numpy as np

    from ctxfs.index.search.features import nearby_means

    assert view.vectors is not None
    meaning = found_cosines.copy()
    is_missing = np.isnan(found_cosines)
    meaning[is_missing] = view.vectors.cosines(vector, candidates.vectors[is_missing])
    out = {"meaning": meaning}
    turns = candidates.chunks[candidates.turns]
    if len(turns):
        around = np.unique(np.concatenate([turns + step for step in range(-NEIGHBOURS, NEIGHBOURS + 1)]))
        chunks, files, vectors = view.columns.vectors_of(around)
        out["nearby"] = nearby_means(candidates, chunks, files, view.vectors.cosines(vector, vectors), NEIGHBOURS)
    return out


def _build_hits(view: IndexView, scored: Sequence[Scored]) -> list[Hit]:
    rows = view.rows([item.chunk for item in scored])
    return [Hit(rows[item.chunk], item.score, item.signals, item.shares) for item in scored if item.chunk in rows]


def _quote(phrases: Sequence[str]) -> str:
    return ", ".join(f'"{phrase}"' for phrase in phrases)
