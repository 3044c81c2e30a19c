"""Test that 200 injected instructions in records are marked in each form of a context, and can forge no mark."""

import json
from dataclasses import replace

import pytest

from ctxfs.context.build.constructor import Candidates, assemble
from ctxfs.context.build.copy_detection import CopyDetector
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.rebuild import relocate_piece
from ctxfs.context.build.record_pieces import texts_of_record
from ctxfs.context.build.render import render
from ctxfs.context.build.request import make_request
from ctxfs.context.build.tokens import open_tokenizer
from ctxfs.context.delivery.loader import Delta, Step, Window, render_delta, split_stream
from ctxfs.eventlog.record_marks import RECORD_LABEL, RECORD_NOTICE, label_of_text
from ctxfs.index.extract.chunks import Chunk
from tests.trust.injections import (
    Injection,
    headers_in,
    injections,
    unmarked_in_json,
    unmarked_in_markdown,
    unmarked_in_xml,
)

ALL = injections()
RULES = Piece("memory/shared/fact/rules.md", 1, 1, "The keys rotate every 90 days.", kind="fact", day=739_000)


def record(text: str, line: int = 7, session: str = "talk", score: float = 1.0) -> Piece:
    path = f"history/2026-11-01/{session}.jsonl"
    return Piece(path, line, line, f"user: {text}", score=score, kind="history", day=739_921, sha256="0" * 64)


def contexts(injection: Injection) -> list[list[Piece]]:
    own, other = record(injection.text), record("fine", 9)
    long = replace(own, text=f"user: {injection.text}\n{injection.text}")
    pinned = replace(own, first=7, last=9, why="pin")
    return [
        [own],
        [RULES, own],
        [own, other, RULES],
        [long, other],
        [pinned],
        [record(injection.text, line, f"s{line}") for line in (1, 2)],
        [replace(own, untrusted=True, cut=True)],
    ]


@pytest.mark.parametrize("injection", ALL, ids=lambda injection: injection.name)
def test_injection_is_marked_in_each_format(injection: Injection) -> None:
    for pieces in contexts(injection):
        paths = {piece.path.removesuffix(".jsonl").removesuffix(".md") for piece in pieces}
        markdown = render("the keys", ["a note"], pieces)
        assert injection.word in markdown
        assert unmarked_in_markdown(markdown, injection.word) == []
        headers = headers_in(markdown)
        assert len(headers) == len(paths), markdown
        assert all(character == "\n" or character == "\t" or ord(character) >= 32 for character in markdown)
        assert not set("\u202e\u202c\u2066\u200f\u2028\u2029\x85\x9b\U000e0041") & set(markdown)
        if not any(piece.path == RULES.path for piece in pieces):
            assert unmarked_in_json(render("the keys", [], pieces, "json"), injection.word) == []
            assert unmarked_in_xml(render("the keys", [], pieces, "xml"), injection.word) == []
        assert injection.word in render("the keys", [], pieces, "messages")


@pytest.mark.parametrize("injection", ALL[::7], ids=lambda injection: injection.name)
def test_injection_is_marked_in_streams_and_deltas(injection: Injection) -> None:
    pieces = [record(injection.text), record("fine", 9), RULES]
    for part in split_stream(pieces, 60, "the keys", open_tokenizer("bound").count):
        assert unmarked_in_markdown(part.text, injection.word) == [], part.text
    old = record("before")
    steps = [Step("replace", "the source has changed", pieces[0], old), Step("add", "answers the question", pieces[0])]
    delta = render_delta(Delta([*steps, Step("drop", "stale", old=old)], Window()))
    assert unmarked_in_markdown(delta.partition("# Add")[2], injection.word) == []
    replaced = delta.partition("# Add")[0]
    assert replaced.index(RECORD_LABEL) < replaced.index(injection.word)
    assert "\x1b" not in delta
    assert "\u202e" not in delta


def test_there_are_two_hundred_different_injections() -> None:
    assert len(ALL) == len({injection.text for injection in ALL}) == 200


