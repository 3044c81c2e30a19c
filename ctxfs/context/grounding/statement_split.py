"""Statements of a text with their lines: sentences, and `key: value` lines one by one. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctxfs.context.build.sentences import sentences
from ctxfs.context.grounding.statements import MAX_STATEMENT_CHARS, parse_pair
from ctxfs.index.extract.front_matter import read_front_matter

MAX_STATEMENTS = 200  # of one text
_MAX_TEXT_CHARS = 200_000
_MIN_LETTERS = re.compile(r"[^\W\d_]{2,}")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s+(.{1,200})")
_FENCE = re.compile(r"\s{0,3}(?:```|~~~)")
_TABLE = re.compile(r"\s*\|")
# Lines on the provenance of a statement are no statements themselves.
_PROVENANCE = re.compile(
    r"\s{0,40}(?:[-*]\s{1,40})?(?:sources?|kept|revision|corrected|corrects|because|evidence|promoted)\s{0,40}:",
    re.IGNORECASE,
)
_DIGEST = re.compile(r"[-_][0-9a-f]{7,40}$")
_MEMORY_PARTS = 3  # memory/<agent>/<kind>


@dataclass(frozen=True, slots=True)
class LocatedStatement:
    """A statement with its file and line; `context` holds its subject: the name of the file and the heading above it."""

    path: str
    line: int
    text: str
    context: str = ""

    @property
    def position(self) -> str:
        """Return the path with the line."""
        return f"{self.path}:{self.line}"


def split_statements(path: str, text: str, first: int = 1, heading: str = "") -> Iterator[LocatedStatement]:
    """Yield at most MAX_STATEMENTS statements of a text whose first line has the number `first`.

    Front matter, headings, questions, tables, fenced code and lines on provenance are left out.
    """
    about = subject_of(path)
    count = 0
    for number, line_text, title in _split_lines(text[:_MAX_TEXT_CHARS], heading):
        if count == MAX_STATEMENTS:
            return
        if _MIN_LETTERS.search(line_text) and not line_text.endswith("?"):
            count += 1
            yield LocatedStatement(path, first + number, line_text[:MAX_STATEMENT_CHARS], f"{about} {title}".strip())


def subject_of(path: str) -> str:
    """Return the words of a path that may name a subject: below `memory/<agent>/<kind>/`, without suffix and digest."""
    parts = path.split("/")
    names = parts[_MEMORY_PARTS:] if parts[0] == "memory" else parts[-1:]
    if not names:
        return ""
    stem = names[-1].rsplit(".", 1)[0] if "." in names[-1][1:] else names[-1]
    return " ".join((*names[:-1], _DIGEST.sub("", stem))).replace("-", " ").replace("_", " ")


def _split_lines(text: str, heading: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line counted from 0, text, heading above it)."""
    block: list[str] = []
    block_first = 0
    is_fenced = False
    lines = text.split("\n")
    start = read_front_matter(lines).line_count
    for number, line in enumerate(lines[start:], start):
        is_fence = bool(_FENCE.match(line))
        match = _HEADING.match(line)
        is_single = not is_fenced and (bool(match) or parse_pair(line) is not None or bool(_PROVENANCE.match(line)))
        if is_single or is_fence or is_fenced or _TABLE.match(line):
            yield from _split_block(block, block_first, heading)
            block = []
            if match:
                heading = match[1].strip()
            elif is_single and not _PROVENANCE.match(line):
                yield number, line.strip(), heading
            is_fenced = is_fenced != is_fence
            continue
        if not block:
            block_first = number
        block.append(line)
    yield from _split_block(block, block_first, heading)


def _split_block(block: list[str], first: int, heading: str) -> Iterator[tuple[int, str, str]]:
    for sentence in sentences("\n".join(block)) if block else ():
        yield first + sentence.first - 1, sentence.text.strip(), heading
