"""Attribute claims: a sentence as subject, attribute and value, so that other wordings of one attribute are compared. Pure.

"Ada leads the search team", "The search team is led by Ada" and "The lead of the search team is Ada" are one claim. Only
attributes with one value at a time are parsed; a sentence that another pattern fits better has no claim. An adjective of
the attribute counts as a word of the subject: "The entry fee of the museum", "Entry to the museum costs …".
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from ctxfs.context.grounding import statement_words as words
from ctxfs.context.grounding.statement_scan import Scan, Token, scan_values

MAX_CLAIM_CHARS = 200
TIME = "time"  # of an event: a day of the week, a date or a clock time
VERSION = "version"
_PREFERENCE = "preference"
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
    "tutor tutors tutored", "mentor mentors mentored", "represent represents represented representative",
    "oversee oversees overseen overseer", "curate curates curated curator", "captain captains captained",
    "host hosts hosted", "teach teaches taught teacher", "sponsor sponsors sponsored", "administer administers administered admin",
)  # fmt: skip
# Nouns and phrases of other attributes, each group one attribute.
_ATTRIBUTES = (
    "price cost fee charge rate", "retention lifetime expiry lifespan", "timeout", "location venue site seat headquarters base",
    "weight mass", "length", "width", "height", "depth", "size", "limit maximum cap quota", "minimum", "budget", "version release",
    "database", "backend", "altitude", "area", "framework", "language", "format", "encoding", "port", "deadline", "capacity",
    "duration", "interval",
    "frequency", "salary", "revenue", "speed", "threshold", "password", "address", "phone", "email", "nickname", "birthday",
    "time day date", "age", "deposit", "temperature", "number count", "currency", "timezone", "region", "colour color", "status",
    "role title", "employer", "vendor provider supplier",
)  # fmt: skip
_PERSON = r"@?[^\W\d_a-z][\w'’.-]{0,40}(?:\s[^\W\d_a-z][\w'’.-]{0,40}){0,2}"
_ADVERB = r"(?:(?:currently|now|still|always|usually|also)\s)?"
_BE = r"(?:is|are|was|were)"
_ARTICLE = r"(?:(?:the|our|its|their|my|your|an?)\s)?"
_NOUN = r"[^\W\d_]{2,20}(?:\s[^\W\d_]{2,20}){0,2}"
_VERB_ATTRIBUTES: tuple[tuple[str, str], ...] = (
    (rf"(?:costs?|{_BE}\s(?:priced|sold)\s(?:at|for)|charges?)", "price"),
    (rf"(?:expires?\s(?:after|in)|(?:{_BE}\s)?(?:kept|retained|stored|preserved)\sfor|lives?\sfor)", "retention"),
    (r"(?:times?\sout\s(?:after|in))", "timeout"),
    (rf"(?:takes?\splace|{_BE}\s(?:held|hosted))\sin(?=\s[^\W\d_a-z])", "location"),
    (rf"{_BE}\s(?:based|located|situated|headquartered)\sin", "location"),
    (r"weighs?", "weight"),
    (r"(?:lasts?|takes?(?!\splace))", "duration"),
    (rf"(?:(?:accepts?|allows?|permits?)\s(?:(?P<what>\w+)\sof\s)?up\sto|{_BE}\slimited\sto)", "limit"),
    (rf"(?:runs?|uses?|requires?|needs?|(?:ships?|comes?)\swith|{_BE}\s(?:on|at))\s(?:version|release)", VERSION),
    (rf"(?:takes?\splace|happens?|occurs?|runs?|{_BE}(?:\s(?:held|scheduled|due))?)\s(?:on|at|every|each)", TIME),
    (rf"(?:{_BE}\s)?(?P<what>[a-z]{{3,20}})\s(?:on|at|every|each)", TIME),
)
# Verbs before a product and its version, each group one attribute.
_PRODUCT_VERBS = {
    "runs": rf"(?:runs?(?:\son)?|uses?|{_BE}\s(?:on|running(?:\son)?|powered\sby|based\son))",
    "built": rf"{_BE}\s(?:built|compiled|packaged|written|developed)\s(?:with|in|on|against|for)",
    "requires": r"(?:requires?|needs?|depends\son)",
    "targets": r"targets?",
}
_MEASURES = {
    "long": "length", "wide": "width", "high": "height", "tall": "height", "deep": "depth", "old": "age", "heavy": "weight",
}  # fmt: skip

_NUMBER = r"\d[\d.,]{0,12}|[a-z]{3,9}(?:-[a-z]{3,5})?"
_DOTTED = r"v?\d+(?:\.\d+){0,3}"
_HOLDS = re.compile(rf"(?P<value>{_PERSON})\s{_ADVERB}(?P<verb>[a-z]{{3,20}})\s(?!{_BE}\s)(?P<subject>\S.*)")
_HELD_BY = re.compile(rf"\A(?P<subject>\S.*?)\s{_BE}\s{_ADVERB}(?P<verb>[a-z]{{3,20}})\sby\s(?P<value>\S.*)")
_OF = re.compile(
    rf"{_ARTICLE}(?P<attribute>{_NOUN})\s(?:of|for)\s(?P<subject>\S.*?)\s{_BE}\s{_ADVERB}(?P<value>\S.*)", re.I
)
_HAS = re.compile(
    rf"\A(?P<subject>\S.*?)\s(?:has|have|had|needs?|requires?)\s{_ARTICLE}(?P<attribute>{_NOUN})\sof\s(?P<value>\S.*)"
)
_OWNED = re.compile(rf"\A(?P<subject>\S.*?)(?:'s|s')\s(?P<attribute>{_NOUN})\s{_BE}\s{_ADVERB}(?P<value>\S.*)")
_IS_OF = re.compile(
    rf"(?P<value>{_PERSON})\s{_BE}\s{_ADVERB}the\s(?P<attribute>{_NOUN})\s(?:of|for)\s(?P<subject>\S.*)"
)
_COMPOUND = re.compile(
    rf"{_ARTICLE}(?P<subject>\w[\w' -]{{1,60}}?)\s(?P<attribute>[a-z]{{3,20}})\s{_BE}\s{_ADVERB}(?P<value>\S.*)", re.I
)
_NOUN_PATTERNS = (_OF, _HAS, _OWNED, _IS_OF, _COMPOUND)
_PREFERS = re.compile(
    rf"\A(?P<subject>\S.*?)\s(?:prefers?|favou?rs?)\s(?P<value>\S.*?)\sas\s(?:(?:the|an?|her|his|their|its)\s)?(?P<noun>{_NOUN})"
)
_PREFERRED = frozenset(("prefer", "favourit", "favorit"))
_COUNTS = (
    re.compile(
        rf"\A(?P<subject>\S.*?)\s(?:has|have|runs?\s(?:with|on)|contains?|consists?\sof|comprises?|comes?\swith)\s{_ADVERB}"
        rf"(?P<value>{_NUMBER})\s(?P<noun>[a-z]{{3,20}})"
    ),
    re.compile(rf"[Tt]here\s{_BE}\s(?P<value>{_NUMBER})\s(?P<noun>[a-z]{{3,20}})\s(?:in|at|on)\s(?P<subject>\S.*)"),
    re.compile(rf"\A(?P<subject>\S.*?)\s(?P<noun>seat)s?\s(?P<value>{_NUMBER})\s(?:people|persons|guests|passengers)"),
)
_PRODUCTS = (
    *(
        (re.compile(rf"\A(?P<subject>\S.*?)\s{verb}\s(?P<what>[A-Z][\w.+#-]{{0,30}})\s(?P<value>{_DOTTED})"), name)
        for name, verb in _PRODUCT_VERBS.items()
    ),
    (re.compile(rf"(?P<what>[A-Z][\w.+#-]{{0,30}})\s(?P<value>{_DOTTED})\spowers\s(?P<subject>\S.*)"), "runs"),
)
_MEASURED = re.compile(rf"\A(?P<subject>\S.*?)\s{_BE}\s(?P<value>\S.*)\s(?P<measure>{'|'.join(_MEASURES)})")
_VERBS = tuple((re.compile(rf"\A(?P<subject>\S.*?)\s{verb}\s(?P<value>\S.*)"), name) for verb, name in _VERB_ATTRIBUTES)
_KEY_TIME = re.compile(r"(?:every|each|on|at)\s(?P<value>\S.*)", re.I)
_RATES = {
    "hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month", "yearly": "year", "annual": "year",
}  # fmt: skip
# Attributes that do not change: in the past and in the present they have the same value.
_TIMELESS = frozenset(("write", "found", "design", "invent"))
_AGENT_NOUN = re.compile(r"[a-z]{3,17}(?:er|or|ist|ian)")
_SCOPE = re.compile(rf"\s(?:{'|'.join(sorted(words.SCOPE_PREPOSITIONS))})\s", re.I)
_LIST_WORDS = re.compile(r"\b(?:and|or|both|either|one of|some of|among|including|e\.g)\b|[,;:&/]", re.I)
_WORD = re.compile(r"[^\W_][\w'’+#.-]*")
_LEAD = re.compile(r"(?:note that|remember that|please note:?|currently,?|now,?|today,?)\s+", re.I)


def _fill(groups: tuple[str, ...]) -> dict[str, str]:
    return {word: group.split()[0] for group in groups for word in group.split()}


_HOLDER_OF = _fill(_HOLDERS)
_ATTRIBUTE_OF = {**_HOLDER_OF, **_fill(_ATTRIBUTES)}


@dataclass(frozen=True, slots=True)
class AttributeClaim:
    """The value of one attribute of a subject. `subject` are the stems of its words; `is_person` is True for a holder.

    `free_keys` are words that limit nothing although they follow a preposition: the value ("in Oslo"), and the subject in
    "the deposit for the bike" and "seats in the hall".
    """

    attribute: str
    subject: frozenset[str]
    value: str
    is_person: bool = False
    free_keys: frozenset[str] = frozenset()

    @property
    def is_timeless(self) -> bool:
        """True for an attribute that does not change: "was written by" and "the author is"."""
        return self.attribute in _TIMELESS


@lru_cache(maxsize=4096)
def parse_claim(text: str) -> AttributeClaim | None:
    """Return the claim of a sentence without asides and leading clauses; None if it has none, or several values."""
    body = _LEAD.sub("", text.strip().rstrip(".!;"), count=1)
    if len(body) > MAX_CLAIM_CHARS:
        return None
    return (
        _parse_holder(body) or _parse_product(body) or _parse_preference(body) or _parse_noun(body) or _parse_verb(body)
        or _parse_count(body)
    )  # fmt: skip


def parse_pair_claim(key: str, value: str) -> AttributeClaim | None:
    """Return the claim of a `key: value` line: "Fire drill: every Monday", "Wiki version: 7.4"."""
    if (match := _KEY_TIME.fullmatch(value)) is not None and has_time(match["value"]):
        return _claim(TIME, key, match["value"])
    return _parse_noun(f"{key} is {value}") if len(key) + len(value) < MAX_CLAIM_CHARS else None


def value_tokens(text: str) -> list[Token]:
    """Return the numbers, dates, times and versions of a value."""
    scan = Scan(text, list(text))
    scan_values(scan)
    return [token for token in scan.tokens if token.kind != "name"]


def has_time(value: str) -> bool:
    """Return True for a value with a day of the week, a clock time or a date."""
    return any(token.kind in ("clock", "date") for token in value_tokens(value))


def _parse_holder(body: str) -> AttributeClaim | None:
    match = _HELD_BY.fullmatch(body) or _HOLDS.fullmatch(body)
    attribute = _HOLDER_OF.get(match["verb"], "") if match else ""
    return _claim(attribute, match["subject"], match["value"], is_person=True) if match and attribute else None


def _parse_product(body: str) -> AttributeClaim | None:
    for pattern, name in _PRODUCTS:
        if (match := pattern.fullmatch(body)) is not None and match["what"] not in ("Version", "Release"):
            subject = f"{match['subject']} {match['what']}"
            return _claim(f"{name} {VERSION}", subject, match["value"], is_governed=True)
    return None


def _parse_preference(body: str) -> AttributeClaim | None:
    match = _PREFERS.fullmatch(body)
    return _claim(_PREFERENCE, f"{match['subject']} {match['noun']}", match["value"]) if match else None


def _parse_noun(body: str) -> AttributeClaim | None:
    for pattern in _NOUN_PATTERNS:
        if (match := pattern.fullmatch(body)) is None:
            continue
        *qualities, noun = match["attribute"].lower().split()
        is_governed = match[0][: match.start("subject")].endswith(" for ")
        adjectives = [word for word in qualities if words.word_stem(word) not in words.FILLERS | _PREFERRED]
        subject, value = " ".join((*adjectives, match["subject"])), match["value"]
        if not _PREFERRED.isdisjoint(map(words.word_stem, qualities)):
            return _claim(_PREFERENCE, f"{subject} {noun}", value)
        attribute = _ATTRIBUTE_OF.get(noun, "")
        if attribute == TIME and not has_time(value):
            continue
        if attribute:
            return _claim(attribute, subject, value, is_person=noun in _HOLDER_OF, is_governed=is_governed)
        is_open = pattern is not _COMPOUND and not body.lower().startswith("one ")
        if is_open and (claim := _parse_other_noun(noun, subject, value, is_governed=is_governed)):
            return claim
    return None


def _parse_other_noun(noun: str, subject: str, value: str, *, is_governed: bool) -> AttributeClaim | None:
    """Return the claim of a noun that is in no table: a quantity has one value, and so has the name behind "the teller of …"."""
    if len(value_tokens(value)) == 1 and value_tokens(value)[0].quantity is not None:
        return _claim(words.word_stem(noun), subject, value, is_governed=is_governed)
    if _AGENT_NOUN.fullmatch(noun) and noun not in ("number", "member", "other", "order"):
        return _claim(words.word_stem(noun), subject, value, is_person=True, is_governed=is_governed)
    return None


def _parse_verb(body: str) -> AttributeClaim | None:
    if (match := _MEASURED.fullmatch(body)) is not None:
        return _claim(_MEASURES[match["measure"]], match["subject"], match["value"])
    for pattern, attribute in _VERBS:
        if (match := pattern.fullmatch(body)) is None or (attribute == TIME and not has_time(match["value"])):
            continue
        # "the shop deploys on Monday": the time of the deploys of the shop
        return _claim(attribute, f"{match['subject']} {match.groupdict().get('what') or ''}", match["value"])
    return None


def _parse_count(body: str) -> AttributeClaim | None:
    for pattern in _COUNTS:
        match = pattern.fullmatch(body)
        if match is not None and [token.kind for token in value_tokens(match["value"])] == ["quantity"]:
            return _claim("number", f"{match['subject']} {match['noun']}", match["value"], is_governed=True)
    return None


def split_scope(value: str) -> tuple[str, str]:
    """Return (value, words that limit it) of a value such as "20 EUR for students"."""
    match = _SCOPE.search(value)
    return (value[: match.start()], value[match.start() :].strip()) if match else (value, "")


def _claim(
    attribute: str, subject: str, value: str, *, is_person: bool = False, is_governed: bool = False
) -> AttributeClaim | None:
    """Return a claim. `is_governed`: the subject follows a preposition that might limit a statement."""
    value, _ = split_scope(value)
    subject_words = _content_words(subject)
    rate = next((_RATES[word] for word in subject_words if word in _RATES), "")
    keys = frozenset(words.word_stem(word) for word in subject_words if word not in _RATES)
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
    if rate and " per " not in value:
        value = f"{value} per {rate}"
    free_keys = frozenset(map(words.word_stem, _content_words(value)))
    return AttributeClaim(attribute, keys, value, is_person, free_keys | keys if is_governed else free_keys)


def _content_words(text: str) -> list[str]:
    found = (match[0].strip("'’.-").lower().removesuffix("'s") for match in _WORD.finditer(text))
    return [word for word in found if word and word not in words.FUNCTION_WORDS and word not in words.DENIALS]
