"""Answer a question: words and meaning side by side, one score, living chunks only."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path as HostPath
from typing import TYPE_CHECKING, NamedTuple

from ctxfs.index.catalog import Catalog, ChunkRow, Counts, FileStat
from ctxfs.index.chunks import NEIGHBOURS
from ctxfs.index.hints import Hints, known_names, read_hints
from ctxfs.index.literals import LEAST
from ctxfs.index.model_files import DIMENSIONS
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import Query
from ctxfs.model.errors import CommandError, invalid
from ctxfs.model.path import Path

if TYPE_CHECKING:
    # The engines take a tenth of a second to import: a daemon mounts first and loads them at the first look.
    from ctxfs.index.embed import Embedder, Vectors
    from ctxfs.index.features import Candidates
    from ctxfs.index.fuse_ranks import Column, Scored
    from ctxfs.index.overlay import Overlay
    from ctxfs.index.vectors import VectorTable
    from ctxfs.index.words import Words

POOL = 400
_FILTER_EXACT = 20_000
_FEW = 50
_MATCHING = 1_000_000
_SATISFYING = 5000
_STEADY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that answers: its score, what each signal measured, and how much of the score each one made."""

    chunk: ChunkRow
    score: float
    signals: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The file it is in."""
        return self.chunk.path


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first; `notes` say what could not be looked at and why (empty: everything could), `remarks` how it was read."""

    query: Query
    hits: Sequence[Hit]
    notes: Sequence[str] = ()
    remarks: Sequence[str] = ()


class Generation(NamedTuple):
    """What answers were made of: how often somebody has written, and how often the index has moved on."""

    written: int
    indexed: int

    def allows(self, made: Generation, age: float) -> bool:
        """True if an answer of generation `made`, `age` seconds old, may be given again.

        Not once somebody has written. But a listing looks at each of its links, and while much is being indexed they must not change
        under it.
        """
        return made == self or (made.written == self.written and age < _STEADY_SECONDS)


