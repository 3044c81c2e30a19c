"""The full-text index. Only this file and `analyzers.py` import tantivy.

A document is one chunk: its number, its file's number, the words of text, heading and path, and exact filter terms.
`word_split.py` splits the text into words, and tantivy stems them.
"""

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path as HostPath

import tantivy

from ctxfs.index.engines.analyzers import analyse_split, build_analyzer, build_gram_analyzer
from ctxfs.index.engines.corruption import CorruptIndex, detect_corruption
from ctxfs.index.engines.fulltext_document import FullTextDocument, shift_second
from ctxfs.index.engines.question_terms import Alternatives, question_terms, weigh_question_terms
from ctxfs.index.engines.term_statistics import inverse_document_frequency
from ctxfs.index.engines.word_split import author_terms, split_phrase, split_words
from ctxfs.index.normal_form import fold_literal, fold_name
from ctxfs.index.query import Query
from ctxfs.memory.validity import FROM, UNTIL, validity_of
from ctxfs.model.path import Path, printable
from ctxfs.model.periods import Period

_ANALYZER = "ctxfs"
_WRITER_MEMORY_BYTES = 30_000_000
# While an index is open, tantivy retains every file name that it ever had: 1.6 KB a commit.
REOPEN_AFTER_COMMITS = 2000
_MAX_RESULTS = 10_000_000
# The searched fields and their boosts. `symbol` is the heading of code: the names of a function and its class.
# Measured by `benchmarks.quality` on the questions with an even number:
# manuals: heading 0.4 .736, 1.2 .681; functions: symbol 1.2 .426, 0.4 .393.
FIELDS = (("text", 1.0), ("heading", 0.4), ("symbol", 1.2), ("path", 0.6))
_AROUND = "around"
_GRAMS = "grams"
_GRAM_ANALYZER = "ctxfs-grams"
_CUT_MARK = "\x00\x01\x02"  # in the trigrams of a truncated chunk


def _build_schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("chunk", stored=False, indexed=True, fast=True)
    builder.add_unsigned_field("file", stored=False, indexed=True, fast=True)
    builder.add_unsigned_field("mtime", stored=False, indexed=True, fast=True)
    for name in ("said", FROM, UNTIL):
        builder.add_unsigned_field(name, stored=False, indexed=True, fast=True)
    for name in (*(name for name, _ in FIELDS), _AROUND):
        builder.add_text_field(name, stored=False, tokenizer_name=_ANALYZER)
    builder.add_float_field("confidence", stored=False, indexed=True, fast=True)
    builder.add_text_field(_GRAMS, stored=False, tokenizer_name=_GRAM_ANALYZER, index_option="basic")
    for name in ("under", "kind", "attribute", "author"):
        builder.add_text_field(name, stored=False, tokenizer_name="raw", index_option="basic")
    return builder.build()


def analyse(text: str) -> list[str]:
    """Return the index terms of the words of `text`, one a word, without their other forms."""
    return analyse_split(split_phrase(text))


_cached_split_words = lru_cache(maxsize=1024)(split_words)  # cached, because every chunk of a file has the same path


