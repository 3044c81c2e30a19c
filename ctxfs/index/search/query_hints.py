"""Hints in a query besides its words: named authors, dates, and questions for a time. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ctxfs.index.extract.dates import DateMention, find_dates
from ctxfs.index.query import Query, strip_word
from ctxfs.index.search.file_roles import FileRole, roles_named

_WHEN = re.compile(
    r"\b(when|how long|how (?:many|much) (?:days?|weeks?|months?|years?|time)|how often|"
    r"(?:what|which|whose) (?:date|day|month|year|time|week|weekend))\b",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"[A-Za-z_$][\w$]*(?:(?:\.|::|->|#)[A-Za-z_$~][\w$]*)*(?:\(\))?")
_COMMON_WORDS = frozenset(
    "will mark may art grace hope joy faith rose page bill chase grant drew pat sue rob dash".split()
)


@dataclass(frozen=True, slots=True)
class QueryHints:
    """The hints of a query. `query` lacks the names of `authors`; `authors` are spelled as in the files.

    `roles` are the roles of files that it names. `identifier` is set if the query is a single word.
    """

    query: Query
    authors: frozenset[str] = frozenset()
    dates: tuple[DateMention, ...] = ()
    asks_for_time: bool = False
    roles: frozenset[FileRole] = frozenset()
    identifier: str = ""


def names_of_authors(authors: Sequence[str]) -> dict[str, list[str]]:
    """Return a map from first names and whole names, as the files spell them, to the authors that they may name."""
    names: dict[str, list[str]] = {}
    for author in authors:
        whole = author.strip()
        for name in {whole, whole.split(" ", 1)[0]} if whole else ():
            if name[:1].isupper():
                names.setdefault(name, []).append(author)
    return names


def read_hints(query: Query, names: Mapping[str, Sequence[str]]) -> QueryHints:
    """Return the hints of a query. Names are case-sensitive: `Will` may be a name, `will` is not.

    A named author filters by author, so that the name itself need not occur in the text.
    The name stays in the query if the query has no other word.
    """
    text = " ".join(query.words)
    authors: set[str] = set()
    remaining: list[str] = []
    for number, word in enumerate(query.words):
        bare = strip_word(word)
        matches = names.get(bare)
        # The first word of a query may be capitalised without being a name.
        if matches and not (number == 0 and bare.lower() in _COMMON_WORDS and word == bare):
            authors.update(matches)
        else:
            remaining.append(word)
    reduced = replace(query, words=tuple(remaining)) if authors and remaining else query
    return QueryHints(
        reduced,
        frozenset(authors),
        tuple(find_dates(text)),
        bool(_WHEN.search(text)),
        roles_named([strip_word(word) for word in query.words]),
        _find_identifier(query),
    )


def _find_identifier(query: Query) -> str:
    """Return the identifier that is the whole question, without its call; empty if the question is something else."""
    words = (*query.words, *query.phrases, *query.must)
    return words[0].removesuffix("()") if len(words) == 1 and _IDENTIFIER.fullmatch(words[0]) else ""
