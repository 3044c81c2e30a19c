"""Citations: the lines of a source that a file rests on, as values of `user.ctx.cites`. Pure.

A value has one citation a line:

    knowledge/handbook/keys.md:7-9 <digest> 23@104 0b7c2d11-90fe4a3d 1764471600123 4:9f3a1c0b,11:03bd77aa

That is: the path and the cited lines; the digest of their words; the number of these words, and that of the words
before them; the heads of the hashes of the words directly before and after; the time of the citation in milliseconds;
and up to MAX_SAMPLES of the words, each with its position and the head of its hash, by which moved text is searched.
A field `2/3` marks the second of three equal texts of
its source. A last field `=<inode>:<copy>,<copy>+` marks the files that had the same text at that time, if any. A citation
of a URL is the URL alone: nothing compares it.

Words are compared, so line wraps and white space have no effect (`token_stream.py`). In a path, control characters,
`%` and bytes that are not UTF-8 are percent-encoded.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ctxfs.model.metadata import CITATION_PATTERN, PREFIX

CITES_ATTRIBUTE, SOURCE_ATTRIBUTE = f"{PREFIX}cites", f"{PREFIX}source"
MAX_SAMPLES = 5
MAX_CITED_TOKENS = 20_000
MAX_COPIES = 4
# The least words of a text that is searched in other files: shorter ones are in many files.
MIN_TOKENS_ELSEWHERE = 10
MIN_TOKENS = 4  # if the source has no file any more
_ESCAPED = re.compile("[\x00-\x1f\x7f%\ud800-\udfff]")
_URL = re.compile(r"[a-z][a-z0-9+.-]{1,20}://\S+")
_SPAN = re.compile(
    r"(?P<path>.+?)(?::(?P<first>\d{1,9})(?:-(?P<last>\d{1,9}))?|#L(?P<line>\d{1,9})(?:-L?(?P<end>\d{1,9}))?)"
)


class NoText(ValueError):
    """Lines that cannot be cited; the message names the reason."""


class State(StrEnum):
    """The relation of a file to the lines that it cites, as the reader sees them.

    `holds`: the text is where it was. `moved`: it is elsewhere. `changed`: it reads differently. `gone`: it is no
    longer there. `unseen`: the reader may not read the source, or it cannot be compared.
    """

    HOLDS = "holds"
    MOVED = "moved"
    UNSEEN = "unseen"
    CHANGED = "changed"
    GONE = "gone"

    @property
    def is_broken(self) -> bool:
        """True if the source no longer has the text."""
        return self in (State.CHANGED, State.GONE)


# The values by which a table of files is filtered: a state, both broken states, or no citations.
BROKEN, NO_CITATIONS = "broken", "none"
HOLDS = (*(state.value for state in State), BROKEN, NO_CITATIONS)


_SEVERITIES = list(State)


class Sample(NamedTuple):
    """A word of a cited text: its position among its words, and the upper 32 bits of its hash."""

    position: int
    head: int


class FileMark(NamedTuple):
    """A file, as two numbers of 24 bits: of its path, and of its inode, which a rename keeps."""

    path: int
    inode: int


@dataclass(frozen=True, slots=True)
class Copies:
    """The other files that had a cited text when it was cited: at most MAX_COPIES, more of them if `has_more`.

    `source_inode` is the mark of the inode of the source.
    """

    source_inode: int
    files: tuple[FileMark, ...]
    has_more: bool = False

    def is_move(self, file: FileMark) -> bool:
        """Return True if the text in a file has moved there: it is the renamed source, or did not have the text."""
        if file.inode == self.source_inode:
            return True
        is_copy = any(file.path == copy.path or file.inode == copy.inode for copy in self.files)
        return not (is_copy or self.has_more)


class Span(NamedTuple):
    """Lines of a file; `path` may be a URL, which has the line 0."""

    path: str
    first: int
    last: int

    def __str__(self) -> str:
        if not self.first:
            return self.path
        return f"{self.path}:{self.first}-{self.last}" if self.last > self.first else f"{self.path}:{self.first}"


@dataclass(frozen=True, slots=True)
class Citation:
    """One citation. A URL has no digest.

    `offset` is the number of words before the cited ones in the source; `before` and `after` are the heads of the hashes
    of their neighbours, None at an end of the source. `occurrences` is the number of equal texts
    in the source at that time, and `ordinal` the number of the cited one among them, from 1. `copies` is None if no other
    file had the text, or if none was searched.
    """

    span: Span
    digest: str = ""
    count: int = 0
    offset: int = 0
    before: int | None = None
    after: int | None = None
    cited_ms: int = 0
    samples: tuple[Sample, ...] = ()
    ordinal: int = 1
    occurrences: int = 1
    copies: Copies | None = None

    @property
    def is_url(self) -> bool:
        """True for a citation that no file of the tree can be compared with."""
        return not self.digest


class Holding(NamedTuple):
    """The state of a citation, and the present position of its text; None where there is none.

    `is_certain` is False for a changed text that only resembles the cited one: that may have moved elsewhere.
    """

    citation: Citation
    state: State
    current: Span | None = None
    is_certain: bool = True


def is_url(text: str) -> bool:
    """Return True for a URL."""
    return _URL.fullmatch(text) is not None


def parse_span(text: str) -> Span | None:
    """Parse `path:12`, `path:12-14`, `path#L12` or `path#L12-L14`; None for any other text, and for lines backwards."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or is_url(text.strip()):
        return None
    first = int(match["first"] or match["line"])
    last = int(match["last"] or match["end"] or first)
    path = match["path"].strip("/")
    return Span(path, first, last) if path and 1 <= first <= last else None


