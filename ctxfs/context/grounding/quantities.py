"""Quantities of a sentence: numbers with sign, unit, rate and bound, and their comparison. Pure; English words.

A number of an unknown unit ("60 requests") is compared by its value alone. Two numbers of known units are compared in the
base unit of their dimension, so that 90 s equals 1.5 minutes and 1500 ms differs from 1500 s.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from fractions import Fraction
from typing import Literal

Bound = Literal["", "at least", "at most", "about"]

_GROUPS = ",\u202f\u00a0\u2009' "  # separators of groups of three digits
_NUMBER = re.compile(
    rf"(?<![\w.])(?P<sign>[-+\u2212]?)(?:(?P<grouped>\d{{1,3}}(?:[{_GROUPS}]\d{{3}})+(?:\.\d+)?)(?!\d)"
    r"|(?P<comma>\d+,\d{1,2})(?![\d,])|(?P<plain>\d+(?:\.\d+)?)(?!\d))"
)
_VERSION = re.compile(r"(?<![\w.])v?\d+(?:\.\d+){2,}\b|\bv\d+(?:\.\d+)*\b")
_DOTTED = re.compile(r"\d{1,3}(?:\.\d{3}){2,}")  # 1.200.000, in the notation of some languages
_DIGITS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * number for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)
}
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_SPELLED = re.compile(
    rf"\b(?:{'|'.join((*_DIGITS, *_TENS, *_SCALES))})(?:[\s-]+(?:and\s+)?(?:{'|'.join((*_DIGITS, *_TENS, *_SCALES))}))*\b",
    re.IGNORECASE,
)
_SCALE = re.compile(r"\s?(thousand|million|billion|trillion|dozen|mn|bn|k|M)\b")
_SHORT_SCALES = {**_SCALES, "k": 1000, "M": 10**6, "mn": 10**6, "bn": 10**9}

_TIME: dict[str, Fraction | int] = {
    "ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "µs": Fraction(1, 10**6), "ms": Fraction(1, 1000),
    "nanosecond": Fraction(1, 10**9), "microsecond": Fraction(1, 10**6), "millisecond": Fraction(1, 1000),
    "s": 1, "sec": 1, "second": 1, "min": 60, "minute": 60, "h": 3600, "hr": 3600, "hour": 3600,
    "d": 86_400, "day": 86_400, "week": 604_800,
}  # fmt: skip
_MONTHS = {"month": 1, "quarter": 3, "year": 12, "decade": 120}
_LENGTHS: dict[str, Fraction | int] = {
    "mm": Fraction(1, 1000), "cm": Fraction(1, 100), "km": 1000, "meter": 1, "metre": 1, "kilometer": 1000,
    "kilometre": 1000, "millimeter": Fraction(1, 1000), "centimeter": Fraction(1, 100), "inch": Fraction(254, 10_000),
    "foot": Fraction(3048, 10_000), "feet": Fraction(3048, 10_000), "mile": Fraction(1_609_344, 1000),
}  # fmt: skip
_MASSES: dict[str, Fraction | int] = {
    "mg": Fraction(1, 1000), "g": 1, "kg": 1000, "gram": 1, "kilogram": 1000, "tonne": 10**6,
    "pound": Fraction(45_359_237, 100_000), "lb": Fraction(45_359_237, 100_000), "ounce": Fraction(28_349_523, 10**6),
}  # fmt: skip
_PREFIXES = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_WORD_PREFIXES = {"": 0, "kilo": 1, "mega": 2, "giga": 3, "tera": 4, "peta": 5}
_OTHER_UNITS = (
    ("% percent", "percent"), ("°c celsius degreecelsius degreescelsius degreec degreesc", "celsius"),
    ("°f fahrenheit degreefahrenheit degreesfahrenheit degreef degreesf", "fahrenheit"), ("° degree", "degree"),
    ("$ usd us$ dollar usdollar usdollars", "dollar"), ("€ eur euro", "euro"), ("£ gbp sterling quid", "sterling"),
    ("chf franc", "franc"),("¥ jpy yen", "yen"), ("₹ INR rupee", "rupee"), ("CNY RMB yuan renminbi", "yuan"),
    ("SEK", "swedish krona"), ("NOK", "norwegian krone"), ("DKK", "danish krone"), ("PLN zł zloty", "zloty"),
    ("CZK koruna", "koruna"), ("BRL", "real"), ("₩ KRW", "won"), ("₺ TRY lira", "lira"), ("₽ RUB rouble ruble", "rouble"),
    ("CAD", "canadian dollar"), ("AUD", "australian dollar"), ("NZD", "new zealand dollar"), ("SGD", "singapore dollar"),
    ("HKD", "hong kong dollar"), ("MXN peso", "peso"), ("ZAR", "rand"),
)  # fmt: skip
CURRENCIES = frozenset(dimension for _, dimension in _OTHER_UNITS[4:])
# Units with two meanings: the readings beside a quantity of another dimension, with their factors.
_READINGS: Mapping[str, Mapping[str, int]] = {
    "m": {"length": 1, "time": 60},
    "pound": dict.fromkeys(CURRENCIES, 1),
}
_SYMBOLS: dict[str, tuple[str, Fraction]] = {}  # by exact spelling
_WORDS: dict[str, tuple[str, Fraction]] = {}  # lower case, singular


def _fill_units() -> None:
    tables: tuple[tuple[str, Mapping[str, Fraction | int]], ...] = (
        ("time", _TIME),
        ("calendar", _MONTHS),
        ("length", _LENGTHS),
        ("mass", _MASSES),
    )
    for dimension, units in tables:
        for unit, factor in units.items():
            (_SYMBOLS if len(unit) <= 2 else _WORDS)[unit] = (dimension, Fraction(factor))
    for prefix, power in _PREFIXES.items():
        _SYMBOLS[f"{prefix}B"] = ("data", Fraction(1000**power))
        _SYMBOLS[f"{prefix}Hz"] = ("frequency", Fraction(1000**power))
        _SYMBOLS[f"{prefix}W"] = ("power", Fraction(1000**power))
        if prefix:
            _SYMBOLS[f"{prefix}iB"] = ("data", Fraction(1024**power))
            _SYMBOLS[f"{prefix}b"] = _SYMBOLS[f"{prefix}bit"] = ("data", Fraction(1000**power, 8))
    for prefix, power in _WORD_PREFIXES.items():
        _WORDS[f"{prefix}byte"] = ("data", Fraction(1000**power))
        _WORDS[f"{prefix}bit"] = ("data", Fraction(1000**power, 8))
        _WORDS[f"{prefix}hertz"] = ("frequency", Fraction(1000**power))
        _WORDS[f"{prefix}watt"] = ("power", Fraction(1000**power))
    for names, dimension in _OTHER_UNITS:
        for name in names.split():
            (_SYMBOLS if name.isupper() else _WORDS)[name] = (dimension, Fraction(1))


_fill_units()
_SECONDS = {unit: Fraction(seconds) for unit, seconds in _TIME.items()}
_UNIT = re.compile(
    r"[\s-]?(%|°\s?[CF]?|degrees?\s(?:[Cc]elsius|[Ff]ahrenheit|[CF])|US\sdollars?|[$€£¥₹₩₺₽]|[^\W\d_]{1,12})(?![^\W\d_])"
)
_CODES = "USD|EUR|GBP|CHF|JPY|INR|CNY|RMB|SEK|NOK|DKK|PLN|CZK|BRL|KRW|TRY|RUB|CAD|AUD|NZD|SGD|HKD|MXN|ZAR"
_MONEY_BEFORE = re.compile(rf"(\bUS\$|[$€£¥₹₩₺₽]|\b(?:{_CODES}))\s?$")
_RATE = re.compile(
    r"\s*(?:[^\W\d_]+\s+){0,2}?(?:(?:per|an?|each|every)\s+|/\s?)(second|sec|s|minute|min|hour|h|day|d|week|month|year)\b"
)
_UPPER = re.compile(
    r"(?:\b(?:at most|up to|(?:no|not) (?:more|longer|later) than|maximum(?: of)?|max\.?|less than|fewer than|shorter than|under|below|"
    r"within)|≤|<=|<)\s*$",
    re.IGNORECASE,
)
_LOWER = re.compile(
    r"(?:\b(?:at least|(?:no|not) (?:less|fewer|earlier) than|minimum(?: of)?|min\.?|more than|longer than|over|above|exceed(?:s|ing)?)"
    r"|≥|>=|>)\s*$",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"(?:\b(?:about|around|approximately|approx\.?|roughly|nearly|almost|circa|ca\.?|some)|[~≈])\s*$", re.IGNORECASE
)
_LOWER_AFTER = re.compile(
    r"\+(?!\w)|(?:\s{1,4}[^\W\d_]+){0,2}\s{1,4}or (?:more|longer|above|over|later)\b", re.IGNORECASE
)
_UPPER_AFTER = re.compile(
    r"(?:\s{1,4}[^\W\d_]+){0,2}\s{1,4}or (?:less|fewer|shorter|below|under|earlier)\b", re.IGNORECASE
)
_BOUNDS: tuple[tuple[Bound, re.Pattern[str], re.Pattern[str] | None], ...] = (
    ("at most", _UPPER, _UPPER_AFTER),
    ("at least", _LOWER, _LOWER_AFTER),
    ("about", _ABOUT, None),
)
_NEGATIVE_BEFORE = re.compile(r"\b(?:minus|negative)\s+$", re.IGNORECASE)
_NEGATIVE_AFTER = re.compile(r"(?:\s{1,4}[^\W\d_]+){0,2}\s{1,4}below zero\b", re.IGNORECASE)
_MAX_DIGITS = 100
_BOUND_CHARS = 24  # characters before a number in which a bound is searched
_RATE_CHARS = 48
_ABOUT_SHARE = Fraction(1, 20)
_CLAUSE = re.compile(r"[;:()]|,\s|\s(?:and|but|while|whereas|or|yet|with)\s")


class Match(IntEnum):
    """The result of a comparison of two quantities."""

    DIFFERENT = 0
    INEXACT = 1  # the same number, but a bound on one side only
    EQUAL = 2


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a sentence.

    `number` is signed and as written; `value` is in the base unit of `dimension`, which is empty for an unknown unit.
    `rate` is the time that it refers to, in seconds or (negative) in months, 0 if none. `parts` are other readings of the
    same digits: "16 181" may be two numbers. `unit` is set for a unit with two meanings (`m`, `pound`). `start` and `end`
    are the offsets of the phrase, with unit, rate and bound.
    """

    number: Fraction
    value: Fraction
    dimension: str = ""
    rate: Fraction = Fraction(0)
    bound: Bound = ""
    parts: tuple[Fraction, ...] = ()
    start: int = 0
    end: int = 0
    unit: str = ""

    def beside(self, other: "Quantity") -> "Quantity":
        """Return the reading of the quantity beside another one: `400 m` are metres beside 2 km, `80 pounds` money beside €90."""
        factor = _READINGS.get(self.unit, {}).get(other.dimension)
        if factor is None:
            return self
        dimension = "sterling" if self.unit == "pound" else other.dimension
        return replace(self, value=self.number * factor, dimension=dimension, unit="")

    def is_comparable(self, other: "Quantity") -> bool:
        """Return False for quantities of different dimensions."""
        dimensions = {self.dimension, other.dimension}
        return "" in dimensions or len(dimensions) == 1 or dimensions in SAME_DEGREES

    def compare(self, other: "Quantity") -> Match:
        """Compare the quantity of a claim with that of a source."""
        if self.unit or other.unit:
            one, two = self.beside(other), other.beside(self)
            if (one, two) != (self, other):
                return one.compare(two)
        if not self.is_comparable(other) or not self._has_value_of(other):
            return Match.DIFFERENT
        if {self.bound, other.bound} == {"at least", "at most"}:
            return Match.DIFFERENT
        return Match.EQUAL if self.bound in (other.bound, "about") else Match.INEXACT

    def _has_value_of(self, other: "Quantity") -> bool:
        one, two = (self.value, other.value) if self.dimension and other.dimension else (self.number, other.number)
        if self.rate and other.rate and (self.rate > 0) == (other.rate > 0):
            one, two = one / abs(self.rate), two / abs(other.rate)
        elif self.rate and other.rate:
            return False
        tolerance = abs(two) * _ABOUT_SHARE if self.bound == "about" != other.bound else 0
        return abs(one - two) <= tolerance or self.number in other.parts or other.number in self.parts


