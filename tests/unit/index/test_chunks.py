import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ctxfs
from ctxfs.index.extract.blocks import MAX_CHUNK_CHARACTERS, MIN_PART_CHARACTERS
from ctxfs.index.extract.chunks import MAX_LINE_CHARACTERS, detect_text_kind, split_into_chunks
from ctxfs.index.extract.dates import find_dates
from ctxfs.index.extract.formats import extract_chunks

REAL = sorted(Path(ctxfs.__file__).parent.rglob("*.py")) + sorted(Path(ctxfs.__file__).parent.parent.glob("*.md"))


def covered(name: str, text: str) -> None:
    """Check that every line with text is in exactly one chunk, unchanged."""
    lines = text.split("\n")
    seen: set[int] = set()
    for chunk in split_into_chunks(name, text):
        numbers = range(chunk.first, chunk.last + 1)
        assert not seen & set(numbers)
        seen |= set(numbers)
        assert chunk.text == "\n".join(lines[chunk.first - 1 : chunk.last])
        assert len(chunk.text) <= MAX_CHUNK_CHARACTERS + MAX_LINE_CHARACTERS
    assert {n for n, line in enumerate(lines, 1) if line.strip()} <= seen


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_every_line_of_a_real_file_is_in_one_chunk(path: Path) -> None:
    covered(path.name, path.read_text())


@given(st.sampled_from(["a.md", "a.py", "a.c", "a.txt", "a.log"]), st.text("ab\n# =-:(){}`def \t", max_size=300))
def test_every_line_of_any_text_is_in_one_chunk(name: str, text: str) -> None:
    covered(name, text)


def test_a_section_carries_the_trail_of_headings_above_it() -> None:
    text = "# Guide\n\nIntro.\n\n## Keys\n\n" + "Rotate them. " * 60 + "\n\n### When\n\n" + "Monthly. " * 90
    headings = [chunk.heading for chunk in split_into_chunks("guide.md", text)]
    assert headings[-1] == "Guide > Keys > When"
    assert "Guide > Keys" in headings


def test_a_heading_in_a_code_fence_is_not_a_heading() -> None:
    text = "# Real\n\n```\n# not a heading\n```\n" + "word " * 300
    assert {chunk.heading for chunk in split_into_chunks("a.md", text)} == {"Real"}


def test_a_function_is_a_chunk_with_its_qualified_name() -> None:
    body = "\n".join(f"        x{n} = {n}  # some filler to make it long enough" for n in range(16))
    text = f"class A:\n    def first(self):\n{body}\n\n    def second(self):\n{body}\n"
    chunks = split_into_chunks("a.py", text)
    assert [chunk.heading for chunk in chunks if "def second" in chunk.text] == ["A.second"]


def test_broken_python_is_still_cut() -> None:
    assert split_into_chunks("a.py", "def broken(:\n    pass\n")


def test_a_dialogue_is_recognised_and_cut_between_turns() -> None:
    text = "\n".join(f"{who}: {'words ' * 30}" for who in ("Ada", "Bob") * 8)
    assert detect_text_kind("chat.txt", text) == "dialogue"
    assert all(chunk.text.startswith(("Ada:", "Bob:")) for chunk in split_into_chunks("chat.txt", text))


def test_each_turn_is_a_unit_with_its_author_and_the_date_above_it() -> None:
    text = "1:56 pm on 8 May, 2023\n\nAda: hi\nBob Lee: where?\nin the shed\nAda: ok\n9 May 2023\nBob Lee: done\nAda: thanks\n"
    units = [
        (chunk.author, chunk.first, date.fromordinal(chunk.day or 1).isoformat())
        for chunk in split_into_chunks("a.txt", text)
    ]
    assert units == [
        ("", 1, "2023-05-08"), ("Ada", 3, "2023-05-08"), ("Bob Lee", 4, "2023-05-08"), ("Ada", 6, "2023-05-08"),
        ("Bob Lee", 8, "2023-05-09"), ("Ada", 9, "2023-05-09"),
    ]  # fmt: skip


def test_record_fields_give_author_and_date() -> None:
    lines = [
        '{"speaker": "Ada", "ts": 1683504000, "text": "hi"}',
        '{"from": "Bob", "date": "2024-01-02", "n": [1]}',
        "[1, 2]",
    ]
    units = [(chunk.author, chunk.day) for chunk in extract_chunks("a.jsonl", "\n".join(lines).encode())]
    assert units == [("Ada", date(2023, 5, 8).toordinal()), ("Bob", date(2024, 1, 2).toordinal()), ("", None)]


def test_front_matter_and_file_name_give_author_and_date() -> None:
    noted = split_into_chunks("2024-02-03 notes.md", "# A\n\nB.\n")[0]
    assert noted.day == date(2024, 2, 3).toordinal()
    signed = split_into_chunks("a.md", '---\nauthor: "Ada"\ndate: 2023-05-08\n---\n\n# A\n\nB.\n')[-1]
    assert (signed.author, signed.day) == ("Ada", date(2023, 5, 8).toordinal())


