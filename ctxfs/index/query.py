"""Query language: parse a query string once into the form that the engines take.

Syntax: `"a phrase"`, `+must`, `-not`, `kind:`, `path:`, `author:` (or `speaker:`), `session:`, `said:>2026-10-01`,
`since:`, `until:`, `mode:words|meaning|hybrid|exact`, and the attributes `tag:`, `alias:`, `link:`, `confidence:>0.8`,
`trust:`, `valid:2026-03`, `status:`, `verified:`, `state:`, `pinned:`, `frozen:`, `quarantined:`. `-session:`,
`-tag:`, `-alias:`, `-link:` and `-trust:` leave out the files and records with the attribute.
A dash excludes only where no word of the query looks like an option of a command (`-r`, `--all`).
Anything that does not parse as one of these is plain words. A query of filters alone matches every file
that passes them.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

from ctxfs.index.extract.front_matter_attributes import STATUSES, VERIFIERS
from ctxfs.index.normal_form import UNSPACED, fold, fold_name, unspaced_pattern
from ctxfs.memory.states import ACTIVE, RETIRED
from ctxfs.model.metadata import STATES
from ctxfs.model.path import one_line, printable_text
from ctxfs.model.periods import Period, parse_range

Mode = Literal["hybrid", "words", "meaning", "exact"]
_MODES: tuple[Mode, ...] = ("hybrid", "words", "meaning", "exact")
_FILTER_NAMES = (
    "kind|path|author|speaker|session|said|since|until|mode|tag|alias|link|confidence|trust|valid|status|verified"
    "|state|pinned|frozen|quarantined"
)
_TERM = re.compile(rf'([+-]?)"([^"]*)"|(-?(?:{_FILTER_NAMES}):"[^"]+"|\S+)')
_FILTER = re.compile(rf'(-?)({_FILTER_NAMES}):(?:"([^"]+)"|(\S+))', re.DOTALL)
# Options of commands, as people write them into questions: one or two small letters, a number, two dashes.
_OPTION = re.compile(r"-(?:-\w.*|[^\W_]|\d[\d.,]*|[a-z]{2}|[^\W_]+=.*)", re.DOTALL)
_CONFIDENCE = re.compile(r"(<=|>=|<|>|=)?(\d+(?:\.\d+)?|\.\d+)")
_EPSILON = 1e-9
_PUNCTUATION = "?!.,;:\"'()[]"
_POSSESSIVE = ("'s", "\u2019s", "'", "\u2019")
_SPACED_LETTER = rf"[^\W{UNSPACED}]"
_BOUNDARY_BEFORE, _BOUNDARY_AFTER = f"(?<!{_SPACED_LETTER})", f"(?!{_SPACED_LETTER})"
_AGE = re.compile(r"(\d{1,5})([smhdw])")
_COMPARISON = re.compile(r"(<=|>=|<|>|=)?(.+)", re.DOTALL)
_PERIOD = re.compile(r"(\d{4})(?:-(\d\d))?")
_FLAGS = ("pinned", "frozen", "quarantined")
_WORD_VALUES: Mapping[str, Sequence[str]] = {"status": STATUSES, "verified": VERIFIERS}
# The values that a filter takes. Those of other filters are free.
_FILTER_VALUES: Mapping[str, str] = {
    "since": "an age such as 7d, or a date such as 2026-11-01",
    "until": "an age such as 7d, or a date such as 2026-11-01",
    "said": "a date or time since 1970 such as 2026-10-01, >2026-10-01, <=2026-10 or >=2026-10-01T09:30, or an age such as 7d",
    "mode": f"one of {', '.join(_MODES)}",
    "valid": "a year, month, day or time such as 2026-03, a range such as 2026-01..2026-03, or now",
    "confidence": "a number such as 0.8, >0.8 or <=0.5",
    **{name: f"one of {', '.join(values)}" for name, values in _WORD_VALUES.items()},
    "state": f"one of {', '.join(STATES)}",
    **dict.fromkeys(_FLAGS, "true or false"),
}
_FREE_ATTRIBUTES = ("tag", "alias", "link", "trust", "session")
_ATTRIBUTE_NAMES = {"tag": "tags"}
_MAX_QUOTED_CHARS = 60
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class KindFolders(NamedTuple):
    """Folders whose files are of one of the searched kinds, unless they have one of the kinds `others` themselves."""

    folders: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def of(self, kind: str) -> list[str]:
        """Return the folders of a kind."""
        return [folder for folder in self.folders if folder.endswith(f"/{kind}")]

    def contains(self, path: str, kind: str) -> bool:
        """Return True for a path in one of the folders, of a file whose own kind does not contradict."""
        return kind not in self.others and any(path.startswith(f"{folder}/") for folder in self.folders)


NO_KIND_FOLDERS = KindFolders()


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query. `since` and `until` are nanoseconds since the epoch; `confidence` is an inclusive range.

    `said` is an inclusive range of seconds since the epoch, None for no limit. A part of the period `valid` must be valid.
    `kind_folders` have no syntax: the searcher derives them from `kinds`.
    `without_attributes` are of `-session:S` and `-tag:T`: files and records that have one of them are left out.
    `without_kinds` has no syntax: it leaves out the files of some kinds. `states` are the states of which the files are
    searched; empty stands for all but the retired ones.
    `remarks` name each filter whose value is none, and which is therefore searched as a word.
    `corrections` are (typo, word): the words that took the place of likely typos in `words`.
    `aliases` are (word, other words that count as it), for some of `words`.
    """

    text: str
    words: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None
    mode: Mode = "hybrid"
    attributes: tuple[tuple[str, str], ...] = ()
    confidence: tuple[float, float] | None = None
    authors: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    corrections: tuple[tuple[str, str], ...] = ()
    aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    said: tuple[int | None, int | None] = (None, None)
    valid: Period | None = None
    without_kinds: tuple[str, ...] = ()
    without_attributes: tuple[tuple[str, str], ...] = ()
    states: tuple[str, ...] = ()
    kind_folders: KindFolders = NO_KIND_FOLDERS

    @property
    def time_ranges(self) -> list[tuple[str, int | None, int | None]]:
        """Return (field of the index, minimum, maximum) of the times that are restricted; None for no limit."""
        ranges = (("mtime", self.since, self.until), ("said", *self.said))
        return [(name, low, high) for name, low, high in ranges if low is not None or high is not None]

    @property
    def without_states(self) -> tuple[str, ...]:
        """Return the states of which no file is searched. A file without the attribute is active."""
        if not self.states:
            return RETIRED
        return tuple(state for state in STATES if state not in self.states) if ACTIVE in self.states else ()

    @property
    def with_states(self) -> tuple[str, ...]:
        """Return the states of which all files are searched; empty if `without_states` lists the others."""
        return () if ACTIVE in self.states else self.states

    @property
    def has_words(self) -> bool:
        """Return True if the query contains words, phrases or required words."""
        return bool(self.words or self.phrases or self.must)

    @property
    def filter_key(self) -> Hashable:
        """Return a hashable key of all filters, without the words; equal keys select the same files."""
        excluded = self.without_kinds, self.without_attributes
        chosen = self.kinds, self.paths, self.attributes, self.authors, self.states
        return *chosen, *excluded, self.kind_folders, self.confidence, self.since, self.until, self.said, self.valid

    def without_filters(self) -> "Query":
        """Return the query with the same words and without filters."""
        chosen = replace(self, kinds=(), without_kinds=(), paths=(), attributes=(), authors=(), states=STATES)
        chosen = replace(chosen, kind_folders=NO_KIND_FOLDERS, without_attributes=())
        return replace(chosen, confidence=None, since=None, until=None, said=(None, None), valid=None)

    @property
    def has_filters(self) -> bool:
        """Return True if a filter restricts the files."""
        chosen = self.kinds or self.paths or self.attributes or self.authors or self.states
        return bool(chosen or self.without_attributes or self.confidence or self.time_ranges or self.valid)

    @property
    def is_empty(self) -> bool:
        """Return True if the query has neither words nor filters."""
        return not (self.has_words or self.has_filters)

    @property
    def keywords(self) -> "Keywords":
        """Return the words that `mode:exact` requires of a whole file."""
        return Keywords((*self.must, *self.phrases), self.words, self.must_not)

    @property
    def plain_text(self) -> str:
        """Return the query without its operators, for the embedder."""
        return " ".join((*self.words, *self.phrases, *self.must))