SAME_DEGREES = ({"degree", "celsius"}, {"degree", "fahrenheit"})


def find_quantities(text: str) -> Iterator[Quantity]:
    """Yield the quantities of a sentence, without versions such as 1.2.3."""
    for match in _VERSION.finditer(text):
        if _DOTTED.fullmatch(match[0]) and len(match[0]) <= _MAX_DIGITS:
            yield _measure(text, match.start(), match.end(), Fraction(match[0].replace(".", "")), ())
    blank = _VERSION.sub(lambda match: " " * len(match[0]), text)
    for match in _NUMBER.finditer(blank):
        if match.end() - match.start() > _MAX_DIGITS:
            continue
        number, parts = _read_digits(match)
        sign = -1 if match["sign"] in ("-", "\u2212") else 1
        yield _measure(text, match.start(), match.end(), sign * number, parts)
    for match in _SPELLED.finditer(blank):
        words = [word for word in re.split(r"[\s-]+", match[0].lower()) if word != "and"]
        is_scale = all(word in _SCALES for word in words) and re.search(r"\d\s?$", blank[: match.start()])
        if words not in (["one"], ["zero"]) and not is_scale:  # "one of them" is no quantity
            yield _measure(text, match.start(), match.end(), Fraction(_spelled_value(words)), ())


