"""What the indexer says while it works."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Something the owner of the indexer may want to pass on: `words`, `meaning`, `graph`, `purged`, `repaired`, `error`, `failed`.

    `anew` says how many of how many chunks another model has embedded, and nothing once it answers; `waits` why meaning has to
    wait, and nothing once it goes on. `words-idle` and `idle` say that words, or everything, has caught up with the first `detail`
    orders.
    """

    kind: str
    detail: str = ""


Notify = Callable[[Event], None]
