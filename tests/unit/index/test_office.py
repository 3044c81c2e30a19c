"""Test the text of office documents and books, with the position, heading, author and day of each passage."""

import io
import time
import zipfile
from collections.abc import Callable

import pytest

from ctxfs.index.extract.chunks import detect_text_kind
from ctxfs.index.extract.extractor import Extractor, Limits
from ctxfs.index.extract.formats import UnreadableFile, extract_chunks, is_extracted, is_slow

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
P = 'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main"'
S = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
KIND = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
CORE = (
    '<cp:coreProperties xmlns:cp="c" xmlns:dc="d" xmlns:t="t"><dc:title>Handbook</dc:title>'
    "<dc:creator>Ann Müller</dc:creator><t:modified>2026-03-03T10:00:00Z</t:modified></cp:coreProperties>"
)
OFFICE = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0" '
    'xmlns:presentation="urn:oasis:names:tc:opendocument:xmlns:presentation:1.0"'
)


def archive(members: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def relations(*entries: tuple[str, str, str]) -> str:
    rows = "".join(
        f'<Relationship Id="{name}" Type="{KIND}/{kind}" Target="{target}"/>' for name, kind, target in entries
    )
    return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{rows}</Relationships>'


def word(body: str, **parts: str) -> bytes:
    """Return a document; `parts` are further parts by their kind."""
    styles = (
        f'<w:styles {W}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="berschrift2"/></w:style>'
        '<w:style w:styleId="berschrift2"><w:name w:val="heading 2"/></w:style>'
        '<w:style w:styleId="Loop"><w:basedOn w:val="Loop2"/></w:style><w:style w:styleId="Loop2">'
        '<w:basedOn w:val="Loop"/></w:style></w:styles>'
    )
    names = [(f"r{number}", kind, f"{kind}.xml") for number, kind in enumerate(("styles", *parts))]
    return archive(
        {
            "_rels/.rels": relations(
                ("a", "officeDocument", "/word/document.xml"), ("b", "metadata/core-properties", "docProps/core.xml")
            ),
            "docProps/core.xml": CORE,
            "word/document.xml": f"<w:document {W}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations(*names),
            "word/styles.xml": styles,
            **{f"word/{kind}.xml": content for kind, content in parts.items()},
        }
    )


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def workbook(sheets: dict[str, str], shared: tuple[str, ...] = (), styles: str = "") -> bytes:
    names = list(sheets)
    entries = "".join(f'<sheet name="{name}" sheetId="{at}" r:id="s{at}"/>' for at, name in enumerate(names))
    parts = [(f"s{at}", "worksheet", f"worksheets/{at}.xml") for at in range(len(names))]
    texts = "".join(f"<si>{text}</si>" for text in shared)
    return archive(
        {
            "_rels/.rels": relations(("a", "officeDocument", "xl/workbook.xml")),
            "xl/workbook.xml": f"<workbook {S} {R}><sheets>{entries}</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": relations(
                *parts, ("t", "sharedStrings", "strings.xml"), ("y", "styles", "styles.xml")
            ),
            "xl/strings.xml": f"<sst {S}>{texts}</sst>",
            "xl/styles.xml": f"<styleSheet {S}>{styles}</styleSheet>",
            **{
                f"xl/worksheets/{at}.xml": f"<worksheet {S}><sheetData>{sheets[name]}</sheetData></worksheet>"
                for at, name in enumerate(names)
            },
        }
    )


def slides(*shapes: str, notes: str = "") -> bytes:
    entries = "".join(f'<p:sldId id="{256 + at}" r:id="s{at}"/>' for at in range(len(shapes)))
    members: dict[str, str | bytes] = {
        "_rels/.rels": relations(("a", "officeDocument", "ppt/presentation.xml")),
        "ppt/presentation.xml": f"<p:presentation {P} {R}><p:sldIdLst>{entries}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(*((f"s{at}", "slide", f"slides/{9 - at}.xml") for at in range(len(shapes)))),
        "ppt/slides/_rels/9.xml.rels": relations(("n", "notesSlide", "../notes.xml")),
        "ppt/notes.xml": f"<p:notes {P} {A}><p:sp><a:p><a:r><a:t>{notes}</a:t></a:r></a:p></p:sp></p:notes>",
    }  # fmt: skip
    members |= {f"ppt/slides/{9 - at}.xml": f"<p:sld {P} {A}>{shape}</p:sld>" for at, shape in enumerate(shapes)}
    return archive(members)


def shape(text: str, kind: str = "body") -> str:
    return (
        f'<p:sp><p:nvPr><p:ph type="{kind}"/></p:nvPr><p:txBody><a:p><a:r><a:t>{text}</a:t>'
        f"</a:r></a:p></p:txBody></p:sp>"
    )


def text_document(body: str, kind: str = "text") -> bytes:
    content = (
        f"<office:document-content {OFFICE}><office:body><office:{kind}>{body}</office:{kind}>"
        f"</office:body></office:document-content>"
    )
    meta = (
        f'<office:document-meta {OFFICE} xmlns:dc="d"><office:meta><dc:creator>Ann</dc:creator>'
        f"<dc:date>2026-03-03</dc:date></office:meta></office:document-meta>"
    )
    return archive({"mimetype": "x", "content.xml": content, "meta.xml": meta})


def book(chapters: dict[str, bytes], encryption: str = "") -> bytes:
    items = "".join(f'<item id="c{at}" href="{name.replace(" ", "%20")}"/>' for at, name in enumerate(chapters))
    spine = "".join(f'<itemref idref="c{at}"/>' for at in range(len(chapters)))
    head = '<metadata xmlns:dc="d"><dc:title>The Quokka</dc:title><dc:creator>Ann</dc:creator></metadata>'
    return archive(
        {
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>',
            "OPS/book.opf": f"<package>{head}<manifest>{items}</manifest><spine>{spine}</spine></package>",
            **({"META-INF/encryption.xml": encryption} if encryption else {}),
            **{f"OPS/{name}": page for name, page in chapters.items()},
        }
    )


def test_document_is_read_by_its_headings_in_any_language() -> None:
    body = (
        paragraph("Rotation", "berschrift1")
        + paragraph("Rotate the <![CDATA[quokka]]> keys.")
        + paragraph("Why", "Mine")
        + "<w:p><w:r><w:t>Old keys </w:t></w:r><w:del><w:r><w:delText>never </w:delText></w:r>"
        "</w:del><w:ins><w:r><w:t>le</w:t></w:r></w:ins><w:r><w:t>ak</w:t><w:br/><w:t>soon</w:t>"
        "</w:r></w:p>" + f"<w:tbl><w:tr><w:tc>{paragraph('Key')}</w:tc><w:tc>{paragraph('Place')}</w:tc></w:tr>"
        f"<w:tr><w:tc>{paragraph('blue')}</w:tc><w:tc>{paragraph('drawer')}{paragraph('two')}</w:tc>"
        f"</w:tr></w:tbl>" + paragraph("after", "Loop")
    )
    notes = f"<w:footnotes {W}><w:footnote>{paragraph('a footnote on wombats')}</w:footnote></w:footnotes>"
    comments = (
        f'<w:comments {W}><w:comment w:author="Bob" w:date="2026-04-01T00:00:00Z">{paragraph("ask dingo")}</w:comment>'
        f"</w:comments>"
    )
    chunks = extract_chunks(
        "a.docx",
        word(body, footnotes=notes, comments=comments, header=f"<w:hdr {W}>{paragraph('secret numbat')}</w:hdr>"),
    )
    by_heading = {chunk.heading: chunk for chunk in chunks}
    assert by_heading["Handbook > Rotation"].text == "Rotation\nRotate the quokka keys."
    why = by_heading["Handbook > Rotation > Why"]
    assert why.text == "Why\nOld keys leak soon\nKey | Place\nblue | drawer two\nafter"
    assert (why.first, why.last, why.author, why.day) == (3, 7, "Ann Müller", 739678)
    assert by_heading["Footnotes"].text == "a footnote on wombats"
    assert by_heading["Header"].text == "secret numbat"
    assert (by_heading["Comments"].author, by_heading["Comments"].text) == ("Bob", "ask dingo")


def test_workbook_is_read_by_sheets_and_rows_with_their_header() -> None:
    rows = (
        '<row r="1"><c t="s"><v>0</v></c><c t="inlineStr"><is><t>Since</t></is></c></row>'
        '<row r="7"><c t="s"><v>1</v></c><c s="1"><v>46084</v></c><c s="2"><v>46084.75</v>'
        '</c><c t="b"><v>1</v></c><c t="e"><v>#N/A</v></c>'
        "<c><f>SUM(A1:A2)</f></c><c><f>1+1</f><v>2</v></c></row>"
    )
    styles = (
        '<numFmts><numFmt numFmtId="164" formatCode="[$-407]dd/mm/yyyy\\ hh:mm;@"/></numFmts>'
        '<cellXfs><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="164"/></cellXfs>'
    )
    shared = ("<t>Name</t>", "<r><t>Quok</t></r><r><t>ka</t></r><rPh><t>phonetic</t></rPh>")
    chunks = extract_chunks(
        "a.xlsx",
        workbook({"Stock": rows, "Empty": "", "Two &amp; more": "<row><c><v>42</v></c></row>"}, shared, styles),
    )
    assert [(chunk.heading, chunk.first, chunk.last) for chunk in chunks] == [
        ("Stock > Name | Since", 1, 7),
        ("Two & more", 1, 1),
    ]
    assert chunks[0].text == "Name | Since\nQuokka | 2026-03-03 | 2026-03-03 18:00 | TRUE | #N/A | =SUM(A1:A2) | 2"


def test_slides_are_read_in_their_order_with_number_title_and_notes() -> None:
    table = (
        "<a:tbl><a:tr><a:tc><a:txBody><a:p><a:t>key</a:t></a:p></a:txBody></a:tc><a:tc><a:txBody>"
        "<a:p><a:t>place</a:t></a:p></a:txBody></a:tc></a:tr></a:tbl>"
    )
    data = slides(shape("Rotation", "title") + shape("the quokka keys"), shape("second") + table, notes="say wombat")
    chunks = extract_chunks("a.pptx", data)
    assert [(chunk.first, chunk.heading, chunk.text) for chunk in chunks] == [
        (1, "slide 1: Rotation", "Rotation\nthe quokka keys\nNotes: say wombat"),
        (2, "slide 2", "second\nkey | place"),
    ]


def test_open_documents_are_read() -> None:
    body = (
        '<text:h text:outline-level="1">Rotation</text:h><text:p>the<text:s text:c="3"/><text:span>'
        "quokka</text:span><text:line-break/>keys</text:p>"
        "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:list>"
        "<text:list-item><text:p>one</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell>"
        "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>"
    )
    (chunk,) = extract_chunks("a.odt", text_document(body))
    assert (chunk.text, chunk.heading, chunk.author, chunk.day) == (
        "Rotation\nthe quokka keys\none\na | b",
        "Rotation",
        "Ann",
        739678,
    )
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>"
    rows = (
        f"<table:table-row>{cell.format('Name')}{cell.format('City')}</table:table-row>"
        '<table:table-row table:number-rows-repeated="1048000">'
        f'<table:table-cell table:number-columns-repeated="16384"/></table:table-row><table:table-row>'
        f"{cell.format('Quokka')}{cell.format('Köln')}</table:table-row>"
    )
    (chunk,) = extract_chunks(
        "a.ods", text_document(f'<table:table table:name="Stock">{rows}</table:table>', "spreadsheet")
    )
    assert (chunk.text, chunk.heading, chunk.last) == ("Name | City\nQuokka | Köln", "Stock > Name | City", 1_048_002)
    page = (
        '<draw:page><draw:frame presentation:class="title"><draw:text-box><text:p>Keys</text:p>'
        "</draw:text-box></draw:frame><draw:frame><text:p>quokka</text:p></draw:frame><presentation:notes>"
        "<text:p>say it</text:p></presentation:notes></draw:page>"
    )
    (chunk,) = extract_chunks("a.odp", text_document(page, "presentation"))
    assert (chunk.first, chunk.heading, chunk.text) == (1, "slide 1: Keys", "Keys\nquokka\nNotes: say it")
    flat = (
        f"<?xml version='1.0'?><office:document {OFFICE}><office:body><office:text><text:p>"
        f"flat quokka</text:p></office:text></office:body></office:document>"
    )
    assert extract_chunks("a.fodt", flat.encode())[0].text == "flat quokka"


def test_book_is_read_by_chapters_in_its_order() -> None:
    pages = {
        "b two.xhtml": b"<html><body><h1>Two</h1><p>the wombat &amp; more</p></body></html>",
        "a.html": "<?xml version='1.0' encoding='iso-8859-1'?><html><p>Schl\u00fcssel</p></html>".encode("latin-1"),
    }
    chunks = extract_chunks("a.epub", book(pages))
    assert [(chunk.first, chunk.heading, chunk.author) for chunk in chunks] == [
        (1, "The Quokka > Two", "Ann"),
        (2, "The Quokka", "Ann"),
    ]
    assert chunks[1].text == "Schlüssel"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.docx", "document"), ("a.ODT", "document"), ("a.xlsx", "sheet"), ("a.odp", "slides"), ("a.epub", "book")],
)
def test_kind_of_an_office_file_is_known_by_its_name(name: str, kind: str) -> None:
    assert detect_text_kind(name, "PK") == kind
    assert is_extracted(name)
    assert is_slow(name)


