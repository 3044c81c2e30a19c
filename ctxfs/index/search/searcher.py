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
from ctxfs.index.search.regex_literals import LEAST
from ctxfs.index.search.results import Generation, Hit, IndexState, SearchResults
from ctxfs.model.errors import CommandError, invalid
from ctxfs.model.path import ROOT, Path

if TYPE_CHECKING:
    # The engines take a tenth of a second to import,
    # so that a daemon mounts first and imports them for the first query.
    from ctxfs.index.engines.embedders import Embedder
    from ctxfs.index.engines.vectors import Found, Vectors
    from ctxfs.index.search.features import Candidates
    from ctxfs.index.search.overlay import Overlay
    from ctxfs.index.search.rank_fusion import Column, Scored
    from ctxfs.index.search.view import Binds, IndexView, Reader

log = logging.getLogger(__name__)

# path, content (None: the file did not exist), attributes by their full names, nanoseconds since the epoch
Past = tuple[str, bytes | None, Mapping[str, bytes], int]

MAX_QUESTION_CHARS = 20_000
POOL = 400
# Few chunks that pass a filter are compared one by one. For many, the graph returns so many that some of them pass.
_NARROW = 6000
_WIDEST = 4 * POOL
_PASSING = 50
_ENOUGH = 25
_HIDDEN_CHUNKS = 4
_MOST_HIDDEN = 10_000
# The size of a full pool after cutting, if the result must not depend on the history of the index.
_KEPT = 300
_KEPT_OF_PROSE = 200
_MATCHING = 1_000_000
_SATISFYING = 5000
_TRY_AGAIN_SECONDS = 10.0
_MAX_SKIPPED_LISTED = 1000
_MAX_UNCOVERED = 1000
_BEHIND = "the index is behind: files may be missing"
_UNCOVERED = "what was just written is still being indexed by words: some of it may be missing"
_OFF = "search by meaning is switched off (index.meaning = false)"


