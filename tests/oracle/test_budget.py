"""Test that a budget is a ceiling: ten thousand random requests over real texts, counted by real tokenizers.

`make test-budget` runs these tests.
"""

import json
import os
import pydoc_data.topics
import random
import sysconfig
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ctxfs.context.build.candidate_filter import FilterCriteria, filter_candidates
from ctxfs.context.build.constructor import Candidates, assemble
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.render import render
from ctxfs.context.build.request import make_request
from ctxfs.context.build.tokens import open_tokenizer
from ctxfs.context.delivery.loader import split_stream
from ctxfs.index.extract.file_reader import detect_kind
from ctxfs.index.extract.formats import UnreadableFile, extract_chunks
from ctxfs.mounts.agents_guide import render_guide

ROUNDS = int(os.environ.get("CTXFS_BUDGET_ROUNDS", "10000"))
_SHARES = 4  # the rounds are divided among this many tests
_TEXTS = (".py", ".txt", ".md", ".json", ".html", ".rst", ".cfg")

Oracles = Mapping[str, Callable[[str], int]]

ODD = (
    "東京の空は青い。今日は会議が三つあります。\n中文的句子也要计算。\n한국어 문장도 있습니다.",
    "Kunci harus diganti setiap sembilan puluh hari. Izikhiye kufanele zishintshwe njalo ngemva kwezinsuku ezingu-90.",
    "Võtmeid tuleb vahetada iga üheksakümne päeva järel. Avaimet vaihdetaan yhdeksänkymmenen päivän välein.",
    "चाबियाँ हर नब्बे दिन में बदली जाती हैं। ચાવીઓ દર નેવું દિવસે બદલાય છે. Բանալիները փոխվում են իննսուն օրը մեկ։",
    "Τα κλειδιά αλλάζουν κάθε ενενήντα ημέρες. המפתחות מתחלפים כל תשעים יום. تتغير المفاتيح كل تسعين يوما.",
    "     June\nMo Tu We Th Fr Sa Su\n          1  2  3  4\n 5  6  7  8  9 10 11\n" * 3,
    "Привет, мир! Ещё одно предложение — с тире.",
    "🎉🔥👩‍👩‍👧‍👦 emoji in a row 🚀🚀🚀",
    "aGVsbG8gd29ybGQgdGhpcyBpcyBiYXNlNjQgZW5jb2RlZCB0ZXh0IHdpdGggbm8gd29yZHM9PQ==\n3f9a0c77d1e24b5f8a6c9d0e1f2a3b4c5d6e7f80",
    "<|endoftext|> <|im_start|>system\n[INST] not special here [/INST]",
    "\t\t\tindented\n\n\n\n      deeply\r\n\r\nwindows lines\r\n",
    "3.14159265358979 1000000 0x7fffffff 127.0.0.1 2026-11-22T00:00:00Z +49 30 123456",
    "a" * 300 + " " + "é" * 100,
    "{}[]();:,.<>/?!@#$%^&*-_=+|\\~`'\"" * 4,
)


@pytest.fixture(scope="session")
def pieces() -> list[Piece]:
    """Return units of Python's own library and help, and odd texts."""
    library = Path(sysconfig.get_path("stdlib"))
    sources = {f"help/{name}.txt": text.encode() for name, text in pydoc_data.topics.topics.items()}
    files = sorted(
        path
        for path in library.rglob("*")
        if path.suffix in _TEXTS and "site-packages" not in path.parts and path.is_file()
    )
    random.Random(3).shuffle(files)
    sources |= {str(path.relative_to(library)): path.read_bytes()[:60_000] for path in files[:400]}
    sources |= {f"odd/{at}.txt": text.encode() for at, text in enumerate(ODD)}
    out = []
    for path, data in sorted(sources.items()):
        try:
            chunks = extract_chunks(path.rpartition("/")[2], data)
        except UnreadableFile:
            continue
        kind = detect_kind(path, (), data)
        out += [Piece(path, c.first, c.last, c.text, c.heading, day=c.day, kind=kind) for c in chunks[:40]]
    assert len(out) > 2000
    return out


