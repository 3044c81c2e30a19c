from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ctxfs
from ctxfs.index.chunks import LIMIT, MAX_LINE, cut, text_kind

REAL = sorted(Path(ctxfs.__file__).parent.rglob("*.py")) + sorted(Path(ctxfs.__file__).parent.parent.glob("*.md"))


def covered(name: str, text: str) -> None:
    """Every line with something on it is in exactly one chunk, as it is in the file."""
    lines = text.split("\n")
    seen: set[int] = set()
    for chunk in cut(name, text):
        numbers = range(chunk.first, chunk.last + 1)
        assert not seen & set(numbers)
        seen |= set(numbers)
        assert chunk.text == "\n".join(line[:MAX_LINE] for line in lines[chunk.first - 1 : chunk.last])
        assert len(chunk.text) <= LIMIT + MAX_LINE
    assert {n for n, line in enumerate(lines, 1) if line.strip()} <= seen


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_every_line_of_a_real_file_is_in_one_chunk(path: Path) -> None:
    covered(path.name, path.read_text())


@given(st.sampled_from(["a.md", "a.py", "a.c", "a.txt", "a.jsonl"]), st.text("ab\n# =-:(){}`def \t", max_size=300))
def test_every_line_of_any_text_is_in_one_chunk(name: str, text: str) -> None:
    covered(name, text)


def test_a_section_carries_the_trail_of_headings_above_it() -> None:
    text = "# Guide\n\nIntro.\n\n## Keys\n\n" + "Rotate them. " * 60 + "\n\n### When\n\n" + "Monthly. " * 90
    headings = [chunk.heading for chunk in cut("guide.md", text)]
    assert headings[-1] == "Guide > Keys > When"
    assert "Guide > Keys" in headings


def test_a_heading_in_a_code_fence_is_not_a_heading() -> None:
    text = "# Real\n\n```\n# not a heading\n```\n" + "word " * 300
    assert {chunk.heading for chunk in cut("a.md", text)} == {"Real"}


def test_a_function_is_a_chunk_with_its_qualified_name() -> None:
    body = "\n".join(f"        x{n} = {n}  # some filler to make it long enough" for n in range(16))
    text = f"class A:\n    def first(self):\n{body}\n\n    def second(self):\n{body}\n"
    chunks = cut("a.py", text)
    assert [chunk.heading for chunk in chunks if "def second" in chunk.text] == ["A.second"]


def test_broken_python_is_still_cut() -> None:
    assert cut("a.py", "def broken(:\n    pass\n")


def test_a_dialogue_is_recognised_and_cut_between_turns() -> None:
    text = "\n".join(f"{who}: {'words ' * 30}" for who in ("Ada", "Bob") * 8)
    assert text_kind("chat.txt", text) == "dialogue"
    assert all(chunk.text.startswith(("Ada:", "Bob:")) for chunk in cut("chat.txt", text))


def test_one_line_of_megabytes_is_bounded() -> None:
    assert sum(len(chunk.text) for chunk in cut("a.json", "x" * 5_000_000)) <= MAX_LINE
