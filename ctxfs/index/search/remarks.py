"""Remarks on a question and its hits: kinds that no file has, and files that are searched in part."""

from collections.abc import Iterable

from ctxfs.index.query import Query
from ctxfs.index.search.view import IndexView

_EMPTY_KIND_REMARK = (
    "'kind:{}': no file is of this kind → "
    "markdown, code, dialogue, history, records, text, html, mail, pdf, or a kind of memory such as fact"
)
_MAX_PARTIAL_REMARKS = 3


def find_remarks(view: IndexView, query: Query, hit_paths: Iterable[str]) -> list[str]:
    """Return the remarks; `view` is that of the calling principal."""
    empty_kinds = [_EMPTY_KIND_REMARK.format(kind) for kind in query.kinds if not view.has_kind(kind)]
    notes = view.catalog.partial_notes(dict.fromkeys(hit_paths))
    partial = [f"{path}: {note}" for path, note in sorted(notes.items())]
    return [*empty_kinds, *partial[:_MAX_PARTIAL_REMARKS]]
