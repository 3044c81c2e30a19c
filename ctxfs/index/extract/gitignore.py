"""Patterns of `.gitignore` as git reads them, matched in time linear in the pattern and in the path. Pure.

Every principal that may write a file may write a `.gitignore`, so it is read only up to the limits here. A line that
git never matches (`.godot\\`, an unclosed bracket) is skipped; the others apply.
"""

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_FILE_BYTES = 256 * 1024
MAX_LINES = 5_000
MAX_PATTERN_CHARACTERS = 1_000
# Total of the patterns that need a regular expression: each of them is tried with each path.
MAX_EXPRESSION_CHARACTERS = 16_000
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
_STAR, _ANY_CHARACTER = "[^/]*", "[^/]"
# Two stars or more as a whole name match any number of folders; at least one if the next slash follows a backslash.
_ANY_FOLDERS, _SOME_FOLDERS = ["**"], ["**\\"]


class _InvalidPattern(ValueError):
    """A pattern that matches no path in git."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A parsed line: a pattern, whether it matches only directories, and whether it ignores or re-includes (`!`)."""

    pattern: str
    is_directory_only: bool
    is_ignored: bool


@dataclass(frozen=True, slots=True)
class _Expression:
    """A pattern that is matched against each path (`is_path_pattern`), or against its last name."""

    number: int
    line: _Line
    regex: re.Pattern[str]
    is_path_pattern: bool


class PatternFile:
    """The patterns of one file. The last pattern that matches a path decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        # (name or ending, is_directory_only) → (line number, is_ignored)
        self._lines_by_name: dict[tuple[str, bool], tuple[int, bool]] = {}
        self._lines_by_ending: dict[tuple[str, bool], tuple[int, bool]] = {}
        expressions: list[_Expression] = []
        remaining = MAX_EXPRESSION_CHARACTERS
        for number, text in enumerate(lines):
            line = _parse_line(_to_bytes(text))
            name = line.pattern.removeprefix("**/")
            if not line.pattern or len(line.pattern) > MAX_PATTERN_CHARACTERS:
                continue
            if "/" not in name and not _SPECIAL.intersection(name):
                self._lines_by_name[name, line.is_directory_only] = number, line.is_ignored
            elif "/" not in name and name[0] == "*" and len(name) > 1 and not _SPECIAL.intersection(name[1:]):
                self._lines_by_ending[name[1:], line.is_directory_only] = number, line.is_ignored
            elif len(line.pattern) <= remaining and (regex := _compile_pattern(line.pattern)) is not None:
                expressions.append(_Expression(number, line, regex, "/" in line.pattern))
                remaining -= len(line.pattern)
        self._ending_lengths = tuple({len(ending) for ending, _ in self._lines_by_ending})
        self._expressions = tuple(reversed(expressions))

    def decide(self, parts: Sequence[str], *, is_directory: bool) -> bool | None:
        """Return True if the path is ignored, False if it is re-included, None if no pattern matches it."""
        parts = [_to_bytes(part) for part in parts]
        name = parts[-1]
        best_number, is_ignored = -1, None
        for table, key in (
            (self._lines_by_name, name),
            *((self._lines_by_ending, name[-length:]) for length in self._ending_lengths),
        ):
            for is_directory_only in (False, True) if is_directory else (False,):
                entry = table.get((key, is_directory_only))
                if entry is not None and entry[0] > best_number:
                    best_number, is_ignored = entry
        path = ""
        for expression in self._expressions:
            if expression.number < best_number:
                break
            if expression.line.is_directory_only and not is_directory:
                continue
            path = path or "/".join(parts)
            if expression.regex.fullmatch(path if expression.is_path_pattern else name):
                return expression.line.is_ignored
        return is_ignored


def parse_pattern_file(data: bytes) -> PatternFile:
    """Return the patterns of a file with this content, up to `MAX_FILE_BYTES` and `MAX_LINES`."""
    text = data[:MAX_FILE_BYTES].removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    return PatternFile(text.split("\n", MAX_LINES)[:MAX_LINES])


def _to_bytes(name: str) -> str:
    """Return a name with a character for each of its bytes: `?` and `[…]` match one byte in git."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("latin-1")


def _parse_line(text: str) -> _Line:
    """Parse a line. The pattern is empty for a comment."""
    text = text.removesuffix("\r")
    if text.startswith("#"):
        return _Line("", is_directory_only=False, is_ignored=True)
    end = len(text.rstrip(" "))
    if end < len(text) and (end - len(text[:end].rstrip("\\"))) % 2:
        end += 1  # a space after a backslash is part of the pattern
    text = text[:end]
    is_ignored = not text.startswith("!")
    text = text.removeprefix("!")
    return _Line(text.removesuffix("/"), text.endswith("/"), is_ignored)


