"""Test that texts and questions meet in one normal form, in words, phrases, exact search, filters, names and grep."""

import re
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ctxfs.index.engines.question_terms import question_terms
from ctxfs.index.engines.word_split import split_words
from ctxfs.index.normal_form import fold, fold_literal, fold_name
from ctxfs.index.query import parse_query
from ctxfs.index.search.grep import Matcher, scan, split_paths
from ctxfs.model.path import ROOT
from tests.unit.index.test_freshness import Live

FILES = {
    "accent.md": "The r\u00e9sum\u00e9 of the candidate.\n",
    "plain.md": "The resume of the candidate, a resume.\n",
    "apart.md": "Gru\u0308\u00dfe aus der Gro\u0308\u00dfe.\n",
    "soft.md": "Das Gesamt\u00adkon\u00adzept, in\u200bfra\u2060struktur.\n",
    "wide.md": "\uff38\uff39\uff3a\uff56\uff15 and \uff76\uff9e\uff85 \uff83\uff7d\uff84\n",
    "ligature.md": "The o\ufb03ce classi\ufb01cation.\n",
    "greek.md": "\u039f \u039f\u0394\u039f\u03a3 \u03a3\u039f\u03a6\u039f\u03a3\n",
    "dash.md": "Send an e\u2011mail; it doesn\u2019t matter.\n",
    "solid.md": "One email suffices.\n",
    "cat.md": "\u9ed2\u3044\u732b\u304c\u3044\u308b\u3002\n",
    "thai.md": "ระบบนี้ใช้กุญแจลงนาม\n",
    "hindi.md": "\u0926\u0938\u094d\u0924\u093e\u0935\u0947\u091c\u093c \u0939\u0938\u094d\u0924\u093e\u0915\u094d\u0937\u0930\n",
    "russian.md": "Открывает файлы; ёлка и зайка.\n",
    "polish.md": "Wyjazd do \u0141odzi i \u0141\u00f3d\u017a.\n",
    "hebrew.md": "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd\n",
    unicodedata.normalize("NFD", "\ud14c\uc2a4\ud2b8.md"): "a name from a Mac\n",
    "talk.txt": "Jos\u00e9 \u00c1lvarez: an ocelot sleeps\nBob: where?\nJos\u00e9 \u00c1lvarez: at home\nBob: thanks\n",
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    made = Live(tmp_path_factory.mktemp("forms"))
    for name, text in FILES.items():
        (made.corpus / name).write_text(text)
    made.follower.scan_all()
    made.searcher.refresh()
    yield made
    made.close()


def names(live: Live, question: str) -> list[str]:
    hits = live.searcher.search(parse_query(question), ROOT, 20).hits
    return [unicodedata.normalize("NFC", hit.path.rpartition("/")[2]) for hit in hits]


CASES = [
    ("mode:words Gesamtkonzept", "soft.md"),
    ("mode:words infrastruktur", "soft.md"),
    ("mode:exact Infrastruktur", "soft.md"),
    ("mode:words xyzv5", "wide.md"),
    ("mode:exact テスト", "wide.md"),
    ("mode:words ガナ", "wide.md"),
    ("mode:words office", "ligature.md"),
    ('mode:words "office classification"', "ligature.md"),
    ("mode:exact classification", "ligature.md"),
    ("mode:words σοφος", "greek.md"),
    ("mode:words σοφός", "greek.md"),
    ("mode:exact σοφοσ", "greek.md"),
    ("mode:words größe", "apart.md"),
    ("mode:words GRUSSE", "apart.md"),
    ("mode:exact grosse", "apart.md"),
    ("mode:exact e-mail", "dash.md"),
    ("mode:words email", "dash.md"),
    ("mode:words e-mail", "solid.md"),
    ("mode:exact doesn't", "dash.md"),
    ("mode:words 猫", "cat.md"),
    ("mode:words +猫", "cat.md"),
    ("mode:exact 猫", "cat.md"),
    ("mode:words กุญแจ", "thai.md"),
    ("mode:exact กุญแจ", "thai.md"),
    ("mode:words हस्ताक्षर", "hindi.md"),
    ("mode:exact दस्तावेज़", "hindi.md"),
    ("mode:words файл", "russian.md"),
    ("mode:words елка", "russian.md"),
    ("mode:words Lodz", "polish.md"),
    ("mode:exact łódź", "polish.md"),
    ("mode:words שלום", "hebrew.md"),
    ("mode:words 테스트", "테스트.md"),
    ("path:테스트", "테스트.md"),
    ('author:"jose alvarez"', "talk.txt"),
    ("author:JOSÉ ocelot", "talk.txt"),
    ('author:"jose\u0301 \u00c1lvarez"', "talk.txt"),
]


@pytest.mark.parametrize(("question", "name"), CASES)
def test_question_finds_the_text_in_another_form(live: Live, question: str, name: str) -> None:
    assert name in names(live, question)


@pytest.mark.parametrize(("question", "name"), CASES)
def test_unindexed_file_is_found_in_another_form(live: Live, question: str, name: str) -> None:
    for file in live.corpus.iterdir():
        if file.is_file() and unicodedata.normalize("NFC", file.name) == name:
            live.told(file.name)
            file.write_text(file.read_text() + "\n")
    assert name in names(live, question)


@pytest.mark.parametrize("mode", ["words", "exact"])
def test_the_accents_of_a_question_are_optional_and_rank_first(live: Live, mode: str) -> None:
    assert names(live, f"mode:{mode} résumé") == ["accent.md", "plain.md"]
    assert set(names(live, f"mode:{mode} resume")) == {"accent.md", "plain.md"}


@pytest.mark.parametrize("question", ["mode:words +заика", "mode:exact заика", "mode:words +दसत", "mode:exact か"])
def test_marks_that_are_letters_count(live: Live, question: str) -> None:
    assert names(live, question) == []


NASTY = "aAkKſsSßẞiIıİéÉe\u0301ΣσςµμΚκ\u212aÅå\u212bﬁfi\u00ad\u200b\ufeff\u0130ǅǆǄŉʼnꭰᎠ猫ガｶﾞ한\u1112\u1161\u11abйё'’-‐"
TEXTS = st.text(NASTY, min_size=1, max_size=12)


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.data(), st.booleans())
@example("ΟΔΟΣ ΣΟΦΟΣ", None, False)
def test_the_filter_of_grep_passes_every_match(text: str, data: st.DataObject | None, ignore_case: bool) -> None:
    if data is None:
        pattern = "ΣΟΦΟΣ"
    else:
        start = data.draw(st.integers(0, len(text) - 1))
        piece = text[start : data.draw(st.integers(start + 1, len(text)))]
        swapped = "".join(data.draw(st.sampled_from([c, c.lower()[:1], c.upper()[:1], c])) for c in piece)
        pattern = re.escape(swapped if ignore_case else piece)
    matcher = Matcher(pattern, ignore_case=ignore_case)
    wanted = re.search(pattern, text, re.IGNORECASE if ignore_case else 0) is not None
    assert bool(list(matcher.lines(text))) == wanted


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, min_size=1, max_size=6), st.data())
def test_grep_finds_in_the_index_what_a_scan_of_all_files_finds(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    live = Live(tmp_path_factory.mktemp("grep"))
    try:
        for number, text in enumerate(texts):
            (live.corpus / f"{number}.txt").write_text(f"x{text}\n")
        live.follower.scan_all()
        live.searcher.refresh()
        every = [(live.root, (f"{number}.txt",)) for number in range(len(texts))]
        for text in texts:
            piece = text[data.draw(st.integers(0, len(text) - 1)) :]
            for ignore_case in (False, True):
                matcher = Matcher(piece, fixed=True, ignore_case=ignore_case)
                paths = live.searcher.candidate_files(matcher.needed, ROOT)
                assert paths is not None
                found, _ = scan(split_paths(paths, [live.root], hidden=True), matcher)
                assert {line.path for line in found} == {line.path for line in scan(every, matcher)[0]}
                assert found
    finally:
        live.close()


def test_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    live = Live(tmp_path)
    (live.corpus / "bom.md").write_bytes(b"\xef\xbb\xbf# Title\n")
    live.follower.scan_all()
    live.searcher.refresh()
    matcher = Matcher("^# Title")
    paths = live.searcher.candidate_files(matcher.needed, ROOT)
    live.close()
    assert paths is not None
    assert [line.text for line in scan(split_paths(paths, [live.root], hidden=True), matcher)[0]] == ["# Title"]


def test_every_case_variant_of_a_character_has_the_same_folded_literal() -> None:
    differing = [
        (character, variant)
        for character in map(chr, (*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE1000)))
        for variant in (character.lower(), character.upper(), fold(character), fold_name(character))
        if fold_literal(variant) != fold_literal(character)
    ]
    assert differing == []


@pytest.mark.parametrize(
    "flood",
    [
        "a" + "\u0301\u0323" * 100_000,
        ("z" + "\u0335\u0321\u0489" * 40) * 2000,
        "x" * 300_000,
        "猫" * 100_000,
        "é" * 100_000,
        "-a" * 100_000,
        "\U0001d167\U0001d165" * 50_000,
        "กิ" * 50_000,
    ],
    ids=["marks", "zalgo", "ascii", "han", "accents", "hyphens", "astral marks", "thai"],
)
def test_floods_take_linear_time(flood: str) -> None:
    started = time.process_time()
    split_words(flood)
    fold_name(flood)
    fold_literal(flood)
    question_terms(flood[:20_000].split())
    assert time.process_time() - started < 5


def test_ten_kilobytes_of_chinese_are_a_question(live: Live) -> None:
    started = time.process_time()
    names(live, "mode:words " + "".join(chr(0x4E00 + 7 * n % 20_000) for n in range(3400)))
    assert time.process_time() - started < 5
    assert names(live, "mode:words ᚠᚢᚦ") == []