def test_marks_cost_at_most_fifteen_percent() -> None:
    count = open_tokenizer("bound").count
    text = "I looked at the rotation of the signing keys again: they are rotated by the job at night, and the old ones stay."
    for lines in (1, 3, 12):
        records = [record(text, line) for line in range(1, 2 * lines, 2)]
        files = [replace(piece, path=piece.path.replace("history/", "knowledge/")) for piece in records]
        assert count(render("q", [], records)) <= 1.15 * count(render("q", [], files)), lines


def assembled(pieces: list[Piece], **options: object) -> dict[str, int]:
    request = make_request({"query": "keys", "budget": 1000, **options}, 1000)
    context = assemble(request, Candidates((), pieces), open_tokenizer("bound"))
    counts: dict[str, int] = {}
    for piece in context.plan.chosen:
        counts[piece.kind] = counts.get(piece.kind, 0) + len(piece.text)
    assert context.tokens <= 1000
    return counts


def words(number: int) -> str:
    return " ".join(f"word{number}x{index}" for index in range(20))


def test_records_do_not_displace_files_without_a_quota() -> None:
    records = [record(words(n), n + 1, f"s{n}", score=2.0) for n in range(40)]
    files = [Piece(f"knowledge/f{n}.md", 1, 1, words(100 + n), score=1.0, kind="markdown") for n in range(40)]
    counts = assembled([*records, *files])
    assert counts["markdown"] >= 0.7 * counts["history"]
    assert set(assembled(records)) == {"history"}
    few = assembled([*records, files[0]])
    assert few["history"] > 3 * few["markdown"], "the tokens that files do not want are free for records"
    assert assembled([*records, *files], quota={"history": "25%"})["history"] < 0.6 * counts["history"]
    assert "markdown" not in assembled([*records, *files], quota={"history": "100%"})


def test_record_that_repeats_a_file_is_recalled_and_not_the_other_way_round() -> None:
    text = "The signing keys are rotated by a job every night at three. The old keys stay valid for a whole week."
    file = Piece("memory/shared/fact/keys.md", 1, 1, text, mtime_ns=9)
    talk, again = replace(record(text), mtime_ns=1), replace(record(text, 3, "later"), mtime_ns=2)
    copies = CopyDetector([file, talk, again])
    assert copies.original_of(talk) == file
    assert copies.original_of(file) is None
    assert CopyDetector([talk, again]).original_of(again) is None


def test_text_that_quotes_records_has_a_label() -> None:
    marked = f"## [1] history/x ({RECORD_NOTICE})".encode()
    assert label_of_text("context/t/context.md", marked)
    assert label_of_text("knowledge/.search/q/01 s.jsonl:1", marked)
    assert label_of_text("search/q/context.md", b"nothing of it") == ""
    assert label_of_text("memory/a/x.md", marked) == ""


def session_file(*texts: str) -> bytes:
    records = [{"kind": "input", "seq": n, "text": text, "hash": "0"} for n, text in enumerate(texts, 1)]
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_piece_of_a_record_is_found_again_after_its_file_has_grown() -> None:
    data = session_file("How do keys rotate?", 'Said "so"\n\nand so, with a long text.', "gone")
    piece = Piece("history/2026-11-01/talk.jsonl", 2, 2, 'user: Said "so"\n\nand so, with a long text.')
    assert texts_of_record(data, 2) == [piece.text]

    def extract(name: str, content: bytes) -> list[Chunk]:
        raise AssertionError("records have a splitter of their own")

    grown = data + session_file("later")
    assert relocate_piece(piece, grown, extract) == piece
    cut = replace(piece, text='user: Said "so" …', cut=True)
    assert relocate_piece(cut, grown, extract) == cut
    erased = data.split(b"\n")
    erased[1] = b'{"seq": 2, "forgotten": {"at": "x", "by": "y"}}'
    assert relocate_piece(piece, b"\n".join(erased), extract) is None
    assert relocate_piece(replace(piece, first=9, last=9), data, extract) is None
    assert texts_of_record(b"\xff\n[1]\n{", 1) == texts_of_record(b"\xff\n[1]\n{", 2) == texts_of_record(b"", 0) == []
