"""Serialisation of the orders to the indexer process as plain values."""

from dataclasses import astuple
from pathlib import Path as HostPath
from typing import Any

from ctxfs.index.options import EmbedderSpec, IndexedRoot, IndexerOptions


def roots_to_wire(roots: list[IndexedRoot]) -> list[Any]:
    """Return indexed roots as plain values."""
    return [
        [root.prefix, root.root, list(root.exclude), root.gitignore, list(root.include), root.holds_records]
        for root in roots
    ]


def roots_from_wire(value: list[Any]) -> list[IndexedRoot]:
    """Return the indexed roots that `roots_to_wire` serialised."""
    return [
        IndexedRoot(prefix, root, tuple(exclude), gitignore, tuple(include), holds_records)
        for prefix, root, exclude, gitignore, include, holds_records in value
    ]


def options_to_wire(options: IndexerOptions) -> list[Any]:
    """Return indexer options as plain values."""
    embedder = astuple(options.embedder) if options.embedder else None
    return [str(options.folder), embedder, options.threads, options.max_file_bytes, options.exact_below]


def options_from_wire(value: list[Any]) -> IndexerOptions:
    """Return the options that `options_to_wire` serialised."""
    return IndexerOptions(HostPath(value[0]), EmbedderSpec(*value[1]) if value[1] else None, *value[2:])
