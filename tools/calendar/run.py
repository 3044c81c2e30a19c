"""Resolve dates in words by rules.

Input: JSON on stdin. Output: a line for each date with date, weekday, days from today, and words.
"""

import calendar
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta

_DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
_MONTHS = "january february march april may june july august september october november december".split()
_NUMBERS = {
    word: number
    for number, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
}
_NUMBERS |= {"a": 1, "an": 1}
_DAY = rf"(?P<day>{'|'.join(f'{name[:3]}(?:{name[3:]})?' for name in _DAYS)}|tues|thur|thurs)"
_MONTH = rf"(?P<month>{'|'.join(f'{name[:3]}(?:{name[3:]})?' if len(name) > 3 else name for name in _MONTHS)}|sept)\.?"
_COUNT = rf"(?P<count>\d{{1,5}}|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})"
_UNIT = r"(?P<unit>day|week|fortnight|month|year|working day|business day|weekday)s?"
_ISO = r"(?P<year>\d{4})-(?P<number>\d{1,2})-(?P<mday>\d{1,2})"
_ORDINAL = r"(?P<mday>\d{1,2})(?:st|nd|rd|th)?"

MAX_CHARACTERS = 20_000
MAX_DATES = 1000

Found = re.Match[str]


def main() -> int:
    """Print the dates of the text; return exit code 1, with the reason on stderr, if there is none."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    asked = json.loads(sys.stdin.buffer.read() or b"{}")
    if len(str(asked["text"])) > MAX_CHARACTERS:
        print(f"calendar: the text has more than {MAX_CHARACTERS} characters", file=sys.stderr)
        return 1
    try:
        today = date.fromisoformat(asked["today"]) if asked.get("today") else datetime.now(UTC).astimezone().date()
    except ValueError:
        print("calendar: today is written YYYY-MM-DD", file=sys.stderr)
        return 1
    found = list(itertools.islice(dates(str(asked["text"]), today), MAX_DATES))
    for words, day in found:
        print(f"{day.isoformat()}\t{_DAYS[day.weekday()].capitalize()}\t{(day - today).days:+d}\t{words}")
    if not found:
        print("calendar: no date is meant there", file=sys.stderr)
    return 0 if found else 1


def dates(text: str, today: date) -> Iterator[tuple[str, date]]:
    """Yield (words, date) in the order of the text; impossible dates, such as the 31st of February, are skipped."""
    at = 0
    ahead: list[Found | None] = [pattern.search(text) for pattern, _ in _RULES]
    while at < len(text):
        best: tuple[int, int, date] | None = None
        for number, (pattern, meant) in enumerate(_RULES):
            match = ahead[number]
            if match is not None and match.start() < at:  # a match stays valid until its start is passed
                match = ahead[number] = pattern.search(text, at)
            if match is None or (best is not None and (match.start(), -match.end()) >= (best[0], -best[1])):
                continue
            try:
                best = match.start(), match.end(), meant(match, today)
            except (ValueError, OverflowError):
                continue
        if best is None:
            return
        end, day = _shifted(text, best[1], best[2])
        yield " ".join(text[best[0] : end].split()), day
        at = max(end, best[1])


def _shifted(text: str, end: int, day: date) -> tuple[int, date]:
    """Return (end, date) with the terms after a date added: `2026-11-20 + 90 days`."""
    more = re.compile(rf"\s*(?P<sign>\+|-|plus|minus)\s*{_COUNT}\s+{_UNIT}", re.IGNORECASE)
    while match := more.match(text, end):
        number = _count(match["count"]) * (-1 if match["sign"].lower() in ("-", "minus") else 1)
        try:
            end, day = match.end(), added(day, number, match["unit"])
        except (ValueError, OverflowError):
            break
    return end, day


def added(day: date, number: int, unit: str) -> date:
    """Return the date that many units later; a day beyond the end of the month becomes its last day."""
    unit = unit.lower()
    if unit in ("working day", "business day", "weekday"):
        step = 1 if number >= 0 else -1
        weeks, rest = divmod(abs(number) - 1, 5) if number else (0, 0)
        day += timedelta(weeks=weeks * step)
        for _ in range(rest + 1 if number else 0):
            day += timedelta(days=step)
            while day.weekday() > 4:
                day += timedelta(days=step)
        return day
    if unit in ("month", "year"):
        months = day.year * 12 + day.month - 1 + number * (12 if unit == "year" else 1)
        year, month = divmod(months, 12)
        return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))
    return day + timedelta(days=number * {"day": 1, "week": 7, "fortnight": 14}[unit])


def _count(word: str) -> int:
    return int(word) if word.isdecimal() else _NUMBERS[word.lower()]


def _weekday(word: str) -> int:
    return next(number for number, name in enumerate(_DAYS) if name.startswith(word.lower()[:3]))


def _month(word: str) -> int:
    return next(number for number, name in enumerate(_MONTHS, 1) if name.startswith(word.lower()[:3]))


def _dated(match: Found, today: date) -> date:
    """Return a day and month; without a year the next one, including today. Raises ValueError if there is none."""
    month, day = _month(match["month"]), int(match["mday"])
    if match["year"]:
        return date(int(match["year"]), month, day)
    for year in range(today.year, today.year + 9):  # the next 29th of February may be eight years away
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if found >= today:
            return found
    raise ValueError


def _named_day(match: Found, today: date) -> date:
    """Return the date of a weekday.

    `Friday` and `this Friday` are the next one, including today; `next Friday` is that of next week; `last Friday` is
    the latest one before today.
    """
    word, wanted = (match["which"] or "").lower(), _weekday(match["day"])
    ahead = (wanted - today.weekday()) % 7
    if word == "last":
        return today - timedelta(days=(today.weekday() - wanted) % 7 or 7)
    if word == "next":
        return today + timedelta(days=wanted - today.weekday() + 7)
    return today + timedelta(days=ahead)


def _edge(match: Found, today: date) -> date:
    """Return the first or last day of a month, a quarter, a year or a week."""
    last = match["edge"].lower() not in ("start", "beginning", "first day")
    shift = {"next": 1, "last": -1}.get((match["which"] or "").lower(), 0)
    what = match["what"].lower()
    if what == "week":
        monday = today - timedelta(days=today.weekday()) + timedelta(weeks=shift)
        return monday + timedelta(days=6 if last else 0)
    if what == "year":
        return date(today.year + shift, 12 if last else 1, 31 if last else 1)
    if what == "quarter":
        first = added(date(today.year, (today.month - 1) // 3 * 3 + 1, 1), 3 * shift, "month")
        return added(first, 3, "month") - timedelta(days=1) if last else first
    if what == "month":
        month = added(today.replace(day=1), shift, "month")
    else:
        number = _month(what)
        year = int(match["year"]) if match["year"] else today.year + (number < today.month)
        month = date(year, number, 1)
    return month.replace(day=calendar.monthrange(month.year, month.month)[1]) if last else month


def _nth(match: Found, today: date) -> date:
    """Return a weekday of a month by its ordinal, such as the second Tuesday of March 2027.

    Raises ValueError if there is none.
    """
    nth = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": -1}[match["nth"].lower()]
    month = _month(match["month"])
    year = int(match["year"]) if match["year"] else today.year + (month < today.month)
    days = [week[_weekday(match["day"])] for week in calendar.monthcalendar(year, month)]
    found = [day for day in days if day]
    return date(year, month, found[nth - 1 if nth > 0 else -1]) if abs(nth) <= len(found) else date(year, month, 0)


def _relative(match: Found, today: date) -> date:
    number = _count(match["count"])
    return added(today, number if match["ahead"] else -number, match["unit"])


def _rule(pattern: str, meant: Callable[[Found, date], date]) -> tuple[re.Pattern[str], Callable[[Found, date], date]]:
    return re.compile(rf"(?<![\w-]){pattern}(?![\w-])", re.IGNORECASE), meant


_WHICH = r"(?:(?P<which>this|next|last)\s+)?"
_YEAR = r"(?:,?\s+(?P<year>\d{4}))?"
_RULES = [
    _rule(_ISO, lambda match, _: date(int(match["year"]), int(match["number"]), int(match["mday"]))),
    _rule(rf"{_ORDINAL}\s+(?:of\s+)?{_MONTH}{_YEAR}", _dated),
    _rule(rf"{_MONTH}\s+{_ORDINAL}{_YEAR}", _dated),
    _rule(rf"(?:the\s+)?(?P<nth>first|second|third|fourth|fifth|last)\s+{_DAY}\s+(?:of|in)\s+{_MONTH}{_YEAR}", _nth),
    _rule(
        rf"(?:the\s+)?(?P<edge>start|beginning|end|first day|last day)\s+of\s+(?:the\s+)?{_WHICH}"
        rf"(?P<what>week|month|quarter|year|{'|'.join(_MONTHS)}){_YEAR}",
        _edge,
    ),
    _rule(rf"in\s+{_COUNT}\s+{_UNIT}", lambda match, today: added(today, _count(match["count"]), match["unit"])),
    _rule(rf"{_COUNT}\s+{_UNIT}\s+(?:(?P<ahead>from\s+(?:now|today)|later|ahead)|ago)", _relative),
    _rule(rf"{_WHICH}{_DAY}", _named_day),
    _rule(r"(?:the\s+)?day after tomorrow", lambda _, today: today + timedelta(days=2)),
    _rule(r"(?:the\s+)?day before yesterday", lambda _, today: today - timedelta(days=2)),
    _rule(r"tomorrow", lambda _, today: today + timedelta(days=1)),
    _rule(r"yesterday", lambda _, today: today - timedelta(days=1)),
    _rule(r"(?:today|tonight|now)", lambda _, today: today),
    _rule(
        r"(?P<which>next|last)\s+(?P<unit>week|month|year)",
        lambda match, today: added(today, 1 if match["which"].lower() == "next" else -1, match["unit"]),
    ),
]


if __name__ == "__main__":
    sys.exit(main())
