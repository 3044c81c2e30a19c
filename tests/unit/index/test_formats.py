"""Test the text from source code, HTML, mail and PDF, and from files whose name belies their content."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from ctxfs.index.extract.blocks import MAX_CHUNK_CHARACTERS
from ctxfs.index.extract.chunks import Chunk, split_into_chunks
from ctxfs.index.extract.formats import UnreadableFile, extract_chunks
from ctxfs.index.extract.syntax import Definition, find_definitions
from ctxfs.index.extract.text_decoding import decode, is_binary

SOURCES = {
    "js": (
        "/** A cart. */\nexport class Cart {\n  add(x) {\n  }\n}\n\nexport const total = (items) => {\n  return 1;\n};\n",
        [("Cart", 1, 5), ("Cart.add", 3, 4), ("total", 7, 9)],
    ),
    "ts": (
        "export interface Cart {\n  add(x: X): void;\n}\nnamespace Shop {\n  export function total() {\n  }\n}\n",
        [("Cart", 1, 3), ("Cart.add", 2, 2), ("Shop", 4, 7), ("Shop.total", 5, 6)],
    ),
    "go": (
        "package p\n\n// Adds.\nfunc (c *Cart) Total() int {\n\treturn 1\n}\n\ntype Cart struct {\n\tsum int\n}\n",
        [("Total", 3, 6), ("Cart", 8, 10)],
    ),
    "rs": (
        "/// A cart.\n#[derive(Debug)]\nstruct Cart { sum: u32 }\n\nimpl Cart {\n    fn total(&self) {\n    }\n}\n",
        [("Cart", 1, 3), ("Cart", 5, 8), ("Cart.total", 6, 7)],
    ),
    "java": (
        "public class Cart {\n  /** Adds. */\n  @Override\n  public int total() {\n  }\n}\n",
        [("Cart", 1, 6), ("Cart.total", 2, 5)],
    ),
    "c": ("/* Adds. */\nstatic int *total(struct cart *c)\n{\n}\n", [("total", 1, 4)]),
    "cpp": (
        "namespace shop {\ntemplate <typename T>\nclass Cart {\n  int total() {}\n};\n}\n",
        [("shop", 1, 6), ("shop.Cart", 2, 5), ("shop.Cart.total", 4, 4)],
    ),
    "cs": ("public class Cart {\n  public int Total() {\n  }\n}\n", [("Cart", 1, 4), ("Cart.Total", 2, 3)]),
    "rb": (
        "module Shop\n  class Cart\n    # Adds.\n    def total\n    end\n  end\nend\n",
        [("Shop", 1, 7), ("Shop.Cart", 2, 6), ("Shop.Cart.total", 3, 5)],
    ),
    "php": ("<?php\nclass Cart {\n  public function total() {\n  }\n}\n", [("Cart", 2, 5), ("Cart.total", 3, 4)]),
    "sh": ("echo\n\n# Adds.\ntotal() {\n  echo 1\n}\n", [("total", 3, 6)]),
    "py": (
        "class Cart:\n    @property\n    def total(self):\n        return 1\n",
        [("Cart", 1, 4), ("Cart.total", 2, 4)],
    ),
}


def named(found: Sequence[Definition], trail: str = "") -> list[tuple[str, int, int]]:
    """Return (trail of names, first line, last line), from 1."""
    out = []
    for item in found:
        out.append((trail + item.name, item.start + 1, item.end))
        out.extend(named(item.members, f"{trail}{item.name}."))
    return out


@pytest.mark.parametrize("suffix", SOURCES)
def test_definitions_include_their_comments_and_decorators(suffix: str) -> None:
    text, expected = SOURCES[suffix]
    assert named(find_definitions(suffix, text) or ()) == expected


@pytest.mark.parametrize("suffix", SOURCES)
def test_chunks_of_source_cover_each_line_once(suffix: str) -> None:
    text = SOURCES[suffix][0] * 30
    covered = [
        number for chunk in split_into_chunks(f"x.{suffix}", text) for number in range(chunk.first, chunk.last + 1)
    ]
    wanted = {number for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    assert wanted <= set(covered)
    assert len(covered) == len(set(covered))


def test_comment_belongs_to_the_function_below_it() -> None:
    body = "".join(f"\tx += {number} // a step of many\n" for number in range(40))
    text = f"package p\n\n// One says the first thing.\nfunc One() {{\n{body}}}\n\n// Two says the second.\nfunc Two() {{\n{body}}}\n"
    chunks = split_into_chunks("p.go", text)
    (two,) = [chunk for chunk in chunks if "Two says" in chunk.text]
    assert two.heading == "Two"
    assert "func Two" in two.text


@pytest.mark.parametrize("name", ["broken.py", "broken.js", "broken.rs", "broken.java"])
def test_source_that_does_not_parse_is_still_found(name: str) -> None:
    text = "class {{{ def ((( fn total(\n" * 50
    assert "total" in split_into_chunks(name, text)[0].text


def test_minified_and_deeply_nested_source_is_bounded() -> None:
    start = time.monotonic()
    split_into_chunks("min.js", "function f(){return 1};" * 50_000)
    split_into_chunks("deep.js", "class A { m() { " * 5000 + "}}" * 5000)
    split_into_chunks("deep.cpp", "namespace a {" * 5000 + "}" * 5000)
    split_into_chunks("deep.py", "(" * 50_000)
    assert time.monotonic() - start < 20


PAGE = """<!DOCTYPE html>
<html><head><title>Keys</title><style>p { color: red }</style><script>var hidden = "<p>no</p>";</script></head>
<body>
<nav>Home</nav>
<h1>Rotation</h1>
<p>Rotate the <b>signing</b> keys
every ninety days.</p>
<h2>Why</h2>
<ul><li>Old keys leak.</li><li>Auditors ask &amp; wait.</li></ul>
<!-- a secret comment -->
</body></html>
"""


def test_html_is_read_as_a_reader_of_the_page_sees_it() -> None:
    chunks = extract_chunks("keys.html", PAGE.encode())
    text = "\n".join(chunk.text for chunk in chunks)
    assert "Rotate the signing keys every ninety days." in text
    assert "Auditors ask & wait." in text
    assert "hidden" not in text
    assert "secret" not in text
    assert "color" not in text
    (why,) = [chunk for chunk in chunks if "leak" in chunk.text]
    assert why.heading == "Keys > Rotation > Why"
    assert (why.first, why.last) == (8, 9)
    (rotation,) = [chunk for chunk in chunks if "ninety" in chunk.text]
    assert rotation.first <= 6
    assert rotation.last >= 7


@pytest.mark.parametrize(
    "page",
    [
        "<div>" * 100_000 + "zanzibar" + "</div>" * 100_000,
        "<b>" * 3000 + "<p>zanzibar",
        "<!--" * 100_000 + "--> zanzibar",
        "<p " + "a=1 " * 100_000 + "> zanzibar",
        "<html><body>zanzibar" + "<" * 200_000,
    ],
)
def test_html_that_is_deep_or_broken_is_read_in_bounded_time(page: str) -> None:
    start = time.monotonic()
    chunks = extract_chunks("x.html", page.encode())
    assert any("zanzibar" in chunk.text for chunk in chunks)
    assert time.monotonic() - start < 10


def test_html_without_text_is_nothing_and_an_empty_file_too() -> None:
    assert extract_chunks("x.html", b"<html><body><script>x</script></body></html>") == []
    assert extract_chunks("x.html", b"") == []


MAIL = b"""From: =?utf-8?q?Ann_M=C3=BCller?= <ann@example.org>
To: bob@example.org
Subject: Where the keys are
Date: Tue, 3 Mar 2026 10:00:00 +0100

