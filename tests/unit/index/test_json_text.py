"""Test JSON, JSON lines, chat exports in JSON and notebooks: strings decoded, records whole, authors and days."""

import json
import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxfs.index.extract.blocks import MAX_CHUNK_CHARACTERS
from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.formats import UnreadableFile, extract_chunks
from ctxfs.index.extract.formats.json_text import decode_escapes
from tests.unit.index.test_index import Index

DAY = date(2025, 7, 1).toordinal()
STAMP = "2025-07-01T10:00:00Z"


def chunks_of(name: str, *values: Any, indent: int | None = None) -> list[Chunk]:
    return extract_chunks(name, "\n".join(json.dumps(value, indent=indent) for value in values).encode())


def said(chunks: list[Chunk]) -> list[tuple[str, str]]:
    """Return (author, first line of the text without the author) of the chunks that have one."""
    return [
        (chunk.author, chunk.text.removeprefix(f"{chunk.author}: ").split("\n")[0]) for chunk in chunks if chunk.author
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r'{"a": "one\ntwo"}', "one\ntwo"),
        (r'{"a": "say \"hi\""}', 'say "hi"'),
        (r'{"a": "caf\u00e9"}', "café"),
        (r'{"a": "\u7b7e\u540d"}', "签名"),
        (r'{"a": "\ud83e\udd8a fox"}', "🦊 fox"),
        (r'{"a": "C:\\new\\u00e9"}', "C:\\new\\u00e9"),
        (r'{"a": "a\/b\tc"}', "a/b\tc"),
        ('{"a": "x\\u2028y\\u0085z"}', "x\u2028y\x85z"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_strings_are_searched_without_their_escapes(name: str, source: str, expected: str) -> None:
    assert expected in "\n".join(chunk.text for chunk in extract_chunks(name, source.encode()))


@given(st.text(max_size=60))
def test_any_string_is_decoded_as_json_decodes_it(text: str) -> None:
    assert decode_escapes(json.dumps(text))[1:-1] == text.replace("\b", " ").replace("\f", " ").replace("\r", " ")


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_only_line_feeds_end_a_record(ending: str, mark: str) -> None:
    lines = [
        '{"author": "Ann", "text": "left\u2028right\x85end"}',
        "",
        '{"author": "Bob", "text": "two"}',
        "{broken",
        "[1]",
    ]
    chunks = extract_chunks("a.jsonl", (mark + ending.join(lines)).encode())
    assert [(chunk.author, chunk.first) for chunk in chunks] == [("Ann", 1), ("Bob", 3), ("", 4), ("", 5)]
    assert chunks[0].text == "Ann: left\u2028right\x85end"


def test_long_record_is_whole_and_each_piece_has_author_and_day() -> None:
    (first, *_), last = (
        (chunks := chunks_of("a.jsonl", {"user": "Ann", "ts": STAMP, "text": "begin " + "word " * 5_000 + "quokka"})),
        chunks[-1],
    )
    assert "quokka" in last.text
    assert len(chunks) > 20
    assert {(chunk.author, chunk.day, chunk.first) for chunk in chunks} == {("Ann", DAY, 1)}
    assert all(chunk.text.startswith("Ann: ") and len(chunk.text) <= MAX_CHUNK_CHARACTERS for chunk in chunks), first


TRANSCRIPTS: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "flat": ({"speaker": "Ada", "text": "hi"}, [("Ada", "hi")]),
    "role": ({"role": "user", "content": "hi"}, [("user", "hi")]),
    "nested": ({"type": "user", "message": {"role": "user", "content": "hi"}}, [("user", "hi")]),
    "blocks": (
        {
            "message": {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "well"}, {"type": "text", "text": "yes"}],
            }
        },
        [("assistant", "well")],
    ),
    "payload": (
        {
            "type": "response_item",
            "payload": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        },
        [("user", "hi")],
    ),
    "messages": (
        {"messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]},
        [("system", "be kind"), ("user", "hi")],
    ),
    "sharegpt": (
        {"id": "1", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]},
        [("human", "hi"), ("gpt", "yo")],
    ),
    "author object": ({"author": {"name": "Zed", "id": "1"}, "content": "hi"}, [("Zed", "hi")]),
    "slack": (
        {"type": "message", "user": "U0123ABCD", "user_profile": {"real_name": "Ann Lee"}, "text": "hi"},
        [("U0123ABCD", "hi")],
    ),
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_message_of_any_nesting_has_its_author(name: str) -> None:
    record, expected = TRANSCRIPTS[name]
    assert said(chunks_of("a.jsonl", record)) == expected