LAUGHS = (
    "<!DOCTYPE a [<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{at} '{f'&a{at - 1};' * 10}'>" for at in range(1, 12)) + "]>"
)
OUTSIDE = "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"
LONG = f"<!DOCTYPE a [<!ENTITY x '{'a' * 100_000}'>]>"


def main_part(content: str | bytes) -> bytes:
    return archive(
        {"_rels/.rels": relations(("a", "officeDocument", "word/document.xml")), "word/document.xml": content}
    )


HOSTILE: dict[str, Callable[[], bytes]] = {
    "zeros.docx": lambda: main_part(b"\0" * 300_000_000),
    "blanks.docx": lambda: main_part(b"<a>" + b" " * 200_000_000 + b"</a>"),
    "elements.docx": lambda: main_part(b"<a>" + b"<p/>" * 15_000_000 + b"</a>"),
    "laughs.docx": lambda: main_part(f"{LAUGHS}<p><t>&a11;</t></p>"),
    "long.docx": lambda: main_part(f"{LONG}<p><t>{'&x;' * 100_000}</t></p>"),
    "outside.docx": lambda: main_part(f"{OUTSIDE}<p><t>&x;</t></p>"),
    "outside.epub": lambda: book({"a.html": f"{OUTSIDE}<p>&x;</p>".encode()}),
    "deep.docx": lambda: main_part("<p>" * 100_000),
    "deep.odt": lambda: text_document("<text:span>" * 5_000 + "</text:span>" * 5_000),
    "tables.docx": lambda: word("<w:tbl><w:tr><w:tc>" * 60 + paragraph("x") * 1000 + "</w:tc></w:tr></w:tbl>" * 60),
    "members.xlsx": lambda: archive({f"{at}": "" for at in range(20_000)}),
    "sheets.xlsx": lambda: workbook({f"s{at}": "" for at in range(3_000)}),
    "rows.xlsx": lambda: workbook({"s": '<row r="99999999999999999999"><c><v>1</v></c></row>' * 100_000}),
    "cells.xlsx": lambda: workbook({"s": "<row>" + '<c t="s"><v>999999999999</v></c>' * 500_000 + "</row>"}),
    "repeated.ods": lambda: text_document(
        '<table:table><table:table-row table:number-rows-repeated="999999999999">'
        '<table:table-cell table:number-columns-repeated="999999999">'
        "<text:p>x</text:p></table:table-cell></table:table-row></table:table>",
        "spreadsheet",
    ),
    "spaces.odt": lambda: text_document("<text:p>" + '<text:s text:c="999999999"/>' * 10_000 + "x</text:p>"),
    "itself.docx": lambda: archive({"_rels/.rels": relations(("a", "officeDocument", "_rels/.rels"))}),
    "above.docx": lambda: archive({"_rels/.rels": relations(("a", "officeDocument", "../../../../etc/passwd"))}),
    "cut.docx": lambda: word(paragraph("x") * 1000)[:-40],
    "old.docx": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 1000,
    "none.pptx": lambda: archive({"a": "b"}),
    "empty.epub": lambda: b"",
    "locked.epub": lambda: book({"a.html": b"x"}, '<encryption><CipherReference URI="OPS/a.html"/></encryption>'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_costs_one_file(name: str) -> None:
    extractor = Extractor(Limits(slow_cpu_seconds=5))
    try:
        start = time.monotonic()
        try:
            text = "".join(chunk.text for chunk in extractor.extract_chunks(name, HOSTILE[name]()))
        except UnreadableFile as reason:
            assert str(reason).split(":")[0] in ("Word", "Excel", "PowerPoint", "OpenDocument", "EPUB")
            assert "died" not in str(reason) or name == "elements.docx"
            text = ""
        assert "root:" not in text, "nothing outside is read"
        assert len(text) < 2_000_000
        assert time.monotonic() - start < 60
        (chunk,) = extractor.extract_chunks("good.docx", word(paragraph("the quokka")))
        assert chunk.text == "the quokka"
    finally:
        extractor.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("old.docx", "encrypted"),
        ("locked.epub", "encrypted"),
        ("sheets.xlsx", "1000 sheets"),
        ("zeros.docx", "unpacks to too much"),
        ("empty.epub", "no sound archive"),
    ],
)
def test_unreadable_office_file_has_a_reason(name: str, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        extract_chunks(name, HOSTILE[name]())
