"""Pagination of lists: a cursor is the index of the first entry of its page."""

from collections.abc import Sequence
from typing import TypeVar

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS

_PAGE_ENTRIES = 50
_MAX_CURSOR_DIGITS = 18
Item = TypeVar("Item")


def page_of(items: Sequence[Item], cursor: str | None) -> tuple[list[Item], str | None]:
    """Return a page and the cursor of the next one, or None. Raises MCPError -32602 for a malformed cursor."""
    if cursor and not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _MAX_CURSOR_DIGITS):
        raise MCPError(INVALID_PARAMS, "the cursor is not one that was given")
    start = int(cursor or 0)
    end = start + _PAGE_ENTRIES
    return list(items[start:end]), str(end) if len(items) > end else None