Hello Bob,

the blue drawer has them.
"""
ENCODED = b"""From: bob@example.org
Subject: Re: Where
Content-Type: multipart/alternative; boundary=XX

--XX
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

RGFua2UsIGRpZSBTY2hsw7xzc2VsIHNpbmQgZGEu

--XX
Content-Type: text/html

<p>Danke</p>
--XX--
"""


def test_mail_is_read_with_its_author_day_and_subject() -> None:
    chunks = extract_chunks("1.eml", MAIL)
    (chunk,) = chunks
    assert "blue drawer" in chunk.text
    assert (chunk.author, chunk.heading) == ("Ann Müller", "Where the keys are")
    assert chunk.day == 739678  # 3 March 2026
    assert (chunk.first, chunk.last) == (6, 8)


def test_a_mailbox_is_read_message_by_message() -> None:
    box = b"From ann Tue Mar  3 10:00:00 2026\n" + MAIL + b"\nFrom bob Tue Mar  3 11:00:00 2026\n" + ENCODED
    ann, bob = extract_chunks("all.mbox", box)
    assert (ann.author, ann.first) == ("Ann Müller", 7)
    assert bob.author == "bob@example.org"
    assert bob.text == "Danke, die Schlüssel sind da."
    assert box.split(b"\n")[bob.first - 1].startswith(b"From: bob")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no headers at all",
        b"From: x\n" * 5000,
        b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n" * 5000,
    ],
)
def test_invalid_mail_is_harmless(data: bytes) -> None:
    assert isinstance(extract_chunks("x.eml", data), list)


def a_pdf(*pages: str) -> bytes:
    """Return a small PDF with a line of text a page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>")
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for at, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * at} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in places)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return out + f"{end}startxref\n{len(out)}\n%%EOF\n".encode()


