"""Comparable values of a sentence: numbers, dates, names, negation. Pure; English rules, numbers in any language."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctxfs.context.grounding.quantities import Quantity, find_quantities, find_versions
from ctxfs.index.extract.dates import DateMention, find_dates

_WORD = re.compile(r"(?<![\w'’])[^\W\d_][\w'’.]*[^\W_]|(?<![\w'’])[^\W\d_]")
_DENIAL = re.compile(
    r"\b(?:not|never|no|none|neither|nor|without|cannot|nothing|nobody|no one|hardly|barely|lacks?|lacking|fails? to|failed to|"
    r"unable to|instead of|rather than)\b|n[’']t\b",
    re.IGNORECASE,
)
_EVERYDAY = frozenset(
    "i a an the this that these those it its he she they we you his her their our my your who what which when where why how and "
    "or but if then so as at by for from in into of off on onto out over to under up with while after before since until because "
    "although though however therefore thus also both each every all any some such other another more most many much few is are was "
    "were be been being do does did has have had can could may might must shall should will would there here yes no not note see use "
    "using used when whether once only even just still yet again first second third last next new old one two three "
    "today tomorrow yesterday january february march april june july august september october november december jan feb mar apr "
    "jun jul aug sep sept oct nov dec monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun".split()
)


@dataclass(frozen=True, slots=True)
class SentenceValues:
    """The comparable values of a sentence: quantities, versions and dates, and names in lower case."""

    quantities: tuple[Quantity, ...]
    versions: frozenset[str]
    dates: tuple[DateMention, ...]
    names: frozenset[str]
    denies: bool


def extract_values(text: str, *, starts_sentence: bool = True) -> SentenceValues:
    """Extract the values of a sentence; numbers that are part of a date belong to the date."""
    dates = tuple(find_dates(text))
    rest = _without_dates(text) if dates else text
    return SentenceValues(
        tuple(find_quantities(rest)),
        frozenset(find_versions(rest)),
        dates,
        frozenset(_find_names(text, starts_sentence)),
        bool(_DENIAL.search(text)),
    )


_CONTRACTION = re.compile(r"\b(ca|wo|sha)?(n[’']t)\b|(?<=\w)n[’']t\b|\bcannot\b", re.IGNORECASE)
_EXPANSIONS = {"ca": "can not", "wo": "will not", "sha": "shall not"}


def expand_contractions(text: str) -> str:
    """Expand contractions: `isn't` to `is not`, `can't` to `can not`, so that one meaning has one spelling."""
    return _CONTRACTION.sub(
        lambda match: _EXPANSIONS.get((match[1] or "").lower(), "can not" if match[0].lower() == "cannot" else " not"),
        text,
    )


def differing_dates(claimed: tuple[DateMention, ...], reference: tuple[DateMention, ...]) -> list[DateMention]:
    """Return the claimed dates that agree with none of the known ones in day, month and year."""
    return [date for date in claimed if not any(_dates_agree(date, candidate) for candidate in reference)]


def _dates_agree(one: DateMention, other: DateMention) -> bool:
    return (
        one.month == other.month
        and (one.year is None or other.year is None or one.year == other.year)
        and (one.day is None or other.day is None or one.day == other.day)
    )


_DATE_LIKE = re.compile(
    r"(?:19|20|21)\d\d[-/.]\d\d(?:[-/.]\d\d)?"
    r"|\b\d{1,2}(?:st|nd|rd|th)?(?:\s+of)?[\s-]+(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?(?:[\s,-]+(?:19|20|21)\d\d\b)?"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s+\d{1,2}(?:st|nd|rd|th)?\b(?:\s*,?\s*(?:19|20|21)\d\d\b)?"
    r"|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s*,?\s*(?:19|20|21)\d\d\b",
    re.IGNORECASE,
)


def _without_dates(text: str) -> str:
    return _DATE_LIKE.sub(lambda match: " " * len(match[0]), text)  # offsets stay


def _find_names(text: str, starts_sentence: bool) -> Iterator[str]:
    """Yield words spelled like names: a capital inside a sentence, all capitals, or mixed case."""
    first = starts_sentence
    for match in _WORD.finditer(text):
        word = match[0].rstrip(".'’-").removesuffix("'s").removesuffix("’s")
        lowered = word.lower()
        before = text[: match.start()].rstrip()
        begins = first or before.endswith((".", "!", "?", ":", "•", "|", "#", '"', "“", "("))
        first = False
        if len(word) < 2 or lowered in _EVERYDAY or word.islower():
            continue
        if not word[1:].islower() or not begins:
            yield lowered
