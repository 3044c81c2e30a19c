"""Test that every text of a mail is found, with the author, day and subject of its message."""

import time

import pytest

from ctxfs.index.extract.chunks import Chunk
from ctxfs.index.extract.file_reader import detect_kind
from ctxfs.index.extract.formats import extract_chunks

HEADER = b"From: Ann <ann@example.org>\nSubject: keys\nDate: Tue, 3 Mar 2026 10:00:00 +0000\nMIME-Version: 1.0\n"


def multipart(kind: str, *parts: bytes, mark: str = "B") -> bytes:
    lines = b"".join(f"--{mark}\n".encode() + part + b"\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="{mark}"\n\n'.encode() + lines + f"--{mark}--\n".encode()


def text_of(data: bytes, name: str = "x.eml") -> str:
    return "\n".join(chunk.text for chunk in extract_chunks(name, data))


PLAIN = b"Content-Type: text/plain; charset=utf-8\n\nthe plain quokka\n"
HTML = b"Content-Type: text/html; charset=utf-8\n\n<p>the <b>rich</b> wombat</p>\n"


def test_alternative_is_its_plain_text_unless_that_is_blank_or_a_stub() -> None:
    assert "quokka" in text_of(HEADER + multipart("alternative", PLAIN, HTML))
    assert "wombat" not in text_of(HEADER + multipart("alternative", PLAIN, HTML))
    assert "the rich wombat" in text_of(
        HEADER + multipart("alternative", b"Content-Type: text/plain\n\n \n\xc2\xa0\n", HTML)
    )
    long = b"Content-Type: text/html\n\n<p>" + b"the numbat sleeps in the drawer " * 20 + b"</p>\n"
    assert "numbat" in text_of(
        HEADER + multipart("alternative", b"Content-Type: text/plain\n\nSee the HTML part.\n", long)
    )


def test_each_text_of_a_mixed_message_is_found() -> None:
    inline = b"Content-Type: text/plain\nContent-Disposition: inline; filename=notes.txt\n\nthe inline bilby\n"
    attached = b'Content-Type: text/csv; name="list.csv"\nContent-Disposition: attachment; filename="list.csv"\n\nthe attached dingo\n'
    image = b'Content-Type: image/png\nContent-Disposition: attachment; filename="map of the drawer.png"\n\n\x89PNG\n'
    message = HEADER + multipart("mixed", multipart("alternative", PLAIN, HTML, mark="C"), inline, attached, image)
    chunks = extract_chunks("x.eml", message)
    text = "\n".join(chunk.text for chunk in chunks)
    assert all(word in text for word in ("quokka", "bilby", "dingo", "map of the drawer.png", "list.csv"))
    assert {chunk.author for chunk in chunks} == {"Ann"}
    (dingo,) = [chunk for chunk in chunks if "dingo" in chunk.text]
    assert dingo.heading == "keys > list.csv"


def test_contained_message_has_an_author_of_its_own() -> None:
    inner = b"Content-Type: message/rfc822\n\nFrom: Carl <c@example.org>\nSubject: old\n\nthe forwarded emu\n"
    chunks = extract_chunks("x.eml", HEADER + multipart("mixed", PLAIN, inner))
    assert [(chunk.author, chunk.heading) for chunk in chunks if "emu" in chunk.text] == [("Carl", "old")]


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"=?iso-8859-1?Q?J=FCrgen?= <j@example.org>", "Jürgen"),
        ("Jürgen Groß <j@example.org>".encode("latin-1"), "Jürgen Groß"),
        ("Jürgen <j@example.org>".encode(), "Jürgen"),
        ("Иван Петров <i@example.org>".encode("koi8-r"), "Иван Петров"),
        (b"=?gb2312?B?0dTU8Q==?= <y@example.org>", "言择"),
        (b"=?x-unknown?Q?J=FCrgen?= <j@example.org>", "Jürgen"),
        (b"=?utf-8?B?4KSo?= =?utf-8?B?4KSu?= <n@example.org>", "नम"),
        (b'"Doe, Jane" <j@example.org>', "Doe, Jane"),
        (b"j@example.org", "j@example.org"),
    ],
)
def test_author_is_read_in_the_charset_of_the_header(raw: bytes, name: str) -> None:
    (chunk,) = extract_chunks("x.eml", b"From: " + raw + b"\nSubject: s\n\ntext\n")
    assert chunk.author == name


