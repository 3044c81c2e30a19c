"""Sizes of chunks: small blocks of lines are joined, large ones split into even parts. Pure.

A block without content of its own, such as a heading, is joined to the block below it. A part of a split block
has at least MIN_PART_CHARACTERS. Cuts prefer blank lines and the outermost indentation.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

TARGET_CHARACTERS = 700
MAX_CHUNK_CHARACTERS = 1200
MIN_PART_CHARACTERS = 120
# A block below this is not split: its halves would be smaller than other chunks.
_MAX_UNSPLIT_CHARACTERS = TARGET_CHARACTERS * 3 // 2
_MAX_CUT_DEVIATION = 0.4  # share of the ideal size by which a part may be smaller or larger
_MAX_TITLE_CHARACTERS = 400
_SPLIT_PARAGRAPH_COST = 0.25  # in shares of the ideal size, as the other costs
_INDENT_COST = 0.03  # for each column
_MAX_INDENT = 24
_OPENED_BLOCK_COST = 0.3
_CONTINUATION_COST = 0.2
_OPENERS = (":", "{", "(", "[", ",", "\\")
_COMMENT = re.compile(r"\s*(?:#(?!!|\s*(?:define|el|endif|error|if|import|include|pragma|undef|warning))|//|/?\*|-- )")
_CONTINUATIONS = (")", "]", "}", "else", "elif", "except", "finally", "catch", "end")


@dataclass(frozen=True, slots=True)
class Block:
    """Lines `start` to `end` (from 0, `end` excluded) that belong together, before blocks are joined or split by size.

    `members_of` is the class or module whose members may share a chunk; None if they may not. An `is_whole` block is
    never joined, even if it is small: a turn, a record. Lines before `body` have no content of their own.
    """

    start: int
    end: int
    heading: str = ""
    members_of: str | None = None
    is_whole: bool = False
    author: str = ""
    day: int | None = None
    body: int = 0


def is_title(text: str, heading: str) -> bool:
    """Return True if a text only repeats the end of its trail of headings."""
    if not heading or len(text) > _MAX_TITLE_CHARACTERS:
        return False
    letters = _letters_of(text)
    return bool(letters) and _letters_of(heading).endswith(letters)


def _letters_of(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def fit_blocks(blocks: Iterable[Block], lines: Sequence[str]) -> Iterator[Block]:
    """Join small neighbouring blocks up to TARGET_CHARACTERS, and split large ones.

    Neighbours with the same heading are joined. Small members of one class or module are joined under its name.
    """
    fitting = _Fitting(lines)
    for block in fitting.join_tails(fitting.join(blocks)):
        yield from fitting.split(block)


class LineSizes:
    """The numbers of characters of the lines of a file."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._offsets = [0, *accumulate(len(line) + 1 for line in lines)]

    def count(self, start: int, end: int) -> int:
        """Return the characters of lines `start` to `end` (from 0, `end` excluded), with their line ends."""
        return self._offsets[end] - self._offsets[start]


