"""Patterns of `.gitignore` as git reads them, matched in time linear in the pattern and in the path. Pure.

Every principal that may write a file may write a `.gitignore`, so it is read only up to the limits here. A line that
git never matches (`.godot\\`, an unclosed bracket) is skipped; the others apply.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_FILE_BYTES = 256 * 1024
MAX_LINES = 5_000
MAX_PATTERN_CHARACTERS = 1_000
# Total of the patterns that need a regular expression: each of them is tried with each path.
MAX_TRIED_CHARACTERS = 16_000
_BOM = "\ufeff"
_SPECIAL = frozenset("*?[\\")
_POSIX_CLASSES = {
    "alnum": ("09", "AZ", "az"),
    "alpha": ("AZ", "az"),
    "blank": ("  ", "\t\t"),
    "cntrl": ("\x00\x1f", "\x7f\x7f"),
    "digit": ("09",),
    "graph": ("!~",),
    "lower": ("az",),
    "print": (" ~",),
    "punct": ("!/", ":@", "[`", "{~"),
    "space": ("  ", "\t\r"),
    "upper": ("AZ",),
    "xdigit": ("09", "AF", "af"),
}
_STAR, _ONE = "[^/]*", "[^/]"
# Two stars or more as a whole name match any number of folders; at least one if the next slash follows a backslash.
_FOLDERS, _FOLDERS_AND_ONE = ["**"], ["**\\"]


class _NeverMatches(ValueError):
    """A pattern that matches no path in git."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A parsed line: a pattern, whether it matches only directories, and whether it ignores or re-includes (`!`)."""

    pattern: str
    directories: bool
    ignores: bool


@dataclass(frozen=True, slots=True)
class _Tried:
    """A pattern that is matched against each path (`whole`), or against its last name."""

    number: int
    line: _Line
    expression: re.Pattern[str]
    whole: bool


