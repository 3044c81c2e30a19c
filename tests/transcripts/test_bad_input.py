"""Test that untrusted transcripts cost bounded time and memory, and that a bad file, line or text costs only itself."""

import hashlib
import io
import json
import os
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxfs.transcripts.archive import list_exports
from ctxfs.transcripts.cleaning import MAX_RESULT_CHARS, Cleaned, clean_text
from ctxfs.transcripts.json_files import read_elements, read_lines
from ctxfs.transcripts.long_strings import MAX_STRING_CHARS, JsonReader, measure_text
from ctxfs.transcripts.message import LeftOut, parse_said_at
from ctxfs.transcripts.sources import TranscriptFile
from tests.transcripts import samples
from tests.transcripts.conftest import Store
from tests.transcripts.samples import SESSION, claude_line, write_lines, write_zip


class Pattern(io.RawIOBase):
    """A file of a begin, a repeated piece and an end, which exists nowhere as a whole."""

    def __init__(self, begin: bytes, piece: bytes, times: int, end: bytes) -> None:
        self._parts = self._produce(begin, piece, times, end)
        self._rest = b""

    @staticmethod
    def _produce(begin: bytes, piece: bytes, times: int, end: bytes) -> Iterator[bytes]:
        yield begin
        for _ in range(times):
            yield piece
        yield end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._parts, b"")
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def result_line(number: int, content: Any) -> dict[str, Any]:
    return claude_line(number, "user", [{"type": "tool_result", "tool_use_id": "t", "content": content}])


def add_lines(store: Store, folder: Path, *lines: Any) -> Any:
    return store.add("claude-code", write_lines(folder / "p" / f"{SESSION}.jsonl", lines).parent)


