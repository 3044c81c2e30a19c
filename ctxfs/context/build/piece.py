"""A run of lines of a source: what contexts are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from ctxfs.context.build.secrets import withhold

Why = Literal["pin", "search", "recent", "derived"]
Reason = Literal[
    "budget",
    "quota",
    "duplicate",
    "recalled",
    "superseded",
    "expired",
    "stale",
    "low-score",
    "quarantined",
    "untrusted",
]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of lines that may go in.

    `signals` are what each engine measured, `shares` what each added to the score. `sha256` is of the whole file. `cut` says that
    `text` is not all of these lines. A derived piece has no lines of a file: somebody's words about `origin`.
    `untrusted`: its source says so of itself. `withheld` are kinds of secrets that the lines have and `text` has not.
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

    @property
    def pinned(self) -> bool:
        """True for what is in whatever it says."""
        return self.why == "pin"

    @property
    def body(self) -> str:
        """The text with every run of space as one: what duplicates are told by."""
        return " ".join(self.text.split())

    def shortened(self, text: str, last: int) -> "Piece":
        """The same with less of its text, up to the line `last`."""
        return replace(self, text=text, last=last, cut=True)


def without_secrets(piece: Piece) -> Piece:
    """The same without what looks like a key, a token or a password."""
    text, kinds = withhold(piece.text)
    return replace(piece, text=text, cut=True, withheld=kinds) if kinds else piece


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A candidate that was left out; `other` is what stands for it: the path that supersedes it or has the same text."""

    piece: Piece
    reason: Reason
    other: str = ""
