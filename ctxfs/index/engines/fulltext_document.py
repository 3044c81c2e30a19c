"""A document of the full-text index: one chunk, with the values that filters match."""

from collections.abc import Sequence
from dataclasses import dataclass

_EPOCH_SHIFT = 1 << 37  # seconds: years before 1970 are negative


@dataclass(frozen=True, slots=True)
class FullTextDocument:
    """The content that is indexed for a chunk.

    `neighbourhood` is a small chunk with its neighbours, empty for a chunk that ranks alone.
    `text` and `neighbourhood` have been split into words (`split_words`).
    `raw_text` is the original text; `is_truncated` is True if it is truncated.
    `said` is the time of the message in seconds since the epoch.
    """

    chunk: int
    file: int
    text: str
    heading: str
    path: str
    kind: str
    mtime_ns: int
    attributes: Sequence[tuple[str, str]] = ()
    confidence: float | None = None
    neighbourhood: str = ""
    author: str = ""
    raw_text: str = ""
    is_truncated: bool = False
    said: int | None = None


def shift_second(second: int) -> int:
    """Return a time in seconds since the epoch as the unsigned number that the index has for it."""
    return max(0, second + _EPOCH_SHIFT)
