"""Test the pure parts of a context: requests, selection, packing with quotas, formats, compression, manifests."""

import hashlib
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import jsonschema
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxfs.context.build.candidate_filter import FilterCriteria, filter_candidates
from ctxfs.context.build.comparison import compare
from ctxfs.context.build.compress import compress
from ctxfs.context.build.constructor import Candidates, Context, assemble
from ctxfs.context.build.fit import fit
from ctxfs.context.build.manifest import parse_manifest, schema
from ctxfs.context.build.pack import Limits, pack
from ctxfs.context.build.piece import Piece
from ctxfs.context.build.rebuild import explain_path, rebuild, relocate_piece
from ctxfs.context.build.render import render
from ctxfs.context.build.request import Request, make_request, parse_request
from ctxfs.context.build.sentences import sentences
from ctxfs.context.build.token_bound import upper_bound
from ctxfs.context.build.tokens import BoundTokenizer, open_tokenizer
from ctxfs.index.engines.fulltext import analyse
from ctxfs.index.extract.formats import extract_chunks
from ctxfs.index.search.file_status import FileStatus, status_of, superseded_paths

BOUND = BoundTokenizer()


def refused(text: str) -> str:
    with pytest.raises(OSError, match=r".") as raised:
        parse_request(text, 100)
    return raised.value.strerror or ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("budget = 0", "budget = 0"),
        ("budget = -3", "budget = -3"),
        ("budget = 10000001", "10000000"),
        ("budget = 1.5", "whole number"),
        ("budget = true", "whole number"),
        ('query = "x', "not valid TOML"),
        ("query = 3", "query is a text or a list of texts"),
        ('colour = "red"', "unknown key 'colour'"),
        ('format = "yaml"', "markdown, xml, json, messages"),
        ('order = "best"', "rank, edges, time"),
        ("recent = 201", "0 to 200"),
        ("min_score = nan", "a number"),
        ('compress = "yes"', "true or false"),
        ('quota = "30%"', "table of kinds"),
        ('[quota]\nfact = "a lot"', "tokens, a share"),
        ('[quota]\nfact = "130%"', "tokens, a share"),
        ('[quota]\nfact = "code"\ncode = "markdown"\nmarkdown = "fact"', "fact → code → markdown → fact"),
        ('[quota]\nfact = "fact"', "fact → fact"),
        ("[quota]\nfact = 5\n[reserve]\nfact = 6", "6 tokens reserved, but a quota of 5"),
        ("[reserve]\nfact = 60\ncode = 60", "20 more than the budget"),
        ('pins = ["a.md:9-3"]', "do not run backwards"),
        ('pins = ["../a.md"]', ".."),
    ],
)
def test_invalid_request_is_refused_with_the_reason(text: str, said: str) -> None:
    assert said in refused(text if "budget" in text else f"budget = 100\n{text}")


def test_request_survives_a_round_trip_through_its_file() -> None:
    request = parse_request(
        'query = ["one", "two"]\nbudget = 500\npaths = ["knowledge/a"]\nkinds = ["fact"]\npins = ["x.md:3-9", "y.md"]\n'
        'as_of = "2026-11-01"\nfresh = "7d"\nmin_score = 0.0\nrecent = 3\nformat = "xml"\norder = "edges"\ncompress = true\n'
        '[quota]\ncode = "30%"\ntext = "code"\n[reserve]\nfact = 50\n',
        1,
    )
    assert request.quotas == {"code": 150, "text": 150}
    assert make_request(json.loads(json.dumps(request.record())), 1) == request


# selection


def piece(path: str, text: str, first: int = 1, **more: Any) -> Piece:
    return Piece(path, first, first + text.count("\n"), text, **more)


