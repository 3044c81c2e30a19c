"""Chats as text: exports of WhatsApp and other messengers, and logs of IRC clients, cut into messages. Pure.

A message begins with a stamp and an author in one of the forms of the clients. Lines without a stamp continue it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from ctxfs.index.extract.blocks import Block
from ctxfs.index.extract.dates import find_first_day

HEAD_CHARACTERS = 8_000
_MAX_HEAD_LINES = 200
_MIN_MESSAGES = 3
_MIN_STAMPED_SHARE = 0.5
_MIN_BARE_SHARE = 0.6  # of lines with no more than a nick in angle brackets
_MAX_DAY_LINE_CHARACTERS = 100

_MARKS = r"[\u200e\u200f\u202a-\u202e\ufeff]*"
_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
_TIME = r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\.\d{1,6})?(?:[\s\u202f]?[AaPp]\.?\s?[Mm]\.?)?"
_AUTHOR = r"(?P<author>[^\s:<>\[\]][^:<>\n]{0,58}?)"
_NICK = r"<[@+%&~! ]?(?P<author>[^<>\s]{1,40})>"
_IRC_DATE = rf"(?P<date>{_DATE}|[A-Z][a-z]{{2}} {{1,2}}\d{{1,2}})[T ,]{{1,2}}"
_IRC_STAMP = rf"[\[(]?(?:{_IRC_DATE})?{_TIME}[+-]?[\d:]{{0,5}}Z?[\])]?[\s|]{{1,4}}"
_IRC_ACTION = r"\*\s{1,2}(?P<actor>[^\s*<>]{1,40})\s"
_IRC_NOTICE = r"(?:\*{2,3}|-!-|--?>|<--?|--)\s"
_LEVELS = frozenset("critical debug error fatal info notice trace warn warning".split())
_DAY_LINE = re.compile(
    r"(?:--- |\*{2,4} |Session |-!- |={1,10} ?)?"
    r"(?:Log opened|Day changed|Session (?:Start|Time)|Start|Time|BEGIN LOGGING|Conversation with|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)|"
    r"\d{4}[./-])",
    re.IGNORECASE,
)
_TIME_BEFORE_YEAR = re.compile(r" \d{1,2}:\d{2}(?::\d{2})?(?= \d{4})")


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of messages: `message` has the group `author`, which is absent in notices of the system."""

    message: re.Pattern[str]
    min_share: float
    min_authors: int = 1
    excludes: str = ""  # a text in the head that no file of the form has


_FORMS = (
    # WhatsApp: `12/31/23, 10:10 PM - Bob: …`
    _Form(re.compile(rf"{_MARKS}(?P<date>{_DATE}),?\s{_TIME}\s[-\u2013]\s(?:{_AUTHOR}:(?:\s|$))?"), 0.1),
    # WhatsApp on iOS, Skype: `[31.12.23, 22:10:05] Bob: …`
    _Form(re.compile(rf"{_MARKS}\[(?P<date>{_DATE}),\s{_TIME}\]\s{_MARKS}(?:{_AUTHOR}:(?:\s|$))?"), 0.1),
    _Form(re.compile(rf"\[(?P<date>\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}})\s{_TIME}\]\s(?:{_AUTHOR}:(?:\s|$))"), 0.1),
    # Discord: `[08/05/2023 12:00] bob` above the message
    _Form(re.compile(rf"\[(?P<date>{_DATE})\s{_TIME}\]\s(?P<author>[^\s:<>\[\]][^:<>\n]{{0,40}})(?: \(pinned\))?\r?$"), 0.1),
    # Pidgin: `(12:00:05) Bob: …`
    _Form(re.compile(rf"\((?:(?P<date>{_DATE})\s)?{_TIME}\)\s{_AUTHOR}:(?:\s|$)"), 0.3),
    # Zoom: `10:05:22 From Ann to Everyone: …`
    _Form(re.compile(rf"(?:(?P<date>{_DATE})\s)?{_TIME}\s+From\s+{_AUTHOR}\s+to\s+[^:\n]{{1,60}}:"), 0.1),
    # KakaoTalk: `[Bob] [3:21 PM] …`
    _Form(re.compile(rf"\[(?P<author>[^\[\]\n]{{1,40}})\]\s\[(?:[^\W\d]{{2}}\s)?{_TIME}\]\s"), 0.1),
    # IRC: `[12:00] <bob> …`, `2023-05-08 12:00:05 * bob waves`
    _Form(re.compile(rf"{_IRC_STAMP}(?:{_NICK}(?:\s|$)|{_IRC_ACTION}|{_IRC_NOTICE})"), _MIN_STAMPED_SHARE),
    # WeeChat, LINE: `2023-05-08 12:00:05⇥bob⇥…`
    _Form(re.compile(rf"(?:(?P<date>{_DATE})[T ])?{_TIME}\t[@+%&~ ]?(?P<author>[^\t<>:]{{1,40}})\t"), _MIN_STAMPED_SHARE),
    _Form(re.compile(rf"{_NICK}\s"), _MIN_BARE_SHARE, min_authors=2, excludes="</"),
)  # fmt: skip