@pytest.mark.parametrize(
    ("charset", "body", "word"),
    [
        (b"%CHARSET", b"lemur", "lemur"),
        (b'""', "Schlüssel".encode("latin-1"), "Schlüssel"),
        (b"ks_c_5601-1987", "서명".encode("cp949"), "서명"),
        (b"gb2312", "镕基".encode("gbk"), "镕基"),
        (b"us-ascii", "Schlüssel".encode(), "Schlüssel"),
        (b"utf-8", "Schlüssel für müßige".encode("latin-1"), "Schlüssel"),
        (b"cp-850", b"lemur", "lemur"),
        (b"windows-1251", "ключи".encode("cp1251"), "ключи"),
        (b"x-sjis", "署名鍵".encode("cp932"), "署名鍵"),
        (b"utf-7", b"M+APw-ller", "Müller"),
    ],
)
def test_body_is_read_whatever_its_charset_is_called(charset: bytes, body: bytes, word: str) -> None:
    assert word in text_of(HEADER + b"Content-Type: text/plain; charset=" + charset + b"\n\n" + body + b"\n")


@pytest.mark.parametrize(
    "content_type",
    [b"multipart/mixed", b'multipart/mixed; boundary=""', b"multipart/mixed; boundary=other", b"multipart/"],
)
def test_parts_are_found_without_their_boundary(content_type: bytes) -> None:
    body = b"--Mark\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\nbGVtdXI=\n--Mark--\n"
    assert "lemur" in text_of(HEADER + b"Content-Type: " + content_type + b"\n\nno boundary bilby\n" + body) or (
        content_type == b"multipart/"
    )
    assert "bilby" in text_of(HEADER + b"Content-Type: " + content_type + b"\n\nno boundary bilby\n")


def test_mailbox_is_split_by_its_rules() -> None:
    box = (
        b"From ann@example.org Tue Mar  3 10:00:00 2026\n" + HEADER + b"\nHello,\nFrom now on use the drawer\n\n"
        b"From today: the key\nNote: is quokka\n>From here it is quoted\n\n"
        b"From bob@example.org Tue Mar  3 11:00:00 2026\nFrom: Bob <bob@example.org>\nSubject: two\n\nsecond\n\n"
        b"From carl@example.org\nFrom: Carl <c@example.org>\nSubject: three\n\nthird\n"
    )  # fmt: skip
    chunks = extract_chunks("all.mbox", box)
    by_author: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        by_author.setdefault(chunk.author, []).append(chunk)
    ann = "\n".join(chunk.text for chunk in by_author["Ann"])
    assert "From now on use the drawer" in ann
    assert "From today: the key\nNote: is quokka\nFrom here it is quoted" in ann
    assert [chunk.text for chunk in by_author["Bob"]] == ["second"]
    assert [chunk.text for chunk in by_author["Carl"]] == ["third"]
    lines = box.split(b"\n")
    assert b"second" in lines[by_author["Bob"][0].first - 1]


@pytest.mark.parametrize("name", ["1700000000.M1P1.host:2,S", "1700000000.M1P1.host", "12", "Sent", "mbox"])
def test_message_is_recognised_in_the_folders_of_mail_programs(name: str) -> None:
    data = HEADER + b"Content-Transfer-Encoding: base64\n\ndGhlIHF1b2trYQ==\n"
    if name == "mbox":
        data = b"From ann@example.org Tue Mar  3 10:00:00 2026\n" + data
    (chunk,) = extract_chunks(name, data)
    assert (chunk.text, chunk.author) == ("the quokka", "Ann")
    assert detect_kind(f"knowledge/m/cur/{name}", (), data) == "mail"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("NOTES", b"From: the drawer\n\nthe quokka\n"),
        ("README", b"Name: quokka\nVersion: 1\nDate: today\n\ntext\n"),
        ("notes.txt", HEADER + b"\nthe quokka\n"),
    ],
)
def test_other_texts_are_no_mail(name: str, data: bytes) -> None:
    assert detect_kind(f"knowledge/m/{name}", (), data) != "mail"


def test_file_name_of_an_attachment_is_decoded() -> None:
    for parameter in (
        b"filename*=utf-8''Schl%C3%BCssel.pdf",
        b'filename="=?utf-8?B?U2NobMO8c3NlbC5wZGY=?="',
        'filename="Schlüssel.pdf"'.encode(),
    ):
        part = b"Content-Type: application/pdf\nContent-Disposition: attachment; " + parameter + b"\n\nx\n"
        assert "Schlüssel.pdf" in text_of(HEADER + multipart("mixed", PLAIN, part))


def test_deeply_contained_messages_cost_little() -> None:
    data = b"plain quokka\n"
    for _ in range(300):
        data = b"From: a\nContent-Type: message/rfc822\n\n" + data
    start = time.process_time()
    assert isinstance(extract_chunks("x.eml", data), list)
    box = b"\n".join(b"From x\nFrom: a\n" for _ in range(20_000))
    extract_chunks("x.mbox", b"From \n" * 100_000 + box)
    assert time.process_time() - start < 20
