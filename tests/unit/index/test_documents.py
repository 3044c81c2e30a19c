"""Test headings, front matter and labels of documents: CommonMark, reStructuredText, AsciiDoc, YAML, TOML."""

import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ctxfs.index.extract.chunks import split_into_chunks
from ctxfs.index.extract.file_reader import filter_values
from ctxfs.index.extract.formats import extract_chunks
from ctxfs.index.extract.front_matter import read_front_matter
from ctxfs.index.extract.markdown import parse_structure
from ctxfs.index.extract.sections import read_document
from ctxfs.index.extract.text_decoding import decode


def trails(name: str, text: str) -> list[str]:
    """Return the trail of headings of each section."""
    return [section.heading for section in read_document(name.rpartition(".")[2], text.split("\n")).sections]


def labels(text: str, name: str) -> set[str]:
    chunks = split_into_chunks("note.md", text)
    return {value for chunk in chunks for label, value in chunk.labels if label == name}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("## C#\n\nx\n", ["C#"]),
        ("## F##\n\nx\n", ["F##"]),
        ("## closed ##  \n\nx\n", ["closed"]),
        ("# a \\# b\n\nx\n", ["a # b"]),
        ("#no heading\n\nx\n", [""]),
        ("    # indented code\n\nx\n", [""]),
        ("\t# indented code\n\nx\n", [""]),
        ("####### seven\n\nx\n", [""]),
        ("# A\n\nPart One\n---\n\nx\n", ["A", "A > Part One"]),
        ("# A\n\nPart\n-\n\nx\n", ["A", "A > Part"]),
        ("A long\ntitle\n===\n\nx\n", ["A long title"]),
        ("# A\n\n- item\n---\n\nx\n", ["A"]),
        ("# A\n\n> quoted\n---\n\n> # Quoted\n\nx\n", ["A"]),
        ("# A\n\n- # in a list\n\nx\n", ["A"]),
        ("# Top\n\n```one``` rest\n\n## B\n\nx\n", ["Top", "Top > B"]),
        ("# Top\n\n```\n# no\n``` not closed\n# no\n```\n\n## B\n\nx\n", ["Top", "Top > B"]),
        ("# Top\n\n~~~ a `b`\n# no\n~~~\n\n## B\n\nx\n", ["Top", "Top > B"]),
        ("# Top\n\n````\n```\n# no\n````\n\n## B\n\nx\n", ["Top", "Top > B"]),
        ("# Top\n\n~~~\n```\n# no\n~~~\n\n## B\n\nx\n", ["Top", "Top > B"]),
        ("# Top\n\n- item\n\n  ```\n# B\n\nx\n", ["Top", "B"]),
        ("# Top\n\n<!--\n# no\n\n## no\n-->\n\nx\n\n## B\n\ny\n", ["Top", "Top > B"]),
        ("# Top\n\n<div>\n# no\n</div>\n\n## B\n\nx\n", ["Top", "Top > B"]),
        ("# Top\n\n<pre>\n\n# no\n\n</pre>\n\n## B\n\nx\n", ["Top", "Top > B"]),
        ("# Keys <!-- todo -->\n\nx\n", ["Keys"]),
        ("# **Bold** `code_x` [link](http://x.y) ![alt](i.png) &amp; more\n\nx\n", ["Bold code_x link alt & more"]),
        ('<h1 align="center">Raw <b>one</b></h1>\n\nx\n\n## B\n\ny\n', ["Raw one", "Raw one > B"]),
        ("##\n\nx\n\n### deep\n\ny\n", ["", "deep"]),
        ("# A\n\n### Skipped\n\nx\n\n## B\n\ny\n", ["A", "A > Skipped", "A > B"]),
        ("# A\r\n\r\n## B\r\n\r\nx\r\n", ["A", "A > B"]),
        ("intro | not\n--- | ---\na | b\n\n# A\n\nx\n", ["", "A"]),
        ("***\n\n# A\n\nx\n", ["", "A"]),
        ("[a]: b\n# A\n\nx\n", ["", "A"]),
    ],
)  # fmt: skip
def test_headings_of_markdown_are_those_of_commonmark(text: str, expected: list[str]) -> None:
    assert trails("a.md", text) == expected