class PatternFile:
    """The patterns of one file. The last pattern that matches a path decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._names: dict[tuple[str, bool], tuple[int, bool]] = {}  # (name, directories only) → (line, ignores)
        self._endings: dict[tuple[str, bool], tuple[int, bool]] = {}
        tried: list[_Tried] = []
        left = MAX_TRIED_CHARACTERS
        for number, text in enumerate(lines):
            line = _parse_line(text)
            name = line.pattern.removeprefix("**/")
            if not line.pattern or len(line.pattern) > MAX_PATTERN_CHARACTERS:
                continue
            if "/" not in name and not _SPECIAL.intersection(name):
                self._names[name, line.directories] = number, line.ignores
            elif "/" not in name and name[0] == "*" and len(name) > 1 and not _SPECIAL.intersection(name[1:]):
                self._endings[name[1:], line.directories] = number, line.ignores
            elif len(line.pattern) <= left and (expression := _compile(line.pattern)) is not None:
                tried.append(_Tried(number, line, expression, "/" in line.pattern))
                left -= len(line.pattern)
        self._lengths = tuple({len(ending) for ending, _ in self._endings})
        self._tried = tuple(reversed(tried))

    def decide(self, parts: Sequence[str], *, directory: bool) -> bool | None:
        """Return True if the path is ignored, False if it is re-included, None if no pattern matches it."""
        name = parts[-1]
        best, ignores = -1, None
        for table, key in ((self._names, name), *((self._endings, name[-length:]) for length in self._lengths)):
            for directories in (False, True) if directory else (False,):
                entry = table.get((key, directories))
                if entry is not None and entry[0] > best:
                    best, ignores = entry
        path = ""
        for item in self._tried:
            if item.number < best:
                break
            if item.line.directories and not directory:
                continue
            path = path or "/".join(parts)
            if item.expression.fullmatch(path if item.whole else name):
                return item.line.ignores
        return ignores


def parse_pattern_file(data: bytes) -> PatternFile:
    """Return the patterns of a file with this content, up to `MAX_FILE_BYTES` and `MAX_LINES`."""
    text = data[:MAX_FILE_BYTES].decode("utf-8", "surrogateescape").removeprefix(_BOM)
    return PatternFile(text.split("\n", MAX_LINES)[:MAX_LINES])


def _parse_line(text: str) -> _Line:
    """Parse a line. The pattern is empty for a comment."""
    text = text.removesuffix("\r")
    if text.startswith("#"):
        return _Line("", directories=False, ignores=True)
    end = len(text.rstrip(" "))
    if end < len(text) and (end - len(text[:end].rstrip("\\"))) % 2:
        end += 1  # a space after a backslash is part of the pattern
    text = text[:end]
    ignores = not text.startswith("!")
    text = text.removeprefix("!")
    return _Line(text.removesuffix("/"), text.endswith("/"), ignores)


def _compile(pattern: str) -> re.Pattern[str] | None:
    """Return the regular expression of a pattern; None if the pattern matches no path.

    The expression backtracks over at most one star, so matching takes linear time.
    """
    whole = "/" in pattern
    pattern = pattern.removeprefix("/")
    # git compares the text before the first special character separately: `**` after it counts as at the beginning.
    literal = next((at for at, char in enumerate(pattern) if char in _SPECIAL), len(pattern)) if whole else 0
    try:
        segments = _segments(pattern[literal:], whole=whole)
    except _NeverMatches:
        return None
    blocks: list[list[str]] = [[]]
    depths = [0]  # the minimum number of folders before each block
    for segment in segments:
        if segment in (_FOLDERS, _FOLDERS_AND_ONE):
            if len(blocks) == 1 or blocks[-1]:
                blocks.append([])
                depths.append(0)
            depths[-1] += segment == _FOLDERS_AND_ONE
        else:
            blocks[-1].append(_without_backtracking(segment))
    first, *others = ["/".join(block) for block in blocks]
    if others:
        # The first match of a block leaves the longest rest of the path to the next blocks, so no other match is tried.
        skips = [f"(?:[^/]*/){{{depth},}}" for depth in depths[1:]]
        middle = "".join(f"(?>{skip}?{block}/)" for skip, block in zip(skips[:-1], others[:-1], strict=True))
        first += f"{'/' if blocks[0] else ''}{middle}{skips[-1]}{others[-1] if blocks[-1] else '.*'}"
    return re.compile(re.escape(pattern[:literal]) + first, re.DOTALL)


def _without_backtracking(segment: Sequence[str]) -> str:
    """Return the expression of one name: between stars, the first match of the text before the next star suffices."""
    blocks = [""]
    for piece in segment:
        if piece == _STAR:
            blocks.append("")
        else:
            blocks[-1] += piece
    if len(blocks) == 1:
        return blocks[0]
    middle = "".join(f"(?>[^/]*?{block})" for block in blocks[1:-1] if block)
    return f"{blocks[0]}{middle}{_STAR}{blocks[-1]}"


def _segments(pattern: str, *, whole: bool) -> list[list[str]]:
    """Return the expressions of the characters of each name. With `whole` the pattern matches paths: `**` is special.

    Raise `_NeverMatches` for an invalid pattern.
    """
    segments: list[list[str]] = [[]]
    at = 0
    while at < len(pattern):
        start, char = at, pattern[at]
        at += 1
        if char == "/":
            segments.append([])
        elif char == "*":
            at = len(pattern) - len(pattern[at:].lstrip("*"))
            alone = whole and at > start + 1 and (start == 0 or pattern[start - 1] == "/")
            if alone and (at == len(pattern) or pattern[at] == "/"):
                segments[-1] = _FOLDERS
            elif alone and pattern.startswith("\\/", at):
                segments[-1] = _FOLDERS_AND_ONE
            else:
                segments[-1].append(_STAR)
        elif char == "?":
            segments[-1].append(_ONE)
        elif char == "[":
            piece, at = _bracket(pattern, at)
            segments[-1].append(piece)
        elif char == "\\":
            if at == len(pattern):
                raise _NeverMatches(pattern)
            if pattern[at] == "/":
                segments.append([])
            else:
                segments[-1].append(re.escape(pattern[at]))
            at += 1
        else:
            segments[-1].append(re.escape(char))
    return segments


def _bracket(pattern: str, at: int) -> tuple[str, int]:
    """Return the expression of the character class whose content begins at `at`, and the offset after the class."""
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    start = at
    ranges: list[str] = []  # the first and last character of each range
    while True:
        char = pattern[at : at + 1]
        if not char:
            raise _NeverMatches(pattern)
        if char == "]" and at > start:
            break
        if char == "[" and pattern[at + 1 : at + 2] == ":":
            end = pattern.find("]", at + 2)
            if end < 0:
                raise _NeverMatches(pattern)
            if end > at + 2 and pattern[end - 1] == ":":
                names = _POSIX_CLASSES.get(pattern[at + 2 : end - 1])
                if names is None:
                    raise _NeverMatches(pattern)
                ranges += names
                at = end + 1
                continue
        low, at = _class_character(pattern, at)
        ranges.append(low + low)  # even a range whose end precedes its start matches its start
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("", "]"):
            high, at = _class_character(pattern, at + 1)
            if low < high:
                ranges.append(low + high)
    inside = "".join(f"\\U{ord(ends[0]):08x}-\\U{ord(ends[1]):08x}" for ends in ranges)
    if negated:
        return f"[^/{inside}]", at + 1
    return (f"(?!/)[{inside}]" if inside else "(?!)"), at + 1


def _class_character(pattern: str, at: int) -> tuple[str, int]:
    """Return a character of a class, which a backslash may precede, and the offset after it."""
    if pattern[at] == "\\":
        at += 1
    if at >= len(pattern):
        raise _NeverMatches(pattern)
    return pattern[at], at + 1
