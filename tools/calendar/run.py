"""Resolve dates in words by rules.

Input: JSON on stdin. Output: a line for each date with date, weekday, days from today, and words. A date of which only a part
could be read ("every other Friday") is not printed, but named on stderr, and the exit code is 1.
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

Match = re.Match[str]


def main() -> int:
    """Print the dates of the text; return exit code 1, with the reason on stderr, if there is none."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper
    arguments = json.loads(sys.stdin.buffer.read() or b"{}")
    if len(str(arguments["text"])) > MAX_CHARACTERS:
        print(f"calendar: the text has more than {MAX_CHARACTERS} characters", file=sys.stderr)
        return 1
    try:
        today = (
            date.fromisoformat(arguments["today"]) if arguments.get("today") else datetime.now(UTC).astimezone().date()
        )
    except ValueError:
        print("calendar: today is written YYYY-MM-DD", file=sys.stderr)
        return 1
    matches = list(itertools.islice(dates(str(arguments["text"]), today), MAX_DATES))
    for words, day in matches:
        if day is None:
            print(f"calendar: not understood: {words}", file=sys.stderr)
        else:
            print(f"{day.isoformat()}\t{_DAYS[day.weekday()].capitalize()}\t{(day - today).days:+d}\t{words}")
    if not matches:
        print("calendar: no date is meant there", file=sys.stderr)
    return 0 if matches and all(day is not None for _, day in matches) else 1


def dates(text: str, today: date) -> Iterator[tuple[str, date | None]]:
    """Yield (words, date) in the order of the text; None for words of which only a part is a date that the rules know.

    Impossible dates, such as the 31st of February, are skipped.
    """
    offset = 0
    next_matches: list[Match | None] = [pattern.search(text) for pattern, _ in _RULES]
    while offset < len(text):
        best: tuple[int, int, date] | None = None
        for number, (pattern, resolve) in enumerate(_RULES):
            match = next_matches[number]
            if match is not None and match.start() < offset:  # a match stays valid until its start is passed
                match = next_matches[number] = pattern.search(text, offset)
            if match is None or (best is not None and (match.start(), -match.end()) >= (best[0], -best[1])):
                continue
            try:
                best = match.start(), match.end(), resolve(match, today)
            except (ValueError, OverflowError):
                continue
        if best is None:
            return
        start, day = _add_distances(text, offset, best[0], best[2])
        end, day = _add_terms(text, best[1], day)
        first, last = _extend_unread(text, offset, start, end)
        is_read = (first, last) == (start, end)
        yield " ".join(text[first:last].split()), day if is_read else None
        offset = last


def _add_distances(text: str, offset: int, start: int, day: date) -> tuple[int, date]:
    """Return (start, date) with the distances before a date added: `two weeks from Friday`, `the day before 1 March`."""
    while match := _DISTANCE.search(text[max(offset, start - _DISTANCE_CHARS) : start]):
        sign = -1 if match["direction"].lower() == "before" else 1
        try:
            for term in _TERM.finditer(match["terms"]):
                day = add_units(day, sign * _parse_count(term["count"] or "a"), term["unit"])
        except (ValueError, OverflowError):
            break
        start -= len(match[0])
    return start, day


def _extend_unread(text: str, offset: int, start: int, end: int) -> tuple[int, int]:
    """Return the bounds of a date with the words of time beside it that no rule has read."""
    before = _UNREAD_BEFORE.search(text[max(offset, start - _DISTANCE_CHARS) : start])
    after = _UNREAD_AFTER.match(text, end)
    return start - (len(before[0]) if before else 0), after.end() if after else end


def _add_terms(text: str, end: int, day: date) -> tuple[int, date]:
    """Return (end, date) with the terms after a date added: `2026-11-20 + 90 days`."""
    pattern = re.compile(rf"\s*(?P<sign>\+|-|plus|minus)\s*{_COUNT}\s+{_UNIT}", re.IGNORECASE)
    while match := pattern.match(text, end):
        number = _parse_count(match["count"]) * (-1 if match["sign"].lower() in ("-", "minus") else 1)
        try:
            end, day = match.end(), add_units(day, number, match["unit"])
        except (ValueError, OverflowError):
            break
    return end, day


def add_units(day: date, number: int, unit: str) -> date:
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


