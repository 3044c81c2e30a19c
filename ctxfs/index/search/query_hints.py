"""Hints in a query besides its words: named authors, dates, and questions for a time. Pure.

All are read in the normal form of the words (`normal_form`), so that widths, accents and invisible characters are equal.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ctxfs.index.extract.dates import DateMention, find_dates
from ctxfs.index.normal_form import fold, fold_name, normalise
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
    """Return a map from first names and whole names, in the form of `fold_name`, to the authors that they may name."""
    names: dict[str, list[str]] = {}
    for author in authors:
        for name in name_forms(author):
            names.setdefault(name, []).append(author)
    return names


def name_forms(author: str) -> list[str]:
    """Return the first name and the whole name of an author, in the form of `fold_name`; none for a role.

    A name begins with a capital letter: `user` and `assistant` are roles.
    """
    whole = normalise(author).strip()
    return [fold_name(name) for name in sorted({whole, whole.split(" ", 1)[0]}) if name[:1].isupper()]


def read_hints(query: Query, names: Mapping[str, Sequence[str]]) -> QueryHints:
    """Return the hints of a query. A name begins with a capital letter: `Will` and `WILL` may be names, `will` is not.

    A named author filters by author, so that the name itself need not occur in the text.
    The name stays in the query if the query has no other word.
    """
    text = normalise(" ".join(query.words))
    authors: set[str] = set()
    remaining: list[str] = []
    for number, word in enumerate(query.words):
        normal = normalise(word)
        bare = strip_word(normal)
        matches = names.get(fold_name(bare)) if bare[:1].isupper() else None
        # The first word of a query may be capitalised without being a name, and so is a word in capitals.
        is_shown_as_name = number > 0 and not (bare.isupper() and len(bare) > 1)
        if matches and (is_shown_as_name or normal != bare or fold(bare) not in _COMMON_WORDS):
            authors.update(matches)
        else:
            remaining.append(word)
    reduced = replace(query, words=tuple(remaining)) if authors and remaining else query
    return QueryHints(
        reduced,
        frozenset(authors),
        tuple(find_dates(text)),
        bool(_WHEN.search(text)),
        roles_named([fold(strip_word(normalise(word))) for word in query.words]),
        _find_identifier(query),
    )


def _find_identifier(query: Query) -> str:
    """Return the identifier that is the whole question, without its call; empty if the question is something else."""
    words = [normalise(word) for word in (*query.words, *query.phrases, *query.must)]
    return words[0].removesuffix("()") if len(words) == 1 and _IDENTIFIER.fullmatch(words[0]) else ""
