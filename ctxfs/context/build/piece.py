"""Pieces: runs of lines of a source, the units of contexts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ctxfs.context.build.secrets import withhold_secrets

Why = Literal["pin", "pinned", "search", "recent", "derived"]
Reason = Literal[
    "budget",
    "quota",
    "origin",
    "duplicate",
    "recalled",
    "superseded",
    "conflict",
    "expired",
    "deprecated",
    "stale",
    "low-score",
    "quarantined",
    "untrusted",
    "source-changed",
]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of lines that may go into a context.

    `signals` are the measurements of each engine, `shares` the contribution of each to the score. `sha256` is of the
    whole file. `cut` means that `text` is not all of these lines. A derived piece has no lines of a file: it is a
    summary of `origin`. Of another piece, `origin` are the further files that its text has names from.
    `p` is the probability that the piece helps to answer the question; None if not measured.
    `is_relevant` is False if `p` is too small beside that of the best piece. `untrusted`: its source is marked as
    untrusted. `withheld` are the kinds of secrets that were removed from `text`. `above` is the last
    line of the chunk directly above if that is a candidate, too; else 0. `source` is the origin of the file's content
    (`FileStatus.source`), of which a context has a limited share. `stale` is `changed` or `gone` if the lines that its
    file cites no longer hold. `valid_until` is the end of the file's validity if that has passed.
    """

    path: str
    first: int
    last: int
    text: str
    heading: str = ""
    score: float = 0.0
    signals: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    sha256: str = ""
    why: Why = "search"
    day: int | None = None
    kind: str = ""
    mtime_ns: int = 0
    cut: bool = False
    origin: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    untrusted: bool = False
    above: int = 0
    p: float | None = None
    is_relevant: bool = True
    source: str = ""
    stale: str = ""
    valid_until: str = ""

    @property
    def is_pinned(self) -> bool:
        """Return True for a pin of the request, which no filter excludes."""
        return self.why == "pin"

    @property
    def is_whole(self) -> bool:
        """Return True for a pin, and for a pinned memory: lines of a file as they are, without regard to chunks."""
        return self.why in ("pin", "pinned")

    @property
    def body(self) -> str:
        """Return the text with each run of whitespace as one space, by which duplicates are detected."""
        return " ".join(self.text.split())

    def shortened(self, text: str, last: int) -> "Piece":
        """Return a copy with less of the text, up to the line `last`."""
        return replace(self, text=text, last=last, cut=True)


def without_secrets(piece: Piece) -> Piece:
    """Return a copy without probable keys, tokens and passwords."""
    text, kinds = withhold_secrets(piece.text)
    return replace(piece, text=text, cut=True, withheld=kinds) if kinds else piece


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An excluded candidate; `other` is the path that supersedes it or has the same text."""

    piece: Piece
    reason: Reason
    other: str = ""
