"""Chunker: split a text into the units that are ranked and packed: sections, functions, turns, records, paragraphs.

Pure. A chunk consists of whole lines and has about TARGET_CHARACTERS (`blocks.py`). It exceeds MAX_CHUNK_CHARACTERS by
at most one line. The chunks of a file cover every line that is not blank exactly once, except for front matter.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ctxfs.index.extract.blocks import TARGET_CHARACTERS, Block, LineSizes, fit_blocks
from ctxfs.index.extract.chat_logs import detect_chat_log
from ctxfs.index.extract.dates import find_first_day
from ctxfs.index.extract.dialogue import Dialogue, detect_dialogue
from ctxfs.index.extract.pieces import shorten_opaque_runs, split_text

if TYPE_CHECKING:
    from ctxfs.index.extract.sections import Document, Section
    from ctxfs.index.extract.syntax import Definition

MAX_LINE_CHARACTERS = 2000  # a longer line is split into pieces
_MAX_WHOLE_BLOCKS = 5000
_HEAD_CHARACTERS = 4000
NEIGHBOUR_CHUNKS = 2  # chunks before and after a small one that are ranked together with it

TextKind = Literal[
    "markdown", "code", "dialogue", "records", "text", "html", "mail", "pdf", "document", "sheet", "slides", "book"
]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines `first` to `last` (from 1, both included) of a file; `heading` is the trail of headings above them.

    `author` and `day` come from the text or the file's name. An unrecognised author is empty, and an unrecognised day
    is None. `day` is a proleptic Gregorian ordinal. `labels` are the (name, value) pairs that the text gives to its
    file; only the first chunk has them. `said` is the time of the message in seconds since the epoch, which only records
    have. A chunk that is not `embeddable` is found by words only.
    """

    text: str
    first: int
    last: int
    heading: str = ""
    author: str = ""
    day: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    said: int | None = None
    embeddable: bool = True


_CODE_SUFFIXES = frozenset(
    "bash c cc cfg clj cpp cs css cts cxx dart ex exs el erl fish fs go gradle groovy h hh hpp hs hxx ini java jl js "
    "jsx kt kts lisp lua m mjs ml mm mts nim nix php pl pm proto ps1 py pyi pyx r rb rs sass scala scm scss sh sol sql "
    "svelte swift tcl tf toml ts tsx v vim vue xml yaml yml zig zsh".split()
)
_DOCUMENT_SUFFIXES: dict[str, TextKind] = {
    "html": "html", "htm": "html", "xhtml": "html", "eml": "mail", "mbox": "mail", "pdf": "pdf", "epub": "book",
    **dict.fromkeys(("docx", "docm", "dotx", "odt", "ott", "fodt"), "document"),
    **dict.fromkeys(("xlsx", "xlsm", "xltx", "ods", "fods"), "sheet"),
    **dict.fromkeys(("pptx", "pptm", "ppsx", "potx", "odp", "odg", "fodp"), "slides"),
}  # fmt: skip
_MARKDOWN_SUFFIXES = frozenset(
    ("md", "markdown", "mdown", "mkd", "mkdn", "mdx", "mdc", "qmd", "rmd", "rst", "adoc", "asciidoc")
)
_SENTENCE = re.compile(r"\b[a-z]{3,}+\s++[a-z]{2,}+\s++[a-z]{2,}")
_DEFINITION = re.compile(
    r"^(?:export\s+|pub(?:\([^)]*\))?\s+|public\s+|private\s+|protected\s+|static\s+|async\s+|abstract\s+|final\s+|"
    r"default\s+|inline\s+|extern\s+|unsafe\s+|local\s+)*"
    r"(?:def|class|function|fn|func|struct|enum|trait|impl|interface|type|module|mod|namespace|sub|object|record)"
    r"\s+([\w:.<>~$]+)|^[A-Za-z_][\w\s*&<>:,]*?\b([A-Za-z_]\w*)\s*\([^;]*\)\s*+(?:\{\s*+)?$"
)


def _suffix_of(name: str) -> str:
    return os.path.splitext(name)[1].lower().lstrip(".")


