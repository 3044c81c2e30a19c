"""Test that a folder of hostile files is indexed completely, skipped files have a reason, and mutated files do, too."""

import os
import random
import time
from pathlib import Path

from ctxfs.index.extract.extractor import Extractor, Limits
from ctxfs.index.extract.formats import UnreadableFile
from tests.trust.hostile_files import GOOD, mails, make_hostile_files, texts
from tests.unit.index.test_formats import ENCODED, MAIL, PAGE, a_pdf
from tests.unit.index.test_index import Index
from tests.unit.index.test_office import book, paragraph, shape, slides, text_document, word, workbook

SECONDS = float(os.environ.get("CTXFS_FUZZ_SECONDS", "2"))


def test_folder_of_hostile_files_is_indexed_completely_and_skipped_files_are_named(tmp_path: Path) -> None:
    good = make_hostile_files(tmp_path / "corpus")
    index = Index(tmp_path / "index", tmp_path / "corpus")
    try:
        named = {path.removeprefix("knowledge/c/") for path, _ in index.catalog.skipped_files(1000)}
        paths = {hit.path.removeprefix("knowledge/c/") for hit in index.ask(f"mode:words {GOOD}").hits}
        assert set(good) <= paths
        # A special file is no file of the index; every other one is found, or named with its reason.
        regular = {name for name, _ in texts()} | {f"{name}.eml" for name, _ in mails()} | {"all.mbox", "sparse.md"}
        catalogued = {path.removeprefix("knowledge/c/") for _, path in index.catalog.all_paths()}
        assert regular <= catalogued
        assert index.catalog.files_in_state("pending", 10) == []
        assert {"broken.pdf", "bomb.pdf"} <= named
        sparse = index.catalog.file("knowledge/c/sparse.md")
        assert sparse is not None and index.catalog.note(sparse.id), "its head has no text, and the rest is not read"
        assert index.paths("mode:words xylophone decoy") == [], "nothing outside is read"
        assert not any(path.startswith(("out-folder/", "up/", "self/")) for path in catalogued)
        assert not (tmp_path / "index" / "suspects.json").exists(), "no file ended the indexer"
    finally:
        index.close()


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """Return a copy with some bytes changed, or a piece repeated, cut out or moved."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(out) + 1)
        end = min(len(out), at + chance.randint(1, 60))
        match chance.randrange(5):
            case 0:
                out[at:end] = chance.randbytes(chance.randint(0, 8))
            case 1:
                out[at:at] = out[at:end] * chance.randint(1, 300)
            case 2:
                del out[at:end]
            case 3:
                out[at:at] = chance.choice(
                    (b"\0", b"\xff\xfe", b"\\ud83d", b"\r\n\r\n", b"--", b"=?x?q?", b"<!--", b"[" * 500)
                )
            case _:
                out += out[at:end]
    return bytes(out[:100_000])


def test_mutated_files_of_every_format_give_chunks_or_a_reason() -> None:
    seeds = [
        ("a.eml", MAIL),
        ("b.eml", ENCODED),
        ("a.mbox", b"From x\n" + MAIL + b"\nFrom y\n" + ENCODED),
        ("a.html", PAGE.encode()),
        ("a.pdf", a_pdf("Rotate the keys", "every ninety days")),
        ("a.md", b"---\nauthor: Ann\n---\n# A\n\ntext\n\nB\n===\n\n```\nx\n```\n"),
        ("a.jsonl", b'{"user": "Ann", "ts": 1700000000, "text": "hi \\ud83d\\ude00"}\n' * 3),
        ("a.txt", b"Ada: hello\nBob: you\n" * 6),
        ("b.txt", "Größe — 署名鍵\n".encode("utf-16") * 9),
        ("c.txt", "署名鍵は九十日ごとに\n".encode("cp932") * 9),
        ("a.docx", word(paragraph("Rotation", "berschrift1") + paragraph("the keys"))),
        ("a.xlsx", workbook({"Stock": "<row r='2'><c><v>1</v></c></row>"}, ("<t>Name</t>",))),
        ("a.pptx", slides(shape("Rotation", "title"), notes="x")),
        ("a.odt", text_document("<text:p>the keys</text:p>")),
        ("a.epub", book({"a.html": b"<p>the keys</p>"})),
    ]
    for suffix, text in (
        ("py", b"class A:\n    def f(self):\n        return 1\n"),
        ("js", b"class A { m() { return () => 1 } }\n"),
        ("ts", b"export interface A<T> { m(): T }\n"),
        ("cpp", b"namespace a { template<class T> struct B { int f(); }; }\n"),
        ("rb", b"module A\n  def f\n  end\nend\n"),
        ("php", b"<?php class A { function f() {} }\n"),
        ("sh", b"f() {\n  echo $(ls)\n}\n"),
    ):
        seeds.append((f"a.{suffix}", text))
    chance = random.Random(int(os.environ.get("CTXFS_FUZZ_SEED", "11")))
    extractor, end, count = Extractor(Limits(cpu_seconds=2, slow_cpu_seconds=5)), time.monotonic() + SECONDS, 0
    try:
        while time.monotonic() < end:
            name, data = chance.choice(seeds)
            mutated = _mutated(data, chance)
            try:
                for chunk in extractor.extract_chunks(name, mutated):
                    "".join((chunk.text, chunk.heading, chunk.author)).encode()
                    assert 1 <= chunk.first <= chunk.last
            except UnreadableFile as reason:
                assert "died" not in str(reason), (name, mutated)
                assert "takes too long" not in str(reason), (name, mutated)
            count += 1
    finally:
        extractor.close()
    assert count