def find_versions(text: str) -> Iterator[str]:
    """Yield versions such as 1.2.3 and v2, without the `v`."""
    for match in _VERSION.finditer(text):
        if not _DOTTED.fullmatch(match[0]):
            yield match[0].lstrip("v")


def _read_digits(match: re.Match[str]) -> tuple[Fraction, tuple[Fraction, ...]]:
    """Return (number, other readings of the digits)."""
    if match["grouped"]:
        digits = re.sub(f"[{_GROUPS}]", "", match["grouped"])
        parts = tuple(map(Fraction, match["grouped"].split(" "))) if " " in match["grouped"] else ()
        return Fraction(digits), parts
    if match["comma"]:
        return Fraction(match["comma"].replace(",", ".")), tuple(map(Fraction, match["comma"].split(",")))
    return Fraction(match["plain"]), ()


def _measure(text: str, start: int, end: int, number: Fraction, parts: tuple[Fraction, ...]) -> Quantity:
    """Return the quantity of a number at `start` to `end`, with the scale, unit, rate and bound around it."""
    before, first = text[max(0, start - _BOUND_CHARS) : start], start
    if scale := _SCALE.match(text, end):
        number, end, parts = number * _SHORT_SCALES[scale[1]], scale.end(), ()
    dimension, factor, ambiguous = "", Fraction(1), ""
    if money := _MONEY_BEFORE.search(before):
        dimension = (_SYMBOLS.get(money[1]) or _WORDS[money[1].lower()])[0]
        before, first = before[: money.start()], first - len(money[0])
    elif unit := _UNIT.match(text, end):
        ambiguous = {"m": "m", "pound": "pound", "pounds": "pound"}.get(unit[1], "")
        if found := _find_unit(unit[1]):
            dimension, factor = found
        end = unit.end() if found or ambiguous else end
    after = text[end : end + _RATE_CHARS]
    negative = _NEGATIVE_BEFORE.search(before), _NEGATIVE_AFTER.match(after)
    if any(negative):
        number = -abs(number)
    rate = _RATE.match(after) if dimension not in ("time", "calendar") else None
    bound, bound_before, bound_after = _find_bound(before, after)
    return Quantity(
        number,
        number * factor,
        dimension,
        _rate_of(rate[1]) if rate else Fraction(0),
        bound,
        parts,
        first - max(len(match[0]) if match else 0 for match in (negative[0], bound_before)),
        end + max(match.end() if match else 0 for match in (negative[1], rate, bound_after)),
        ambiguous,
    )


