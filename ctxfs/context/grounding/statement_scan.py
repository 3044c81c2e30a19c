"""Words and values of a sentence as tokens: dates, clocks, identifiers, versions, quantities, names, words. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from sys import intern
from typing import Literal

from ctxfs.context.grounding import statement_words as words
from ctxfs.context.grounding.quantities import Quantity, find_quantities, quantity_text
from ctxfs.index.extract.dates import DateMention, find_date_spans

Kind = Literal["word", "light", "name", "quantity", "date", "version", "clock"]
Role = Literal["subject", "scope", "value"]

_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{2,}")
_CLOCK = re.compile(r"(?<![\w:.])(\d{1,2})(?::(\d{2})(?::\d{2})?\s?([ap]\.?m\b)?|\s?([ap]\.?m\b))", re.IGNORECASE)
_WEEKDAY = re.compile(r"\b(mon|tues|wednes|thurs|fri|satur|sun)days?\b", re.IGNORECASE)
# Abbreviations are words in other positions: "Sat" and "Sun" count behind a word such as "every" only.
_SHORT_WEEKDAY = re.compile(r"(?<=[\w:,]\s)(?:(Mon|Tue|Wed|Thu|Fri)s?|(Thur)s?)\b|(?<=(?:on|ry|ch)\s)(Sat|Sun)\b")
_DOTTED_DATE = re.compile(r"(?<![\w.])(0?[1-9]|[12]\d|3[01])\.\s?(0?[1-9]|1[0-2])\.\s?((?:19|20)\d\d)(?![\w.]\d)")
_VERSION = re.compile(r"(?<![\w.])v?\d+(?:\.\d+){2,}(?:[-+][\w.]+)?\b|\bv\d+(?:\.\d+)*\b")
_IDENTIFIER = re.compile(
    r"(?<![\w/.-])(?:https?://\S+|~?/?[^\W\d]\w*(?:[./:@#_-]+\w+)*(?:\(\))?/?)|(?<![\w.])[0-9a-f]{7,40}(?![\w.])"
)
_WORD = re.compile(r"[^\W\d_][\w'’]*")
_CONTRACTED = re.compile(r"(?:n't|'s|'re|'ve|'ll|'d|'m)$")


@dataclass(frozen=True, slots=True)
class Token:
    """A content word, name or value; statements are compared by `key`. `before` is the word before it, `index` its sequence number.

    `preposition` is the one that governs it; empty without one.
    """

    kind: Kind
    key: str
    text: str
    start: int
    index: int = 0
    before: str = ""
    preposition: str = ""
    role: Role = "value"
    is_aside: bool = False
    is_label: bool = False
    quantity: Quantity | None = None
    date: DateMention | None = None


@dataclass(slots=True)
class Scan:
    """Tokens of one text as they are found, with the words before each."""

    text: str
    masked: list[str]
    tokens: list[Token] = field(default_factory=list)

    def take(self, start: int, end: int) -> None:
        """Mask a span, so that it is scanned no further."""
        self.masked[start:end] = " " * (end - start)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of any kind with its offset."""

    text: str
    lower: str
    start: int


def scan_values(scan: Scan) -> None:
    """Take dates, clocks, weekdays, identifiers, versions and quantities out of the text, in this order."""
    dotted = [
        (match.span(), DateMention(int(match[3]), int(match[2]), int(match[1])))
        for match in _DOTTED_DATE.finditer(scan.text)
    ]
    for (start, end), date in (*find_date_spans(scan.text), *dotted):
        key = f"{date.year or ''}-{date.month}-{date.day or ''}"
        scan.tokens.append(Token("date", key, scan.text[start:end], start, date=date))
        scan.take(start, end)
    _scan_clocks(scan)
    rest = "".join(scan.masked)
    for match in _VERSION.finditer(rest):
        scan.tokens.append(Token("version", match[0].lstrip("v"), match[0], match.start()))
        scan.take(*match.span())
    rest = "".join(scan.masked)
    for match in _IDENTIFIER.finditer(rest):
        if key := _identifier_key(match[0]):
            scan.tokens.append(Token("name", key, match[0], match.start()))
            scan.take(*match.span())
    rest = "".join(scan.masked)
    for quantity in find_quantities(rest):
        key = f"{quantity.number}{quantity.dimension}"
        scan.tokens.append(Token("quantity", key, quantity_text(rest, quantity), quantity.start, quantity=quantity))
        scan.take(quantity.start, quantity.end)


