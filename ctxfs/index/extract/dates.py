"""Parser of dates in prose. Pure.

Years outside 1900 to 2199 are not recognised, because such numbers are seldom years.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

_MONTHS = tuple("january february march april may june july august september october november december".split())
_MONTH_NUMBERS = {form: number for number, name in enumerate(_MONTHS, 1) for form in (name, name[:3])} | {"sept": 9}
_MONTH_PATTERN = "|".join(sorted(_MONTH_NUMBERS, key=len, reverse=True))
_YEAR_PATTERN = r"(?:19|20|21)\d\d"
_ISO = re.compile(rf"(?<![\d-])({_YEAR_PATTERN})[-/.](0[1-9]|1[0-2])(?:[-/.](0[1-9]|[12]\d|3[01]))?(?!\d)")
_COMPACT = re.compile(rf"(?<!\d)({_YEAR_PATTERN})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?!\d)")
_DAY_FIRST = re.compile(
    rf"(?<!\d)(\d{{1,2}})(?:st|nd|rd|th)?(?:\s+of)?[\s-]+({_MONTH_PATTERN})\.?\b(?:[\s,-]+({_YEAR_PATTERN})\b)?",
    re.IGNORECASE,
)
_MONTH_FIRST = re.compile(
    rf"\b({_MONTH_PATTERN})\.?\s+(?:(\d{{1,2}})(?:st|nd|rd|th)?\b(?!:))?(?:\s*,?\s*({_YEAR_PATTERN})\b)?", re.IGNORECASE
)
_WORDS_LIKE_MONTHS = ("march", "may", "august")
_MONTH_ALONE = re.compile(
    rf"\b((?i:{'|'.join(name for name in _MONTHS if name not in _WORDS_LIKE_MONTHS)})|March|MARCH|August|AUGUST)\b"
)
_MIN_MILLISECONDS = 10**11  # a number above this is in milliseconds, one below in seconds


@dataclass(frozen=True, slots=True)
class DateMention:
    """A date mentioned in a text; a missing year or day is None."""

    year: int | None
    month: int
    day: int | None

    def match_level(self, when: date) -> int:
        """Return 2 if the day matches, 1 if only the month matches, 0 otherwise. A missing year matches any year."""
        if self.month != when.month or self.year not in (None, when.year):
            return 0
        return 2 if self.day == when.day else 1

    @property
    def ordinal(self) -> int | None:
        """Return the proleptic Gregorian ordinal of the day; None if the date is incomplete or does not exist."""
        if self.year is None or self.day is None:
            return None
        try:
            return date(self.year, self.month, self.day).toordinal()
        except ValueError:
            return None


def find_dates(text: str) -> list[DateMention]:
    """Return every date in a text in order.

    Forms: `2023-05-08`, `20230508`, `8 May 2023`, `May 8th, 2023`, `in July`, `2023-05`.
    """
    return [mention for _, mention in find_date_spans(text)]


def find_date_spans(text: str) -> list[tuple[tuple[int, int], DateMention]]:
    """Return (span, date) of every date in a text in order, in the forms of `find_dates`."""
    dates: dict[tuple[int, int], DateMention] = {}
    used = bytearray(len(text))  # characters that belong to a date

    def add(span: tuple[int, int], year: str | None, month: str, day: str | None) -> None:
        if not any(used[slice(*span)]):
            used[slice(*span)] = b"\1" * (span[1] - span[0])
            number = _MONTH_NUMBERS.get(month.lower()) or int(month)
            day_number = int(day) if day and 1 <= int(day) <= 31 else None
            dates[span] = DateMention(int(year) if year else None, number, day_number)

    for match in _ISO.finditer(text):
        add(match.span(), match[1], match[2], match[3])
    for match in _COMPACT.finditer(text):
        add(match.span(), match[1], match[2], match[3])
    for match in _DAY_FIRST.finditer(text):
        add(match.span(), match[3], match[2], match[1])
    for match in _MONTH_FIRST.finditer(text):
        if match[2] or match[3]:
            add(match.span(), match[3], match[1], match[2])
    for match in _MONTH_ALONE.finditer(text):
        add(match.span(), None, match[1], None)
    return sorted(dates.items(), key=lambda item: item[0])


def find_first_day(text: str) -> int | None:
    """Return the first complete date in a text as a proleptic Gregorian ordinal; None without one."""
    return next((day for mention in find_dates(text) if (day := mention.ordinal) is not None), None)


def parse_day(value: object) -> int | None:
    """Return the day in a record's field as a proleptic Gregorian ordinal; None if it contains none.

    The field is a number of seconds or milliseconds since the epoch, or text with a date in its first 80 characters.
    """
    if isinstance(value, str):
        return find_first_day(value[:80])
    if isinstance(value, int | float) and not isinstance(value, bool) and 10**8 < value < 10**13:
        seconds = value / 1000 if value > _MIN_MILLISECONDS else value
        return datetime.fromtimestamp(seconds, UTC).date().toordinal()
    return None