def test_withdrawn_file_is_excluded_with_the_reason() -> None:
    statuses = {
        "bad.md": FileStatus(quarantined=True),
        "old.md": FileStatus(expires_ns=50),
        "later.md": FileStatus(expires_ns=150),
        "first.md": FileStatus(superseded_by="second.md"),
        "x.conflict-a-12345678.md": FileStatus(conflict_of="x.md"),
    }
    pieces = [piece(path, path, mtime_ns=20, score=1.0) for path in (*statuses, "stale.md", "poor.md", "good.md")]
    pieces[5] = piece("stale.md", "stale", mtime_ns=5, score=1.0)
    pieces[6] = piece("poor.md", "poor", mtime_ns=20, score=-1.0)
    kept, out = filter_candidates([], pieces, FilterCriteria(100, since_ns=10, min_score=0.0, statuses=statuses))
    assert [item.path for item in kept] == ["later.md", "good.md"]
    assert {item.piece.path: (item.reason, item.other) for item in out} == {
        "bad.md": ("quarantined", ""),
        "old.md": ("expired", ""),
        "first.md": ("superseded", "second.md"),
        "x.conflict-a-12345678.md": ("conflict", "x.md"),
        "stale.md": ("stale", ""),
        "poor.md": ("low-score", ""),
    }


def test_pin_stays_despite_any_filter_and_its_lines_appear_once() -> None:
    pin = piece("a.md", "one\ntwo\nthree", why="pin")
    kept, out = filter_candidates([pin], [piece("a.md", "two", 2), piece("b.md", "other")], FilterCriteria(0))
    assert [item.path for item in kept] == ["b.md"]
    assert [(item.reason, item.other) for item in out] == [("duplicate", "a.md")]


def test_two_files_that_supersede_each_other_both_count() -> None:
    assert superseded_paths([("new", "/old"), ("a", "b"), ("b", "a"), ("self", "self")]) == {"old": "new"}
    assert status_of([("tags", "x")]) is None
    assert status_of([("expires_at", "1970-01-01T00:00:01")]) == FileStatus(expires_ns=10**9)


# packing


def plain(pieces: Sequence[Piece]) -> str:
    return render("q", (), pieces)


def test_quotas_are_ceilings_and_reserves_come_before_better_answers() -> None:
    codes = [piece(f"c{n}.py", f"def f{n}(): return {n} + {n}", kind="code", score=9 - n / 10) for n in range(30)]
    facts = [piece(f"f{n}.md", f"the fact number {n} is true", kind="fact", score=-n / 10) for n in range(10)]
    free = pack([*codes, *facts], Limits(400), plain, upper_bound)
    assert all(item.kind == "code" for item in free.chosen[:8])
    held = pack([*codes, *facts], Limits(400, {"code": 60}, {}), plain, upper_bound)
    used = sum(upper_bound(item.text) for item in held.chosen if item.kind == "code")
    assert 0 < used <= 60
    assert {out.reason for out in held.excluded if out.piece.kind == "code"} == {"quota"}
    reserved = pack([*codes, *facts], Limits(400, {}, {"fact": 80}), plain, upper_bound)
    assert sum(item.kind == "fact" for item in reserved.chosen) >= 3
    assert upper_bound(plain(reserved.chosen)) <= 400


def test_long_pieces_are_cut_when_nothing_else_fills_the_budget() -> None:
    long = piece("a.md", "\n".join(f"line {n} of the long text" for n in range(400)), kind="text")
    plan = pack([long], Limits(600), plain, upper_bound)
    assert len(plan.chosen) == 1
    assert plan.chosen[0].cut
    assert plan.chosen[0].last == plan.chosen[0].text.count("\n") + 1
    assert 0.95 * 600 <= upper_bound(plain(plan.chosen)) <= 600


_PIECES = st.lists(
    st.builds(
        Piece,
        path=st.sampled_from(["a.md", "b.py", "c/d.txt", "e/é.md", "x y.jsonl"]),
        first=st.integers(1, 500),
        last=st.integers(501, 900),
        text=st.text(min_size=1, max_size=400),
        heading=st.text(max_size=20),
        score=st.floats(-5, 5),
        kind=st.sampled_from(["code", "fact", "text"]),
        day=st.none() | st.integers(600_000, 800_000),
        mtime_ns=st.integers(0, 2**62),
    ),
    max_size=25,
)


