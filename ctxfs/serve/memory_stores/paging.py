"""Pages of lists, times of filters, and views."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from ctxfs.model.errors import invalid

Item = TypeVar("Item")

_DEFAULT_ITEMS = 20
_MAX_ITEMS = 100
_MAX_FULL_ITEMS = 20


def slice_page(items: Sequence[Item], query: Mapping[str, str]) -> tuple[Sequence[Item], str | None]:
    """Return the items of the requested page, and the token of the next one; None after the last."""
    limit = _limit_of(query)
    offset = _offset_of(query.get("page", ""))
    following = offset + limit
    return items[offset:following], _token_of(following) if following < len(items) else None


def page_response(data: Sequence[Mapping[str, Any]], next_page: str | None) -> dict[str, Any]:
    """Return a page as clients receive it."""
    return {"data": list(data), "next_page": next_page}


def is_full(query: Mapping[str, str], default: str) -> bool:
    """Return True if the view contains contents. Raise OSError EINVAL for an unknown view."""
    view = query.get("view", default)
    if view not in ("basic", "full"):
        raise invalid("view", "it is basic or full")
    return view == "full"


def time_bounds(query: Mapping[str, str]) -> tuple[datetime, datetime]:
    """Return the times of `created_at[gte]` and `created_at[lte]`."""
    lowest, highest = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    return _time_of(query, "created_at[gte]", lowest), _time_of(query, "created_at[lte]", highest)


def _time_of(query: Mapping[str, str], name: str, default: datetime) -> datetime:
    if name not in query:
        return default
    try:
        moment = datetime.fromisoformat(query[name])
    except ValueError as error:
        raise invalid(name, "a time in RFC 3339 is needed") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _limit_of(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(_DEFAULT_ITEMS))
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= _MAX_ITEMS:
        raise invalid("limit", f"a number from 1 to {_MAX_ITEMS} is needed")
    return min(int(text), _MAX_FULL_ITEMS) if query.get("view") == "full" else int(text)


def _token_of(offset: int) -> str:
    return base64.urlsafe_b64encode(f"page {offset}".encode()).decode().rstrip("=")


def _offset_of(token: str) -> int:
    if not token:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(token[:64] + "=" * (-len(token[:64]) % 4)).decode().partition(" ")
    except (binascii.Error, ValueError) as error:
        raise invalid("page", "this is no page of a list") from error
    if word != "page" or not number.isascii() or not number.isdecimal():
        raise invalid("page", "this is no page of a list")
    return int(number[:9])