def test_lines_of_a_message_with_a_broken_header_are_those_of_its_body() -> None:
    (chunk,) = extract_chunks("x.eml", b"From: bob@example.org\nno header\nHello\n\nGoodbye")
    assert (chunk.text, chunk.first, chunk.last) == ("no header\nHello\nGoodbye", 2, 5)


def test_a_pdf_is_read_page_by_page() -> None:
    chunks = extract_chunks("keys.pdf", a_pdf("Rotate the signing keys", "every ninety days"))
    assert [(chunk.text, chunk.first, chunk.heading) for chunk in chunks] == [
        ("Rotate the signing keys", 1, "page 1"),
        ("every ninety days", 2, "page 2"),
    ]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("quokkabrid-", "gement of"), "quokkabridgement of"),
        (("Jean-", "Paul"), "Jean-Paul"),
        (("a well-known", "wombat"), "a well-known\nwombat"),
        (("a - b", "c"), "a - b\nc"),
    ],
)
def test_words_that_lines_of_a_pdf_divide_are_joined(lines: tuple[str, str], text: str) -> None:
    (chunk,) = extract_chunks("x.pdf", a_pdf(") Tj 0 -14 Td (".join(lines)))
    assert chunk.text == text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ('<html xmlns="http://www.w3.org/1999/xhtml"><title/><script src="a.js" /><p>quokka</p>', "quokka"),
        ('<?xml version="1.0"?><html><body><p><![CDATA[a < b & quokka]]></p></body></html>', "a < b & quokka"),
        ("<p>&check; &lbrace;quokka&rbrace; &#150; &amp;check; &bogus;</p>", "✓ {quokka} – &check; &bogus;"),
        ("<p hidden>no</p><div style='color: red; display: none'><p>no</p></div>quokka", "quokka"),
        ("<?php no() ?><p>quokka <?xml-stylesheet no?>here</p>", "quokka here"),
        ("<p>quokka <b>bold<p>more<!-- no", "quokka bold\nmore"),
        ("<ul><li>quokka<li>wombat</ul><p>one<br>two", "quokka\nwombat\none\ntwo"),
    ],
)
def test_html_and_xhtml_are_read_as_browsers_show_them(page: str, text: str) -> None:
    assert "\n".join(chunk.text for chunk in extract_chunks("x.xhtml", page.encode())) == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4\nthis is none", "cannot be read"),
        (b"", "cannot be read"),
        (a_pdf("x")[:200], "cannot be read"),
        (a_pdf(""), "no text in it"),
        (b"\0" * 1000, "cannot be read"),
    ],
)
def test_unreadable_pdf_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        extract_chunks("x.pdf", data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("grüße".encode(), "grüße"),
        ("grüße".encode("latin-1"), "grüße"),
        ("grüße\n".encode() + "straße".encode("cp1252"), "grüße\nstraße"),
        ("grüße".encode("utf-16"), "grüße"),
        ("grüße".encode("utf-8-sig"), "grüße"),
    ],
)
def test_bytes_are_read_in_the_encoding_they_are_in(data: bytes, text: str) -> None:
    assert decode(data) == text
    assert not is_binary(data)
    assert extract_chunks("x.txt", data) == [Chunk(text, 1, text.count("\n") + 1)]


