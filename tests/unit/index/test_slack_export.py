"""Test that messages of a Slack export have the names of `users.json`, for readers that may read it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import extract_chunks
from ctxfs.index.extract.formats.slack_users import read_users
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.options import IndexedRoot
from ctxfs.index.query import parse_query
from ctxfs.index.search.searcher import Searcher
from ctxfs.index.search.user_names import UserNames
from ctxfs.model.path import ROOT
from tests.unit.index.test_index import Index

MESSAGES = [
    {
        "type": "message",
        "user": "U0123ABCD",
        "text": "ask <@U0456ABCD> in <#C01ABC|general> <!here>",
        "ts": "1751364000.1",
    },
    {"type": "message", "user": "U0456ABCD", "text": "the quokka lives on Rottnest", "ts": "1751364001.1"},
    {"type": "message", "user": "U0789ABCD", "user_profile": {"real_name": "Cid"}, "text": "yes", "ts": "1751364002.1"},
]
USERS = [
    {"id": "U0123ABCD", "name": "ann", "profile": {"real_name": "Ann Lee", "display_name": "annie"}},
    {"id": "U0456ABCD", "name": "bob", "profile": {"real_name": "", "display_name": "Bobby"}},
    {"id": "U0789ABCD", "name": "cid", "real_name": "Someone else"},
]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus" / "export"
    (folder / "general").mkdir(parents=True)
    (folder / "general" / "2025-07-01.json").write_text(json.dumps(MESSAGES, indent=1))
    return folder


def authors(index: Index) -> list[tuple[str, str]]:
    """Return (author, first line) of the messages of the day, as a search shows them."""
    hits = index.ask("mode:words path:general quokka ask yes").hits
    rows = sorted((hit.chunk for hit in hits), key=lambda row: abs(row.id))
    return [(row.author, row.text.split("\n")[0]) for row in rows]


NAMED = [
    ("Ann Lee", "Ann Lee: ask @Bobby in #general @here"),
    ("Bobby", "Bobby: the quokka lives on Rottnest"),
    ("Cid", "Cid: yes"),
]
UNNAMED = [
    ("U0123ABCD", "U0123ABCD: ask @U0456ABCD in #general @here"),
    ("U0456ABCD", "U0456ABCD: the quokka lives on Rottnest"),
    ("Cid", "Cid: yes"),
]
DAY = "export/general/2025-07-01.json"


class Stranger:
    """A reader that may read the days and not the list of users."""

    key = "stranger"
    sees_quarantined = False

    def may_read(self, path: str) -> bool:
        return not path.endswith("users.json")


class Agent(Stranger):
    """A reader that may read all files, and sees none that is quarantined."""

    key = "agent"

    def may_read(self, path: str) -> bool:
        return True


@pytest.mark.parametrize("following", ["watched", "scanned", "overlay"])
def test_names_follow_the_list_of_users(following: str, export: Path, tmp_path: Path) -> None:
    users = export / "users.json"
    index = Index(tmp_path / "index", tmp_path / "corpus")
    root, parts = IndexedRoot("knowledge/c", str(tmp_path / "corpus")), ("export", "users.json")

    def follow() -> None:
        if following == "watched":
            index.follower.index_changes([("knowledge/c", parts)])
        elif following == "overlay":
            index.searcher.report_changes(root, [parts])
        else:
            index.follower.scan_all()

    try:
        assert authors(index) == UNNAMED
        users.write_text(json.dumps(USERS))
        follow()
        assert authors(index) == NAMED
        for question in ("mode:words author:bobby quokka", "mode:words speaker:Bobby quokka", "author:bobby", "bobby"):
            assert DAY in index.paths(question), question
        users.write_text(json.dumps([{**USERS[0], "profile": {"real_name": "Dora"}}]))
        follow()
        assert [author for author, _ in authors(index)] == ["Dora", "U0456ABCD", "Cid"]
        assert DAY not in index.paths("author:bobby")
        users.unlink()
        follow()
        assert authors(index) == UNNAMED
        assert index.paths("author:dora") == []
    finally:
        index.close()


def test_day_of_plain_messages_is_read_by_message(tmp_path: Path) -> None:
    """Messages of bots and of old exports have neither an id of the client nor a profile."""
    message = {"type": "message", "user": "U0456ABCD", "text": "the quokka", "ts": "1751364001.1"}
    for separators in ((",", ":"), (", ", ": ")):
        (chunk,) = extract_chunks("2025-07-01.json", json.dumps([message], separators=separators).encode())
        assert (chunk.author, chunk.text.split("\n")[0]) == ("U0456ABCD", "U0456ABCD: the quokka")


def test_question_that_names_a_user_finds_what_the_user_said(export: Path, tmp_path: Path) -> None:
    (export / "users.json").write_text(json.dumps(USERS))
    (export / "general" / "2025-07-02.json").write_text(
        json.dumps(
            [
                {"type": "message", "user": f"U{n}", "text": f"a quokka is animal {n}", "ts": "1751464000.1"}
                for n in range(9)
            ]
        )
    )
    index = Index(tmp_path / "index", tmp_path / "corpus")
    try:
        for question in ("what did Bobby say of the quokka", "bobby quokka"):
            hit = index.ask(f"mode:words path:general {question}").hits[0]
            assert (hit.path, hit.chunk.author) == (f"knowledge/c/{DAY}", "Bobby")
            assert hit.chunk.named_by == "knowledge/c/export/users.json"
        assert index.ask("mode:words who asked bobby").hits[0].chunk.text.startswith("Bobby") is False
    finally:
        index.close()


@pytest.mark.parametrize("reason", ["denied", "quarantined"])
@pytest.mark.parametrize("is_indexed", [True, False])
def test_list_that_a_reader_may_not_read_changes_no_answer(
    reason: str, is_indexed: bool, export: Path, tmp_path: Path
) -> None:
    """Every answer to such a reader is the same as without the list."""
    questions = (
        "bobby", "mode:words bobby quokka", "author:bobby", "speaker:Bobby quokka", "speaker:\"Ann Lee\"", "mode:exact Bobby",
        "what did Bobby say", "annie", "Boby quokka", "quokka", "kind:dialogue", "author:U0456ABCD", '"Ann Lee"', "Dora",
    )  # fmt: skip
    answers = []
    for name in ("without", "with"):
        index = Index(tmp_path / name, tmp_path / "corpus")
        searcher = Searcher(index.folder, None, reader=Stranger if reason == "denied" else Agent)
        if name == "with":
            (export / "users.json").write_text(json.dumps(USERS))
            if reason == "quarantined":
                os.setxattr(export / "users.json", "user.ctx.quarantined", b"true")
            if is_indexed:
                index.follower.scan_all()
            else:
                searcher.report_changes(
                    IndexedRoot("knowledge/c", str(tmp_path / "corpus")), [("export", "users.json")]
                )
        rows = []
        for question in questions:
            results = searcher.search(parse_query(question), ROOT, 20)
            hits = [(hit.path, hit.chunk.text, hit.chunk.author, hit.chunk.named_by, hit.score) for hit in results.hits]
            rows.append((question, hits, results.notes, results.remarks, results.answer))
        chunks = [Chunk("U0456ABCD: hello", 1, 1, author="U0456ABCD")]
        rows.append(searcher.name_users(f"knowledge/c/{DAY}", chunks))
        answers.append(rows)
        searcher.close()
        index.close()
    for without, with_list in zip(*answers, strict=True):
        assert with_list == without


def test_text_of_the_index_has_no_names_of_the_list(export: Path, tmp_path: Path) -> None:
    """The stored and embedded text of a day contains no text of another file."""
    (export / "users.json").write_text(json.dumps(USERS))
    index = Index(tmp_path / "index", tmp_path / "corpus")
    try:
        file = index.catalog.file(f"knowledge/c/{DAY}")
        assert file is not None
        assert [(row[3], row[2].split("\n")[0]) for row in index.catalog.chunks_of(file.id)] == UNNAMED
    finally:
        index.close()


def test_ignored_list_of_users_names_nobody(export: Path, tmp_path: Path) -> None:
    (export / "users.json").write_text(json.dumps(USERS))
    (export / ".gitignore").write_text("users.json\n")
    index = Index(tmp_path / "index", tmp_path / "corpus")
    try:
        assert authors(index) == UNNAMED
    finally:
        index.close()


def test_list_of_users_replaces_nothing_but_authors_and_mentions() -> None:
    """A list may be hostile: it names users, and changes no other word of a message."""
    users = {"UDENY": "allow", "U1": "Ann"}
    names = UserNames({"c/users.json": users})
    chunks = [
        Chunk("U1: UDENY all, user@UDENY, @UDENYX, see @UDENY", 1, 1, author="U1"),
        Chunk("UDENY: @UDENY", 2, 2),
    ]
    texts = [chunk.text for chunk in names.name_chunks("c/general/2025-07-01.json", chunks)]
    assert texts == ["Ann: UDENY all, user@UDENY, @UDENYX, see @allow", "UDENY: @UDENY"]
    assert names.name_chunks("c/general/notes.json", chunks) == chunks
    assert read_users(json.dumps([{"id": "deny", "name": "allow"}, {"id": "U1", "name": "Ann"}])) == {"U1": "Ann"}


@pytest.mark.parametrize(
    "value", [None, 1, "x", {}, {"id": 1}, [1, None, {"id": 1}, {"id": "U1"}, {"id": "U1", "profile": []}], [[[[]]]]]
)
def test_list_of_users_of_another_shape_names_nobody(value: Any) -> None:
    assert read_users(json.dumps(value)) == {}


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 1_000_000, b"[{", b"\0" * 100])
def test_hostile_list_of_users_names_nobody(data: bytes) -> None:
    assert read_users(read_text(data) or "") == {}