def detect_text_kind(name: str, text: str) -> TextKind:
    """Return the kind of a file by its name, and of plain text and Markdown also by its beginning."""
    suffix = _suffix_of(name)
    if suffix in _DOCUMENT_SUFFIXES:
        return _DOCUMENT_SUFFIXES[suffix]
    if suffix in _MARKDOWN_SUFFIXES:
        return "dialogue" if detect_dialogue(text, is_markdown=True) else "markdown"
    if suffix in ("jsonl", "ndjson"):
        return "records"
    if suffix in _CODE_SUFFIXES or name in ("Makefile", "Dockerfile", "CMakeLists.txt"):
        return "code"
    return "dialogue" if detect_chat_log(text) or detect_dialogue(text) else "text"


def split_into_chunks(name: str, text: str) -> list[Chunk]:
    """Return the chunks of a file called `name`, in order of their lines."""
    kind = detect_text_kind(name, text)
    lines = text.split("\n")
    document = _read_document(_suffix_of(name), lines)
    if kind == "code":
        blocks = _find_source_blocks(name, text, lines)
    elif kind == "dialogue":
        chat = detect_chat_log(text) if document is None else None
        dialogue = detect_dialogue(text, is_markdown=document is not None) if chat is None else None
        blocks = chat.find_messages(lines) if chat is not None else _find_turns(lines, dialogue)
    elif document is not None:
        blocks = _find_sections(document.sections, lines)
    else:
        blocks = _BLOCK_FINDERS.get(kind, _find_paragraphs)(lines)
    if len(blocks) > _MAX_WHOLE_BLOCKS:
        # Records of a long log share chunks: one vector for each of a hundred thousand lines would take hours.
        blocks = [Block(block.start, block.end, block.heading, block.members_of) for block in blocks]
    author, day = (document.author[:80], document.day) if document is not None else ("", None)
    day = day if day is not None else find_first_day(name)
    if document is not None and document.front_matter_end:
        blocks = _drop_lines(blocks, document.front_matter_end)
    fitted = fit_blocks(blocks, lines)
    chunks = [chunk for block in fitted for chunk in _make_chunks(block, lines, author, day)]
    if chunks and document is not None and document.labels:
        chunks[0] = replace(chunks[0], labels=document.labels)
    return chunks


def _drop_lines(blocks: Iterable[Block], end: int) -> list[Block]:
    """Return blocks without the lines before `end`, which are front matter."""
    return [replace(block, start=max(block.start, end)) for block in blocks if block.end > end]


def _read_document(suffix: str, lines: list[str]) -> "Document | None":
    """Return the headings, front matter and labels of a document; None for other texts."""
    if suffix not in _MARKDOWN_SUFFIXES:
        return None
    from ctxfs.index.extract.sections import read_document

    return read_document(suffix, lines)


def _make_chunks(block: Block, lines: list[str], author: str, day: int | None) -> Iterator[Chunk]:
    """Yield the chunk of a block; several pieces of the same lines if a line is longer than MAX_LINE_CHARACTERS."""
    start, end = block.start, block.end
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    if start == end:
        return
    day = block.day if block.day is not None else day
    for first, last in _isolate_long_lines(lines, start, end):
        text = "\n".join(lines[first:last])
        # Of base64 and the like in a long line only the head is searched. The file itself is unchanged.
        is_long = last == first + 1 and len(text) > MAX_LINE_CHARACTERS
        for piece in split_text(shorten_opaque_runs(text)) if is_long else (text,):
            yield Chunk(piece, first + 1, last, block.heading, block.author or author, day)


