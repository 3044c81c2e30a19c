"""Pagination of lists: a cursor is the index of the first entry of its page."""

from collections.abc import Sequence
from typing import TypeVar

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS

_PAGE = 50
_LONGEST = 18  # digits
Item = TypeVar("Item")


def page_of(known: Sequence[Item], cursor: str | None) -> tuple[list[Item], str | None]:
    """Return a page and the cursor of the next one, or None. Raises MCPError -32602 for a malformed cursor."""
    if cursor and not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _LONGEST):
        raise MCPError(INVALID_PARAMS, "the cursor is not one that was given")
    start = int(cursor or 0)
    end = start + _PAGE
    return list(known[start:end]), str(end) if len(known) > end else None
