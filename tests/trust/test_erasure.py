"""Test that erased text is in no file of the store, derived or cached, and that other copies are reported."""

import errno
import gzip
import json
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctxfs.daemon.session import session
from ctxfs.store.layout import Layout, create_store
from ctxfs.versions.phrases import Phrases

LINE = "The zanzibar crossing is guarded by quibble and flummox at dawn"
SECRET = f"# Plan\n\n{LINE}\nNobody else knows about it: “zanzibar” is the word.\n"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Layout, Any]]:
    """Yield a store without a daemon and without a model, and a session with it."""
    layout = create_store(tmp_path / "store")
    layout.config.write_text("[index]\nmeaning = false\n")
    with session(str(layout.root)) as made:
        yield layout, made


def holding(layout: Layout, word: bytes) -> list[str]:
    """Return every file of the store that contains a word.

    It unpacks objects, packs and compressed days, and searches databases and index segments.
    """
    paths = []
    for path in layout.root.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        if path.parent.parent.name == "objects" and len(path.parent.name) == 2:
            data = zlib.decompress(data)
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        if word in data.lower() or "".join(f"{chr(byte)}\0" for byte in word).encode() in data:
            paths.append(str(path.relative_to(layout.root)))
    command = ["git", f"--git-dir={layout.repo}", "cat-file", "--batch-all-objects", "--batch"]
    objects = subprocess.run(command, capture_output=True, check=True).stdout
    return paths + (["an object of git"] if word in objects.lower() else [])


def put(file: Path, data: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(data)


def test_erased_text_is_in_no_file_of_the_store_and_no_response(opened: tuple[Layout, Any]) -> None:
    layout, asked = opened
    tree = layout.tree
    put(tree / "memory/alice/secret.md", SECRET)
    put(tree / "memory/shared/other.md", "Tulips are planted in autumn, quite deep.\n")
    asked.call("commit")
    assert asked.call("search", question="zanzibar crossing")["hits"]
    # Everything that ctxfs and agents derive from it.
    put(tree / "context/task/request.toml", 'task = "crossing"\nbudget = 500\n')
    put(
        tree / "context/task/response.md",
        f"As I read: the ZANZIBAR crossing is\nguarded by quibble and flummox at dawn.\n> {LINE}\n",
    )
    put(tree / "human/review/r1/claim.md", f"Is this so? {LINE}\n")
    put(layout.root / "deliveries/task/window-agent-alice.json", json.dumps({"pieces": [{"text": SECRET}]}))
    put(
        layout.root / "calls/extract/calls/c1a2b3c4/result.txt",
        json.dumps({"inner": json.dumps({"t": SECRET})}),
    )
    asked.call("record", said=[{"kind": "message", "role": "user", "text": f"remember: {LINE}"}], session="s1")
    asked.call("record", said=[{"kind": "message", "role": "user", "text": "tulips are fine"}], session="s1")
    asked.app.archive.commit([b"context/task/request.toml", b"context/task/response.md", b"human/review/r1/claim.md"])
    (tree / "context/task/response.md").write_text("Nothing of it any more.\n")  # its versions contain it
    assert len(holding(layout, b"zanzibar")) > 5

    result = asked.call("forget", path="memory/alice/secret.md")

    assert holding(layout, b"zanzibar") == []
    assert result["derived"]["records"] == 1
    assert result["copies"] == []
    assert {change["path"] for change in result["changes"]} >= {"memory/alice/secret.md", "human/review/r1/claim.md"}
    answers = [
        asked.call("search", question="zanzibar"),
        asked.call("history"),
        asked.call("log", path="", changes=True),
        asked.call("grep", pattern="zanzibar"),
        asked.call("status"),
        asked.call("audit"),
    ]
    assert "guarded" not in json.dumps(answers, default=str)
    assert (tree / "context/task/response.md").read_text() == "Nothing of it any more.\n"
    assert (tree / "memory/shared/other.md").exists()
    assert any(record.get("text") == "tulips are fine" for record in asked.call("history"))
    assert asked.call("verify_history")["faults"] == []


def cut_off(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "cut off")


def test_interrupted_erasure_can_be_repeated(opened: tuple[Layout, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Derived text is found by the erased text, so it is deleted while versions still contain that text."""
    layout, asked = opened
    put(layout.tree / "memory/alice/secret.md", SECRET)
    delivery = layout.root / "deliveries/task/window-agent-alice.json"
    put(delivery, json.dumps({"pieces": [{"text": SECRET}]}))
    asked.call("record", said=[{"kind": "message", "role": "user", "text": f"remember: {LINE}"}], session="s1")
    asked.call("commit")
    with monkeypatch.context() as patched:
        patched.setattr(asked.app.archive.erasure, "erase", cut_off)
        with pytest.raises(OSError, match="cut off"):
            asked.call("forget", path="memory/alice/secret.md")
    assert not [file for file in holding(layout, b"zanzibar") if file.startswith(("deliveries", "history"))]

    asked.call("forget", path="memory/alice/secret.md")

    assert holding(layout, b"zanzibar") == []


def test_copies_that_are_files_of_their_own_and_remotes_are_named(opened: tuple[Layout, Any], tmp_path: Path) -> None:
    layout, asked = opened
    put(layout.tree / "memory/alice/secret.md", SECRET)
    put(layout.tree / "pad/t/notes.md", f"- seen: {LINE}\n- something else\n")
    asked.call("commit")
    asked.call("add_remote", name="backup", url=str(tmp_path / "backup.git"))
    dry = asked.call("forget", path="memory/alice/secret.md", dry_run=True)
    assert (dry["remotes"], dry["copies"]) == (["backup"], ["pad/t/notes.md"])
    done = asked.call("forget", path="memory/alice/secret.md")
    assert (done["remotes"], done["copies"]) == (["backup"], ["pad/t/notes.md"])
    assert LINE in (layout.tree / "pad/t/notes.md").read_text(), "a copy in a file of its own stays"


def test_phrases_are_found_through_case_wrapping_and_escapes() -> None:
    phrases = Phrases([SECRET.encode(), "Grüße aus Köln, schöne Stadt am Rhein\n".encode()])
    hidden = [
        LINE.upper(),
        LINE.replace(" ", "\n> "),
        json.dumps({"text": SECRET}),
        json.dumps(json.dumps({"text": SECRET})),
        json.dumps({"text": "Grüße aus Köln, schöne Stadt am Rhein"}),
        json.dumps({"text": "x\nGrüße aus Köln, schöne Stadt am Rhein"}, ensure_ascii=False),
    ]
    assert [phrases.is_in(text.encode()) for text in hidden] == [True] * len(hidden)
    assert not phrases.is_in(b"the crossing is guarded")
    assert not Phrases([b"a b\n\n---\n"]).is_in(b"a b --- and everything else")
