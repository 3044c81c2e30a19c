"""Test that the text of a file is the same for every reader, whatever charset, line ends and control characters it has."""

import io
import sys
import time
from pathlib import Path

import pytest

from ctxfs.cli.output import write_content
from ctxfs.context.build.fit import fit
from ctxfs.index.extract.charsets import declared_codec, find_codec
from ctxfs.index.extract.formats import extract_chunks
from ctxfs.index.extract.text_cleaning import clean
from ctxfs.index.extract.text_decoding import decode, is_binary, read_text
from ctxfs.index.search.grep import Matcher, scan
from ctxfs.model.path import ROOT
from tests.unit.index.test_grep import Live

RUSSIAN = "Ключи подписи меняются каждые девяносто дней, и никто не помнит, кто их менял."
JAPANESE = "署名鍵は九十日ごとに交換し、古い鍵は引き出しに入れておきます。"
KOREAN = "서명 키는 구십일마다 교체하고 오래된 키는 서랍에 넣어 둡니다."
CHINESE = "签名密钥每九十天轮换一次，旧密钥放在抽屉里，没有人记得是谁放的。"
TAIWANESE = "簽名金鑰每九十天輪換一次，舊的金鑰放在抽屜裡，沒有人記得是誰放的。"
POLISH = "Klucze podpisów zmieniają się co dziewięćdziesiąt dni, a stare leżą w szufladzie i nikt ich już nie używa."
CZECH = "Podpisové klíče se mění každých devadesát dní a staré leží v zásuvce, kde je už nikdo nehledá."
GREEK = "Τα κλειδιά υπογραφής αλλάζουν κάθε ενενήντα ημέρες και τα παλιά μένουν στο συρτάρι."
HEBREW = "מפתחות החתימה מתחלפים כל תשעים יום והישנים נשארים במגירה"
TURKISH = "İmza anahtarları doksan günde bir değişir, eskileri çekmecede durur ve kimse onları kullanmaz."
GERMAN = "Die Schlüssel für Unterschriften wechseln alle neunzig Tage, ältere liegen in der Schublade für Müßige."
FRENCH = "Les clés changent après quatre-vingt-dix jours ; les précédentes restent où elles ont été laissées."


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (RUSSIAN, "cp866"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (KOREAN, "euc_kr"),
        (KOREAN, "cp949"),
        (CHINESE, "gb2312"),
        (CHINESE, "gb18030"),
        (TAIWANESE, "big5"),
        (POLISH, "iso8859-2"),
        (POLISH, "cp1250"),
        (CZECH, "cp1250"),
        (GREEK, "iso8859-7"),
        (GREEK, "cp1253"),
        (HEBREW, "cp1255"),
        (TURKISH, "cp1254"),
        (GERMAN, "latin-1"),
        (FRENCH, "cp1252"),
        ("plain text " * 4, "utf-16-le"),
        (RUSSIAN, "utf-16-be"),
        (GERMAN, "utf-16-le"),
        (GERMAN, "utf-32-be"),
        (JAPANESE, "utf-16"),
        (JAPANESE, "utf-32"),
        (CHINESE, "utf-8-sig"),
    ],
)
def test_text_without_a_declaration_is_read_in_its_charset(text: str, codec: str) -> None:
    data = f"{text}\n\nabc 123\n{text}\n".encode(codec)
    assert read_text(data) == f"{text}\n\nabc 123\n{text}\n"
    assert not is_binary(data)


@pytest.mark.parametrize(
    ("head", "text", "codec"),
    [
        ("<meta charset=gb2312>", "好", "gb2312"),
        ('<html><head><meta name="a"><meta http-equiv="Content-Type" content="text/html; charset=x-sjis">', "鍵", "cp932"),
        ('<?xml version="1.0" encoding="windows-1251"?>', "ы", "cp1251"),
        ("<?xml version='1.0' encoding='ISO-8859-2' standalone='yes'?>", "ż", "iso8859-2"),
        ("# -*- coding: koi8-r -*-", "ы", "koi8-r"),
        ("#!/usr/bin/env python\n# vim: set fileencoding=iso-8859-15 :", "€", "iso8859-15"),
        ("/* vim: set ts=4 fenc=cp1250 : */", "ř", "cp1250"),
        ("; -*- mode: lisp; coding: euc-jp-unix -*-", "鍵", "euc_jp"),
        ('@charset "windows-1253";', "ω", "cp1253"),
        ('msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=ISO-8859-9\\n"', "ş", "iso8859-9"),
        ("\\documentclass{article}\n\\usepackage[latin2]{inputenc}", "ł", "iso8859-2"),
        ("% !TEX encoding = MacRoman\nx", "é", "mac_roman"),
        ("# encoding: tis-620", "ก", "tis-620"),
    ],
)  # fmt: skip
def test_declared_charset_is_believed(head: str, text: str, codec: str) -> None:
    assert text in (read_text(f"{head}\n{text}\n".encode(codec)) or "")