def _parse_count(word: str) -> int:
    return int(word) if word.isdecimal() else _NUMBERS[word.lower()]


def _parse_weekday(word: str) -> int:
    return next(number for number, name in enumerate(_DAYS) if name.startswith(word.lower()[:3]))


def _parse_month(word: str) -> int:
    return next(number for number, name in enumerate(_MONTHS, 1) if name.startswith(word.lower()[:3]))


def _resolve_month_day(match: Match, today: date) -> date:
    """Return a day and month; without a year the next one, including today. Raises ValueError if there is none."""
    month, day = _parse_month(match["month"]), int(match["mday"])
    if match["year"]:
        return date(int(match["year"]), month, day)
    for year in range(today.year, today.year + 9):  # the next 29th of February may be eight years away
        try:
            day_of_year = date(year, month, day)
        except ValueError:
            continue
        if day_of_year >= today:
            return day_of_year
    raise ValueError


def _resolve_weekday(match: Match, today: date) -> date:
    """Return the date of a weekday.

    `Friday` and `this Friday` are the next one, including today; `next Friday` is that of next week; `last Friday` is
    the latest one before today.
    """
    word, weekday = (match["which"] or "").lower(), _parse_weekday(match["day"])
    days_ahead = (weekday - today.weekday()) % 7
    if word == "last":
        return today - timedelta(days=(today.weekday() - weekday) % 7 or 7)
    if word == "next":
        return today + timedelta(days=weekday - today.weekday() + 7)
    return today + timedelta(days=days_ahead)