def _find_unit(word: str) -> tuple[str, Fraction] | None:
    compact = word.replace(" ", "")
    if compact in _SYMBOLS:
        return _SYMBOLS[compact]
    lowered = compact.lower()
    return _WORDS.get(lowered) or _WORDS.get(lowered.removesuffix("s")) or _WORDS.get(lowered.removesuffix("es"))


def _rate_of(word: str) -> Fraction:
    if word in _MONTHS:
        return -Fraction(_MONTHS[word])
    return _SECONDS[word]


def _find_bound(before: str, after: str) -> tuple[Bound, re.Match[str] | None, re.Match[str] | None]:
    """Return (bound, its words before the number, its words after it)."""
    for bound, pattern, follows in _BOUNDS:
        first, last = pattern.search(before), follows.match(after) if follows else None
        if first or last:
            return bound, first, last
    return "", None, None


def _spelled_value(words: list[str]) -> int:
    total = part = 0
    for word in words:
        if word in _SCALES:
            part = max(part, 1) * _SCALES[word]
            if _SCALES[word] >= 1000:
                total, part = total + part, 0
        else:
            part += _DIGITS.get(word, _TENS.get(word, 0))
    return total + part


def clause_of(text: str, quantity: Quantity) -> tuple[str, str]:
    """Return (words before, words after) of a quantity in its clause."""
    start, end = 0, len(text)
    for match in _CLAUSE.finditer(text):
        if match.end() <= quantity.start:
            start = match.end()
        elif match.start() >= quantity.end:
            end = match.start()
            break
    return text[start : quantity.start], text[quantity.end : end]


def rivals_of(quantity: Quantity, others: Sequence[Quantity]) -> list[Quantity]:
    """Return the quantities that could stand in its place: of one dimension, or both of unknown units, with another value."""
    return [
        other
        for other in others
        if other.dimension == quantity.dimension and quantity.compare(other) is Match.DIFFERENT
    ]


def quantity_text(text: str, quantity: Quantity) -> str:
    """Return a quantity as the sentence writes it, with its bound and rate."""
    return " ".join(text[quantity.start : quantity.end].split())
