"""Test the links from facts to their sources."""

import re
from urllib.parse import unquote

import pytest

from ctxfs.context.grounding.review import _link
from ctxfs.model.path import encode_name


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("knowledge/a.md", "[knowledge/a.md](/knowledge/a.md)"),
        ("knowledge/vault/Key rotation.md", "[knowledge/vault/Key rotation.md](/knowledge/vault/Key%20rotation.md)"),
        ("pad/a (b) [c].md", r"[pad/a (b) \[c\].md](/pad/a%20%28b%29%20%5Bc%5D.md)"),
        ("pad/größe.md", "[pad/größe.md](/pad/gr%C3%B6%C3%9Fe.md)"),
        ("pad/100%.md", "[pad/100%.md](/pad/100%25.md)"),
    ],
)
def test_source_of_a_fact_is_a_markdown_link(path: str, link: str) -> None:
    assert _link(path) == link


@pytest.mark.parametrize("path", ["pad/a\nb.md", "pad/a\udce9.md", "pad/a](http://x).md", "pad/<b>.md", "pad/a\\.md"])
def test_odd_name_stays_in_its_link(path: str) -> None:
    link = _link(path)
    match = re.fullmatch(r"\[((?:[^\[\]\\]|\\.)*)\]\((/[!-~]*)\)", link)
    assert match is not None
    assert unquote(match[2], errors="surrogateescape") == f"/{path}"
    assert encode_name(path)