def test_log_of_many_records_is_chunked_by_the_screenful() -> None:
    few, many = '{"a": "some words in a record"}\n' * 100, '{"a": "some words in a record"}\n' * 20_000
    assert len(extract_chunks("a.jsonl", few.encode())) == 100
    assert len(extract_chunks("a.jsonl", many.encode())) < 2_000


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("7 May 2023", [(2023, 5, 7)]),
        ("on May 7th, 2023 and 2023-05-08", [(2023, 5, 7), (2023, 5, 8)]),
        ("in July", [(None, 7, None)]),
        ("July 2022", [(2022, 7, None)]),
        ("3 March", [(None, 3, 3)]),
        ("log-20230508.txt", [(2023, 5, 8)]),
        ("may I march there in 2023, version 1.2.3, 5-6 people", []),
    ],
)
def test_dates_are_read_as_people_write_them(text: str, wanted: list[tuple[int | None, int, int | None]]) -> None:
    assert [(day.year, day.month, day.day) for day in find_dates(text)] == wanted


def test_one_line_of_megabytes_is_bounded() -> None:
    assert sum(len(chunk.text) for chunk in split_into_chunks("a.json", "x" * 5_000_000)) <= MAX_LINE_CHARACTERS


TITLES_ALONE = {
    "atx.md": "# No Friday deploys\n\n## Context\n\nDeploys broke twice.\n\n## Decision\n\nNone on Fridays.\n",
    "close.md": "# Guide\n## Keys\n### Rotation\nEvery ninety days.\n",
    "setext.md": "Guide\n=====\n\nKeys\n----\n\nEvery ninety days.\n",
    "over.rst": "=====\nGuide\n=====\n\nKeys\n----\n\nEvery ninety days.\n",
    "last.md": "# Guide\n\nEvery ninety days.\n\n## See also\n\n## Later\n",
    "long.md": f"# {'A long title of many words ' * 6}\n\n## Keys\n\n{'Every ninety days. ' * 60}\n",
    "page.html": "<h1>Guide</h1><h2>Keys</h2><p>Every ninety days.</p>",
}


@pytest.mark.parametrize("name", TITLES_ALONE)
def test_heading_without_text_lends_its_words_to_the_chunk_below(name: str) -> None:
    chunks = extract_chunks(name, TITLES_ALONE[name].encode())
    for chunk in chunks:
        words = set(re.findall(r"[a-z]+", chunk.text.lower()))
        assert words & {"days", "twice", "fridays"}, chunk
    assert any(chunk.text.lstrip("=\n").startswith(("# ", "Guide")) for chunk in chunks)


def test_front_matter_is_in_no_chunk() -> None:
    tags = "".join(f"  - topic-{number}\n" for number in range(40))
    chunks = split_into_chunks("a.md", f"---\nauthor: Ada\ntags:\n{tags}---\n\n# Keys\n\nEvery ninety days.\n")
    assert len(chunks) == 1
    assert (chunks[0].heading, chunks[0].author, chunks[0].first) == ("Keys", "Ada", 46)
    assert chunks[0].text == "# Keys\n\nEvery ninety days."


def test_outline_of_headings_is_a_text_of_its_own() -> None:
    text = "".join(f"# Chapter {number} of the long story\n\n" for number in range(200))
    chunks = split_into_chunks("outline.md", text)
    assert 2 <= len(chunks) < 20


@pytest.mark.parametrize("lines", range(12, 60))
def test_function_is_split_evenly_and_its_rest_is_never_alone(lines: int) -> None:
    body = "".join(f"    value_{number} = compute(value_{number - 1}, {number})\n" for number in range(1, lines))
    text = f"def work():\n    first()\n{body}    return None\n\n\n{'OTHER = 1  # a constant of the module' * 40}\n"
    parts = [chunk for chunk in split_into_chunks("a.py", text) if chunk.heading == "work"]
    sizes = [len(part.text) for part in parts]
    assert sum(sizes) >= len(body)
    assert min(sizes) >= MIN_PART_CHARACTERS
    assert max(sizes) <= 2 * min(sizes)


def test_function_is_split_between_statements_rather_than_inside_one() -> None:
    step = "    if ready(name):\n        first_call(name, 'something')\n        second_call(name, 'something else')\n"
    parts = split_into_chunks("a.py", "def work(name):\n" + step * 20)
    assert len(parts) > 2
    assert all(part.text.startswith(("def", "    if")) for part in parts)


def test_comment_belongs_to_the_definition_below_it() -> None:
    text = f"{'import os  # a line long enough to fill' * 20}\n\n# Wrapper for a pipe handle\n\nclass Handle:\n"
    text += "".join(f"    def method_{number}(self):\n        return {number} * 'x'\n\n" for number in range(40))
    chunk = next(chunk for chunk in split_into_chunks("a.py", text) if "# Wrapper" in chunk.text)
    assert "class Handle" in chunk.text


def test_last_lines_of_a_module_are_not_a_chunk_of_their_own() -> None:
    body = "".join(f"    value_{number} = compute({number}, 'a text')\n" for number in range(18))
    chunks = split_into_chunks("a.py", f"def one():\n{body}\n\nONE = one()\n")
    assert all(len(chunk.text) >= MIN_PART_CHARACTERS for chunk in chunks)
