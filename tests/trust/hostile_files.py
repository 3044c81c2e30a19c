"""Make a folder of hostile files: `python -m tests.trust.hostile_files FOLDER`.

No file in it points outside FOLDER's parent.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SIZE = 60_000  # bytes of most files: within the size that the daemon itself reads
GOOD = "the zanzibar runbook names the quokka"


def mails() -> Iterator[tuple[str, bytes]]:
    """Yield mails that crash, block or exhaust mail parsers."""
    for charset in (
        "undefined",
        "punycode",
        "idna",
        "unicode_escape",
        "utf-16",
        "utf-7",
        "rot13",
        "zlib",
        "a" * 9000,
        '"utf-8\\u0000x"',
    ):
        body = b"a" * SIZE if charset in ("punycode", "idna") else b"\xff-hello-\\N{foo}\n"
        yield (
            f"charset-{charset[:9]}",
            b"From: a\nContent-Type: text/plain; charset=" + charset.encode() + b"\n\n" + body,
        )
    yield "charset-nul", b"From: a\nContent-Type: text/plain; charset*=utf-8''a%00b\n\nabc"
    yield "quotes", b"From: " + b'"' * SIZE + b"\nSubject: s\n\nx\n"
    yield "parentheses", b"From: " + b"(" * SIZE + b"\n\nx"
    yield "words", b"Subject: " + b"=?utf-8?q?a?= " * (SIZE // 14) + b"\n\nx"
    yield "addresses", b"From: " + b"a," * (SIZE // 2) + b"\n\nx"
    yield "parameters", b"Content-Type: text/plain; " + b"".join(b"a*%d=b;" % i for i in range(SIZE // 9)) + b"\n\nx"
    yield "semicolons", b"Content-Type: " + b"a;" * (SIZE // 2) + b"\n\nx"
    yield (
        "filename",
        b"Content-Type: text/plain\nContent-Disposition: attachment; filename*=x''" + b"%41" * (SIZE // 3) + b"\n\nx",
    )
    inner = b"".join(b"--a%d\nContent-Type: multipart/mixed; boundary=a%d\n\n" % (i, i + 1) for i in range(1200))
    yield "nested", b"Content-Type: multipart/mixed; boundary=a0\n\n" + inner
    inner = b"".join(b'--a%d\nContent-Type: multipart/mixed; BOUNDARY ="a%d"\n\n' % (i, i + 1) for i in range(1200))
    yield "nested-oddly", b'Content-Type: multipart/mixed; BOUNDARY ="a0"\n\n' + inner
    yield "parts", b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * (SIZE // 7)
    yield "messages", b"Content-Type: message/rfc822\n\n" * (SIZE // 30)
    yield "headers", b"".join(b"X-%d: x\n" % i for i in range(SIZE // 9)) + b"\nx"
    yield "continued", b"Subject: a\n" + b" b\n" * (SIZE // 3) + b"\nx"
    yield "base64", b"From: a\nContent-Transfer-Encoding: base64\n\n" + b"=" * SIZE
    yield "uuencode", b"From: a\nContent-Transfer-Encoding: x-uuencode\n\nbegin 644 x\n@@@@@\nend\n"
    yield (
        "date",
        b"Date: Thu, 99 Foo 99999999999999 00:00:00 +9999\nFrom: =?undefined?q?x?=\nSubject: =?idna?b?////?=\n\nhi",
    )


def texts() -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of files in other formats; each is small and costs some parser much."""
    yield "half.jsonl", b'{"user":"Ann \\ud83d","text":"hi \\udc00"}\n'
    yield "many.jsonl", b"{}\n" * (SIZE // 3)
    yield "deep.jsonl", b"[" * SIZE + b"\n" + b'{"a":' * (SIZE // 5)
    yield "numbers.jsonl", b'{"time": ' + b"9" * 5000 + b"}\n" + b'{"time": 1e400, "user": "x"}\n{"ts": NaN}\n'
    yield "deep.ipynb", b'{"cells": [{"cell_type": "code", "source": ' + b"[" * 900 + b"]" * 900 + b"}]}"
    yield "outputs.ipynb", b'{"cells": [{"outputs": [' + b'{"text": ["a"]},' * (SIZE // 16) + b"{}]}]}"
    nodes = ",".join(f'"{n}": {{"parent": "{n - 1}", "children": ["{n + 1}", "0"]}}' for n in range(SIZE // 50))
    yield "conversations.json", f'[{{"mapping": {{{nodes}}}}}]'.encode()
    yield "messages.json", b'{"messages": ' * 900 + b'{"role": "a", "content": "b"}' + b"}" * 900
    yield "roles.jsonl", b'{"role": "a", "content": [' * 400 + b'"b"' + b"]}" * 400 + b"\n"
    yield "chat.log", b"[12:00] <a> b\n" * (SIZE // 14)
    yield "stamps.txt", b"1/1/23, 1:00 - " * (SIZE // 15)
    yield "wiki.md", b"[[" * (SIZE // 4) + b"#a " * (SIZE // 8) + b"`" * (SIZE // 8)
    yield "toml.md", b"+++\na = " + b"[" * 9000 + b"\n+++\nx\n"
    yield "deep.html", b"<div>" * (SIZE // 5)
    yield "links.html", b"<a>" * (SIZE // 3)
    yield "comments.html", b"<!-- " * (SIZE // 5)
    yield "scripts.html", b"<script" * (SIZE // 7)
    yield "headings.html", b"<h1>a" * (SIZE // 5)
    yield "tables.html", b"<table><tr><td>" * (SIZE // 15)
    entities = "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10 if i else 'a' * 10}'>" for i in range(9))
    yield "laughs.xhtml", f"<?xml version='1.0'?><!DOCTYPE a [{entities}]><a>&a8;</a>".encode()
    yield (
        "outside.xhtml",
        b"<!DOCTYPE html [<!ENTITY x SYSTEM 'file:///proc/self/environ'>]><html><body>&x;</body></html>",
    )
    yield "deep.json", b"[" * SIZE
    yield "hashes.md", b"#" * SIZE + b"\n"
    yield "title.md", b"# " + b"a" * (SIZE // 2) + b"\n" + b"\nx\n## y\n" * (SIZE // 16)
    yield "fences.md", b"```\n" * (SIZE // 4)
    yield "items.md", b"- " * (SIZE // 2)
    yield "front.md", b"---\na: &a [x]\nb: [*a, *a]\nauthor: " + b"[" * (SIZE // 2) + b"\n---\nx\n"
    yield "blanks.md", b"# a" + b" " * SIZE + b"b\n" + b"#" + b" #" * (SIZE // 2)
    yield "dates.md", b"2020-01-01" * (SIZE // 10)
    yield "turns.txt", b"A: hello\nB: you\n" * (SIZE // 16)
    yield "marks.txt", "\u0301".encode() * (SIZE // 2)
    yield "ligatures.txt", ("\ufdfa" * (SIZE // 3)).encode()
    yield "line.txt", b"a" * SIZE
    yield "blank.txt", b" " * SIZE
    yield "keys.txt", (b"A" * 60 + b"\n") * (SIZE // 61) + b"PRIVATE KEY"
    yield "escapes.txt", b"\x1b]0;owned\x07\x1b[2J\x9b31m\xe2\x80\xae" * 100
    yield "parens.py", b"(" * SIZE
    yield "minus.py", b"-" * SIZE + b"1\n"
    yield "dots.py", b"a" + b".b" * (SIZE // 2) + b"\n"
    yield "nots.py", b"x=" + b"not " * (SIZE // 4) + b"1\n"
    yield "digits.py", b"x=" + b"9" * SIZE + b"\n"
    yield "classes.py", b"".join(b" " * i + b"class A:\n" for i in range(99)) + b" " * 99 + b"pass\n"
    for suffix, piece in (
        ("js", b"("),
        ("ts", b"a<"),
        ("c", b"{"),
        ("cpp", b"a<"),
        ("rb", b'"#{'),
        ("sh", b"$("),
        ("rs", b"mod a{"),
        ("java", b"class A{"),
        ("cs", b"namespace a{"),
        ("php", b"{"),
        ("go", b"func("),
    ):
        yield f"deep.{suffix}", (b"<?php " if suffix == "php" else b"") + piece * (SIZE // len(piece))
    yield "broken.pdf", b"%PDF-1.4\n" + b"1 0 obj << /Kids [1 0 R] /Parent 1 0 R >> endobj\n" * 900
    yield "bomb.pdf", b"%PDF-1.7\n" + b"<<" * (SIZE // 2)
    yield "archive.docx", b"PK\x03\x04" + b"\0" * 1000
    yield "zip.txt", b"PK\x03\x04" + b"\xff" * 1000


def names() -> Iterator[bytes]:
    """Yield file names that no person would choose."""
    yield b"esc-\x1b]0;x\x07\x1b[2J.md"
    yield b"line\n\n## [9] policy.md\n.md"
    yield "bidi-\u202egnp.md".encode()
    yield b"\xff\xfe\xc3.md"
    yield b"a" * 252 + b".md"
    yield b" .md"
    yield b"-rf .md"
    yield b"*?[a].md"
    yield "e\u0301\u200b.md".encode()


def make_hostile_files(folder: Path) -> list[str]:
    """Fill `folder` and return the paths in it of readable text files, which search must find.

    Each of them contains `GOOD`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outside = folder.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "decoy.md").write_text("the decoy outside says xylophone")
    for name, data in mails():
        (folder / f"{name}.eml").write_bytes(data)
    box = b"".join(b"From x\n" + data[:2000] + b"\n" for _, data in mails())
    (folder / "all.mbox").write_bytes(box)
    for name, data in texts():
        (folder / name).write_bytes(data)
    good = []
    for raw in names():
        (folder / os.fsdecode(raw)).write_text(GOOD)
        good.append(os.fsdecode(raw))
    _make_odd_entries(folder, outside)
    for name, times in (("future.md", 10**10), ("past.md", -(10**10))):
        (folder / name).write_text(GOOD)
        with suppress(OSError, OverflowError):  # a file system may not store such times
            os.utime(folder / name, (times, times))
        good.append(name)
    _make_patterns(folder)
    return [*good, "patterns/kept.md"]


def _make_odd_entries(folder: Path, outside: Path) -> None:
    for name in ("fifo.md", "fifo.pdf", "SKILL.md", "fifo.eml"):
        os.mkfifo(folder / name)
    here = os.open(folder, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/socket.md")
    finally:
        os.close(here)
    if os.getuid() == 0:
        with suppress(OSError):  # a container may not create it
            os.mknod(folder / "zero.md", 0o020666, os.makedev(1, 5))
    for name, target in (
        ("out.md", outside / "decoy.md"),
        ("out-folder", outside),
        ("endless.md", Path("/dev/zero")),
        ("loop.md", Path("loop.md")),
        ("up", Path("..")),
        ("self", Path()),
    ):
        (folder / name).symlink_to(target)
    with open(folder / "sparse.md", "wb") as file, suppress(OSError):
        file.truncate(2**40)
    (folder / "closed.md").write_text("nobody reads this")
    (folder / "closed.md").chmod(0)
    below = os.open(folder, os.O_RDONLY)
    for _ in range(400):
        os.mkdir("d", dir_fd=below)
        deeper = os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(os.open("deep.md", os.O_CREAT | os.O_WRONLY, dir_fd=below))
    os.close(below)


def _make_patterns(folder: Path) -> None:
    patterns = folder / "patterns"
    for name, data in (
        ("refused", b".godot\\\n[\n"),
        ("stars", b"**/a" * 200 + b"\n" + b"*a" * 400 + b"b\n" + b"?*" * 400 + b"\n"),
        ("large", b"a*b?c\n" * 100_000),
        ("binary", bytes(range(256)) * 100),
    ):
        (patterns / name).mkdir(parents=True)
        (patterns / name / ".gitignore").write_bytes(data)
        (patterns / name / "x.txt").write_text(json.dumps(name))
    (patterns / "fifo").mkdir()
    os.mkfifo(patterns / "fifo" / ".gitignore")
    (patterns / "link").mkdir()
    (patterns / "link" / ".gitignore").symlink_to("/dev/zero")
    (patterns / "kept.md").write_text(GOOD)


if __name__ == "__main__":
    make_hostile_files(Path(sys.argv[1]))