_LINES = st.sampled_from(
    ["# A", "## B #", "x", "", "  ", "---", "===", "- x", "> # q", "```", "````", "~~~", "``` a`b", "<!--", "-->", "<div>",
     "</div>", "    # c", "\t# c", "   # d", "-", "1. x", "  y", "[a]: /b", "<pre>", "</pre>", "***", "#", "  ---", "#\tT"]
)  # fmt: skip


@given(st.lists(_LINES, max_size=14))
@example(["x", "---"])
def test_structure_of_any_blocks_is_that_of_the_whole_parser(lines: list[str]) -> None:
    whole = MarkdownIt("commonmark").parse("\n".join(lines))
    expected = [
        (token.map[0], int(token.tag[1])) for token in whole if token.type == "heading_open" and not token.level and token.map
    ]  # fmt: skip
    assert [(heading.line, heading.level) for heading in parse_structure(lines).headings] == expected


def test_long_line_keeps_the_structure_around_it() -> None:
    lines = ["# A", "", "<!-- " + "x" * 50_000 + " -->", "", "# B", "", "`" * 3 + "y" * 50_000, "# no", "```", "# C"]
    assert [heading.title for heading in parse_structure(lines).headings] == ["A", "B", "C"]


@pytest.mark.parametrize(
    "text",
    ["> " * 30_000, "- " * 30_000 + "\n# A", "`" * 200_000, "[" * 100_000, "[[" * 50_000, "# " * 50_000, "<!--\n" * 40_000,
     "#a" * 50_000, "- a\n" * 30_000, "a\n" * 100_000, "<h1>" * 50_000, "[a]: b\n" * 20_000, "#" * 100_000, "`a` " * 50_000]
)  # fmt: skip
def test_hostile_markdown_takes_bounded_time(text: str) -> None:
    start = time.process_time()
    split_into_chunks("a.md", text)
    assert time.process_time() - start < 2


def test_titles_of_restructuredtext_have_the_rank_of_their_style() -> None:
    text = "=====\nTitle\n=====\n\nInstall\n~~~~~~~\n\nx\n\nConfigure\n~~~~~~~~~\n\n"
    text += "x\n\nFiles\n=====\n\nx\n\n::\n\n    code\n    ----\n"
    assert trails("a.rst", text) == [
        "Title", "Title > Install", "Title > Configure", "Title > Configure > Files",
    ]  # fmt: skip


def test_titles_of_asciidoc_are_outside_literal_blocks() -> None:
    text = "= Guide\n\nx\n\n== Keys ==\n\nx\n\n----\n== no\n----\n\n=== When\n\nx\n"
    assert trails("a.adoc", text) == ["Guide", "Guide > Keys", "Guide > Keys > When"]


DAY = date(2023, 4, 5).toordinal()


@pytest.mark.parametrize(
    "text",
    [
        "---\nauthor: Ann\ndate: 2023-04-05\n---\n\nx\n",
        "---\r\nauthor: Ann\r\ndate: 2023-04-05\r\n---\r\n\r\nx\r\n",
        "--- \nauthor: 'Ann'\ndate: 2023-04-05T10:00:00Z\n...\nx\n",
        "---\nAuthor: Ann\nDate: April 5, 2023\n---\nx\n",
        "---\nauthors:\n  - name: Ann\ncreated: 2023-04-05\n---\nx\n",
        "---\nauthors: [Ann]\npublished: 20230405\n---\nx\n",
        "+++\nauthor = 'Ann'\ndate = 2023-04-05\n+++\nx\n",
        "+++\nauthors = ['Ann']\ndate = 2023-04-05T07:32:00Z\n+++\nx\n",
        "---\npermalink: a/b\n---\n\n---\nauthor: Ann\ndate: 2023-04-05\n---\n\nx\n",
        "---\nkey: `C:\\agent\\x`\nauthor: Ann\ndate: 2023-04-05\ntags: [[a]]b\n---\nx\n",
        "---\nbad: [unclosed\nauthor: Ann\ndate: 2023-04-05\n---\nx\n",
        "---\na: &x 1\nb: *x\nauthor: Ann\ndate: 2023-04-05\n---\nx\n",
        "+++\nbad = \nauthor = 'Ann'\ndate = 2023-04-05\n+++\nx\n",
    ],
)
@pytest.mark.parametrize(
    "encode", [str.encode, lambda text: text.encode("utf-8-sig"), lambda text: text.encode("utf-16")]
)
def test_front_matter_of_any_form_gives_author_and_day(text: str, encode: Callable[[str], bytes]) -> None:
    chunk = extract_chunks("a.md", encode(text))[-1]
    assert (chunk.author, chunk.day) == ("Ann", DAY)


