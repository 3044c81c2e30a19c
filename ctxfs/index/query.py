"""A question as people type it, parsed once into what the engines ask for.

Words of the language: `"a phrase"`, `+must`, `-not`, `kind:`, `path:`, `since:`, `until:`, `mode:words|meaning|hybrid`.
Anything that does not parse as one of these is plain words: no input is an error but one without any words.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

Mode = Literal["hybrid", "words", "meaning"]
_MODES: tuple[Mode, ...] = ("hybrid", "words", "meaning")
_PIECE = re.compile(r'([+-]?)"([^"]*)"|(\S+)')
_FILTER = re.compile(r"(kind|path|since|until|mode):(\S+)")
_AGE = re.compile(r"(\d{1,5})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed question; `since` and `until` are nanoseconds since the epoch."""

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

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to look for."""
        return not (self.words or self.phrases or self.must)

    @property
    def plain(self) -> str:
        """The question without its operators, for the embedder."""
        return " ".join((*self.words, *self.phrases, *self.must))


def parse_query(text: str, now: datetime | None = None) -> Query:
    """Parse a question; never raises. Unknown filters and broken operators are read as words."""
    words: list[str] = []
    lists: dict[str, list[str]] = {name: [] for name in ("phrase", "must", "not", "kind", "path")}
    times: dict[str, int] = {}
    mode: Mode = "hybrid"
    for sign, phrase, word in _PIECE.findall(text):
        if not word:
            if phrase.strip():
                lists[{"+": "must", "-": "not"}.get(sign, "phrase")].append(phrase)
            continue
        found = _FILTER.fullmatch(word)
        if found is None:
            _place_word(word, words, lists)
            continue
        name, value = found[1], found[2]
        when = parse_time(value, now or datetime.now(UTC)) if name in ("since", "until") else None
        if when is not None:
            times[name] = when
        elif name == "mode" and value in _MODES:
            mode = next(known for known in _MODES if known == value)
        elif name in ("kind", "path"):
            lists[name].append(value.strip("/"))
        else:
            words.append(word)
    return Query(
        text=text,
        words=tuple(words),
        phrases=tuple(lists["phrase"]),
        must=tuple(lists["must"]),
        must_not=tuple(lists["not"]),
        kinds=tuple(lists["kind"]),
        paths=tuple(lists["path"]),
        since=times.get("since"),
        until=times.get("until"),
        mode=mode,
    )


def _place_word(word: str, words: list[str], lists: dict[str, list[str]]) -> None:
    bare = word[1:]
    if word[0] == "+" and bare[:1].isalnum():
        lists["must"].append(bare)
    elif word[0] == "-" and bare[:1].isalnum():
        lists["not"].append(bare)
    else:
        words.append(word)


def parse_time(text: str, now: datetime) -> int | None:
    """`7d` ago, or an ISO date or time (UTC unless it says otherwise), in nanoseconds; None if it is neither."""
    if found := _AGE.fullmatch(text):
        try:
            moment = now - timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
        except OverflowError:
            return None
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000