class FullText:
    """A reader of the full-text index; `writer` opens the one writer. Methods block: call them in a thread."""

    def __init__(self, folder: HostPath, *, make: bool = False) -> None:
        """Open the index in a folder; an absent index is empty. Raise CorruptIndex if it cannot be opened.

        With `make`, create an index that is absent, and replace one that cannot be opened.
        """
        self.folder = folder
        self._schema = _build_schema()
        self._exists = True
        self._refreshes = 0
        self._document_frequencies: dict[tuple[str, str], int] = {}
        try:
            self._open(make)
        except CorruptIndex:
            if not make:
                raise
            # Another schema or a damaged file: the index is derived data, so it is rebuilt.
            shutil.rmtree(folder)
            self._open(make)
        self._grams = build_gram_analyzer()

    def _open(self, make: bool) -> None:
        self._exists = make or (self.folder / "meta.json").exists()
        if make:
            self.folder.mkdir(parents=True, exist_ok=True)
        with detect_corruption("words"):
            self._index = tantivy.Index(self._schema, path=str(self.folder) if self._exists else None)
            self._index.register_tokenizer(_ANALYZER, build_analyzer())
            self._index.register_tokenizer(_GRAM_ANALYZER, build_gram_analyzer())
            self._index.config_reader("manual")
            self._searcher = self._index.searcher()

    def refresh(self) -> None:
        """Load the newest commit."""
        self._refreshes += 1
        if not self._exists or self._refreshes % REOPEN_AFTER_COMMITS == 0:
            self._open(make=False)
        with detect_corruption("words"):
            self._index.reload()
            self._searcher = self._index.searcher()
        self._document_frequencies.clear()

    @property
    def count(self) -> int:
        """The number of chunks in the index, as of the last refresh."""
        return int(self._searcher.num_docs)

    def writer(self) -> "FullTextWriter":
        """Open the one writer. Raise ValueError while another process has it."""
        return FullTextWriter(self._writer, self._schema)

    def _writer(self, *, should_reopen: bool) -> tantivy.IndexWriter:
        if should_reopen:
            self._open(make=True)
        return self._index.writer(_WRITER_MEMORY_BYTES, 1)

    def search(self, query: Query, below: Path, limit: int) -> list[tuple[int, float]]:
        """Return (chunk, BM25 score) of the best `limit` chunks that pass the filters, best first."""
        search_query = self._build_query(query, below)
        return [] if search_query is None else self._run_query(search_query, limit)

    def search_around(self, query: Query, below: Path, limit: int) -> list[tuple[int, float]]:
        """Return the result of `search` over the words of small chunks with their neighbours (dialogue turns)."""
        search_query = self._build_query(query, below, around=True)
        return [] if search_query is None else self._run_query(search_query, limit)

    def count_passing(self, query: Query, below: Path) -> int | None:
        """Return the number of chunks that pass the filters, regardless of the words; None without filters."""
        filters = self._build_filters(query, below)
        if not filters:
            return None
        filter_query = tantivy.Query.boolean_query(filters)
        with detect_corruption("words"):
            result = self._searcher.search(filter_query, 1, count=True)
        return int(result.count or 0)  # type: ignore[attr-defined]  # the stubs do not have it

    def filter_chunks(self, query: Query, below: Path, chunks: Collection[int]) -> set[int]:
        """Return those of `chunks` that pass the filters."""
        among = tantivy.Query.term_set_query(self._schema, "chunk", list(chunks))
        filters = self._build_filters(query, below)
        filter_query = tantivy.Query.boolean_query([(tantivy.Occur.Must, among), *filters])
        return {
            chunk
            for chunk, _ in self._run_query(tantivy.Query.const_score_query(filter_query, 0.0), max(len(chunks), 1))
        }

    def chunks_passing(self, query: Query, below: Path, limit: int) -> list[int]:
        """Return at most `limit` chunks that pass the filters, regardless of the words, in no particular order."""
        filters = self._build_filters(query, below)
        return [chunk for chunk, _ in self._run_query(tantivy.Query.boolean_query(filters), limit)] if filters else []

    def newest_passing(self, query: Query, below: Path, limit: int) -> list[int]:
        """Return at most `limit` chunks that pass the filters and have a time of the message, the last one first."""
        filters = self._build_filters(replace(query, said=(query.said[0] or 0, query.said[1])), below)
        with detect_corruption("words"):
            searcher, by = self._searcher, tantivy.Query.boolean_query(filters)
            hits = searcher.search(by, limit, count=False, order_by_field="said").hits
            chunks = searcher.fast_field_values("chunk", [address for _, address in hits])
        return [int(chunk) for chunk in chunks if chunk is not None]

    def files_with_literals(
        self, needed: Sequence[Collection[str]], below: Path, labels: Sequence[tuple[str, str]] = ()
    ) -> list[int]:
        """Return the sorted numbers of the files with a chunk that may contain a text of each set in `needed`.

        The chunk has all of these labels.

        Each text has three characters or more in the form of `fold_literal`.
        """
        options = ([self._build_literal_query(text) for text in texts] for texts in needed)
        required = [(tantivy.Occur.Must, _combine_any(parts)) for parts in options]
        literal_query = tantivy.Query.boolean_query(required) if required else tantivy.Query.all_query()
        candidate_query = _combine_any([literal_query, self._build_term_query(_GRAMS, _CUT_MARK)])
        clauses = [(tantivy.Occur.Must, candidate_query)]
        if not below.is_root:
            clauses.append((tantivy.Occur.Must, self._build_term_query("under", printable(str(below)))))
        clauses += [(tantivy.Occur.Must, self._build_attribute_query(*label)) for label in labels]
        with detect_corruption("words"):
            searcher = self._searcher
            hits = searcher.search(
                tantivy.Query.const_score_query(tantivy.Query.boolean_query(clauses), 0.0), _MAX_RESULTS, count=False
            ).hits
            files = searcher.fast_field_values("file", [address for _, address in hits])
        return sorted({int(file) for file in files if file is not None})

    def _build_literal_query(self, text: str) -> tantivy.Query:
        grams = dict.fromkeys(self._grams.analyze(fold_literal(text)))
        return tantivy.Query.boolean_query(
            [(tantivy.Occur.Must, self._build_term_query(_GRAMS, gram)) for gram in grams]
        )

    def terms(self, text: str) -> list[str]:
        """Return the index terms of `text`."""
        return analyse(text)

    def question_terms(self, query: Query) -> list[Alternatives]:
        """Return the distinct terms of a query's words, without function words, each with its other forms."""
        return question_terms(query.words, query.aliases)

    def repetitions(self, query: Query) -> dict[str, float]:
        """Return the weights of the terms that a query repeats, and of corrected ones; all others weigh 1."""
        return {term: weight for terms, weight in weigh_question_terms(query).items() if weight != 1 for term in terms}

    def required_terms(self, query: Query) -> list[str]:
        """Return the terms of the phrases and words that a query requires."""
        return [term for text in (*query.phrases, *query.must) for term in self.terms(text)]

    def select_indexed(self, terms: Sequence[str]) -> list[str]:
        """Return the distinct ones of many terms that a text contains; deleted chunks may still count."""
        count = self._searcher.doc_freq
        return [term for term in dict.fromkeys(terms) if count("text", term)]

    def idf(self, term: str) -> float:
        """Return the inverse document frequency of a term in BM25, as of the last refresh."""
        searcher = self._searcher
        return inverse_document_frequency(searcher.num_docs, searcher.doc_freq("text", term))

    def count_chunks_with(self, term: str, field: str = "text") -> tuple[int, int]:
        """Return (number of chunks with a term in a field, number of chunks); deleted chunks may still count."""
        return int(self._searcher.doc_freq(field, term)), int(self._searcher.num_docs)

    def document_frequency(self, field: str, term: str) -> int:
        """Return the number of living chunks with a term in a field, as of the last refresh.

        Deleted chunks do not count.
        """
        count = self._document_frequencies.get((field, term))
        if count is None:
            term_query = tantivy.Query.const_score_query(self._build_term_query(field, term), 0.0)
            with detect_corruption("words"):
                result = self._searcher.search(term_query, 1, count=True)
            count = self._document_frequencies[field, term] = int(result.count or 0)  # type: ignore[attr-defined]  # the stubs do not have it
        return count

    def files_with_term(self, field: str, term: str) -> list[int]:
        """Return the file of each living chunk that has a term in a field."""
        term_query = tantivy.Query.const_score_query(self._build_term_query(field, term), 0.0)
        with detect_corruption("words"):
            hits = self._searcher.search(term_query, _MAX_RESULTS, count=False).hits
            files = self._searcher.fast_field_values("file", [address for _, address in hits])
        return [int(file) for file in files if file is not None]

    def _run_query(self, query: tantivy.Query, limit: int) -> list[tuple[int, float]]:
        with detect_corruption("words"):
            searcher = self._searcher
            hits = searcher.search(query, limit, count=False).hits
            chunks = searcher.fast_field_values("chunk", [address for _, address in hits])
        return [(int(chunk), float(score)) for chunk, (score, _) in zip(chunks, hits, strict=True) if chunk is not None]

    def _build_query(self, query: Query, below: Path, around: bool = False) -> tantivy.Query | None:
        fields = ((_AROUND, 1.0),) if around else FIELDS
        should = [
            tantivy.Query.boost_query(self._build_alternatives_query(terms, fields), weight)
            for terms, weight in weigh_question_terms(query).items()
        ]
        clauses: list[tuple[tantivy.Occur, tantivy.Query]] = [(tantivy.Occur.Should, part) for part in should]
        for required in (*query.phrases, *query.must):
            phrase = self._build_phrase_query(required)
            if phrase is not None:
                clauses.append((tantivy.Occur.Must, phrase))
        if not clauses:
            return None
        for excluded in query.must_not:
            phrase = self._build_phrase_query(excluded)
            if phrase is not None:
                clauses.append((tantivy.Occur.MustNot, phrase))
        search_query = tantivy.Query.boolean_query(clauses)
        filters = self._build_filters(query, below)
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, search_query), *filters]) if filters else search_query

    def _build_filters(self, query: Query, below: Path) -> list[tuple[tantivy.Occur, tantivy.Query]]:
        """Return the clauses that filter without scoring."""
        groups: list[list[tantivy.Query]] = []
        if not below.is_root:
            groups.append([self._build_term_query("under", printable(str(below)))])
        if query.paths:
            groups.append([self._build_path_query(path) for path in query.paths])
        if query.kinds:
            groups.append(self._build_kind_queries(query))
        if query.authors:
            groups.append([self._build_term_query("author", fold_name(name)) for name in query.authors])
        groups.extend([self._build_attribute_query(*attribute)] for attribute in query.attributes)
        if query.confidence is not None:
            low, high = query.confidence
            groups.append([tantivy.Query.range_query(self._schema, "confidence", tantivy.FieldType.Float, low, high)])
        for field, start, end in query.time_ranges:
            number = tantivy.FieldType.Unsigned
            groups.append([tantivy.Query.range_query(self._schema, field, number, start or 0, end)])
        if query.valid is not None:
            groups.append([self._build_validity_query(query.valid)])
        if query.with_states:
            groups.append([self._build_state_query(state) for state in query.with_states])
        excluded = [self._build_term_query("kind", kind) for kind in query.without_kinds]
        excluded += [self._build_attribute_query(*attribute) for attribute in query.without_attributes]
        states = (state for state in query.without_states if self.document_frequency("attribute", f"state={state}"))
        excluded += [self._build_state_query(state) for state in states]
        if excluded:
            clauses = [(tantivy.Occur.MustNot, part) for part in excluded]
            groups.append([tantivy.Query.boolean_query([(tantivy.Occur.Must, tantivy.Query.all_query()), *clauses])])
        return [
            (tantivy.Occur.Must, tantivy.Query.const_score_query(_combine_any(parts), 0.0)) for parts in groups if parts
        ]

    def _build_attribute_query(self, name: str, value: str) -> tantivy.Query:
        return self._build_term_query("attribute", f"{name}={fold_name(value)}")

    def _build_kind_queries(self, query: Query) -> list[tantivy.Query]:
        """Match kinds of files, types in front matter, and files in folders of a kind, without those of other kinds."""
        excluded = [(tantivy.Occur.MustNot, self._build_term_query("kind", kind)) for kind in query.kind_folders.others]
        under = ((tantivy.Occur.Must, self._build_term_query("under", path)) for path in query.kind_folders.folders)
        parts = [tantivy.Query.boolean_query([part, *excluded]) for part in under]
        types = (self._build_attribute_query("kind", kind) for kind in query.kinds)
        return [*parts, *types, *(self._build_term_query("kind", kind) for kind in query.kinds)]

    def _build_state_query(self, state: str) -> tantivy.Query:
        return self._build_term_query("attribute", f"state={state}")

    def _build_validity_query(self, period: Period) -> tantivy.Query:
        """Match the chunks of files that are valid in a part of a period; files without the attributes always are."""
        ranges = ((FROM, period[1] + 1, None), (UNTIL, None, period[0] - 1))
        excluded = [(tantivy.Occur.MustNot, self._build_validity_range(*limits)) for limits in ranges]
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, tantivy.Query.all_query()), *excluded])

    def _build_validity_range(self, name: str, low: int | None, high: int | None) -> tantivy.Query:
        start, end = 0 if low is None else shift_second(low), None if high is None else shift_second(high)
        return tantivy.Query.range_query(self._schema, name, tantivy.FieldType.Unsigned, start, end)

    def has_ended(self, now: float | None) -> bool:
        """Return True if a chunk is of a file whose validity ended before `now` (seconds since the epoch), or None: ends."""
        ended = self._build_validity_range(UNTIL, None, None if now is None else int(now) - 1)
        with detect_corruption("words"):
            return bool(self._searcher.search(ended, 1, count=True).count)  # type: ignore[attr-defined]

    def _build_path_query(self, path: str) -> tantivy.Query:
        """Match a path from the root (`path:knowledge/handbook`), or words anywhere in the path (`path:handbook`)."""
        anywhere = [(tantivy.Occur.Must, self._build_term_query("path", term)) for term in self.terms(path)]
        exact = self._build_term_query("under", path)
        return _combine_any([exact, tantivy.Query.boolean_query(anywhere)]) if anywhere else exact

    def _build_term_query(self, field: str, value: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, field, value)

    def _build_alternatives_query(
        self, terms: Sequence[str], fields: Sequence[tuple[str, float]] = FIELDS
    ) -> tantivy.Query:
        """Match any of the terms in any of the fields; the best match counts, and a fifth of the others."""
        parts = [
            tantivy.Query.boost_query(self._build_term_query(field, term), boost)
            for term in terms
            for field, boost in fields
        ]
        return parts[0] if len(parts) == 1 else tantivy.Query.disjunction_max_query(parts, 0.2)

    def _build_phrase_query(self, text: str) -> tantivy.Query | None:
        terms = self.terms(text)
        if not terms:
            return None
        if len(terms) == 1:
            return self._build_alternatives_query(terms[:1])
        return _combine_any([tantivy.Query.phrase_query(self._schema, field, list(terms)) for field, _ in FIELDS])


