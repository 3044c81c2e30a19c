"""Exact search: lines that match a regular expression, in the files that the index selects."""

import errno
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from ctxfs.eventlog.session_files import open_content
from ctxfs.index.extract.session_parts import message_lines
from ctxfs.index.extract.text_decoding import read_text
from ctxfs.index.normal_form import fold_literal
from ctxfs.index.options import IndexedRoot
from ctxfs.index.search.regex_literals import Needed, needed_literals
from ctxfs.model.errors import invalid
from ctxfs.store import rooted_fs

GrepOutput = Literal["lines", "first", "count"]


class Line(NamedTuple):
    """A matching line, with its number, counted from 1."""

    path: str
    number: int
    text: str


class GrepResult(NamedTuple):
    """The matching lines, the unreadable files with reasons, and `more`: True if lines beyond the limit match."""

    lines: list[Line]
    faults: list[str]
    more: bool


MAX_PATTERN_CHARS = 10_000


class Matcher:
    """A compiled expression and the literals that its lines must contain; `options` recreate it in another process."""

    def __init__(
        self,
        pattern: str,
        *,
        fixed: bool = False,
        word: bool = False,
        ignore_case: bool = False,
        principal: str = "",
    ) -> None:
        """Compile a pattern. With a `principal`, of an event log only its messages are matched.

        Raise OSError EINVAL for a pattern that is too long, or no regular expression.
        """
        if len(pattern) > MAX_PATTERN_CHARS:
            raise invalid("pattern", f"a pattern has {MAX_PATTERN_CHARS} characters at most")
        self.principal = principal
        self.options: dict[str, Any] = {"pattern": pattern, "fixed": fixed, "word": word, "ignore_case": ignore_case}
        self.options["principal"] = principal
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

    def restricted_to(self, principal: str) -> "Matcher":
        """Return a matcher of the messages of one principal; of all if it is empty."""
        return Matcher(**{**self.options, "principal": principal}) if principal else self

    def lines(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield (number, line) of the lines that match."""
        if self.needed:
            folded = fold_literal(text)
            if not all(any(part in folded for part in alternatives) for alternatives in self.needed):
                return
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()  # a final line break begins no further line
        yield from self.matching(enumerate(lines, 1))

    def matching(self, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """Yield those of the numbered lines that match."""
        search = self._regex.search
        return (line for line in lines if search(line[1]))


def split_paths(
    paths: Iterable[str], roots: Iterable[IndexedRoot], *, hidden: bool
) -> list[tuple[IndexedRoot, tuple[str, ...]]]:
    """Return (source, path parts below it) of indexed files.

    Files below a name that begins with a dot are included only if `hidden`.
    """
    depths = {root.prefix: (root, root.prefix.count("/") + 1) for root in roots}
    out = []
    for path in paths:
        parts = tuple(path.split("/"))
        match = depths.get("/".join(parts[:2])) or depths.get(parts[0])
        if match is not None and (hidden or not any(part.startswith(".") for part in parts[match[1] :])):
            out.append((match[0], parts[match[1] :]))
    return out


def scan(
    files: Iterable[tuple[IndexedRoot, tuple[str, ...]]], matcher: Matcher, only: GrepOutput = "lines"
) -> tuple[list[Line], list[str]]:
    """Return (matching lines in the order of the files, unreadable files with reasons). Binary files match nothing.

    With `only` "first", return the first matching line of each file.
    With "count", return one line a file whose number is the number of matching lines.
    """
    matches: list[Line] = []
    faults: list[str] = []
    for root, parts in files:
        path = "/".join((root.prefix, *parts))
        try:
            lines = _match_file(root, parts, matcher)
            if only == "count":
                count = sum(1 for _ in lines)
                matches += [Line(path, count, "")] if count else []
            else:
                selected = itertools.islice(lines, 1) if only == "first" else lines
                matches.extend(Line(path, *line) for line in selected)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                faults.append(f"{path}: {error.strerror}")
    return matches, faults


def _match_file(root: IndexedRoot, parts: tuple[str, ...], matcher: Matcher) -> Iterator[tuple[int, str]]:
    """Yield (number, text) of the lines that match. Of an event log, the lines of messages are matched, not its JSON."""
    if root.holds_records:
        with open_content(root.root, *parts) as (file, stat):
            yield from matcher.matching(message_lines(file, stat.size, matcher.principal))
    elif text := read_text(rooted_fs.read_file(root.root, parts), keeps_line_ends=True):
        yield from matcher.lines(text)