def _compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """Return the regular expression of a pattern; None if the pattern matches no path.

    The expression backtracks over at most one star, so matching takes linear time.
    """
    is_path_pattern = "/" in pattern
    pattern = pattern.removeprefix("/")
    # git compares the text before the first special character separately: `**` after it counts as at the beginning.
    literal_length = (
        next((offset for offset, char in enumerate(pattern) if char in _SPECIAL), len(pattern))
        if is_path_pattern
        else 0
    )
    try:
        segments = _parse_segments(pattern[literal_length:], is_path_pattern=is_path_pattern)
    except _InvalidPattern:
        return None
    blocks: list[list[str]] = [[]]
    depths = [0]  # the minimum number of folders before each block
    for segment in segments:
        if segment in (_ANY_FOLDERS, _SOME_FOLDERS):
            if len(blocks) == 1 or blocks[-1]:
                blocks.append([])
                depths.append(0)
            depths[-1] += segment == _SOME_FOLDERS
        else:
            blocks[-1].append(_join_blocks(segment))
    first, *others = ["/".join(block) for block in blocks]
    if others:
        # The first match of a block leaves the longest rest of the path to the next blocks, so no other match is tried.
        skips = [f"(?:[^/]*/){{{depth},}}" for depth in depths[1:]]
        middle = "".join(f"(?>{skip}?{block}/)" for skip, block in zip(skips[:-1], others[:-1], strict=True))
        first += f"{'/' if blocks[0] else ''}{middle}{skips[-1]}{others[-1] if blocks[-1] else '.*'}"
    return re.compile(re.escape(pattern[:literal_length]) + first, re.DOTALL)


def _join_blocks(segment: Sequence[str]) -> str:
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


def _parse_segments(pattern: str, *, is_path_pattern: bool) -> list[list[str]]:
    """Return the expressions of the characters of each name. With `is_path_pattern`, `**` is special.

    Raise `_InvalidPattern` for an invalid pattern.
    """
    segments: list[list[str]] = [[]]
    offset = 0
    while offset < len(pattern):
        start, char = offset, pattern[offset]
        offset += 1
        if char == "/":
            segments.append([])
        elif char == "*":
            offset = len(pattern) - len(pattern[offset:].lstrip("*"))
            is_whole_name = is_path_pattern and offset > start + 1 and (start == 0 or pattern[start - 1] == "/")
            if is_whole_name and (offset == len(pattern) or pattern[offset] == "/"):
                segments[-1] = _ANY_FOLDERS
            elif is_whole_name and pattern.startswith("\\/", offset):
                segments[-1] = _SOME_FOLDERS
            else:
                segments[-1].append(_STAR)
        elif char == "?":
            segments[-1].append(_ANY_CHARACTER)
        elif char == "[":
            piece, offset = _parse_class(pattern, offset)
            segments[-1].append(piece)
        elif char == "\\":
            if offset == len(pattern):
                raise _InvalidPattern(pattern)
            if pattern[offset] == "/":
                segments.append([])
            else:
                segments[-1].append(re.escape(pattern[offset]))
            offset += 1
        else:
            segments[-1].append(re.escape(char))
    return segments


def _parse_class(pattern: str, offset: int) -> tuple[str, int]:
    """Return the expression of the character class whose content begins at `at`, and the offset after the class."""
    is_negated = pattern[offset : offset + 1] in ("!", "^")
    offset += is_negated
    start = offset
    ranges: list[str] = []  # the first and last character of each range
    while True:
        char = pattern[offset : offset + 1]
        if not char:
            raise _InvalidPattern(pattern)
        if char == "]" and offset > start:
            break
        if char == "[" and pattern[offset + 1 : offset + 2] == ":":
            end = pattern.find("]", offset + 2)
            if end < 0:
                raise _InvalidPattern(pattern)
            if end > offset + 2 and pattern[end - 1] == ":":
                posix_ranges = _POSIX_CLASSES.get(pattern[offset + 2 : end - 1])
                if posix_ranges is None:
                    raise _InvalidPattern(pattern)
                ranges += posix_ranges
                offset = end + 1
                continue
        low, offset = _parse_class_character(pattern, offset)
        ranges.append(low + low)  # even a range whose end precedes its start matches its start
        if pattern[offset : offset + 1] == "-" and pattern[offset + 1 : offset + 2] not in ("", "]"):
            high, offset = _parse_class_character(pattern, offset + 1)
            if low < high:
                ranges.append(low + high)
    content = "".join(f"\\U{ord(ends[0]):08x}-\\U{ord(ends[1]):08x}" for ends in ranges)
    if is_negated:
        return f"[^/{content}]", offset + 1
    return (f"(?!/)[{content}]" if content else "(?!)"), offset + 1


def _parse_class_character(pattern: str, offset: int) -> tuple[str, int]:
    """Return a character of a class, which a backslash may precede, and the offset after it."""
    if pattern[offset] == "\\":
        offset += 1
    if offset >= len(pattern):
        raise _InvalidPattern(pattern)
    return pattern[offset], offset + 1