class Searcher:
    """Reads the index while the indexer writes it. Methods block; they may be called from several threads."""

    def __init__(self, folder: HostPath, model: HostPath | None) -> None:
        self._folder = folder
        self._model = model
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._words: Words | None = None
        self._table: VectorTable | None = None
        self._embedder: Embedder | None = None
        self._embedder_fault = ""
        self._vector_model = ""
        self._behind = ""
        self._authors: list[str] = []
        self._names: dict[str, list[str]] = {}
        self._opened_inode = 0
        self._overlay: Overlay | None = None
        self._hidden: frozenset[int] = frozenset()
        self.generation = Generation(0, 0)

    def refresh(self, graph: bool = False) -> None:
        """See what the indexer has committed since."""
        with self._lock:
            if self._catalog is not None and self._opened_inode != self._catalog_inode():
                # The indexer had to make it again; the old one is a deleted file that this process still holds.
                self._catalog.close()
                self._catalog = self._words = None
                self._table = None
            was_open = self._catalog is not None
            catalog = self._opened()
            if catalog is None:
                return
            if was_open:
                self._take_up(catalog, graph=graph)
            if self._overlay:
                self._overlay.caught_up(lambda path: _settled_stat(catalog, path))
                self._take_note(catalog, self._overlay)
            self._moved_on()

    def changed(self, root: IndexedRoot, places: Sequence[tuple[str, ...]]) -> None:
        """Something was written or deleted at these places: from now on search says what is there, before the index does."""
        with self._lock:
            catalog = self._opened()
            if catalog is None or self._words is None:
                return
            if self._overlay is None:
                from ctxfs.index.overlay import Overlay
                from ctxfs.index.words import author_terms, break_up

                self._overlay = Overlay(self._words.terms, break_up, author_terms)
            within = [inner for parts in places for inner in self._overlay.inside(root, parts)]
            for parts in dict.fromkeys((*places, *within)):
                path = "/".join((root.prefix, *parts))
                if not self._overlay.take_in(root, parts):
                    self._overlay.drop(path)
                elif self._overlay.is_gone(path):
                    self._overlay.gone_below(path, catalog.paths_below(path))
                elif _settled_stat(catalog, path) == self._overlay.stat(path):
                    self._overlay.drop(path)
            self._take_note(catalog, self._overlay)
            self.generation = self.generation._replace(written=self.generation.written + 1)

    def _take_note(self, catalog: Catalog, overlay: Overlay) -> None:
        """What the index still says of the overlay's files is no longer so, and who speaks in them may be asked for."""
        rows = [catalog.file(path) for path in overlay.paths]
        self._hidden = frozenset(row.id for row in rows if row is not None)
        self._names = known_names([*self._authors, *overlay.authors()])

    def _moved_on(self) -> None:
        self.generation = self.generation._replace(indexed=self.generation.indexed + 1)

    def close(self) -> None:
        """Let go of every file; the next question opens them again."""
        with self._lock:
            if self._catalog is not None:
                self._catalog.close()
            self._catalog = self._words = self._table = self._embedder = None

    def forget(self) -> None:
        """Drop what is in memory: something was erased."""
        with self._lock:
            self._table = None
            self._overlay, self._hidden = None, frozenset()
            self._moved_on()

    def search(self, query: Query, below: Path, limit: int) -> Answer:
        """The best `limit` chunks below a directory. "Nothing found" has no notes; "could not look" has."""
        with self._lock:
            catalog = self._opened()
            if catalog is None or self._words is None:
                return Answer(query, (), ("the index is empty: nothing has been indexed yet",))
            if not query.has_words:
                return Answer(query, self._passing(catalog, query, below, limit))
            if query.mode == "exact":
                return Answer(query, self._exact(catalog, query, below, limit))
            hints = read_hints(query, self._names)
            scored, notes = self._ranked(catalog, hints, below, limit)
            remarks = []
            if not scored and query.phrases and query.words:
                # A title in a question is quoted because it is one, not because it must be found.
                remarks.append(f"nothing contains {_quoted(query.phrases)} as it stands: its words were looked for")
                loose = replace(query, words=(*query.words, *" ".join(query.phrases).split()), phrases=())
                scored, notes = self._ranked(catalog, read_hints(loose, self._names), below, limit)
            return Answer(query, self._hits(catalog, scored), tuple(notes), tuple(remarks if scored else ()))

    def find(self, query: Query, below: Path, limit: int) -> list[str]:
        """Paths of the files that pass the filters of a question, newest first; EINVAL if it has none."""
        if query.has_words or not query.has_filters:
            wanted = "kind:fact, tag:deploy, confidence:>0.8, pinned:true, trust:trusted, path:, since:"
            raise invalid(query.text[:80], f"only filters can be asked for here: {wanted}")
        return [hit.path for hit in self.search(query, below, limit).hits]

    def may_hold(self, needed: Sequence[Collection[str]], below: Path) -> list[str] | None:
        """Files that may have a line with one of each of `needed`; a superset, in order. None without an index."""
        with self._lock:
            catalog = self._opened()
            if catalog is None or self._words is None:
                return None
            files = self._words.files_holding(needed, below)
            paths = {path for file, path in catalog.paths_of(files).items() if file not in self._hidden}
            paths.update(catalog.unsearchable())
            if self._overlay:
                paths.update(path for path in self._overlay.paths if not self._overlay.is_gone(path))
            at = str(below)
            return sorted(path for path in paths if below.is_root or path == at or path.startswith(at + "/"))

    def counts(self) -> tuple[Counts | None, dict[str, int], int]:
        """(catalog totals or None without an index, why files are skipped, vectors loaded)."""
        with self._lock:
            catalog = self._opened()
            if catalog is None:
                return None, {}, 0
            return catalog.counts(), catalog.skipped(), self._vectors.count

    def seen(self, path: str) -> tuple[str, str]:
        """(hexadecimal sha256 of the content that words are found in, why the file is not indexed); both may be empty."""
        with self._lock:
            catalog = self._opened()
            if self._overlay and (digest := self._overlay.digest(path)):
                return digest, ""
            row = catalog.file(path) if catalog is not None else None
            if row is None or catalog is None:
                return "", ""
            if row.state == "skipped":
                return "", f"skipped: {catalog.note(row.id)}"
            return (row.sha256.hex() if row.sha256 and row.state == "words" else ""), ""

    def meaning_fault(self) -> str:
        """Why meaning cannot be searched; empty if it can."""
        if self._model is None:
            return "search by meaning is switched off (index.meaning = false)"
        with self._lock:
            self._loaded()
        return self._embedder_fault

    @property
    def _vectors(self) -> VectorTable:
        if self._table is None:
            from ctxfs.index.vectors import VectorTable

            self._table = VectorTable(self._folder, DIMENSIONS)
        return self._table

    def _catalog_inode(self) -> int:
        try:
            return (self._folder / "catalog.db").stat().st_ino
        except FileNotFoundError:
            return 0

    def _opened(self) -> Catalog | None:
        """The catalog, once the indexer has made it."""
        if self._catalog is None and Catalog.exists(self._folder):
            from ctxfs.index.words import Words

            self._opened_inode = self._catalog_inode()
            self._catalog = Catalog(self._folder, read_only=True)
            self._words = Words(self._folder / "words")
            self._take_up(self._catalog, graph=True)
        return self._catalog

    def _take_up(self, catalog: Catalog, *, graph: bool) -> None:
        """See what has been committed; the graph too if it was built anew, or if another model made the vectors."""
        assert self._words is not None
        self._words.refresh()
        model = catalog.fact("model")
        if model != self._vector_model:
            self._table, self._vector_model, graph = None, model, True
        if graph:
            self._vectors.load_graph()
        self._vectors.load(catalog.vectors_after)
        self._behind = _behind(catalog)
        self._authors = catalog.authors()
        self._names = known_names(self._authors)

    def _loaded(self) -> Embedder | None:
        if self._embedder is None and not self._embedder_fault and self._model is not None:
            from ctxfs.index.embed import OnnxEmbedder

            try:
                self._embedder = OnnxEmbedder(self._model, 1)
            except CommandError as error:
                self._embedder_fault = f"{error.message}: words only. {error.remedy}"
        return self._embedder

    def _passing(self, catalog: Catalog, query: Query, below: Path, limit: int) -> list[Hit]:
        """A question of filters alone: the files that pass, newest first."""
        assert self._words is not None
        # What has just been written is newer than what the index knows.
        fresh = self._overlay.first_passing(query, below) if self._overlay else []
        chunks = [*fresh, *catalog.first_chunks(self._words.matching(query, below, _MATCHING), limit, self._hidden)][
            :limit
        ]
        rows = self._rows(catalog, chunks)
        return [Hit(rows[chunk], 1.0, {"filter": 1.0}) for chunk in chunks if chunk in rows]

    def _exact(self, catalog: Catalog, query: Query, below: Path, limit: int) -> list[Hit]:
        """Every file that holds the keywords, by its chunk with the most of them; where there are most comes first."""
        assert self._words is not None
        keywords = query.keywords
        wanted = [{word} for word in keywords.every] or [set(keywords.some)]
        # Runs of three characters are looked up chunk by chunk, but the words of a file may be far apart.
        lookups = [[words] for words in wanted if all(len(word) >= LEAST and " " not in word for word in words)]
        sets = [set(self._words.files_holding(needed, below)) for needed in lookups or [[]]]
        files = sorted(set.intersection(*sets) - self._hidden)
        texts = catalog.texts_of(files)
        if query.has_filters:
            passing = set(self._words.matching(query, below, _MATCHING))
            texts = (row for row in texts if row[1] in passing)
        fresh = self._overlay.passing_texts(query, below) if self._overlay else ()
        best: list[tuple[int, int]] = []
        for _, rows in groupby(chain(fresh, texts), key=lambda row: row[0]):
            chunks = list(rows)
            counts = keywords.count([text for _, _, text in chunks])
            if any(counts):
                best.append((sum(counts), chunks[counts.index(max(counts))][1]))
        best.sort(key=lambda item: (-item[0], item[1]))
        found = self._rows(catalog, [chunk for _, chunk in best[:limit]])
        return [
            Hit(found[chunk], float(n), {"exact": float(n)}, {"exact": float(n)})
            for n, chunk in best[:limit]
            if chunk in found
        ]

    def _ranked(self, catalog: Catalog, hints: Hints, below: Path, limit: int) -> tuple[list[Scored], list[str]]:
        """The best `limit` candidates of all engines, and what could not be looked at."""
        from ctxfs.index.features import as_columns, columns
        from ctxfs.index.fuse_ranks import fuse, mixed_weights

        assert self._words is not None
        query, notes = hints.query, []
        found: dict[str, dict[int, float]] = {}
        # Who is named in a question is one among many: what they say has places of its own among the candidates.
        questions = (
            [query, replace(query, authors=tuple(hints.authors))] if hints.authors and not query.authors else [query]
        )
        if query.mode != "meaning":
            found["words"] = {k: v for asked in questions for k, v in self._words.search(asked, below, POOL)}
            found["around"] = {k: v for asked in questions for k, v in self._words.search_around(asked, below, POOL)}
        vector = None
        if query.mode != "words":
            vector, note = self._vector(query)
            found["meaning"] = {}
            if vector is not None:
                for asked in questions:
                    found["meaning"].update(self._nearest(catalog, vector, asked, below))
            notes += [note] if note else []
            if self._behind and found["meaning"]:
                notes.append(self._behind)
        rows = catalog.candidates(sorted({chunk for scores in found.values() for chunk in scores}))
        if query.must or query.phrases or query.must_not:
            # Operators are about words: what the word index did not return does not satisfy them.
            satisfying = {chunk for chunk, _ in self._words.search(query, below, _SATISFYING)}
            rows = [row for row in rows if row[0] in satisfying]
        if self._overlay and query.mode != "meaning":
            own, near = self._overlay.search(query, below, self._words.question_terms(query), self._words.rarity)
            found["words"].update(own)
            found["around"].update(near)
            rows = [*self._overlay.candidates({*own, *near}), *rows]
        candidates = as_columns(rows, self._hidden)
        # Who is not among all that match says none of the words; who is not among the best may say some.
        complete = {name for name in ("words", "around") if len(found.get(name, ())) < POOL}
        signals = columns(candidates, found, hints, complete)
        if vector is not None and found["meaning"]:
            signals |= self._cosines(catalog, vector, candidates)
        return fuse(
            candidates.chunks,
            signals,
            mixed_weights(candidates.profiles()),
            ("meaning", "nearby") if self._behind else (),
            limit,
            _folder_numbers(catalog, candidates.files.tolist()) if candidates.turns.any() else None,
        ), notes

    def _vector(self, query: Query) -> tuple[Vectors | None, str]:
        """(the question as a vector, why there is none)."""
        if self._model is None:
            return None, "" if query.mode == "hybrid" else "search by meaning is switched off (index.meaning = false)"
        embedder = self._loaded()
        if embedder is None:
            return None, self._embedder_fault
        if not self._vectors.count:
            return None, "nothing has been embedded yet: words only for now"
        return (embedder.embed([query.plain])[0], "") if query.plain else (None, "")

    def _nearest(self, catalog: Catalog, vector: Vectors, query: Query, below: Path) -> list[tuple[int, float]]:
        """(chunk, cosine) of the nearest that pass the filters."""
        assert self._words is not None
        filtered = query.has_filters or bool(below.parts)
        allowed = self._words.allowed(query, below, _FILTER_EXACT) if filtered else None
        if allowed is not None:
            places = catalog.vectors_of(allowed)
            nearest = dict(self._vectors.search_among(vector, [number for _, _, number in places], POOL))
            scored = [(chunk, nearest[number]) for chunk, _, number in places if number in nearest]
        else:
            nearest = dict(self._vectors.search(vector, POOL * (4 if filtered else 1)))
            scored = [(chunk, nearest[number]) for number, chunk in catalog.chunks_with(list(nearest))]
            if filtered:
                passing = set(self._words.matching(query, below, _MATCHING))
                scored = [pair for pair in scored if pair[0] in passing]
        return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:POOL]

    def _cosines(self, catalog: Catalog, vector: Vectors, candidates: Candidates) -> dict[str, Column]:
        """How near each candidate is, whoever found it, and how near a turn is together with its neighbours."""
        import numpy as np

        from ctxfs.index.features import nearby_means

        reach = range(-NEIGHBOURS, NEIGHBOURS + 1)
        turns = {chunk + step for chunk in candidates.chunks[candidates.turns].tolist() for step in reach}
        near = np.array(catalog.vectors_of(sorted(turns)), dtype=np.int64).reshape(-1, 3)
        cosines = self._vectors.cosines(vector, np.concatenate([candidates.vectors, near[:, 2]]))
        out = {"meaning": cosines[: len(candidates.vectors)]}
        if turns:
            out["nearby"] = nearby_means(candidates, near[:, :2], cosines[len(candidates.vectors) :], NEIGHBOURS)
        return out

    def _rows(self, catalog: Catalog, chunks: Sequence[int]) -> dict[int, ChunkRow]:
        rows = catalog.chunk_rows([chunk for chunk in chunks if chunk > 0])
        return {**rows, **self._overlay.rows()} if self._overlay else rows

    def _hits(self, catalog: Catalog, scored: Sequence[Scored]) -> list[Hit]:
        rows = self._rows(catalog, [item.chunk for item in scored])
        return [Hit(rows[item.chunk], item.score, item.signals, item.shares) for item in scored if item.chunk in rows]


def _quoted(phrases: Sequence[str]) -> str:
    return ", ".join(f'"{phrase}"' for phrase in phrases)


def _folder_numbers(catalog: Catalog, files: Sequence[int]) -> list[int]:
    """A number for the folder of each file, equal for those in the same one."""
    numbers: dict[str, int] = {}
    paths = catalog.paths_of(set(files))
    folder_of = {file: numbers.setdefault(path.rpartition("/")[0], len(numbers)) for file, path in paths.items()}
    return [folder_of.get(file, -1) for file in files]


def _settled_stat(catalog: Catalog, path: str) -> FileStat | None:
    """How the index knows a file whose words are committed; an impossible value while they are not."""
    row = catalog.file(path)
    return None if row is None else row.stat if row.state != "pending" else (-1, -1, -1, -1)


def _behind(catalog: Catalog) -> str:
    """What to say while meaning has not caught up; empty when all but a few chunks are embedded."""
    waiting, total = catalog.count_waiting()
    if waiting <= max(_FEW, total // 10):
        return ""
    return f"meaning covers {total - waiting} of {total} chunks so far; words cover all"