def test_long_paragraphs_of_documents_are_split() -> None:
    page = "<p>" + "many words in a row " * 1000 + "</p>"
    chunks = extract_chunks("x.html", page.encode())
    assert len(chunks) > 10
    assert all(len(chunk.text) <= MAX_CHUNK_CHARACTERS for chunk in chunks)


def test_index_finds_documents_and_records_reasons_for_skipped_ones(tmp_path: Path) -> None:
    from tests.unit.index.test_index import Index

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "keys.pdf").write_bytes(a_pdf("Rotate the zanzibar keys"))
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (corpus / "page.html").write_text(PAGE)
    (corpus / "1.eml").write_bytes(MAIL)
    index = Index(tmp_path / "index", corpus)
    try:
        assert index.paths("zanzibar") == ["keys.pdf"]
        assert index.paths("kind:pdf") == ["keys.pdf"]
        assert index.paths("kind:html ninety days") == ["page.html"]
        assert index.paths('author:"Ann Müller" drawer') == ["1.eml"]
        assert any(note.startswith("PDF: cannot be read") for note in index.catalog.skipped())
        (corpus / "keys.pdf").write_bytes(b"\0 no longer a text")
        index.follower.scan_all()
        assert index.paths("zanzibar") == [], "the old content of an unreadable file is not found any more"
    finally:
        index.close()


def test_odd_files_do_not_prevent_indexing_of_the_rest(tmp_path: Path) -> None:
    from tests.unit.index.test_index import Index

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    with open(corpus / "huge.log", "wb") as log:
        log.truncate(200_000_000)
    with open(corpus / "one-line.json", "wb") as line:
        line.write(b"[" + b'{"key": "value"},' * 3_000_000 + b"{}]")
    (corpus / "minified.json").write_bytes(b'[{"walrus": 1},' + b'{"key": "value"},' * 50_000 + b"{}]")
    (corpus / "nul.txt").write_bytes(b"text\0with NUL")
    (corpus / "late-nul.txt").write_bytes(b"a walrus\n" * 2000 + b"\0")
    (corpus / "mixed.txt").write_bytes(
        "grüner walrus\n".encode() + "blauer käfer\n".encode("latin-1") + b"\xff\xfe\xfa\n"
    )
    (corpus / "deep.json").write_text("[" * 100_000)
    (corpus / "deep.jsonl").write_text("[" * 3000 + "\n" + '{"author": "Ann", "text": "a walrus"}\n')
    (corpus / "empty.md").write_text("")
    (corpus / "good.md").write_text("# Good\n\nA walrus is here.\n")
    (corpus / "surrogate-\udcff.md").write_text("a walrus in a file with a strange name\n")
    start = time.monotonic()
    index = Index(tmp_path / "index", corpus)
    try:
        assert time.monotonic() - start < 20
        paths = set(index.paths("mode:exact walrus"))
        assert {"good.md", "mixed.txt", "deep.jsonl", "minified.json", "late-nul.txt", "surrogate-\udcff.md"} <= paths
        assert index.paths("käfer") == ["mixed.txt"]
        assert index.catalog.skipped() == {"binary": 2}
    finally:
        index.close()


@pytest.mark.parametrize(
    "question",
    [
        "C++:", "what is this? (x", '"unclosed', "---", "🦭🦭", "walrus " * 1500, "the of and", "kind:markdown", "path:",
        "a" * 10_000, "+", "-", '""', "mode:nonsense", "since:never", "confidence:>x", "%s %n {} \\", "\x00\x01", "🦭 kind:text",
        "-walrus", "+walrus -walrus", "mode:exact", "mode:exact -walrus", 'author:"', "tag:" * 500,
    ],
)  # fmt: skip
def test_no_query_is_too_strange(question: str, tmp_path: Path) -> None:
    from tests.unit.index.test_index import Index

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "good.md").write_text("# Good\n\nA walrus, C++ and a 🦭 are here.\n")
    index = Index(tmp_path / "index", corpus)
    try:
        start = time.monotonic()
        answer = index.ask(question)
        assert time.monotonic() - start < 2
        assert not answer.notes, "all of it was looked at"
        assert {hit.path for hit in answer.hits} <= {"knowledge/c/good.md"}
    finally:
        index.close()