def test_calls_of_tools_and_their_results_are_part_of_a_transcript() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls\n-la quokka"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "42 wombats"}]}
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 9_000}}
    openai = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": {"name": "grep", "arguments": '{"q": "numbat"}'}}],
    }
    chunks = chunks_of(
        "a.jsonl",
        {"message": {"role": "assistant", "content": [call]}, "timestamp": STAMP, "cwd": "/home/possum"},
        {"message": {"role": "user", "content": [result, image]}},
        {"messages": [{"role": "user", "content": "look"}, openai]},
    )
    text = "\n".join(chunk.text for chunk in chunks)
    assert all(word in text for word in ("Bash", "-la quokka", "42 wombats", "grep", "numbat", "/home/possum"))
    assert "AAAA" not in text
    assert (chunks[0].author, chunks[0].day) == ("assistant", DAY)


def test_record_that_is_no_message_keeps_its_fields() -> None:
    (chunk,) = chunks_of("a.jsonl", {"event": "login", "user": "ada", "ok": True, "date": "2025-07-01"})
    assert (chunk.author, chunk.day) == ("ada", DAY)
    assert '"event": "login"' in chunk.text


def chatgpt(indent: int | None = None) -> list[Chunk]:
    def node(key: str, parent: str | None, children: list[str], role: str, text: str) -> dict[str, Any]:
        content = {"content_type": "text", "parts": [text]}
        message = {"author": {"role": role}, "create_time": 1751364000.5, "content": content} if role else None
        return {"id": key, "parent": parent, "children": children, "message": message}

    nodes = [
        node("c", "b", [], "user", "thanks"),
        node("root", None, ["a"], "", ""),
        node("a", "root", ["b"], "user", "where is the quokka?"),
        node("b", "a", ["c"], "assistant", "on\nRottnest"),
    ]
    return chunks_of(
        "conversations.json", [{"title": "Quokkas", "mapping": {n["id"]: n for n in nodes}}], indent=indent
    )


@pytest.mark.parametrize("indent", [None, 2])
def test_chatgpt_export_is_read_in_the_order_of_its_tree(indent: int | None) -> None:
    chunks = chatgpt(indent)
    assert said(chunks) == [("user", "where is the quokka?"), ("assistant", "on"), ("user", "thanks")]
    assert {(chunk.heading, chunk.day) for chunk in chunks} == {("Quokkas", DAY)}