def test_output_of_many_megabytes_in_one_line_takes_little_memory() -> None:
    piece = b"tide \\u00e4\\n" * 1000
    file = io.BufferedReader(Pattern(b'{"a": 1, "text": "', piece, 6000, b'", "b": 2}\n{"c": 3}\n'))
    tracemalloc.start()
    first, second = read_lines(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20, "the line has 78 MB"
    assert first.value is not None
    assert second.value == {"c": 3}
    text = measure_text(first.value["text"])
    whole = "tide ä\n" * 6_000_000
    assert (first.value["a"], first.value["b"], text.chars) == (1, 2, len(whole))
    assert text.sha256 == hashlib.sha256(whole.encode()).hexdigest()
    assert whole.startswith(text.head)


def test_line_without_end_and_line_of_many_values_take_little_memory() -> None:
    for begin, piece in ((b'{"a": [', b'"x", ' * 1000), (b"{" * 1000, b"[" * 1000), (b'{"a": "', b"\\" * 999)):
        file = io.BufferedReader(Pattern(begin, piece, 40_000_000 // len(piece), b"\n{}\n"))
        tracemalloc.start()
        first, second = read_lines(file)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert first.value is None
        assert second.value == {}
        assert peak < 100 << 20


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    ),
    st.integers(1, 7),
    st.booleans(),
)
def test_reading_in_pieces_is_json_loads(value: Any, size: int, is_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii)
    reader = JsonReader()
    for start in range(0, len(text), size):
        reader.feed(text[start : start + size])
    assert json.loads(reader.finish() or "") == value
    array = json.dumps([value, {"n": value}, 1], ensure_ascii=is_ascii)
    splitter = JsonReader(splits=True)
    texts: list[str | None] = []
    for start in range(0, len(array), size):
        texts += splitter.feed(array[start : start + size])
    assert [json.loads(part or "") for part in texts] == [value, {"n": value}, 1]
    assert splitter.finish() == ""


def test_long_string_of_surrogate_pairs_has_the_digest_of_its_text() -> None:
    words = "🌊ä" * MAX_STRING_CHARS
    text = json.dumps({"a": words})
    reader = JsonReader()
    for start in range(0, len(text), 65_521):
        reader.feed(text[start : start + 65_521])
    found = measure_text(json.loads(reader.finish() or "")["a"])
    assert (found.chars, found.sha256) == (len(words), hashlib.sha256(words.encode()).hexdigest())


def test_long_result_is_cut_with_its_length_and_digest(store: Store, tmp_path: Path) -> None:
    short, long, huge = "s" * 100, "word " * 20_000, "word " * 400_000
    report = add_lines(store, tmp_path, result_line(1, short), result_line(2, long), result_line(3, huge))
    assert report.cleaned.cut == 2
    assert store.texts()[0] == short
    for recorded, whole in zip(store.texts()[1:], (long, huge), strict=True):
        assert recorded.startswith(whole[:MAX_RESULT_CHARS])
        mark = recorded[MAX_RESULT_CHARS:]
        assert str(len(whole)) in mark
        assert hashlib.sha256(whole.encode()).hexdigest() in mark


def test_secrets_are_withheld_everywhere(store: Store, tmp_path: Path) -> None:
    secret = "ghp_" + "a1B2" * 9
    call = {"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": f"curl -H {secret}", "env": [secret]}}
    edge = "x " * (MAX_RESULT_CHARS // 2 - 5) + secret
    report = add_lines(
        store,
        tmp_path,
        claude_line(1, "user", f"use {secret}"),
        claude_line(2, "assistant", [{"type": "thinking", "thinking": secret}, {"type": "text", "text": secret}, call]),
        result_line(3, f"token={secret}"),
        result_line(4, edge),
    )
    log = b"".join(file.read_bytes() for file in store.layout.history.rglob("*.jsonl"))
    assert b"ghp_a1B2" not in log
    assert log.count("⟨GitHub Token withheld⟩".encode()) >= 6
    assert report.cleaned.secrets["GitHub Token"] == 7


def test_private_parts_are_never_recorded(store: Store, tmp_path: Path) -> None:
    add_lines(
        store,
        tmp_path,
        claude_line(1, "user", "before <private>4711</private> after"),
        claude_line(2, "user", "<PRIVATE>4711"),
        result_line(3, "x <private>\n4711\n</private>"),
        claude_line(
            4, "assistant", [{"type": "tool_use", "id": "t", "name": "W", "input": {"a": "<private>4711</private>"}}]
        ),
    )
    log = b"".join(file.read_bytes() for file in store.layout.history.rglob("*.jsonl"))
    assert b"4711" not in log
    assert store.texts()[0] == "before  after"
    database = b"".join(file.read_bytes() for file in store.layout.index.glob("imports.db*"))
    assert hashlib.sha256(b"4711").digest() not in database


def test_names_are_cleaned_as_texts_are(store: Store, tmp_path: Path) -> None:
    conversation = samples.chatgpt_conversation() | {"title": "key ghp_" + "a1B2" * 9 + " <private>4711</private>"}
    store.add("chatgpt", write_zip(tmp_path / "export.zip", {"conversations.json": [conversation]}))
    assert {record["title"] for record in store.records()} == {"key ⟨GitHub Token withheld⟩ "}


def test_text_of_short_runs_is_cleaned_in_linear_time() -> None:
    cleaned = Cleaned()
    for text in (("a" * 2047 + " ") * 100, "data:" * 50_000, ("data:image/png;base64," + "a" * 2000) * 100):
        start = time.process_time()
        clean_text(text, MAX_RESULT_CHARS, cleaned)
        assert time.process_time() - start < 1.0


def test_binary_content_becomes_a_mark(store: Store, tmp_path: Path) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO" * 100_000}}
    url = f"see data:image/jpeg;base64,{'QUJD' * 1000} here"
    add_lines(
        store,
        tmp_path,
        claude_line(1, "user", [image, {"type": "text", "text": "what is this?"}]),
        result_line(2, [image, {"type": "text", "text": "done"}]),
        result_line(3, "\0\1\2\3" * 100),
        result_line(4, url),
        claude_line(5, "user", "\ud800 lone"),
    )
    texts = store.texts()
    assert texts[:3] == ["[image/png, 300000 bytes]", "what is this?", "[image/png, 300000 bytes]\ndone"]
    assert texts[3].startswith("[binary content")
    assert texts[4] == "see [image/jpeg, 4023 characters] here"
    assert texts[5] == "? lone"


def test_values_that_the_log_cannot_hold_are_replaced(store: Store, tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    data = {"big": 10**40, "nan": float("nan"), "deep": deep, "many": list(range(50_000)), "long": "w " * 100_000}
    call = [{"type": "tool_use", "id": "t", "name": "X", "input": data}]
    add_lines(store, tmp_path, claude_line(1, "assistant", call))
    (record,) = store.records()
    assert record["data"]["big"] == str(10**40)
    assert record["data"]["nan"] == "nan"
    assert len(json.dumps(record)) < 500_000
    json.loads(json.dumps(record, allow_nan=False))


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"type": "user"',
        "[1, 2]",
        "null",
        "\0" * 100,
        "[" * 200_000,
        '{"a":' * 200_000,
        f'{{"n": {"9" * 10_000}}}',
        '{"a": "\xff"}',
    ],
)
def test_damaged_line_costs_one_line(line: str, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "p" / f"{SESSION}.jsonl"
    file.parent.mkdir()
    good = [json.dumps(claude_line(number, "user", f"text {number}")) for number in (1, 2)]
    file.write_bytes("\n".join((good[0], line, good[1], "")).encode("latin-1"))
    report = store.add("claude-code", file.parent)
    assert store.texts() == ["text 1", "text 2"]
    assert len(report.damaged) + len(report.left_out.numbers) == 1
    assert report.faults == []


def test_objects_with_unexpected_members_are_left_out(store: Store, tmp_path: Path) -> None:
    odd: list[Any] = [None, 1, "x", [], {}, {"type": 5}, {"type": "user"}, {"type": "user", "message": {"content": 7}}]
    odd += [{"type": "assistant", "message": {"content": [None, 3, {"type": {}}, {"type": "text", "text": []}]}}]
    odd += [claude_line(1, "user", "kept", cwd=9, timestamp=[], forkedFrom=3)]
    for client, folder in (("claude-code", "a"), ("codex", "b"), ("gemini", "chats")):
        write_lines(
            tmp_path / folder / "x.jsonl", [*odd, *({"type": "response_item", "payload": value} for value in odd)]
        )
        store.add(client, tmp_path / folder)
    for client in ("chatgpt", "claude"):
        file = write_zip(
            tmp_path / f"{client}.zip",
            {
                "conversations.json": [
                    *odd,
                    {"mapping": {"a": 1, "b": {"message": 3}}, "chat_messages": [1, {"sender": "human", "content": 3}]},
                ]
            },
        )
        store.add(client, file)
    assert "kept" in store.texts()


ODD_VALUES: list[Any] = [
    None,
    True,
    -1,
    1e308,
    2**70,
    "",
    "\ud800",
    "\0",
    [],
    {},
    [None],
    {"type": "text"},
    "<command-name>",
]


def damage_value(value: Any, random: Random) -> Any:
    """Return a JSON value with some of its values replaced, and some of its members removed or renamed."""
    if random.random() < 0.06:
        return random.choice(ODD_VALUES)
    if isinstance(value, dict):
        names = [
            name if random.random() > 0.05 else random.choice(("type", "content", "id", "parent")) for name in value
        ]
        pairs = zip(names, value.values(), strict=True)
        return {name: damage_value(item, random) for name, item in pairs if random.random() > 0.03}
    return [damage_value(item, random) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("seed", range(4))
def test_transcripts_that_are_damaged_at_random_end_in_valid_records(seed: int, store: Store, tmp_path: Path) -> None:
    random = Random(seed)
    chat = {"sessionId": SESSION, "projectHash": "x", "messages": samples.gemini_messages()}
    for client, lines in (
        ("claude-code", samples.claude_lines()),
        ("codex", [*samples.codex_lines(SESSION, "other"), *(line["payload"] for line in samples.codex_lines())]),
        ("gemini", [chat, *samples.gemini_messages(), {"sessionId": "s", "messageId": 3, "message": "m"}]),
        (
            "jsonl",
            [{"role": "user", "content": "a", "timestamp": 1}, {"message": {"role": "ai", "content": [{"text": "x"}]}}],
        ),
    ):
        damaged = [damage_value(line, random) for _ in range(40) for line in lines]
        file = write_lines(tmp_path / "chats" / f"{client}.jsonl", damaged)
        store.add(client, file)
        assert store.add(client, file).added == 0
    for client, conversation in (
        ("chatgpt", samples.chatgpt_conversation()),
        ("claude", samples.claude_conversation()),
    ):
        damaged = [damage_value(conversation, random) for _ in range(40)]
        file = write_zip(tmp_path / f"{client}.zip", {"conversations.json": damaged})
        store.add(client, file)
        assert store.add(client, file).added == 0
    for record in store.records():
        json.dumps(record, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-09-01T10:00:00Z", "2026-09-01T10:00:00.000+00:00"),
        ("2026-09-01T10:00:00", "2026-09-01T10:00:00.000+00:00"),
        (1788256800, "2026-09-01T10:00:00.000+00:00"),
        ("1788256800.5", "2026-09-01T10:00:00.500+00:00"),
        (1788256800123, "2026-09-01T10:00:00.123+00:00"),
        (1788256800123456789, "2026-09-01T10:00:00.123+00:00"),
        ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00.000+00:00"),
        ("0001-01-01T00:00:00+14:00", ""),
        (float("inf"), ""),
        (float("nan"), ""),
        (-1e300, ""),
        (True, ""),
        ("yesterday", ""),
        (None, ""),
        ({}, ""),
    ],
)
def test_times_of_saying_are_kept_or_absent(value: object, time: str) -> None:
    assert parse_said_at(value) == time


def test_clock_that_jumps_changes_no_order(store: Store, tmp_path: Path) -> None:
    times = ["2026-09-01T10:00:00Z", "2999-01-01T00:00:00Z", None, "1970-01-01T00:00:00Z", "2026-09-01T10:00:01Z"]
    lines = [claude_line(number, "user", f"text {number}", timestamp=time) for number, time in enumerate(times)]
    add_lines(store, tmp_path, *lines)
    assert store.texts() == [f"text {number}" for number in range(5)]
    assert "said_at" not in store.records()[2]
    assert store.records()[1]["said_at"].startswith("2999")


def test_links_and_special_files_are_not_followed(store: Store, tmp_path: Path) -> None:
    outside = write_lines(tmp_path / "outside" / "x.jsonl", [claude_line(1, "user", "outside")])
    folder = samples.claude_project(tmp_path)
    project = folder / "projects" / "-home-ada-harbour"
    (project / "link.jsonl").symlink_to(outside)
    (project / "folder").symlink_to(outside.parent)
    os.mkfifo(project / "pipe.jsonl")
    report = store.add("claude-code", folder)
    assert report.added == 6
    assert "outside" not in store.texts()
    assert report.faults == [("projects/-home-ada-harbour/pipe.jsonl", "it is no regular file")]


def test_file_that_becomes_a_link_is_a_fault(store: Store, tmp_path: Path) -> None:
    outside = write_lines(tmp_path / "x.jsonl", [{}])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.jsonl").symlink_to(outside)
    file = TranscriptFile(str(tmp_path / "root"), ["a.jsonl"], 1, 0.0, "claude-code")
    file.make_parser(LeftOut())
    with pytest.raises(OSError, match="symbolic"):
        list(file.read(lambda _: None))


def test_source_is_never_changed(store: Store, tmp_path: Path) -> None:
    folder = samples.claude_project(tmp_path)
    (file,) = folder.rglob("*.jsonl")
    before = (file.read_bytes(), os.stat(file))
    store.add("claude-code", folder)
    after = (file.read_bytes(), os.stat(file))
    assert before[0] == after[0]
    assert (before[1].st_mtime_ns, before[1].st_atime_ns) == (after[1].st_mtime_ns, after[1].st_atime_ns)


def test_zip_bomb_is_refused(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("conversations.json", "w") as member:
        member.write(b"[")
        for _ in range(100):
            member.write(b" " * (1 << 20))
    report = store.add("chatgpt", file)
    ((name, reason),) = report.faults
    assert name == "bomb.zip/conversations.json"
    assert "unpacks to more than" in reason


def test_members_that_lead_outside_are_named_and_not_read(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "export.zip"
    data = json.dumps([samples.chatgpt_conversation()])
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("../conversations.json", "/abs/conversations.json", "a/../../conversations-1.json"):
            archive.writestr(name, data)
        link = zipfile.ZipInfo("conversations-2.json")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    report = store.add("chatgpt", file)
    assert report.added == 0
    assert len(report.faults) == 4
    assert not (tmp_path.parent / "conversations.json").exists()


@pytest.mark.parametrize("damage", ["cut", "middle", "not zip", "empty", "torn json"])
def test_damaged_export_is_an_error_or_a_fault(damage: str, store: Store, tmp_path: Path) -> None:
    conversations = [samples.chatgpt_conversation()] * 50
    file = write_zip(tmp_path / "export.zip", {"conversations.json": conversations})
    data = bytearray(file.read_bytes())
    if damage == "middle":
        data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    text = json.dumps(conversations)
    changed = {
        "cut": bytes(data[:-100]),
        "middle": bytes(data),
        "not zip": b"hello",
        "empty": b"",
        "torn json": text[: len(text) // 2].encode(),
    }
    file.write_bytes(changed[damage])
    try:
        report = store.add("chatgpt", file)
    except OSError as error:
        assert damage == "cut"
        assert error.strerror
        return
    if damage == "torn json":
        assert report.added == 6
    assert report.faults or report.damaged or damage == "empty"


def test_directory_of_a_zip_file_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "many.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "")
    data = bytearray(file.read_bytes())
    data[-10:-6] = (1 << 30).to_bytes(4, "little")
    file.write_bytes(data)
    with pytest.raises(OSError, match="directory of the zip file"):
        list_exports("chatgpt", str(file))


def test_document_that_is_no_array_is_one_element() -> None:
    (item,) = read_elements(io.BytesIO(b'{"sessionId": "x", "messages": [1, 2]}'))
    assert item.value == {"sessionId": "x", "messages": [1, 2]}
    items = list(read_elements(io.BytesIO(b'[{"a": 1}, nonsense, {"b": 2}')))
    assert [item.value for item in items] == [{"a": 1}, None, {"b": 2}, None]
