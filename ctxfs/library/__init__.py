"""The Python library: `ctxfs.open(store, principal="agent:x")` and `ctxfs.open_async(…)`.

A store object sends the requests of the command line and of MCP, under the same policy: to the daemon of the store, or
without one to the store opened in this process. Values are plain or frozen dataclasses, errors are OSErrors of the tree
and `ctxfs.CommandError`.
"""

from ctxfs.library.async_store import AsyncStore, open_async
from ctxfs.library.results import (
    Change,
    CheckedFile,
    Citation,
    Context,
    Correction,
    Entry,
    GrepMatches,
    Hit,
    Match,
    Promotion,
    Record,
    Rollback,
    SearchAnswer,
    Version,
    Written,
)
from ctxfs.library.store import Store, open_store

__all__ = [
    "AsyncStore",
    "Change",
    "CheckedFile",
    "Citation",
    "Context",
    "Correction",
    "Entry",
    "GrepMatches",
    "Hit",
    "Match",
    "Promotion",
    "Record",
    "Rollback",
    "SearchAnswer",
    "Store",
    "Version",
    "Written",
    "open_async",
    "open_store",
]