@dataclass(frozen=True, slots=True)
class _Asked:
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
        self._opening = threading.Lock()
        self._view: IndexView | None = None
        self._embedder: Embedder | None = None
        self._opened_spec: EmbedderSpec | None = None
        self._fault = ""
        self._fault_until = 0.0
        self._aside = ThreadPoolExecutor(1, "ctxfs-meaning")
        self._extractor = Extractor(INTERACTIVE)
        self.on_damage: Callable[[str], None] = partial(mark_damaged, folder)
        self.generation = Generation(0, 0)
        self._changes: list[tuple[IndexedRoot, Sequence[tuple[str, ...]], Sequence[tuple[str, ...]]]] = []
        # Returns why words may miss files; empty if they cover all files. Set by the process that runs the indexer.
        self.behind: Callable[[], str] = str
        # Changed files that only the index will find, at most `_MAX_UNCOVERED`.
        self._uncovered: dict[str, None] = {}
        self._roots: Sequence[IndexedRoot] | None = None
        # Prefixes of the sources whose folders are unchanged since the last query; None: all.
        self._staying: AbstractSet[str] | None = None

    def extract(self, name: str, data: bytes) -> list[Chunk]:
        """Return the chunks of a file, read in a sandboxed process. Raise UnreadableFile or ExtractorDown."""
        return self._extractor.chunks_of(name, data)

    # keeping up

    def refresh(self, graph: bool = False) -> None:
        """Load the newest commit of the indexer; `graph` is True if it has built a new graph."""
        view = self._view
        # Outside the lock, because a large graph takes seconds to read and to check, and queries continue meanwhile.
        newer = view.newer_graph() if graph and view is not None else None
        was_open = view is not None
        with self._looking(at_changes=False) as view:
            if view is None:
                return
            if was_open:
                view.take_up(newer)
            self.generation = self.generation._replace(indexed=self.generation.indexed + 1)

    def set_roots(self, roots: Sequence[IndexedRoot]) -> None:
        """Set the current sources.

        Unindexed changes of a removed source, or of one whose folder changed, are no longer found.
        Before the first call, changes of any source are accepted.
        """
        with self._lock:
            before = {(root.prefix, root.root) for root in (roots if self._roots is None else self._roots)}
            same = {root.prefix for root in roots if (root.prefix, root.root) in before}
            self._staying = same if self._staying is None else self._staying & same
            self._changes = [change for change in self._changes if change[0] in roots]
            self._roots = roots
            self.generation = self.generation._replace(written=self.generation.written + 1)

    def changed(
        self, root: IndexedRoot, places: Sequence[tuple[str, ...]], more: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """Report written or deleted paths, so that search sees them before the index does.

        For the paths `more`, only deletions are applied.
        The next query, or `look`, reads the files, so that a burst of writes is not delayed.
        """
        with self._lock:
            if self._roots is not None and root not in self._roots:
                return
            self._changes.append((root, places, more))
            self.generation = self.generation._replace(written=self.generation.written + 1)

    def caught_up(self) -> None:
        """Record that the index contains all changes."""
        self._uncovered.clear()
        self.move_on()

    def missing(self) -> str:
        """Return why words may miss files that the caller may see; empty if they cover all of them."""
        reader, behind = self._reader(), self.behind()
        if reader is None:
            return behind or (_UNCOVERED if self._uncovered else "")
        # A limited reader gets neither the number of files nor a hint of changes that it may not see.
        return _BEHIND if behind else _UNCOVERED if any(map(reader.may_read, list(self._uncovered))) else ""

    def move_on(self) -> None:
        """Invalidate cached results."""
        self.generation = self.generation._replace(indexed=self.generation.indexed + 1)

    def look(self) -> None:
        """Apply the pending changes now, so that the next query need not."""
        with self._looking():
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
    def _looking(self, *, at_changes: bool = True) -> Iterator[IndexView | None]:
        """Lock the index for this thread and yield it; None if it does not exist.

        With `at_changes`, apply the pending changes first. Report damage to `on_damage` and raise CorruptIndex.
        """
        with self._lock:
            try:
                view = self._opened()
                if at_changes:
                    self._take_in(view)
                yield view
            except BaseException as error:
                if not (reason := damage(error)):
                    raise
                self._close_view()
                self.on_damage(reason)
                raise CorruptIndex(reason) from error

    def _take_in(self, view: IndexView | None) -> None:
        changes, self._changes = self._changes, []
        staying, self._staying = self._staying, None
        if view is None:
            return
        if staying is not None:
            view.keep_sources(staying)
        for root in dict.fromkeys(root for root, _, _ in changes):
            mine = [(places, more) for at, places, more in changes if at == root]
            places = [parts for places, _ in mine for parts in places]
            more = [parts for _, more in mine for parts in more]
            try:
                left = view.changed(root, list(dict.fromkeys(reversed(places)))[::-1], more)
            except Exception as error:
                if damage(error):
                    raise
                left = ["/".join((root.prefix, *parts)) for parts in (*places, *more)]
                log.exception("a change is found later, with the index")
            self._uncovered.update(dict.fromkeys(left[: max(0, _MAX_UNCOVERED - len(self._uncovered))]))

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def _opened(self) -> IndexView | None:
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

    def past(self, files: Iterable[Past]) -> Overlay:
        """Return an overlay with the content of files at another time, to be searched in place of the current one."""
        from ctxfs.index.engines.fulltext import analyse, author_terms, break_up
        from ctxfs.index.search.overlay import Overlay

        overlay = Overlay(analyse, break_up, author_terms, self._extractor)
        for file in files:
            overlay.take_past(*file)
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
            answer = self._search(query, below, limit, past, exact)
            behind = self.missing()
            if behind and (answer.is_complete or answer.hits):
                return replace(answer, notes=(*answer.notes, behind), is_complete=False)
            return answer
        except CorruptIndex as error:
            return SearchResults(query, (), (error.strerror or str(error),), is_complete=False)

    def _search(self, query: Query, below: Path, limit: int, past: Overlay | None, exact: bool) -> SearchResults:
        found = self._attempt(query, below, limit, past, exact)
        if not found.hits and query.has_words and query.mode != "exact" and query.phrases and query.words:
            # A title in a question is quoted as a title, not as a required phrase.
            loose = replace(query, words=(*query.words, *" ".join(query.phrases).split()), phrases=())
            again = self._attempt(loose, below, limit, past, exact)
            if again.hits:
                remark = f"nothing contains {_quoted(query.phrases)} as it stands: its words were looked for"
                return replace(again, query=query, remarks=(remark,))
        return found

    def _attempt(self, query: Query, below: Path, limit: int, past: Overlay | None, exact: bool) -> SearchResults:
        reader = self._reader()
        asked = replace(self._as_vector(query, reader), exact=exact or reader is not None)
        with self._looking() as view:
            if view is None:
                return SearchResults(
                    query, (), ("the index is empty: nothing has been indexed yet",), is_complete=False
                )
            if past is not None:
                view = view.seen_through(past)
            view = view.seen_by(reader)
            if not query.has_words:
                return SearchResults(query, _passing(view, query, below, limit))
            if query.mode == "exact":
                return SearchResults(query, _exact(view, query, below, limit))
            scored, notes = _ranked(view, asked, below, limit, self._aside)
            return SearchResults(query, _hits(view, scored), tuple(notes))

    def find(self, query: Query, below: Path, limit: int) -> list[str]:
        """Return the paths of the files that pass the filters of a query, newest first.

        Raise OSError EINVAL if the query has words, or no filters.
        """
        if query.has_words or not query.has_filters:
            wanted = "kind:fact, tag:deploy, confidence:>0.8, pinned:true, trust:trusted, path:, since:"
            raise invalid(query.text[:80], f"only filters can be asked for here: {wanted}")
        return [hit.path for hit in self.search(query, below, limit).hits]

    def may_hold(self, needed: Sequence[Collection[str]], below: Path) -> list[str] | None:
        """Return the sorted files that may have a line with a text of each set in `needed`; a superset.

        Return None without an index.
        """
        reader = self._reader()
        with self._looking() as view:
            if view is None:
                return None
            view = view.seen_by(reader)
            files = view.words.files_holding(needed, below)
            paths = {path for file, path in view.catalog.paths_of(files).items() if file not in view.hidden}
            paths.update(path for path in view.catalog.unsearchable() if reader is None or reader.may_read(path))
            paths.update(path for path in view.overlay.paths if not view.overlay.is_gone(path))
            at = str(below)
            return sorted(path for path in paths if below.is_root or path == at or path.startswith(at + "/"))

    def standing(self, paths: Collection[str], past: Overlay | None = None) -> dict[str, FileStatus]:
        """Return the status of those of these files that are quarantined, expired, superseded or untrusted."""
        try:
            with self._looking() as view:
                if view is not None and past is not None:
                    view = view.seen_through(past)
                return view.seen_by(self._reader()).standing(paths, self._binds) if view is not None else {}
        except CorruptIndex:
            return {}

    def distrusted(self) -> list[str]:
        """Return the paths of all indexed files that are marked untrusted or quarantined, regardless of the caller."""
        with self._looking(at_changes=False) as view:
            return view.catalog.distrusted() if view is not None else []

    def state(self) -> IndexState:
        """Return the state of the index; never fails."""
        fault = self._meaning_fault()
        try:
            with self._looking() as view:
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
        with self._looking() as view:
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

    def _meaning_fault(self) -> str:
        """Return why semantic search is unavailable; empty if it is available."""
        if self._spec is None:
            return _OFF
        try:
            with self._looking() as view:
                spec = view.model.spec if view is not None and view.model is not None else self._spec
        except CorruptIndex:
            return ""
        # Outside the lock, because a model takes a fifth of a second to load.
        return "" if self._loaded(spec) else self._fault

    def _as_vector(self, query: Query, reader: Reader | None) -> _Asked:
        """Embed the query with the serving model. The lock is released meanwhile, for other queries."""
        with self._looking() as view:
            hints = read_hints(query, view.seen_by(reader).names if view is not None else {})
            model = view.model if view is not None and view.vectors is not None and view.vectors.count else None
        if query.mode in ("words", "exact") or not query.has_words:
            return _Asked(hints)
        if self._spec is None:
            return _Asked(hints, note="" if query.mode == "hybrid" else _OFF)
        embedder = self._loaded(model.spec if model is not None else self._spec)
        if embedder is None:
            return _Asked(hints, note=self._fault)
        if model is None:
            return _Asked(hints, note="nothing has been embedded yet: words only for now")
        if not hints.query.plain:
            return _Asked(hints)
        try:
            vector = embedder.embed_question(hints.query.plain)
        except CommandError as error:
            return _Asked(hints, note=f"{error.message}: words only. {error.remedy}")
        return _Asked(hints, vector, model.id)

    def can_embed(self) -> bool:
        """Return True if semantic search is available. Loads the model, which may take a fifth of a second."""
        return not self._meaning_fault()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts with the serving model: float32 [len(texts), dimensions]. Raise CommandError on failure."""
        with self._looking() as view:
            spec = view.model.spec if view is not None and view.model is not None else self._spec
        embedder = self._loaded(spec) if spec is not None else None
        if embedder is None:
            raise CommandError(self._fault or _OFF, "")
        return embedder.embed(texts)

    def _loaded(self, spec: EmbedderSpec) -> Embedder | None:
        """Return the embedder of a spec; None if it cannot be opened, with the reason in `_fault`.

        A failure is retried after `_TRY_AGAIN_SECONDS`.
        """
        with self._opening:
            if self._opened_spec == spec and (self._embedder is not None or time.monotonic() < self._fault_until):
                return self._embedder
            from ctxfs.index.engines.embedders import open_embedder

            self._opened_spec, self._embedder, self._fault = spec, None, ""
            try:
                self._embedder = open_embedder(spec, 1)
            except CommandError as error:
                self._fault = f"{error.message}: words only. {error.remedy}"
                self._fault_until = time.monotonic() + _TRY_AGAIN_SECONDS
            return self._embedder


def _passing(view: IndexView, query: Query, below: Path, limit: int) -> list[Hit]:
    """Return a hit for each file that passes the filters of a query without words, newest first."""
    # The files in the overlay are newer than those in the index.
    fresh = view.overlay.first_passing(query, below)
    known = view.catalog.first_chunks(view.words.matching(query, below, _MATCHING), limit, view.hidden)
    chunks = [*fresh, *known][:limit]
    rows = view.rows(chunks)
    return [Hit(rows[chunk], 1.0, {"filter": 1.0}) for chunk in chunks if chunk in rows]


def _exact(view: IndexView, query: Query, below: Path, limit: int) -> list[Hit]:
    """Return a hit for each file that matches the keywords: its chunk with the most occurrences.

    The file with the most occurrences comes first.
    """
    keywords = query.keywords
    wanted = [{word} for word in keywords.every] or [set(keywords.some)]
    # Trigrams are looked up chunk by chunk, but the keywords of a file may be in different chunks.
    lookups = [[words] for words in wanted if all(len(word) >= LEAST and " " not in word for word in words)]
    sets = [set(view.words.files_holding(needed, below)) for needed in lookups or [[]]]
    files = sorted(set.intersection(*sets) - view.hidden)
    texts = view.catalog.texts_of(files)
    if query.has_filters:
        passing = set(view.words.matching(query, below, _MATCHING))
        texts = (row for row in texts if row[1] in passing)
    best: list[tuple[int, int]] = []
    for _, rows in groupby(chain(view.overlay.passing_texts(query, below), texts), key=lambda row: row[0]):
        chunks = list(rows)
        counts = keywords.count([text for _, _, text in chunks])
        if any(counts):
            best.append((sum(counts), chunks[counts.index(max(counts))][1]))
    best.sort(key=lambda item: (-item[0], item[1]))
    found = view.rows([chunk for _, chunk in best[:limit]])
    return [
        Hit(found[chunk], float(n), {"exact": float(n)}, {"exact": float(n)})
        for n, chunk in best[:limit]
        if chunk in found
    ]


def _ranked(view: IndexView, asked: _Asked, below: Path, limit: int, aside: Executor) -> tuple[list[Scored], list[str]]:
    """Return the best `limit` candidates of all engines, and the reasons why engines could not be searched."""
    from ctxfs.index.search.features import columns
    from ctxfs.index.search.rank_fusion import fuse, mixed_weights

    hints, notes = asked.hints, [asked.note] if asked.note else []
    query = hints.query
    # Hidden chunks must not displace visible ones from the pool.
    pool = POOL + min(_HIDDEN_CHUNKS * len(view.hidden), _MOST_HIDDEN)
    found: dict[str, dict[int, float]] = {}
    # A named author is one of many, so that the author's chunks get a pool of their own.
    named = hints.authors and not query.authors
    questions = [query, replace(query, authors=tuple(hints.authors))] if named else [query]
    # A filter that passes every chunk costs the full-text index as much as one that does not, so that it is omitted.
    indexed = [
        (each, below) if view.passing(each, below) is not None else (each.without_filters(), ROOT) for each in questions
    ]
    vector = asked.vector if view.vectors is not None and view.vectors.model == asked.model else None
    # Both engines release the interpreter lock while they search, so that they run in parallel.
    # Few vectors have few near ones: a full pool would contain all of them, regardless of distance.
    share = view.share_embedded(query, below) if vector is not None else 1.0
    near = max(1, pool - POOL + round(POOL * share))
    nearest = (
        aside.submit(_nearest_of, view, vector, questions, below, near, asked.exact) if vector is not None else None
    )
    if query.mode != "meaning":
        found["words"] = {k: v for each, at in indexed for k, v in view.words.search(each, at, pool)}
        found["around"] = {k: v for each, at in indexed for k, v in view.words.search_around(each, at, pool)}
    full = {name for name, scores in found.items() if len(scores) >= pool}
    if asked.exact:
        found |= _weighed(view, query, found, full)
    if query.mode != "words":
        found["meaning"] = nearest.result() if nearest is not None else {}
        if view.behind and found["meaning"]:
            notes.append(view.behind)
    chunks = {chunk for scores in found.values() for chunk in scores}
    if query.must or query.phrases or query.must_not:
        # Operators apply to words: a chunk that the full-text index does not return does not satisfy them.
        chunks &= {chunk for chunk, _ in view.words.search(query, below, _SATISFYING)}
    candidates = view.facts.candidates(chunks, view.hidden)
    if view.overlay and query.mode != "meaning":
        own, around = view.overlay.search(query, below, view.words.question_terms(query), view.rarity)
        found["words"].update(own)
        found["around"].update(around)
        candidates = view.overlay.candidates({*own, *around}, view.facts.folder_number).before(candidates)
    # A chunk that is absent from all matches has none of the words; absent from a full pool, it may have some.
    complete = {name for name in ("words", "around") if name in found and name not in full}
    signals = columns(candidates, found, hints, complete)
    if vector is not None and found["meaning"]:
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
    ), notes


def _weighed(
    view: IndexView, query: Query, found: Mapping[str, Mapping[int, float]], full: set[str]
) -> dict[str, dict[int, float]]:
    """Score the results of the word search again, from the current content alone.

    Cut the last results of a full pool, because another index might have others in their place.
    Add the signals that are cut here to `full`.
    """
    if "words" not in found:
        return {}
    terms = list(dict.fromkeys((*view.words.question_terms(query), *view.words.required_terms(query))))
    talk = bool(view.facts.candidates(found["around"]).turns.any())
    looked_at, kept = (len(found["words"]), _KEPT) if talk else (_KEPT, _KEPT_OF_PROSE)
    # Without dialogue, neighbours do not count, and chunks are large, so that fewer of them are useful.
    words = dict(islice(found["words"].items(), looked_at))
    if len(words) < len(found["words"]):
        full.add("words")
    own, near = view.weigh(words, found["around"] if talk else {}, terms)
    weighed = {"words": own, "around": near}
    return {name: _best_of(scores, kept) if name in full else scores for name, scores in weighed.items()}


def _best_of(scores: Mapping[int, float], most: int) -> dict[int, float]:
    """Return the best `most` scores, and all that tie with the last of them."""
    least = sorted(scores.values(), reverse=True)[:most][-1:] or [0.0]
    return {chunk: score for chunk, score in scores.items() if score >= least[0]}


def _nearest_of(
    view: IndexView, vector: Vectors, questions: Sequence[Query], below: Path, pool: int, exact: bool
) -> dict[int, float]:
    """Return the cosines by chunk, merged over queries with the same words and different filters."""
    return {chunk: cosine for each in questions for chunk, cosine in _nearest(view, vector, each, below, pool, exact)}


def _nearest(
    view: IndexView, vector: Vectors, query: Query, below: Path, pool: int, exact: bool
) -> list[tuple[int, float]]:
    """Return (chunk, cosine) of the nearest chunks that pass the filters."""
    import numpy as np

    assert view.vectors is not None

    def nearest(most: int) -> list[tuple[int, float]]:
        assert view.vectors is not None
        if exact:
            return _with_chunks(view, view.vectors.search_among(vector, view.living_vectors(), most))
        return _with_chunks(view, view.vectors.search(vector, most))

    passing = view.passing(query, below)
    if passing is None:
        return nearest(pool)[:pool]
    if passing.count > _NARROW:
        wide = nearest(max(pool, min(_WIDEST, _PASSING * len(view.facts) // passing.count)))
        allowed = passing.among([chunk for chunk, _ in wide])
        scored = [pair for pair in wide if pair[0] in allowed]
        if len(scored) >= _ENOUGH or passing.listed is None:
            return scored[:pool]
    assert passing.listed is not None
    _, _, vectors = view.facts.vectors_of(passing.listed)
    among = _with_chunks(view, view.vectors.search_among(vector, np.unique(vectors), pool))
    # Chunks that do not pass may share a vector with chunks that do.
    allowed = passing.among([chunk for chunk, _ in among])
    return [pair for pair in among if pair[0] in allowed][:pool]


def _with_chunks(view: IndexView, found: Found) -> list[tuple[int, float]]:
    """Return (chunk, cosine), nearest first, for each chunk that has one of the found vectors."""
    chunks, places = view.facts.chunks_with(found[0])
    return list(zip(chunks.tolist(), found[1][places].tolist(), strict=True))


def _cosines(view: IndexView, vector: Vectors, candidates: Candidates, known: Column) -> dict[str, Column]:
    """Return the cosine of each candidate, and the mean cosine of each turn and its neighbours.

    `known` contains the cosines that semantic search found, NaN for the other candidates.
    """
    import numpy as np

    from ctxfs.index.search.features import nearby_means

    assert view.vectors is not None
    meaning = known.copy()
    missing = np.isnan(known)
    meaning[missing] = view.vectors.cosines(vector, candidates.vectors[missing])
    out = {"meaning": meaning}
    turns = candidates.chunks[candidates.turns]
    if len(turns):
        around = np.unique(np.concatenate([turns + step for step in range(-NEIGHBOURS, NEIGHBOURS + 1)]))
        chunks, files, vectors = view.facts.vectors_of(around)
        out["nearby"] = nearby_means(candidates, chunks, files, view.vectors.cosines(vector, vectors), NEIGHBOURS)
    return out


def _hits(view: IndexView, scored: Sequence[Scored]) -> list[Hit]:
    rows = view.rows([item.chunk for item in scored])
    return [Hit(rows[item.chunk], item.score, item.signals, item.shares) for item in scored if item.chunk in rows]


def _quoted(phrases: Sequence[str]) -> str:
    return ", ".join(f'"{phrase}"' for phrase in phrases)