def _scan_clocks(scan: Scan) -> None:
    rest = "".join(scan.masked)
    for match in _CLOCK.finditer(rest):
        hour, minute = int(match[1]), int(match[2] or 0)
        half = (match[3] or match[4] or "").lower()[:1]
        if hour > 24 or minute > 59 or (half and hour > 12):
            continue
        hour = hour % 12 + 12 * (half == "p") if half else hour
        scan.tokens.append(Token("clock", f"{hour}:{minute:02}", match[0], match.start()))
        scan.take(*match.span())
    for pattern in (_WEEKDAY, _SHORT_WEEKDAY):
        for match in pattern.finditer("".join(scan.masked)):
            name = next(group for group in match.groups() if group)
            scan.tokens.append(Token("clock", name[:3].lower(), match[0], match.start()))
            scan.take(*match.span())


def _identifier_key(text: str) -> str:
    """Return the key of an identifier, path or address; empty for words and their compounds with a hyphen or one slash."""
    body = text.rstrip(".:/-").removesuffix("()")
    inner = body[1:]
    if any(mark in body for mark in "@_") or any(character.isdigit() for character in body):
        return text.rstrip(".:").lower()
    if text.endswith("()") or "." in inner or ":" in inner or "/" in body[:1] or body.count("/") > 1:
        return text.rstrip(".:").lower() if body.lower() not in ("e.g", "i.e", "a.m", "p.m", "u.s", "etc") else ""
    is_camel = (
        any(character.isupper() for character in inner) and not body.isupper() and "-" not in body and "/" not in body
    )
    return body.lower() if is_camel else ""


def scan_words(scan: Scan) -> list[Word]:
    """Add the content words and names; return all words in order, the function words included."""
    rest = "".join(scan.masked)
    vocabulary: list[Word] = []
    for match in _WORD.finditer(rest):
        word = _CONTRACTED.sub("", match[0].replace("’", "'").rstrip("'"))
        lowered = match[0].lower().replace("’", "'")
        vocabulary.append(Word(match[0], intern(lowered), match.start()))
        base = word.lower().removesuffix("n") if lowered.endswith("n't") else word.lower()
        is_letter = len(word) == 1 and word.isupper() and word != "I" and match.start() > 0  # "from A to B"
        if not is_letter and (not base or base in words.FUNCTION_WORDS or lowered in words.AUXILIARIES):
            continue
        scan.tokens += _word_tokens(word, base, match.start(), starts_text=not rest[: match.start()].strip(' "('))
    vocabulary += [
        Word(token.text, token.key, token.start)
        for token in scan.tokens
        if token.kind == "name" and not _WORD.fullmatch(token.text)
    ]
    vocabulary.sort(key=lambda word: word.start)
    return vocabulary


def _word_tokens(word: str, base: str, start: int, *, starts_text: bool) -> Iterator[Token]:
    if _UNSPACED.search(word):
        for offset in range(len(word) - 1):
            yield Token("word", word[offset : offset + 2], word[offset : offset + 2], start + offset)
        return
    key = words.word_stem(base)
    is_name = not word.islower() and (not starts_text or not word[1:].islower())
    if is_name:
        yield Token("name", intern(key), intern(word), start)
    else:
        yield Token("light" if key in words.FILLERS else "word", intern(key), intern(word), start)