def _combine_any(parts: Sequence[tantivy.Query]) -> tantivy.Query:
    return parts[0] if len(parts) == 1 else tantivy.Query.boolean_query([(tantivy.Occur.Should, p) for p in parts])


class FullTextWriter:
    """The one writer of a full-text index. Nothing is visible, or survives a crash, before `commit`."""

    def __init__(self, make: Callable[..., tantivy.IndexWriter], schema: tantivy.Schema) -> None:
        self._make = make
        self._writer: tantivy.IndexWriter | None = make(should_reopen=False)
        self._schema = schema
        self._commits = 0

    def close(self) -> None:
        """Release the index for the next writer and drop uncommitted changes. Call no other method afterwards."""
        self._writer = None

    def remove_file(self, file: int) -> None:
        """Remove every chunk of a file, if there is any."""
        # Not by term, because tantivy takes a bare number for a signed one, which no document has.
        self._open().delete_documents_by_query(tantivy.Query.term_query(self._schema, "file", file))

    def add(self, document: FullTextDocument) -> None:
        """Add one chunk. After `remove_file` of its file this is an idempotent replacement."""
        out = tantivy.Document()
        out.add_unsigned("chunk", document.chunk)
        out.add_unsigned("file", document.file)
        out.add_unsigned("mtime", max(0, document.mtime_ns))
        if document.said is not None:
            out.add_unsigned("said", max(0, document.said))
        out.add_text("text", document.text)
        out.add_text(_GRAMS, fold_literal(document.raw_text))
        if document.is_truncated:
            out.add_text(_GRAMS, _CUT_MARK)
        if document.neighbourhood:
            out.add_text(_AROUND, document.neighbourhood)
        if document.author:
            for name in author_terms(document.author):
                out.add_text("author", name)
        out.add_text("symbol" if document.kind == "code" else "heading", _cached_split_words(document.heading))
        path = printable(document.path)
        out.add_text("path", _cached_split_words(path))
        out.add_text("kind", document.kind)
        for name, value in document.attributes:
            if name != "cites":  # 2 KB that no filter matches
                out.add_text("attribute", f"{name}={fold_name(printable(value))}")
        validity = validity_of(dict(document.attributes))
        for name, second in ((FROM, validity.first), (UNTIL, validity.last)):
            if second is not None:
                out.add_unsigned(name, shift_second(second))
        if document.confidence is not None:
            out.add_float("confidence", document.confidence)
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            out.add_text("under", "/".join(parts[:depth]))
        self._open().add_document(out)

    def clear(self) -> None:
        """Remove every chunk."""
        self._open().delete_all_documents()

    def commit(self) -> None:
        """Make the changes durable, and visible to the next refresh."""
        with detect_corruption("words"):
            self._open().commit()
        self._commits += 1
        if self._commits % REOPEN_AFTER_COMMITS == 0:
            writer, self._writer = self._open(), None
            writer.wait_merging_threads()
            del writer
            self._writer = self._make(should_reopen=True)

    def _open(self) -> tantivy.IndexWriter:
        assert self._writer is not None, "the writer was closed"
        return self._writer
