"""Remarks on a question and its hits: kinds that no file has, and files that are searched in part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ctxfs.index.query import Query
from ctxfs.index.search.results import Hit

if TYPE_CHECKING:
    # Imported by the view: see `searcher`.
    from ctxfs.index.search.view import IndexView

_EMPTY_KIND_REMARK = (
    "'kind:{}': no file is of this kind → "
    "markdown, code, dialogue, history, records, text, html, mail, pdf, or a kind of memory such as fact"
)
_MAX_PARTIAL_REMARKS = 3


def find_remarks(view: IndexView, query: Query, hits: Iterable[Hit]) -> list[str]:
    """Return the remarks; `view` is open, under its lock, and that of the calling principal."""
    empty_kinds = [
        _EMPTY_KIND_REMARK.format(kind) for kind in query.kinds if not view.has_kind(kind, query.kind_folders.of(kind))
    ]
    partial = sorted({f"{hit.path}: {hit.chunk.note}" for hit in hits if hit.chunk.note})
    return [*empty_kinds, *partial[:_MAX_PARTIAL_REMARKS]]
