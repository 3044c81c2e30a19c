"""Test that a text above the size limit is searched in part, with the reason, and that its cost is bounded."""

import hashlib
import io
import json
import time
from pathlib import Path

import pytest

from ctxfs.index.extract.extractor import Extractor
from ctxfs.index.extract.formats.cut_json import find_last_member, parse_cut_json
from ctxfs.index.extract.large_files import read_searched
from tests.unit.index.test_index import Index

LIMIT = 1_000_000  # of the index of the tests


def read_part(name: str, data: bytes, limit: int) -> tuple[bytes, str]:
    content = read_searched(io.BytesIO(data), name, len(data), limit)
    assert content.digest == hashlib.sha256(data).digest()
    return content.data, content.note


def test_head_of_every_kind_of_text_is_searched_and_its_part_reported(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    filler = "the quick brown fox jumps over the lazy dog\n" * 40_000
    chat = [{"name": "Plans", "chat_messages": [{"sender": "human", "text": "Where does the walrus live?"}]}]
    chat += [{"name": "x", "chat_messages": [{"sender": "human", "text": "x" * 500}]}] * 5_000
    texts = {
        "one-line.json": '{"animal": "a walrus\\nhere", "list": [' + '"some text", ' * 200_000 + "0]}",
        "conversations.json": json.dumps(chat),
        "records.jsonl": json.dumps({"author": "Ann", "text": "a walrus"}) + "\n" + '{"text": "fox"}\n' * 100_000,
        "table.csv": "animal,count\nwalrus,3\n" + "fox,1\n" * 300_000,
        "notes.md": f"A walrus.\n\n# Fox\n\n{filler}",
        "app.log": f"2026-01-01 a walrus starts\n{filler}2026-01-02 the narwhal stops\n",
        "letter.eml": f"From: Ann <ann@example.org>\nSubject: Animals\n\nA walrus.\n\n{filler}",
        "page.html": f"<p>A walrus.</p><h1>Fox</h1><p>{filler}</p>",
        "utf16.txt": "\ufeffa walrus\n" + filler,
        "tags.rst": f"A walrus.\n\nFox\n===\n\n{filler}",
    }
    for name, text in texts.items():
        (corpus / name).write_bytes(text.encode("utf-16-le" if name.startswith("utf16") else "utf-8"))
    (corpus / "picture.bin").write_bytes(bytes(range(256)) * 8_000)
    (corpus / "book.docx").write_bytes(b"PK\x03\x04" + b"\0" * 11 * LIMIT)
    index = Index(tmp_path / "index", corpus)
    try:
        answer = index.ask("mode:words walrus")
        assert {hit.path.rpartition("/")[2] for hit in answer.hits} == set(texts)
        assert any("bytes are searched" in remark for remark in answer.remarks)
        assert index.paths("mode:words narwhal") == ["app.log"], "the newest lines of a log are at its end"
        state = index.searcher.state()
        assert state.partial == len(texts)
        notes = {path.rpartition("/")[2]: note for path, note in state.skipped_files}
        assert notes.keys() == {*texts, "book.docx"}
        assert notes["one-line.json"] == f"the first 1,000,000 of {len(texts['one-line.json']):,} bytes are searched"
        assert "and the last" in notes["app.log"]
        assert index.catalog.skipped() == {"binary": 1, "too large": 1}
        assert set(texts) <= {path.rpartition("/")[2] for path in index.catalog.unsearchable_paths()}, "grep reads them"
    finally:
        index.close()


def test_change_behind_the_searched_part_updates_the_note_only(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    file = corpus / "notes.txt"
    file.write_text("a walrus\n" * 200_000)
    index = Index(tmp_path / "index", corpus)
    try:
        with file.open("a") as text:
            text.write("more\n")
        index.follower.scan_all()
        assert f"of {file.stat().st_size:,} bytes" in index.searcher.state().skipped_files[0][1]
        file.write_text("a narwhal\n")
        index.follower.scan_all()
        assert index.paths("mode:words narwhal") == ["notes.txt"]
        assert not index.ask("mode:words narwhal").remarks
        assert not index.searcher.state().skipped_files
    finally:
        index.close()


@pytest.mark.parametrize("name", ["app.log", "app.log.1", "x.jsonl", "syslog", "notes.md", "x.csv"])
def test_lines_of_a_part_have_their_numbers_in_the_file(name: str) -> None:
    lines = [f"line {number} {'x' * (number % 90)}\n" for number in range(1, 20_001)]
    data, note = read_part(name, "".join(lines).encode(), 100_000)
    selected = [(number, line) for number, line in enumerate(data.decode().split("\n"), 1) if line]
    assert all(lines[number - 1] == f"{line}\n" for number, line in selected)
    assert 80_000 < sum(len(line) + 1 for _, line in selected) <= 100_000
    has_tail = name not in ("notes.md", "x.csv")
    assert (selected[-1][0] == 20_000) == has_tail == ("the last" in note)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_wide_characters_stay_whole(codec: str) -> None:
    text = "\ufeffGröße und Länge\n" * 20_000
    data, _ = read_part("x.log", text.encode(codec), 100_000)
    assert text.startswith(data.decode(codec))


def test_small_file_is_searched_whole() -> None:
    assert read_part("x.log", b"a\n" * 100, 1000) == (b"a\n" * 100, "")


def test_cut_json_has_the_members_before_the_cut() -> None:
    value = {"a": [1, {"b": 'x, \\" ]}'}, [True, None]], "c": {"d": "long " * 20}, "e": "end"}
    text = json.dumps(value)
    assert parse_cut_json(text) == (value, "")
    for length in range(1, len(text)):
        cut, rest = parse_cut_json(text[:length])
        assert cut is None or (isinstance(cut, dict) and value.keys() >= cut.keys())
        assert text[:length].endswith(rest)
    assert parse_cut_json('[{"text": "one"}, {"te') == ([{"text": "one"}], ', {"te')
    assert parse_cut_json("[1, 2}") == (None, "")


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 1_000_000, "[" * 2_000_000, '["' + "a\\" * 1_000_000, '{"a":[' * 300_000, "[1," * 10**6]
)
def test_hostile_json_takes_linear_time(text: str) -> None:
    start = time.process_time()
    find_last_member(text)
    assert time.process_time() - start < 3


def test_fifty_megabytes_on_one_line_are_read_within_bounds(tmp_path: Path) -> None:
    data = b'{"first": "a walrus", "rows": [' + b'{"key": "value", "n": 12},' * 2_000_000 + b"{}]}"
    extractor = Extractor()
    try:
        start = time.monotonic()
        content = read_searched(io.BytesIO(data), "x.json", len(data), 4_000_000)
        assert len(content.data) == 4_000_000
        chunks = extractor.extract_chunks("x.json", content.data)
        assert "a walrus" in chunks[0].text
        assert time.monotonic() - start < 30
    finally:
        extractor.close()
