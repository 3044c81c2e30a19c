"""Chunker: split a text into the units that are ranked and packed: sections, functions, turns, records, paragraphs.

Pure. A chunk consists of whole lines and has about TARGET characters. It exceeds LIMIT by at most one line.
The chunks of a file cover every line that is not blank exactly once.
"""

import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from ctxfs.index.extract.dates import day_of_value, first_day

if TYPE_CHECKING:
    from ctxfs.index.extract.syntax import Definition

TARGET = 700
LIMIT = 1200
_STUB = 120
MAX_LINE = 4000
_MANY = 5000
_HEAD = 4000
NEIGHBOURS = 2  # chunks before and after a small one that are ranked together with it

TextKind = Literal["markdown", "code", "dialogue", "records", "text", "html", "mail", "pdf"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines `first` to `last` (from 1, both included) of a file; `heading` is the trail of headings above them.

    `author` and `day` come from the text or the file's name. An unrecognised author is empty, and an unrecognised day
    is None. `day` is a proleptic Gregorian ordinal.
    """

    text: str
    first: int
    last: int
    heading: str = ""
    author: str = ""
    day: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Lines `start` to `end` (from 0, `end` excluded) that belong together, before blocks are joined or split by size.

    `members_of` is the class or module whose members may share a chunk; None if they may not. A `whole` block is never
    joined, even if it is small: a turn, a record.
    """

    start: int
    end: int
    heading: str = ""
    members_of: str | None = None
    whole: bool = False
    author: str = ""
    day: int | None = None


_CODE = frozenset(
    "bash c cc cfg clj cpp cs css cts cxx dart ex exs el erl fish fs go gradle groovy h hh hpp hs hxx ini java jl js "
    "jsx kt kts lisp lua m mjs ml mm mts nim nix php pl pm proto ps1 py pyi pyx r rb rs sass scala scm scss sh sol sql "
    "svelte swift tcl tf toml ts tsx v vim vue xml yaml yml zig zsh".split()
)
_DOCUMENTS: dict[str, TextKind] = {
    "html": "html", "htm": "html", "xhtml": "html", "eml": "mail", "mbox": "mail", "pdf": "pdf",
}  # fmt: skip
_MARKDOWN = frozenset(("md", "markdown", "mdx", "rst", "adoc"))
_FIELD = re.compile(r"^([A-Za-z_-]{2,20}):[ \t]*(\S.*)$", re.MULTILINE)
_SAYER = ("speaker", "author", "from", "user", "sender", "role", "name")
_WHEN = ("date", "time", "timestamp", "ts", "datetime", "created_at", "when", "at")
_TURN = re.compile(r"^\s{0,3}(?:\[[^\]\n]{1,40}\]\s*)?([A-Z][\w .'-]{0,30}?)\s?(?:\([^)\n]{1,40}\))?:\s+\S")
_SENTENCE = re.compile(r"\b[a-z]{3,}+\s++[a-z]{2,}+\s++[a-z]{2,}")
_ATX = re.compile(r"(#{1,6})\s+(\S.*)")
_MAX_TITLE = 200  # characters; each chunk below a title repeats it
_UNDERLINE = re.compile(r"^([=\-~^\"'*+#])\1{2,}\s*$")
_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
_DEFINITION = re.compile(
    r"^(?:export\s+|pub(?:\([^)]*\))?\s+|public\s+|private\s+|protected\s+|static\s+|async\s+|abstract\s+|final\s+|"
    r"default\s+|inline\s+|extern\s+|unsafe\s+|local\s+)*"
    r"(?:def|class|function|fn|func|struct|enum|trait|impl|interface|type|module|mod|namespace|sub|object|record)"
    r"\s+([\w:.<>~$]+)|^[A-Za-z_][\w\s*&<>:,]*?\b([A-Za-z_]\w*)\s*\([^;]*\)\s*+(?:\{\s*+)?$"
)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower().lstrip(".")


def text_kind(name: str, text: str) -> TextKind:
    """Return the kind of a file by its name, and of plain text also by its beginning.

    Plain text is a dialogue if at least four lines, and 60 % of the lines, in its first 8000 characters begin a turn.
    The turns must also have few speakers.
    """
    suffix = _suffix(name)
    if suffix in _DOCUMENTS:
        return _DOCUMENTS[suffix]
    if suffix in _MARKDOWN:
        return "markdown"
    if suffix in ("jsonl", "ndjson"):
        return "records"
    if suffix in _CODE or name in ("Makefile", "Dockerfile", "CMakeLists.txt"):
        return "code"
    head = [line for line in text[:8000].splitlines() if line.strip()]
    turns = [found[1] for line in head if (found := _TURN.match(line))]
    if len(turns) >= 4 and len(turns) >= 0.6 * len(head) and len(set(turns)) <= max(2, len(turns) // 2):
        return "dialogue"
    return "text"


def cut(name: str, text: str) -> list[Chunk]:
    """Return the chunks of a file called `name`, in order of their lines."""
    kind = text_kind(name, text)
    lines = text.split("\n")
    blocks = _source_blocks(name, text, lines) if kind == "code" else _BLOCKS.get(kind, _paragraphs)(lines)
    if len(blocks) > _MANY:
        # Records of a long log share chunks: one vector for each of a hundred thousand lines would take hours.
        blocks = [Block(block.start, block.end, block.heading, block.members_of) for block in blocks]
    author, day = _of_file(name, text, kind)
    return [chunk for block in _evened(blocks, lines) if (chunk := _chunk(block, lines, author, day)) is not None]


def _of_file(name: str, text: str, kind: TextKind) -> tuple[str, int | None]:
    """Return (author, day) for all chunks of a file: those of its front matter; else the day in its name."""
    author, day = "", None
    if kind == "markdown" and text.startswith("---\n"):
        front = text[4 : max(text.find("\n---", 4), 4)][:_HEAD]
        fields = {found[1].lower(): found[2] for found in _FIELD.finditer(front)}
        author = next((fields[key].strip("\"' ") for key in ("author", "from") if fields.get(key)), "")
        day = next(
            (found for key in ("date", "created") if (found := first_day(fields.get(key, ""))) is not None), None
        )
    return author[:80], day if day is not None else first_day(name)


def _chunk(block: Block, lines: list[str], author: str, day: int | None) -> Chunk | None:
    start, end = block.start, block.end
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    if start == end:
        return None
    # Of a line of megabytes (minified, base64) only the beginning is indexed. The file itself is unchanged.
    text = "\n".join(line if len(line) <= MAX_LINE else line[:MAX_LINE] for line in lines[start:end])
    return Chunk(
        text, start + 1, end, block.heading, block.author or author, block.day if block.day is not None else day
    )


def _evened(blocks: Iterable[Block], lines: list[str]) -> Iterator[Block]:
    """Join small neighbouring blocks up to TARGET and split blocks over LIMIT.

    Neighbours with the same heading are joined. Small members of one class or module are joined under its name.
    """
    held: Block | None = None
    for block in blocks:
        if held is not None and _may_join(held, block, lines):
            held = Block(held.start, block.end, _joint_heading(held, block, lines), held.members_of)
            continue
        if held is not None:
            yield from _split(held, lines)
        held = block
    if held is not None:
        yield from _split(held, lines)


def _may_join(held: Block, block: Block, lines: list[str]) -> bool:
    if held.whole or block.whole:
        return False
    if held.heading != block.heading and (held.members_of is None or held.members_of != block.members_of):
        return False
    # A heading or an import alone has no content to rank: it is joined to the next block of any size.
    return _size(lines, held.start, block.end) <= TARGET or _size(lines, held.start, held.end) < _STUB


def _joint_heading(held: Block, block: Block, lines: list[str]) -> str:
    if held.heading == block.heading or _size(lines, held.start, held.end) < _STUB:
        return block.heading
    return held.members_of or ""


def _size(lines: list[str], start: int, end: int) -> int:
    return sum(len(line) + 1 for line in lines[start:end])


def _split(block: Block, lines: list[str]) -> Iterator[Block]:
    """Split a block once it reaches TARGET: at a blank line if there is one before LIMIT, else at LIMIT."""
    start, size, blank = block.start, 0, -1
    for number in range(block.start, block.end):
        length = len(lines[number]) + 1
        if size + length > LIMIT and number > start:
            stop = blank if blank > start else number
            yield replace(block, start=start, end=stop)
            start, size, blank = stop, _size(lines, stop, number), -1
        size += length
        if size >= TARGET // 2 and not lines[number].strip():
            blank = number
            if size >= TARGET:
                yield replace(block, start=start, end=number + 1)
                start, size, blank = number + 1, 0, -1
    if start < block.end:
        yield replace(block, start=start)


def _paragraphs(lines: list[str]) -> list[Block]:
    blocks, start = [], 0
    for number, line in enumerate(lines):
        if not line.strip():
            if number > start:
                blocks.append(Block(start, number))
            start = number + 1
    if start < len(lines):
        blocks.append(Block(start, len(lines)))
    return blocks


def _records(lines: list[str]) -> list[Block]:
    return [
        Block(number, number + 1, "", None, True, *_of_record(line))
        for number, line in enumerate(lines)
        if line.strip()
    ]


def _of_record(line: str) -> tuple[str, int | None]:
    """Return (author, day) of a JSON record by its fields; ("", None) if the line is no JSON object."""
    try:
        record = json.loads(line) if len(line) <= MAX_LINE else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return "", None
    author = next((said for key in _SAYER if isinstance(said := record.get(key), str) and said), "")
    day = next((found for key in _WHEN if (found := day_of_value(record.get(key))) is not None), None)
    return author[:80], day


def _turns(lines: list[str]) -> list[Block]:
    """Return a block for each turn of a dialogue.

    A date between turns, or in brackets before a turn, applies to the turns below it.
    """
    found = [(number, turn) for number, line in enumerate(lines) if (turn := _TURN.match(line))]
    edges = [(0, ""), *[(number, turn[1]) for number, turn in found]]
    if found and found[0][0] == 0:
        edges = edges[1:]
    blocks: list[Block] = []
    day: int | None = None
    for (start, author), (end, _) in itertools.pairwise([*edges, (len(lines), "")]):
        stamped = first_day(lines[start].split(":", 1)[0] if author else "\n".join(lines[start:end])[:_HEAD])
        day = stamped if stamped is not None else day
        blocks.append(Block(start, end, "", None, True, author, day))
        for line in lines[start + 1 : end] if author else ():
            # A short line below a turn that contains only a date applies to the turns after it.
            if len(line) <= 60 and (standing := first_day(line)) is not None and not _SENTENCE.search(line):
                day = standing
    return blocks


def _sections(lines: list[str]) -> list[Block]:
    """Return the paragraphs of Markdown or reStructuredText, each with the trail of headings above it."""
    trail: list[tuple[int, str]] = []
    marks: list[str] = []  # underline characters in order of appearance: their rank in reStructuredText
    blocks: list[Block] = []
    start, fence = 0, ""
    for number, line in enumerate(lines):
        if found := _FENCE.match(line):
            mark = found[1]
            fence = "" if fence and mark.startswith(fence) else fence or mark
            continue
        if fence:
            continue
        heading = _heading_at(lines, number, marks)
        if heading is None:
            continue
        level, title = heading
        if number > start:
            blocks.append(Block(start, number, _trail(trail)))
        start = number
        while trail and trail[-1][0] >= level:
            trail.pop()
        trail.append((level, title))
    blocks.append(Block(start, len(lines), _trail(trail)))
    return [part for block in blocks for part in _inner_paragraphs(block, lines)]


def _heading_at(lines: list[str], number: int, marks: list[str]) -> tuple[int, str] | None:
    line = lines[number]
    if (found := _ATX.match(line)) and (title := _without_closing(found[2])):
        return len(found[1]), title[:_MAX_TITLE]
    following = lines[number + 1] if number + 1 < len(lines) else ""
    underline = _UNDERLINE.match(following)
    if (
        underline
        and line.strip()
        and not _UNDERLINE.match(line)
        and len(following.strip()) >= min(len(line.strip()), 4)
    ) and not line.lstrip().startswith(("-", "*", "|", ">")):
        if underline[1] not in marks:
            marks.append(underline[1])
        return marks.index(underline[1]) + 1, line.strip()[:_MAX_TITLE]
    return None


def _without_closing(title: str) -> str:
    """Return a title without its closing `#` characters."""
    return title.rstrip().rstrip("#").rstrip()


def _trail(trail: list[tuple[int, str]]) -> str:
    return " > ".join(title for _, title in trail)


def _inner_paragraphs(block: Block, lines: list[str]) -> list[Block]:
    inner = _paragraphs(lines[block.start : block.end])
    return [Block(block.start + part.start, block.start + part.end, block.heading) for part in inner]


def _source_blocks(name: str, text: str, lines: list[str]) -> list[Block]:
    """Return blocks of code by the parser of its language, or by a regular expression without one or if it fails."""
    from ctxfs.index.extract.syntax import definitions

    found = definitions(_suffix(name), text)
    if not found:
        return _code_blocks(lines)
    blocks: list[Block] = []
    _nested(found, 0, len(lines), (), blocks)
    # Blank lines between definitions are dropped: joined to a small definition, they would replace its name.
    return [block for block in blocks if any(line.strip() for line in lines[block.start : block.end])]


def _nested(inside: Sequence["Definition"], start: int, end: int, trail: tuple[str, ...], out: list[Block]) -> None:
    """Append the blocks of lines `start` to `end` to `out`: one for each function, and for each member of a class."""
    at = start
    shared = ".".join(trail)
    for item in inside:
        first = max(item.start, at)
        if item.end <= first:
            continue  # several definitions on a line, as in minified code
        if first > at:
            out.append(Block(at, first, shared, shared))
        inner = (*trail, item.name) if item.name else trail
        if item.is_container:
            _nested(item.members, first, min(item.end, end), inner, out)
        else:
            out.append(Block(first, min(item.end, end), ".".join(inner), shared))
        at = min(item.end, end)
    if at < end:
        out.append(Block(at, end, shared, shared))


def _code_blocks(lines: list[str]) -> list[Block]:
    """Return blocks of code without a parser: a block starts at each unindented definition."""
    blocks: list[Block] = []
    start, name = 0, ""
    for number, line in enumerate(lines):
        if not line or line[0] in " \t#/*}":
            continue
        if found := _DEFINITION.match(line):
            if number > start:
                blocks.append(Block(start, number, name, ""))
            start, name = number, found[1] or found[2] or ""
    blocks.append(Block(start, len(lines), name, ""))
    return blocks


_BLOCKS: dict[TextKind, Callable[[list[str]], list[Block]]] = {
    "markdown": _sections,
    "code": _code_blocks,
    "dialogue": _turns,
    "records": _records,
    "text": _paragraphs,
}
