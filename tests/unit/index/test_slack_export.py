"""Test that messages of a Slack export have the names of `users.json`, and get new ones when it changes."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ctxfs.index.extract.formats.slack_users import read_users
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
    """Return (author, first line) of the messages of the day."""
    file = index.catalog.file("knowledge/c/export/general/2025-07-01.json")
    assert file is not None
    return [(row[3], row[2].split("\n")[0]) for row in index.catalog.chunks_of(file.id)]


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


@pytest.mark.parametrize("is_watched", [True, False])
def test_names_follow_the_list_of_users(is_watched: bool, export: Path, tmp_path: Path) -> None:
    users = export / "users.json"
    index = Index(tmp_path / "index", tmp_path / "corpus")

    def follow() -> None:
        if is_watched:
            index.follower.index_changes([("knowledge/c", ("export", "users.json"))])
        else:
            index.follower.scan_all()

    try:
        assert authors(index) == UNNAMED
        users.write_text(json.dumps(USERS))
        follow()
        assert authors(index) == NAMED
        assert index.paths("mode:words author:bobby quokka") == ["export/general/2025-07-01.json"]
        assert "export/general/2025-07-01.json" in index.paths("kind:dialogue")
        users.write_text(json.dumps([{**USERS[0], "profile": {"real_name": "Dora"}}]))
        follow()
        assert [author for author, _ in authors(index)] == ["Dora", "U0456ABCD", "Cid"]
        users.unlink()
        follow()
        assert authors(index) == UNNAMED
    finally:
        index.close()


def test_unchanged_list_of_users_reads_no_day_again(export: Path, tmp_path: Path) -> None:
    (export / "users.json").write_text(json.dumps(USERS))
    index = Index(tmp_path / "index", tmp_path / "corpus")
    try:
        file = index.catalog.file("knowledge/c/export/general/2025-07-01.json")
        assert file is not None
        before = index.catalog.chunks_of(file.id)
        os.utime(export / "users.json", ns=(1, 1))
        os.utime(export / "general" / "2025-07-01.json", ns=(1, 1))
        index.follower.scan_all()
        assert index.catalog.chunks_of(file.id) == before, "the same chunks, with the same numbers"
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


@pytest.mark.parametrize(
    "value", [None, 1, "x", {}, {"id": 1}, [1, None, {"id": 1}, {"id": "U1"}, {"id": "U1", "profile": []}], [[[[]]]]]
)
def test_list_of_users_of_another_shape_names_nobody(value: Any) -> None:
    assert read_users(json.dumps(value).encode()) == {}


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 1_000_000, b"[{", b"\0" * 100])
def test_hostile_list_of_users_names_nobody(data: bytes) -> None:
    assert read_users(data) == {}