class _Fitting:
    """The sizes of the lines of one file."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._size = LineSizes(lines).count

    def join(self, blocks: Iterable[Block]) -> Iterator[tuple[Block, bool]]:
        """Join each block to the one before it if that is small, or has no content. Yield True with those without."""
        pending: Block | None = None
        is_pending_bare = False
        for block in blocks:
            is_bare = self._is_bare(block)
            if pending is None or not self._can_join(pending, is_pending_bare, block):
                if pending is not None:
                    yield pending, is_pending_bare
                pending, is_pending_bare = block, is_bare
                continue
            heading = block.heading if is_pending_bare else self._join_headings(pending, block)
            body = block.start if is_pending_bare else pending.body
            pending = Block(pending.start, block.end, heading, block.members_of, body=body)
            is_pending_bare = is_pending_bare and is_bare
        if pending is not None:
            yield pending, is_pending_bare

    def join_tails(self, blocks: Iterable[tuple[Block, bool]]) -> Iterator[Block]:
        """Join a block that is still too small, or has no content, to the block above it."""
        previous: Block | None = None
        for block, is_bare in blocks:
            if previous is not None and self._is_tail(previous, block, is_bare):
                previous = replace(previous, end=block.end)
                continue
            if previous is not None:
                yield previous
            previous = block
        if previous is not None:
            yield previous

    def split(self, block: Block) -> Iterator[Block]:
        """Yield even parts of a block of about TARGET_CHARACTERS each."""
        start = block.start
        while self._size(start, block.end) > _MAX_UNSPLIT_CHARACTERS:
            cut = self._find_cut(start, block.end, max(start, block.body))
            if cut is None:
                break
            yield replace(block, start=start, end=cut)
            start = cut
        yield replace(block, start=start)

    def _can_join(self, pending: Block, is_pending_bare: bool, block: Block) -> bool:
        if pending.is_whole or block.is_whole:
            return False
        size = self._size(pending.start, pending.end)
        if is_pending_bare:
            # An outline of many headings is a text of its own.
            return size < TARGET_CHARACTERS
        if not _is_related(pending, block):
            return False
        # An import alone has no content to rank: it is joined to the next block of any size.
        return self._size(pending.start, block.end) <= TARGET_CHARACTERS or size < MIN_PART_CHARACTERS

    def _is_tail(self, previous: Block, block: Block, is_bare: bool) -> bool:
        if previous.is_whole or block.is_whole or self._size(previous.start, block.end) > MAX_CHUNK_CHARACTERS:
            return False
        return is_bare or (self._size(block.start, block.end) < MIN_PART_CHARACTERS and _is_related(previous, block))

    def _is_bare(self, block: Block) -> bool:
        """Return True for a heading without a text below it, and for a comment above a definition."""
        if self._size(block.start, block.end) > _MAX_TITLE_CHARACTERS:
            return False
        lines = self._lines[block.start : block.end]
        if block.members_of is not None:
            return all(not line.strip() or _COMMENT.match(line) for line in lines)
        text = "\n".join(lines)
        return not _letters_of(text) or is_title(text, block.heading)

    def _join_headings(self, pending: Block, block: Block) -> str:
        if pending.heading == block.heading or self._size(pending.start, pending.end) < MIN_PART_CHARACTERS:
            return block.heading
        return pending.members_of or ""

    def _find_cut(self, start: int, end: int, body: int) -> int | None:
        """Return the line before which the next part ends; None if no part would be large enough."""
        rest = self._size(start, end)
        ideal = rest / max(2, round(rest / TARGET_CHARACTERS))
        least = max(MIN_PART_CHARACTERS, ideal * (1 - _MAX_CUT_DEVIATION))
        most = min(MAX_CHUNK_CHARACTERS, ideal * (1 + _MAX_CUT_DEVIATION))
        best: tuple[float, int] | None = None
        last_fitting: int | None = None
        for cut in range(body + 1, end):
            size = self._size(start, cut)
            if self._size(cut, end) < MIN_PART_CHARACTERS or (size > most and last_fitting is not None):
                break
            if size >= MIN_PART_CHARACTERS:
                last_fitting = cut
            if least <= size <= most:
                cost = abs(size - ideal) / ideal + _cost_of_cut(self._lines[cut - 1], self._lines[cut])
                best = min(best, (cost, cut)) if best is not None else (cost, cut)
        return best[1] if best is not None else last_fitting


def _is_related(one: Block, other: Block) -> bool:
    is_member = one.members_of is not None and one.members_of == other.members_of
    return is_member or one.heading == other.heading


def _cost_of_cut(before: str, after: str) -> float:
    """Return the cost of a cut between two lines: higher inside a statement or a paragraph."""
    text = after.lstrip()
    cost = _INDENT_COST * min(len(after) - len(text), _MAX_INDENT) if text else 0.0
    if before.strip():
        cost += _SPLIT_PARAGRAPH_COST if text else 0.0
        cost += _OPENED_BLOCK_COST if before.rstrip().endswith(_OPENERS) else 0.0
    return cost + (_CONTINUATION_COST if text.startswith(_CONTINUATIONS) else 0.0)