@pytest.mark.parametrize(
    "text",
    [
        "---\n\n# First\n\nAnn: text\n\n---\n\nauthor: nobody\n",
        "---\nauthor: Ann\n",
        "----\nauthor: Ann\n----\n",
        "text\n---\nauthor: Ann\n---\n",
        "---\njust prose here\nauthor said so\n---\nx\n",
        " ---\nauthor: Ann\n---\nx\n",
    ],
)
def test_what_is_no_front_matter_gives_no_author(text: str) -> None:
    assert {chunk.author for chunk in split_into_chunks("a.md", text)} == {""}


def test_front_matter_is_no_heading() -> None:
    chunks = split_into_chunks("a.md", "---\nauthor: x\n---\n\n# A\n\ny\n")
    assert [chunk.heading for chunk in chunks] == ["A"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\ntitle: The plan\n---\ny\n", ["The plan"]),
        ("---\ntitle: The plan\n---\n\n# Part\n\ny\n", ["The plan > Part"]),
        ("---\ntitle: the plan\n---\n\n# The Plan\n\ny\n", ["The Plan"]),
        ("+++\ntitle = 'The plan'\n+++\n# A\n\ny\n", ["The plan > A"]),
    ],
)
def test_title_of_front_matter_is_the_heading_above_all_others(text: str, expected: list[str]) -> None:
    assert [chunk.heading for chunk in split_into_chunks("a.md", text)] == expected


@pytest.mark.parametrize("name", ["a.md", "a.mdx", "a.qmd", "a.markdown"])
@pytest.mark.parametrize(
    "text",
    [
        "---\ntype: fact\nkey: quokka\n---\n\n# A\n\nbody\n",
        "---\nkey: quokka\n---\nbody\n",
        "+++\nkey = 'quokka'\n+++\nbody\n",
        "---\na: b\n---\n\n---\nkey: quokka\n---\n\nbody\n",
        "---\nkey: quokka\n---\n\nAda: body\nBob: yes\nAda: fine\nBob: good\nAda: well\n",
        "---\nbad: [unclosed\nkey: quokka\n---\nbody\n",
        "---\r\nkey: quokka\r\n---\r\nbody\r\n",
    ],
)
def test_front_matter_is_no_text_of_its_file(name: str, text: str) -> None:
    chunks = extract_chunks(name, text.encode())
    assert "body" in chunks[0].text
    assert not any("quokka" in chunk.text for chunk in chunks)
    lines = text.splitlines()
    assert all(lines[chunk.first - 1].strip() for chunk in chunks), "a chunk begins at the line that it states"
    assert dict(chunks[0].labels)["front_matter"].count("quokka") == 1, "grep still finds its file"


def test_file_of_front_matter_alone_is_searched_by_it() -> None:
    assert "quokka" in split_into_chunks("a.md", "---\nkey: quokka\n---\n")[0].text


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ("type: BigQuery Table", "kind", {"bigquery-table"}),
        ("type: Playbook", "kind", {"playbook"}),
        ("type: [a, b]", "kind", set()),
        ("type: history", "kind", set()),
        ("type: 'x\\u0007y'", "kind", set()),
        ("status: deprecated", "status", {"deprecated"}),
        ("status: Draft", "status", {"draft"}),
        ("status: 500", "status", set()),
        ("stale_after: 2026-09-23", "expires_at", {"2026-09-23"}),
        ("stale_after: 2026-09-23T10:00:00Z", "expires_at", {"2026-09-23T10:00:00Z"}),
        ("stale_after: soon", "expires_at", set()),
        ("stale_after: 0001-01-01T00:00:00+14:00", "expires_at", {"0001-01-01T00:00:00+14:00"}),
        ("confidence: 0.8", "confidence", {"0.8"}),
        ("confidence: 1", "confidence", {"1"}),
        ("confidence: 12", "confidence", set()),
        ("confidence: true", "confidence", set()),
        ("confidence: .nan", "confidence", set()),
        ("verified: {by: 'human:ada', at: 2026-06-25T09:00:00Z}", "verified", {"human"}),
        ("verified:\n- {by: process:nightly}\n- {by: 'human:ada'}", "verified", {"human"}),
        ("verified:\n- {by: process:nightly}", "verified", {"machine"}),
        ("verified: true", "verified", set()),
        ("verified: []", "verified", set()),
        ("sources:\n- {id: a, resource: 'https://x.y/z'}\n- plain.md", "source", {"https://x.y/z", "plain.md"}),
        ("description: One\n  line.", "description", {"One line."}),
        ("trust: trusted\npinned: true\nsupersedes: memory/a\nquarantined: false\nfrozen: true", "trust", set()),
    ],
)
def test_fields_of_open_knowledge_format_are_attributes(fields: str, name: str, expected: set[str]) -> None:
    found = extract_chunks("a.md", f"---\n{fields}\n---\n\nx\n".encode())[0].labels
    assert {value for label, value in found if label == name} == expected
    assert {label for label, _ in found}.isdisjoint({"trust", "pinned", "supersedes", "quarantined", "frozen"})


