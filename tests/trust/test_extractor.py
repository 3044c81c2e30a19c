"""Test that a file that breaks a parser affects that file alone, in time, memory and error reports."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ctxfs.index.extract.extractor import INTERACTIVE, Extractor, Limits, SlowFileBudget, TooSlow
from ctxfs.index.extract.formats import MAX_CHUNKS, UnreadableFile, extract_chunks
from ctxfs.index.search.overlay import MAX_FILE_BYTES
from tests.unit.index.test_formats import MAIL, a_pdf
from tests.unit.index.test_index import Index


@pytest.fixture
def extractor() -> Iterator[Extractor]:
    made = Extractor(Limits(cpu_seconds=0.5, slow_cpu_seconds=5))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.md", b"# A\n\nb\n"),
        ("a.eml", MAIL),
        ("a.pdf", a_pdf("one", "two")),
        ("a.html", b"<h1>A</h1>b"),
        ("a.py", b"def f():\n    return 1\n"),
    ],
)
def test_worker_returns_the_chunks_of_the_readers(extractor: Extractor, name: str, data: bytes) -> None:
    assert extractor.extract_chunks(name, data) == extract_chunks(name, data)


@pytest.mark.parametrize(
    "charset", ["undefined", "punycode", "idna", "unicode_escape", "rot13", '"utf-8\\u0000x"', "zlib"]
)
def test_mail_in_an_unknown_charset_is_decoded_by_a_guess(charset: str) -> None:
    (chunk,) = extract_chunks(
        "x.eml", f"From: a\nContent-Type: text/plain; charset={charset}\n\nhello quokka\n".encode()
    )
    assert "hello quokka" in chunk.text


@pytest.mark.parametrize(
    "header", [b'From: ' + b'"' * 60_000, b"Subject: " + b"=?utf-8?q?a?= " * 5_000, b"Content-Type: text/plain; " + b"a*1=b;" * 10_000]
)  # fmt: skip
def test_long_header_costs_no_more_than_its_length(header: bytes) -> None:
    start = time.process_time()
    assert any("the body" in chunk.text for chunk in extract_chunks("x.eml", header + b"\n\nthe body\n"))
    assert time.process_time() - start < 1


def test_half_of_a_surrogate_pair_becomes_a_replacement_character() -> None:
    (chunk,) = extract_chunks("x.jsonl", b'{"user":"Ann \\ud83d","text":"hi"}\n')
    assert chunk.author == "Ann \ufffd"
    chunk.text.encode()


def test_file_with_too_many_chunks_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="too many pieces"):
        extract_chunks("x.html", b"".join(b"<h1>%d</h1><p>x</p>" % n for n in range(MAX_CHUNKS + 1)))


def test_long_title_is_cut_in_the_units_below_it() -> None:
    chunks = extract_chunks(
        "x.md", b"# " + b"a" * 30_000 + b"\n" + b"".join(b"\n## %d\n\nx\n" % n for n in range(2_000))
    )
    assert sum(len(chunk.heading) for chunk in chunks) < 1_000_000


def _slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Have workers read files called `hostile.*` with the statement `body`."""
    (tmp_path / "sitecustomize.py").write_text(
        "import ctxfs.index.extract.formats as formats\n"
        "real = formats.extract_chunks\n"
        "def extract_chunks(name, data):\n"
        f"    if name.startswith('hostile'):\n        {body}\n"
        "    return real(name, data)\n"
        "formats.extract_chunks = extract_chunks\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("while True: pass", "takes too long"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "its reader died"),
        ("import os; os._exit(3)", "its reader died"),
        ("kept = [bytes(2**20) for _ in range(10**6)]", "needs too much memory"),
        ("raise UnicodeEncodeError('utf-8', chr(0xd800), 0, 1, 'why')", "UnicodeEncodeError"),
        ("print('noise' * 10000); import sys; sys.stdout.flush(); raise ValueError('noise')", "noise"),
    ],
)
def test_reader_that_fails_costs_the_file_alone(
    extractor: Extractor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, reason: str
) -> None:
    _slow(monkeypatch, tmp_path, body)
    with pytest.raises(UnreadableFile, match=reason):
        extractor.extract_chunks("hostile.txt", b"x")
    (chunk,) = extractor.extract_chunks("next.txt", b"the next one is read")
    assert chunk.text == "the next one is read"


def test_worker_that_was_killed_is_replaced(extractor: Extractor) -> None:
    assert extractor.extract_chunks("a.txt", b"one")
    os.kill(extractor._slot[0].pid, signal.SIGKILL)
    assert extractor.extract_chunks("a.txt", b"two")[0].text == "two"