@settings(max_examples=50, deadline=None)
@given(
    _PIECES,
    st.integers(1, 3000),
    st.text(max_size=30),
    st.sampled_from(["markdown", "xml", "json", "messages"]),
    st.sampled_from(["rank", "edges", "time"]),
    st.dictionaries(st.sampled_from(["code", "fact", "text"]), st.integers(0, 500)),
)
def test_no_format_or_order_is_ever_over_its_budget(
    pieces: list[Piece], budget: int, query: str, form: Any, order: Any, quotas: dict[str, int]
) -> None:
    request = Request((query,), budget, format=form, order=order, quotas=quotas)
    kept, excluded = filter_candidates((), pieces, FilterCriteria(0))
    built = assemble(request, Candidates((), kept, excluded), BOUND)
    assert BOUND.count(built.text) <= budget
    assert built.tokens == BOUND.count(built.text)
    accounted = [*built.plan.chosen, *(out.piece for out in built.plan.excluded)]
    assert len(accounted) == len(kept) + len(excluded)
    jsonschema.validate(json.loads(built.manifest), json.loads(schema()))


# formats


def test_formats_are_well_formed_for_any_text() -> None:
    pieces = [piece("a <b>.md", 'x & y < z ]]> "q" \x00 \x1b', heading="<h>"), piece("b.py", "```\nx = 1")]
    root = ElementTree.fromstring(render('say "hi" & <go>', ["a <note>"], pieces, "xml"))
    assert root.attrib["query"] == 'say "hi" & <go>'
    assert [source.attrib["path"] for source in root.iter("source")] == ["a <b>.md", "b.py"]
    body = json.loads(render("q", [], pieces, "json"))
    assert [source["n"] for source in body["sources"]] == [1, 2]
    messages = json.loads(render("q", [], pieces, "messages"))
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"] == "q"


def test_orders_arrange_sources_as_requested() -> None:
    pieces = [piece(f"{name}.md", name, day=day) for name, day in (("a", 5), ("b", 3), ("c", 9), ("d", 1), ("e", 7))]

    def order(name: Any) -> list[str]:
        return [source["path"][0] for source in json.loads(render("q", [], pieces, "json", name))["sources"]]

    assert order("rank") == list("abcde")
    assert order("edges") == list("acedb")
    assert order("time") == list("dbaec")


# compression


def test_compression_keeps_the_sentences_that_answer_and_their_lines() -> None:
    text = "Gardens are nice.\nKeys are rotated every ninety days by Ada.\nLunch is at noon.\nOld keys are kept for a year."
    (short,) = compress([Piece("a.md", 10, 13, text, kind="markdown")], ["who rotates keys"], analyse)
    assert "ninety days" in short.text
    assert "Lunch" not in short.text
    assert "Gardens" not in short.text
    assert 11 <= short.first <= short.last <= 13
    assert short.cut
    code = Piece("a.py", 1, 4, text, kind="code")
    assert compress([code], ["keys"], analyse) == [code]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        (
            "Dr. Smith e.g. arrived at 3.5 p.m. today. He left.",
            ["Dr. Smith e.g. arrived at 3.5 p.m. today.", "He left."],
        ),
        ("- a item\n- b item\nand more", ["- a item", "- b item and more"]),
        ("# Head\ntext here\n```\ncode\n```\nafter", ["# Head", "text here", "after"]),
        ("东京是首都。大阪是城市。", ["东京是首都。", "大阪是城市。"]),
    ],
)
def test_text_is_split_into_sentences(text: str, expected: list[str]) -> None:
    assert [sentence.text for sentence in sentences(text)] == expected


# manifests


SOURCE = b"# Keys\n\nIntro.\n\n## Rotating\n\nRotate every ninety days.\n"