def test_charset_in_a_mode_line_at_the_end_is_believed() -> None:
    data = "žluť\n".encode("iso8859-2") + b"x\n" * 3000 + b"Local Variables:\ncoding: latin-2\nEnd:\n"
    assert decode(data).startswith("žluť\n")


def test_wrong_declaration_does_not_damage_utf_8() -> None:
    assert decode(f'<meta charset="iso-8859-1">{RUSSIAN}'.encode()).endswith(RUSSIAN)
    assert decode(f"# -*- coding: latin-1 -*-\n{CHINESE}".encode()).endswith(CHINESE)


def test_declaration_that_does_not_fit_is_ignored() -> None:
    assert decode(b'<?xml version="1.0" encoding="utf-16"?>' + RUSSIAN.encode("cp1251")).endswith(RUSSIAN)
    assert decode(b"# coding: euc-jp\n" + RUSSIAN.encode("cp1251")).endswith(RUSSIAN)


@pytest.mark.parametrize(
    "label", ["punycode", "idna", "undefined", "zlib", "rot13", "hex", "a\0b", "", "x" * 5000, "unicode_escape"]
)
def test_label_of_no_text_encoding_is_unknown(label: str) -> None:
    assert find_codec(label) is None


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("GB2312", "gb18030"),
        ("Shift_JIS", "cp932"),
        ("iso-8859-1", "cp1252"),
        ("win-1251", "cp1251"),
        ("utf8mb4", "utf-8"),
    ],
)
def test_label_stands_for_the_superset_that_programs_mean(label: str, codec: str) -> None:
    assert find_codec(label) == codec


def test_lines_in_two_charsets_are_both_read() -> None:
    data = "größer\n".encode() * 3 + "müde Käfer\n".encode("latin-1") + "größer\n".encode()
    assert decode(data) == "größer\n" * 3 + "müde Käfer\n" + "größer\n"


def test_utf_8_that_was_cut_stays_utf_8() -> None:
    assert decode(RUSSIAN.encode()[:-1] + b"\n" + RUSSIAN.encode()).startswith(RUSSIAN[:-2])
    assert decode(CHINESE.encode()[:-1]).startswith(CHINESE[:-1])


def test_few_signs_in_english_are_western() -> None:
    data = "The caf\xe9 na\xefvely charges 5 \xb5g for \xa33 \x96 \x93no\x94.".encode("latin-1")
    assert decode(data) == "The café naïvely charges 5 µg for £3 – “no”."


@pytest.mark.parametrize(
    "data",
    [
        b"\x7fELF\x02\x01\x01" + b"\0" * 9 + b"\x03\0>\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"PK\x03\x04" + bytes(range(256)) * 20,
        bytes(range(1, 256)) * 30,
        b"SQLite format 3\0\x10\0\x01\x01\0@ ",
        b"retry\0retry\n",
        b"one\0two\0three\0",
        b"\0" * 5000,
        b"\xff\xfe" + bytes(range(256)) * 8,
        b"\xca\xfe\xba\xbe\0\0\x004\0\x1d\n\0\6\0\x0f",
    ],
)
def test_binary_stays_binary(data: bytes) -> None:
    assert read_text(data) is None