def parse_citations(value: bytes) -> list[Citation]:
    """Return the citations in a value of `user.ctx.cites`; malformed lines are left out."""
    parsed = map(_parse_line, value.decode("utf-8", "replace").split("\n"))
    return [citation for citation in parsed if citation is not None]


def has_citations_of(cites: bytes, source_before: bytes, source: bytes) -> bool:
    """Return True if a file with these citations needs none of the lines that its new `source` names.

    A copy of a file gets the attributes one by one, in any order, and keeps the citations of its original, which may no
    longer hold: citations that were there before any `source`, with the same one, or of the same lines.
    """
    citations = parse_citations(cites)
    if not citations or source_before in (b"", source):
        return bool(citations)
    span = parse_span(source.decode("utf-8", "replace"))
    return any(citation.span == span for citation in citations)


def format_citations(citations: Iterable[Citation]) -> bytes:
    """Return the value of `user.ctx.cites` for some citations."""
    return "\n".join(map(_format_line, citations)).encode()


def worst_state(states: Iterable[State]) -> State | None:
    """Return the worst of some states; None for none."""
    return max(states, key=_SEVERITIES.index, default=None)


def _parse_line(line: str) -> Citation | None:
    match = CITATION_PATTERN.fullmatch(line)
    if match is None:
        return None
    if match["url"]:
        return Citation(Span(match["url"], 0, 0))
    samples = (sample.split(":") for sample in match["samples"].split(","))
    citation = Citation(
        Span(_unescape(match["path"]), int(match["first"]), int(match["last"])),
        match["digest"],
        int(match["count"]),
        int(match["offset"]),
        _parse_head(match["before"]),
        _parse_head(match["after"]),
        int(match["time"]),
        tuple(Sample(int(position), int(head, 16)) for position, head in samples),
        int(match["ordinal"] or 1),
        int(match["occurrences"] or 1),
        _parse_copies(match),
    )
    return citation if _is_consistent(citation) else None


def _is_consistent(citation: Citation) -> bool:
    """Return True unless the numbers contradict each other: any process may set the attribute on the host."""
    return (
        1 <= citation.span.first <= citation.span.last
        and 1 <= citation.count <= MAX_CITED_TOKENS
        and 1 <= citation.ordinal <= citation.occurrences
        and all(sample.position < citation.count for sample in citation.samples)
    )


def _format_line(citation: Citation) -> str:
    if citation.is_url:
        return citation.span.path
    path, first, last = citation.span
    samples = ",".join(f"{sample.position}:{sample.head:08x}" for sample in citation.samples)
    fields = [f"{_escape(path)}:{first}-{last}", citation.digest, f"{citation.count}@{citation.offset}"]
    fields += [f"{_format_head(citation.before)}-{_format_head(citation.after)}", str(citation.cited_ms), samples]
    if citation.occurrences > 1:
        fields.append(f"{citation.ordinal}/{citation.occurrences}")
    if (copies := citation.copies) is not None:
        files = ",".join(f"{file.path:06x}{file.inode:06x}" for file in copies.files)
        fields.append(f"={copies.source_inode:06x}:{files}{'+' * copies.has_more}")
    return " ".join(fields)


def _parse_copies(match: re.Match[str]) -> Copies | None:
    if not match["copies"]:
        return None
    files = (FileMark(int(file[:6], 16), int(file[6:], 16)) for file in match["copies"].split(","))
    return Copies(int(match["inode"], 16), tuple(files), bool(match["more"]))


def _parse_head(text: str) -> int | None:
    return int(text, 16) if text else None


def _format_head(head: int | None) -> str:
    return "" if head is None else f"{head:08x}"


def _escape(path: str) -> str:
    return _ESCAPED.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape")), path
    )


def _unescape(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape") if "%" in text else text