EXPORTS: dict[str, tuple[Any, list[tuple[str, str]], str]] = {
    "claude": (
        [
            {
                "uuid": "1",
                "name": "Trip",
                "chat_messages": [
                    {
                        "uuid": "2",
                        "sender": "human",
                        "text": "hi",
                        "content": [{"type": "text", "text": "hi"}],
                        "created_at": STAMP,
                        "attachments": [{"file_name": "a.txt", "extracted_content": "numbat"}],
                    },
                    {"uuid": "3", "sender": "assistant", "text": "hello", "content": [], "created_at": STAMP},
                ],
            }
        ],
        [("human", "hi"), ("assistant", "hello")],
        "Trip",
    ),
    "slack": (
        [
            {
                "type": "message",
                "user": "U0123ABCD",
                "user_profile": {"real_name": "Ann Lee"},
                "text": "hi <@U0456ABCD>",
                "ts": "1751364000.0002",
            },
            {
                "type": "message",
                "user": "U0456ABCD",
                "user_profile": {"display_name": "Bob"},
                "text": "yo",
                "ts": "1751364001.0002",
            },
        ],
        [("Ann Lee", "hi @Bob"), ("Bob", "yo")],
        "",
    ),
    "telegram": (
        {
            "name": "Family",
            "type": "private_group",
            "messages": [
                {
                    "id": 1,
                    "type": "message",
                    "date": "2025-07-01T10:00:00",
                    "from": "Ann",
                    "text": ["see ", {"type": "link", "text": "x.org"}, "!"],
                },
                {"id": 2, "type": "message", "date": "2025-07-01T10:00:00", "from": "Bob", "text": "ok"},
            ],
        },
        [("Ann", "see x.org!"), ("Bob", "ok")],
        "Family",
    ),
    "telegram, all": (
        {
            "chats": {
                "list": [
                    {
                        "name": "Family",
                        "messages": [{"type": "message", "date": "2025-07-01T10:00:00", "from": "Ann", "text": "hi"}],
                    }
                ]
            }
        },
        [("Ann", "hi")],
        "Family",
    ),
    "discord": (
        {
            "guild": {"name": "G"},
            "channel": {"name": "general"},
            "messages": [
                {
                    "id": "1",
                    "timestamp": "2025-07-01T10:00:00+00:00",
                    "content": "hi",
                    "author": {"id": "9", "name": "ann", "nickname": "Ann"},
                }
            ],
        },
        [("Ann", "hi")],
        "general",
    ),
    "facebook": (
        {
            "participants": [{"name": "Ann"}],
            "title": "Ann",
            "messages": [{"sender_name": "JÃ¼rgen", "timestamp_ms": 1751364000000, "content": "grÃ¼Ã\x9fe"}],
        },
        [("Jürgen", "grüße")],
        "Ann",
    ),
    "generic": (
        {"title": "Notes", "messages": [{"role": "user", "content": "hi", "created_at": STAMP}]},
        [("user", "hi")],
        "Notes",
    ),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_export_of_a_chat_is_read_by_message(name: str) -> None:
    value, expected, title = EXPORTS[name]
    chunks = chunks_of("export.json", value, indent=1)
    assert said(chunks) == expected
    assert {(chunk.heading, chunk.day) for chunk in chunks} == {(title, DAY)}
    assert [chunk.first for chunk in chunks] == sorted(chunk.first for chunk in chunks)
    assert chunks[-1].first > 1


def test_attachment_of_a_chat_is_searched() -> None:
    assert "numbat" in "".join(chunk.text for chunk in chunks_of("conversations.json", EXPORTS["claude"][0]))


def test_json_without_messages_keeps_its_lines() -> None:
    value = {"name": "pkg", "messages": {"a": "b"}, "list": ["quokka", "num\nbat"]}
    chunks = chunks_of("package.json", value, indent=2)
    assert {chunk.author for chunk in chunks} == {""}
    assert "num\nbat" in chunks[0].text
    assert (chunks[0].first, chunks[0].last) == (1, len(json.dumps(value, indent=2).split("\n")))


def cell(kind: str, source: Any, outputs: Any = None) -> dict[str, Any]:
    return {"cell_type": kind, "source": source, **({"outputs": outputs} if outputs is not None else {})}


def test_notebook_is_read_cell_by_cell_with_its_outputs() -> None:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["one\n", "quokka\n"]},
        {
            "output_type": "execute_result",
            "data": {"text/plain": "numbat 42", "text/html": "<b>html</b>", "image/png": "iVBOR" * 200},
        },
        {
            "output_type": "error",
            "ename": "KeyError",
            "evalue": "'wombat'",
            "traceback": ["\x1b[0;31mKeyError\x1b[0m: here"],
        },
    ]
    cells = [
        cell("markdown", ["# Title\n", "text"]),
        cell("code", "x = 1\nload()", outputs),
        cell("markdown", "## Part"),
        cell("raw", "raw words"),
    ]
    chunks = chunks_of("a.ipynb", {"cells": cells, "nbformat": 4}, indent=1)
    text = "\n".join(chunk.text for chunk in chunks)
    for word in ("x = 1\nload()", "quokka", "numbat 42", "KeyError: 'wombat'", "raw words"):
        assert word in text
    assert "iVBOR" not in text
    assert "\x1b" not in text
    assert "<b>" not in text
    headings = [chunk.heading for chunk in chunks]
    assert headings[:2] == ["Title > cell 1", "Title > cell 2"]
    assert headings[-1] == "Title > Part > cell 4"
    assert [chunk.first for chunk in chunks] == sorted({chunk.first for chunk in chunks})


