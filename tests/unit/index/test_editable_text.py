"""Test that edits keep the charset, mark and line ends of a file, and are refused where they would damage it."""

import codecs
import time

import pytest

from ctxfs.index.extract.editable_text import (
    CharsetConflict,
    append_text,
    insert_lines,
    parse_editable_text,
)
from ctxfs.index.extract.text_decoding import decode
from ctxfs.model.text_edits import match_line_ends

LINE_ENDS = ["\n", "\r\n", "\r"]
RUSSIAN = "Привет, мир.\nВ этом файле хранятся заметки о встречах.\nПоследняя строка.\n"
FRENCH = "La fenêtre est fermée.\nDéjà vu à l'été, çà et là.\nDernière ligne où l'on naît.\n"
JAPANESE = "これは会議のメモです。\n次の会議は金曜日に行われます。\n最後の行です。\n"
CHINESE = "这是会议记录。\n下次会议在星期五举行。\n最后一行。\n"
KOREAN = "이것은 회의록입니다.\n다음 회의는 금요일에 있습니다.\n마지막 줄입니다.\n"
GERMAN = "Größe und Länge\nÜber die Brücke\nEnde\n"
CHARSETS = [
    ("utf-8", b"", RUSSIAN),
    ("utf-8", codecs.BOM_UTF8, JAPANESE),
    ("utf-16-le", codecs.BOM_UTF16_LE, RUSSIAN),
    ("utf-16-be", codecs.BOM_UTF16_BE, CHINESE),
    ("utf-16-le", b"", FRENCH),
    ("utf-32-le", codecs.BOM_UTF32_LE, FRENCH),
    ("latin-1", b"", FRENCH),
    ("cp1252", b"", GERMAN),
    ("cp1251", b"", RUSSIAN),
    ("koi8-r", b"", RUSSIAN),
    ("shift_jis", b"", JAPANESE),
    ("euc_jp", b"", JAPANESE),
    ("iso2022_jp", b"", JAPANESE),
    ("gb18030", b"", CHINESE),
    ("big5", b"", "這是會議記錄。\n下次會議在星期五舉行。\n最後一行。\n"),
    ("euc_kr", b"", KOREAN),
]


def edit(data: bytes, old: str, new: str) -> bytes:
    """Replace a text as the tools do."""
    editable = parse_editable_text(data)
    old, new = match_line_ends(editable.text, old, new)
    assert old in editable.text
    return editable.encode(editable.text.replace(old, new))


@pytest.mark.parametrize("line_end", LINE_ENDS, ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize(("codec", "mark", "text"), CHARSETS, ids=[f"{c}{len(m)}" for c, m, _ in CHARSETS])
def test_edit_changes_only_its_own_bytes(codec: str, mark: bytes, text: str, line_end: str) -> None:
    def encoded(changed: str) -> bytes:
        return mark + changed.replace("\n", line_end).encode(codec)

    data, (first, second, third) = encoded(text), text.split("\n")[:3]
    assert parse_editable_text(data).encode(parse_editable_text(data).text) == data
    assert edit(data, f"{first}\n{second}", f"{second}\nin ASCII\n{first}") == encoded(
        f"{second}\nin ASCII\n{first}\n{third}\n"
    )
    assert append_text(data, f"{first}\nTODO\n") == encoded(f"{text}{first}\nTODO\n")
    editable = parse_editable_text(data)
    assert editable.encode(insert_lines(editable.text, 1, f"{third}\nx")) == encoded(
        f"{first}\n{third}\nx\n{second}\n{third}\n"
    )


@pytest.mark.parametrize(("codec", "mark", "text"), CHARSETS, ids=[f"{c}{len(m)}" for c, m, _ in CHARSETS])
@pytest.mark.parametrize("addition", ["→", "Ж", "ñ", "語", "🙂", "€", "Ω"])
def test_new_letter_is_written_in_the_charset_or_refused(codec: str, mark: bytes, text: str, addition: str) -> None:
    data = mark + text.encode(codec)
    try:
        changed = append_text(data, f"{addition}\n")
    except CharsetConflict as reason:
        assert not codec.startswith("utf"), reason  # Unicode has every letter
        assert "nothing was written" in str(reason)
    else:
        assert decode(changed) == f"{text}{addition}\n"
        assert changed == data + f"{addition}\n".encode(codec)


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ('<?xml version="1.0" encoding="ISO-8859-1"?>\n<a>name</a>\n', "latin-1"),
        ('<html><meta charset="shift_jis">\n<p>name</p>\n', "shift_jis"),
        ("# -*- coding: cp1251 -*-\nname = 1\n", "cp1251"),
        ("Subject: x\nContent-Type: text/plain; charset=koi8-r\n\nname\n", "koi8-r"),
    ],
)
def test_file_of_ascii_is_written_in_the_charset_it_declares(text: str, codec: str) -> None:
    letter = {"latin-1": "é", "shift_jis": "語"}.get(codec, "Ж")
    assert edit(text.encode(), "name", letter) == text.replace("name", letter).encode(codec)
    with pytest.raises(CharsetConflict, match="cannot be written in the charset"):
        edit(text.encode(), "name", "🙂")


def test_text_about_a_charset_is_no_declaration() -> None:
    text = '# Charsets\n\nWrite `<meta charset="iso-8859-1">` into the head.\n'
    assert edit(text.encode(), "# Charsets", "# Über → Zeichensätze").decode().startswith("# Über → Zeichensätze")


def test_changed_declaration_changes_the_bytes() -> None:
    page = '<meta charset="iso-8859-1"><p>Größe</p>\n'
    assert edit(page.encode("latin-1"), "iso-8859-1", "utf-8") == page.replace("iso-8859-1", "utf-8").encode()


def test_letters_that_may_be_others_are_refused_until_the_file_has_them() -> None:
    short = "Größe\n".encode("cp1252")  # with the same bytes in Western, Central European, Turkish and Baltic charsets
    assert append_text(short, "Länge: gröber als ö\n".replace("ä", "ö")) == "Größe\nLönge: gröber als ö\n".encode(
        "cp1252"
    )
    with pytest.raises(CharsetConflict, match="not certain"):
        append_text(short, "10 €\n")


def test_lines_of_two_charsets_keep_their_bytes() -> None:
    mixed = "один\nдва\nтри\n".encode() + "Größe\n".encode("latin-1") + b"end\n"
    assert edit(mixed, "end", "конец") == mixed.replace(b"end", "конец".encode())
    assert edit(mixed, "end", "stop") == mixed.replace(b"end", b"stop")
    damaged = b"plain\n" * 3 + "ä".encode() + b"\n\xff\xfe\xfd\n"
    assert edit(damaged, "plain\nplain\nplain", "1") == damaged.replace(b"plain\nplain\nplain", b"1")


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04\0\0\0\0\x08\0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"%PDF-1.7\n\0\x01\x02\0", b"\xff\xfea\0b"]
)
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    with pytest.raises(CharsetConflict):
        append_text(data, "x")


def test_escape_sequence_that_would_change_the_charset_is_refused() -> None:
    with pytest.raises(CharsetConflict):
        append_text(b"name\n", "\x1b$B")
    assert append_text(b"", "ö") == "ö".encode()
    assert append_text("ö\n".encode("utf-16"), "") == "ö\n".encode("utf-16")


def test_edit_of_a_large_file_takes_linear_time() -> None:
    lines = "Größe und Länge der Brücke über den Fluß\n".encode("latin-1") * 100_000
    start = time.process_time()
    assert append_text(lines, "Brücke\n") == lines + "Brücke\n".encode("latin-1")
    assert time.process_time() - start < 10
