"""Points and periods of the world's time: years, months, days and times of ISO 8601, and ranges of them. Pure.

Times without an offset are UTC. A period is the first and the last second in it, in seconds since the epoch.
"""

import re
from datetime import UTC, date, datetime, timedelta

_MAX_CHARS = 64
_YEAR_OR_MONTH = re.compile(r"(\d{4})(?:-(\d\d))?")
_SEPARATORS = ("..", "/")

Period = tuple[int, int]


def parse_period(text: str) -> Period | None:
    """Return the first and the last second of a year, month, day or time; None for any other text.

    A time without a fraction is one second long.
    """
    if len(text) > _MAX_CHARS:
        return None
    try:
        if match := _YEAR_OR_MONTH.fullmatch(text):
            year, month = int(match[1]), int(match[2] or 1)
            next_year, next_month = (year + month // 12, month % 12 + 1) if match[2] else (year + 1, 1)
            start, end = (datetime(*day, 1, tzinfo=UTC) for day in ((year, month), (next_year, next_month)))
            return _seconds(start), _seconds(end) - 1
        return _parse_day(text) or _parse_time(text)
    except (ValueError, OverflowError):
        return None


def parse_range(text: str) -> Period | None:
    """Return the period of `2026`, `2026-03`, `2026-03-15`, a time, or a range `2026-01..2026-03`; None for others.

    `/` separates the ends of a range, too, as in ISO 8601. A range that ends before it begins is none.
    """
    for separator in _SEPARATORS:
        start_text, found_separator, end_text = text.partition(separator)
        if found_separator:
            start, end = parse_period(start_text), parse_period(end_text)
            if start is None or end is None or end[1] < start[0]:
                return None
            return start[0], end[1]
    return parse_period(text)


def _parse_day(text: str) -> Period | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    start = _seconds(datetime(day.year, day.month, day.day, tzinfo=UTC))
    return start, start + int(timedelta(days=1).total_seconds()) - 1


def _parse_time(text: str) -> Period:
    moment = datetime.fromisoformat(text)
    second = _seconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return second, second


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp() // 1)