def test_worker_of_a_large_process_reads_more_than_one_file(extractor: Extractor) -> None:
    ballast = b"x" * (450 << 20)
    extractor.extract_chunks("a.md", b"# A\n\nb\n")
    (first,) = extractor._slot
    for _ in range(3):
        extractor.extract_chunks("a.md", b"# A\n\nb\n")
    assert extractor._slot == [first]
    assert len(ballast) > 0


def test_slow_files_exhaust_the_time_budget_of_a_search() -> None:
    now = 0.0
    patience = SlowFileBudget(lambda: now)
    for _ in range(500):
        patience.charge(0.01)
    assert not patience.is_exhausted, "fast files cost nothing"
    for _ in range(3):
        patience.charge(1.0)
    assert patience.is_exhausted
    now = 60.0
    assert not patience.is_exhausted


def test_time_that_a_slow_file_takes_does_not_pay_for_it() -> None:
    now = 0.0
    patience = SlowFileBudget(lambda: now)
    now = 20.0  # of a busy machine, for the 2.5 seconds of the file
    patience.charge(2.5)
    assert patience.is_exhausted


def test_slow_small_file_waits_for_the_indexer_and_then_so_do_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _slow(monkeypatch, tmp_path, "while True: pass")
    extractor = Extractor(Limits(cpu_seconds=2.5))
    try:
        for reason in ("takes too long", "waits for the indexer"):
            with pytest.raises(TooSlow, match=reason):
                extractor.extract_chunks_interactively("hostile.txt", b"x")
        assert extractor.extract_chunks("good.txt", b"x")
    finally:
        extractor.close()


def test_slow_small_file_delays_a_search_by_a_bounded_time() -> None:
    assert INTERACTIVE.cpu_seconds_for("x.eml", MAX_FILE_BYTES) < 2


def test_no_reader_of_formats_is_called_outside_of_the_worker() -> None:
    root = Path(__file__).parent.parent.parent
    users = [
        str(path.relative_to(root))
        for top in ("ctxfs", "mounts", "mcp_server")
        for path in sorted((root / top).rglob("*.py"))
        if "formats import" in path.read_text()
        and "extract_chunks" in path.read_text().split("formats import")[1].split("\n")[0]
    ]
    assert users == ["ctxfs/index/extract/extractor_process.py"]


def test_files_that_break_readers_are_skipped_with_their_reason_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _slow(monkeypatch, tmp_path, "import os; os.abort()")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "hostile.txt").write_text("x")
    (corpus / "good.md").write_text("zanzibar")
    (corpus / "half.jsonl").write_text('{"user":"Ann \\ud83d","text":"zanzibar"}\n')
    index = Index(tmp_path / "index", corpus)
    try:
        assert index.paths("zanzibar") == ["good.md", "half.jsonl"] or set(index.paths("zanzibar")) == {
            "good.md",
            "half.jsonl",
        }
        assert index.catalog.skipped_files(10) == [
            ("knowledge/c/hostile.txt", "text: cannot be read (its reader died)")
        ]
        asked: list[str] = []
        monkeypatch.setattr(index.follower._extractor, "extract_chunks", lambda name, data: asked.append(name))
        index.follower.scan_all()
        assert not asked
    finally:
        index.close()


@pytest.mark.parametrize("stage", ["put_file", "replace_chunks", "chunks_of"])
def test_error_of_any_kind_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    index = Index(tmp_path / "index", corpus)
    for name in ("a.md", "bad.md", "c.md"):
        (corpus / name).write_text(f"zanzibar {name}")
    real: Callable[..., object] = getattr(index.catalog, stage)
    bad: list[object] = []

    def failing(first: object, *rest: object) -> object:
        if stage == "put_file" and str(first).endswith("bad.md") and "skipped" not in rest:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        if stage == "replace_chunks" and rest[0] and any("bad.md" in chunk.text for chunk in rest[0]):  # type: ignore[attr-defined]
            bad.append(first)
            raise ValueError("no reason that anybody foresaw")
        if stage == "chunks_of" and "bad.md" in str(real(first)):
            raise KeyError("no reason that anybody foresaw")
        return real(first, *rest)

    monkeypatch.setattr(index.catalog, stage, failing)
    try:
        index.follower.scan_all()
        assert set(index.paths("zanzibar")) == {"a.md", "c.md"}
        ((path, why),) = index.catalog.skipped_files(10)
        assert path == "knowledge/c/bad.md"
        assert why.startswith("cannot be indexed")
    finally:
        index.close()
