"""Test that PDF, office files, books, mail and notebooks are read by their text, with the numbers that hits cite."""

import json
import re
from email.message import EmailMessage

import pytest

from tests.live import Live, eventually, mcp_call
from tests.unit.index.test_formats import a_pdf
from tests.unit.index.test_office import book, paragraph, shape, slides, text_document, word, workbook


def message() -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"], mail["Date"] = "Jörg <j@example.org>", "Schlüssel", "Tue, 03 Mar 2026 10:00:00 +0000"
    mail.set_content("Grüße vom walrus\n", cte="base64")
    mail.add_attachment(b"\0\1", maintype="application", subtype="zip", filename="keys.zip")
    return mail.as_bytes()


NOTEBOOK = json.dumps(
    {
        "cells": [
            {"cell_type": "markdown", "source": ["# Plan\n", "a walrus"]},
            {"cell_type": "code", "source": "1+1", "outputs": [{"data": {"text/plain": ["two"], "image/png": "AAAA"}}]},
        ]
    },
    indent=1,
).encode()
ROW = '<row r="{}"><c t="inlineStr"><is><t>{}</t></is></c><c><v>{}</v></c></row>'
FILES: dict[str, tuple[bytes, str, str]] = {
    "a.pdf": (a_pdf("Rotate the keys", "every walrus"), "page", "every walrus"),
    "a.docx": (word(paragraph("One") + paragraph("") + paragraph("a walrus")), "paragraph", "a walrus"),
    "a.xlsx": (workbook({"Keys": ROW.format(1, "name", "1") + ROW.format(9, "walrus", "2")}), "row", "walrus | 2"),
    "a.pptx": (slides(shape("Keys", "title"), shape("a walrus")), "slide", "a walrus"),
    "a.odt": (text_document("<text:p>One</text:p><text:p>a walrus</text:p>"), "paragraph", "a walrus"),
    "a.epub": (book({"one.xhtml": b"<p>One</p>", "two.xhtml": b"<p>a walrus</p>"}), "chapter", "a walrus"),
    "a.eml": (message(), "line", "Grüße vom walrus"),
    "a.ipynb": (NOTEBOOK, "line", "a walrus"),
}


@pytest.fixture(scope="module")
def documents(served: Live) -> Live:
    """Put the files of all formats into the memory of agent:alice."""
    folder = served.store / "tree" / "memory" / "alice" / "documents"
    folder.mkdir(parents=True)
    for name, (data, _, _) in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "plain.md").write_text("a walrus\n")
    eventually(
        "the documents are indexed",
        lambda: "a.docx" in served.try_run("search", "mode:words walrus path:documents", "-l").stdout,
    )
    return served


def read(live: Live, name: str, **arguments: object) -> str:
    text, failed = mcp_call(
        live, "ctx_read", {"path": f"memory/alice/documents/{name}", **arguments}, principal="agent:alice"
    )
    assert not failed, text
    return text


@pytest.mark.parametrize("name", FILES)
def test_file_is_read_by_its_text_under_the_numbers_of_its_hits(name: str, documents: Live) -> None:
    _, unit, expected = FILES[name]
    text = read(documents, name)
    assert text.startswith("[text extracted from this ")
    assert f"[n] is a {unit}" in text.split("\n")[0]
    assert expected in text
    found, _ = mcp_call(
        documents,
        "ctx_search",
        {"query": f"mode:words walrus path:memory/alice/documents/{name}"},
        principal="agent:alice",
    )
    hit = re.search(rf"{re.escape(name)}:(\d+)(?:-(\d+))?", found)
    assert hit is not None, found
    first, last = int(hit[1]), int(hit[2] or hit[1])
    assert f"[{first}]" in text or f"[{first}-{last}]" in text
    assert expected in read(documents, name, offset=first, limit=last - first + 1)
    context, _ = mcp_call(
        documents,
        "ctx_context",
        {"task": "mode:words walrus", "options": {"paths": [f"memory/alice/documents/{name}"]}},
        principal="agent:alice",
    )
    assert expected.split(" | ")[0] in context
    printed = documents.run("cat", "--text", f"memory/alice/documents/{name}")
    assert expected in printed
    assert "AAAA" not in text, "images are left out"


@pytest.mark.parametrize("name", ["a.eml", "a.ipynb"])
def test_source_of_a_mail_and_a_notebook_stays_readable(name: str, documents: Live) -> None:
    source = read(documents, name, **{"as": "source"})
    assert source.startswith(FILES[name][0].decode()[:40].split("\n")[0])
    assert "[text extracted" not in source
    assert documents.run("cat", f"memory/alice/documents/{name}") == FILES[name][0].decode()


def test_text_itself_is_read_as_it_is(documents: Live) -> None:
    assert read(documents, "plain.md").startswith("a walrus\n[1 lines")
    assert documents.run("cat", "--text", "memory/alice/documents/plain.md") == "a walrus\n"


def test_long_text_is_read_in_parts_without_a_gap(documents: Live) -> None:
    folder = documents.store / "tree" / "memory" / "alice" / "documents"
    words = [f"word{number}" for number in range(3_000)]
    (folder / "long.docx").write_bytes(
        word("".join(paragraph(" ".join(words[start : start + 50])) for start in range(0, 3_000, 50)))
    )
    arguments: dict[str, object] = {"max_tokens": 2_000}
    text = ""
    for _ in range(20):
        _, part = read(documents, "long.docx", **arguments).split("\n", 1)
        part, _, last = part.rpartition("\n")
        text += part
        more = re.search(r"continue: offset=(\d+) column=(\d+)", last)
        if more is None:
            break
        arguments |= {"offset": int(more[1]), "column": int(more[2])}
    assert re.findall(r"word\d+", text) == words


@pytest.mark.parametrize(
    ("name", "data", "reason"), [("x.pdf", b"%PDF-1.7\n", "cannot be read"), ("x.docx", b"PK", "")]
)
def test_file_without_text_is_linked_with_the_reason(name: str, data: bytes, reason: str, documents: Live) -> None:
    (documents.store / "tree" / "memory" / "alice" / "documents" / name).write_bytes(data)
    text = read(documents, name)
    assert reason in text
    assert f"file of {len(data)} bytes" in text
    assert documents.try_run("cat", "--text", f"memory/alice/documents/{name}").returncode == 1


def test_secret_document_is_absent_for_others(documents: Live) -> None:
    text, failed = mcp_call(documents, "ctx_read", {"path": "memory/alice/documents/a.pdf"}, principal="agent:bob")
    assert failed
    assert "walrus" not in text