def test_log_with_few_nul_bytes_is_text() -> None:
    line = b"2026-03-03 10:00:00 the quokka restarted\n"
    assert read_text(line * 20 + b"cut\0off\n" + line * 20) is not None
    allocated = read_text(b"\0" * 10_000 + line * 3)
    assert allocated is not None
    assert allocated.strip().startswith("2026-03-03")
    assert "\0" not in (read_text(line * 300 + b"\0" * 5000 + line * 3) or "\0")


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("N\bNA\bAM\bME\bE\n  _\bq_\bu_\bo_\bk_\bk_\ba\n", "NAME\n  quokka\n"),
        ("q\b_u\b_o\b_", "quo"),
        ("quokka\b\b\b\b\b\b______ here", "quokka here"),
        ("\x1b[1;31mERROR\x1b[0m quo\x1b[4mkka\x1b[24m", "ERROR quokka"),
        ("\x1b]0;title\x07quokka \x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "quokka link"),
        ("\x9b31mred\x9b0m", "red"),
        ("\x02bold\x02 \x0304,12red\x03 \x1funder\x1f", "bold red  under "),
        ("10 %\r50 %\rdone\n", "10 % 50 % done\n"),
        ("one\n\x0cPage two\n", "one\nPage two\n"),
        ("a\x1cb\x1fc\x00\x00d\x1a", "a b c d"),
        ("tab\tstays\r\nand lines", "tab\tstays\nand lines"),
    ],
)
def test_marks_of_terminals_and_printers_are_removed(raw: str, text: str) -> None:
    assert clean(raw) == text


def test_classic_macintosh_lines_are_lines() -> None:
    chunks = extract_chunks("a.md", b"# One\r\rquokka\r\r# Two\r\rwombat\r")
    assert [(chunk.heading, chunk.first) for chunk in chunks] == [("One", 1), ("Two", 5)]


def test_front_matter_with_a_mark_and_windows_line_ends_has_its_author() -> None:
    for data in (
        b"\xef\xbb\xbf---\r\nauthor: Ann\r\ndate: 2026-03-03\r\n---\r\ntext\r\n",
        "---\r\nauthor: Ann\r\n---\r\ntext\r\n".encode("utf-16"),
        b"---\rauthor: Ann\r---\rtext\r",
    ):
        chunk = extract_chunks("a.md", data)[-1]
        assert (chunk.author, chunk.text.endswith("text")) == ("Ann", True)


def test_grep_and_fit_read_the_same_text_as_the_index(tmp_path: Path) -> None:
    live = Live(tmp_path)
    try:
        (live.corpus / "wide.txt").write_bytes("# Größe\nquokka\n".encode("utf-16"))
        (live.corpus / "mark.md").write_bytes(b"\xef\xbb\xbf# Title\n")
        (live.corpus / "old.txt").write_bytes(f"{RUSSIAN}\n".encode("koi8-r"))
        (live.corpus / "page.1").write_bytes(b"q\bqu\buo\bok\bkk\bka\ba\n")
        live.follower.scan_all()
        live.searcher.refresh()
        files = [(live.root, (name,)) for name in ("mark.md", "old.txt", "page.1", "wide.txt")]
        assert [line.text for line in scan(files, Matcher("^# Title|девяносто|^quokka"))[0]] == [
            "# Title", RUSSIAN, "quokka", "quokka",
        ]  # fmt: skip
        assert set(live.searcher.candidate_files(Matcher("quokka").needed, ROOT) or ()) >= {
            "knowledge/c/page.1", "knowledge/c/wide.txt",
        }  # fmt: skip
    finally:
        live.close()
    assert fit(f"{RUSSIAN}\n".encode("utf-16"), "", 100, len, str.split) == f"{RUSSIAN}\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b]" * 2_000_000,
        b"\x1b[" * 2_000_000,
        b"a\b" * 2_000_000,
        b"<meta " * 1_000_000 + b"\xff",
        b"content-type:" * 400_000 + b"\xff",
        b"\xe9" * 5_000_000,
        b"caf\xe9 " * 1_000_000,
        b"x" * 10_000_000 + b"\xe9",
        b"\xe9\n" * 1_000_000,
        b"coding:" * 700_000 + b"\xff",
        b"\0a" * 2_000_000,
    ],
)
def test_hostile_bytes_are_read_in_linear_time(data: bytes) -> None:
    start = time.process_time()
    read_text(data)
    assert time.process_time() - start < 8


def test_long_head_declares_nothing() -> None:
    assert declared_codec(b"x" * 100_000 + b"<meta charset=gb2312>" + b"x" * 100_000) is None


@pytest.mark.parametrize(
    ("is_terminal", "written"), [(True, "Größe quokka\n".encode()), (False, b"Gr\xf6\xdfe \x1b[1mquokka\n")]
)
def test_terminal_shows_text_and_a_pipe_gets_the_bytes(
    is_terminal: bool, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(stdout, "isatty", lambda: is_terminal)
    monkeypatch.setattr(sys, "stdout", stdout)
    write_content(b"Gr\xf6\xdfe \x1b[1mquokka\n")
    stdout.seek(0)
    assert stdout.buffer.read() == written