def _resolve_edge(match: Match, today: date) -> date:
    """Return the first or last day of a month, a quarter, a year or a week."""
    is_last = match["edge"].lower() not in ("start", "beginning", "first day")
    shift = {"next": 1, "last": -1}.get((match["which"] or "").lower(), 0)
    unit = match["what"].lower()
    if unit == "week":
        monday = today - timedelta(days=today.weekday()) + timedelta(weeks=shift)
        return monday + timedelta(days=6 if is_last else 0)
    if unit == "year":
        return date(today.year + shift, 12 if is_last else 1, 31 if is_last else 1)
    if unit == "quarter":
        first = add_units(date(today.year, (today.month - 1) // 3 * 3 + 1, 1), 3 * shift, "month")
        return add_units(first, 3, "month") - timedelta(days=1) if is_last else first
    if unit == "month":
        month = add_units(today.replace(day=1), shift, "month")
    else:
        number = _parse_month(unit)
        year = int(match["year"]) if match["year"] else today.year + (number < today.month)
        month = date(year, number, 1)
    return month.replace(day=calendar.monthrange(month.year, month.month)[1]) if is_last else month


def _resolve_nth_weekday(match: Match, today: date) -> date:
    """Return a weekday of a month by its ordinal, such as the second Tuesday of March 2027.

    Raises ValueError if there is none.
    """
    ordinal = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": -1}[match["nth"].lower()]
    if match["relative"]:
        shift = {"next": 1, "last": -1}.get(match["which"].lower(), 0)
        first = add_units(today.replace(day=1), shift, "month")
        year, month = first.year, first.month
    else:
        month = _parse_month(match["month"])
        year = int(match["year"]) if match["year"] else today.year + (month < today.month)
    days = [week[_parse_weekday(match["day"])] for week in calendar.monthcalendar(year, month)]
    matching_days = [day for day in days if day]
    return (
        date(year, month, matching_days[ordinal - 1 if ordinal > 0 else -1])
        if abs(ordinal) <= len(matching_days)
        else date(year, month, 0)
    )


def _resolve_relative(match: Match, today: date) -> date:
    number = _parse_count(match["count"])
    return add_units(today, number if match["ahead"] else -number, match["unit"])


def _add_all(day: date, terms: str) -> date:
    for term in _TERM.finditer(terms):
        day = add_units(day, _parse_count(term["count"]), term["unit"])
    return day


def _rule(
    pattern: str, resolve: Callable[[Match, date], date]
) -> tuple[re.Pattern[str], Callable[[Match, date], date]]:
    return re.compile(rf"(?<![\w-]){pattern}(?![\w-])", re.IGNORECASE), resolve


_ANY_COUNT, _ANY_UNIT, _ANY_MONTH = (re.sub(r"\?P<\w+>", "?:", part) for part in (_COUNT, _UNIT, _MONTH))
_TERMS = rf"(?:{_ANY_COUNT}\s+{_ANY_UNIT}(?:,?\s+and\s+|,\s*|\s+)?)"
_TERM = re.compile(rf"(?:{_COUNT}|the)\s+{_UNIT}(?![\w-])", re.IGNORECASE)
_DISTANCE = re.compile(
    rf"(?<![\w-])(?P<terms>{_TERMS}{{1,4}}|the\s+(?:day|week|month|year)\s+)(?P<direction>from|after|before)\s+(?:the\s+)?$",
    re.IGNORECASE,
)
_DISTANCE_CHARS = 120  # before a date, in which a distance from it is read
_TIME_WORD = r"(?:days?|weeks?|fortnights?|months?|quarters?|years?|weekends?|decades?|centur(?:y|ies))"
_UNREAD_BEFORE = re.compile(
    rf"(?<![\w-])(?:(?:every|each|alternate|half|mid|early|late)(?:[\s-]+(?:other|a|an|second|third))?[\s-]+"
    rf"|(?:(?:\d{{1,5}}\s?[-–]\s?)?{_ANY_COUNT}|the|a|half|several|few|some)\s+(?:\w+\s+){{0,2}}?{_TIME_WORD}\s+(?:\w+\s+){{0,2}}?)$",
    re.IGNORECASE,
)
_UNREAD_AFTER = re.compile(
    rf"\s+(?:(?:after|before)\s+(?:next|last)|of\s+(?:(?:this|next|last|the|each|every)\s+)*{_TIME_WORD}"
    rf"|(?:the\s+)?\d{{1,2}}(?:st|nd|rd|th)(?!\s+(?:of\s+)?{_ANY_MONTH})"
    rf"|{_TIME_WORD}(?:\s+(?:after|before|from|ago)(?:\s+\w+)?)?)(?![\w-])|\s*[-+]\s*\w+(?:\s+\w+)?",
    re.IGNORECASE,
)
_WHICH = r"(?:(?P<which>this|next|last)\s+)?"
_YEAR = r"(?:,?\s+(?P<year>\d{4}))?"
_RULES = [
    _rule(_ISO, lambda match, _: date(int(match["year"]), int(match["number"]), int(match["mday"]))),
    _rule(rf"{_ORDINAL}\s+(?:of\s+)?{_MONTH}{_YEAR}", _resolve_month_day),
    _rule(rf"{_MONTH}\s+{_ORDINAL}{_YEAR}", _resolve_month_day),
    _rule(
        rf"(?:the\s+)?(?P<nth>first|second|third|fourth|fifth|last)\s+{_DAY}\s+(?:of|in)\s+"
        rf"(?:{_MONTH}{_YEAR}|(?P<which>this|next|last|the)\s+(?P<relative>month))",
        _resolve_nth_weekday,
    ),
    _rule(
        rf"(?:the\s+)?(?P<edge>start|beginning|end|first day|last day)\s+of\s+(?:the\s+)?{_WHICH}"
        rf"(?P<what>week|month|quarter|year|{'|'.join(_MONTHS)}){_YEAR}",
        _resolve_edge,
    ),
    _rule(rf"in\s+(?P<terms>{_TERMS}{{1,4}})(?<=\w)", lambda match, today: _add_all(today, match["terms"])),
    _rule(rf"{_COUNT}\s+{_UNIT}\s+(?:(?P<ahead>from\s+(?:now|today)|later|ahead)|ago)", _resolve_relative),
    _rule(rf"{_WHICH}{_DAY}", _resolve_weekday),
    _rule(r"(?:the\s+)?day after tomorrow", lambda _, today: today + timedelta(days=2)),
    _rule(r"(?:the\s+)?day before yesterday", lambda _, today: today - timedelta(days=2)),
    _rule(r"tomorrow", lambda _, today: today + timedelta(days=1)),
    _rule(r"yesterday", lambda _, today: today - timedelta(days=1)),
    _rule(r"(?:today|tonight|now)", lambda _, today: today),
    _rule(
        r"(?P<which>next|last)\s+(?P<unit>week|month|year)",
        lambda match, today: add_units(today, 1 if match["which"].lower() == "next" else -1, match["unit"]),
    ),
]


if __name__ == "__main__":
    sys.exit(main())
