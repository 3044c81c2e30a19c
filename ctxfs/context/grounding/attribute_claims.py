"""Attribute claims: a sentence as subject, attribute and value, so that other wordings of one attribute are compared. Pure.

"Ada leads the search team", "The search team is led by Ada" and "The lead of the search team is Ada" are one claim. Only
attributes with one value at a time are parsed; a sentence that another pattern fits better has no claim.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ctxfs.context.grounding import statement_words as words

MAX_CLAIM_CHARS = 200
TIME = "time"  # of an event: a day of the week or a clock time
_MAX_SUBJECT_WORDS = 6
_MAX_VALUE_WORDS = 4

# Verbs of which one person or group is the subject, with their nouns: the first one names the attribute.
_HOLDERS = (
    "lead leads led leader head heads headed", "own owns owned owner", "maintain maintains maintained maintainer",
    "manage manages managed manager", "chair chairs chaired chairman chairwoman chairperson", "write writes wrote written author",
    "approve approves approved approver", "coordinate coordinates coordinated coordinator", "edit edits edited editor",
    "supervise supervises supervised supervisor", "direct directs directed director", "moderate moderates moderated moderator",
    "found founded founds founder", "design designs designed designer", "invent invented invents inventor",
    "organise organises organised organize organizes organized organiser organizer", "coach coaches coached",
    "host hosts hosted", "teach teaches taught teacher", "sponsor sponsors sponsored", "administer administers administered admin",
)  # fmt: skip
# Nouns and phrases of other attributes, each group one attribute.
_ATTRIBUTES = (
    "price cost fee charge rate", "retention lifetime expiry lifespan", "timeout", "location seat headquarters base",
    "weight mass", "length", "width", "height", "depth", "size", "limit maximum cap quota", "minimum", "budget", "version release",
    "database", "backend", "framework", "language", "format", "encoding", "port", "deadline", "capacity", "duration", "interval",
    "frequency", "venue", "salary", "revenue", "speed", "threshold", "password", "address", "phone", "email", "nickname", "birthday",
    "age", "currency", "timezone", "region", "colour color", "status", "role title", "employer", "vendor provider supplier",
)  # fmt: skip
_PERSON = r"@?[^\W\d_a-z][\w'’.-]{0,40}(?:\s[^\W\d_a-z][\w'’.-]{0,40}){0,2}"
_ADVERB = r"(?:(?:currently|now|still|always|usually|also)\s)?"
_BE = r"(?:is|are|was|were)"
_ARTICLE = r"(?:(?:the|our|its|their|my|your|an?)\s)?"
_NOUN = r"[^\W\d_]{2,20}(?:\s[^\W\d_]{2,20}){0,2}"
_QUANTITY_VERBS: tuple[tuple[str, str], ...] = (
    (rf"(?:costs?|{_BE}\s(?:priced|sold)\s(?:at|for)|charges?)", "price"),
    (rf"(?:expires?\s(?:after|in)|(?:{_BE}\s)?(?:kept|retained|stored|preserved)\sfor|lives?\sfor)", "retention"),
    (r"(?:times?\sout\s(?:after|in))", "timeout"),
    (rf"{_BE}\s(?:based|located|situated|headquartered)\sin", "location"),
    (r"weighs?", "weight"),
    (r"(?:lasts?|takes?)", "duration"),
    (rf"(?:(?:accepts?|allows?|permits?)\s(?:(?P<what>\w+)\sof\s)?up\sto|{_BE}\slimited\sto)", "limit"),
    (rf"(?:runs?|uses?|requires?|needs?|{_BE}\s(?:on|at))\s(?:version|release)", "version"),
    (rf"(?:takes?\splace|happens?|{_BE}(?:\s(?:held|scheduled|due))?)\s(?:on|at|every)", TIME),
    (rf"(?:{_BE}\s)?(?P<what>[a-z]{{3,20}})\s(?:on|at|every)", TIME),
)
_MEASURES = {
    "long": "length", "wide": "width", "high": "height", "tall": "height", "deep": "depth", "old": "age", "heavy": "weight",
}  # fmt: skip

_HOLDS = re.compile(rf"(?P<value>{_PERSON})\s{_ADVERB}(?P<verb>[a-z]{{3,20}})\s(?P<subject>\S.*)")
_HELD_BY = re.compile(rf"\A(?P<subject>\S.*?)\s{_BE}\s{_ADVERB}(?P<verb>[a-z]{{3,20}})\sby\s(?P<value>\S.*)")
_OF = re.compile(
    rf"{_ARTICLE}(?P<attribute>{_NOUN})\s(?:of|for)\s(?P<subject>\S.*?)\s{_BE}\s{_ADVERB}(?P<value>\S.*)", re.I
)
_HAS = re.compile(rf"\A(?P<subject>\S.*?)\s(?:has|have|had)\s{_ARTICLE}(?P<attribute>{_NOUN})\sof\s(?P<value>\S.*)")
_OWNED = re.compile(rf"\A(?P<subject>\S.*?)(?:'s|s')\s(?P<attribute>{_NOUN})\s{_BE}\s{_ADVERB}(?P<value>\S.*)")
_MEASURED = re.compile(rf"\A(?P<subject>\S.*?)\s{_BE}\s(?P<value>\S.*)\s(?P<measure>{'|'.join(_MEASURES)})")
_VERBS = tuple((re.compile(rf"\A(?P<subject>\S.*?)\s{verb}\s(?P<value>\S.*)"), name) for verb, name in _QUANTITY_VERBS)
_LIST_WORDS = re.compile(r"\b(?:and|or|both|either|one of|some of|among|including|e\.g)\b|[,;:&/]", re.I)
_WORD = re.compile(r"[^\W_][\w'’+#.-]*")
_LEAD = re.compile(r"(?:note that|remember that|please note:?|currently,?|now,?|today,?)\s+", re.I)


def _fill(groups: tuple[str, ...]) -> dict[str, str]:
    return {word: group.split()[0] for group in groups for word in group.split()}


_HOLDER_OF = _fill(_HOLDERS)
_ATTRIBUTE_OF = {**_HOLDER_OF, **_fill(_ATTRIBUTES)}


@dataclass(frozen=True, slots=True)
class AttributeClaim:
    """The value of one attribute of a subject. `subject` are the stems of its words; `is_person` is True for a holder."""

    attribute: str
    subject: frozenset[str]
    value: str
    is_person: bool = False


@lru_cache(maxsize=4096)
def parse_claim(text: str) -> AttributeClaim | None:
    """Return the claim of a sentence without asides and leading clauses; None if it has none, or several values."""
    body = _LEAD.sub("", text.strip().rstrip(".!;"), count=1)
    if len(body) > MAX_CLAIM_CHARS:
        return None
    return _parse_holder(body) or _parse_noun(body) or _parse_verb(body)


def _parse_holder(body: str) -> AttributeClaim | None:
    match = _HELD_BY.fullmatch(body) or _HOLDS.fullmatch(body)
    attribute = _HOLDER_OF.get(match["verb"], "") if match else ""
    return _claim(attribute, match["subject"], match["value"], is_person=True) if match and attribute else None


def _parse_noun(body: str) -> AttributeClaim | None:
    for pattern in (_OF, _HAS, _OWNED):
        if (match := pattern.fullmatch(body)) is not None:
            *adjectives, noun = match["attribute"].lower().split()
            if attribute := _ATTRIBUTE_OF.get(noun, ""):
                is_person = noun in _HOLDER_OF
                return _claim(_qualified(adjectives, attribute), match["subject"], match["value"], is_person=is_person)
    return None


def _parse_verb(body: str) -> AttributeClaim | None:
    if (match := _MEASURED.fullmatch(body)) is not None:
        return _claim(_MEASURES[match["measure"]], match["subject"], match["value"])
    for pattern, attribute in _VERBS:
        if (match := pattern.fullmatch(body)) is not None:
            what = match.groupdict().get("what") or ""
            if attribute == TIME:  # "the shop deploys on Monday": the time of the deploys of the shop
                return _claim(attribute, f"{match['subject']} {what}", match["value"])
            return _claim(_qualified([what] if what else [], attribute), match["subject"], match["value"])
    return None


def _qualified(adjectives: Sequence[str], attribute: str) -> str:
    stems = (words.word_stem(word.lower()) for word in adjectives)
    return " ".join((*sorted(stem for stem in stems if stem not in words.FILLERS), attribute))


def _claim(attribute: str, subject: str, value: str, *, is_person: bool = False) -> AttributeClaim | None:
    keys = frozenset(words.word_stem(word) for word in _content_words(subject))
    if (
        not keys
        or len(keys) > _MAX_SUBJECT_WORDS
        or _LIST_WORDS.search(subject)
        or _LIST_WORDS.search(value.replace(",", ""))
    ):
        return None
    if len(value.split()) > _MAX_VALUE_WORDS or not _content_words(value):
        return None
    if is_person and not re.fullmatch(_PERSON, value):
        return None
    return AttributeClaim(attribute, keys, value, is_person)


def _content_words(text: str) -> list[str]:
    found = (match[0].strip("'’.-").lower() for match in _WORD.finditer(text))
    return [word for word in found if word and word not in words.FUNCTION_WORDS and word not in words.DENIALS]
