"""Test that patterns of paths have the meaning of shell globs."""

import pytest

from ctxfs.index.search.glob import glob_matcher


@pytest.mark.parametrize(
    ("pattern", "path", "is_named"),
    [
        ("*.md", "knowledge/a/b.md", True),
        ("*.md", "knowledge/a/b.mdx", False),
        ("knowledge/**/*.md", "knowledge/b.md", True),
        ("knowledge/**/*.md", "knowledge/a/c/b.md", True),
        ("/knowledge/*/b.md", "knowledge/a/b.md", True),
        ("knowledge/*/b.md", "knowledge/a/c/b.md", False),
        ("memory/**", "memory/alice/fact/x", True),
        ("memory/**", "knowledge/memory/x", False),
        ("?.py", "src/a.py", True),
        ("?.py", "src/ab.py", False),
        ("[ab].py", "src/b.py", True),
        ("[!ab].py", "src/b.py", False),
        ("*.{md,txt}", "a/x.txt", True),
        ("*.{md,txt}", "a/x.py", False),
        ("a+b(c).md", "x/a+b(c).md", True),
        ("a}b", "a}b", True),
    ],
)
def test_a_pattern_names_paths(pattern: str, path: str, is_named: bool) -> None:
    assert bool(glob_matcher(pattern)(path)) is is_named


@pytest.mark.parametrize("pattern", ["", "/", "x" * 2000, "[z-a].md", "*a" * 13])
def test_invalid_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(OSError):
        glob_matcher(pattern)
