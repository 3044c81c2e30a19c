"""The searcher: serves queries by words and by meaning with one score, from living chunks only."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path as HostPath
from typing import TYPE_CHECKING

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import drop_columns
from ctxfs.index.engines.corruption import CorruptIndex, describe_damage
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.extractor import INTERACTIVE, Extractor
from ctxfs.index.options import EmbedderSpec, IndexedRoot
from ctxfs.index.query import Query, describe_corrections
from ctxfs.index.search import history_search, ranking
from ctxfs.index.search.candidate_embedding import DEFAULT_QUESTION_SECONDS, CandidateEmbedder
from ctxfs.index.search.declared_kinds import NO_DECLARED_KINDS, DeclaredKinds
from ctxfs.index.search.file_status import FileStatus
from ctxfs.index.search.history_views import select_records, selection_of
from ctxfs.index.search.index_monitor import IndexMonitor, NoIndexMonitor
from ctxfs.index.search.index_totals import IndexTotals
from ctxfs.index.search.question_embedding import QuestionEmbedder, read_query
from ctxfs.index.search.regex_literals import Needed
from ctxfs.index.search.remarks import find_remarks
from ctxfs.index.search.results import Answer, Generation, IndexState, SearchResults, Verdict
from ctxfs.model.errors import invalid
from ctxfs.model.path import Path

if TYPE_CHECKING:
    # The engines take a tenth of a second to import,
    # so that a daemon mounts first and imports them for the first query.
    from ctxfs.index.engines.vectors import Vectors
    from ctxfs.index.search.overlay import Overlay
    from ctxfs.index.search.view import Binds, IndexView
    from ctxfs.index.search.visibility import Reader

log = logging.getLogger(__name__)

# path, content (None: the file did not exist), attributes by their full names, nanoseconds since the epoch
PastFile = tuple[str, bytes | None, Mapping[str, bytes], int]

MAX_QUESTION_CHARS = 20_000
_MAX_UNCOVERED = 1000  # files
_BEHIND_NOTE = "the index is behind: files may be missing"
_EMPTY_NOTE = "the index is empty: nothing has been indexed yet"
_UNCOVERED_NOTE = "what was just written is still being indexed by words: some of it may be missing"


class Searcher:
    """A reader of the index while the indexer writes it. Methods block; they may be called from several threads."""

    def __init__(
        self,
        folder: HostPath,
        embedder: EmbedderSpec | None,
        reader: Callable[[], Reader | None] = lambda: None,
        binds: Binds = lambda new, old: True,
        question_seconds: float = DEFAULT_QUESTION_SECONDS,
        declared_kinds: DeclaredKinds = NO_DECLARED_KINDS,
        is_shared: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take the folder of the index, the spec of the embedder, and the kinds that the index does not derive from paths.

        `reader` returns the calling principal if its read permission is limited; it is called for each query.
        `is_shared`: other indexes have to give the same results, so that no graph is searched.
        `binds` returns True if a file may supersede the file that its attribute names.
        `question_seconds` is the time that a query may spend on candidates that the indexer has not embedded.
        """
        self._declared_kinds, self._binds = declared_kinds, binds
        self._folder, self._reader, self._is_shared = folder, reader, is_shared
        self._candidate_embedder = CandidateEmbedder(folder, question_seconds)
        self._question_embedder = QuestionEmbedder(embedder, self._candidate_embedder)
        self._lock = threading.Lock()
        self._view: IndexView | None = None
        self._vector_executor = ThreadPoolExecutor(1, "ctxfs-meaning")
        self._totals = IndexTotals()
        self._extractor = Extractor(INTERACTIVE)
        self._monitor: IndexMonitor = NoIndexMonitor(folder)
        self.generation = Generation(0, 0)
        self._pending_changes: list[tuple[IndexedRoot, Sequence[tuple[str, ...]], Sequence[tuple[str, ...]]]] = []
        # Changed files that only the index will find, at most `_MAX_UNCOVERED`.
        self._uncovered: dict[str, None] = {}
        self._roots: Sequence[IndexedRoot] | None = None
        # Prefixes of the sources whose folders are unchanged since the last query; None: all.
        self._unchanged_prefixes: AbstractSet[str] | None = None

    def connect(self, monitor: IndexMonitor) -> None:
        """Use the supervisor of an indexer that this process runs."""
        self._monitor = monitor

    def behind(self) -> str:
        """Return why words may miss files; empty if they cover all files."""
        return self._monitor.behind()

    def extract(self, name: str, data: bytes) -> list[Chunk]:
        """Return the chunks of a file, read in a sandboxed process. Raise UnreadableFile or ExtractorUnavailable."""
        return self._extractor.extract_chunks(name, data)

    def name_users(self, path: str, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Return the chunks of a file with the names of users that the calling principal may read."""
        with self._locked_view() as view:
            return view.for_reader(self._reader()).users.name_chunks(path, chunks) if view is not None else list(chunks)

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

    def report_changes(
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

    def mark_caught_up(self) -> None:
        """Record that the index contains all changes."""
        self._uncovered.clear()
        self.invalidate_results()

    def coverage_note(self) -> str:
        """Return why words may miss files that the caller may see; empty if they cover all of them."""
        reader, behind = self._reader(), self.behind()
        if reader is None:
            return behind or (_UNCOVERED_NOTE if self._uncovered else "")
        # A limited reader gets neither the number of files nor a hint of changes that it may not see.
        return _BEHIND_NOTE if behind else _UNCOVERED_NOTE if any(map(reader.may_read, list(self._uncovered))) else ""

    def invalidate_results(self) -> None:
        """Invalidate cached results."""
        self.generation = self.generation._replace(indexed=self.generation.indexed + 1)

    def apply_changes(self) -> None:
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
            self._question_embedder.close()
        self._candidate_embedder.close()
        self._extractor.close()

    def drop_memory(self) -> None:
        """Drop all content in memory after an erasure."""
        with self._lock:
            self._close_view()
            drop_columns(self._folder)
            self._candidate_embedder.forget()
            self.generation = self.generation._replace(indexed=self.generation.indexed + 1)

    @contextlib.contextmanager
    def _locked_view(self, *, at_changes: bool = True) -> Iterator[IndexView | None]:
        """Lock the index for this thread and yield it; None if it does not exist.

        With `at_changes`, apply the pending changes first. Request a repair of damage and raise CorruptIndex.
        """
        with self._lock:
            try:
                view = self._open_view()
                if at_changes:
                    self._apply_changes(view)
                yield view
            except BaseException as error:
                if not (reason := describe_damage(error)):
                    raise
                self._close_view()
                self._monitor.repair(reason)
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
                if describe_damage(error):
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
            self._view.hide_outdated(self._roots or ())
        return self._view

    def past_overlay(self, files: Iterable[PastFile], *, beside: bool = False) -> Overlay:
        """Return an overlay with other contents of files: in place of the current one, or with `beside` in addition."""
        from ctxfs.index.engines.analyzers import analyse_split
        from ctxfs.index.engines.fulltext import analyse
        from ctxfs.index.engines.word_split import author_terms, split_words
        from ctxfs.index.search.overlay import Overlay

        overlay = Overlay(analyse, analyse_split, split_words, author_terms, self._extractor, beside=beside)
        for file in files:
            overlay.add_past(*file)
        return overlay

    def search(
        self, query: Query, below: Path, limit: int, past: Overlay | None = None, *, exact: bool = False
    ) -> SearchResults:
        """Return the best `limit` chunks below a directory.

        A failed search has notes; an empty result without notes means that there is no match.
        `past` is the content of some files at another time, in place of the current one.
        `exact`, for contexts: without the vector graph, the same from any index, and with `relevance_feedback`.
        Raise OSError EINVAL for an overlong query.
        """
        if len(query.text) > MAX_QUESTION_CHARS:
            raise invalid(f"{query.text[:40]}…", f"a question has {MAX_QUESTION_CHARS} characters at most")
        query, below = select_records(replace(query, kind_folders=self._declared_kinds.folders_of(query.kinds)), below)
        try:
            results = self._declared_kinds.label(self._search_loosely(query, below, limit, past, exact))
            results = replace(results, remarks=(*query.remarks, *results.remarks))
            if (behind := self.coverage_note()) and (results.is_complete or results.hits):
                # A part of the files was not searched, so that they may answer the question.
                verdict = Verdict.WEAK if results.is_unknown else results.answer.verdict
                answer = replace(results.answer, verdict=verdict, reasons=())
                return replace(results, notes=(*results.notes, behind), is_complete=False, answer=answer)
            return results
        except CorruptIndex as error:
            return SearchResults(query, (), (error.strerror or str(error),), is_complete=False)

    def _search_loosely(
        self, query: Query, below: Path, limit: int, past: Overlay | None, exact: bool
    ) -> SearchResults:
        results = self._search_once(query, below, limit, past, exact)
        if not results.hits and query.has_words and query.mode != "exact" and query.phrases and query.words:
            # A title in a question is quoted as a title, not as a required phrase.
            loose = replace(query, words=(*query.words, *" ".join(query.phrases).split()), phrases=())
            loose_results = self._search_once(loose, below, limit, past, exact)
            if loose_results.hits:
                phrases = ", ".join(f'"{phrase}"' for phrase in query.phrases)
                remark = f"nothing contains {phrases} as it stands: its words were looked for"
                return replace(loose_results, query=query, remarks=(remark, *loose_results.remarks))
        return results

    def _search_once(self, query: Query, below: Path, limit: int, past: Overlay | None, exact: bool) -> SearchResults:
        reader = self._reader()
        with self._locked_view() as view:
            seen = view.for_reader(reader) if view is not None else None
            hinted = read_query(seen, query)
            query = hinted.query
            if view is not None and seen is not None and query.words:
                searched = seen if past is None else view.with_overlay(past).for_reader(reader)
                hinted = self._question_embedder.correct_typos(searched, hinted, exact or self._is_shared())
            # The past is compared by words, so that a context of it does not depend on the time that a query has.
            if seen is not None and seen.has_unembedded and past is None and self._question_embedder.can_embed(query):
                waiting = ranking.find_waiting(seen, hinted.hints, below, self._vector_executor)
                hinted = replace(hinted, waiting=waiting)
        # Outside the lock, so that other queries run meanwhile.
        embedded = self._question_embedder.embed_query(hinted)
        embedded = replace(embedded, exact=exact or reader is not None or self._is_shared(), has_feedback=exact)
        with self._locked_view() as view:
            if view is None:
                return SearchResults(query, (), (_EMPTY_NOTE,), is_complete=False)
            view = (view if past is None else view.with_overlay(past)).for_reader(reader)
            if not query.has_words or query.mode == "exact":
                search = ranking.search_exact if query.has_words else history_search.search_filters
                hits = search(view, query, below, limit)
                answer = Answer.of_filters(bool(hits))
                return SearchResults(query, hits, remarks=find_remarks(view, query, hits), answer=answer)
            results = history_search.search_ranked(view, query, embedded, below, limit, self._vector_executor)
            query = replace(query, corrections=embedded.hints.query.corrections)
            remarks = (*find_remarks(view, query, results.hits), *describe_corrections(query))
            return replace(results, query=query, remarks=remarks)

    def find_by_filters(self, query: Query, below: Path, limit: int, past: Overlay | None = None) -> list[str]:
        """Return the paths of the files that pass the filters of a query, newest first.

        Raise OSError EINVAL if the query has words, or no filters.
        """
        if query.remarks:
            raise invalid(query.text[:80], query.remarks[0].replace(", so it was searched as a word", ""))
        if query.has_words or not query.has_filters:
            examples = (
                "kind:fact, tag:deploy, confidence:>0.8, pinned:true, state:archived, trust:trusted, path:, since:"
            )
            raise invalid(query.text[:80], f"only filters can be asked for here: {examples}")
        return list(dict.fromkeys(hit.path for hit in self.search(query, below, limit, past).hits))

    def candidate_files(self, needed: Needed, below: Path, past: Overlay | None = None) -> list[str] | None:
        """Return the sorted files that may have a line with a text of each set in `needed`; a superset.

        Return None without an index.
        """
        reader, selection = self._reader(), selection_of(below)
        with self._locked_view() as view:
            if view is None:
                return None
            view = (view if past is None else view.with_overlay(past)).for_reader(reader)
            files = view.full_text.files_with_literals(needed, selection.below, selection.labels)
            paths = {path for file, path in view.catalog.paths_of(files).items() if file not in view.hidden}
            unsearchable = view.catalog.unsearchable_paths(selection.labels)
            paths.update(path for path in unsearchable if reader is None or reader.may_read(path))
            paths.update(view.overlay.existing_files(selection.labels))
            return sorted(filter(selection.contains, paths))

    def statuses(self, paths: Collection[str], past: Overlay | None = None) -> dict[str, FileStatus]:
        """Return the status of those of these files that are quarantined, expired, superseded or untrusted."""
        try:
            with self._locked_view() as view:
                if view is not None and past is not None:
                    view = view.with_overlay(past)
                return view.for_reader(self._reader()).statuses(paths, self._binds) if view is not None else {}
        except CorruptIndex:
            return {}

    def untrusted_files(self) -> dict[str, tuple[int, int, int]]:
        """Return {path: (inode, ctime_ns, size)} of all indexed files that are marked untrusted or quarantined.

        The calling principal does not restrict it.
        """
        with self._locked_view(at_changes=False) as view:
            return view.catalog.untrusted_files() if view is not None else {}

    def state(self) -> IndexState:
        """Return the state of the index; never fails."""
        fault = self._explain_unavailable()
        try:
            with self._locked_view() as view:
                if view is None:
                    return IndexState(meaning=fault)
                return replace(
                    self._totals.count(view.catalog),
                    vectors=view.vectors.count if view.vectors else 0,
                    model=view.model.name if view.model else "",
                    meaning=fault,
                )
        except CorruptIndex as error:
            return IndexState(meaning=fault, damaged=error.strerror or str(error))

    def indexed_digest(self, path: str) -> tuple[str, str]:
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
            note = view.catalog.note(row.id)
            if row.state == "skipped":
                return "", f"skipped: {note}"
            if note:
                return "", f"in part: {note}"
            return (row.sha256.hex() if row.sha256 and row.state == "words" else ""), ""

    def _explain_unavailable(self) -> str:
        """Return why semantic search is unavailable; empty if it is available."""
        spec = None
        if self._question_embedder.is_enabled:
            try:
                with self._locked_view() as view:
                    spec = self._question_embedder.spec_for(view)
            except CorruptIndex:
                return ""
        # Outside the lock, because a model takes a fifth of a second to load.
        return self._question_embedder.fault(spec)

    def can_embed(self) -> bool:
        """Return True if semantic search is available. Loads the model, which may take a fifth of a second."""
        return not self._explain_unavailable()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts with the serving model: float32 [len(texts), dimensions]. Raise CommandError on failure."""
        with self._locked_view() as view:
            spec = self._question_embedder.spec_for(view)
        return self._question_embedder.embed(texts, spec)
