"""Exact search: lines that match a regular expression, in files that the index says may hold one."""

import errno
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from ctxfs.index.extract.formats import decode, is_binary
from ctxfs.index.options import IndexedRoot
from ctxfs.index.search.regex_literals import Needed, needed_literals
from ctxfs.model.errors import invalid
from ctxfs.store import rooted_fs

Only = Literal["lines", "first", "count"]


class Line(NamedTuple):
    """A matching line, counted from 1."""

    path: str
    number: int
    text: str


class GrepResult(NamedTuple):
    """Lines, what could not be read and why, and whether there are more lines than were asked for."""

    lines: list[Line]
    faults: list[str]
    more: bool


MAX_PATTERN_CHARS = 10_000


class Matcher:
    """A compiled expression and what its lines must contain; `options` make the same one elsewhere."""

    def __init__(self, pattern: str, *, fixed: bool = False, word: bool = False, ignore_case: bool = False) -> None:
        if len(pattern) > MAX_PATTERN_CHARS:
            raise invalid("pattern", f"a pattern has {MAX_PATTERN_CHARS} characters at most")
        self.options = {"pattern": pattern, "fixed": fixed, "word": word, "ignore_case": ignore_case}
        source = re.escape(pattern) if fixed else pattern
        if word:
            source = rf"(?<!\w)(?:{source})(?!\w)"
        try:
            self._regex = re.compile(source, re.IGNORECASE if ignore_case else 0)
            self.needed: Needed = needed_literals(source, ignore_case=ignore_case)
        except (re.error, RecursionError, OverflowError) as error:
            raise invalid("pattern", f"not a regular expression: {error}; -F takes it as it is") from error
        if any("\n" in text for alternatives in self.needed for text in alternatives):
            raise invalid("pattern", "lines are matched one at a time, so none can match a line break")

    def lines(self, text: str) -> Iterator[tuple[int, str]]:
        """(number, line) of the lines that match."""
        lowered = text.lower()
        if not all(any(part in lowered for part in alternatives) for alternatives in self.needed):
            return
        search = self._regex.search
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()  # a line end ends a line, it does not begin one
        for number, line in enumerate(lines, 1):
            if search(line):
                yield number, line


def places_of(
    paths: Iterable[str], roots: Iterable[IndexedRoot], *, hidden: bool
) -> list[tuple[IndexedRoot, tuple[str, ...]]]:
    """(source, place in it) of indexed files; those with a name that begins with a dot only if `hidden`."""
    depths = {root.prefix: (root, root.prefix.count("/") + 1) for root in roots}
    out = []
    for path in paths:
        parts = tuple(path.split("/"))
        found = depths.get("/".join(parts[:2])) or depths.get(parts[0])
        if found is not None and (hidden or not any(part.startswith(".") for part in parts[found[1] :])):
            out.append((found[0], parts[found[1] :]))
    return out


def scan(
    files: Iterable[tuple[IndexedRoot, tuple[str, ...]]], matcher: Matcher, only: Only = "lines"
) -> tuple[list[Line], list[str]]:
    """(matching lines in the order of the files, what could not be read and why). Binary files match nothing.

    With `only` "first" it is the first line of each file, with "count" one line a file whose number is how many there are.
    """
    found: list[Line] = []
    faults: list[str] = []
    for root, parts in files:
        path = "/".join((root.prefix, *parts))
        try:
            data = rooted_fs.read_file(root.root, parts)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                faults.append(f"{path}: {error.strerror}")
            continue
        text = data.decode("utf-8", "replace") if b"\0" not in data else "" if is_binary(data) else decode(data)
        if text:
            lines = matcher.lines(text)
            if only == "count":
                count = sum(1 for _ in lines)
                found += [Line(path, count, "")] if count else []
            else:
                kept = itertools.islice(lines, 1) if only == "first" else lines
                found.extend(Line(path, *line) for line in kept)
    return found, faults
