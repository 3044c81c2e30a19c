"""Test that records of the event log are found as messages, at once and exactly once,
also if their files are cut, compressed or erased.
"""

import contextlib
import gzip
import os
from collections.abc import Hashable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxfs.eventlog.log import EventLog
from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.catalog_schema import tree_path
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.extract.session_parts import PART_BYTES
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import parse_query
from ctxfs.index.search.grep import Matcher, scan
from ctxfs.index.search.results import Hit
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.path import ROOT
from ctxfs.model.path import Path as TreePath

TODAY = datetime.now(UTC).date().isoformat()
TOMORROW = datetime.now(UTC).date() + timedelta(days=1)


class Store:
    """An event log and a folder of files, their index driven by hand, and a searcher that receives changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.corpus = folder / "corpus"
        self.corpus.mkdir(parents=True)
        self.log = EventLog(folder / "history")
        self.root = IndexedRoot("history", str(folder / "history"), gitignore=False, holds_records=True)
        self.roots = [self.root, IndexedRoot("knowledge/c", str(self.corpus))]
        self.ingester = open_ingester(folder / "index", self.roots)
        self.searcher = Searcher(folder / "index", None)
        self.searcher.set_roots(self.roots)
        self.searcher.refresh()

    def close(self) -> None:
        self.ingester.close()
        self.searcher.close()

    def append(self, *texts: str, session: str = "s", **members: object) -> None:
        bodies = [{"principal": "agent:a", "kind": "output", "text": text, **members} for text in texts]
        self.log.append(session, bodies)
        self.report(session)

    def report(self, session: str = "s", suffix: str = ".jsonl") -> None:
        self.searcher.report_changes(self.root, [(TODAY, session + suffix)])

    def index(self) -> None:
        self.ingester.scan_all()
        self.searcher.refresh()

    def file(self, session: str = "s") -> Path:
        return self.folder / "history" / TODAY / f"{session}.jsonl"

    def search(self, question: str, below: TreePath = ROOT) -> list[Hit]:
        return list(self.searcher.search(parse_query(f"mode:words {question}"), below, 100).hits)

    def lines(self, question: str, below: TreePath = ROOT) -> list[tuple[str, int]]:
        return sorted({(hit.path, hit.chunk.first) for hit in self.search(question, below)})


def open_ingester(folder: Path, roots: list[IndexedRoot]) -> Ingester:
    ingester = Ingester(Catalog(folder), FullText(folder / "words", make=True), 1_000_000, lambda _: None)
    ingester.recover()
    ingester.set_roots(roots)
    ingester.scan_all()
    return ingester


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.close()


def test_record_is_found_at_once_and_is_the_same_hit_when_it_is_indexed(store: Store) -> None:
    store.append("We move the Zanzibar cluster.", said_at="2023-05-08T13:56:00Z", speaker="Melanie")
    (before,) = store.search("zanzibar")
    store.index()
    (after,) = store.search("zanzibar")
    for hit in (before, after):
        assert (hit.path, hit.chunk.first, hit.chunk.last) == (f"history/{TODAY}/s.jsonl", 1, 1)
        assert hit.chunk.text == "Melanie: We move the Zanzibar cluster."
        assert (hit.chunk.author, hit.chunk.kind) == ("Melanie", "history")
        assert hit.chunk.said == int(datetime(2023, 5, 8, 13, 56, tzinfo=UTC).timestamp())
    assert before.chunk.id < 0 < after.chunk.id


def test_line_of_a_hit_is_that_of_its_file_in_every_part(store: Store) -> None:
    store.append(*(f"message{number} about nothing " + "filler " * 40 for number in range(600)))
    assert store.file().stat().st_size > 3 * PART_BYTES
    store.index()
    lines = store.file().read_text().splitlines()
    for number in (0, 1, 99, 250, 598, 599):
        ((path, line),) = store.lines(f"+message{number}")
        assert f"message{number} " in lines[line - 1]
        assert path == f"history/{TODAY}/s.jsonl"


def test_full_parts_are_not_stored_again(store: Store) -> None:
    store.append(*("filler " * 60 for _ in range(500)))
    store.index()
    catalog = Catalog(store.folder / "index", read_only=True)
    before = {row.path: catalog.chunks_of(row.id)[0][0] for row in catalog.files_of("history").values()}
    store.append("zanzibar")
    store.index()
    after = {row.path: catalog.chunks_of(row.id)[0][0] for row in catalog.files_of("history").values()}
    catalog.close()
    changed = {path for path in after if before.get(path) != after[path]}
    assert changed == {max(after)}
    assert len(after) > 3


def test_unchanged_files_are_not_opened_by_a_scan(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append("zanzibar")
    store.index()
    monkeypatch.setattr("ctxfs.index.ingest.session_store.open_content", lambda *_: pytest.fail("the file was opened"))
    store.index()
    assert store.lines("zanzibar")


def test_torn_line_is_no_record_until_it_is_complete(store: Store) -> None:
    store.append("first")
    whole = store.file().read_bytes()
    store.append("zanzibar")
    line = store.file().read_bytes()[len(whole) :]
    for cut in (1, 30, len(line) - 1):
        store.file().write_bytes(whole + line[:cut])
        store.report()
        store.index()
        assert not store.lines("+zanzibar")
        assert store.lines("+first")
    store.file().write_bytes(whole + line)
    store.report()
    assert store.lines("+zanzibar") == [(f"history/{TODAY}/s.jsonl", 2)]
    store.index()
    assert store.lines("+zanzibar") == [(f"history/{TODAY}/s.jsonl", 2)]


def test_append_that_was_rolled_back_leaves_no_hit(store: Store) -> None:
    store.append("first")
    whole = store.file().read_bytes()
    store.append(*(f"zanzibar {number} " + "filler " * 60 for number in range(400)))
    store.index()
    with store.file().open("r+b") as file:  # the same inode, as `EventLog` recovers
        file.truncate(len(whole))
    store.append(*(f"otter {number} " + "filler " * 80 for number in range(700)))
    store.index()
    assert not store.lines("zanzibar")
    assert len(store.lines("+otter")) == 100
    assert fresh_lines(store, "new") == store_lines(store)


@pytest.mark.parametrize("indexed", [False, True])
def test_erased_session_is_not_found_before_it_is_indexed_again(store: Store, indexed: bool) -> None:
    store.append("zanzibar is the secret")
    store.append("zanzibar elsewhere", session="other")
    if indexed:
        store.index()
    assert len(store.lines("zanzibar")) == 2
    store.log.erase_session("s", "human:ada")
    store.searcher.drop_memory()  # as the erasure does, without a report
    if not indexed:
        store.report("other")
    assert store.lines("zanzibar") == [(f"history/{TODAY}/other.jsonl", 1)]
    store.index()
    assert store.lines("zanzibar") == [(f"history/{TODAY}/other.jsonl", 1)]


def test_large_erased_session_is_hidden_at_once(store: Store) -> None:
    store.append(*(f"zanzibar {number} " + "filler " * 80 for number in range(800)))
    store.index()
    store.log.erase_session("s", "human:ada")
    store.report()
    assert not store.lines("zanzibar")
    store.index()
    assert not store.lines("zanzibar")


def test_purge_leaves_no_trace_of_erased_records(store: Store) -> None:
    store.append("the zanzibarsecret of the otters")
    store.append("open")
    store.index()
    store.log.erase_session("s", "human:ada")
    store.ingester.purge()
    store.searcher.refresh()
    data = b"".join(file.read_bytes() for file in (store.folder / "index").rglob("*") if file.is_file())
    assert b"zanzibarsecret" not in data


def test_compressed_session_is_found_as_before(store: Store) -> None:
    store.append(*(f"zanzibar {number} " + "filler " * 60 for number in range(300)))
    store.index()
    before = store.lines("zanzibar")
    assert store.log.compress_before(TOMORROW) == 1
    store.report(suffix=".jsonl.gz")
    store.report()
    store.index()
    assert store.lines("zanzibar") == before
    root = store.root
    matches, faults = scan([(root, (TODAY, "s.jsonl"))], Matcher("zanzibar 29[0-9]"))
    assert [line.number for line in matches] == list(range(291, 301))
    assert not faults


def test_rebuilt_index_has_the_records_of_compressed_days(store: Store) -> None:
    store.append("zanzibar")
    store.log.compress_before(TOMORROW)
    store.ingester.rebuild()
    store.searcher.refresh()
    assert store.lines("zanzibar") == [(f"history/{TODAY}/s.jsonl", 1)]


def test_record_of_any_size_is_found_by_its_head(store: Store) -> None:
    store.append("zanzibar " + "x y " * 400_000 + "otter", kind="tool_result")
    store.append("after")
    (hit,) = store.search("+zanzibar")
    assert hit.chunk.first == 1
    assert not store.lines("+otter")
    store.index()
    assert store.lines("+zanzibar") == [(f"history/{TODAY}/s.jsonl", 1)]
    assert store.lines("+after") == [(f"history/{TODAY}/s.jsonl", 2)]
    assert sum(len(hit.chunk.text) for hit in store.search("kind:history")) < 100_000


def test_long_message_has_its_speaker_in_each_piece(store: Store) -> None:
    store.append("\n".join(f"sentence {number} of the long answer about otters." for number in range(200)))
    store.index()
    hits = store.search("otters")
    assert len(hits) > 5
    assert all(hit.chunk.text.startswith("assistant: ") and hit.chunk.author == "assistant" for hit in hits)
    assert {hit.chunk.first for hit in hits} == {1}


def test_actions_of_ctxfs_and_the_audit_are_not_found(store: Store) -> None:
    store.append("zanzibar", kind="load", task="t")
    store.append("", kind="tool_call", origin="ctxfs", tool="summarise", arguments='{"text": "zanzibar"}')
    audit = EventLog(store.folder / "history" / "audit")
    audit.append("audit", [{"principal": "agent:a", "op": "read", "text": "zanzibar"}])
    store.searcher.report_changes(store.root, [("audit", TODAY, "audit.jsonl"), ("head",), ()])
    assert not store.lines("zanzibar")
    store.ingester.index_changes([("history", ("audit", TODAY, "audit.jsonl")), ("history", ("head",))])
    store.index()
    assert not store.lines("zanzibar")


FILTERED = {
    "kind:history zanzibar": {1, 2, 3},
    "session:s zanzibar": {1, 2, 3},
    "session:client-7 zanzibar": {1, 2, 3},
    "session:other zanzibar": set(),
    "zanzibar -session:t": {1, 2, 3},
    "zanzibar -session:client-7": set(),
    'zanzibar -session:"s"': set(),
    "kind:history -session:t": {1, 2, 3},
    "speaker:melanie zanzibar": {1},
    "author:Melanie zanzibar": {1},
    "said:2023 zanzibar": {1, 2},
    "said:>2023-05-08 zanzibar": {2, 3},
    "said:>=2023-05-08 zanzibar": {1, 2, 3},
    "said:2023-05-08T13:56 zanzibar": {1},
    "said:<2023-06 zanzibar": {1},
    "said:>2023-05 said:<2024 zanzibar": {2},
    "said:<1970-01-01 zanzibar": set(),
    "kind:fact zanzibar": set(),
    "said:>2023-05-08": {2, 3},
    "speaker:Melanie": {1},
    "session:s": {1, 2, 3},
    "kind:history said:2023": {1, 2},
}


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("question", FILTERED)
def test_filters_apply_to_records(store: Store, question: str, indexed: bool) -> None:
    (store.corpus / "zanzibar.md").write_text("# About\n\nThe island of Zanzibar.\n")
    store.index()
    store.append("zanzibar one", speaker="Melanie", said_at="2023-05-08T13:56:00Z", client_session="client-7")
    store.append("zanzibar two", said_at="2023-11-02")
    store.append("zanzibar three")
    store.append("zanzibar four", session="t", said_at="not a time")
    if indexed:
        store.index()
    lines = {line for path, line in store.lines(question) if path.endswith("/s.jsonl")}
    assert lines == FILTERED[question]


def test_newest_records_come_first_without_words(store: Store) -> None:
    for number in range(8):
        store.append(f"record {number}", said_at=f"2023-0{number + 1}-01", session=f"s{number % 3}")
    store.index()
    hits = store.searcher.search(parse_query("kind:history"), ROOT, 3).hits
    assert [hit.chunk.text for hit in hits] == [f"assistant: record {number}" for number in (7, 6, 5)]


def test_filters_of_files_list_no_records(store: Store) -> None:
    (store.corpus / "a.md").write_text("about otters\n")
    store.append("about otters")
    store.index()
    assert [hit.path for hit in store.search("since:1h")] == ["knowledge/c/a.md"]


def test_records_do_not_displace_the_files_that_they_quote(store: Store) -> None:
    texts = [f"The module{number} opens the door of room {number} with a key.\n" for number in range(12)]
    for number, text in enumerate(texts):
        (store.corpus / f"module{number}.md").write_text(f"# Module {number}\n\n{text}")
    store.index()
    questions = [f"which key opens the door of room {number}" for number in range(12)]
    before = [[hit.path for hit in store.search(question)][:3] for question in questions]
    for text in texts:
        store.append(*(f"I read that {text.strip()}" for _ in range(30)), session="quotes")
    store.index()
    for question, expected in zip(questions, before, strict=True):
        paths = [hit.path for hit in store.search(question)]
        assert [path for path in paths if path.startswith("knowledge/")][:3] == expected
        assert paths[0] == expected[0]


def test_record_precedes_files_that_do_not_answer(store: Store) -> None:
    (store.corpus / "a.md").write_text("about the weather and the sea\n")
    store.append("We chose otter as the mascot of the sea team.")
    store.index()
    assert store.search("which mascot for the sea team, otter?")[0].path.startswith("history/")


@pytest.mark.parametrize("is_indexed", [True, False])
def test_exact_search_finds_lines_of_messages(store: Store, is_indexed: bool) -> None:
    store.append('he wrote "quoted"\nand a second line: C:\\temp', "nothing")
    if is_indexed:
        store.index()
    for pattern in ('"quoted"', r"second line: C:\\temp", "^and", "^assistant: he"):
        matcher = Matcher(pattern)
        paths = store.searcher.candidate_files(matcher.needed, ROOT)
        assert paths == [f"history/{TODAY}/s.jsonl"]
        lines, _ = scan([(store.root, (TODAY, "s.jsonl"))], matcher)
        assert [line.number for line in lines] == [1]


class Stranger:
    """A reader that may read one session."""

    key: Hashable = "stranger"

    @property
    def sees_quarantined(self) -> bool:
        return False

    def may_read(self, path: str) -> bool:
        return not path.startswith("history/") or path.endswith("/mine.jsonl")


QUESTIONS = ("zanzibar", "otter lock", '"zanzibar lock"', "kind:history", "kind:history otter", "said:2023", "speaker:Bob",
             "session:secret", "mode:exact zanzibar", "Bob otter", "mode:hybrid zanzibar lock")  # fmt: skip


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("question", QUESTIONS)
def test_record_that_a_reader_may_not_read_changes_no_answer(tmp_path: Path, question: str, indexed: bool) -> None:
    answers = []
    for name in ("without", "with"):
        store = Store(tmp_path / name)
        (store.corpus / "a.md").write_text("# Otters\n\nAn otter swims past the lock.\n")
        store.index()
        store.append("my otter", "and my lock", session="mine", said_at="2023-05-08")
        if name == "with":
            texts = [f"zanzibar lock of the otter {number}" for number in range(30)]
            store.append(*texts, session="secret", speaker="Bob", said_at="2023-05-08")
        if indexed:
            store.index()
        searcher = Searcher(store.folder / "index", None, reader=Stranger)
        searcher.set_roots(store.roots)
        searcher.refresh()
        if not indexed:
            searcher.report_changes(store.root, [()])
        result = searcher.search(parse_query(question), ROOT, 50)
        hits = [(hit.path, hit.chunk.first, hit.chunk.text, round(hit.score, 6), hit.p) for hit in result.hits]
        answers.append((hits, result.notes, result.remarks, result.answer))
        searcher.close()
        store.close()
    assert answers[0] == answers[1]


def store_lines(store: Store) -> list[tuple[str, int, str]]:
    catalog = Catalog(store.folder / "index", read_only=True)
    lines = index_lines(catalog)
    catalog.close()
    return lines


def index_lines(catalog: Catalog) -> list[tuple[str, int, str]]:
    return sorted(
        (tree_path(row.path), chunk[4], chunk[2])
        for row in catalog.files_of("history").values()
        for chunk in catalog.chunks_of(row.id)
    )


def fresh_lines(store: Store, name: str) -> list[tuple[str, int, str]]:
    open_ingester(store.folder / f"index-{name}", store.roots).close()
    catalog = Catalog(store.folder / f"index-{name}", read_only=True)
    lines = index_lines(catalog)
    catalog.close()
    return lines


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["append", "append", "append", "big", "forget", "pack", "torn", "index", "index one", "reopen"]
        ),
        st.sampled_from(["a", "b"]),
    ),
    min_size=3,
    max_size=12,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OPERATIONS)
def test_index_equals_a_new_one_after_any_changes(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str]]
) -> None:
    store = Store(tmp_path_factory.mktemp("any"))
    packed: set[str] = set()
    for step, (operation, session) in enumerate(operations):
        if operation == "append" and session not in packed:
            store.append(f"step{step} of {session}", session=session)
        elif operation == "big" and session not in packed:
            store.append(*(f"step{step} {number} " + "filler " * 60 for number in range(200)), session=session)
        elif operation == "forget" and session in store.log.sessions(TODAY):
            with contextlib.suppress(FileNotFoundError):
                store.log.erase_session(session, "human:ada")
            store.report(session)
        elif operation == "pack" and not packed:
            packed = set(store.log.sessions(TODAY))
            store.log.compress_before(TOMORROW)
            store.searcher.report_changes(store.root, [(TODAY,)])
        elif operation == "torn" and store.file(session).exists():
            with store.file(session).open("ab") as file:
                file.write(b'{"seq": 99, "kind": "output", "text": "torn')
            os.truncate(store.file(session), store.file(session).stat().st_size - 43)
            store.report(session)
        elif operation == "index":
            store.index()
        elif operation == "index one":
            store.ingester.index_changes([("history", (TODAY, f"{session}.jsonl"))])
            store.searcher.refresh()
        elif operation == "reopen":
            store.searcher.drop_memory()
    lines = fresh_lines(store, "new")
    living = {text for _, _, text in lines}
    for step in range(len(operations)):
        shown = {hit.chunk.text for hit in store.search(f"step{step}")}
        assert shown <= living
    store.index()
    assert store_lines(store) == lines
    store.close()


def test_compressed_file_of_any_bytes_costs_only_itself(store: Store) -> None:
    store.append("zanzibar")
    store.append("otter", session="t")
    store.log.compress_before(TOMORROW)
    file = store.folder / "history" / TODAY / "s.jsonl.gz"
    for data in (b"", b"no gzip", gzip.compress(b"\x00\xff" * 50_000), file.read_bytes()[:-9]):
        file.write_bytes(data)
        store.searcher.report_changes(store.root, [(TODAY,)])
        store.index()
        assert store.lines("otter") == [(f"history/{TODAY}/t.jsonl", 1)]


def lines_of_principal(store: Store, question: str, principal: str) -> list[int]:
    query = replace(parse_query(f"mode:words {question}"), attributes=(("principal", principal),))
    hits = store.searcher.search(query, TreePath(("history",)), 100).hits
    return sorted({hit.chunk.first for hit in hits})


def test_records_of_a_principal_are_selected_within_a_shared_session(store: Store) -> None:
    for number in range(6):
        store.append(f"zanzibar {number}", principal=f"agent:{'ab'[number % 2]}")
    store.append("zanzibar alone", session="own", principal="agent:c")
    store.index()
    assert lines_of_principal(store, "zanzibar", "agent:a") == [1, 3, 5]
    assert lines_of_principal(store, "zanzibar", "agent:b") == [2, 4, 6]
    assert lines_of_principal(store, "zanzibar", "agent:c") == [1]
    assert lines_of_principal(store, "zanzibar", "agent:d") == []


def test_parts_of_an_older_format_are_read_again(store: Store) -> None:
    store.append("zanzibar")
    store.index()
    catalog = Catalog(store.folder / "index")
    catalog.set_fact("parts", "1")
    for row in catalog.files_of("history").values():
        catalog.set_attributes(row.id, [("session", "s")])
    catalog.close()
    store.ingester.set_roots(store.roots)
    store.index()
    assert lines_of_principal(store, "zanzibar", "agent:a") == [1]


def test_session_counts_as_one_file_however_many_parts_it_has(store: Store) -> None:
    store.append(*(f"message{number} " + "filler " * 40 for number in range(1000)))
    (store.corpus / "note.md").write_text("a note\n")
    store.index()
    catalog = Catalog(store.folder / "index", read_only=True)
    assert len(catalog.files_of("history")) > 3
    assert (catalog.counts().files, catalog.counts().searchable) == (2, 2)
    catalog.close()
