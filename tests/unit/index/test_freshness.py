"""Test that search shows changes at once, and that an ingested index gives the results of a new one."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxfs.index.engines.catalog import Catalog
from ctxfs.index.engines.fulltext import FullText
from ctxfs.index.ingest.ingester import Ingester
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import parse_query
from ctxfs.index.search.overlay import MAX_FILE_BYTES, Overlay
from ctxfs.index.search.searcher import Searcher
from ctxfs.model.path import ROOT

NAMES = ("a.md", "b.txt", "sub/c.md", "sub/d.py", "talk.txt")
TEXTS = (
    "# Keys\n\nRotate the keys.\n",
    "def rotate_keys():\n    return otter\n",
    "Ada: an otter swims\nBob: where?\nAda: here, by the keys\nBob: thanks\n",
    "---\ntags: [x, y]\naliases: heron\n---\n\nAn [[otter]] swims. #z\n",
    "nothing of the kind\n",
    "",
)
QUESTIONS = (
    "otter", "rotate keys", "+otter keys", "keys -otter", '"rotate the keys"', "author:Ada otter", "kind:code", "kind:code keys",
    "mode:exact otter rotate", "mode:exact +keys +rotate", "mode:exact +Ada +keys -heron", "mode:exact path:sub keys",
    "path:sub", "path:sub keys", "tag:x", "tag:x keys", "tag:x tag:z otter", "alias:heron", "link:otter",
    "confidence:>0.5", "since:1h keys", "until:2001-01-01 keys",
    "state:archived", "state:archived keys", "state:active otter", "state:archived state:active keys", "mode:exact state:archived keys",
)  # fmt: skip


class Live:
    """A folder, its index driven by hand, and a searcher that receives changes as the daemon sends them."""

    def __init__(self, folder: Path) -> None:
        self.corpus = folder / "corpus"
        (self.corpus / "sub").mkdir(parents=True)
        self.root = IndexedRoot("knowledge/c", str(self.corpus))
        self.follower = follower(folder / "index", self.root)
        self.searcher = Searcher(folder / "index", None)
        self.searcher.refresh()

    def close(self) -> None:
        self.follower.close()
        self.searcher.close()

    def told(self, *names: str) -> None:
        self.searcher.report_changes(self.root, [tuple(name.split("/")) for name in names])

    def catch_up(self, *names: str) -> None:
        for name in names:
            self.follower.index_changes([(self.root.prefix, tuple(name.split("/")))])
        self.searcher.refresh()

    def found(self, question: str) -> set[tuple[str, int, str]]:
        return answers(self.searcher, question)


def follower(index: Path, root: IndexedRoot) -> Ingester:
    made = Ingester(Catalog(index), FullText(index / "words", make=True), 1_000_000, lambda _: None)
    made.recover()
    made.set_roots([root])
    made.scan_all()
    return made


def answers(searcher: Searcher, question: str) -> set[tuple[str, int, str]]:
    asked = question if "mode:" in question else f"mode:words {question}"
    hits = searcher.search(parse_query(asked), ROOT, 100).hits
    return {(hit.path, hit.chunk.first, hit.chunk.text) for hit in hits}


def exact(searcher: Searcher, question: str) -> list[tuple[float, str, int]]:
    """Return the hits that contexts are built from, with their scores."""
    hits = searcher.search(parse_query(f"mode:words {question}"), ROOT, 100, exact=True).hits
    return sorted((round(hit.score, 6), hit.path, hit.chunk.first) for hit in hits)


def rebuilt(live: Live, folder: Path) -> Searcher:
    follower(folder, live.root).close()
    return Searcher(folder, None)


changes = st.tuples(
    st.sampled_from(["write", "write", "write", "remove", "rename", "tag", "archive", "rmdir"]),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from(TEXTS),
    st.booleans(),
)


def carry_out(live: Live, op: str, name: str, other: str, text: str) -> list[str]:
    """Change the folder and return the paths that the kernel would report."""
    file = live.corpus / name
    if op == "write":
        file.write_text(text)
        return [name]
    if op == "rmdir":
        for inside in (live.corpus / "sub").iterdir():
            inside.unlink()
        (live.corpus / "sub").rmdir()
        live.told("sub")
        (live.corpus / "sub").mkdir()
        (live.corpus / other).write_text(text)
        return ["sub", other]
    if not file.exists():
        return []
    if op == "remove":
        file.unlink()
    elif op == "rename":
        file.rename(live.corpus / other)
        return [name, other]
    elif op == "archive":
        os.setxattr(file, "user.ctx.state", b"archived")
    else:
        os.setxattr(file, "user.ctx.tags", b"x, y")
        os.setxattr(file, "user.ctx.confidence", b"0.7")
    return [name]


@settings(max_examples=25, deadline=None)
@given(st.lists(changes, min_size=1, max_size=7))
def test_search_after_any_changes_equals_a_new_index(
    steps: list[tuple[str, str, str, str, bool]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="ctxfs-fresh-") as scratch:
        live = Live(Path(scratch))
        touched: list[str] = []
        for op, name, other, text, index_too in steps:
            places = carry_out(live, op, name, other, text)
            touched += places
            live.told(*places)
            if index_too:
                live.catch_up(*places)
        fresh = rebuilt(live, Path(scratch) / "again")
        wanted = {question: answers(fresh, question) for question in QUESTIONS}
        filters = {"kind:code", "path:sub", "tag:x", "confidence:>0.5"}
        assert {q: {h[0] for h in live.found(q)} for q in filters} == {q: {h[0] for h in wanted[q]} for q in filters}
        assert {q: live.found(q) for q in QUESTIONS} == wanted, "at once"
        live.catch_up(*touched)
        assert not live.searcher._view.overlay, "nothing is left over when the index has caught up"
        assert {q: live.found(q) for q in QUESTIONS} == wanted, "once indexed"
        for question in ("otter", "rotate keys", "+otter keys"):
            assert exact(live.searcher, question) == exact(fresh, question), "deleted files no longer count"
        fresh.close()
        live.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    yield made
    made.close()


def test_a_change_is_found_before_the_index_has_seen_it_and_ranks_with_the_rest(live: Live) -> None:
    (live.corpus / "a.md").write_text("the otter and the keys\n")
    live.catch_up("a.md")
    (live.corpus / "b.txt").write_text("an otter, an otter, keys and an otter\n")
    live.told("b.txt")
    hits = live.searcher.search(parse_query("otter keys"), ROOT, 10).hits
    assert [hit.path for hit in hits] == ["knowledge/c/b.txt", "knowledge/c/a.md"]
    assert live.searcher.indexed_digest("knowledge/c/b.txt")[0], "`user.ctx.indexed` says so too"


def test_too_large_change_waits_and_hides_the_old_content(live: Live) -> None:
    file = live.corpus / "a.md"
    file.write_text("otter\n")
    live.told("a.md")
    file.write_text("keys\n" * MAX_FILE_BYTES)
    live.told("a.md")
    assert live.found("otter") == set()
    live.catch_up("a.md")
    assert live.found("keys")


def test_files_in_a_new_folder_are_found_at_once(live: Live) -> None:
    new = live.corpus / "new" / "deeper"
    new.mkdir(parents=True)
    (new / "w.md").write_text("a walrus\n")
    live.told("new")  # the kernel reports only the folder, which was created before it could be watched
    assert {hit[0] for hit in live.found("walrus")} == {"knowledge/c/new/deeper/w.md"}


def test_ignored_file_is_not_found_before_indexing(live: Live) -> None:
    (live.corpus / ".gitignore").write_text("a.md\n")
    (live.corpus / "a.md").write_text("otter\n")
    live.told(".gitignore", "a.md")
    assert live.found("otter") == set()


def test_deleted_file_stays_hidden_during_many_changes(live: Live) -> None:
    (live.corpus / "a.md").write_text("otter\n")
    live.catch_up("a.md")
    (live.corpus / "a.md").unlink()
    live.told("a.md")
    names = [f"{number}.md" for number in range(300)]
    for name in names:
        (live.corpus / name).write_text("heron\n")
    live.told(*names)
    assert live.found("otter") == set()
    assert live.found("heron")


def test_deletions_among_many_changes_apply_at_once(live: Live) -> None:
    names = [f"many/{number}.md" for number in range(500)]
    (live.corpus / "many").mkdir()
    for name in names:
        (live.corpus / name).write_text("an otter\n")
    live.catch_up("many")
    assert len(live.found("otter")) == 100, "as many as requested"
    for name in names[:-1]:
        (live.corpus / name).unlink()
    places = [tuple(name.split("/")) for name in names]
    live.searcher.report_changes(live.root, places[:50], places[50:])
    assert {path for path, _, _ in live.found("otter")} == {"knowledge/c/many/499.md"}
    live.catch_up("many")
    assert {path for path, _, _ in live.found("otter")} == {"knowledge/c/many/499.md"}
    view = live.searcher._view
    assert view is not None
    assert not view.overlay


def test_repeatedly_rewritten_file_scores_as_in_a_new_index(live: Live, tmp_path: Path) -> None:
    for name, text in (("b.txt", "an otter by the keys"), ("sub/c.md", "keys, keys and more"), ("a.md", "nothing")):
        (live.corpus / name).write_text(text + "\n")
        live.catch_up(name)
    (live.corpus / "many").mkdir()
    for turn in range(
        8
    ):  # each time one file stays unchanged, so that its neighbours in the index stay as deleted ones
        for name in range(turn, 9):
            (live.corpus / "many" / f"{name}.md").write_text(f"an otter {'swims ' * (turn + name)}\n")
        live.catch_up("many")
    fresh = rebuilt(live, tmp_path / "again")
    assert len(exact(fresh, "otter keys")) == 11
    assert exact(live.searcher, "otter keys") == exact(fresh, "otter keys")
    fresh.close()


def test_file_replaced_by_a_folder_disappears_and_the_reverse(live: Live) -> None:
    path = live.corpus / "place"
    path.write_text("the otter\n")
    live.catch_up("place")
    for caught_up in (False, True):
        path.unlink()
        path.mkdir()
        (path / "in.md").write_text("a walrus\n")
        live.told("place")
        if caught_up:
            live.catch_up("place")
        assert {hit[0] for hit in live.found("otter")} == set()
        assert {hit[0] for hit in live.found("walrus")} == {"knowledge/c/place/in.md"}
        path.rename(live.corpus.parent / f"away-{caught_up}")
        path.write_text("the otter\n")
        live.told("place")  # the watcher reports the name only
        if caught_up:
            live.catch_up("place")
        assert {hit[0] for hit in live.found("walrus")} == set()
        assert {hit[0] for hit in live.found("otter")} == {"knowledge/c/place"}


def test_unread_changes_are_read_at_the_next_query(live: Live) -> None:
    for turn in range(3):
        (live.corpus / "a.md").write_text(f"turn {turn} of the otter\n")
        live.told("a.md")
    (live.corpus / "b.txt").write_text("a heron\n")
    live.told("b.txt")
    (live.corpus / "b.txt").unlink()
    live.told("b.txt")
    assert {text for _, _, text in live.found("otter")} == {"turn 2 of the otter"}
    assert not live.found("heron")


def test_unreadable_change_breaks_no_query(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (live.corpus / "a.md").write_text("an otter\n")
    live.catch_up("a.md")
    (live.corpus / "b.txt").write_text("an otter, too\n")
    live.told("b.txt")
    monkeypatch.setattr(Overlay, "update", lambda *_: 1 / 0)
    assert {path for path, _, _ in live.found("otter")} == {"knowledge/c/a.md"}
    assert "found later" in caplog.text
    monkeypatch.undo()
    live.catch_up("b.txt")
    assert {path for path, _, _ in live.found("otter")} == {"knowledge/c/a.md", "knowledge/c/b.txt"}


def test_changes_in_a_removed_source_are_not_found(live: Live, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    kept, removed = live.root, IndexedRoot("knowledge/other", str(other))
    live.searcher.set_roots([kept, removed])
    (other / "a.md").write_text("The quokka is in the other one.")
    (live.corpus / "b.md").write_text("The quokka is in this one.")
    live.searcher.report_changes(removed, [("a.md",)])
    live.told("b.md")
    assert {path for path, *_ in live.found("quokka")} == {"knowledge/other/a.md", "knowledge/c/b.md"}
    live.searcher.report_changes(removed, [("a.md",)])  # not read yet
    live.searcher.set_roots([kept])
    live.searcher.report_changes(removed, [("a.md",)])  # from a client that has not received the change
    assert {path for path, *_ in live.found("quokka")} == {"knowledge/c/b.md"}
    live.searcher.set_roots([kept, removed])
    live.searcher.report_changes(removed, [("a.md",)])
    assert {path for path, *_ in live.found("quokka")} == {"knowledge/other/a.md", "knowledge/c/b.md"}
    live.searcher.set_roots([kept, IndexedRoot(removed.prefix, str(tmp_path))])  # another folder of the same name
    assert {path for path, *_ in live.found("quokka")} == {"knowledge/c/b.md"}