def test_attribute_wins_over_the_text_and_tags_are_joined() -> None:
    pairs = [
        ("kind", "fact"),
        ("tags", "own"),
        ("text.kind", "metric"),
        ("text.tags", "theirs"),
        ("text.status", "draft"),
    ]
    pairs.append(("text.front_matter", "---\nkind: metric\n---"))
    assert set(filter_values(pairs)) == {("kind", "fact"), ("tags", "own"), ("tags", "theirs"), ("status", "draft")}


@pytest.mark.parametrize(
    "text",
    ["---\nauthor: " + "[" * 16_000 + "\n---\nx\n", "---\n" + "a: b\n" * 3_000 + "---\nx\n", "---\n" * 20_000,
     "---\n" + "? " * 8_000 + "\n---\nx", "---\n" + "{" * 8_000 + "\n---\nx", "---\nn: " + "9" * 9_000 + "\n---\nx",
     "+++\na = " + "[" * 16_000 + "\n+++\nx", "---\ndate: 99999999999999999999\nauthor: .inf\n---\nx", "---\n- 1\n---\nx",
     "---\n" + "a:\n" + "".join(" " * n + "a:\n" for n in range(1, 160)) + "---\nx"]
)  # fmt: skip
def test_hostile_front_matter_costs_only_its_metadata(text: str) -> None:
    start = time.process_time()
    assert extract_chunks("a.md", text.encode())
    assert time.process_time() - start < 3


def test_tags_aliases_and_links_of_a_note_are_its_labels() -> None:
    text = (
        "---\ntags: [project, 'deep work']\naliases:\n  - Zephyr\nup: '[[Index]]'\n---\n\nSee [[Plan|the plan]], [[a/b/Note#Part]] and "
        "![[pic.png]]. #area/home #Later\n\n`#code [[code]]` #1984 http://x.y/#frag a#b\n\n```\n#fenced [[fenced]]\n```\n"
    )
    assert labels(text, "tags") == {"project", "deep work", "area", "area/home", "Later", "later"}
    assert labels(text, "alias") == {"Zephyr"}
    assert labels(text, "link") == {"Index", "Plan", "a/b/Note", "Note", "pic.png"}


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("tags: project", {"project"}),
        ("tags: project, next step", {"project", "next step"}),
        ("tags: project home", {"project", "home"}),
        ("tags:\n- project\n- '#home'", {"project", "home"}),
        ("tag: project", {"project"}),
        ("keywords: [project]", {"project"}),
        ("tags: [2024, true, null]", {"2024"}),
        ("tags: {a: b}", set()),
    ],
)
def test_tags_of_front_matter_are_read_in_each_form(field: str, expected: set[str]) -> None:
    assert labels(f"---\n{field}\n---\n\nx\n", "tags") == expected


def test_labels_are_bounded() -> None:
    text = (
        "---\ntags: ["
        + ", ".join(f"t{n}" for n in range(1_500))
        + "]\n---\n"
        + " ".join(f"#u{n} [[p{n}]]" for n in range(9_000))
    )
    assert len(split_into_chunks("a.md", text)[0].labels) < 1_500


def test_front_matter_of_real_documents_is_absent() -> None:
    for path in (Path(__file__).parents[3]).glob("*.md"):
        assert read_front_matter(decode(path.read_bytes()).split("\n")).line_count == 0