def test_notebook_of_format_3_is_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Gliders"]},
        {"cell_type": "code", "input": ["import quokka\n"], "outputs": [{"output_type": "pyout", "text": ["numbat"]},
                                                                      {"output_type": "pyerr", "ename": "E", "evalue": "wombat"}]},
    ]  # fmt: skip
    chunks = chunks_of("a.ipynb", {"worksheets": [{"cells": cells}], "nbformat": 3})
    text = "\n".join(chunk.text for chunk in chunks)
    assert all(word in text for word in ("import quokka", "numbat", "E: wombat"))
    assert chunks[-1].heading == "Gliders > cell 2"


@pytest.mark.parametrize("name", ["a.ipynb", "conversations.json", "a.jsonl"])
@pytest.mark.parametrize(
    "data",
    [
        b'{"cells": [{"cell_type": 1, "source": {}}, 3, null, {"outputs": [1, {"data": 3}]}]} quokka',
        b'{"cells": "quokka"}',
        b'{"worksheets": [1, {"cells": 2}], "q": "quokka"}',
        b'{"messages": [1, null, {"role": "quokka", "content": "x"}]}',
        b'[{"mapping": {"a": {"message": {"content": {"parts": [1, {"a": 2}]}, "author": 3}, "parent": "a"}}, "t": "quokka"}]',
        b'{"messages": "quokka"}',
        b'{"role": {"a": 1}, "content": "quokka"}',
        b'{"author": "\\ud83d", "text": "quokka \\udc00"}',
        b'{"role": "quokka", "content": [[[["x"]]]]}',
        b'{"text": "quokka", "user": "a", "n": 1e999, "m": NaN}',
        b'{"role": "user", "content": "quokka", "n": ' + b"9" * 6_000 + b"}",
        b"quokka [" + b"[" * 100_000,
        b'{"a":' * 60_000 + b'"quokka"',
    ],
)
def test_value_of_an_unexpected_shape_is_still_searched(name: str, data: bytes) -> None:
    start = time.process_time()
    assert "quokka" in "".join(chunk.text + chunk.author for chunk in extract_chunks(name, data))
    assert time.process_time() - start < 2


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "conversations.json", "a.ipynb"])
@pytest.mark.parametrize(
    "piece",
    [
        '{"role":"user","content":"some words here"},',
        '"' + "x" * 90_000 + '",',
        r'"\u00e9\n",',
        "1,",
        "[],",
        '{"a":{"b":',
    ],
)
def test_one_line_of_megabytes_takes_bounded_time(name: str, piece: str) -> None:
    data = ('{"messages":[' + piece * (4_000_000 // len(piece)) + "0]}").encode()
    start = time.process_time()
    try:
        chunks = extract_chunks(name, data)
    except UnreadableFile:
        chunks = []
    assert time.process_time() - start < 12
    assert sum(len(chunk.text) for chunk in chunks) < 2 * len(data)


CONVERSATION = [{"role": "user", "content": "where is the quokka?"}, {"role": "assistant", "content": "on Rottnest"}]
LOGS: dict[str, list[Any]] = {
    "lines.jsonl": CONVERSATION,
    "nested.ndjson": [{"type": record["role"], "message": record} for record in CONVERSATION],
    "whole.jsonl": [{"messages": CONVERSATION}],
    "settings.json": [{"name": "pkg", "user": "ann", "list": ["quokka"]}],
    "logins.jsonl": [{"event": "login", "user": name} for name in ("ann", "bob", "cid")],
    "notes.jsonl": [{"author": "Ann", "text": "a note"}, {"author": "Ann", "text": "another"}],
}


def test_kind_dialogue_finds_every_export_of_a_chat_in_json(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    exports = {f"{name.replace(', ', '-')}.json": json.dumps(value) for name, (value, _, _) in EXPORTS.items()}
    logs = {name: "\n".join(map(json.dumps, values)) for name, values in LOGS.items()}
    for name, text in (exports | logs).items():
        (corpus / name).write_text(text)
    index = Index(tmp_path / "index", corpus)
    expected = {*exports, "lines.jsonl", "nested.ndjson", "whole.jsonl"}
    try:
        assert set(index.paths("kind:dialogue")) == expected
        assert set(index.paths("kind:records")) == {"logins.jsonl", "notes.jsonl"}
        for name in logs:  # unchanged content, so that no chunks are made anew
            os.utime(corpus / name, ns=(1, 1))
        index.follower.scan_all()
        assert set(index.paths("kind:dialogue")) == expected
    finally:
        index.close()
