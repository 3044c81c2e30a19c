"""ctxfs: memory, tools and knowledge as one tree of files, with search and budgets built in.

The library begins with `ctxfs.open(store, principal="agent:x")`, or `ctxfs.open_async(…)`. It is imported on first use, so
that commands start fast.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # as in `typing`, whose import takes milliseconds
if TYPE_CHECKING:
    from typing import Any

    from ctxfs.library import AsyncStore as AsyncStore
    from ctxfs.library import Store as Store
    from ctxfs.library import open_async as open_async
    from ctxfs.library import open_store
    from ctxfs.model.errors import CommandError as CommandError

    open = open_store  # noqa: A001 - `ctxfs.open`, like `gzip.open`

_LIBRARY = {
    "open": ("ctxfs.library", "open_store"),
    "open_async": ("ctxfs.library", "open_async"),
    "Store": ("ctxfs.library", "Store"),
    "AsyncStore": ("ctxfs.library", "AsyncStore"),
    "CommandError": ("ctxfs.model.errors", "CommandError"),
}


def __getattr__(name: str) -> Any:
    if name not in _LIBRARY:
        raise AttributeError(f"module 'ctxfs' has no attribute '{name}'")
    import importlib

    module, member = _LIBRARY[name]
    return getattr(importlib.import_module(module), member)


def __dir__() -> list[str]:
    return sorted((*globals(), *_LIBRARY))