def request_of(chance: random.Random, names: list[str]) -> dict[str, Any]:
    """Return a random valid request."""
    budget = int(10 ** chance.uniform(0, 4.2))
    request: dict[str, Any] = {
        "query": chance.choice(
            ["how is it done", "", "東京", "a" * chance.randrange(400), ["one", "another question"]]
        ),
        "budget": budget,
        "tokenizer": chance.choice(names),
        "format": chance.choice(["markdown", "xml", "json", "messages"]),
        "order": chance.choice(["rank", "edges", "time"]),
    }
    if chance.random() < 0.3:
        request["quota"] = {chance.choice(["code", "text", "markdown"]): chance.choice([budget // 3, "20%", 0])}
    if chance.random() < 0.3:
        request["reserve"] = (
            {chance.choice(["code", "text", "html"]): chance.choice([0, "10%"])} if "quota" not in request else {}
        )
    return request


@pytest.mark.parametrize("share", range(_SHARES))
def test_no_request_is_ever_over_its_budget(share: int, oracles: Oracles, pieces: list[Piece]) -> None:
    names = ["bound", "bound", *oracles]
    over: list[str] = []
    full = 0
    for seed in range(share, ROUNDS, _SHARES):
        chance = random.Random(seed)
        request = make_request(request_of(chance, names), 1)
        chosen = [
            Piece(
                piece.path,
                piece.first,
                piece.last,
                piece.text,
                piece.heading,
                chance.gauss(0, 1),
                kind=piece.kind,
                day=piece.day,
            )
            for piece in chance.sample(pieces, chance.randrange(60))
        ]
        notes = ("an index that lags",) if chance.random() < 0.1 else ()
        kept, excluded = filter_candidates((), chosen, FilterCriteria(0))
        built = assemble(request, Candidates((), kept, excluded, notes), open_tokenizer(request.tokenizer))
        counts = oracles.values() if request.tokenizer == "bound" else (oracles[request.tokenizer],)
        most = max(count(built.text) for count in counts)
        if most > request.budget:
            over.append(f"seed {seed}: {most} of {request.budget} by {request.tokenizer}")
        json.loads(built.manifest)
        full += bool(built.plan.excluded) and built.tokens >= 0.95 * request.budget
    assert not over, over
    assert full, "no context was full: the requests are wrong"


def test_no_part_of_a_stream_is_over_its_budget(oracles: Oracles, pieces: list[Piece]) -> None:
    for seed in range(ROUNDS // 50):
        chance = random.Random(seed)
        budget = chance.randrange(120, 2000)
        stream = split_stream(chance.sample(pieces, 12), budget, "q", open_tokenizer("bound").count)
        for part in stream:
            assert max(count(part.text) for count in oracles.values()) <= budget, f"seed {seed}"


def test_the_budget_is_used_when_there_is_enough(pieces: list[Piece]) -> None:
    prose = [piece for piece in pieces if piece.kind != "code"]
    for seed in range(200):
        chance = random.Random(seed)
        budget = chance.randrange(1500, 10_000)  # the header of one source is a twentieth of less
        chosen = [
            Piece(p.path, p.first, p.last, p.text, p.heading, chance.gauss(0, 1), kind=p.kind)
            for p in chance.sample(prose, 300)
        ]
        request = make_request({"query": "q", "budget": budget, "format": chance.choice(["markdown", "json"])}, 1)
        kept, excluded = filter_candidates((), chosen, FilterCriteria(0))
        built = assemble(request, Candidates((), kept, excluded), open_tokenizer("bound"))
        assert 0.95 * budget <= built.tokens <= budget, f"seed {seed}: {built.tokens} of {budget}"
        assert (
            open_tokenizer("bound").count(render(request.title, (), built.plan.chosen, request.format)) == built.tokens
        )


def test_the_guide_of_a_tree_with_many_sources_is_under_600_tokens(oracles: Oracles) -> None:
    guide = render_guide([(f"source-number-{number}", False) for number in range(30)])
    counts = {name: count(guide) for name, count in oracles.items() if "deepseek" not in name}
    assert len(counts) == 3
    assert max(counts.values()) <= 600, counts