def _isolate_long_lines(lines: list[str], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the spans of lines between `start` and `end` such that each long line is a span of its own."""
    first = start
    for number in range(start, end):
        if len(lines[number]) > MAX_LINE_CHARACTERS:
            if any(line.strip() for line in lines[first:number]):
                yield first, number
            yield number, number + 1
            first = number + 1
    if any(line.strip() for line in lines[first:end]):
        yield first, end


def _find_paragraphs(lines: list[str]) -> list[Block]:
    blocks, start = [], 0
    for number, line in enumerate(lines):
        if not line.strip():
            if number > start:
                blocks.append(Block(start, number))
            start = number + 1
    if start < len(lines):
        blocks.append(Block(start, len(lines)))
    return blocks


def _find_turns(lines: list[str], dialogue: Dialogue | None) -> list[Block]:
    """Return a block for each turn of a dialogue.

    A date between turns, or in the marker of a turn, applies to the turns below it.
    """
    turns = dialogue.find_turns(lines) if dialogue is not None else []
    edges = [(0, "", ""), *[(turn.line, turn.speaker, turn.marker) for turn in turns]]
    if turns and turns[0].line == 0:
        edges = edges[1:]
    blocks: list[Block] = []
    day: int | None = None
    for (start, author, marker), (end, _, _) in itertools.pairwise([*edges, (len(lines), "", "")]):
        own_day = find_first_day(marker if author else "\n".join(lines[start:end])[:_HEAD_CHARACTERS])
        day = own_day if own_day is not None else day
        blocks.append(Block(start, end, "", None, True, author, day))
        for line in lines[start + 1 : end] if author else ():
            # A short line below a turn that contains only a date applies to the turns after it.
            if len(line) <= 60 and (line_day := find_first_day(line)) is not None and not _SENTENCE.search(line):
                day = line_day
    return blocks


def _find_sections(sections: Iterable["Section"], lines: list[str]) -> list[Block]:
    """Return the paragraphs of sections, each with the trail of headings above it."""
    blocks = (Block(section.start, section.end, section.heading) for section in sections)
    return [part for block in blocks for part in _split_paragraphs(block, lines)]


def _split_paragraphs(block: Block, lines: list[str]) -> list[Block]:
    parts = _find_paragraphs(lines[block.start : block.end])
    return [Block(block.start + part.start, block.start + part.end, block.heading) for part in parts]


def _find_source_blocks(name: str, text: str, lines: list[str]) -> list[Block]:
    """Return blocks of code by the parser of its language, or by a regular expression without one or if it fails."""
    from ctxfs.index.extract.syntax import find_definitions

    definitions = find_definitions(_suffix_of(name), text)
    if not definitions:
        return _find_code_blocks(lines)
    blocks: list[Block] = []
    _append_nested(definitions, LineSizes(lines), 0, len(lines), (), blocks)
    # Blank lines between definitions are dropped: joined to a small definition, they would replace its name.
    return [block for block in blocks if any(line.strip() for line in lines[block.start : block.end])]


def _append_nested(
    definitions: Sequence["Definition"],
    sizes: LineSizes,
    start: int,
    end: int,
    trail: tuple[str, ...],
    blocks: list[Block],
) -> None:
    """Append the blocks of lines `start` to `end`: one for each function, each member of a class, and each small class."""
    position = start
    shared_name = ".".join(trail)
    for definition in definitions:
        first_line = max(definition.start, position)
        if definition.end <= first_line:
            continue  # several definitions on a line, as in minified code
        if first_line > position:
            blocks.append(Block(position, first_line, shared_name, shared_name))
        names = (*trail, definition.name) if definition.name else trail
        if definition.is_container and sizes.count(first_line, min(definition.end, end)) > TARGET_CHARACTERS:
            _append_nested(definition.members, sizes, first_line, min(definition.end, end), names, blocks)
        else:
            blocks.append(Block(first_line, min(definition.end, end), ".".join(names), shared_name))
        position = min(definition.end, end)
    if position < end:
        blocks.append(Block(position, end, shared_name, shared_name))


def _find_code_blocks(lines: list[str]) -> list[Block]:
    """Return blocks of code without a parser: a block starts at each unindented definition."""
    blocks: list[Block] = []
    start, name = 0, ""
    for number, line in enumerate(lines):
        if not line or line[0] in " \t#/*}":
            continue
        if match := _DEFINITION.match(line):
            if number > start:
                blocks.append(Block(start, number, name, ""))
            start, name = number, match[1] or match[2] or ""
    blocks.append(Block(start, len(lines), name, ""))
    return blocks


_BLOCK_FINDERS: dict[TextKind, Callable[[list[str]], list[Block]]] = {
    "code": _find_code_blocks,
    "text": _find_paragraphs,
}
