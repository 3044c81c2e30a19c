"""Test exact search: the literals that an expression requires, and equality with a scan of every file."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ctxfs.index.query import parse_query
from ctxfs.index.search.grep import Matcher, scan, split_paths
from ctxfs.index.search.regex_literals import MIN_LITERAL_CHARS, needed_literals
from ctxfs.model.path import ROOT
from tests.unit.index.test_freshness import Live


@pytest.mark.parametrize(
    ("pattern", "needed"),
    [
        ("retry", [{"retry"}]),
        ("^Retry_Request\\(", [{"retry_request("}]),
        ("(foo|barbar)x", [{"foo", "barbar"}]),
        ("(foo|b.r)", []),
        ("abc.*defg", [{"abc"}, {"defg"}]),
        ("(?:abc)+d?", [{"abc"}]),
        ("(abc)?x", []),
        ("ab", []),
        ("[abc]def[0-9]+", [{"def"}]),
        ("\\bword\\b", [{"word"}]),
        ("(?i)KEYS", [{"keys"}]),
        ("(?!nothing)some", [{"some"}]),
    ],
)
def test_required_literals_are_read_from_the_expression(pattern: str, needed: list[set[str]]) -> None:
    assert [set(item) for item in needed_literals(pattern)] == needed


patterns = st.recursive(
    st.sampled_from(["abc", "cab", "b", ".", "[ab]", "\\b", "^", "$", "ca?b", "b+"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        inner.map(lambda part: f"(?:{part})?"),
        inner.map(lambda part: f"(?:{part}){{1,3}}"),
    ),
    max_leaves=6,
)


@given(patterns, st.text("abc ", max_size=12))
@example("(?:abc|cab)b", "xcabb")
def test_every_matching_line_contains_the_required_literals(pattern: str, line: str) -> None:
    if re.search(pattern, line):
        needed = needed_literals(pattern)
        assert all(any(text in line for text in alternatives) for alternatives in needed)
        assert all(len(text) >= MIN_LITERAL_CHARS for alternatives in needed for text in alternatives)


@pytest.mark.parametrize("pattern", ["(", "[a", "a\\nb", "*x", "(?P<a"])
def test_invalid_expression_is_reported(pattern: str) -> None:
    with pytest.raises(OSError, match=r"not a regular expression|one at a time"):
        Matcher(pattern)


FILES = {
    "a.py": "def retry_request(url):\n    return Retry(url)\n\nclass Äpfel:\n    pass\n",
    "sub/b.md": "# Retry\n\nretry the request; RETRY it.\r\nno newline at the end: retry",
    "long.txt": "x" * 9000 + " retry " + "y" * 9000 + "\nshort\n",
    "zh.txt": "密钥轮换的方法\n",
    "binary.bin": "retry\0retry\n",
    ".hidden.md": "retry in a hidden file\n",
    "ignored.md": "retry in an ignored file\n",
    ".gitignore": "ignored.md\n",
}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    made = Live(tmp_path)
    for name, text in FILES.items():
        (made.corpus / name).write_text(text, newline="")
    subprocess.run(["git", "init", "-q", str(made.corpus)], check=True)  # rg heeds .gitignore in repositories only
    made.follower.scan_all()
    made.searcher.refresh()
    yield made
    made.close()


def grepped(live: Live, matcher: Matcher, *, hidden: bool = False) -> list[str]:
    paths = live.searcher.candidate_files(matcher.needed, ROOT)
    assert paths is not None
    lines, faults = scan(split_paths(paths, [live.root], hidden=hidden), matcher)
    assert faults == []
    return sorted(f"{line.path.removeprefix('knowledge/c/')}:{line.number}:{line.text}" for line in lines)


@pytest.mark.parametrize(
    ("pattern", "options"),
    [
        ("retry", ()),
        ("retry", ("-i",)),
        ("retry", ("-w",)),
        ("Retry(url", ("-F",)),
        ("^$", ()),
        ("re.ry|Äpf", ()),
        ("轮换", ()),
        ("y{5}$", ()),
        ("e", ()),
        ("nowhere at all", ()),
        ("retry", ("--hidden", "--glob=!.git")),
    ],
)
def test_the_lines_are_those_of_rg(live: Live, pattern: str, options: tuple[str, ...]) -> None:
    matcher = Matcher(pattern, fixed="-F" in options, word="-w" in options, ignore_case="-i" in options)
    done = subprocess.run(
        ["rg", "-n", "--no-heading", "--color=never", *options, "-e", pattern, "."],
        cwd=live.corpus,
        capture_output=True,
    )
    lines = done.stdout.decode().split("\n")
    wanted = sorted(line.removeprefix("./") for line in lines if line and "binary file" not in line)
    assert grepped(live, matcher, hidden="--hidden" in options) == wanted


def test_only_files_that_may_match_are_read(live: Live) -> None:
    assert live.searcher.candidate_files(Matcher("密钥轮").needed, ROOT) == [
        "knowledge/c/long.txt",
        "knowledge/c/zh.txt",
    ]


def test_change_is_visible_to_grep_at_once(live: Live) -> None:
    (live.corpus / "new.md").write_text("a quokka\n")
    (live.corpus / "a.py").unlink()
    live.told("new.md", "a.py")
    assert grepped(live, Matcher("quokka")) == ["new.md:1:a quokka"]
    assert grepped(live, Matcher("retry_request")) == []


KEYWORDS = st.lists(
    st.sampled_from(["retry", "RETRY", "request", "re", "lass", "class", "the request", "密钥轮换"]), max_size=3
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYWORDS, KEYWORDS, KEYWORDS)
def test_keywords_find_the_files_that_a_scan_finds(
    live: Live, every: list[str], some: list[str], none: list[str]
) -> None:
    """Check all of `every`, or else one of `some`, and none of `none`, as whole words in the indexed part of a file."""
    question = " ".join(
        ["mode:exact", *(f'+"{w}"' for w in every), *(w for w in some if " " not in w), *(f'-"{w}"' for w in none)]
    )

    def holds(text: str, word: str) -> bool:
        whole_word = re.escape(word) if not word.isascii() else rf"(?<!\w){re.escape(word)}(?!\w)"
        return re.search(whole_word, text, re.IGNORECASE) is not None

    single = [word for word in some if " " not in word]
    wanted = set()
    for name, whole in FILES.items():
        text = whole
        if name in ("binary.bin", "ignored.md") or any(holds(text, word) for word in none):
            continue
        if all(holds(text, word) for word in every) if every else any(holds(text, word) for word in single):
            wanted.add(f"knowledge/c/{name}")
    hits = live.searcher.search(parse_query(question), ROOT, 1000).hits if every or single else ()
    assert {hit.path for hit in hits} == wanted


def test_grep_finds_a_literal_that_no_piece_of_a_long_line_has(live: Live) -> None:
    words = " ".join(f"w{number:05}" for number in range(4_000))
    files = {
        "run.txt": f"a {'QUJD' * 400}Zz9q{'QUJD' * 400} b\n",
        "words.log": f"{words}\n",
        "a.jsonl": '{"text": "one\\ntwo \\u00e9"}\n',
    }
    for name, text in files.items():
        (live.corpus / name).write_text(text)
    live.catch_up(*files)
    for literal, name in [("Zz9q", "run.txt"), ("\\ntwo", "a.jsonl"), ("\\u00e9", "a.jsonl"), ('"text": ', "a.jsonl")]:
        assert f"knowledge/c/{name}" in live.searcher.candidate_files(Matcher(re.escape(literal)).needed, ROOT), literal
    for number in range(0, 3_990, 97):
        literal = f"w{number:05} w{number + 1:05}"
        assert "knowledge/c/words.log" in live.searcher.candidate_files(Matcher(literal).needed, ROOT), literal
