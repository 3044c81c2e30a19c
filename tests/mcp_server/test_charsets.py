"""Test that every tool that changes a text keeps the charset, the byte order mark and the line ends of its file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live import Live, mcp_call

TEXT = "Größe der Brücke\nzweite Zeile für Jörg\nletzte Zeile\n"
JAPANESE = "会議のメモです。\n次の会議は金曜日に行われます。\n最後の行\n"
# How bytes are made of a text: by a charset of 8 bits, of 16 bits with and without a mark, of one to two bytes …
CHARSETS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "latin-1": (TEXT, lambda text: text.encode("latin-1")),
    "utf-16": (TEXT, lambda text: b"\xff\xfe" + text.encode("utf-16-le")),
    "utf-16-be": (TEXT, lambda text: text.encode("utf-16-be")),
    "utf-8-sig": (TEXT, lambda text: text.encode("utf-8-sig")),
    "shift_jis": (JAPANESE, lambda text: text.encode("shift_jis")),
}


@pytest.fixture
def note(served: Live) -> Path:
    """Return a file that agent:alice may change, also with the memory tool."""
    file = served.store / "tree" / "memory" / "alice" / "charset.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def change(served: Live, tool: str, old: str, new: str) -> str:
    """Replace, insert or append a line with a tool; `old` is the first line, below which `new` is inserted."""
    path = {"path": "memory/alice/charset.txt"}
    memory = {"path": "/memories/charset.txt"}
    name, arguments = {
        "ctx_edit": ("ctx_edit", {**path, "edits": [{"old": old, "new": f"{old}\n{new}"}]}),
        "str_replace": ("memory", {**memory, "command": "str_replace", "old_str": old, "new_str": f"{old}\n{new}"}),
        "insert": ("memory", {**memory, "command": "insert", "insert_line": 1, "insert_text": f"{new}\n"}),
        "append": ("ctx_write", {**path, "mode": "append", "content": f"{new}\n"}),
    }[tool]
    text, _ = mcp_call(served, name, arguments, principal="agent:alice")
    return text


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("charset", CHARSETS)
def test_change_of_a_text_keeps_its_charset_and_line_ends(
    charset: str, line_end: str, served: Live, note: Path
) -> None:
    text, encode = CHARSETS[charset]
    first, *rest = text.split("\n")
    for tool in ("ctx_edit", "str_replace", "insert", "append"):
        note.write_bytes(encode(text.replace("\n", line_end)))
        answer = change(served, tool, first, rest[0])
        lines = [*text.split("\n")[:-1], rest[0], ""] if tool == "append" else [first, rest[0], *rest]
        assert note.read_bytes() == encode(line_end.join(lines)), (tool, answer)
        if tool == "ctx_edit":
            assert f"+{rest[0]}" in answer, "the diff shows the text, not its bytes"


def test_character_that_the_charset_lacks_is_refused_and_changes_nothing(served: Live, note: Path) -> None:
    before = TEXT.encode("latin-1")
    for tool in ("ctx_edit", "str_replace", "insert", "append"):
        note.write_bytes(before)
        assert "cannot be written in the charset" in change(served, tool, "Größe der Brücke", "→ 🙂"), tool
        assert note.read_bytes() == before


def test_memory_shows_and_versions_show_a_text_in_its_charset(served: Live, note: Path) -> None:
    note.write_bytes(JAPANESE.replace("\n", "\r\n").encode("shift_jis"))
    view = {"command": "view", "path": "/memories/charset.txt"}
    text, _ = mcp_call(served, "memory", view, principal="agent:alice")
    assert "     2\t次の会議は金曜日に行われます。\n" in text
    change(served, "ctx_edit", "最後の行", "会議")
    served.run("commit")
    arguments = {"mode": "show", "path": "memory/alice/charset.txt", "at": "latest"}
    shown, _ = mcp_call(served, "ctx_history", arguments, principal="agent:alice")
    assert "次の会議は金曜日に行われます。" in shown
