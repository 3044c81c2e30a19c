"""The status of the indexer: a state and a reason in the process, one string in the response of `status`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class IndexerState(StrEnum):
    """A state of the indexer. The values are part of the response of `status`."""

    STARTING = "starting"
    SCANNING = "scanning"
    INDEXING_WORDS = "indexing words"
    EMBEDDING = "embedding"
    IDLE = "idle"
    RESTARTING = "restarting"
    ERROR = "error"
    DOWN = "down"


_FAILED = (IndexerState.ERROR, IndexerState.DOWN)
_WORDS_PENDING = (
    IndexerState.STARTING,
    IndexerState.SCANNING,
    IndexerState.INDEXING_WORDS,
    IndexerState.RESTARTING,
)


@dataclass(frozen=True, slots=True)
class IndexerStatus:
    """A state of the indexer, with the reason for `ERROR` and `DOWN`."""

    state: IndexerState
    reason: str = ""

    @property
    def has_failed(self) -> bool:
        """True if the index does not follow the files, for the reason given."""
        return self.state in _FAILED

    @property
    def has_pending_words(self) -> bool:
        """True while the full-text index has not caught up with the files, although the indexer works."""
        return self.state in _WORDS_PENDING

    @property
    def has_caught_up(self) -> bool:
        """True once the full-text index has caught up; chunks may still be without a vector."""
        return self.state in (IndexerState.EMBEDDING, IndexerState.IDLE)


_MAX_IGNORED_WAITING = 50


def format_remaining(chunks: int, chunks_per_second: float) -> str:
    """Return the remaining time of embedding as ", about 3 min left"; empty if the speed is unknown."""
    if not chunks or not chunks_per_second:
        return ""
    seconds = chunks / chunks_per_second
    if seconds < 90:
        return f", about {max(1, round(seconds))} s left"
    return f", about {round(seconds / 60)} min left" if seconds < 5400 else f", about {round(seconds / 3600)} h left"


def format_behind_note(waiting: int, total: int, chunks_per_second: float) -> str:
    """Return a note that semantic search is behind; empty if all but a few chunks are embedded."""
    if waiting <= max(_MAX_IGNORED_WAITING, total // 10):
        return ""
    remaining = format_remaining(waiting, chunks_per_second)
    return f"meaning covers {total - waiting} of {total} chunks so far{remaining}; words cover all"


def render_indexer_status(status: IndexerStatus) -> str:
    """Return the string in the response of `status`: the state, for a failure followed by `: ` and the reason."""
    return f"{status.state}: {status.reason}" if status.has_failed else str(status.state)


def parse_indexer_status(text: str) -> IndexerStatus | None:
    """Return the status of a string of `render_indexer_status`; None if this version does not have its state.

    The daemon may be of another version than the command line.
    """
    state, _, reason = text.partition(": ")
    try:
        return IndexerStatus(IndexerState(state), reason)
    except ValueError:
        return None


def index_fault(index: Mapping[str, Any]) -> str:
    """Return the reason why the index of a status report does not follow the files; empty if it does, or soon will."""
    text = str(index.get("state", ""))
    status = parse_indexer_status(text)
    return text if status is not None and status.has_failed else str(index["damaged"])