@dataclass(frozen=True, slots=True)
class Keywords:
    """Whole words and phrases, matched in the normal form: regardless of case, accents and typographic variants.

    A file satisfies them if it contains all of `every` (if that is empty: at least one of `some`), and none of `none`.
    """

    every: tuple[str, ...]
    some: tuple[str, ...]
    none: tuple[str, ...]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of matches in each text of one file; all 0 if the file does not satisfy the keywords."""
        terms = self.every or self.some
        folded = [fold_name(text) for text in texts]
        counts_by_word = {word: [_count_matches(word, text) for text in folded] for word in (*terms, *self.none)}
        is_present = {word: any(counts) for word, counts in counts_by_word.items()}
        is_satisfied = all(is_present[w] for w in self.every) if self.every else any(is_present[w] for w in self.some)
        if not is_satisfied or any(is_present[word] for word in self.none):
            return [0] * len(texts)
        return [sum(counts_by_word[word][index] for word in terms) for index in range(len(texts))]

    def count_accented(self, texts: Sequence[str]) -> int:
        """Return the number of matches of words with accents that have the same accents; 0 if no word has any."""
        accented = [word for word in self.every or self.some if fold(word) != fold_name(word)]
        return sum(len(_compile_whole_word(fold(word)).findall(fold(text))) for word in accented for text in texts)


def strip_word(word: str) -> str:
    """Return the word without surrounding punctuation and without a possessive ending."""
    bare = word.strip(_PUNCTUATION)
    for ending in _POSSESSIVE:
        bare = bare.removesuffix(ending).removesuffix(ending.upper())
    return bare.strip(_PUNCTUATION)


def _count_matches(word: str, text: str) -> int:
    return len(_compile_whole_word(fold_name(word)).findall(text))


@lru_cache(maxsize=256)
def _compile_whole_word(word: str) -> re.Pattern[str]:
    """Return a pattern that matches a folded word only as a whole; a space matches any white space.

    Scripts without spaces have no whole words: next to their characters, a match may begin and end anywhere.
    """
    body = r"\s+".join(map(re.escape, word.split()))
    return re.compile(
        f"{_BOUNDARY_BEFORE if _is_spaced(word[:1]) else ''}{body}{_BOUNDARY_AFTER if _is_spaced(word[-1:]) else ''}"
    )


def _is_spaced(character: str) -> bool:
    return character.isalnum() and unspaced_pattern().match(character) is None


@dataclass(slots=True)
class _Parts:
    """The parts of a query while it is parsed."""

    words: list[str] = field(default_factory=list)
    lists: dict[str, list[str]] = field(
        default_factory=lambda: {name: [] for name in ("phrase", "must", "not", "kind", "path", "author", "state")}
    )
    times: dict[str, int] = field(default_factory=dict)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    without_attributes: list[tuple[str, str]] = field(default_factory=list)
    confidence: tuple[float, float] | None = None
    said: tuple[int | None, int | None] = (None, None)
    valid: Period | None = None
    mode: Mode = "hybrid"
    remarks: list[str] = field(default_factory=list)


def parse_query(text: str, now: datetime | None = None) -> Query:
    """Parse a query string. Unknown filters and broken operators become plain words; no input raises an error.

    `now` is the reference time for ages such as `since:7d` [default: the current time].
    """
    parts = _Parts()
    terms = _TERM.findall(text)
    can_exclude = not any(_OPTION.fullmatch(word.rstrip(_PUNCTUATION)) for _, _, word in terms)
    for sign, phrase_text, word in terms:
        phrase = printable_text(phrase_text)  # neither engine accepts bytes that are not UTF-8
        if not word:
            if phrase.strip():
                parts.lists[{"+": "must", "-": "not"}.get(sign, "phrase")].append(phrase)
            continue
        match = _FILTER.fullmatch(word)
        value = (match[3] or match[4]).strip('"') if match is not None else ""
        if match is None or not value or (match[1] and match[2] not in _FREE_ATTRIBUTES):
            _add_word(printable_text(word), parts.words, parts.lists, can_exclude=can_exclude)
        elif match[1]:
            parts.without_attributes.append((_ATTRIBUTE_NAMES.get(match[2], match[2]), value))
        elif not _add_filter(parts, match[2], value, now):
            parts.words.append(printable_text(word))
            parts.remarks.append(_describe_bad_filter(match[2], value))
    lists = parts.lists
    if lists["not"]:
        excluded = ", ".join(f'"{text}"' for text in lists["not"])
        parts.remarks.append(
            f"passages with {excluded} were left out, because a dash excludes: drop it to include them"
        )
    return Query(
        text=text,
        words=tuple(parts.words),
        phrases=tuple(lists["phrase"]),
        must=tuple(lists["must"]),
        must_not=tuple(lists["not"]),
        kinds=tuple(lists["kind"]),
        paths=tuple(lists["path"]),
        since=parts.times.get("since"),
        until=parts.times.get("until"),
        mode=parts.mode,
        attributes=tuple(parts.attributes),
        without_attributes=tuple(parts.without_attributes),
        confidence=parts.confidence,
        authors=tuple(lists["author"]),
        remarks=tuple(dict.fromkeys(parts.remarks)),
        said=parts.said,
        states=tuple(dict.fromkeys(lists["state"])),
        valid=parts.valid,
    )


def _add_filter(parts: _Parts, name: str, value: str, now: datetime | None) -> bool:
    """Add a filter to the parts; return False for a value that the filter does not take."""
    moment = parse_time(value, now or datetime.now(UTC)) if name in ("since", "until") else None
    if moment is not None:
        parts.times[name] = moment
    elif name == "state" and value in STATES:
        parts.lists["state"].append(value)
    elif name == "mode" and value in _MODES:
        parts.mode = next(candidate for candidate in _MODES if candidate == value)
    elif name == "said" and (period := _parse_said(value, now or datetime.now(UTC))) is not None:
        parts.said = _intersect(parts.said, period)
    elif name == "valid" and (validity := parse_when(value, now)) is not None:
        parts.valid = validity
    elif name in ("kind", "path", "author", "speaker"):
        parts.lists["author" if name == "speaker" else name].append(value.strip("/"))
    elif name == "confidence" and (limits := _parse_confidence(value)) is not None:
        parts.confidence = limits
    elif (
        name in _FREE_ATTRIBUTES
        or (name in _FLAGS and value in ("true", "false"))
        or value in _WORD_VALUES.get(name, ())
    ):
        parts.attributes.append((_ATTRIBUTE_NAMES.get(name, name), value))
    else:
        return False
    return True


def parse_when(text: str, now: datetime | None = None) -> Period | None:
    """Return the period of a year, month, day, time or range, or the present second for `now`; None for other texts."""
    second = int((now or datetime.now(UTC)).timestamp())
    return (second, second) if text == "now" else parse_range(text)


def describe_corrections(query: Query) -> tuple[str, ...]:
    """Return a remark for each correction of a query."""
    return tuple(f"no file has '{one_line(typo)}': '{word}' was searched too" for typo, word in query.corrections)


def _describe_bad_filter(name: str, value: str) -> str:
    quoted = value if len(value) <= _MAX_QUOTED_CHARS else f"{value[:_MAX_QUOTED_CHARS]}…"
    return f"'{name}:{quoted}' is no filter, so it was searched as a word → {name}: takes {_FILTER_VALUES[name]}"


def _parse_confidence(text: str) -> tuple[float, float] | None:
    """Parse `>0.8`, `<=0.5`, `0.8` (at least) or `=0.8` into an inclusive (min, max); None for anything else."""
    match = _CONFIDENCE.fullmatch(text)
    if match is None:
        return None
    value = float(match[2])
    return {
        ">": (value + _EPSILON, 1.0),
        "<": (0.0, value - _EPSILON),
        "<=": (0.0, value),
        "=": (value, value),
    }.get(match[1], (value, 1.0))


def _parse_said(text: str, now: datetime) -> tuple[int | None, int | None] | None:
    """Parse a comparison with a year, month, day or time, or an age, into an inclusive range; None for anything else."""
    match = _COMPARISON.fullmatch(text)
    if match is None:
        return None
    if _AGE.fullmatch(text):
        start = parse_time(text, now)
        return (max(0, start // 1_000_000_000), None) if start is not None else None
    period = _parse_period(match[2], now)
    if period is None or period[0] < 0:
        return None
    first, last = period
    ranges = {">": (last + 1, None), ">=": (first, None), "<": (None, first - 1), "<=": (None, last)}
    low, high = ranges.get(match[1] or "=", (first, last))
    return (low, high) if high is None or high >= 0 else (1, 0)  # no time is before 1970


def _parse_period(text: str, now: datetime) -> tuple[int, int] | None:
    """Return the first and the last second of a year, a month, a day or a time; None for anything else."""
    try:
        if (match := _PERIOD.fullmatch(text)) is not None:
            year, month = int(match[1]), int(match[2] or 1)
            start = datetime(year, month, 1, tzinfo=UTC)
            end = datetime(year + (month == 12 or not match[2]), month % 12 + 1 if match[2] else 1, 1, tzinfo=UTC)
            return int(start.timestamp()), int(end.timestamp()) - 1
    except ValueError:
        return None
    start_ns = None if _AGE.fullmatch(text) else parse_time(text, now)
    if start_ns is None:
        return None
    first = start_ns // 1_000_000_000
    return first, first + (_UNIT_SECONDS["d"] - 1 if len(text) <= len("2026-10-01") else 0)


def _intersect(
    first: tuple[int | None, int | None], second: tuple[int | None, int | None]
) -> tuple[int | None, int | None]:
    lows = [low for low, _ in (first, second) if low is not None]
    highs = [high for _, high in (first, second) if high is not None]
    return max(lows, default=None), min(highs, default=None)


def _add_word(word: str, words: list[str], lists: dict[str, list[str]], *, can_exclude: bool) -> None:
    bare = word[1:]
    if word[0] == "+" and bare[:1].isalnum():
        lists["must"].append(bare)
    elif word[0] == "-" and bare[:1].isalnum() and can_exclude:
        lists["not"].append(bare)
    else:
        words.append(word)


def parse_time(text: str, now: datetime) -> int | None:
    """Parse an age such as `7d` before `now`, or an ISO 8601 date or time, into nanoseconds since the epoch.

    Units of an age: `s`, `m`, `h`, `d`, `w`. A time without an offset is UTC. Return None if the text is neither.
    """
    if match := _AGE.fullmatch(text):
        try:
            moment = now - timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2]])
        except OverflowError:
            return None
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000
