"""Progress events of the indexer."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """An event that the indexer sends to its owner.

    | kind | event | `detail` |
    |---|---|---|
    | `words` | The full-text index has a new commit. | `done/total` files, or empty |
    | `meaning` | A batch of chunks has vectors. | |
    | `graph` | The vector graph is replaced. | |
    | `purged` | No trace of deleted files is left. | |
    | `repaired` | A damaged index is discarded. | the reason |
    | `error` | A command or a graph build failed. | the error message |
    | `failed` | An indexer thread ended. | the traceback |
    | `anew` | Another model embeds the chunks. | `done/total` chunks; empty once that model is in service |
    | `waits` | Embedding is suspended. | the reason; empty once it resumes |
    | `words-idle` | The full-text index has caught up. | the number of orders carried out |
    | `idle` | All engines have caught up. | the number of orders carried out |
    """

    kind: str
    detail: str = ""


Notify = Callable[[Event], None]
