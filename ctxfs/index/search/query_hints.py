"""What a question gives away besides its words: whom it names, which days it means, whether it asks for a time. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ctxfs.index.extract.dates import Mentioned, find_dates
from ctxfs.index.query import Query, bare_word

_WHEN = re.compile(
    r"\b(when|how long|how (?:many|much) (?:days?|weeks?|months?|years?|time)|how often|"
    r"(?:what|which|whose) (?:date|day|month|year|time|week|weekend))\b",
    re.IGNORECASE,
)
_COMMON = frozenset("will mark may art grace hope joy faith rose page bill chase grant drew pat sue rob dash".split())


@dataclass(frozen=True, slots=True)
class QueryHints:
    """`query` is the question without the names in `authors` (as the files write them)."""

    query: Query
    authors: frozenset[str] = frozenset()
    dates: tuple[Mentioned, ...] = ()
    asks_when: bool = False


def known_names(authors: Sequence[str]) -> dict[str, list[str]]:
    """First names and whole names, as they are written → the authors they may mean."""
    names: dict[str, list[str]] = {}
    for author in authors:
        whole = author.strip()
        for name in {whole, whole.split(" ", 1)[0]} if whole else ():
            if name[:1].isupper():
                names.setdefault(name, []).append(author)
    return names


def read_hints(query: Query, names: Mapping[str, Sequence[str]]) -> QueryHints:
    """Names are recognised as they are written: `Will` may be somebody, `will` is not.

    One who is named is looked for among those who speak, so that the name itself need not be said; if the question is about nothing
    else, the name stays in it.
    """
    text = " ".join(query.words)
    found: set[str] = set()
    kept: list[str] = []
    for number, word in enumerate(query.words):
        bare = bare_word(word)
        known = names.get(bare)
        # At the beginning of a question every word has a capital letter.
        if known and not (number == 0 and bare.lower() in _COMMON and word == bare):
            found.update(known)
        else:
            kept.append(word)
    asked = replace(query, words=tuple(kept)) if found and kept else query
    return QueryHints(asked, frozenset(found), tuple(find_dates(text)), bool(_WHEN.search(text)))