def context_of(source: bytes) -> Context:
    sha = hashlib.sha256(source).hexdigest()
    text = "## Rotating\n\nRotate every ninety days."
    item = Piece("k.md", 5, 7, text, "Keys > Rotating", 2.0, {"words": 1.0}, {"words": 2.0}, sha, kind="markdown")
    pin = Piece("k.md", 1, 3, "# Keys\n\nIntro.", sha256=sha, why="pin")
    return assemble(Request(("rotate",), 300), Candidates([pin], [item], (), ("a note",), 1), BOUND)


def rebuilt(manifest: bytes, sources: dict[str, bytes]) -> Any:
    async def fetch(path: str, sha256: str, revision: str) -> bytes | None:
        data = sources.get(path)
        return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None

    return trio.run(rebuild, parse_manifest(manifest), fetch, extract_chunks)


def test_context_can_be_rebuilt_from_its_manifest() -> None:
    built = context_of(SOURCE)
    again = rebuilt(built.manifest, {"k.md": SOURCE})
    assert again.same
    assert again.text == built.text
    other = rebuilt(built.manifest, {"k.md": SOURCE + b"more\n"})
    assert not other.same
    assert other.missing == ["k.md:1-3", "k.md:5-7"]


def test_manifest_lists_differences_and_the_reason_for_a_line() -> None:
    one, two = (parse_manifest(context_of(source).manifest) for source in (SOURCE, SOURCE))
    assert compare(one.body, two.body).kept == 2
    assert not compare(one.body, two.body).added
    assert [entry["why"] for entry in explain_path(one, "k.md")] == ["pin", "search"]
    assert explain_path(one, "elsewhere") == []


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"format": 99}', b"\xff", b'{"format": 2}', b"[" * 100_000])
def test_invalid_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(OSError, match=r"manifest|format") as raised:
        parse_manifest(data)
    assert raised.value.strerror


def test_moved_piece_is_located_again() -> None:
    item = Piece("k.md", 5, 7, "## Rotating\n\nRotate every ninety days.", kind="markdown")
    moved = relocate_piece(
        item, b"# Keys\n\nNew lines.\n\nMore.\n\n## Rotating\n\nRotate every ninety days.\n", extract_chunks
    )
    assert moved is not None
    assert (moved.first, moved.last) == (7, 9)
    assert relocate_piece(item, SOURCE.replace(b"ninety", b"thirty"), extract_chunks) is None
    assert relocate_piece(item, None, extract_chunks) is None


# budgets


def test_fit_keeps_relevant_sentences_in_the_order_of_the_text() -> None:
    text = "\n\n".join(
        [
            *(f"Paragraph {n} about the weather in spring." for n in range(40)),
            "Keys rotate every ninety days.",
            "The end.",
        ]
    )
    cut = fit(text.encode(), "how often do keys rotate", 60, upper_bound, analyse)
    assert "ninety days" in cut
    assert "…" in cut
    assert upper_bound(cut) <= 60
    assert fit(b"short", "x", 60, upper_bound, analyse) == "short"
    assert fit(b"\n", "", 1, upper_bound, analyse).strip() == ""


@pytest.mark.parametrize("name", ["gpt-17", "/nowhere/tokenizer.json", "", "bound.json"])
def test_unknown_tokenizer_is_an_error_that_lists_the_valid_names(name: str) -> None:
    with pytest.raises(OSError, match="unknown tokenizer") as raised:
        open_tokenizer(name)
    assert "cl100k_base" in str(raised.value.strerror)


def test_nothing_is_fetched_for_a_tokenizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    open_tokenizer.cache_clear()
    with pytest.raises(OSError, match=r"nothing is fetched|needs tiktoken"):
        open_tokenizer("o200k_base")


def test_the_schema_is_shipped_and_names_the_format() -> None:
    assert json.loads(schema())["properties"]["format"] == {"const": 2}
    assert version("ctxfs")