class ChatLog:
    """A recognised form of a chat."""

    def __init__(self, form: _Form) -> None:
        self._form = form

    def find_messages(self, lines: Sequence[str]) -> list[Block]:
        """Return a block for each message, with author and day. Lines before the first message are a block, too."""
        starts = list(self._find_starts(lines))
        is_day_first = _is_day_first([stamp for _, _, stamp, _ in starts if stamp])
        if not starts or starts[0][0]:
            starts.insert(0, (0, "", "", False))
        blocks: list[Block] = []
        day: int | None = None
        for index, (start, author, stamp, is_day_line) in enumerate(starts):
            end = starts[index + 1][0] if index + 1 < len(starts) else len(lines)
            own_day = _find_line_day(lines[start]) if is_day_line else _parse_day(stamp, is_day_first)
            day = own_day if own_day is not None else day
            blocks.append(Block(start, end, "", None, True, author[:80], day))
        return blocks

    def _find_starts(self, lines: Sequence[str]) -> Iterator[tuple[int, str, str, bool]]:
        """Yield (line, author, date, whether it only gives a day) of each message, notice and change of the day."""
        for number, line in enumerate(lines):
            head = line[:200]
            if match := self._form.message.match(head):
                groups = match.groupdict()
                yield number, groups.get("author") or groups.get("actor") or "", groups.get("date") or "", False
            elif len(line) <= _MAX_DAY_LINE_CHARACTERS and _DAY_LINE.match(line) and _find_line_day(line):
                yield number, "", "", True


def detect_chat_log(text: str) -> ChatLog | None:
    """Return the form of a chat by the beginning of its text; None if it is none."""
    head = text[:HEAD_CHARACTERS]
    lines = [line for line in head.split("\n") if line.strip()][:_MAX_HEAD_LINES]
    for form in _FORMS:
        matches = [match for line in lines if (match := form.message.match(line[:200]))]
        authors = Counter(match.groupdict()["author"] for match in matches)
        authors.pop(None, 0)
        count = authors.total()
        if count < _MIN_MESSAGES and not (count and count == len(lines) == 2):
            continue
        if len(matches) < form.min_share * len(lines) or (form.excludes and form.excludes in head):
            continue
        levels = sum(number for author, number in authors.items() if author.lower() in _LEVELS)
        # A log names many components once; a chat has few authors, or many messages of each.
        if levels * 2 > count or len(authors) < form.min_authors:
            continue
        return ChatLog(form)
    return None


def _find_line_day(line: str) -> int | None:
    return find_first_day(_TIME_BEFORE_YEAR.sub("", line[:_MAX_DAY_LINE_CHARACTERS]))


def _is_day_first(stamps: Sequence[str]) -> bool:
    """Return True if the dates have the day before the month: by a number above 12, else unless they have slashes."""
    pairs = [re.split(r"[./-]", stamp) for stamp in stamps[:2_000]]
    numbers = [(int(parts[0]), int(parts[1])) for parts in pairs if len(parts) == 3 and all(map(str.isdigit, parts))]
    if any(first > 12 for first, _ in numbers if first < 32):
        return True
    if any(second > 12 for _, second in numbers):
        return False
    return not any("/" in stamp for stamp in stamps[:1])


def _parse_day(stamp: str, is_day_first: bool) -> int | None:
    """Return the day of a stamp as a proleptic Gregorian ordinal; None if it has no full date."""
    parts = re.split(r"[./-]", stamp)
    if len(parts) != 3 or not all(map(str.isdigit, parts)):
        return None
    first, second, third = (int(part) for part in parts)
    if first > 31:
        year, month, day = first, second, third
    else:
        month, day = (second, first) if is_day_first else (first, second)
        year = third if third > 99 else 2000 + third
    try:
        return date(year, month, day).toordinal() if 1900 <= year < 2200 else None
    except ValueError:
        return None
